//! Calendar boundaries: the windows of recorded runs, and a walk through time second by second.

#![allow(clippy::unwrap_used, reason = "tests")]

use millstream_schedule::{Period, Zone};
use proptest::prelude::*;
use serde_json::Value;

/// The recorded runs whose windows end with the calendar.
macro_rules! runs {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../vectors/aggregate/", $name, ".json")))),+]
    };
}

const RUNS: [(&str, &str); 33] = runs![
    "013-tumbling-minute-utc",
    "014-tumbling-minute-kolkata",
    "015-tumbling-hour-utc",
    "016-tumbling-hour-kolkata",
    "017-tumbling-hour-kathmandu",
    "018-tumbling-daily-utc-leap-day",
    "019-tumbling-daily-kolkata",
    "020-tumbling-daily-newyork-plain",
    "021-tumbling-daily-newyork-spring",
    "022-tumbling-daily-newyork-autumn",
    "023-tumbling-daily-berlin-spring",
    "024-tumbling-daily-berlin-autumn",
    "025-tumbling-daily-havana-spring",
    "026-tumbling-daily-lordhowe-plain",
    "027-tumbling-daily-lordhowe-spring",
    "028-tumbling-daily-lordhowe-autumn",
    "029-tumbling-daily-sydney-spring",
    "030-tumbling-daily-sydney-autumn",
    "031-tumbling-daily-beirut-spring",
    "032-tumbling-hour-newyork-spring",
    "033-tumbling-hour-newyork-autumn",
    "034-tumbling-hour-berlin-spring",
    "035-tumbling-hour-berlin-autumn",
    "036-tumbling-hour-lordhowe-spring",
    "037-tumbling-hour-lordhowe-autumn",
    "038-tumbling-minute-newyork-autumn",
    "039-tumbling-minute-berlin-spring",
    "040-tumbling-monthly-utc",
    "041-tumbling-monthly-year-end",
    "042-tumbling-monthly-newyork",
    "043-tumbling-monthly-berlin",
    "044-tumbling-monthly-kolkata",
    "045-tumbling-monthly-timer-overflow",
];

/// A window publishes at every event and at every end of a period, so the times of its outputs are
/// those of both, merged.
#[test]
fn windows_end_where_the_recorded_runs_say() {
    for (name, text) in RUNS {
        let run: Value = serde_json::from_str(text).unwrap();
        let case = &run["case"];
        let window = &case["windows"][0];
        let zone = Zone::get(window["tz"].as_str().unwrap_or("UTC")).unwrap();
        let period = match window["period"].as_str().unwrap() {
            "minute" => Period::Minute,
            "hour" => Period::Hour,
            "daily" => Period::Day,
            "monthly" => Period::Month,
            other => panic!("{other}"),
        };
        let times = |list: &Value| -> Vec<i64> {
            let list = list.as_array().unwrap();
            list.iter().map(|e| e["atMs"].as_i64().unwrap()).collect()
        };
        let mut ours = times(&case["events"]);
        let mut at_ms = case["registerAtMs"].as_i64().unwrap();
        // The run ends at `endAtMs`, or with an event after it.
        let until_ms = case["endAtMs"].as_i64().unwrap();
        let until_ms = ours.iter().copied().fold(until_ms, i64::max);
        loop {
            let start_ms = zone.start_of(period, at_ms);
            at_ms = zone.next_boundary(period, at_ms);
            assert_eq!(zone.start_of(period, at_ms - 1), start_ms, "{name}");
            assert_eq!(zone.start_of(period, at_ms), at_ms, "{name}");
            if at_ms > until_ms {
                break;
            }
            ours.push(at_ms);
        }
        ours.sort_unstable();
        assert_eq!(ours, times(&run["expected"]["outputs"]), "{name}");
    }
}

const ZONES: [&str; 24] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Los_Angeles",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/Asuncion",
    "America/Caracas",
    "America/Juneau",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Asia/Pyongyang",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
    "Antarctica/Troll",
];

/// What a clock on the wall shows, by the zone library alone.
struct Wall(jiff::tz::TimeZone);

impl Wall {
    fn of(name: &str) -> Self {
        Self(jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap())
    }

