//! Random operations against a naive model: who receives what, in which order, and when.

mod common;

use common::{Mode, Rig};
use proptest::prelude::*;

fn operations() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn everyone_receives_exactly_what_the_model_says(ops in operations()) {
        Rig::new(Mode::Lossless).run(&ops);
    }

    #[test]
    fn slow_readers_lose_counted_frames_and_are_told(ops in operations()) {
        Rig::new(Mode::Lossy).run(&ops);
    }

    #[test]
    fn who_cannot_follow_is_closed_once(ops in operations()) {
        Rig::new(Mode::Tight).run(&ops);
    }
}
