//! Scenarios from standard input, observations to standard output.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use serde_json::Value;

/// Reads one JSON object per line, lets `observe` fill in what it saw, and writes the object.
/// Empty lines are skipped. Stops with code 2 at a line that is no JSON or that `observe` refuses.
pub fn drive(mut observe: impl FnMut(&mut Value) -> Result<(), String>) -> ExitCode {
    drive_text(|line| {
        let mut scenario = serde_json::from_str(line).map_err(|error| error.to_string())?;
        observe(&mut scenario)?;
        Ok(scenario.to_string())
    })
}

/// [`drive`] for engines that pass values through as text: `observe` makes the line to write from
/// the line that was read.
pub fn drive_text(mut observe: impl FnMut(&str) -> Result<String, String>) -> ExitCode {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let done = line
            .map_err(|error| error.to_string())
            .and_then(|line| match line.trim() {
                "" => Ok(String::new()),
                line => observe(line).map(|line| line + "\n"),
            })
            .and_then(|line| out.write_all(line.as_bytes()).map_err(|e| e.to_string()));
        if let Err(error) = done {
            let _ = out.flush();
            let _ = writeln!(std::io::stderr(), "line {}: {error}", number + 1);
            return ExitCode::from(2);
        }
    }
    match out.flush() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
