//! Scenarios from standard input, observations to standard output.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use serde_json::Value;

/// Reads one JSON object per line, lets `observe` fill in what it saw, and writes the object.
/// Empty lines are skipped. Stops with code 2 at a line that is no JSON or that `observe` refuses.
pub fn drive(mut observe: impl FnMut(&mut Value) -> Result<(), String>) -> ExitCode {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let done = line
            .map_err(|error| error.to_string())
            .and_then(|line| one(&line, &mut observe))
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

fn one(
    line: &str,
    observe: &mut impl FnMut(&mut Value) -> Result<(), String>,
) -> Result<String, String> {
    if line.trim().is_empty() {
        return Ok(String::new());
    }
    let mut scenario = serde_json::from_str(line).map_err(|error| error.to_string())?;
    observe(&mut scenario)?;
    Ok(format!("{scenario}\n"))
}
