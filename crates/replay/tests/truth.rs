//! What the default policy does better than the original: numbers survive eviction, and nobody is
//! told that nothing is missing when something may be.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use bytes::Bytes;
use millstream_replay::{
    Limits, NUMBER_MAX, Numbers, Outcome, Position, PushError, Read, Replay, RingLimits,
};

fn small(topics_max: usize) -> Replay {
    let limits = Limits {
        topics_max,
        ..Limits::default()
    };
    Replay::new(limits, 7)
}

fn push(replay: &mut Replay, topic: &str, times: u32) {
    for _ in 0..times {
        replay.push(topic, Bytes::from_static(b"frame")).unwrap();
    }
}

#[test]
fn an_evicted_topic_goes_on_counting_and_its_readers_hear_of_the_gap() {
    let mut replay = small(1);
    push(&mut replay, "a", 3);
    push(&mut replay, "b", 1);
    assert_eq!(replay.head("a"), 3);
    assert_eq!(replay.since("a", 3).outcome, Outcome::Complete);
    assert_eq!(replay.since("a", 2).outcome, Outcome::Gap { resumes_at: 4 });
    assert_eq!(replay.since("a", 5).outcome, Outcome::Ahead { head: 3 });
    push(&mut replay, "a", 1);
    assert_eq!(replay.head("a"), 4);
    assert_eq!(replay.since("a", 2).outcome, Outcome::Gap { resumes_at: 4 });
    assert_eq!(replay.since("a", 3).outcome, Outcome::Complete);
}

#[test]
fn the_originals_policy_forgets() {
    let limits = Limits {
        topics_max: 1,
        numbers: Numbers::Restart,
        ..Limits::default()
    };
    let mut replay = Replay::new(limits, 7);
    push(&mut replay, "a", 3);
    push(&mut replay, "b", 1);
    assert_eq!(replay.head("a"), 0);
    push(&mut replay, "a", 1);
    assert_eq!(replay.head("a"), 1);
    assert_eq!(replay.remembered(), 0);
}

#[test]
fn numbers_never_go_back_even_when_the_memory_of_them_is_full() {
    let limits = Limits {
        topics_max: 1,
        remembered_max: 2,
        ..Limits::default()
    };
    let mut replay = Replay::new(limits, 7);
    push(&mut replay, "a", 50);
    for other in ["b", "c", "d", "e"] {
        push(&mut replay, other, 1);
    }
    assert_eq!(replay.stats().numbers_merged, 2);
    // Nobody remembers `a`; whoever has an old number of it is told to reload.
    assert_eq!(
        replay.since("a", 49).outcome,
        Outcome::Gap { resumes_at: 51 }
    );
    push(&mut replay, "a", 1);
    assert!(replay.head("a") > 50);
    // And so does a topic that never was: better a needless reload than a hole.
    assert_eq!(
        replay.since("never", 3).outcome,
        Outcome::Gap { resumes_at: 51 }
    );
}

#[test]
fn without_a_memory_there_is_still_a_floor() {
    let limits = Limits {
        topics_max: 1,
        remembered_max: 0,
        ..Limits::default()
    };
    let mut replay = Replay::new(limits, 7);
    push(&mut replay, "a", 3);
    push(&mut replay, "b", 1);
    push(&mut replay, "a", 1);
    assert!(replay.head("a") > 3);
}

#[test]
fn a_base_makes_numbers_from_before_a_restart_a_gap() {
    let limits = Limits {
        first_number: 1 << 50,
        ..Limits::default()
    };
    let mut replay = Replay::new(limits, 8);
    assert_eq!(replay.head("t"), 1 << 50);
    assert!(matches!(replay.since("t", 12).outcome, Outcome::Gap { .. }));
    assert_eq!(replay.since("t", 1 << 50).outcome, Outcome::Complete);
    push(&mut replay, "t", 1);
    assert_eq!(replay.head("t"), (1 << 50) + 1);
    assert!(matches!(replay.since("t", 12).outcome, Outcome::Gap { .. }));
    assert_eq!(replay.since("t", 1 << 50).outcome, Outcome::Complete);
}

#[test]
fn a_token_of_another_epoch_is_told_apart() {
    let mut replay = small(10);
    push(&mut replay, "t", 3);
    let token: Position = replay.position("t").to_string().parse().unwrap();
    assert_eq!(
        token,
        Position {
            epoch: 7,
            number: 3
        }
    );
    assert_eq!(replay.since_position("t", token).outcome, Outcome::Complete);
    replay.reset(8);
    assert_eq!(
        (replay.topics(), replay.bytes(), replay.entries()),
        (0, 0, 0)
    );
    push(&mut replay, "t", 5);
    let answer = replay.since_position("t", token);
    assert_eq!(answer.outcome, Outcome::OtherEpoch { current: 8 });
    assert_eq!((answer.head, answer.cursor), (5, None));
    let stats = replay.stats();
    assert_eq!((stats.other_epochs, stats.complete), (1, 1));
}

