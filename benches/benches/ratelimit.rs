//! Counting calls with 1 to 10^6 keys: flat.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use millstream_core::{ConnId, Millis, Random, SeededRandom};
use millstream_ratelimit::{FixedWindow, Gcra, Keys, LimitKey, Limiter, Limits, Policy, TwoWindow};
use std::hint::black_box;
use std::time::Duration;

/// More than are ever taken: nothing is refused.
const POINTS: u32 = 4_000_000_000;

const SIZES: [usize; 5] = [1, 100, 1_000, 100_000, 1_000_000];

/// A limiter that knows so many keys, and calls from them in random order.
fn known<P: Policy>(policy: P, count: usize) -> (Limiter<P>, Vec<LimitKey>) {
    let keys = Keys::new([1, 2]);
    let mut limiter = Limiter::new(policy, Limits::default());
    let mut all: Vec<LimitKey> = (0..count as u64)
        .map(|n| keys.conn(ConnId::from_u64(n)))
        .collect();
    for key in &all {
        let _ = black_box(limiter.consume(*key, Millis::ZERO, 1.0));
    }
    let mut random = SeededRandom::new(7);
    for place in (1..all.len()).rev() {
        all.swap(place, random.below(place as u64 + 1) as usize);
    }
    (limiter, all)
}

fn hits<P: Policy>(c: &mut Criterion, name: &str, policy: impl Fn() -> P) {
    let mut group = c.benchmark_group(format!("ratelimit/{name}"));
    group
        .sample_size(10)
        .measurement_time(Duration::from_millis(500));
    group.warm_up_time(Duration::from_millis(200));
    for count in SIZES {
        let (mut limiter, keys) = known(policy(), count);
        let (mut next, mut now) = (0, 0);
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                next = if next + 1 == keys.len() { 0 } else { next + 1 };
                now += u64::from(next == 0);
                limiter.consume(keys[next], Millis::from_millis(now), 1.0)
            });
        });
    }
    group.finish();
}

fn policies(c: &mut Criterion) {
    hits(c, "fixed", || {
        FixedWindow::new(POINTS.into(), 60_000.0).expect("a policy")
    });
    hits(c, "two-window", || {
        TwoWindow::new(POINTS, 60_000.0).expect("a policy")
    });
    hits(c, "gcra", || Gcra::new(60_000, 60_000.0).expect("a policy"));
}

/// New keys all the time: the table grows, then is full and throws out.
fn strangers(c: &mut Criterion) {
    let mut group = c.benchmark_group("ratelimit/new-keys");
    group
        .sample_size(10)
        .measurement_time(Duration::from_millis(500));
    group.warm_up_time(Duration::from_millis(200));
    let keys = Keys::new([1, 2]);
    for count in SIZES {
        let policy = FixedWindow::new(POINTS.into(), 60_000.0).expect("a policy");
        let limits = Limits {
            counters_max: count,
            ..Limits::default()
        };
        let mut limiter = Limiter::new(policy, limits);
        let mut next = 0;
        for _ in 0..count {
            next += 1;
            let _ =
                black_box(limiter.consume(keys.conn(ConnId::from_u64(next)), Millis::ZERO, 1.0));
        }
        group.bench_function(format!("full-at-{count}"), |b| {
            b.iter_batched(
                || {
                    next += 1;
                    keys.conn(ConnId::from_u64(next))
                },
                |key| limiter.consume(key, Millis::ZERO, 1.0),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("ratelimit/key");
    group
        .sample_size(10)
        .measurement_time(Duration::from_millis(500));
    group.warm_up_time(Duration::from_millis(200));
    let keys = Keys::new([1, 2]);
    group.bench_function("ipv4", |b| {
        b.iter(|| keys.ip(black_box([192, 0, 2, 7]).into()));
    });
    group.bench_function("ipv6", |b| {
        b.iter(|| keys.ip(black_box([0x20_u8; 16]).into()))
    });
    group.bench_function("text-20", |b| {
        b.iter(|| keys.text(black_box("user:0123456789abcde")))
    });
    group.finish();
}

criterion_group!(benches, policies, strangers, keys);
criterion_main!(benches);
