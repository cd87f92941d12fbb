//! An aggregate, driven by operations, next to a model that works each state out from the full list
//! of events. The first byte chooses windows and debounces.
#![no_main]

#[path = "../../crates/aggregate/tests/common/model.rs"]
mod model;
#[path = "../../crates/aggregate/tests/common/rig.rs"]
mod rig;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((shape, operations)) = bytes.split_first() else { return };
    rig::Rig::new(*shape).run(&operations[..operations.len().min(600)]);
});
