//! Events, frames, replies, pages and changes in flight, next to a naive model of the rules. The
//! first three bytes choose the strategy and its options.
#![no_main]

#[path = "../../crates/merge/tests/common/mod.rs"]
mod common;

use common::Rig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    Rig::new(bytes).run();
});
