//! Random operations against a naive model, and against the whole history of every topic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod common;

use bytes::Bytes;
use common::Rig;
use millstream_replay::{Limits, Outcome, Read, Replay, Ring, RingLimits};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_the_models(
        choice in any::<u8>(),
        ops in proptest::collection::vec(any::<u8>(), 0..900),
    ) {
        Rig::new(choice).run(&ops);
    }

    /// What is replayed and what is live afterwards are one sequence, however reading and
    /// publishing mix.
    #[test]
    fn a_replay_and_the_live_events_after_it_join(
        before in 0_u64..40,
        from in 0_u64..40,
        turns in proptest::collection::vec((0_u8..4, 0_u8..4), 0..40),
    ) {
        let mut replay = Replay::new(Limits::default(), 0);
        let mut next = 0;
        let mut publish = |replay: &mut Replay, live: bool, seen: &mut Vec<u64>| {
            next += 1;
            let number = replay.push("t", Bytes::from(next.to_string())).unwrap().number;
            if live {
                seen.push(number);
            }
        };
        let mut seen = Vec::new();
        for _ in 0..before {
            publish(&mut replay, false, &mut seen);
        }
        let from = from.min(before);
        let mut cursor = replay.since("t", from).cursor;
        for (published, read) in turns {
            for _ in 0..published {
                publish(&mut replay, cursor.is_none(), &mut seen);
            }
            for _ in 0..read {
                match cursor.as_mut().map(|cursor| replay.read(cursor)) {
                    Some(Read::Frame { number, frame }) => {
                        assert_eq!(frame, &Bytes::from(number.to_string()));
                        seen.push(number);
                    }
                    Some(Read::End { .. }) => cursor = None,
                    _ => {}
                }
            }
        }
        let expected: Vec<u64> = (from + 1..).take(seen.len()).collect();
        assert_eq!(seen, expected);
        if cursor.is_none() && before > 0 {
            assert_eq!(from + seen.len() as u64, replay.head("t"));
        }
    }
}

#[test]
fn a_ring_of_any_size_agrees_with_a_list_over_a_million_pushes() {
    for size in [1, 2, 13, 1_000] {
        let limits = RingLimits {
            entries_max: size,
            ..RingLimits::default()
        };
        let mut ring = Ring::new(limits, 0);
        for pushed in 1..=1_000_000_u64 {
            ring.push(Bytes::new()).unwrap();
            if pushed % 9_973 < 3 {
                let oldest = pushed.saturating_sub(u64::from(size)) + 1;
                for n in [
                    0,
                    oldest.saturating_sub(2),
                    oldest - 1,
                    pushed,
                    pushed + 1,
                    pushed + 2,
                ] {
                    let outcome = if n > pushed {
                        Outcome::Ahead { head: pushed }
                    } else if n + 1 < oldest {
                        Outcome::Gap { resumes_at: oldest }
                    } else {
                        Outcome::Complete
                    };
                    assert_eq!(
                        ring.since(n),
                        outcome,
                        "size {size}, {pushed} pushed, after {n}"
                    );
                    assert_eq!(
                        ring.after(n).len() as u64,
                        pushed.saturating_sub(n.max(oldest - 1))
                    );
                }
            }
        }
    }
}
