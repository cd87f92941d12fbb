//! What an event and an item cost: allocations, bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use bytes::Bytes;
use millstream_core::RawJson;
use millstream_merge::{Event, Limits, Merge, Options, Strategy};

/// A value that is shared already, as what was published is: the first clone of bytes allocates
/// what counts them.
fn json(text: &str) -> RawJson {
    let json = RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
    drop(json.clone());
    json
}

fn item(id: usize) -> RawJson {
    json(&format!(
        r#"{{"id":{id},"key":{id},"text":"something that is not short"}}"#
    ))
}

fn list(strategy: Strategy, prepend: bool, max: usize, len: usize) -> Merge<RawJson> {
    let options = Options {
        prepend,
        max,
        ..Options::new(strategy)
    };
    let mut merge = Merge::new(options, Limits::NONE);
    merge.load_rows((0..len).map(item).collect()).unwrap();
    merge
}

/// Allocations of applying events after as many others.
fn allocations(merge: &mut Merge<RawJson>, events: [&str; 2], ids: core::ops::Range<usize>) -> u64 {
    let half = ids.start.midpoint(ids.end);
    let make = |ids: core::ops::Range<usize>| -> Vec<RawJson> { ids.map(item).collect() };
    let (warm, measured) = (make(ids.start..half), make(half..ids.end));
    let mut play = |items: Vec<RawJson>| {
        for item in items {
            let _ = merge.apply(events[0], item.clone());
            let _ = merge.apply(events[1], item);
        }
    };
    play(warm);
    allocation_counter::measure(|| play(measured)).count_total
}

#[test]
fn steady_state_allocates_nothing() {
    let len = 5_000;
    let crud = |prepend, max| list(Strategy::Crud, prepend, max, len);
    let update = allocations(&mut crud(false, 0), ["updated", "updated"], 0..1_000);
    let removal = allocations(&mut crud(false, 0), ["deleted", "created"], 0..1_000);
    let append = allocations(&mut crud(false, len), ["created", "noop"], len..len + 1_000);
    let prepend = allocations(&mut crud(true, len), ["created", "noop"], len..len + 1_000);
    let mut room = list(Strategy::Presence, false, 0, len);
    let presence = allocations(&mut room, ["join", "leave"], len..len + 1_000);
    let mut latest = list(Strategy::Latest, false, len, len);
    let latest = allocations(&mut latest, ["push", "push"], 0..1_000);
    assert_eq!([update, removal, append, prepend, presence, latest], [0; 6]);
}

#[test]
fn frames_allocate_nothing_once_seen() {
    let mut merge = list(Strategy::Crud, false, 0, 100);
    let mut queue = Vec::with_capacity(50);
    let mut frame = |from: usize| {
        let events = (from..from + 50).map(|id| Event {
            name: "updated",
            data: item(id % 20),
        });
        queue.extend(events);
        allocation_counter::measure(|| {
            assert_eq!(merge.apply_frame(&mut queue, |_| ()).superseded, 30);
        })
        .count_total
    };
    frame(0);
    assert_eq!(frame(7), 0);
}

#[test]
fn an_item_costs_54_to_60_bytes_beside_its_own() {
    // 48 in the ring, and 5 bytes per place of an index that is 7/16 to 7/8 full.
    for len in [1_000_usize, 7 << 10, 14 << 10, 100_000] {
        let rows: Vec<RawJson> = (0..len).map(item).collect();
        let mut merge = Merge::new(Options::new(Strategy::Crud), Limits::NONE);
        let used = allocation_counter::measure(|| merge.load_rows(rows).unwrap());
        // The vector of rows, 32 bytes each, is given back.
        let kept = usize::try_from(used.bytes_current + 32 * len as i64).unwrap();
        assert!(kept <= 60 * len, "{len}: {} each", kept / len);
        assert!(kept >= 53 * len, "{len}: {} each", kept / len);
    }
}

#[test]
fn a_snapshot_is_one_growth() {
    let merge = list(Strategy::Crud, false, 0, 10_000);
    let mut out = Vec::new();
    let used = allocation_counter::measure(|| merge.write_json(&mut out));
    assert_eq!(used.count_total, 1);
    assert_eq!(out.len(), merge.bytes() + merge.len() + 1);
}
