//! Events on lists of several lengths, and writing a list out.

#![allow(missing_docs, reason = "a benchmark")]

mod merge_rig;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use merge_rig::{OPS, Op, Rig};

fn events(c: &mut Criterion) {
    for op in OPS {
        let mut group = c.benchmark_group(format!("merge/{op:?}"));
        for len in [10, 100, 1_000, 10_000, 1_000_000] {
            let mut rig = Rig::new(op, len);
            group.bench_with_input(BenchmarkId::from_parameter(len), &(), |b, ()| {
                b.iter_custom(|rounds| timed(&mut rig, rounds));
            });
        }
        group.finish();
    }
}

/// The data is made outside of the measured time, a thousand rounds at once.
fn timed(rig: &mut Rig, rounds: u64) -> Duration {
    let mut took = Duration::ZERO;
    let mut left = usize::try_from(rounds).expect("few");
    while left > 0 {
        let data = rig.prepare(left.min(1_024));
        left -= data.len();
        let start = Instant::now();
        rig.run(data);
        took += start.elapsed();
    }
    took
}

fn snapshot(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge/Snapshot");
    for len in [100, 10_000] {
        let rig = Rig::new(Op::Update, len);
        let mut out = Vec::with_capacity(len * 201 + 2);
        group.throughput(Throughput::Bytes(len as u64 * 201));
        group.bench_with_input(BenchmarkId::from_parameter(len), &(), |b, ()| {
            b.iter(|| {
                out.clear();
                rig.merge.write_json(&mut out);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .without_plots()
}

criterion_group! {
    name = benches;
    config = short();
    targets = events, snapshot
}
criterion_main!(benches);
