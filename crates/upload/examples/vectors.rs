//! Plays entries of `vectors/frames-binary.json`, one JSON object per line on standard input, and
//! writes them with what was observed in place of `decoded`, `wellFormed`, `accepted`, `replies`,
//! `valid` and `error`, and all of it once more as `expect`.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a module shared with the tests"
)]

#[path = "../tests/host/mod.rs"]
mod host;

use std::process::ExitCode;

use serde_json::Value;

fn main() -> ExitCode {
    millstream_vectors::drive(|entry| {
        let seen = host::observe(entry)?;
        for (member, observed) in &seen {
            entry[member] = observed.clone();
        }
        entry["expect"] = Value::Object(seen);
        Ok(())
    })
}
