//! The same as instruction counts of 160 rounds, which do not depend on what else the machine does.
//! Not with a million items: making them takes minutes here.

#![allow(
    unused_qualifications,
    missing_docs,
    reason = "written by the macros of gungraun"
)]

mod merge_rig;

use gungraun::{library_benchmark, library_benchmark_group, main};
use merge_rig::{OPS, Op, Rig};
use millstream_core::RawJson;

const ROUNDS: usize = 160;

fn ready(op: Op, len: usize) -> (Rig, Vec<RawJson>) {
    assert!(OPS.contains(&op));
    let mut rig = Rig::new(op, len);
    // Grow and warm what grows once.
    let data = rig.prepare(ROUNDS);
    rig.run(data);
    let data = rig.prepare(ROUNDS);
    (rig, data)
}

#[library_benchmark]
#[bench::update_100(args = (Op::Update, 100), setup = ready)]
#[bench::update_10_000(args = (Op::Update, 10_000), setup = ready)]
#[bench::delete_create_100(args = (Op::DeleteCreate, 100), setup = ready)]
#[bench::delete_create_10_000(args = (Op::DeleteCreate, 10_000), setup = ready)]
#[bench::prepend_evict_100(args = (Op::PrependEvict, 100), setup = ready)]
#[bench::prepend_evict_10_000(args = (Op::PrependEvict, 10_000), setup = ready)]
#[bench::append_evict_100(args = (Op::AppendEvict, 100), setup = ready)]
#[bench::append_evict_10_000(args = (Op::AppendEvict, 10_000), setup = ready)]
#[bench::join_leave_100(args = (Op::JoinLeave, 100), setup = ready)]
#[bench::join_leave_10_000(args = (Op::JoinLeave, 10_000), setup = ready)]
#[bench::cursor_update_100(args = (Op::CursorUpdate, 100), setup = ready)]
#[bench::cursor_update_10_000(args = (Op::CursorUpdate, 10_000), setup = ready)]
#[bench::latest_push_100(args = (Op::LatestPush, 100), setup = ready)]
#[bench::latest_push_10_000(args = (Op::LatestPush, 10_000), setup = ready)]
#[bench::set(args = (Op::Set, 100), setup = ready)]
#[bench::frame_of_16_100(args = (Op::Frame16, 100), setup = ready)]
#[bench::frame_of_16_10_000(args = (Op::Frame16, 10_000), setup = ready)]
fn rounds((rig, data): (Rig, Vec<RawJson>)) -> Rig {
    let mut rig = rig;
    rig.run(data);
    rig
}

library_benchmark_group!(name = merge, benchmarks = rounds);
main!(library_benchmark_groups = merge);
