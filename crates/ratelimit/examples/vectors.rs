//! Reads scenarios of the form of `vectors/ratelimit.json`, one JSON object per line, and writes
//! each with `expect` replaced by what this crate does.

use std::process::ExitCode;

use serde_json::Value;

#[path = "../tests/support/engine.rs"]
mod engine;

fn main() -> ExitCode {
    millstream_vectors::drive(|scenario| {
        match scenario["plugin"].as_str() {
            None | Some("ratelimit") => {}
            Some(other) => return Err(format!("plugin {other:?} is not rate limiting")),
        }
        if !scenario["steps"].is_array() {
            return Err("no steps".to_owned());
        }
        scenario["expect"] = Value::Array(millstream_vectors::run::<engine::RateLimit>(scenario));
        Ok(())
    })
}
