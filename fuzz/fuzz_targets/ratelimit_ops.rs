//! Calls, bans and time: the engine with the original's bookkeeping next to a naive model, the
//! flat one next to both as far as they agree, and its own promises beyond. The first four bytes
//! choose policy and limits.
#![no_main]

#[path = "../../crates/ratelimit/tests/support/model.rs"]
mod model;
#[path = "../../crates/ratelimit/tests/support/rig.rs"]
mod rig;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rig::Rig::play(bytes));
