//! Changes in flight and history: what the comparison with the original leaves out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use bytes::Bytes;
use millstream_core::RawJson;
use millstream_merge::{
    Content, Edit, Event, HistoryLimits, Limits, MergeError, Options, Reply, Settings, Strategy,
    Stream, StreamLimits,
};

fn json(text: &str) -> RawJson {
    RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn edit(name: &str, data: &str) -> Edit<RawJson> {
    Edit::Event {
        name: name.into(),
        data: json(data),
    }
}

fn stream(strategy: Strategy, value: &str) -> Stream<RawJson> {
    let options = Options::new(strategy);
    let mut stream = Stream::new(options, Limits::default(), StreamLimits::default());
    load(&mut stream, value);
    stream
}

fn load(stream: &mut Stream<RawJson>, value: &str) -> bool {
    let reply = Reply::Full(json(value));
    stream.handle_reply(&Settings::default(), reply).unwrap()
}

fn shown(stream: &mut Stream<RawJson>) -> String {
    let mut out = Vec::new();
    stream.shown().write_json(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_reply_during_a_change_is_kept() {
    let mut stream = stream(Strategy::Crud, "[]");
    let change = stream.start(edit("created", r#"{"id":"b"}"#)).unwrap();
    load(&mut stream, r#"[{"id":"a"}]"#);
    assert_eq!(shown(&mut stream), r#"[{"id":"a"},{"id":"b"}]"#);
    stream.settle(change, true);
    assert_eq!(shown(&mut stream), r#"[{"id":"a"},{"id":"b"}]"#);
}

#[test]
fn a_null_key_confirms_only_null_keys() {
    let mut stream = stream(Strategy::Crud, "[]");
    let keyless = stream.start(edit("created", r#"{"n":1}"#)).unwrap();
    let null = stream
        .start(edit("created", r#"{"id":null,"n":2}"#))
        .unwrap();
    stream
        .handle_event("created", json(r#"{"id":null,"n":3}"#))
        .unwrap();
    assert!(stream.is_confirmed(null) && !stream.is_confirmed(keyless));
    assert_eq!(shown(&mut stream), r#"[{"id":null,"n":3},{"n":1}]"#);
}

#[test]
fn a_confirmed_change_cannot_fail_any_more() {
    let mut stream = stream(Strategy::Crud, r#"[{"id":1}]"#);
    let change = stream
        .start(edit("updated", r#"{"id":1,"by":"me"}"#))
        .unwrap();
    stream
        .handle_event("updated", json(r#"{"id":1.0,"by":"server"}"#))
        .unwrap();
    assert!(stream.is_confirmed(change));
    stream.settle(change, false);
    assert_eq!(shown(&mut stream), r#"[{"id":1.0,"by":"server"}]"#);
}

#[test]
fn a_change_that_replaces_the_list_is_not_corrupted_by_what_follows() {
    let mut stream = stream(Strategy::Crud, r#"[{"id":9}]"#);
    let all = stream
        .start(edit("refreshed", r#"[{"id":1},{"id":2},{"id":3}]"#))
        .unwrap();
    let one = stream.start(edit("deleted", r#"{"id":1}"#)).unwrap();
    for _ in 0..3 {
        stream.handle_event("noop", json("1")).unwrap();
        assert_eq!(shown(&mut stream), r#"[{"id":3},{"id":2}]"#);
    }
    stream.settle(one, false);
    assert_eq!(shown(&mut stream), r#"[{"id":1},{"id":2},{"id":3}]"#);
    stream.settle(all, false);
    assert_eq!(shown(&mut stream), r#"[{"id":9}]"#);
}

#[test]
fn each_change_fails_alone() {
    let mut stream = stream(Strategy::Latest, "[]");
    let changes: Vec<_> = ["1", "2", "3"]
        .map(|data| stream.start(edit("push", data)).unwrap())
        .into();
    stream.handle_event("push", json("0")).unwrap();
    assert_eq!(shown(&mut stream), "[0,1,2,3]");
    assert!(stream.settle(changes[1], false));
    assert!(!stream.settle(changes[1], true), "settled twice");
    stream.settle(changes[2], true);
    assert_eq!(shown(&mut stream), "[0,3,1]");
    stream.settle(changes[0], false);
    assert_eq!(
        (shown(&mut stream).as_str(), stream.pending()),
        ("[0,3]", 0)
    );
}

#[test]
fn functions_run_on_every_new_value() {
    let mut stream = stream(Strategy::Crud, r#"[{"id":1}]"#);
    let change = stream
        .start(Edit::Function(Box::new(|content| {
            if let Content::List(rows) = content {
                rows.reverse();
            }
        })))
        .unwrap();
    stream.handle_event("created", json(r#"{"id":2}"#)).unwrap();
    assert_eq!(shown(&mut stream), r#"[{"id":2},{"id":1}]"#);
    stream.settle(change, true);
    stream.handle_event("deleted", json(r#"{"id":1}"#)).unwrap();
    assert_eq!(shown(&mut stream), r#"[{"id":2}]"#);
}

#[test]
fn changes_in_flight_are_bounded() {
    let limits = StreamLimits {
        pending_max: 2,
        pending_bytes_max: 20,
    };
    let mut stream = Stream::new(Options::default(), Limits::default(), limits);
    let first = stream.start(edit("created", r#"{"id":1}"#)).unwrap();
    let long = edit("created", r#"{"id":2,"text":"long"}"#);
    let refused = stream.start(long);
    assert_eq!(
        refused,
        Err(MergeError::TooManyPendingBytes {
            needed: 30,
            limit: 20
        })
    );
    stream.start(edit("created", r#"{"id":2}"#)).unwrap();
    let refused = stream.start(edit("deleted", r#"{"id":2}"#));
    assert_eq!(refused, Err(MergeError::TooManyPending { limit: 2 }));
    assert_eq!(stream.start(edit("created", "null")), refused);
    stream.settle(first, false);
    assert_eq!(
        stream.start(edit("created", "null")),
        Err(MergeError::NullData)
    );
    assert!(stream.start(edit("deleted", r#"{"id":2}"#)).is_ok());
    assert_eq!(shown(&mut stream), "[]");
}

#[test]
fn readers_are_called_for_what_they_have_not_seen() {
    let mut stream = stream(Strategy::Set, "1");
    assert!(!stream.handle_event("set", json("1.0")).unwrap());
    let change = stream.start(edit("set", "2")).unwrap();
    assert!(
        !stream.handle_event("set", json("5")).unwrap(),
        "2 is shown before and after"
    );
    assert!(
        !stream.settle(change, true),
        "it beats what the server said"
    );
    assert_eq!(shown(&mut stream), "2");
    let event = |data| Event {
        name: "set",
        data: json(data),
    };
    assert!(
        !stream
            .handle_frame(&mut vec![event("3"), event("2")])
            .notifies
    );
    assert!(
        stream
            .handle_frame(&mut vec![event("3"), event("3")])
            .notifies
    );
}

#[test]
fn undo_waits_until_changes_have_settled() {
    let mut stream = stream(Strategy::Set, "1");
    stream.enable_history(HistoryLimits::default());
    let change = stream.start(edit("set", "2")).unwrap();
    assert_eq!(stream.undo(), Err(MergeError::Unsettled { pending: 1 }));
    stream.settle(change, false);
    assert!(!stream.can_undo(), "a failure is no step");
    let change = stream.start(edit("set", "3")).unwrap();
    stream.handle_event("set", json("4")).unwrap();
    stream.settle(change, true);
    assert!(stream.can_undo());
    assert_eq!(stream.undo(), Ok(true));
    assert_eq!(shown(&mut stream), "1");
    assert!(stream.can_redo());
}

#[test]
fn histories_are_bounded() {
    let mut stream = stream(Strategy::Set, "0");
    let limits = HistoryLimits {
        entries_max: 3,
        rows_max: 2,
        bytes_max: 8,
    };
    stream.enable_history(limits);
    for n in 1..10 {
        stream.handle_event("set", json(&n.to_string())).unwrap();
    }
    assert_eq!(
        (stream.undo(), stream.undo(), stream.undo()),
        (Ok(true), Ok(true), Ok(false))
    );
    assert_eq!(shown(&mut stream), "7");
    // Eight bytes push out what was before; nine are not remembered.
    stream.handle_event("set", json("\"123456\"")).unwrap();
    assert!(!stream.can_undo() && !stream.can_redo());
    stream.handle_event("set", json("\"1234567\"")).unwrap();
    assert!(!stream.can_undo());
}

#[test]
fn the_first_undo_without_a_history_begins_one() {
    let mut stream = stream(Strategy::Latest, "[1]");
    assert_eq!(stream.redo(), Ok(false));
    stream.handle_event("push", json("2")).unwrap();
    assert_eq!(stream.undo(), Ok(true));
    assert_eq!(shown(&mut stream), "[1]");
}
