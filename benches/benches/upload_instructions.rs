//! The same as instruction counts, which do not depend on what else the machine does.

#![allow(
    unused_qualifications,
    missing_docs,
    reason = "written by the macros of gungraun"
)]

mod upload_shared;

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use upload_shared::Transfers;

fn transfers(uploads: u64) -> Transfers {
    Transfers::new(uploads, 1_024)
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = transfers)]
#[bench::ten_thousand(args = (10_000), setup = transfers)]
#[bench::million(args = (1_000_000), setup = transfers)]
fn chunk_1000_times(transfers: Transfers) -> Transfers {
    let mut transfers = transfers;
    for _ in 0..1_000 {
        black_box(transfers.chunk_any());
    }
    transfers
}

#[library_benchmark]
#[bench::hundred(args = (100), setup = transfers)]
#[bench::ten_thousand(args = (10_000), setup = transfers)]
#[bench::million(args = (1_000_000), setup = transfers)]
fn whole_100_times(transfers: Transfers) -> Transfers {
    let mut transfers = transfers;
    for _ in 0..100 {
        black_box(transfers.whole());
    }
    transfers
}

#[library_benchmark]
#[bench::u1(args = (1), setup = transfers)]
fn frame_1000_times(transfers: Transfers) -> Transfers {
    let mut transfers = transfers;
    for _ in 0..1_000 {
        black_box(transfers.frame());
    }
    transfers
}

library_benchmark_group!(
    name = upload,
    benchmarks = [chunk_1000_times, frame_1000_times, whole_100_times]
);
main!(library_benchmark_groups = upload);
