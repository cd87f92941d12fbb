//! Random operations against a model that works every state out from the full list of events.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

#[path = "common/model.rs"]
mod model;
#[path = "common/rig.rs"]
mod rig;

use proptest::prelude::*;
use rig::Rig;

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn states_are_those_of_the_model(
        shape: u8,
        operations in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        Rig::new(shape).run(&operations);
    }
}
