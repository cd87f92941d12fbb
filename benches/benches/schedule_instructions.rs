//! The same as instruction counts, which do not depend on what else the machine does.

#![allow(
    unused_qualifications,
    missing_docs,
    reason = "written by the macros of gungraun"
)]

use gungraun::{library_benchmark, library_benchmark_group, main};
use millstream_schedule::{Cron, Period, Schedule, Zone};
use std::hint::black_box;

/// 15 January 2024, 09:00 UTC.
const AT_MS: i64 = 1_705_309_200_000;

/// A schedule that was asked before: the zone's table is parsed.
fn schedule(text: &str, zone: &str) -> Schedule {
    let zone = Zone::get(zone).expect("a known name");
    let schedule = Schedule::parse(text, zone).expect("an expression");
    black_box(schedule.next_after(AT_MS));
    schedule
}

#[library_benchmark]
#[bench::usual("*/15 9-17 * * 1-5")]
fn parse(text: &str) -> Option<Cron> {
    black_box(text).parse().ok()
}

#[library_benchmark]
#[bench::utc(args = ("*/15 9-17 * * 1-5", "UTC"), setup = schedule)]
#[bench::new_york(args = ("*/15 9-17 * * 1-5", "America/New_York"), setup = schedule)]
fn matches(schedule: Schedule) -> (bool, Schedule) {
    (schedule.matches(black_box(AT_MS)), schedule)
}

#[library_benchmark]
#[bench::soon_utc(args = ("*/15 9-17 * * 1-5", "UTC"), setup = schedule)]
#[bench::soon_new_york(args = ("*/15 9-17 * * 1-5", "America/New_York"), setup = schedule)]
#[bench::twenty_years(args = ("0 0 29 2 1", "America/New_York"), setup = schedule)]
#[bench::never(args = ("30 2 8-14 3 0", "America/New_York"), setup = schedule)]
fn next_after(schedule: Schedule) -> (Option<i64>, Schedule) {
    (schedule.next_after(black_box(AT_MS)), schedule)
}

#[library_benchmark]
#[bench::hour(args = ("* * * * *", "America/New_York"), setup = schedule)]
fn next_hour(schedule: Schedule) -> (i64, Schedule) {
    let end_ms = schedule
        .zone()
        .next_boundary(Period::Hour, black_box(AT_MS));
    (end_ms, schedule)
}

#[library_benchmark]
#[bench::month(args = ("* * * * *", "America/New_York"), setup = schedule)]
fn next_month(schedule: Schedule) -> (i64, Schedule) {
    let end_ms = schedule
        .zone()
        .next_boundary(Period::Month, black_box(AT_MS));
    (end_ms, schedule)
}

library_benchmark_group!(
    name = schedule_group,
    benchmarks = [parse, matches, next_after, next_hour, next_month]
);
main!(library_benchmark_groups = schedule_group);
