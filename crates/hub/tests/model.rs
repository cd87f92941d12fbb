//! Random operations against a naive model: who receives what, in which order, and when.

mod common;

use common::Rig;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn everyone_receives_exactly_what_the_model_says(
        ops in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        Rig::new(false).run(&ops);
    }

    #[test]
    fn slow_readers_lose_frames_but_never_order(
        ops in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        Rig::new(true).run(&ops);
    }
}
