//! Publishing to rooms of several sizes: everything but the kernel.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::Room;

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish");
    for subscribers in [1, 100, 10_000] {
        let mut room = Room::new(subscribers);
        group.throughput(Throughput::Elements(subscribers as u64));
        group.bench_with_input(BenchmarkId::new("burst-1", subscribers), &(), |b, ()| {
            b.iter(|| room.turn(1));
        });
        group.throughput(Throughput::Elements(subscribers as u64 * 16));
        group.bench_with_input(BenchmarkId::new("burst-16", subscribers), &(), |b, ()| {
            b.iter(|| room.turn(16));
        });
    }
    group.finish();
}

criterion_group!(benches, publish);
criterion_main!(benches);
