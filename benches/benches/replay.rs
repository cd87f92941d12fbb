//! Replay: pushing to one ring and to many, and answering from them.

mod replay_shared;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use millstream_core::RawJsonRef;
use millstream_replay::encode_record;
use replay_shared::{History, NAMES, room};

fn push(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay/push");
    let frame = Bytes::from_static(b"a frame that was encoded before");
    for entries in [100, 10_000, 1_000_000] {
        let mut replay = room(1, entries);
        group.bench_function(BenchmarkId::new("full ring", entries), |b| {
            b.iter(|| replay.push("topic:0", frame.clone()));
        });
    }
    for topics in [100, 10_000, 1_000_000] {
        let mut history = History::new(topics);
        group.bench_function(BenchmarkId::new("random topics by name", topics), |b| {
            b.iter(|| history.push_by_name(&frame));
        });
        group.bench_function(BenchmarkId::new("random topics by key", topics), |b| {
            b.iter(|| history.push_by_key(&frame));
        });
    }
    let mut evicting = room(100, 1);
    let mut n = 0;
    group.bench_function("a new topic evicts another", |b| {
        b.iter(|| {
            n = (n + 1) % NAMES;
            evicting.push(&format!("topic:{n}"), frame.clone())
        });
    });
    let data = RawJsonRef::parse_str(r#"{"id":1,"text":"hello there","at":1700000000000}"#);
    let data = data.expect("JSON");
    let mut replay = room(1, 1_000);
    let mut n = 0;
    group.bench_function("small object encoded and pushed", |b| {
        b.iter(|| {
            n += 1;
            replay.push("topic:0", encode_record(n, "created", data))
        });
    });
    group.finish();
}

fn answer(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay/since");
    for entries in [100, 10_000, 1_000_000] {
        let mut replay = room(1, entries);
        let head = replay.head("topic:0");
        group.bench_function(BenchmarkId::new("position only", entries), |b| {
            b.iter(|| black_box(replay.since("topic:0", black_box(head - 1)).outcome));
        });
    }
    let mut history = History::new(1);
    for missed in [1, 10, 100, 1_000] {
        group.bench_function(BenchmarkId::new("frames read", missed), |b| {
            b.iter(|| history.read(missed));
        });
        group.bench_function(BenchmarkId::new("original's frames written", missed), |b| {
            b.iter(|| history.write(missed));
        });
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
}

criterion_group!(name = benches; config = config(); targets = push, answer);
criterion_main!(benches);
