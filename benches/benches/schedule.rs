//! Expressions and boundaries: reading, matching, searching.

use criterion::{Criterion, criterion_group, criterion_main};
use millstream_schedule::{Cron, Period, Schedule, Zone};
use std::hint::black_box;
use std::time::Duration;

/// 15 January 2024, 09:00 UTC.
const AT_MS: i64 = 1_705_309_200_000;

fn cron(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    group
        .sample_size(10)
        .measurement_time(Duration::from_millis(500));
    group.warm_up_time(Duration::from_millis(200));
    group.bench_function("parse", |b| {
        b.iter(|| black_box("*/15 9-17 * * 1-5").parse::<Cron>())
    });
    for (name, zone) in [("utc", "UTC"), ("new-york", "America/New_York")] {
        let zone = Zone::get(zone).expect("a known name");
        let schedule = |text| Schedule::parse(text, zone.clone()).expect("an expression");
        let often = schedule("*/15 9-17 * * 1-5");
        group.bench_function(format!("matches/{name}"), |b| {
            b.iter(|| often.matches(black_box(AT_MS)));
        });
        group.bench_function(format!("next/soon/{name}"), |b| {
            b.iter(|| often.next_after(black_box(AT_MS)));
        });
        let leap = schedule("0 0 29 2 1");
        group.bench_function(format!("next/20-years/{name}"), |b| {
            b.iter(|| leap.next_after(black_box(AT_MS)));
        });
        for period in [Period::Minute, Period::Hour, Period::Day, Period::Month] {
            group.bench_function(format!("boundary/{period:?}/{name}"), |b| {
                b.iter(|| zone.next_boundary(period, black_box(AT_MS)));
            });
        }
    }
    let new_york = Zone::get("America/New_York").expect("a known name");
    let skipped = Schedule::parse("30 2 8-14 3 0", new_york).expect("an expression");
    group.bench_function("next/never/new-york", |b| {
        b.iter(|| skipped.next_after(black_box(AT_MS)));
    });
    group.finish();
}

criterion_group!(benches, cron);
criterion_main!(benches);
