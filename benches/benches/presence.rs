//! Rosters, cursors and groups of several sizes, frames included.

#[path = "presence_rig/mod.rs"]
mod rig;

use core::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rig::{Canvas, Crowd, Room};

fn rosters(c: &mut Criterion) {
    let mut group = c.benchmark_group("presence");
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(400));
    for size in [1, 100, 1_000, 10_000, 100_000, 1_000_000] {
        let mut room = Room::new(size);
        group.bench_function(BenchmarkId::new("join+leave", size), |b| {
            b.iter(|| room.join_and_leave());
        });
        let mut room = room.keeping(8);
        group.bench_function(
            BenchmarkId::new("join+leave, snapshots queued", size),
            |b| {
                b.iter(|| room.join_and_leave());
            },
        );
        let mut room = room.keeping(0);
        group.bench_function(BenchmarkId::new("leave+return from anywhere", size), |b| {
            b.iter(|| room.leave_and_return());
        });
        if size <= 1_000 {
            let mut room = room.flattening();
            group.bench_function(BenchmarkId::new("join+leave, snapshot copied", size), |b| {
                b.iter(|| room.join_and_leave());
            });
        }
    }
    group.finish();
}

fn cursors(c: &mut Criterion) {
    let mut group = c.benchmark_group("cursor");
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(400));
    for size in [100, 10_000, 1_000_000] {
        for throttle in [0, 50] {
            let mut canvas = Canvas::new(size, throttle);
            let name = format!("update, throttle {throttle} ms");
            group.bench_function(BenchmarkId::new(name, size), |b| b.iter(|| canvas.update()));
        }
    }
    group.finish();
}

fn groups(c: &mut Criterion) {
    let mut group = c.benchmark_group("groups");
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(400));
    for size in [100, 10_000, 1_000_000] {
        let mut crowd = Crowd::new(size);
        group.bench_function(BenchmarkId::new("join+leave", size), |b| {
            b.iter(|| crowd.join_and_leave());
        });
    }
    group.finish();
}

criterion_group!(benches, rosters, cursors, groups);
criterion_main!(benches);
