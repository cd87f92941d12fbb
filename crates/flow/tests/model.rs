//! Random operations against naive models: what each engine gives out, holds and forgets.

mod common;

use proptest::prelude::*;

fn operations() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn a_throttle_keeps_its_rate_and_its_last_values(ops in operations()) {
        common::drive(0, &ops);
    }

    #[test]
    fn a_debounce_sends_once_it_is_quiet(ops in operations()) {
        common::drive(1, &ops);
    }

    #[test]
    fn coalesced_values_are_the_newest_in_their_old_places(ops in operations()) {
        common::drive(2, &ops);
    }

    #[test]
    fn a_queue_starts_in_order_and_drains(ops in operations()) {
        common::drive(3, &ops);
    }

    #[test]
    fn a_lock_excludes_and_loses_no_waiter(ops in operations()) {
        common::drive(4, &ops);
    }

    #[test]
    fn sessions_live_while_they_are_used(ops in operations()) {
        common::drive(5, &ops);
    }

    #[test]
    fn claims_of_one_id_lie_a_window_apart(ops in operations()) {
        common::drive(6, &ops);
    }

    #[test]
    fn slots_record_one_run_and_answer_all_who_wait(ops in operations()) {
        common::drive(7, &ops);
    }
}
