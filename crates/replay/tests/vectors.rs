//! The scenarios observed on the original.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a module shared with the driver"
)]

mod engine;

#[test]
fn every_scenario_is_answered_as_by_the_original() {
    millstream_vectors::check::<engine::Plugin>(include_str!("../../../vectors/replay.json"));
}
