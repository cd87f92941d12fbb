//! Random operations against a naive model: every event, every limit, every budget.

mod common;

use common::Rig;
use proptest::prelude::*;

/// Mostly uploads that go well for a while.
fn flowing() -> impl Strategy<Value = Vec<u8>> {
    let step =
        (0..16_u8, any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(what, which, how, n)| {
            match what {
                0 | 1 => [0, which, how | 4, n],
                2..=7 => [3, which, how | 2, n],
                8..=10 => [9, which, how & 0b0011_1100, n],
                11..=14 => [11, which, how, n],
                _ => [how % 16, which, how, n],
            }
        });
    proptest::collection::vec(step, 0..200).prop_map(|steps| steps.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_the_models(
        choice in any::<u8>(),
        ops in prop_oneof![flowing(), proptest::collection::vec(any::<u8>(), 0..800)],
    ) {
        Rig::new(choice).run(&ops);
    }
}
