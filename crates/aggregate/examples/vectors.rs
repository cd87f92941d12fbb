//! Plays scenarios from standard input, one JSON object per line, and writes them back with what
//! this implementation did in place of `expected`:
//! `{"outputs": [{atMs, topic, state}], "reads": [{atMs, window, state}]}`, or
//! `{"rejected": message}` for a declaration that is refused (`null` for one that is accepted and
//! has nothing to play).
//!
//!     for file in vectors/aggregate/0*.json; do jq -c . $file; done |
//!         cargo run -p millstream-aggregate --example vectors

#[path = "../tests/common/scenario.rs"]
mod scenario;

use std::process::ExitCode;

fn main() -> ExitCode {
    millstream_vectors::drive(scenario::observe)
}
