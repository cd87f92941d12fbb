//! Random operations against a naive model: same value, same index, same changes, same calls.

mod common;

use common::Rig;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_the_rules_say(ops in proptest::collection::vec(any::<u8>(), 3..300)) {
        Rig::new(&ops).run();
    }
}
