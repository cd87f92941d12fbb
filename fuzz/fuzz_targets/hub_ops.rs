//! A hub, driven by operations, next to a naive model of it. The first byte chooses how much room
//! connections have.
#![no_main]

#[path = "../../crates/hub/tests/common/mod.rs"]
mod common;

use common::{Mode, Rig};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, operations)) = bytes.split_first() else { return };
    let mode = match mode % 3 {
        0 => Mode::Lossless,
        1 => Mode::Lossy,
        _ => Mode::Tight,
    };
    Rig::new(mode).run(operations);
});
