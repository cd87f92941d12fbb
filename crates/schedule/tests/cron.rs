//! Expressions against a naive reading of them, around clock changes and far from any.

#![allow(clippy::unwrap_used, reason = "tests")]

use millstream_schedule::{Cron, CronError, Field, Problem, SEARCH_YEARS_MAX, Schedule, Zone};
use proptest::prelude::*;

#[path = "support/model.rs"]
mod model;
use model::Model;

const ZONES: [&str; 16] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/Asuncion",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Antarctica/Troll",
];

fn part(min: u32, max: u32) -> impl Strategy<Value = String> {
    let two = (min..=max, min..=max);
    prop_oneof![
        3 => (min..=max).prop_map(|n| n.to_string()),
        2 => (1..=max + 2).prop_map(|n| format!("*/{n}")),
        2 => two.clone().prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (two, 1..=max).prop_map(|((a, b), n)| format!("{}-{}/{n}", a.min(b), a.max(b))),
    ]
}

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        3 => part(min, max),
        1 => prop::collection::vec(part(min, max), 1..4).prop_map(|parts| parts.join(",")),
    ]
}

fn five() -> impl Strategy<Value = String> {
    // Days and months are mostly left open, so that something matches.
    let day = prop_oneof![4 => Just("*".to_owned()), 1 => field(1, 31)];
    let month = prop_oneof![4 => Just("*".to_owned()), 1 => field(1, 12)];
    let weekday = prop_oneof![2 => Just("*".to_owned()), 1 => field(0, 7)];
    (field(0, 59), field(0, 23), day, month, weekday)
        .prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}"))
}

/// A zone and a second near one of its clock changes between 1900 and 2100.
fn near_a_change() -> impl Strategy<Value = (Zone, i64)> {
    (
        prop::sample::select(&ZONES[..]),
        -2_208_988_800_i64..4_102_444_800,
    )
        .prop_map(|(name, at_s)| {
            let tz = jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap();
            let stamp = jiff::Timestamp::from_second(at_s).unwrap();
            let change = tz.following(stamp).next();
            let at_s = change.map_or(at_s, |change| change.timestamp().as_second());
            (Zone::get(name).unwrap(), at_s)
        })
}

/// The seconds of `from_s..=to_s`, in steps, at which the model says yes.
fn looked_up(model: &Model, zone: &Zone, from_s: i64, to_s: i64, step: usize) -> Vec<i64> {
    (from_s..=to_s)
        .step_by(step)
        .filter(|at_s| model.matches(at_s + i64::from(zone.offset_at(at_s * 1_000))))
        .collect()
}