    fn at(&self, at_s: i64) -> (jiff::civil::DateTime, i32) {
        let offset = self
            .0
            .to_offset(jiff::Timestamp::from_second(at_s).unwrap());
        let local = offset.to_datetime(jiff::Timestamp::from_second(at_s).unwrap());
        (local, offset.seconds())
    }
}

/// The seconds in `from_s..to_s` at which a period begins, seen by looking at the clock.
fn walked(name: &str, period: Period, from_s: i64, to_s: i64, step: usize) -> Vec<i64> {
    let wall = Wall::of(name);
    let mut boundaries = Vec::new();
    let (mut before, _) = (wall.at(from_s), ());
    let mut latest = before.0.date();
    for at_s in (from_s..to_s).step_by(step).skip(1) {
        let now = wall.at(at_s);
        let moved = before.1 != now.1;
        let begins = match period {
            Period::Minute => moved || before.0.minute() != now.0.minute(),
            Period::Hour => moved || before.0.hour() != now.0.hour(),
            Period::Day => now.0.date() > latest,
            Period::Month => now.0.date().first_of_month() > latest.first_of_month(),
            _ => unreachable!(),
        };
        if begins {
            boundaries.push(at_s);
        }
        latest = latest.max(now.0.date());
        before = now;
    }
    boundaries
}

/// The same by the engine, and that the period's start agrees everywhere in between.
fn asked(name: &str, period: Period, from_s: i64, to_s: i64) -> Vec<i64> {
    let zone = Zone::get(name).unwrap();
    let mut at_ms = from_s * 1_000;
    let mut boundaries = Vec::new();
    loop {
        let end_ms = zone.next_boundary(period, at_ms);
        assert!(end_ms > at_ms);
        assert_eq!(zone.next_boundary(period, end_ms - 1), end_ms);
        assert_eq!(zone.start_of(period, end_ms), end_ms);
        assert_eq!(
            zone.start_of(period, end_ms - 1),
            zone.start_of(period, at_ms)
        );
        if end_ms >= to_s * 1_000 {
            return boundaries;
        }
        boundaries.push(end_ms / 1_000);
        at_ms = end_ms;
    }
}

