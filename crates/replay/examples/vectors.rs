//! Plays scenarios of `vectors/replay.json`, one JSON object per line on standard input, and
//! writes them with `expect` replaced by what was observed.
//!
//! The engine runs with the original's policy (`Numbers::Restart`), so that the two can be
//! compared on any scenario; what the default policy does instead is tested in `tests/`.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a module shared with the tests"
)]

#[path = "../tests/engine/mod.rs"]
mod engine;

use std::process::ExitCode;

fn main() -> ExitCode {
    millstream_vectors::drive(|scenario| {
        if !scenario["steps"].is_array() {
            return Err("a scenario without steps".into());
        }
        if let Some(plugin) = scenario["plugin"].as_str().filter(|name| *name != "replay") {
            return Err(format!("no driver for {plugin}"));
        }
        scenario["expect"] = millstream_vectors::run::<engine::Plugin>(scenario).into();
        Ok(())
    })
}