#[test]
fn a_slow_reader_is_told_what_it_lost() {
    let limits = Limits {
        ring: RingLimits {
            entries_max: 4,
            ..RingLimits::default()
        },
        ..Limits::default()
    };
    let mut replay = Replay::new(limits, 7);
    push(&mut replay, "t", 4);
    let mut cursor = replay.since("t", 0).cursor.unwrap();
    assert!(matches!(
        replay.read(&mut cursor),
        Read::Frame { number: 1, .. }
    ));
    push(&mut replay, "t", 3);
    assert_eq!(replay.read(&mut cursor), Read::Gap { resumes_at: 4 });
    assert_eq!(replay.stats().overtaken, 1);
    assert!(matches!(
        replay.read(&mut cursor),
        Read::Frame { number: 4, .. }
    ));
    replay.clear_topic("t");
    assert_eq!(replay.read(&mut cursor), Read::Gone);
    // The same name again is not the same ring.
    push(&mut replay, "t", 9);
    assert_eq!(replay.read(&mut cursor), Read::Gone);
}

#[test]
fn a_bounded_answer_ends_where_it_was_asked() {
    let mut replay = small(10);
    push(&mut replay, "t", 2);
    let answer = replay.since("t", 1);
    let mut cursor = answer.cursor.unwrap().until(answer.head);
    push(&mut replay, "t", 1);
    assert!(matches!(
        replay.read(&mut cursor),
        Read::Frame { number: 2, .. }
    ));
    assert_eq!(replay.read(&mut cursor), Read::End { head: 3 });
}

#[test]
fn two_answers_at_once_do_not_mix() {
    let mut replay = small(10);
    push(&mut replay, "t", 3);
    let mut first = replay.since("t", 0).cursor.unwrap();
    let mut second = replay.since("t", 1).cursor.unwrap();
    for number in 1..=2 {
        assert!(matches!(replay.read(&mut first), Read::Frame { number: n, .. } if n == number));
        let later = number + 1;
        assert!(matches!(replay.read(&mut second), Read::Frame { number: n, .. } if n == later));
    }
}

#[test]
fn readers_may_be_kept_from_pushing_out_writers() {
    for reads_count_as_use in [true, false] {
        let limits = Limits {
            topics_max: 2,
            reads_count_as_use,
            ..Limits::default()
        };
        let mut replay = Replay::new(limits, 7);
        push(&mut replay, "read", 1);
        push(&mut replay, "written", 1);
        let _ = replay.since("read", 0);
        push(&mut replay, "new", 1);
        assert_eq!(replay.ring("read").is_some(), reads_count_as_use);
        assert_eq!(replay.ring("written").is_some(), !reads_count_as_use);
    }
}

#[test]
fn a_push_by_key_is_a_use() {
    let mut replay = small(2);
    let key = replay.open("a").unwrap();
    push(&mut replay, "b", 1);
    replay.push_to(key, Bytes::new()).unwrap();
    push(&mut replay, "c", 1);
    assert!(replay.ring("a").is_some() && replay.ring("b").is_none());
}

#[test]
fn names_and_numbers_have_ends() {
    let mut replay = small(10);
    let name = "x".repeat(1_000_000);
    assert_eq!(
        replay.push(&name, Bytes::new()),
        Err(PushError::NameTooLong {
            bytes: 1_000_000,
            limit: 1_024
        })
    );
    assert_eq!(replay.topics(), 0);
    let key = replay.open("t").unwrap();
    replay.push_to_at(key, NUMBER_MAX, Bytes::new()).unwrap();
    let before = *replay.stats();
    assert_eq!(
        replay.push("t", Bytes::new()),
        Err(PushError::NumbersExhausted)
    );
    assert_eq!(
        replay.push_to_at(key, u64::MAX, Bytes::new()),
        Err(PushError::NumbersExhausted)
    );
    assert_eq!(*replay.stats(), before);
    assert_eq!(
        replay.since("t", u64::MAX).outcome,
        Outcome::Ahead { head: NUMBER_MAX }
    );
    replay.clear_topic("t");
    assert_eq!(replay.push_to(key, Bytes::new()), Err(PushError::Evicted));
}

#[test]
fn limits_of_zero_keep_nothing_and_tell_the_truth() {
    let limits = Limits {
        topics_max: 0,
        ring: RingLimits {
            entries_max: 0,
            bytes_max: 0,
        },
        entries_max: 0,
        bytes_max: 0,
        remembered_max: 0,
        ..Limits::default()
    };
    let mut replay = Replay::new(limits, 7);
    push(&mut replay, "a", 3);
    push(&mut replay, "b", 2);
    assert_eq!((replay.entries(), replay.topics()), (0, 1));
    assert_eq!(
        replay.since("b", replay.ring("b").unwrap().head()).outcome,
        Outcome::Complete
    );
    assert!(matches!(replay.since("a", 2).outcome, Outcome::Gap { .. }));
    assert_eq!(replay.stats().oversized, 5);
}

#[test]
fn a_million_topics_come_and_go_within_the_limits() {
    let limits = Limits {
        topics_max: 1_000,
        remembered_max: 1_000,
        bytes_max: 300_000,
        ..Limits::default()
    };
    let mut replay = Replay::new(limits, 7);
    for n in 0..1_000_000_u32 {
        replay
            .push(&n.to_string(), Bytes::from_static(b"frame"))
            .unwrap();
        if n % 1_000 == 0 {
            assert!(replay.bytes() <= 300_000 && replay.topics() <= 1_000);
        }
    }
    assert_eq!(replay.remembered(), 1_000);
}
