//! Bytes per value, and that asking allocates nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

use millstream_schedule::{Cron, Job, Period, Schedule, Zone};
use std::hint::black_box;

#[test]
fn sizes_are_as_documented() {
    assert_eq!(size_of::<Cron>(), 56);
    assert_eq!(size_of::<Schedule>(), 64);
    assert_eq!(size_of::<Job>(), 88);
}

#[test]
fn asking_allocates_nothing() {
    let zone = Zone::get("Australia/Lord_Howe").unwrap();
    let count = allocation_counter::measure(|| {
        let schedule = Schedule::parse("30 2 29 2 1-5", zone.clone()).unwrap();
        let mut job = Job::new(schedule, 0);
        for day in 0..10_000 {
            let at_ms = day * 86_400_000;
            black_box(zone.start_of(Period::Month, at_ms));
            black_box(zone.next_boundary(Period::Hour, at_ms));
            black_box(job.schedule().next_after(at_ms));
            black_box(job.handle_timeout(at_ms));
        }
    });
    assert_eq!(count.count_total, 0);
}
