//! Uploads: a chunk from its frame to the handler, with few and many uploads at once.

mod upload_shared;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use upload_shared::Transfers;

fn chunk(c: &mut Criterion) {
    let mut group = c.benchmark_group("upload/chunk");
    for uploads in [100, 10_000, 1_000_000] {
        let mut transfers = Transfers::new(uploads, 1_024);
        group.bench_function(
            BenchmarkId::new("arrives and is taken, uploads", uploads),
            |b| {
                b.iter(|| black_box(transfers.chunk_any()));
            },
        );
    }
    for bytes in [64, 1_024, 16_384] {
        let mut transfers = Transfers::new(1, bytes);
        group.bench_function(
            BenchmarkId::new("arrives and is taken, bytes", bytes),
            |b| {
                b.iter(|| black_box(transfers.chunk_any()));
            },
        );
        let mut transfers = Transfers::new(1, bytes);
        group.bench_function(
            BenchmarkId::new("the same from its frame, bytes", bytes),
            |b| {
                b.iter(|| black_box(transfers.frame()));
            },
        );
    }
    group.finish();
}

fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("upload/whole");
    for uploads in [100, 10_000, 1_000_000] {
        let mut transfers = Transfers::new(uploads, 64);
        group.bench_function(
            BenchmarkId::new("opened to reply beside others", uploads),
            |b| {
                b.iter(|| black_box(transfers.whole()));
            },
        );
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
}

criterion_group!(name = benches; config = config(); targets = chunk, whole);
criterion_main!(benches);
