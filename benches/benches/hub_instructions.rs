//! The same as instruction counts, which do not depend on what else the machine does.

#![allow(
    unused_qualifications,
    missing_docs,
    reason = "written by the macros of gungraun"
)]

use gungraun::{library_benchmark, library_benchmark_group, main};
use millstream_benches::Room;
use std::hint::black_box;

#[library_benchmark]
#[bench::one(args = (1), setup = Room::new)]
#[bench::hundred(args = (100), setup = Room::new)]
#[bench::ten_thousand(args = (10_000), setup = Room::new)]
fn publish(room: Room) -> Room {
    let mut room = room;
    black_box(room.turn(1));
    room
}

library_benchmark_group!(name = hub, benchmarks = publish);
main!(library_benchmark_groups = hub);
