//! The same as instruction counts, which do not depend on what else the machine does.

#![allow(
    unused_qualifications,
    missing_docs,
    reason = "written by the macros of gungraun"
)]

#[path = "common/aggregate.rs"]
mod common;

use common::Bench;
use gungraun::{library_benchmark, library_benchmark_group, main};
use std::hint::black_box;

#[library_benchmark]
#[bench::count(args = ("count"), setup = common::window)]
#[bench::single(args = ("single"), setup = common::window)]
#[bench::lifetime(args = ("lifetime"), setup = common::window)]
#[bench::tumbling(args = ("tumbling"), setup = common::window)]
#[bench::sliding(args = ("sliding"), setup = common::window)]
#[bench::debounced(args = ("debounced"), setup = common::window)]
fn reduce(mut bench: Bench) -> Bench {
    bench.reduce();
    bench
}

#[library_benchmark]
#[bench::count(args = ("count"), setup = common::window)]
#[bench::single(args = ("single"), setup = common::window)]
#[bench::lifetime(args = ("lifetime"), setup = common::window)]
#[bench::tumbling(args = ("tumbling"), setup = common::window)]
#[bench::sliding(args = ("sliding"), setup = common::window)]
#[bench::debounced(args = ("debounced"), setup = common::window)]
fn event_to_json(mut bench: Bench) -> Bench {
    black_box(bench.event());
    bench
}

#[library_benchmark]
#[bench::ten(args = (10), setup = common::hops)]
#[bench::hundred(args = (100), setup = common::hops)]
#[bench::thousand(args = (1_000), setup = common::hops)]
fn slide(mut bench: Bench) -> Bench {
    black_box(bench.slide());
    bench
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = common::keys)]
#[bench::ten_thousand(args = (10_000), setup = common::keys)]
#[bench::million(args = (1_000_000), setup = common::keys)]
fn counts(mut bench: Bench) -> Bench {
    bench.reduce();
    bench
}

library_benchmark_group!(
    name = aggregate,
    benchmarks = [reduce, event_to_json, slide, counts]
);
main!(library_benchmark_groups = aggregate);