/// The seconds after `from_s` and up to `to_s` that the engine names one after another.
fn named(schedule: &Schedule, from_s: i64, to_s: i64) -> Vec<i64> {
    let mut all = Vec::new();
    let mut at_ms = from_s * 1_000;
    while let Some(next_ms) = schedule.next_after(at_ms).filter(|ms| *ms <= to_s * 1_000) {
        assert!(next_ms > at_ms && next_ms % 1_000 == 0);
        assert!(schedule.matches(next_ms) && schedule.matches(next_ms + 999));
        assert!(schedule.matches_minute(next_ms));
        at_ms = next_ms;
        all.push(next_ms / 1_000);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn minutes_around_clock_changes(text in five(), (zone, change_s) in near_a_change()) {
        let model = Model::read(&text).unwrap();
        let schedule = Schedule::parse(&text, zone.clone()).unwrap();
        let (from_s, to_s) = (change_s - 8_000, change_s + 8_000);
        let want = looked_up(&model, &zone, from_s + 1, to_s, 1);
        prop_assert_eq!(named(&schedule, from_s, to_s), want);
        // Two days, minute by minute; offsets are whole minutes since 1973.
        let from_s = change_s.max(94_694_400).div_euclid(60) * 60 - 86_400;
        let to_s = from_s + 172_800;
        let want = looked_up(&model, &zone, from_s + 60, to_s, 60);
        prop_assert_eq!(named(&schedule, from_s, to_s), want);
        for at_s in (from_s..to_s).step_by(977) {
            let local_s = at_s + i64::from(zone.offset_at(at_s * 1_000));
            prop_assert_eq!(schedule.matches(at_s * 1_000), model.matches(local_s));
            let minute_s = local_s.div_euclid(60) * 60;
            prop_assert_eq!(schedule.matches_minute(at_s * 1_000), model.matches(minute_s));
        }
    }

    #[test]
    fn seconds_around_clock_changes(
        seconds in field(0, 59),
        text in five(),
        (zone, change_s) in near_a_change(),
        away_s in -4_000_i64..4_000,
    ) {
        let text = format!("{seconds} {text}");
        let model = Model::read(&text).unwrap();
        let schedule = Schedule::parse(&text, zone.clone()).unwrap();
        let (from_s, to_s) = (change_s + away_s, change_s + away_s + 5_000);
        let want = looked_up(&model, &zone, from_s + 1, to_s, 1);
        prop_assert_eq!(named(&schedule, from_s, to_s), want);
    }

    #[test]
    fn what_is_read_and_what_is_refused(
        word in r"(\*(/[0-9]{0,2})?|[0-9*/,\-]{0,5}[0-9]|[0-9]-[0-9]+(/[0-9])?|[0-9a-z#+.]{1,3})",
        place in 0..6_usize,
        count in 4..8_usize,
        odd in "[ \\t\u{a0}\u{feff}\u{85}]",
    ) {
        let word_at = |n| if n == place { word.as_str() } else { "*" };
        let text = (0..count).map(word_at).collect::<Vec<_>>().join(&odd);
        let ours = text.parse::<Cron>();
        prop_assert_eq!(ours.is_ok(), Model::read(&text).is_some(), "{:?} {:?}", text, ours);
    }

    #[test]
    fn no_text_is_too_strange(text: String, at_ms: i64) {
        let ours = text.parse::<Cron>();
        prop_assert_eq!(ours.is_ok(), Model::read(&text).is_some());
        if let Ok(cron) = ours {
            let next_ms = Schedule::new(cron, Zone::utc()).next_after(at_ms);
            prop_assert!(next_ms.is_none_or(|next_ms| next_ms > at_ms));
        }
    }

    #[test]
    fn dates_far_away(
        day in field(1, 31),
        month in field(1, 12),
        weekday in field(0, 7),
        from_day in -200_000_i64..200_000,
    ) {
        let text = format!("0 12 {day} {month} {weekday}");
        let model = Model::read(&text).unwrap();
        let schedule = Schedule::parse(&text, Zone::utc()).unwrap();
        let noon = |day: i64| day * 86_400 + 43_200;
        let want = (from_day + 1..from_day + 41 * 366)
            .map(noon)
            .find(|local_s| model.matches(*local_s));
        let got = schedule.next_after(noon(from_day) * 1_000);
        prop_assert_eq!(got, want.map(|at_s| at_s * 1_000));
        prop_assert_eq!(got.is_none(), schedule.cron().is_never());
    }
}

fn ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn next(text: &str, zone: &str, after: &str) -> Option<String> {
    let schedule = Schedule::parse(text, Zone::get(zone).unwrap()).unwrap();
    let next_ms = schedule.next_after(ms(after))?;
    Some(
        jiff::Timestamp::from_millisecond(next_ms)
            .unwrap()
            .to_string(),
    )
}

/// Expression, zone, instant, next instant.
#[rustfmt::skip]
const KNOWN: [[&str; 4]; 14] = [
    // Strictly after, and to the second.
    ["* * * * *", "UTC", "2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"],
    ["* * * * *", "UTC", "2023-12-31T23:59:59.999Z", "2024-01-01T00:00:00Z"],
    ["* * * * * *", "UTC", "2024-01-01T00:00:00.001Z", "2024-01-01T00:00:01Z"],
    // Leap days, over a century without one, and on a Monday.
    ["0 0 29 2 *", "UTC", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"],
    ["0 0 29 2 *", "UTC", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"],
    ["0 0 29 2 1", "UTC", "2072-02-29T00:00:00Z", "2112-02-29T00:00:00Z"],
    // No midnight in Beirut, none in Sao Paulo; no 30 December in Samoa.
    ["0 0 * * *", "Asia/Beirut", "2024-03-30T12:00:00Z", "2024-03-31T21:00:00Z"],
    ["0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-05T02:00:00Z"],
    ["0 12 30 12 *", "Pacific/Apia", "2011-01-01T00:00:00Z", "2012-12-29T22:00:00Z"],
    // Half an hour twice in Lord Howe.
    ["45 1 * * *", "Australia/Lord_Howe", "2024-04-06T14:00:00Z", "2024-04-06T14:45:00Z"],
    ["45 1 * * *", "Australia/Lord_Howe", "2024-04-06T14:45:00Z", "2024-04-06T15:15:00Z"],
    // Midnight twice in Havana: clocks go from one back to zero.
    ["0 0 * * *", "America/Havana", "2024-11-03T03:00:00Z", "2024-11-03T04:00:00Z"],
    ["0 0 * * *", "America/Havana", "2024-11-03T04:00:00Z", "2024-11-03T05:00:00Z"],
    ["45 5 * * *", "Asia/Kathmandu", "2024-01-14T00:00:00Z", "2024-01-15T00:00:00Z"],
];

#[test]
fn known_instants() {
    for [text, zone, after, want] in KNOWN {
        let got = next(text, zone, after);
        assert_eq!(got.as_deref(), Some(want), "{text} {zone} {after}");
    }
}

#[test]
fn what_never_comes_ends_the_search() {
    for text in [
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 */40 * *",
        "0 0 1 */13 *",
    ] {
        assert_eq!(next(text, "UTC", "2024-01-01T00:00:00Z"), None, "{text}");
        assert!(text.parse::<Cron>().unwrap().is_never());
    }
    // The second Sunday of March has no half past two in New York, since 2007 and for ever.
    let skipped = "30 2 8-14 3 0";
    assert!(!skipped.parse::<Cron>().unwrap().is_never());
    assert_eq!(
        next(skipped, "America/New_York", "2007-01-01T00:00:00Z"),
        None
    );
    assert!(next(skipped, "America/New_York", "2006-01-01T00:00:00Z").is_some());
    // The end of time, and how far the search goes.
    let yearly = Schedule::parse("0 0 1 1 *", Zone::utc()).unwrap();
    assert_eq!(yearly.next_after(ms("9999-06-01T00:00:00Z")), None);
    assert_eq!(yearly.next_after(i64::MAX), None);
    assert!(yearly.next_after(i64::MIN).is_some());
    assert!(!yearly.matches(i64::MIN) && !yearly.matches_minute(i64::MAX));
    const { assert!(SEARCH_YEARS_MAX > 40) };
}

#[test]
fn refusals_name_the_place_and_the_reason() {
    let case =
        |text: &str, want: (Field, usize, &str, Problem)| match text.parse::<Cron>().unwrap_err() {
            CronError::Field {
                field,
                at,
                text: part,
                problem,
                ..
            } => {
                assert_eq!((field, at, &*part, problem), want, "{text:?}");
            }
            other => panic!("{text:?}: {other:?}"),
        };
    case("60 * * * *", (Field::Minute, 0, "60", Problem::OutOfRange));
    case(
        "60 * * * * *",
        (Field::Second, 0, "60", Problem::OutOfRange),
    );
    case("  1,2,,3 * * * *", (Field::Minute, 6, "", Problem::Empty));
    case(
        "* 1-5,9-7 * * *",
        (Field::Hour, 6, "9-7", Problem::Backwards),
    );
    case("* * *,5 * *", (Field::Day, 4, "*", Problem::StarInList));
    case("* * * JAN *", (Field::Month, 6, "JAN", Problem::NotANumber));
    case("* * * * 5L", (Field::Weekday, 8, "5L", Problem::NotANumber));
    case(
        "5/15 * * * *",
        (Field::Minute, 0, "5/15", Problem::StepOfOne),
    );
    case("*/0 * * * *", (Field::Minute, 0, "*/0", Problem::ZeroStep));
    case(
        "1-9/0 * * * *",
        (Field::Minute, 0, "1-9/0", Problem::ZeroStep),
    );
    case(
        "99999999999999999999999 * * * *",
        (
            Field::Minute,
            0,
            "99999999999999999999999",
            Problem::OutOfRange,
        ),
    );
    for (text, got) in [
        ("", 0),
        (" \t ", 0),
        ("@daily", 1),
        ("* * * *", 4),
        ("* * * * * * *", 7),
    ] {
        assert_eq!(text.parse::<Cron>(), Err(CronError::FieldCount { got }));
    }
    let text = format!("{} * * * *", "x".repeat(1_000_000));
    assert!(text.parse::<Cron>().unwrap_err().to_string().len() < 200);
}
