//! The same as instruction counts, which do not depend on what else the machine does.

#![allow(
    unused_qualifications,
    missing_docs,
    reason = "written by the macros of gungraun"
)]

#[allow(dead_code, reason = "shared with the other benchmark")]
mod replay_shared;

use std::hint::black_box;

use bytes::Bytes;
use gungraun::{library_benchmark, library_benchmark_group, main};
use millstream_replay::Replay;
use replay_shared::{History, room};

const FRAME: Bytes = Bytes::from_static(b"a frame that was encoded before");

fn ring(entries: u32) -> Replay {
    room(1, entries)
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = ring)]
#[bench::ten_thousand(args = (10_000), setup = ring)]
#[bench::million(args = (1_000_000), setup = ring)]
fn push_1000_to_a_full_ring(replay: Replay) -> Replay {
    let mut replay = replay;
    for _ in 0..1_000 {
        let _ = black_box(replay.push(black_box("topic:0"), FRAME));
    }
    replay
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = History::new)]
#[bench::ten_thousand(args = (10_000), setup = History::new)]
#[bench::million(args = (1_000_000), setup = History::new)]
fn push_1000_to_random_topics(history: History) -> History {
    let mut history = history;
    for _ in 0..1_000 {
        black_box(history.push_by_name(&FRAME));
    }
    history
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = History::new)]
#[bench::ten_thousand(args = (10_000), setup = History::new)]
#[bench::million(args = (1_000_000), setup = History::new)]
fn push_1000_to_random_keys(history: History) -> History {
    let mut history = history;
    for _ in 0..1_000 {
        black_box(history.push_by_key(&FRAME));
    }
    history
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = ring)]
#[bench::ten_thousand(args = (10_000), setup = ring)]
#[bench::million(args = (1_000_000), setup = ring)]
fn since_1000_times(replay: Replay) -> Replay {
    let mut replay = replay;
    let head = replay.head("topic:0");
    for back in 0..1_000 {
        black_box(replay.since(black_box("topic:0"), head - back % 50).outcome);
    }
    replay
}

#[library_benchmark]
#[bench::m1(args = (1), setup = with_history)]
#[bench::m1000(args = (1_000), setup = with_history)]
fn read(input: (History, u64)) -> (History, u64) {
    let (mut history, missed) = input;
    black_box(history.read(missed));
    (history, missed)
}

fn with_history(missed: u64) -> (History, u64) {
    (History::new(1), missed)
}

library_benchmark_group!(
    name = replay,
    benchmarks = [
        push_1000_to_a_full_ring,
        push_1000_to_random_topics,
        push_1000_to_random_keys,
        since_1000_times,
        read
    ]
);
main!(library_benchmark_groups = replay);
