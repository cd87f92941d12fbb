//! The engines agree with naive models of themselves under random operations.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod common;

use proptest::prelude::*;

/// Operations for one engine; long enough to fill and empty rosters.
fn operations(engine: u8, len: usize) -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), prop::collection::vec(any::<u8>(), 0..len)).prop_map(move |(mode, rest)| {
        let mut bytes = vec![engine, mode];
        bytes.extend(rest);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rosters(bytes in operations(0, 1_500)) {
        common::play(&bytes);
    }

    #[test]
    fn cursors(bytes in operations(1, 1_000)) {
        common::play(&bytes);
    }

    #[test]
    fn groups(bytes in operations(2, 2_000)) {
        common::play(&bytes);
    }
}

/// A room that grows to hundreds and shrinks again, several times: texts are moved meanwhile.
#[test]
fn crowds_come_and_go() {
    for engine in [0, 2] {
        let mut bytes = vec![engine, 0];
        for round in 0..3 {
            for who in 0..250_u8 {
                bytes.push(0);
                bytes.push(who);
                if engine == 0 {
                    bytes.push(who.max(20));
                }
            }
            for who in 0..250_u8 {
                // All but every fiftieth, not in the order in which they came.
                let who = (u16::from(who) * 7 % 250) as u8;
                if who % 50 == round {
                    continue;
                }
                bytes.push(9);
                bytes.push(who);
                if engine == 0 {
                    bytes.push(0);
                }
            }
        }
        common::play(&bytes);
    }
}
