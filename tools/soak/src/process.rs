//! The limit of open files, and how much memory a process has.

use std::error::Error;
use std::process::Command;

/// Lets a process open at least `files` files.
///
/// # Errors
/// When the limit is lower and `prlimit` (of util-linux) may not raise it.
pub(crate) fn raise_file_limit(pid: u32, files: u64) -> Result<(), Box<dyn Error>> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap_or_default();
    let mut numbers = line
        .split_whitespace()
        .skip(3)
        .map(|word| word.parse().unwrap_or(u64::MAX));
    let soft = numbers.next().unwrap_or(0);
    let hard = numbers.next().unwrap_or(0).max(files);
    if soft >= files {
        return Ok(());
    }
    let status = Command::new("prlimit")
        .args([
            "--pid",
            &pid.to_string(),
            &format!("--nofile={files}:{hard}"),
        ])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("prlimit for {pid}: {status}").into())
    }
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// When the process is gone.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|error| format!("process {pid} is gone: {error}"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    let kib: u64 = line.split_whitespace().nth(1).unwrap_or("0").parse()?;
    Ok(kib * 1_024)
}
