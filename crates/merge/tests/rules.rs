//! Edge cases of the rules, of the limits and of what is reported, beyond the vectors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use bytes::Bytes;
use millstream_core::RawJson;
use millstream_merge::{
    Change, Event, Evicted, Item, Key, KeySpot, Limits, Merge, MergeError, Options, Reply,
    Settings, Shape, Strategy,
};

fn json(text: &str) -> RawJson {
    RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn crud(prepend: bool, max: usize) -> Options {
    Options {
        prepend,
        max,
        ..Options::new(Strategy::Crud)
    }
}

fn loaded(options: Options, value: &str) -> Merge<RawJson> {
    let mut merge = Merge::new(options, Limits::NONE);
    merge.load(json(value)).unwrap();
    merge
}

fn text(merge: &Merge<RawJson>) -> String {
    let mut out = Vec::new();
    merge.write_json(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_comes_in_goes_out_byte_for_byte() {
    let odd =
        r#"{ "id" : 1e400,"n":0.10, "\u0061":"\ud800\/","big":123456789012345678901234567890}"#;
    let mut merge = loaded(crud(false, 0), &format!(" [ {odd} , -0.0 ] "));
    assert_eq!(text(&merge), format!("[{odd},-0.0]"));
    merge
        .apply("updated", json(&odd.replace("1e400", "2e999")))
        .unwrap();
    assert!(
        text(&merge).contains("2e999"),
        "both are infinite: the same key"
    );
}

#[test]
fn lone_surrogates_are_keys_like_others() {
    let mut merge = loaded(
        crud(false, 0),
        r#"[{"id":"\ud800"},{"id":"\ufffd"},{"id":"\uD801"}]"#,
    );
    merge.apply("deleted", json(r#"{"id":"\uD800"}"#)).unwrap();
    assert_eq!(text(&merge), r#"[{"id":"\uD801"},{"id":"\ufffd"}]"#);
    merge
        .apply("updated", json("{\"id\":\"\u{fffd}\",\"n\":1}"))
        .unwrap();
    assert_eq!(
        merge.row(1).unwrap().as_str(),
        "{\"id\":\"\u{fffd}\",\"n\":1}"
    );
}

#[test]
fn a_million_hostile_keys_stay_apart() {
    // Strings that would all be the same if lone surrogates were replaced.
    let mut merge = loaded(crud(false, 0), "[]");
    for n in 0..20_000_u32 {
        let (a, b) = (0xd800 + n / 1_024, 0xd800 + n % 1_024);
        merge
            .apply("created", json(&format!(r#"{{"id":"\u{a:x}\u{b:x}"}}"#)))
            .unwrap();
    }
    assert_eq!(merge.len(), 20_000);
}

#[test]
fn very_long_keys_are_found() {
    let key = "k".repeat(1 << 20);
    let mut merge = loaded(crud(false, 0), "[]");
    merge
        .apply("created", json(&format!(r#"{{"id":"{key}"}}"#)))
        .unwrap();
    assert!(merge.find(Key::Text(&key)).is_some());
    merge
        .apply(
            "deleted",
            json(&format!(r#"{{"id":"\u006b{}"}}"#, &key[1..])),
        )
        .unwrap();
    assert!(merge.is_empty());
}

#[test]
fn null_rows_have_no_key_and_break_nothing() {
    let mut merge = loaded(crud(false, 3), r#"[null,{"id":1},null]"#);
    merge.apply("deleted", json(r#"{"id":1}"#)).unwrap();
    assert_eq!(text(&merge), "[null,null]");
    merge.apply("created", json(r#"{"id":2}"#)).unwrap();
    merge.apply("created", json(r#"{"id":3}"#)).unwrap();
    assert_eq!(text(&merge), r#"[null,{"id":2},{"id":3}]"#);
}

#[test]
fn null_is_refused_before_anything_changes() {
    let mut merge = loaded(crud(false, 0), "7");
    assert_eq!(
        merge.apply("created", RawJson::NULL),
        Err(MergeError::NullData)
    );
    assert_eq!(text(&merge), "7");
    assert_eq!(merge.apply("noop", RawJson::NULL), Ok(Change::Reset));
    assert_eq!(
        (text(&merge).as_str(), merge.stats().refused_null),
        ("[]", 1)
    );
}

#[test]
fn a_refused_event_does_not_stop_its_frame() {
    let mut merge = loaded(crud(false, 0), "[]");
    let event = |name, data| Event {
        name,
        data: json(data),
    };
    let mut frame = vec![
        event("created", r#"{"id":1}"#),
        event("created", "null"),
        event("created", r#"{"id":2}"#),
    ];
    let frame = merge.apply_frame(&mut frame, |_| ());
    assert_eq!((frame.applied, frame.refused, merge.len()), (2, 1, 2));
}

#[test]
fn the_index_is_rebuilt_only_for_disturbed_duplicates() {
    let mut merge = loaded(crud(false, 4), r#"[{"id":1},{"id":2},{"id":1},{"id":3}]"#);
    // In order as loaded: evicting keeps the last duplicate addressable by itself.
    merge.apply("created", json(r#"{"id":4}"#)).unwrap();
    assert_eq!(merge.stats().rebuilds, 0);
    let mut merge = loaded(crud(false, 4), r#"[{"id":9},{"id":1},{"id":2},{"id":1}]"#);
    merge.apply("deleted", json(r#"{"id":1}"#)).unwrap();
    assert!(
        merge.find(Key::Number(1.0)).is_none(),
        "the earlier one is lost"
    );
    merge.apply("created", json(r#"{"id":3}"#)).unwrap();
    merge.apply("created", json(r#"{"id":4}"#)).unwrap();
    assert_eq!(merge.stats().rebuilds, 1);
    assert!(merge.find(Key::Number(1.0)).is_some(), "and found again");
    for id in 5..100 {
        merge
            .apply("created", json(&format!(r#"{{"id":{id}}}"#)))
            .unwrap();
    }
    assert_eq!(merge.stats().rebuilds, 1);
}

#[test]
fn an_append_finds_what_evictions_at_the_back_have_lost() {
    let mut merge = loaded(crud(true, 3), r#"[{"id":1,"n":"first"},{"id":2},{"id":1}]"#);
    merge.apply("created", json(r#"{"id":3}"#)).unwrap();
    assert!(merge.find(Key::Number(1.0)).is_none());
    merge.adopt(&Settings {
        prepend: Some(false),
        ..Settings::default()
    });
    merge.apply("created", json(r#"{"id":4}"#)).unwrap();
    let found = merge.find(Key::Number(1.0)).unwrap();
    assert_eq!(found.as_str(), r#"{"id":1,"n":"first"}"#);
}

#[test]
fn limits_refuse_and_say_so() {
    let limits = Limits {
        entries_max: 2,
        bytes_max: 30,
    };
    let mut merge = Merge::new(crud(false, 0), limits);
    merge.load(json(r#"[{"id":1},{"id":2}]"#)).unwrap();
    let refused = merge.apply("created", json(r#"{"id":3}"#));
    assert_eq!(
        refused,
        Err(MergeError::TooManyEntries {
            needed: 3,
            limit: 2
        })
    );
    assert!(merge.is_behind());
    assert_eq!(merge.len(), 2);
    let big = json(r#"{"id":1,"text":"far too long"}"#);
    let refused = merge.apply("updated", big.clone());
    assert_eq!(
        refused,
        Err(MergeError::TooManyBytes {
            needed: 38,
            limit: 30
        })
    );
    assert!(merge.load(json("[1,2,3]")).is_err());
    assert_eq!(text(&merge), r#"[{"id":1},{"id":2}]"#);
    merge.load(json("[]")).unwrap();
    assert!(!merge.is_behind());
    assert!(merge.apply("created", big).is_ok(), "30 bytes fit exactly");
    let stats = merge.stats();
    assert_eq!((stats.refused_entries, stats.refused_bytes), (2, 1));

    let mut set = Merge::new(Options::new(Strategy::Set), limits);
    set.load(json("1")).unwrap();
    let long = json("\"0123456789012345678901234567890\"");
    assert!(set.apply("set", long).is_err());
    assert!(set.is_behind() && text(&set) == "1");
}

#[test]
fn eviction_makes_room_before_the_budget_is_asked() {
    let limits = Limits {
        entries_max: 3,
        bytes_max: 24,
    };
    for prepend in [false, true] {
        let mut merge = Merge::new(crud(prepend, 3), limits);
        merge.load(json(r#"[{"id":1},{"id":2},{"id":3}]"#)).unwrap();
        let change = merge.apply("created", json(r#"{"id":4}"#)).unwrap();
        let Change::Inserted { evicted, .. } = change else {
            panic!("{change:?}")
        };
        assert_eq!(evicted.items().len(), 1);
        assert_eq!(matches!(evicted, Evicted::Back(_)), prepend);
        assert!(!merge.is_behind());
    }
}

#[test]
fn a_load_over_the_limit_keeps_the_old_value() {
    let mut merge = Merge::new(
        crud(false, 0),
        Limits {
            entries_max: 2,
            bytes_max: 1_000,
        },
    );
    merge.load(json("[1]")).unwrap();
    assert!(merge.handle_page(json("[2,3]")).is_err());
    assert!(merge.apply("refreshed", json("[1,2,3]")).is_err());
    assert_eq!(text(&merge), "[1]");
    assert!(merge.is_behind());
}

#[test]
fn options_of_a_reply_hold_for_its_items() {
    let mut merge = loaded(crud(false, 0), r#"[{"id":1,"sku":"a"},{"id":2,"sku":"b"}]"#);
    merge.adopt(&Settings {
        key: Some("sku".into()),
        max: Some(2),
        ..Settings::default()
    });
    let delta = json(r#"[{"sku":"a","n":1},{"sku":"b","_deleted":true},{"sku":"c"},{"sku":"d"}]"#);
    assert!(
        merge
            .handle_reply(Reply::Delta(delta.into_rows().unwrap()))
            .unwrap()
    );
    assert_eq!(text(&merge), r#"[{"sku":"c"},{"sku":"d"}]"#);
}

#[test]
fn a_list_may_change_its_strategy() {
    let mut merge = loaded(Options::new(Strategy::Set), r#"[{"key":1},{"key":2}]"#);
    assert!(matches!(merge.shape(), Shape::Whole(_)));
    merge.adopt(&Settings {
        strategy: Some(Strategy::Presence),
        ..Settings::default()
    });
    merge.apply("leave", json(r#"{"key":1}"#)).unwrap();
    assert_eq!(text(&merge), r#"[{"key":2}]"#);
}

#[test]
fn changes_forwarded_as_a_delta_lead_to_the_same_value() {
    let start = r#"[{"id":1},{"id":"two"},{"id":3},{"id":null}]"#;
    let (mut from, mut to) = (loaded(crud(true, 4), start), loaded(crud(true, 4), start));
    let mut delta = b"[".to_vec();
    for (event, data) in [
        ("updated", r#"{"id":1,"n":1}"#),
        ("deleted", r#"{"id":"tw\u006f"}"#),
        ("created", r#"{"id":5}"#),
        ("created", r#"{"id":6}"#),
        ("deleted", r#"{"id":77}"#),
        ("deleted", r#"{"id":3.0}"#),
    ] {
        let change = from.apply(event, json(data)).unwrap();
        assert!(from.write_delta(&change, &mut delta));
    }
    delta.push(b']');
    let rows = json(core::str::from_utf8(&delta).unwrap())
        .into_rows()
        .unwrap();
    to.handle_reply(Reply::Delta(rows)).unwrap();
    assert_eq!(text(&from), text(&to));

    let keyless = from.apply("created", json(r#"{"n":1}"#)).unwrap();
    let reset = from.apply("refreshed", json("[]")).unwrap();
    for change in [keyless, reset] {
        let mut out = Vec::new();
        assert!(!from.write_delta(&change, &mut out) && out.is_empty());
    }
}

#[test]
fn replies_are_sorted_by_their_flags() {
    let read = |text: &str| Reply::read(&json(text)).unwrap().0;
    assert!(matches!(
        read(r#"{"unchanged":true,"data":[]}"#),
        Reply::Unchanged
    ));
    assert!(matches!(read(r#"{"delta":true,"data":[1]}"#), Reply::Delta(rows) if rows.len() == 1));
    assert!(matches!(read(r#"{"delta":true,"data":7}"#), Reply::Full(_)));
    assert!(matches!(
        read(r#"{"replay":false,"data":[]}"#),
        Reply::Full(_)
    ));
    assert!(matches!(
        read(r#"{"channel":true,"data":[]}"#),
        Reply::Keep(_)
    ));
    assert!(matches!(read(r#"{"gated":true,"data":null}"#), Reply::Full(data) if data.is_null()));
    let missed = read(r#"{"replay":true,"data":[{"event":"a","data":1,"seq":9},5]}"#);
    let Reply::Replay(missed) = missed else {
        panic!("{missed:?}")
    };
    assert_eq!((missed.len(), missed[0].seq), (1, Some(9)));
    assert!(Reply::read(&json("[]")).is_err());
}

/// An item type that has nothing to do with JSON.
#[derive(Clone, Debug, PartialEq)]
struct Player {
    name: String,
    points: u32,
}

impl Item for Player {
    type Reader = ();

    fn reader(_: &str) {}

    fn spot(&self, (): &()) -> KeySpot {
        KeySpot::Text {
            at: 0,
            len: 0,
            escaped: false,
        }
    }

    fn key(&self, _: KeySpot) -> Key<'_> {
        Key::Text(&self.name)
    }

    fn byte_len(&self) -> usize {
        size_of::<Self>() + self.name.len()
    }
}

#[test]
fn plain_structs_merge_too() {
    let player = |name: &str, points| Player {
        name: name.into(),
        points,
    };
    let mut merge = Merge::new(crud(false, 2), Limits::default());
    merge
        .load_rows(vec![player("ada", 1), player("bob", 2)])
        .unwrap();
    merge.apply("updated", player("ada", 5)).unwrap();
    merge.apply("created", player("eve", 3)).unwrap();
    assert!(merge.rows().eq(&[player("bob", 2), player("eve", 3)]));
    let mut frame = vec![
        Event {
            name: "updated",
            data: player("bob", 7),
        },
        Event {
            name: "updated",
            data: player("bob", 8),
        },
    ];
    assert_eq!(merge.apply_frame(&mut frame, |_| ()).superseded, 1);
    assert_eq!(merge.find(Key::Text("bob")).unwrap().points, 8);
    merge.apply("deleted", player("bob", 0)).unwrap();
    assert_eq!(merge.len(), 1);
    merge.apply("refreshed", player("no list", 0)).unwrap();
    assert_eq!(merge.shape(), Shape::Whole(&player("no list", 0)));
}
