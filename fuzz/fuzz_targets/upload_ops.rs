//! Uploads, driven by operations, next to a naive model of them. The first byte chooses the limits.
#![no_main]

#[path = "../../crates/upload/tests/common/mod.rs"]
mod common;

use common::Rig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, operations)) = bytes.split_first() else { return };
    Rig::new(*choice).run(operations);
});
