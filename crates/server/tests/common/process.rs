//! The binary as a child process.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Starts what the command says and waits for the line that says that it is ready. Gives the rest
/// of its output and its address.
pub(crate) fn ready(
    command: &mut Command,
    scheme: &str,
) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
    let mut out = BufReader::new(child.stdout.take().expect("stdout"));
    let mut line = String::new();
    out.read_line(&mut line).expect("ready line");
    let prefix = format!("listening on {scheme}://");
    let address = line.trim().strip_prefix(&prefix).expect("form").to_owned();
    (child, out, address)
}
