//! What events, outputs and slides cost: no allocation, and so many bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::time::Duration;

use millstream_aggregate::{Aggregate, FieldSpec, Now, Spec, WindowSpec};
use millstream_core::{Millis, RawJsonRef};
use millstream_schedule::{Period, Zone};

fn now(millis: u64) -> Now {
    Now {
        mono: Millis::from_millis(millis),
        wall_ms: 1_718_452_800_000 + millis as i64,
    }
}

fn start() -> Aggregate {
    Spec::new()
        .field(FieldSpec::count("count"))
        .field(FieldSpec::sum("total", "v"))
        .field(FieldSpec::max("max", "v"))
        .field(FieldSpec::counts("byId", "id"))
        .field(FieldSpec::merge("kv"))
        .field(FieldSpec::ratio("mean", "total", "count"))
        .window(WindowSpec::lifetime("all"))
        .window(WindowSpec::calendar("minute", Period::Minute, Zone::utc()))
        .window(WindowSpec::sliding(
            "recent",
            Duration::from_secs(60),
            Duration::from_secs(1),
        ))
        .build(now(0))
        .unwrap()
}

fn event(aggregate: &mut Aggregate, millis: u64) {
    const DATA: [&str; 3] = [
        r#"{"id":"a","v":1.5,"x":true}"#,
        r#"{"id":"b","v":2.25,"y":[1]}"#,
        r#"{"id":"c","v":-7,"x":null}"#,
    ];
    let data = RawJsonRef::parse_str(DATA[millis as usize % 3]).unwrap();
    aggregate.handle_event(now(millis), "created", data);
    while aggregate.poll_output().is_some() {}
}

#[test]
fn events_and_outputs_allocate_nothing() {
    let mut aggregate = start();
    (1..1_000).for_each(|millis| event(&mut aggregate, millis / 10));
    let measured = allocation_counter::measure(|| {
        (1..100).for_each(|millis| event(&mut aggregate, 100 + millis / 10));
    });
    assert_eq!(measured.count_total, 0);
}

#[test]
fn sketches_but_their_lists_allocate_nothing_either() {
    let spec = Spec::new()
        .field(FieldSpec::distinct("n", "id"))
        .field(FieldSpec::average("m", "v"));
    let mut aggregate = spec.build(now(0)).unwrap();
    (1..100).for_each(|millis| event(&mut aggregate, millis));
    let measured = allocation_counter::measure(|| event(&mut aggregate, 100));
    assert_eq!(measured.count_total, 0);
}

/// Bytes on the heap after `work`.
fn bytes(work: impl FnOnce() -> Aggregate) -> u64 {
    let mut kept = None;
    let measured = allocation_counter::measure(|| kept = Some(work()));
    assert!(kept.is_some());
    measured.bytes_current.unsigned_abs()
}

fn with_keys(keys: u32) -> Aggregate {
    let mut aggregate = Spec::new()
        .field(FieldSpec::counts("c", "id"))
        .build(now(0))
        .unwrap();
    for key in 0..keys {
        let data = format!(r#"{{"id":"key-{key:06}"}}"#);
        let data = RawJsonRef::parse_str(&data).unwrap();
        aggregate.handle_event(now(1), "e", data);
        aggregate.discard_output();
    }
    aggregate
}

#[test]
fn a_key_takes_so_many_bytes() {
    // Just below a power of two, where tables are full.
    let (few, many) = (bytes(|| with_keys(0)), bytes(|| with_keys(7_000)));
    let per_key = (many - few) / 7_000;
    // 12 bytes of token, 32 of entry, 6 of table, and room to grow.
    assert!((45..=80).contains(&per_key), "{per_key} bytes per key");
}

#[test]
fn a_hop_takes_so_many_bytes() {
    let with_hops = |hops: u64| {
        let window = WindowSpec::sliding("w", Duration::from_secs(hops), Duration::from_secs(1));
        bytes(|| {
            Spec::new()
                .field(FieldSpec::sum("s", "v"))
                .window(window)
                .build(now(0))
                .unwrap()
        })
    };
    let per_hop = (with_hops(1_000) - with_hops(1)) / 999;
    assert!(
        (20..=26).contains(&per_hop),
        "{per_hop} bytes per hop and field"
    );
}

#[test]
fn an_aggregate_takes_so_many_bytes() {
    let empty = size_of::<Aggregate>() as u64;
    assert!(empty <= 900, "{empty}");
    let three = bytes(|| {
        Spec::new()
            .field(FieldSpec::count("count"))
            .field(FieldSpec::sum("total", "v"))
            .field(FieldSpec::ratio("mean", "total", "count"))
            .build(now(0))
            .unwrap()
    });
    assert!(
        three <= 1_300,
        "{three} bytes for three fields and one window"
    );
}
