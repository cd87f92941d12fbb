//! The recorded scenarios of the original.

#[path = "support/engine.rs"]
mod engine;

#[test]
fn every_scenario_is_as_recorded() {
    millstream_vectors::check::<engine::RateLimit>(include_str!("../../../vectors/ratelimit.json"));
}
