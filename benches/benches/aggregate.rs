//! Events through aggregates: reduced, and put out as JSON.

#[path = "common/aggregate.rs"]
mod common;

use core::hint::black_box;
use core::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn aggregate(c: &mut Criterion) {
    let mut group = c.benchmark_group("aggregate");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400));
    for kind in [
        "count",
        "single",
        "lifetime",
        "tumbling",
        "sliding",
        "debounced",
    ] {
        let mut bench = common::window(kind);
        group.bench_function(BenchmarkId::new("reduce", kind), |b| {
            b.iter(|| bench.reduce())
        });
        group.bench_function(BenchmarkId::new("event-to-json", kind), |b| {
            b.iter(|| black_box(bench.event()));
        });
    }
    for hops in [10, 100, 1_000] {
        let mut bench = common::hops(hops);
        group.bench_function(BenchmarkId::new("slide-hops", hops), |b| {
            b.iter(|| black_box(bench.slide()));
        });
    }
    for keys in [100, 10_000, 1_000_000] {
        let mut bench = common::keys(keys);
        group.bench_function(BenchmarkId::new("counts-keys", keys), |b| {
            b.iter(|| bench.reduce())
        });
    }
    for keys in [100, 10_000] {
        let mut bench = common::keys(keys);
        group.bench_function(BenchmarkId::new("counts-to-json-keys", keys), |b| {
            b.iter(|| black_box(bench.event()));
        });
    }
    group.finish();
}

criterion_group!(benches, aggregate);
criterion_main!(benches);
