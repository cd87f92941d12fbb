//! The same as instruction counts, which do not depend on what else the machine does. Each
//! benchmark does a hundred of its operations.

#![allow(
    unused_qualifications,
    missing_docs,
    dead_code,
    reason = "written by the macros of gungraun; the rig has more than is counted"
)]

#[path = "presence_rig/mod.rs"]
mod rig;

use gungraun::{library_benchmark, library_benchmark_group, main};
use rig::{Canvas, Crowd, Room};

const TIMES: usize = 100;

fn canvas(size: u64) -> Canvas {
    Canvas::new(size, 0)
}

fn throttled(size: u64) -> Canvas {
    Canvas::new(size, 50)
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = Room::new)]
#[bench::ten_thousand(args = (10_000), setup = Room::new)]
#[bench::million(args = (1_000_000), setup = Room::new)]
fn presence_join_leave(room: Room) -> Room {
    let mut room = room;
    (0..TIMES).for_each(|_| room.join_and_leave());
    room
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = Room::new)]
#[bench::ten_thousand(args = (10_000), setup = Room::new)]
fn presence_leave_return(room: Room) -> Room {
    let mut room = room;
    (0..TIMES).for_each(|_| room.leave_and_return());
    room
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = canvas)]
#[bench::ten_thousand(args = (10_000), setup = canvas)]
#[bench::million(args = (1_000_000), setup = canvas)]
#[bench::hundred_throttled(args = (100), setup = throttled)]
#[bench::ten_thousand_throttled(args = (10_000), setup = throttled)]
fn cursor_update(canvas: Canvas) -> Canvas {
    let mut canvas = canvas;
    (0..TIMES).for_each(|_| canvas.update());
    canvas
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = Crowd::new)]
#[bench::ten_thousand(args = (10_000), setup = Crowd::new)]
#[bench::million(args = (1_000_000), setup = Crowd::new)]
fn group_join_leave(crowd: Crowd) -> Crowd {
    let mut crowd = crowd;
    (0..TIMES).for_each(|_| crowd.join_and_leave());
    crowd
}

library_benchmark_group!(
    name = presence,
    benchmarks = [
        presence_join_leave,
        presence_leave_return,
        cursor_update,
        group_join_leave
    ]
);
main!(library_benchmark_groups = presence);
