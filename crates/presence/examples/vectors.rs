//! Reads scenarios (the format of `vectors/presence.json`, `cursor.json` and `groups.json`, one
//! object per line) and writes them with `expect` replaced by what the engines did.
//!
//!     jq -c '.[]' vectors/groups.json | cargo run -p millstream-presence --example vectors

#[path = "../tests/driver/mod.rs"]
mod driver;

use std::process::ExitCode;

fn main() -> ExitCode {
    millstream_vectors::drive(driver::observe)
}
