//! Random operations against a naive model: who receives what, in which order, and when.

mod common;

use common::{Mode, Rig};
use proptest::prelude::*;

/// Two connections, of which the first understands batches, with topics of every policy; then one
/// of them stalls.
const PRELUDE: &[u8] = &[
    0, 0, 14, 0, 1, // open, open, hello
    2, 0, 0, 6, 0, 0, 1, 1, 1, 2, 0, 1, 6, 0, 0, 1, 1, 1, // the first: a and b
    2, 0, 2, 6, 0, 0, 1, 1, 1, 2, 0, 3, 6, 0, 0, 1, 1, 1, // and room:1 and room:2
    2, 1, 0, 6, 1, 0, 1, 1, 1, 2, 1, 1, 6, 1, 0, 1, 1, 1, // the second: a and b
    2, 1, 2, 6, 1, 0, 1, 1, 1, 2, 1, 5, 6, 1, 0, 1, 1, 1, // and room:1 and v
    23, 17, 0, 5, 60, 17, 1, 5, 90, // flush; sockets with little room
];

/// Mostly publishes and flushes, so that sockets fill.
fn pressing() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![0..5_u8, 0..40_u8];
    let step = prop_oneof![
        8 => (0..7_u8, size, 0..8_u8).prop_map(|(topic, size, how)| vec![7, topic, size, how]),
        3 => proptest::collection::vec((0..5_u8, 0..4_u8), 1..5).prop_map(|members| {
            let count = u8::try_from(members.len() - 1).expect("few");
            let members = members.into_iter().flat_map(|(topic, key)| [topic, key]);
            [11, count].into_iter().chain(members).collect()
        }),
        6 => Just(vec![23]),
        2 => (0..2_u8, 0..16_u8, any::<u8>()).prop_map(|(conn, how, room)| match how {
            0..=2 => vec![17, conn, how],
            how => vec![17, conn, how, room],
        }),
        1 => (0..2_u8, 0..5_u8, 0..2_u8).prop_map(|(conn, topic, on)| vec![15, conn, topic, on]),
        1 => (0..2_u8, any::<u8>()).prop_map(|(conn, key)| vec![13, conn, key]),
        2 => proptest::collection::vec(any::<u8>(), 1..6),
    ];
    proptest::collection::vec(step, 0..60)
        .prop_map(|steps| PRELUDE.iter().copied().chain(steps.concat()).collect())
}

/// Mostly clients that leave topics, come back to them and say where they were.
fn returning() -> impl Strategy<Value = Vec<u8>> {
    let seen = proptest::collection::vec((0..4_u8, 0..7_u8), 1..4);
    let step = prop_oneof![
        4 => (0..4_u8, 0..9_u8).prop_map(|(topic, size)| vec![7, topic, size, 2]),
        3 => (0..2_u8, seen).prop_map(|(conn, seen)| {
            let count = u8::try_from(seen.len()).expect("few");
            let seen = seen.into_iter().flat_map(|(topic, behind)| [topic, behind]);
            [21, conn, count].into_iter().chain(seen).collect()
        }),
        2 => (0..2_u8, 0..4_u8).prop_map(|(conn, topic)| vec![5, conn, topic]),
        3 => (0..2_u8, 0..4_u8)
            .prop_map(|(conn, topic)| vec![2, conn, topic, 6, conn, 0, 1, 1, 1]),
        1 => (0..2_u8, 0..2_u8).prop_map(|(conn, batch)| vec![14, conn, batch]),
        1 => (0..2_u8, 0..4_u8, 0..2_u8).prop_map(|(conn, topic, on)| vec![15, conn, topic, on]),
        1 => Just(vec![23]),
    ];
    proptest::collection::vec(step, 0..60)
        .prop_map(|steps| PRELUDE.iter().copied().chain(steps.concat()).collect())
}

/// Mostly clients that ask for what only the application can give them, before and after it does.
fn parking() -> impl Strategy<Value = Vec<u8>> {
    let step = prop_oneof![
        4 => (0..2_u8).prop_map(|conn| vec![2, conn, 6]),
        2 => (0..2_u8, 0..7_u8).prop_map(|(conn, other)| vec![4, conn, 2, 6, other, 6]),
        2 => (0..2_u8).prop_map(|conn| vec![5, conn, 6]),
        2 => (0..2_u8).prop_map(|conn| vec![24, conn]),
        2 => (0..2_u8, 0..4_u8).prop_map(|(conn, nth)| vec![6, conn, nth, 1, 0, 1]),
        2 => (0..4_u8).prop_map(|how| vec![22, how]),
        1 => (0..9_u8).prop_map(|size| vec![7, 6, size, 2]),
        1 => Just(vec![23]),
        1 => proptest::collection::vec(any::<u8>(), 1..6),
    ];
    proptest::collection::vec(step, 0..60)
        .prop_map(|steps| PRELUDE.iter().copied().chain(steps.concat()).collect())
}

fn operations() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..400),
        2 => pressing(),
        2 => returning(),
        2 => parking(),
    ]
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
