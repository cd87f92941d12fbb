//! Plays scenarios of throttle, debounce, queue, lock, session and dedup: one JSON object per line
//! on standard input, the same with `expect` replaced by what happened on standard output.
//!
//!     jq -c '.[]' vectors/queue.json | cargo run -p millstream-flow --example vectors

#[path = "../tests/drive/mod.rs"]
mod drive;

use std::process::ExitCode;

fn main() -> ExitCode {
    millstream_vectors::drive(drive::observe)
}
