//! The same as instruction counts, which do not depend on what else the machine does: 100 calls by
//! known keys, 100 by new ones at the limit.

#![allow(
    unused_qualifications,
    missing_docs,
    reason = "written by the macros of gungraun"
)]

use gungraun::{library_benchmark, library_benchmark_group, main};
use millstream_core::{ConnId, Millis};
use millstream_ratelimit::{FixedWindow, Gcra, Keys, LimitKey, Limiter, Limits, Policy, TwoWindow};
use std::hint::black_box;

/// More than are ever taken: nothing is refused.
const POINTS: u32 = 4_000_000_000;

struct Case<P> {
    limiter: Limiter<P>,
    keys: Vec<LimitKey>,
}

fn case<P: Policy>(policy: P, count: usize, from: u64) -> Case<P> {
    let keys = Keys::new([1, 2]);
    let limits = Limits {
        counters_max: count,
        ..Limits::default()
    };
    let mut limiter = Limiter::new(policy, limits);
    for n in 0..count as u64 {
        let key = keys.conn(ConnId::from_u64(n));
        let _ = black_box(limiter.consume(key, Millis::ZERO, 1.0));
    }
    let keys = (from..from + 100)
        .map(|n| keys.conn(ConnId::from_u64(n)))
        .collect();
    Case { limiter, keys }
}

fn fixed(count: usize) -> Case<FixedWindow> {
    case(
        FixedWindow::new(POINTS.into(), 60_000.0).expect("a policy"),
        count,
        0,
    )
}

fn fixed_new(count: usize) -> Case<FixedWindow> {
    case(
        FixedWindow::new(POINTS.into(), 60_000.0).expect("a policy"),
        count,
        count as u64,
    )
}

fn two_window(count: usize) -> Case<TwoWindow> {
    case(
        TwoWindow::new(POINTS, 60_000.0).expect("a policy"),
        count,
        0,
    )
}

fn gcra(count: usize) -> Case<Gcra> {
    case(Gcra::new(60_000, 60_000.0).expect("a policy"), count, 0)
}

fn run<P: Policy>(mut case: Case<P>) -> Case<P> {
    for key in &case.keys {
        let _ = black_box(case.limiter.consume(*key, Millis::from_millis(1), 1.0));
    }
    case
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = fixed)]
#[bench::ten_thousand(args = (10_000), setup = fixed)]
#[bench::million(args = (1_000_000), setup = fixed)]
fn consume_fixed(case: Case<FixedWindow>) -> Case<FixedWindow> {
    run(case)
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = fixed_new)]
#[bench::ten_thousand(args = (10_000), setup = fixed_new)]
#[bench::million(args = (1_000_000), setup = fixed_new)]
fn consume_new(case: Case<FixedWindow>) -> Case<FixedWindow> {
    run(case)
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = two_window)]
#[bench::million(args = (1_000_000), setup = two_window)]
fn consume_two_window(case: Case<TwoWindow>) -> Case<TwoWindow> {
    run(case)
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = gcra)]
#[bench::million(args = (1_000_000), setup = gcra)]
fn consume_gcra(case: Case<Gcra>) -> Case<Gcra> {
    run(case)
}

#[library_benchmark]
#[bench::text("user:0123456789abcde")]
fn key_of_text(text: &str) -> LimitKey {
    Keys::new([1, 2]).text(black_box(text))
}

#[library_benchmark]
#[bench::ipv6([0x20; 16])]
fn key_of_address(bytes: [u8; 16]) -> LimitKey {
    Keys::new([1, 2]).ip(black_box(bytes).into())
}

library_benchmark_group!(
    name = ratelimit,
    benchmarks = [
        consume_fixed,
        consume_new,
        consume_two_window,
        consume_gcra,
        key_of_text,
        key_of_address
    ]
);
main!(library_benchmark_groups = ratelimit);