/// A second near one of the zone's clock changes between 1880 and 2100.
fn near_a_change() -> impl Strategy<Value = (&'static str, i64)> {
    (
        prop::sample::select(&ZONES[..]),
        -2_840_140_800_i64..4_102_444_800,
        -100_000_i64..100_000,
    )
        .prop_map(|(name, at_s, away_s)| {
            let stamp = jiff::Timestamp::from_second(at_s).unwrap();
            let change = Wall::of(name)
                .0
                .following(stamp)
                .next()
                .map(|t| t.timestamp());
            (
                name,
                change.map_or(at_s, jiff::Timestamp::as_second) + away_s,
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn minutes_and_hours_are_those_on_the_wall((name, at_s) in near_a_change()) {
        // Start away from a boundary of the walk: it sees none at its first second.
        let to_s = at_s + 20_000;
        for period in [Period::Minute, Period::Hour] {
            prop_assert_eq!(
                asked(name, period, at_s, to_s),
                walked(name, period, at_s, to_s, 1),
                "{} {}", name, at_s
            );
        }
    }

    #[test]
    fn days_are_those_on_the_wall((name, at_s) in near_a_change()) {
        // The walk needs two days to know which date is the latest.
        let from_s = at_s - 200_000;
        let to_s = at_s + 200_000;
        let mut seen = walked(name, Period::Day, from_s, to_s, 1);
        seen.retain(|second| *second > at_s);
        prop_assert_eq!(asked(name, Period::Day, at_s, to_s), seen, "{} {}", name, at_s);
    }

    #[test]
    fn months_are_those_on_the_wall((name, at_s) in near_a_change()) {
        // Since 1973 offsets are whole minutes.
        prop_assume!(at_s > 94_694_400);
        let from_s = (at_s - 200_000).div_euclid(60) * 60;
        let to_s = at_s + 70 * 86_400;
        let mut seen = walked(name, Period::Month, from_s, to_s, 60);
        seen.retain(|second| *second > at_s);
        prop_assert_eq!(asked(name, Period::Month, at_s, to_s), seen, "{} {}", name, at_s);
    }

    #[test]
    fn no_instant_is_too_far(at_ms: i64, name in prop::sample::select(&ZONES[..])) {
        let zone = Zone::get(name).unwrap();
        for period in [Period::Minute, Period::Hour, Period::Day, Period::Month] {
            let start_ms = zone.start_of(period, at_ms);
            let end_ms = zone.next_boundary(period, at_ms);
            prop_assert!(start_ms <= at_ms && at_ms < end_ms);
        }
    }
}

fn ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

#[test]
fn days_at_odd_clock_changes() {
    let day = |name: &str, at: &str| {
        let zone = Zone::get(name).unwrap();
        let at_ms = ms(at);
        let (start_ms, end_ms) = (
            zone.start_of(Period::Day, at_ms),
            zone.next_boundary(Period::Day, at_ms),
        );
        let start = jiff::Timestamp::from_millisecond(start_ms).unwrap();
        (start.to_string(), (end_ms - start_ms) / 60_000)
    };
    let case = |name, at, start: &str, minutes| {
        assert_eq!(day(name, at), (start.to_owned(), minutes), "{name} {at}");
    };
    // 04:00 - 24 h: half an hour is missing, or there twice.
    case(
        "Australia/Lord_Howe",
        "2024-10-06T00:00:00Z",
        "2024-10-05T13:30:00Z",
        23 * 60 + 30,
    );
    case(
        "Australia/Lord_Howe",
        "2024-04-07T00:00:00Z",
        "2024-04-06T13:00:00Z",
        24 * 60 + 30,
    );
    // No midnight: the day begins at one.
    case(
        "America/Sao_Paulo",
        "2018-11-04T12:00:00Z",
        "2018-11-04T03:00:00Z",
        23 * 60,
    );
    // Clocks go from midnight back to eleven: the second midnight is the only one that is reached.
    case(
        "America/Sao_Paulo",
        "2018-02-18T02:30:00Z",
        "2018-02-17T02:00:00Z",
        25 * 60,
    );
    // One minute after midnight back to one minute after eleven: the first midnight counts.
    case(
        "America/St_Johns",
        "2009-11-01T03:15:00Z",
        "2009-11-01T02:30:00Z",
        25 * 60,
    );
    // Samoa had no 30 December 2011.
    case(
        "Pacific/Apia",
        "2011-12-30T09:00:00Z",
        "2011-12-29T10:00:00Z",
        24 * 60,
    );
    case(
        "Pacific/Apia",
        "2011-12-30T10:00:00Z",
        "2011-12-30T10:00:00Z",
        24 * 60,
    );
    // Kathmandu was at +05:30 until 1986.
    case(
        "Asia/Kathmandu",
        "1985-12-31T12:00:00Z",
        "1985-12-30T18:30:00Z",
        24 * 60,
    );
    case(
        "Asia/Kathmandu",
        "1986-01-01T12:00:00Z",
        "1985-12-31T18:30:00Z",
        23 * 60 + 45,
    );
}

/// War time became peace time at half past eight in the evening: another name, the same clock.
#[test]
fn a_change_of_name_ends_no_hour() {
    let zone = Zone::get("America/St_Johns").unwrap();
    let change_ms = ms("1945-08-14T23:00:00Z");
    assert_eq!(
        zone.start_of(Period::Hour, change_ms),
        change_ms - 30 * 60_000
    );
    assert_eq!(
        zone.next_boundary(Period::Hour, change_ms - 1),
        change_ms + 30 * 60_000
    );
}

#[test]
fn the_ends_of_time() {
    let zone = Zone::get("Asia/Tokyo").unwrap();
    for period in [Period::Minute, Period::Hour, Period::Day, Period::Month] {
        assert_eq!(zone.start_of(period, i64::MIN), i64::MIN);
        assert_eq!(zone.next_boundary(period, i64::MAX), i64::MAX);
        assert!(zone.next_boundary(period, i64::MIN) < ms("-009998-01-01T00:00:00Z"));
        assert!(zone.start_of(period, i64::MAX) > ms("9999-11-01T00:00:00Z"));
    }
}
