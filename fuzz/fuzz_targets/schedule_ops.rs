//! An expression, a zone and an instant: the engine next to a naive reading of the expression, and
//! the calendar's boundaries against each other. The first byte chooses the zone, five more the
//! instant, the rest is the expression.
#![no_main]

#[path = "../../crates/schedule/tests/support/model.rs"]
mod model;

use libfuzzer_sys::fuzz_target;
use millstream_schedule::{Job, Period, Schedule, Zone};
use model::Model;

const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Antarctica/Troll",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((head, text)) = bytes.split_first_chunk::<6>() else {
        return;
    };
    let zone = Zone::get(ZONES[usize::from(head[0]) % ZONES.len()]).expect("a known name");
    let [_, time @ ..] = head;
    let number = time
        .iter()
        .fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
    // From 1900 on, for two centuries; some in the far past and future.
    let at_ms = match number % 64 {
        0 => number.wrapping_mul(0x2545_f491_4f6c_dd1d),
        _ => number % 6_311_433_600 * 1_000 - 2_208_988_800_000 + number % 1_000,
    };
    boundaries(&zone, at_ms);
    let text = String::from_utf8_lossy(text);
    let (ours, model) = (Schedule::parse(&text, zone), Model::read(&text));
    assert_eq!(ours.is_ok(), model.is_some(), "{text:?} {ours:?}");
    if let (Ok(schedule), Some(model)) = (ours, model) {
        follow(&schedule, &model, at_ms);
    }
});

fn boundaries(zone: &Zone, at_ms: i64) {
    for period in [Period::Minute, Period::Hour, Period::Day, Period::Month] {
        let (start_ms, end_ms) = (
            zone.start_of(period, at_ms),
            zone.next_boundary(period, at_ms),
        );
        assert!(start_ms <= at_ms && at_ms < end_ms);
        if start_ms == i64::MIN || end_ms == i64::MAX {
            continue;
        }
        assert_eq!(zone.start_of(period, start_ms), start_ms);
        assert_eq!(zone.start_of(period, end_ms - 1), start_ms);
        assert_eq!(zone.start_of(period, end_ms), end_ms);
        assert_eq!(zone.next_boundary(period, start_ms), end_ms);
        assert_eq!(zone.next_boundary(period, end_ms - 1), end_ms);
    }
}

fn follow(schedule: &Schedule, model: &Model, at_ms: i64) {
    const LOOK_S: i64 = 2_000;
    let matches =
        |at_s: i64| model.matches(at_s + i64::from(schedule.zone().offset_at(at_s * 1_000)));
    let mut job = Job::new(schedule.clone(), at_ms);
    // The model walks year by year: it is asked about our times only.
    let near = at_ms.abs() < 10_000_000_000_000;
    let mut from_ms = at_ms;
    for _ in 0..3 {
        let next_ms = schedule.next_after(from_ms);
        assert_eq!(job.next_deadline(), next_ms);
        let Some(next_ms) = next_ms else { break };
        assert!(next_ms > from_ms && schedule.matches(next_ms));
        if near {
            assert!(matches(next_ms / 1_000));
            let first_s = from_ms.div_euclid(1_000) + 1;
            let last_s = next_ms / 1_000 - 1;
            for at_s in (first_s..=last_s.min(first_s + LOOK_S))
                .chain(first_s.max(last_s - LOOK_S)..=last_s)
            {
                assert!(!matches(at_s) && !schedule.matches(at_s * 1_000), "{at_s}");
            }
        }
        assert_eq!(job.handle_timeout(next_ms - 1).run_ms, None);
        let due = job.handle_timeout(next_ms);
        assert_eq!((due.run_ms, due.missed), (Some(next_ms), 0));
        from_ms = next_ms;
    }
}
