//! Reads entries of the form of `vectors/cron.json`, one JSON object per line, and writes each with
//! what this crate makes of it: `expect` is `{"matches": bool}` or `{"rejected": reason}`, and
//! `expected` the same in the words of the file.

use std::process::ExitCode;

#[path = "../tests/support/observe.rs"]
mod observe;

fn main() -> ExitCode {
    millstream_vectors::drive(observe::fill_in)
}
