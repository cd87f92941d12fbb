//! Rosters, cursors and groups, driven by operations, next to naive models of them. The first byte
//! chooses the engine, the second its settings.
#![no_main]

#[path = "../../crates/presence/tests/common/mod.rs"]
mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| common::play(bytes));
