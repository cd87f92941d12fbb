//! What the crate promises beyond the shared scenarios.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::time::Duration;

use millstream_aggregate::{
    Aggregate, Event, FieldSpec, Helper, Limits, Now, ReadError, Reason, ReduceError, Reducer,
    SnapshotError, Spec, SpecError, Value, WindowProblem, WindowSpec,
};
use millstream_core::{Millis, RawJsonRef};
use millstream_schedule::{Period, Zone};

const WALL: i64 = 1_718_452_800_000;

fn at(mono: u64, wall: i64) -> Now {
    Now {
        mono: Millis::from_millis(mono),
        wall_ms: WALL + wall,
    }
}

fn now(millis: u64) -> Now {
    at(millis, millis as i64)
}

fn event(aggregate: &mut Aggregate, now: Now, data: &str) {
    aggregate.handle_event(now, "e", RawJsonRef::parse_str(data).unwrap());
}

fn outputs(aggregate: &mut Aggregate) -> Vec<(String, Reason, String)> {
    let mut list = Vec::new();
    while let Some(output) = aggregate.poll_output() {
        list.push((
            output.window.to_owned(),
            output.reason,
            output.state.as_str().to_owned(),
        ));
    }
    list
}

fn states(aggregate: &mut Aggregate) -> Vec<String> {
    outputs(aggregate)
        .into_iter()
        .map(|(_, _, state)| state)
        .collect()
}

fn count() -> Spec {
    Spec::new().field(FieldSpec::count("n"))
}

fn minute() -> WindowSpec {
    WindowSpec::calendar("m", Period::Minute, Zone::utc())
}

/// Fails on odd numbers.
#[derive(Debug)]
struct Even;

impl Reducer for Even {
    type Input = u64;
    type State = u64;

    fn init(&self) -> u64 {
        0
    }

    fn read(&self, event: &Event<'_>) -> Result<Option<u64>, ReduceError> {
        let number = event.field("v").and_then(|v| v.as_u64());
        match number {
            Some(number) if number % 2 == 0 => Ok(Some(number)),
            _ => Err(ReduceError::Custom("odd".into())),
        }
    }

    fn reduce(&self, state: &mut u64, input: &u64) {
        *state += input;
    }

    fn value(&self, state: &u64) -> Value {
        Value::Number(*state as f64)
    }
}

