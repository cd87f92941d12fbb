//! The engines of `flow`, driven by operations, next to naive models. The first byte chooses.
#![no_main]

#[path = "../../crates/flow/tests/common/mod.rs"]
mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((engine, operations)) = bytes.split_first() {
        common::drive(engine % common::ENGINES, operations);
    }
});
