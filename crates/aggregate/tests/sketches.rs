//! Sketches keep their error bounds, combine, slide, and survive snapshots.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::time::Duration;

use millstream_aggregate::{
    Aggregate, Combine, Distinct, FieldSpec, Now, Quantiles, Reducer, Spec, TopK, Value, WindowSpec,
};
use millstream_core::{Millis, RawJsonRef};

fn now(millis: u64) -> Now {
    Now {
        mono: Millis::from_millis(millis),
        wall_ms: millis as i64,
    }
}

fn feed(aggregate: &mut Aggregate, at: u64, data: &str) {
    let data = RawJsonRef::parse_str(data).unwrap();
    aggregate.handle_event(now(at), "e", data);
    while aggregate.discard_output() {}
}

fn number(aggregate: &mut Aggregate, window: &str, field: &str) -> f64 {
    let state = aggregate.read(window).unwrap();
    state.field(field).unwrap().as_f64().unwrap()
}

/// A permutation of the numbers below 2^32: the same on every run.
fn scatter(at: u32) -> u32 {
    at.wrapping_mul(2_654_435_761).rotate_left(7) ^ 0x5bd1_e995
}

#[test]
fn distinct_counts_are_within_four_standard_errors() {
    for precision in [8, 12, 14] {
        let field = FieldSpec::combining("n", Distinct::of("id").precision(precision));
        let mut aggregate = Spec::new().field(field).build(now(0)).unwrap();
        let error = 1.04 / f64::from(1_u32 << precision).sqrt();
        let mut checked = 0;
        for at in 0..100_000_u32 {
            feed(
                &mut aggregate,
                1,
                &format!(r#"{{"id":"user-{}"}}"#, scatter(at)),
            );
            // Seen again: no difference.
            if at % 3 == 0 {
                feed(
                    &mut aggregate,
                    1,
                    &format!(r#"{{"id":"user-{}"}}"#, scatter(at / 2)),
                );
            }
            if [9, 99, 999, 9_999, 99_999].contains(&at) {
                let (estimate, exact) = (number(&mut aggregate, "", "n"), f64::from(at + 1));
                let off = (estimate - exact).abs() / exact;
                assert!(
                    off <= 4.0 * error,
                    "{estimate} of {exact} with precision {precision}"
                );
                checked += 1;
            }
        }
        assert_eq!(checked, 5);
    }
}

#[test]
fn distinct_counts_of_nothing_and_one_are_exact() {
    let mut aggregate = Spec::new()
        .field(FieldSpec::distinct("n", "id"))
        .build(now(0))
        .unwrap();
    assert!(number(&mut aggregate, "", "n").abs() < f64::EPSILON);
    feed(&mut aggregate, 1, "{}");
    assert!(
        number(&mut aggregate, "", "n").abs() < f64::EPSILON,
        "a missing field is no value"
    );
    feed(&mut aggregate, 1, r#"{"id":1}"#);
    feed(&mut aggregate, 1, r#"{"id":"1"}"#);
    assert!((number(&mut aggregate, "", "n") - 1.0).abs() < f64::EPSILON);
}

#[test]
fn quantiles_are_within_their_relative_error() {
    for accuracy in [0.01, 0.05] {
        let ranks = [0.0, 0.1, 0.5, 0.9, 0.99, 1.0];
        let sketch = Quantiles::of("v").quantiles(&ranks).accuracy(accuracy);
        let mut aggregate = Spec::new()
            .field(FieldSpec::combining("q", sketch))
            .build(now(0))
            .unwrap();
        let mut values: Vec<f64> = (0..20_000)
            .map(|at| (f64::from(scatter(at) % 2_000_003) - 500_000.0) / 7.0)
            .collect();
        for value in &values {
            feed(&mut aggregate, 1, &format!(r#"{{"v":{value}}}"#));
        }
        values.sort_by(f64::total_cmp);
        let state = aggregate.read("").unwrap();
        let q = state.field("q").unwrap();
        for (rank, name) in ranks.iter().zip(["p0", "p10", "p50", "p90", "p99", "p100"]) {
            let exact = values[(rank * 19_999.0) as usize];
            let got = q.field(name).unwrap().as_f64().unwrap();
            let off = (got - exact).abs() / exact.abs();
            assert!(off <= accuracy * 1.001, "{name}: {got} instead of {exact}");
        }
        assert_eq!(q.field("count").unwrap().as_u64(), Some(20_000));
    }
}

#[test]
fn quantiles_with_too_few_bins_stay_bounded_and_right_at_the_top() {
    let sketch = Quantiles::of("v").quantiles(&[0.5, 0.99]).bins(64);
    let mut state = sketch.init();
    for at in 0..100_000_u32 {
        sketch.reduce(&mut state, &(f64::from(scatter(at)) + 1.0));
    }
    let Value::Json(saved) = sketch.save(&state) else {
        panic!()
    };
    let saved = RawJsonRef::parse_str(&saved).unwrap();
    assert!(saved.field("positive").unwrap().elements().count() <= 2 * 64);
    let Value::Json(shown) = sketch.value(&state) else {
        panic!()
    };
    let shown = RawJsonRef::parse_str(&shown).unwrap();
    let exact = 0.99 * f64::from(u32::MAX);
    let got = shown.field("p99").unwrap().as_f64().unwrap();
    assert!((got - exact).abs() / exact < 0.02, "{got}");
}

#[test]
fn the_most_frequent_values_are_found_among_many() {
    let mut aggregate = Spec::new()
        .field(FieldSpec::combining("top", TopK::of("id", 3).counters(100)))
        .build(now(0))
        .unwrap();
    // Every third event is one of three; the others are all different.
    let mut exact = std::collections::BTreeMap::<String, u64>::new();
    for at in 0..30_000_u32 {
        let id = match at % 9 {
            0 | 1 => "often".to_owned(),
            2 => "sometimes".to_owned(),
            3 if at % 2 == 0 => "rarely".to_owned(),
            _ => format!("{}", scatter(at)),
        };
        feed(&mut aggregate, 1, &format!(r#"{{"id":"{id}"}}"#));
        *exact.entry(id).or_default() += 1;
    }
    let state = aggregate.read("").unwrap();
    let top: Vec<_> = state.field("top").unwrap().elements().collect();
    for (pair, id) in top.iter().zip(["often", "sometimes", "rarely"]) {
        let exact = exact[id];
        let mut pair = pair.elements();
        assert_eq!(
            pair.next().unwrap().as_json_str().unwrap().plain(),
            Some(id)
        );
        let count = pair.next().unwrap().as_u64().unwrap();
        assert!(
            (exact..=exact + 30_000 / 100).contains(&count),
            "{id}: {count} of {exact}"
        );
    }
    assert_eq!(top.len(), 3);
}

fn sketches() -> Spec {
    Spec::new()
        .field(FieldSpec::distinct("n", "id"))
        .field(FieldSpec::quantiles("q", "v"))
        .field(FieldSpec::top_k("top", "id", 5))
        .field(FieldSpec::average("mean", "v"))
}

fn sample(at: u32) -> String {
    format!(
        r#"{{"id":"k{}","v":{}}}"#,
        scatter(at) % 40,
        scatter(at) % 1_000
    )
}

#[test]
fn instances_together_show_what_one_would() {
    let start = || sketches().build(now(0)).unwrap();
    let (mut whole, mut left, mut right) = (start(), start(), start());
    for at in 0..2_000 {
        feed(&mut whole, 1, &sample(at));
        feed(
            if at % 3 == 0 { &mut left } else { &mut right },
            1,
            &sample(at),
        );
    }
    left.absorb(now(1), right.snapshot().get()).unwrap();
    assert_eq!(left.read("").unwrap(), whole.read("").unwrap());
}

#[test]
fn sketches_slide_like_anything_else() {
    let window =
        || WindowSpec::sliding("w", Duration::from_millis(500), Duration::from_millis(100));
    let mut sliding = sketches().window(window()).build(now(0)).unwrap();
    for step in 0..30_u32 {
        for at in 0..50 {
            feed(
                &mut sliding,
                u64::from(step) * 100 + 1,
                &sample(step * 50 + at),
            );
        }
        // The same from the events of the last five hops alone.
        let mut whole = sketches().build(now(0)).unwrap();
        for at in step.saturating_sub(4) * 50..(step + 1) * 50 {
            feed(&mut whole, 1, &sample(at));
        }
        assert_eq!(
            sliding.read("w").unwrap(),
            whole.read("").unwrap(),
            "step {step}"
        );
    }
}

#[test]
fn snapshots_of_sketches_come_back_as_they_were() {
    let mut before = sketches().build(now(0)).unwrap();
    (0..3_000).for_each(|at| feed(&mut before, 1, &sample(at)));
    let mut after = sketches().build(now(0)).unwrap();
    after.restore(now(1), before.snapshot().get()).unwrap();
    assert_eq!(after.read("").unwrap(), before.read("").unwrap());
    for at in 3_000..3_100 {
        feed(&mut before, 1, &sample(at));
        feed(&mut after, 1, &sample(at));
    }
    assert_eq!(after.read("").unwrap(), before.read("").unwrap());
}

#[test]
fn snapshots_that_do_not_fit_are_refused() {
    fn refuses<R: Reducer>(reducer: &R, saved: &[&str]) {
        for text in saved {
            let json = RawJsonRef::parse_str(text).unwrap();
            assert!(reducer.restore(json).is_none(), "{text}");
        }
    }
    let small = Distinct::of("x").precision(4);
    assert!(
        small
            .restore(RawJsonRef::parse_str(r#""z16""#).unwrap())
            .is_some()
    );
    assert!(
        small
            .restore(RawJsonRef::parse_str(r#""z15AB""#).unwrap())
            .is_some()
    );
    refuses(
        &small,
        &[
            "1",
            r#""""#,
            r#""z17""#,
            r#""z15""#,
            r#""z15A""#,
            r#""z15ZZ""#,
            r#""z16AB""#,
            r#""z""#,
            r#""z15PP""#,
            r#""z99999999999999999999999""#,
            "\"\u{e9}\"",
        ],
    );
    let gamma = "0.020000666706669435";
    let bins = |gamma: &str, count: &str, positive: &str| {
        let rest = r#""zeros":0,"min":0,"max":0,"negative":[]"#;
        format!(r#"{{"lnGamma":{gamma},"count":{count},"positive":[{positive}],{rest}}}"#)
    };
    let quantiles = Quantiles::of("x");
    let sound = bins(gamma, "1", "1,1");
    assert!(
        quantiles
            .restore(RawJsonRef::parse_str(&sound).unwrap())
            .is_some()
    );
    refuses(
        &quantiles,
        &[
            "{}",
            "[]",
            &bins("1", "1", "1,1"),
            &bins(gamma, "5", "1,1"),
            &bins(gamma, "1", "1.5,1"),
            &bins(gamma, "-1", "1,-1"),
        ],
    );
    refuses(
        &TopK::of("x", 1),
        &[
            "[]",
            r#"{"a":1}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[1,1]}"#,
            r#"{"a":[-1,0]}"#,
            r#"{"a":[1,0],"a":[2,0]}"#,
            r#"{"a":[99999999999999999,0]}"#,
        ],
    );
}

#[test]
fn combining_with_nothing_changes_nothing() {
    fn neutral<R: Combine>(reducer: &R, inputs: &[R::Input]) {
        let mut state = reducer.init();
        inputs
            .iter()
            .for_each(|input| reducer.reduce(&mut state, input));
        let before = reducer.save(&state);
        reducer.combine(&mut state, &reducer.init());
        assert_eq!(reducer.save(&state), before);
        let mut empty = reducer.init();
        reducer.combine(&mut empty, &state);
        assert_eq!(reducer.value(&empty), reducer.value(&state));
    }
    neutral(&Distinct::of("x"), &[1, u64::MAX, 0, 77]);
    neutral(&Quantiles::of("x"), &[1.0, -1.0, 0.0, 1e300, 5e-324]);
    neutral(
        &TopK::of("x", 2),
        &["\"a\"".into(), "\"b\"".into(), "\"a\"".into()],
    );
}

#[test]
fn long_values_do_not_count_and_are_reported() {
    let mut aggregate = Spec::new()
        .field(FieldSpec::top_k("top", "id", 2))
        .build(now(0))
        .unwrap();
    feed(
        &mut aggregate,
        1,
        &format!(r#"{{"id":"{}"}}"#, "x".repeat(300)),
    );
    assert_eq!(&*aggregate.poll_failure().unwrap().field, "top");
    assert_eq!(aggregate.read("").unwrap().as_str(), r#"{"top":[]}"#);
}
