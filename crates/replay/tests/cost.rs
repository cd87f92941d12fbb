//! What a frame and a topic take, and what an operation does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use bytes::Bytes;
use millstream_replay::{ENTRY_COST, Limits, Read, Replay, RingLimits, TOPIC_COST};

fn unbounded(topics_max: usize, entries_max: u32) -> Limits {
    Limits {
        topics_max,
        ring: RingLimits {
            entries_max,
            bytes_max: usize::MAX,
        },
        entries_max: usize::MAX,
        bytes_max: usize::MAX,
        ..Limits::default()
    }
}

#[test]
fn a_full_ring_is_pushed_to_and_read_without_allocating() {
    let mut replay = Replay::new(unbounded(10, 1_000), 0);
    let frame = Bytes::from_static(b"one frame");
    for _ in 0..1_000 {
        replay.push("topic", frame.clone()).unwrap();
    }
    let measured = allocation_counter::measure(|| {
        for n in 0..10_000 {
            replay.push("topic", frame.clone()).unwrap();
            let mut cursor = replay.since("topic", 1_000 + n).cursor.unwrap();
            assert!(matches!(replay.read(&mut cursor), Read::Frame { .. }));
        }
    });
    assert_eq!(measured.count_total, 0);
}

#[test]
fn a_kept_frame_takes_no_more_than_it_is_charged_on_average() {
    // The worst is one frame after doubling. 27,000: the first page of topics.
    for frames in [1_000, 1_024, 1_025, 5_000, 100_000] {
        let mut replay = None;
        let measured = allocation_counter::measure(|| {
            let mut made = Replay::new(unbounded(10, 1_000_000), 0);
            for _ in 0..frames {
                made.push("topic", Bytes::from_static(b"x")).unwrap();
            }
            replay = Some(made);
        });
        let replay = replay.unwrap();
        let bytes = usize::try_from(measured.bytes_current).unwrap();
        let charged = replay.bytes();
        assert_eq!(
            charged,
            frames * (1 + ENTRY_COST) + TOPIC_COST + "topic".len()
        );
        assert!(
            bytes <= charged + 27_000,
            "{bytes} for {frames}, {charged} charged"
        );
        drop(replay);
    }
}

#[test]
fn a_topic_with_one_frame_takes_what_it_is_charged() {
    let mut replay = None;
    let topics = 100_000;
    let measured = allocation_counter::measure(|| {
        let mut made = Replay::new(unbounded(topics, 1_000), 0);
        for n in 0..topics {
            made.push(&format!("topic:{n:06}"), Bytes::from_static(b"x"))
                .unwrap();
        }
        replay = Some(made);
    });
    let per_topic = usize::try_from(measured.bytes_current).unwrap() / topics;
    let charged = replay.unwrap().bytes() / topics;
    assert!(
        (200..=charged).contains(&per_topic),
        "{per_topic}, {charged} charged"
    );
}

#[test]
fn a_remembered_number_takes_40_bytes_whatever_the_name() {
    let limits = Limits {
        topics_max: 1,
        remembered_max: 57_344,
        ..unbounded(1, 1)
    };
    let mut replay = Replay::new(limits, 0);
    let name = "n".repeat(900);
    let measured = allocation_counter::measure(|| {
        for n in 0..=57_344 {
            replay.open(&format!("{name}{n}")).unwrap();
        }
    });
    assert_eq!(replay.remembered(), 57_344);
    let each = usize::try_from(measured.bytes_current).unwrap() / 57_344;
    assert!((30..=48).contains(&each), "{each}");
}

#[test]
fn one_push_evicts_no_more_than_its_bytes_pay_for() {
    // A topic of 100,000 small frames is the least recently used when another one needs room.
    let frames = 100_000_u64;
    let mut limits = unbounded(10, 1_000_000);
    limits.bytes_max = usize::try_from(frames).unwrap() * (1 + ENTRY_COST) + 2 * TOPIC_COST + 600;
    let mut replay = Replay::new(limits, 0);
    for _ in 0..frames {
        replay.push("old", Bytes::from_static(b"x")).unwrap();
    }
    let mut worst = 0;
    for _ in 0..2_000 {
        let before = replay.stats().evicted_by_total;
        replay.push("new", Bytes::from(vec![0; 500])).unwrap();
        worst = worst.max(replay.stats().evicted_by_total - before);
        assert!(replay.bytes() <= replay.limits().bytes_max);
    }
    assert!((8..=10).contains(&worst), "{worst}");
}

#[test]
fn an_evicted_topic_is_given_back_step_by_step() {
    let mut replay = Replay::new(unbounded(2, 1_000), 0);
    for _ in 0..1_000 {
        replay.push("large", Bytes::from_static(b"x")).unwrap();
    }
    replay.push("b", Bytes::new()).unwrap();
    let measured = allocation_counter::measure(|| {
        replay.push("c", Bytes::new()).unwrap();
    });
    assert_eq!(replay.topics(), 2);
    assert_eq!(replay.entries(), 1_002 - 8);
    assert!(measured.bytes_max < 1_000, "{measured:?}");
    for _ in 0..200 {
        replay.push("c", Bytes::new()).unwrap();
    }
    assert_eq!(replay.entries(), 202);
}
