//! The same as instruction counts, which do not depend on what else the machine does.

#![allow(
    unused_qualifications,
    missing_docs,
    reason = "written by the macros of gungraun"
)]

mod live_rig;

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use live_rig::{ADD, ECHO, PUB, Rig};
use millstream_wire::recognise_call;

#[library_benchmark]
#[bench::hundred(ECHO)]
fn recognise_1000(frame: &str) {
    for _ in 0..1_000 {
        black_box(recognise_call(black_box(frame)).is_some());
    }
}

fn with_rig(frame: &'static str) -> (Rig, Vec<u8>, &'static str) {
    let (mut rig, mut out) = (Rig::new(), Vec::with_capacity(1_024));
    // Whatever is made once is made now.
    rig.call(frame, &mut out);
    (rig, out, frame)
}

#[library_benchmark]
#[bench::hundred_echo(args = (ECHO), setup = with_rig)]
#[bench::hundred_publish(args = (PUB), setup = with_rig)]
#[bench::hundred_add(args = (ADD), setup = with_rig)]
fn call_1000((mut rig, mut out, frame): (Rig, Vec<u8>, &'static str)) -> (Rig, Vec<u8>) {
    for _ in 0..1_000 {
        out.clear();
        rig.call(black_box(frame), &mut out);
        black_box(&out);
    }
    (rig, out)
}

library_benchmark_group!(name = benches, benchmarks = [recognise_1000, call_1000]);
main!(library_benchmark_groups = benches);