#[test]
fn a_failing_reducer_leaves_its_field_and_all_others_alone() {
    let mut aggregate = Spec::new()
        .field(FieldSpec::typed("even", Even))
        .field(FieldSpec::typed("again", Even))
        .field(FieldSpec::count("n"))
        .window(WindowSpec::lifetime("a"))
        .window(WindowSpec::lifetime("b"))
        .build(now(0))
        .unwrap();
    for v in [2, 3, 4, 5, 5] {
        event(&mut aggregate, now(1), &format!(r#"{{"v":{v}}}"#));
    }
    let last = states(&mut aggregate).pop().unwrap();
    assert_eq!(last, r#"{"even":6,"again":6,"n":5}"#);
    assert_eq!(aggregate.stats().failed, 6);
    // One report per event, however many fields and windows.
    let reports: Vec<_> = core::iter::from_fn(|| aggregate.poll_failure()).collect();
    assert_eq!(reports.len(), 3);
    assert_eq!((&*reports[0].field, reports[0].others), ("even", 1));
    assert_eq!(reports[0].error, ReduceError::Custom("odd".into()));
}

#[test]
fn data_that_is_null_has_no_fields() {
    let spec = count()
        .field(FieldSpec::sum("s", "v"))
        .field(FieldSpec::merge("kv"));
    let mut aggregate = spec.build(now(0)).unwrap();
    event(&mut aggregate, now(1), "null");
    assert_eq!(states(&mut aggregate), [r#"{"n":1,"s":0,"kv":{}}"#]);
    assert_eq!(
        aggregate.poll_failure().unwrap().error,
        ReduceError::DataNull
    );
}

#[test]
fn a_computed_field_that_fails_shows_what_it_showed_before() {
    let spec = count().field(FieldSpec::compute("ok", |view| match view.number("n") {
        n if n > 1.0 => Err(ReduceError::Custom("too many".into())),
        n => Ok(Value::Number(n * 10.0)),
    }));
    let mut aggregate = spec
        .field(FieldSpec::double("twice", "ok"))
        .build(now(0))
        .unwrap();
    event(&mut aggregate, now(1), "{}");
    assert_eq!(states(&mut aggregate), [r#"{"n":1,"ok":10,"twice":20}"#]);
    event(&mut aggregate, now(1), "{}");
    assert_eq!(states(&mut aggregate), [r#"{"n":2,"ok":10,"twice":20}"#]);
    let failure = aggregate.poll_failure().unwrap();
    assert_eq!((&*failure.field, failure.others), ("ok", 0));
}

#[test]
fn sums_are_those_of_javascript() {
    let mut aggregate = Spec::new()
        .field(FieldSpec::sum("s", "v"))
        .build(now(0))
        .unwrap();
    for v in ["0.1", "0.2", "null", "true", "\"x\"", "1", "[1,2]"] {
        event(&mut aggregate, now(1), &format!(r#"{{"v":{v}}}"#));
    }
    assert_eq!(
        states(&mut aggregate),
        [
            r#"{"s":0.1}"#,
            r#"{"s":0.30000000000000004}"#,
            r#"{"s":0.30000000000000004}"#,
            r#"{"s":1.3}"#,
            r#"{"s":"1.3x"}"#,
            r#"{"s":"1.3x1"}"#,
            r#"{"s":"1.3x11,2"}"#,
        ]
    );
    let mut aggregate = Spec::new()
        .field(FieldSpec::sum("s", "v"))
        .build(now(0))
        .unwrap();
    event(&mut aggregate, now(1), "{}");
    event(&mut aggregate, now(1), r#"{"v":1}"#);
    assert_eq!(
        states(&mut aggregate),
        [r#"{"s":null}"#, r#"{"s":null}"#],
        "not a number for good"
    );
}

#[test]
fn extremes_skip_what_is_missing_and_compare_text() {
    let spec = Spec::new()
        .field(FieldSpec::max("hi", "v"))
        .field(FieldSpec::min("lo", "v"));
    let mut aggregate = spec.build(now(0)).unwrap();
    for data in [
        r"{}",
        r#"{"v":null}"#,
        r#"{"v":-3}"#,
        r#"{"v":null}"#,
        r#"{"v":-4.5}"#,
    ] {
        event(&mut aggregate, now(1), data);
    }
    assert_eq!(
        states(&mut aggregate).pop().unwrap(),
        r#"{"hi":-3,"lo":-4.5}"#
    );
    let mut aggregate = Spec::new()
        .field(FieldSpec::max("hi", "v"))
        .build(now(0))
        .unwrap();
    for v in ["2024-01-02", "2024-01-10", "2023-12-31"] {
        event(&mut aggregate, now(1), &format!(r#"{{"v":"{v}"}}"#));
    }
    assert_eq!(
        states(&mut aggregate).pop().unwrap(),
        r#"{"hi":"2024-01-10"}"#
    );
}

#[test]
fn keys_that_are_the_same_string_are_one_key() {
    let mut aggregate = Spec::new()
        .field(FieldSpec::counts("c", "k"))
        .build(now(0))
        .unwrap();
    for k in [
        r#""a""#,
        r#""\u0061""#,
        "1",
        "1.0",
        r#""1""#,
        r#""say \"hi\"""#,
        "null",
        "[1,[2]]",
        "{}",
    ] {
        event(&mut aggregate, now(1), &format!(r#"{{"k":{k}}}"#));
    }
    event(&mut aggregate, now(1), "{}");
    let last = states(&mut aggregate).pop().unwrap();
    let expected =
        r#"{"c":{"a":2,"1":3,"say \"hi\"":1,"null":1,"1,2":1,"[object Object]":1,"undefined":1}}"#;
    assert_eq!(last, expected);
}

#[test]
fn counts_in_their_text_are_those_in_the_map() {
    let mut aggregate = Spec::new()
        .field(FieldSpec::counts("c", "k"))
        .build(now(0))
        .unwrap();
    for at in 0..2_500_u32 {
        event(
            &mut aggregate,
            now(1),
            &format!(r#"{{"k":{}}}"#, at * at % 13),
        );
        if at % 7 == 0 {
            states(&mut aggregate);
        }
    }
    let shown = aggregate.read("").unwrap().as_str().to_owned();
    let snapshot = aggregate.snapshot();
    let saved = snapshot
        .get()
        .field("windows")
        .and_then(|w| w.field(""))
        .unwrap();
    assert_eq!(shown, saved.field("fields").unwrap().as_str());
}

#[test]
fn steady_events_cannot_put_a_debounced_output_off_for_ever() {
    let mut aggregate = count()
        .debounce(Duration::from_millis(100))
        .build(now(0))
        .unwrap();
    let mut shown = Vec::new();
    for millis in (10..2_500).step_by(10) {
        event(&mut aggregate, now(millis), "{}");
        shown.extend(
            states(&mut aggregate)
                .into_iter()
                .map(|state| (millis, state)),
        );
    }
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert_eq!(shown[0], (1_010, r#"{"n":100}"#.to_owned()));
    // And for ever, if that is wanted.
    let spec = count()
        .debounce(Duration::from_millis(100))
        .wait_max(Duration::MAX);
    let mut aggregate = spec.build(now(0)).unwrap();
    (1..500).for_each(|step| event(&mut aggregate, now(step * 10), "{}"));
    assert_eq!(states(&mut aggregate).len(), 0);
    assert_eq!(aggregate.next_deadline(), Some(Millis::from_millis(5_090)));
}

#[test]
fn a_late_timer_puts_out_once_and_finds_the_grid_again() {
    let spec = count().window(minute()).window(WindowSpec::sliding(
        "s",
        Duration::from_secs(30),
        Duration::from_secs(10),
    ));
    let mut aggregate = spec.build(now(0)).unwrap();
    event(&mut aggregate, now(1_000), "{}");
    outputs(&mut aggregate);
    aggregate.handle_timeout(now(3_600_000 * 24 * 365 + 5_000));
    let seen = outputs(&mut aggregate);
    assert_eq!(
        seen,
        [
            ("s".to_owned(), Reason::Slide, r#"{"n":0}"#.to_owned()),
            ("m".to_owned(), Reason::Closing, r#"{"n":1}"#.to_owned()),
        ]
    );
    assert_eq!(
        aggregate.next_deadline(),
        Some(Millis::from_millis(3_600_000 * 24 * 365 + 10_000))
    );
    assert!(aggregate.stats().periods_skipped > 3_000_000);
    aggregate.handle_timeout(now(u64::MAX >> 12));
    assert_eq!(outputs(&mut aggregate).len(), 2);
}

#[test]
fn the_end_of_time_is_survived() {
    let spec = count()
        .debounce(Duration::MAX)
        .window(WindowSpec::fixed("f", Duration::MAX))
        .window(WindowSpec::calendar("c", Period::Month, Zone::utc()))
        .window(WindowSpec::sliding("s", Duration::MAX, Duration::MAX));
    let mut aggregate = spec.build(Now::default()).unwrap();
    for wall_ms in [i64::MAX, i64::MIN, 0, i64::MAX - 1] {
        for mono in [Millis::MAX, Millis::ZERO] {
            let now = Now { mono, wall_ms };
            aggregate.handle_event(now, "e", RawJsonRef::NULL);
            aggregate.handle_timeout(now);
            outputs(&mut aggregate);
            let _ = aggregate.next_deadline();
        }
    }
    assert!(aggregate.stats().outputs < 64);
}

#[test]
fn time_that_stands_still_or_runs_back_counts_on() {
    let window = WindowSpec::sliding("s", Duration::from_secs(2), Duration::from_secs(1));
    let mut aggregate = count().window(window).build(now(5_000)).unwrap();
    event(&mut aggregate, now(5_500), "{}");
    event(&mut aggregate, now(10), "{}");
    event(&mut aggregate, now(5_500), "{}");
    assert_eq!(
        states(&mut aggregate),
        [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]
    );
    assert_eq!(aggregate.next_deadline(), Some(Millis::from_millis(6_000)));
}

#[test]
fn a_wall_clock_put_forwards_ends_the_window_and_one_put_back_a_little_does_not() {
    let mut aggregate = count().window(minute()).build(now(0)).unwrap();
    event(&mut aggregate, at(1_000, 1_000), "{}");
    outputs(&mut aggregate);
    // Forwards by two minutes: noticed with the next call.
    aggregate.handle_timeout(at(1_001, 121_001));
    assert_eq!(states(&mut aggregate), [r#"{"n":1}"#]);
    // Back by twenty milliseconds, before the start of the window: nothing ends twice.
    event(&mut aggregate, at(1_002, 119_990), "{}");
    aggregate.handle_timeout(at(1_003, 120_010));
    assert_eq!(states(&mut aggregate), [r#"{"n":1}"#]);
    // Back by a year: the window goes on and ends with the minute the clock shows now.
    aggregate.handle_timeout(at(1_004, -31_536_000_000));
    assert_eq!(aggregate.stats().clock_backs, 1);
    assert_eq!(aggregate.next_deadline(), Some(Millis::from_millis(61_004)));
    aggregate.handle_timeout(at(61_004, -31_536_000_000 + 60_000));
    assert_eq!(states(&mut aggregate), [r#"{"n":1}"#]);
}

#[test]
fn a_distant_boundary_is_looked_at_every_minute_in_case_the_clock_was_set() {
    let window = WindowSpec::calendar("m", Period::Month, Zone::utc());
    let mut aggregate = count().window(window.clone()).build(now(0)).unwrap();
    assert_eq!(aggregate.next_deadline(), Some(Millis::from_millis(60_000)));
    aggregate.handle_timeout(now(60_000));
    assert_eq!(outputs(&mut aggregate).len(), 0);
    assert_eq!(
        aggregate.next_deadline(),
        Some(Millis::from_millis(120_000))
    );
    let aggregate = count()
        .window(window)
        .clock_check(None)
        .build(now(0))
        .unwrap();
    assert_eq!(
        aggregate.next_deadline(),
        Some(Millis::from_millis(1_339_200_000))
    );
}

#[test]
fn thirteen_months_of_months_in_four_zones() {
    let mut spec = count().clock_check(None);
    let zones = [
        "UTC",
        "America/New_York",
        "Asia/Kolkata",
        "Australia/Lord_Howe",
    ];
    for (at, zone) in zones.iter().enumerate() {
        let zone = Zone::get(zone).unwrap();
        spec = spec.window(WindowSpec::calendar(&format!("w{at}"), Period::Month, zone));
    }
    let mut aggregate = spec.build(now(0)).unwrap();
    let end = 3_600_000 * 24 * (30 + 365);
    let mut closings = 0;
    while let Some(due) = aggregate
        .next_deadline()
        .filter(|due| due.as_millis() <= end)
    {
        aggregate.handle_timeout(now(due.as_millis()));
        closings += outputs(&mut aggregate).len();
    }
    assert_eq!(closings, 4 * 13);
}

#[test]
fn the_fresh_state_is_shown_if_wanted() {
    let mut aggregate = count()
        .window(minute())
        .publish_reset(true)
        .build(now(0))
        .unwrap();
    event(&mut aggregate, now(1), "{}");
    aggregate.handle_timeout(now(60_000));
    let reasons: Vec<_> = outputs(&mut aggregate)
        .into_iter()
        .map(|(_, r, s)| (r, s))
        .collect();
    assert_eq!(
        reasons,
        [
            (Reason::Update, r#"{"n":1}"#.to_owned()),
            (Reason::Closing, r#"{"n":1}"#.to_owned()),
            (Reason::Reset, r#"{"n":0}"#.to_owned()),
        ]
    );
}

#[test]
fn outputs_that_nobody_polls_are_the_newest_and_say_what_was_true_then() {
    let limits = Limits {
        outputs_max: 3,
        failures_max: 2,
        ..Limits::default()
    };
    let spec = count().field(FieldSpec::typed("even", Even)).limits(limits);
    let mut aggregate = spec.build(now(0)).unwrap();
    (0..10).for_each(|_| event(&mut aggregate, now(1), "{}"));
    let expected = [8, 9, 10].map(|n| format!(r#"{{"n":{n},"even":0}}"#));
    assert_eq!(aggregate.peek_output(), Some(("", Reason::Update)));
    assert_eq!(states(&mut aggregate), expected);
    assert_eq!(core::iter::from_fn(|| aggregate.poll_failure()).count(), 2);
    let stats = aggregate.stats();
    assert_eq!((stats.outputs_dropped, stats.failures_dropped), (7, 8));
    assert!(!aggregate.discard_output());
}

#[test]
fn a_full_map_refuses_new_keys_and_counts_the_old_ones() {
    let limits = Limits {
        keys_max: 2,
        field_bytes_max: 40,
        items_max: 2,
        ..Limits::default()
    };
    let spec = Spec::new()
        .field(FieldSpec::counts("c", "k"))
        .field(FieldSpec::append("l", "k"))
        .field(FieldSpec::merge("m"))
        .field(FieldSpec::last("t", "k"))
        .limits(limits);
    let sliding = WindowSpec::sliding("s", Duration::from_secs(2), Duration::from_secs(1));
    let mut aggregate = spec.build(now(0)).unwrap();
    for k in ["a", "b", "c", "a"] {
        event(&mut aggregate, now(1), &format!(r#"{{"k":"{k}"}}"#));
    }
    let long = "x".repeat(50);
    event(&mut aggregate, now(1), &format!(r#"{{"k":"{long}"}}"#));
    event(&mut aggregate, now(1), r#"{"x":1,"y":2}"#);
    let last = states(&mut aggregate).pop().unwrap();
    assert_eq!(last, r#"{"c":{"a":2,"b":1},"l":["a","b"],"m":{"k":"a"}}"#);
    assert!(aggregate.stats().failed >= 8);
    // In a sliding window there is room again when old hops go.
    let limits = Limits {
        keys_max: 1,
        ..Limits::default()
    };
    let spec = Spec::new()
        .field(FieldSpec::counts("c", "k"))
        .window(sliding)
        .limits(limits);
    let mut aggregate = spec.build(now(0)).unwrap();
    event(&mut aggregate, now(1), r#"{"k":"a"}"#);
    event(&mut aggregate, now(1), r#"{"k":"b"}"#);
    event(&mut aggregate, now(2_001), r#"{"k":"b"}"#);
    assert_eq!(states(&mut aggregate).pop().unwrap(), r#"{"c":{"b":1}}"#);
}

#[test]
fn a_million_keys_and_a_key_of_a_megabyte_stay_within_the_limits() {
    let mut aggregate = Spec::new()
        .field(FieldSpec::counts("c", "k"))
        .build(now(0))
        .unwrap();
    for k in 0..1_000_000 {
        event(&mut aggregate, now(1), &format!(r#"{{"k":{k}}}"#));
        aggregate.discard_output();
        aggregate.poll_failure();
    }
    event(
        &mut aggregate,
        now(1),
        &format!(r#"{{"k":"{}"}}"#, "x".repeat(1 << 20)),
    );
    assert_eq!(aggregate.stats().failed, 1_000_000 - 10_000 + 1);
    assert!(aggregate.state_bytes() < 2 * 1024 * 1024);
}

#[test]
fn other_ways_to_combine() {
    let window = WindowSpec::sliding("s", Duration::from_secs(3), Duration::from_secs(1));
    let spec = Spec::new()
        .field(FieldSpec::last("last", "v").combine(Helper::Max))
        .field(FieldSpec::last("sum", "v").combine(Helper::Sum))
        .field(FieldSpec::last("kv", "o").combine(Helper::Merge))
        .field(FieldSpec::last("per", "o").combine(Helper::Counts))
        .field(FieldSpec::constant("three", Value::Number(1.0)).combine(Helper::Sum))
        .field(FieldSpec::counts("m", "v").combine(Helper::Merge))
        .field(FieldSpec::merge("c").combine(Helper::Counts))
        .window(window);
    let mut aggregate = spec.build(now(0)).unwrap();
    event(&mut aggregate, now(1), r#"{"v":7,"o":{"a":1}}"#);
    event(&mut aggregate, now(1_001), r#"{"v":5,"o":{"a":2,"b":1}}"#);
    event(&mut aggregate, now(1_002), r#"{"v":5,"o":{"a":3}}"#);
    let last = states(&mut aggregate).pop().unwrap();
    assert_eq!(
        last,
        [
            r#"{"last":7,"sum":12,"kv":{"a":3},"per":{"a":4},"three":3,"#,
            r#""m":{"7":1,"5":2},"c":{"v":12,"o":null}}"#,
        ]
        .concat()
    );
}

#[test]
fn an_average_slides() {
    let window = WindowSpec::sliding("s", Duration::from_secs(2), Duration::from_secs(1));
    let spec = Spec::new()
        .field(FieldSpec::average("mean", "v"))
        .window(window);
    let mut aggregate = spec.build(now(0)).unwrap();
    for (millis, v) in [
        (1, "4"),
        (1_001, "8"),
        (2_001, "10"),
        (2_002, "\"no number\""),
    ] {
        event(&mut aggregate, now(millis), &format!(r#"{{"v":{v}}}"#));
    }
    aggregate.handle_timeout(now(9_000));
    let seen: Vec<_> = states(&mut aggregate);
    assert_eq!(
        seen,
        ["4", "4", "6", "8", "9", "9", "0"].map(|mean| format!(r#"{{"mean":{mean}}}"#))
    );
}

#[test]
fn nested_paths_and_large_numbers_pass_through() {
    let spec = Spec::new()
        .field(FieldSpec::sum("s", "").nested(&["user", "age"]))
        .field(FieldSpec::last("id", "id"));
    let mut aggregate = spec.build(now(0)).unwrap();
    event(
        &mut aggregate,
        now(1),
        r#"{"user":{"age":30,"age":41},"id":9007199254740993}"#,
    );
    assert_eq!(
        states(&mut aggregate),
        [r#"{"s":41,"id":9007199254740993}"#]
    );
    event(&mut aggregate, now(1), r#"{"user":5}"#);
    assert_eq!(states(&mut aggregate), [r#"{"s":null}"#]);
}

#[test]
fn too_many_held_events_give_the_snapshot_up() {
    let limits = Limits {
        held_events_max: 3,
        ..Limits::default()
    };
    let mut aggregate = count().limits(limits).build(now(0)).unwrap();
    aggregate.await_snapshot("").unwrap();
    (0..3).for_each(|_| event(&mut aggregate, now(1), "{}"));
    assert_eq!(aggregate.read(""), Err(ReadError::Hydrating));
    assert_eq!(states(&mut aggregate).len(), 0);
    event(&mut aggregate, now(1), "{}");
    assert_eq!(states(&mut aggregate), [r#"{"n":4}"#]);
    assert_eq!(aggregate.stats().snapshots_abandoned, 1);
    let json = RawJsonRef::parse_str("{}").unwrap();
    assert_eq!(
        aggregate.hydrate(now(2), "", json),
        Err(SnapshotError::Late)
    );
}

#[test]
fn a_snapshot_that_never_comes_is_abandoned() {
    let mut aggregate = count().build(now(0)).unwrap();
    aggregate.await_snapshot("").unwrap();
    event(&mut aggregate, now(1), "{}");
    aggregate.abandon(now(2), "");
    aggregate.abandon(now(2), "");
    assert_eq!(states(&mut aggregate), [r#"{"n":1}"#]);
    let late = RawJsonRef::parse_str(r#"{"n":9}"#).unwrap();
    assert_eq!(
        aggregate.hydrate(now(3), "", late),
        Err(SnapshotError::Late)
    );
    assert_eq!(aggregate.read("").unwrap().as_str(), r#"{"n":1}"#);
    let mut aggregate = count().build(now(0)).unwrap();
    aggregate.await_snapshot("").unwrap();
    event(&mut aggregate, now(1), "{}");
    let list = RawJsonRef::parse_str("[1]").unwrap();
    assert_eq!(
        aggregate.hydrate(now(2), "", list),
        Err(SnapshotError::NotAnObject)
    );
    assert_eq!(states(&mut aggregate), [r#"{"n":1}"#]);
}

#[test]
fn a_boundary_while_a_snapshot_loads_discards_it() {
    let spec = count().window(minute()).window(WindowSpec::lifetime("all"));
    let mut aggregate = spec.build(now(0)).unwrap();
    aggregate.await_snapshot("m").unwrap();
    aggregate.await_snapshot("all").unwrap();
    event(&mut aggregate, now(1), "{}");
    event(&mut aggregate, now(60_000), "{}");
    let json = RawJsonRef::parse_str(r#"{"n":100}"#).unwrap();
    assert_eq!(
        aggregate.hydrate(now(60_001), "m", json),
        Err(SnapshotError::Late)
    );
    assert_eq!(aggregate.hydrate(now(60_001), "all", json), Ok(()));
    let seen: Vec<_> = outputs(&mut aggregate)
        .into_iter()
        .map(|(w, _, s)| w + &s)
        .collect();
    assert_eq!(seen, [r#"m{"n":1}"#, r#"m{"n":1}"#, r#"all{"n":102}"#]);
}

#[test]
fn snapshots_are_checked() {
    let spec = || {
        let limits = Limits {
            snapshot_bytes_max: 200,
            reducers_max: 2,
            ..Limits::default()
        };
        count()
            .field(FieldSpec::counts("c", "k"))
            .limits(limits)
            .build(now(0))
            .unwrap()
    };
    let take = |text: &str| {
        let mut aggregate = spec();
        let json = RawJsonRef::parse_str(text).unwrap();
        let result = aggregate.hydrate(now(1), "", json);
        (result, aggregate.read("").unwrap().as_str().to_owned())
    };
    let start = r#"{"n":0,"c":{}}"#.to_owned();
    let refused = |fields: &[&str]| {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Err(SnapshotError::Fields { fields })
    };
    assert_eq!(
        take(r#"{"n":[1],"c":{"a":"b"}}"#),
        (refused(&["n", "c"]), start.clone())
    );
    assert_eq!(
        take(r#"{"n":{},"c":{"a":2}}"#),
        (refused(&["n"]), r#"{"n":0,"c":{"a":2}}"#.into())
    );
    assert_eq!(
        take(r#"{"x":1,"y":2,"z":3,"x":4}"#),
        (refused(&["z"]), r#"{"n":0,"c":{},"x":4,"y":2}"#.into())
    );
    assert_eq!(
        take(r#"{"__proto__":1,"constructor":1,"prototype":1}"#),
        (Ok(()), start.clone())
    );
    let large = format!(r#"{{"n":"{}"}}"#, "x".repeat(200));
    let too_large = SnapshotError::TooLarge {
        bytes: 208,
        max: 200,
    };
    assert_eq!(take(&large), (Err(too_large), start));

    let mut aggregate = spec();
    for (text, error) in [
        ("[]", SnapshotError::NotAnObject),
        (
            "{}",
            SnapshotError::Version {
                got: "missing".into(),
            },
        ),
        (
            r#"{"version":2}"#,
            SnapshotError::Version { got: "2".into() },
        ),
    ] {
        let json = RawJsonRef::parse_str(text).unwrap();
        assert_eq!(aggregate.restore(now(1), json), Err(error.clone()));
        assert_eq!(aggregate.absorb(now(1), json), Err(error));
    }
    let json = RawJsonRef::parse_str(r#"{"version":1,"windows":{"":{"fields":{"n":7}},"w":{}}}"#);
    assert_eq!(aggregate.absorb(now(1), json.unwrap()), Ok(()));
    assert_eq!(aggregate.absorb(now(1), json.unwrap()), Ok(()));
    assert_eq!(aggregate.read("").unwrap().as_str(), r#"{"n":14,"c":{}}"#);
}

#[test]
fn a_snapshot_of_an_ended_window_is_passed_over() {
    let spec = || count().window(minute()).window(WindowSpec::lifetime("all"));
    let mut before = spec().build(now(0)).unwrap();
    event(&mut before, now(1), "{}");
    let snapshot = before.snapshot();
    let mut after = spec().build(now(60_000)).unwrap();
    assert_eq!(after.restore(now(60_000), snapshot.get()), Ok(()));
    assert_eq!(after.read("m").unwrap().as_str(), r#"{"n":0}"#);
    assert_eq!(after.read("all").unwrap().as_str(), r#"{"n":1}"#);
    assert_eq!(after.read(""), Err(ReadError::NoWindow));
}

#[test]
fn declarations_that_make_no_sense_are_refused() {
    let refused = |spec: Spec| spec.build(now(0)).unwrap_err().to_string();
    assert_eq!(
        refused(count().field(FieldSpec::count("n"))),
        "field name \"n\" is used twice"
    );
    assert_eq!(
        refused(Spec::new().field(FieldSpec::count(""))),
        "field name \"\" is empty"
    );
    let windows = count()
        .window(WindowSpec::lifetime("a"))
        .window(WindowSpec::lifetime("a"));
    assert_eq!(refused(windows), "window name \"a\" is used twice");
    let many = (0..65).fold(Spec::new(), |spec, at| {
        spec.field(FieldSpec::count(&format!("f{at}")))
    });
    assert_eq!(refused(many), "too many reducers: 65, the limit is 64");
    let typed = Spec::new()
        .field(FieldSpec::typed("even", Even))
        .window(WindowSpec::sliding(
            "s",
            Duration::from_secs(2),
            Duration::from_secs(1),
        ));
    assert!(matches!(
        typed.build(now(0)),
        Err(SpecError::Window {
            problem: WindowProblem::Combine { .. },
            ..
        })
    ));
    for (json, mention) in [
        ("[]", "object"),
        (r#"{"reducers":1}"#, "reducers"),
        (r#"{"reducers":[{"kind":"count"}]}"#, "field"),
        (r#"{"reducers":[{"field":"x","kind":"median"}]}"#, "median"),
        (r#"{"reducers":[{"field":"x","kind":"sum"}]}"#, "path"),
        (
            r#"{"reducers":[{"field":"x","kind":"count","on":"a"}]}"#,
            "on must",
        ),
        (
            r#"{"reducers":[{"field":"x","kind":"count","combine":"avg"}]}"#,
            "combine",
        ),
        (r#"{"reducers":[],"debounceMs":1.5}"#, "debounceMs"),
        (
            r#"{"reducers":[],"snapshots":{"windows":{"w":{}}}}"#,
            "\"w\"",
        ),
        (r#"{"windows":[{"type":"lifetime"}]}"#, "name"),
        (
            r#"{"windows":[{"name":"w","type":"tumbling","durationMs":1e300}]}"#,
            "1e300",
        ),
    ] {
        let error = Spec::from_json(RawJsonRef::parse_str(json).unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains(mention), "{error:?} without {mention:?}");
    }
}
