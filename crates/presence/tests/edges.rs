//! What hostile and careless callers do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::time::Duration;

use millstream_core::{ConnId, Millis, RawJson};
use millstream_presence::{
    Admission, CursorConfig, CursorError, Cursors, Effect, Group, GroupConfig, GroupError,
    JoinError, Joined, Presence, PresenceConfig, Role, Select, Update,
};

fn json(text: &str) -> RawJson {
    RawJson::parse(text.to_owned().into()).unwrap()
}

fn conn(n: u64) -> ConnId {
    ConnId::from_u64(n)
}

fn at(ms: u64) -> Millis {
    Millis::from_millis(ms)
}

/// Topics, events and data of what was published or sent.
fn frames(out: &mut Vec<Effect>) -> Vec<String> {
    let frame = |effect: Effect| match effect {
        Effect::Publish { topic, event, data }
        | Effect::Send {
            topic, event, data, ..
        } => {
            let data = String::from_utf8(data.to_vec()).unwrap();
            Some(format!("{topic} {event} {data}"))
        }
        _ => None,
    };
    out.drain(..).filter_map(frame).collect()
}

fn presence(config: PresenceConfig) -> Presence {
    Presence::new(PresenceConfig {
        select: Select::Identity,
        ..config
    })
}

fn join(presence: &mut Presence, n: u64, topic: &str, user: &str) -> Result<Joined, JoinError> {
    let mut out = Vec::<Effect>::new();
    presence.join(at(0), conn(n), topic, json(user).get(), &mut out)
}

#[test]
fn generated_keys_cannot_be_taken_over() {
    let mut presence = presence(PresenceConfig::default());
    join(&mut presence, 1, "a", "{}").unwrap();
    // Somebody claims to be the nameless one, somebody else the next one.
    join(&mut presence, 2, "a", r#"{"id":"__conn:1","evil":1}"#).unwrap();
    join(&mut presence, 3, "a", r#"{"id":"__conn:3","evil":2}"#).unwrap();
    join(&mut presence, 4, "a", "{}").unwrap();
    let keys: Vec<&str> = presence.list("a").map(|(key, _)| key.raw()).collect();
    assert_eq!(
        keys,
        [
            r#""__conn:1""#,
            r#""__conn:2""#,
            r#""__conn:3""#,
            r#""__conn:4""#
        ]
    );
    assert_eq!(presence.stats().keys_contested, 1);
    let mut out = Vec::new();
    presence.handle_close(at(0), conn(2), &mut out);
    presence.handle_close(at(0), conn(3), &mut out);
    let records: Vec<&str> = presence
        .list("a")
        .map(|(_, record)| record.as_str())
        .collect();
    assert_eq!(records, ["{}", "{}"]);
}

/// Whoever occupies a million generated keys in advance does not make others pay for it.
#[test]
fn occupied_keys_are_skipped_in_few_steps() {
    let mut presence = presence(PresenceConfig::default());
    for n in 1..5_000 {
        let user = format!(r#"{{"id":"__conn:{n}"}}"#);
        assert_eq!(join(&mut presence, n, "a", &user), Ok(Joined::New));
    }
    for n in 5_000..5_010 {
        join(&mut presence, n, "a", "{}").unwrap();
    }
    assert_eq!(presence.count("a"), 5_009);
}

#[test]
fn limits_refuse_and_change_nothing() {
    let mut small = presence(PresenceConfig {
        connections_max: 2,
        topics_max: 2,
        members_max: 3,
        record_bytes_max: 40,
        topic_bytes_max: 5,
        ..PresenceConfig::default()
    });
    join(&mut small, 1, "a", r#"{"id":1}"#).unwrap();
    join(&mut small, 2, "b", r#"{"id":2}"#).unwrap();
    let bytes = small.bytes();
    let refused = [
        join(&mut small, 3, "a", r#"{"id":3}"#),
        join(&mut small, 1, "c", r#"{"id":1}"#),
        join(&mut small, 1, "toolong", "{}"),
        join(&mut small, 1, "a\nb", "{}"),
        join(
            &mut small,
            1,
            "b",
            &format!(r#"{{"id":1,"x":"{}"}}"#, "x".repeat(40)),
        ),
        join(&mut small, 1, "b", "17"),
    ];
    assert_eq!(refused[0], Err(JoinError::Connections { limit: 2 }));
    assert_eq!(refused[1], Err(JoinError::Topics { limit: 2 }));
    assert_eq!(refused[2], Err(JoinError::TopicLength { len: 7, limit: 5 }));
    assert!(matches!(refused[3], Err(JoinError::Topic(_))));
    assert!(matches!(
        refused[4],
        Err(JoinError::Record { limit: 40, .. })
    ));
    assert!(matches!(refused[5], Err(JoinError::NotAnObject { .. })));
    assert_eq!((small.bytes(), small.stats().refused), (bytes, 6));
    join(&mut small, 1, "b", r#"{"id":1}"#).unwrap();
    assert_eq!(
        join(&mut small, 2, "a", "{}"),
        Err(JoinError::Members { limit: 3 })
    );
    // Who left makes room.
    small.handle_close(at(0), conn(2), &mut Vec::<Effect>::new());
    assert_eq!(join(&mut small, 3, "a", "{}"), Ok(Joined::New));
}

#[test]
fn nothing_fits_into_limits_of_zero() {
    let zero = PresenceConfig {
        connections_max: 0,
        ..PresenceConfig::default()
    };
    assert!(join(&mut presence(zero), 1, "a", "{}").is_err());
    let zero = PresenceConfig {
        bytes_max: 0,
        ..PresenceConfig::default()
    };
    let mut zero = presence(zero);
    assert_eq!(
        join(&mut zero, 1, "a", "{}"),
        Err(JoinError::Bytes { limit: 0 })
    );
    assert_eq!((zero.connections(), zero.topics(), zero.bytes()), (0, 0, 0));
}

#[test]
fn the_byte_budget_holds() {
    let mut presence = presence(PresenceConfig {
        bytes_max: 50_000,
        ..PresenceConfig::default()
    });
    let joined = (0..1_000).filter(|n| {
        let user = format!(r#"{{"id":{n},"pad":"{}"}}"#, "x".repeat(200));
        join(&mut presence, *n, "a", &user).is_ok()
    });
    let joined = joined.count();
    assert!((100..200).contains(&joined), "{joined}");
    assert!(presence.bytes() <= 50_000);
}

/// A turn in which too much happens is published in two parts rather than kept without bound.
#[test]
fn a_huge_turn_is_flushed_early() {
    let mut presence = presence(PresenceConfig {
        turn_bytes_max: 1_000,
        ..PresenceConfig::default()
    });
    let mut out = Vec::new();
    for n in 0..100 {
        let user = json(&format!(r#"{{"id":{n}}}"#));
        presence
            .join(at(0), conn(n), "a", user.get(), &mut out)
            .unwrap();
    }
    presence.end_of_turn(&mut out);
    let diffs = frames(&mut out);
    let diffs = diffs.iter().filter(|frame| frame.contains("presence_diff"));
    let joins: usize = diffs
        .clone()
        .map(|diff| diff.matches(r#"{"id":"#).count())
        .sum();
    assert_eq!(joins, 100);
    assert_eq!(presence.stats().early_flushes + 1, diffs.count() as u64);
    assert!(presence.stats().early_flushes > 2);
}

/// A round of heartbeats in parts, while topics come and go.
#[test]
fn heartbeats_in_parts_reach_everybody_once() {
    let mut presence = presence(PresenceConfig {
        heartbeat: Some(Duration::from_millis(100)),
        heartbeat_topics_max: 1,
        ..PresenceConfig::default()
    });
    for (n, topic) in ["a", "b", "c", "d"].iter().enumerate() {
        join(&mut presence, n as u64, topic, r#"{"id":1}"#).unwrap();
    }
    let mut out = Vec::new();
    presence.end_of_turn(&mut out);
    out.clear();
    presence.handle_timeout(at(100), &mut out);
    assert_eq!(frames(&mut out), [r#"__presence:a heartbeat ["1"]"#]);
    // The next one goes, and the one that has had its turn.
    presence.handle_close(at(100), conn(1), &mut out);
    presence.handle_close(at(100), conn(0), &mut out);
    out.clear();
    assert_eq!(presence.next_deadline(), Some(at(100)));
    presence.handle_timeout(at(100), &mut out);
    presence.handle_timeout(at(100), &mut out);
    let expected = [
        r#"__presence:c heartbeat ["1"]"#,
        r#"__presence:d heartbeat ["1"]"#,
    ];
    assert_eq!(frames(&mut out), expected);
    assert_eq!(presence.next_deadline(), Some(at(200)));
    // The last of a round goes before its turn: the round is over and does not begin again.
    presence.handle_timeout(at(200), &mut out);
    presence.handle_close(at(200), conn(3), &mut out);
    out.clear();
    presence.handle_timeout(at(200), &mut out);
    assert_eq!(frames(&mut out).len(), 0);
    assert_eq!(presence.next_deadline(), Some(at(300)));
}

#[test]
fn heartbeats_follow_the_roster() {
    let mut presence = presence(PresenceConfig {
        heartbeat: Some(Duration::from_millis(10)),
        ..PresenceConfig::default()
    });
    let mut out = Vec::new();
    for (n, ms) in [(1, 10), (2, 20)] {
        join(&mut presence, n, "a", &format!(r#"{{"id":{n}}}"#)).unwrap();
        presence.handle_timeout(at(ms), &mut out);
    }
    presence.handle_close(at(20), conn(1), &mut Vec::<Effect>::new());
    presence.handle_timeout(at(30), &mut out);
    let expected = [
        r#"__presence:a heartbeat ["1"]"#,
        r#"__presence:a heartbeat ["1","2"]"#,
        r#"__presence:a heartbeat ["2"]"#,
    ];
    assert_eq!(frames(&mut out), expected);
}

#[test]
fn the_end_of_time_is_no_trap() {
    let mut presence = presence(PresenceConfig {
        heartbeat: Some(Duration::MAX),
        ..PresenceConfig::default()
    });
    let mut out = Vec::new();
    presence
        .join(Millis::MAX, conn(1), "a", json("{}").get(), &mut out)
        .unwrap();
    presence.handle_timeout(Millis::MAX, &mut out);

    let mut cursors = Cursors::new(CursorConfig::default());
    let (user, data) = (json("{}"), json("1"));
    let mut update = |now| {
        let done = cursors.update(now, conn(1), "a", Some(data.get()), user.get(), &mut out);
        cursors.handle_timeout(now, &mut out);
        done.unwrap()
    };
    assert_eq!(update(Millis::MAX), Update::Published);
    // Time cannot go on, so no window is ever open; and running back counts as standing still.
    assert_eq!(update(at(5)), Update::Published);
}

#[test]
fn time_running_back_does_not_stretch_windows() {
    let mut cursors = Cursors::new(CursorConfig::default());
    let (user, data, mut out) = (json("{}"), json("1"), Vec::<Effect>::new());
    let mut update = |now| {
        let data = Some(data.get());
        cursors
            .update(at(now), conn(1), "a", data, user.get(), &mut out)
            .unwrap()
    };
    assert_eq!(update(1_000), Update::Published);
    assert_eq!(update(500), Update::Waiting);
    assert_eq!(cursors.next_deadline(), Some(at(1_050)));
}

#[test]
fn long_keys_and_deep_records() {
    let mut presence = presence(PresenceConfig {
        record_bytes_max: 4_000_000,
        ..PresenceConfig::default()
    });
    let long = "k".repeat(1_000_000);
    let user = format!(r#"{{"id":"{long}"}}"#);
    for n in 0..3 {
        join(&mut presence, n, "a", &user).unwrap();
    }
    assert_eq!(presence.count("a"), 1);
    let deep = |leaf| format!("{}{leaf}{}", r#"{"id":1,"d":"#.repeat(60), "}".repeat(60));
    join(&mut presence, 10, "b", &deep(1)).unwrap();
    let mut out = Vec::new();
    let same = presence.update(conn(10), "b", json(&deep(1)).get(), &mut out);
    assert_eq!(same, Ok(false));
    let other = presence.update(conn(10), "b", json(&deep(2)).get(), &mut out);
    assert_eq!(other, Ok(true));
}

#[test]
fn a_number_that_is_used_again_is_a_stranger() {
    let mut cursors = Cursors::new(CursorConfig::default());
    let (data, mut out) = (json("1"), Vec::new());
    let mut update = |cursors: &mut Cursors, user| {
        let (now, data, user) = (at(0), Some(data.get()), json(user));
        cursors
            .update(now, conn(1), "a", data, user.get(), &mut out)
            .unwrap();
        frames(&mut out)
    };
    let first = update(&mut cursors, r#""Ann""#);
    assert_eq!(
        first,
        [r#"__cursor:a update {"key":"1","user":"Ann","data":1}"#]
    );
    cursors.handle_close(conn(1), &mut Vec::<Effect>::new());
    let second = update(&mut cursors, r#""Bob""#);
    assert_eq!(
        second,
        [r#"__cursor:a update {"key":"2","user":"Bob","data":1}"#]
    );
}

#[test]
fn cursor_limits_refuse_and_change_nothing() {
    let mut cursors = Cursors::new(CursorConfig {
        connections_max: 2,
        topics_max: 2,
        cursors_max: 3,
        user_bytes_max: 10,
        bytes_max: 1_500,
        ..CursorConfig::default()
    });
    let mut out = Vec::<Effect>::new();
    let mut update = |n, topic: &str, data: &str, user: &str| {
        let (data, user) = (json(data), json(user));
        let data = Some(data.get());
        cursors.update(at(0), conn(n), topic, data, user.get(), &mut out)
    };
    assert_eq!(update(1, "a", "1", "{}"), Ok(Update::Published));
    let long = format!("\"{}\"", "u".repeat(20));
    assert_eq!(
        update(2, "a", "1", &long),
        Err(CursorError::User { len: 22, limit: 10 })
    );
    assert_eq!(update(2, "b", "1", "{}"), Ok(Update::Published));
    assert_eq!(
        update(3, "a", "1", "{}"),
        Err(CursorError::Connections { limit: 2 })
    );
    assert_eq!(
        update(1, "c", "1", "{}"),
        Err(CursorError::Topics { limit: 2 })
    );
    assert_eq!(update(1, "b", "1", "{}"), Ok(Update::Published));
    assert_eq!(
        update(2, "a", "1", "{}"),
        Err(CursorError::Cursors { limit: 3 })
    );
    let long = format!("\"{}\"", "d".repeat(2_000));
    assert_eq!(
        update(1, "a", &long, "{}"),
        Err(CursorError::Bytes { limit: 1_500 })
    );
    assert_eq!(update(1, "x\"", "1", "{}"), Ok(Update::Ignored));
    let counted = (
        cursors.len(),
        cursors.stats().refused,
        cursors.stats().ignored,
    );
    assert_eq!(counted, (3, 5, 1));
    // The refused value did not take the place of the one that is there.
    let list: Vec<Vec<u8>> = cursors.list("a").collect();
    assert_eq!(list, [br#"{"key":"1","user":{},"data":1}"#.to_vec()]);
}

/// One frame tells where everybody went.
#[test]
fn a_tick_collects_what_moved() {
    let mut cursors = Cursors::new(CursorConfig {
        tick: Some(Duration::from_millis(50)),
        ..CursorConfig::default()
    });
    let (user, mut out) = (json("null"), Vec::new());
    for (n, data, now) in [(1, "1", 0), (2, "2", 10), (1, "3", 20), (2, "4", 30)] {
        let data = json(data);
        let data = Some(data.get());
        cursors
            .update(at(now), conn(n), "a", data, user.get(), &mut out)
            .unwrap();
    }
    cursors.handle_timeout(at(50), &mut out);
    cursors.handle_timeout(at(100), &mut out);
    let expected = [
        r#"__cursor:a update {"key":"1","user":null,"data":1}"#,
        r#"__cursor:a bulk [{"key":"2","user":null,"data":4},{"key":"1","user":null,"data":3}]"#,
    ];
    assert_eq!(frames(&mut out), expected);
    assert_eq!(cursors.next_deadline(), None);
}

/// Leaving and coming back does not get around the rate of a topic's tick.
#[test]
fn a_tick_outlives_those_who_left() {
    let mut cursors = Cursors::new(CursorConfig {
        tick: Some(Duration::from_millis(50)),
        ..CursorConfig::default()
    });
    let (user, data, mut out) = (json("null"), json("1"), Vec::<Effect>::new());
    for _ in 0..10 {
        let data = Some(data.get());
        cursors
            .update(at(0), conn(1), "a", data, user.get(), &mut out)
            .unwrap();
        assert!(cursors.leave(conn(1), "a", &mut out));
    }
    assert_eq!(cursors.stats().published, 1);
    cursors.handle_timeout(at(50), &mut out);
    assert_eq!((cursors.topics(), cursors.next_deadline()), (0, None));
}

#[test]
fn watching_taps_and_tells() {
    let mut cursors = Cursors::new(CursorConfig::default());
    let mut out = Vec::new();
    cursors.watch(conn(1), "a", &mut out);
    assert!(matches!(&out[0], Effect::Tap { topic, .. } if &**topic == "__cursor:a"));
    assert_eq!(frames(&mut out), ["__cursor:a snapshot []"]);
    cursors.unwatch(conn(1), "a", &mut out);
    assert!(matches!(&out[..], [Effect::Untap { .. }]));
    out.clear();
    cursors.watch(conn(1), "a\"", &mut out);
    assert!(out.is_empty());
}

#[test]
fn leaving_one_topic_keeps_the_key() {
    let mut cursors = Cursors::new(CursorConfig::default());
    let (user, data, mut out) = (json("1"), json("1"), Vec::new());
    for topic in ["a", "b"] {
        let data = Some(data.get());
        cursors
            .update(at(0), conn(1), topic, data, user.get(), &mut out)
            .unwrap();
    }
    assert!(cursors.leave(conn(1), "a", &mut out));
    assert!(!cursors.leave(conn(1), "a", &mut out));
    assert!(cursors.leave(conn(1), "b", &mut out));
    assert!(cursors.is_known(conn(1)) && cursors.is_empty());
    out.clear();
    cursors
        .update(at(0), conn(1), "a", None, user.get(), &mut out)
        .unwrap();
    assert_eq!(
        frames(&mut out),
        [r#"__cursor:a update {"key":"1","user":1}"#]
    );
    assert_eq!(cursors.handle_close(conn(1), &mut out), 1);
    assert!(!cursors.is_known(conn(1)));
}

#[test]
fn groups_refuse_bad_names_and_big_metadata() {
    let new = |name: &str, config| Group::new(name, config).map(|_| ());
    assert!(matches!(
        new("", GroupConfig::default()),
        Err(GroupError::Name(_))
    ));
    assert!(matches!(
        new("a\"", GroupConfig::default()),
        Err(GroupError::Name(_))
    ));
    let room = GroupConfig {
        members_max: 0,
        ..GroupConfig::default()
    };
    assert_eq!(new("a", room), Err(GroupError::NoRoom));
    let config = GroupConfig {
        meta_bytes_max: 4,
        ..GroupConfig::default()
    };
    let mut group = Group::new("a", config).unwrap();
    let done = group.set_meta(json("[1,2]"));
    assert_eq!(done, Err(GroupError::Meta { len: 5, limit: 4 }));
    assert_eq!(group.meta().as_str(), "{}");
    let mut out = Vec::<Effect>::new();
    assert_eq!(
        group.join(conn(1), Role::Viewer, &mut out),
        Admission::Joined
    );
    let event = group.publish("a\u{1}", &json("1").into_bytes(), &mut out);
    assert!(matches!(event, Err(GroupError::Event(_))));
    assert_eq!(group.stats().published, 0);
}

/// A great many people in one group.
#[test]
fn a_great_many_people() {
    const PEOPLE: u64 = 200_000;
    let config = GroupConfig {
        members_max: PEOPLE as usize,
        ..GroupConfig::default()
    };
    let mut group = Group::new("a", config).unwrap();
    let mut out = Vec::<Effect>::new();
    for n in 0..PEOPLE {
        group.join(conn(n), Role::Viewer, &mut out);
        out.clear();
    }
    assert_eq!(
        group.join(conn(PEOPLE), Role::Viewer, &mut out),
        Admission::Full
    );
    assert_eq!(group.snapshot().count() as u64, PEOPLE);
    for n in 0..PEOPLE - 1 {
        group.leave(conn(n), &mut out);
        out.clear();
    }
    assert_eq!(group.snapshot().to_vec(), br#"[{"role":"viewer"}]"#);
    // The room that was theirs has been given back.
    assert!(group.snapshot().parts().count() < 10);
}

/// A host that is late does not make a value wait that is due: not at the instant, not after it.
#[test]
fn a_late_host_does_not_hold_values_back() {
    for late in [50, 51, 500] {
        let mut cursors = Cursors::new(CursorConfig::default());
        let (user, mut out) = (json("1"), Vec::new());
        let mut update = |now, data| {
            let data = json(data);
            let data = Some(data.get());
            cursors
                .update(at(now), conn(1), "a", data, user.get(), &mut out)
                .unwrap()
        };
        assert_eq!(update(0, "1"), Update::Published);
        assert_eq!(update(49, "2"), Update::Waiting);
        assert_eq!(update(late, "3"), Update::Published);
        assert_eq!(update(late + 49, "4"), Update::Waiting);
        cursors.handle_timeout(at(late + 49), &mut out);
        assert_eq!(cursors.stats().published, 2);
        cursors.handle_timeout(at(late + 50), &mut out);
        let last = frames(&mut out).pop();
        assert_eq!(
            last.as_deref(),
            Some(r#"__cursor:a update {"key":"1","user":1,"data":4}"#)
        );
    }
}

/// People who come while a rope is packed anew, also at the very moment when it is done.
#[test]
fn newcomers_while_a_rope_is_packed() {
    const CROWD: u64 = 400;
    // Every second one leaves. Packing begins when somewhat less than half have left.
    for left in 140..190 {
        let mut presence = presence(PresenceConfig::default());
        let mut group = Group::new("g", GroupConfig::default()).unwrap();
        let mut out = Vec::<Effect>::new();
        let come = |presence: &mut Presence, group: &mut Group, n: u64| {
            join(presence, n, "a", &format!(r#"{{"id":{n}}}"#)).unwrap();
            group.join(conn(n), Role::Admin, &mut Vec::<Effect>::new());
        };
        (0..CROWD).for_each(|n| come(&mut presence, &mut group, n));
        for n in 0..left {
            presence.handle_close(at(0), conn(2 * n), &mut out);
            group.leave(conn(2 * n), &mut out);
            out.clear();
        }
        for last in CROWD..CROWD + 100 {
            come(&mut presence, &mut group, last);
            let here = |n: &u64| n % 2 == 1 || *n >= 2 * left;
            let ids = (0..=last).filter(here).map(|n| format!(r#"{{"id":{n}}}"#));
            let list = presence
                .list("a")
                .map(|(_, record)| record.as_str().to_owned());
            assert!(list.eq(ids));
            let shown = group.snapshot().to_vec();
            let shown: Vec<serde_json::Value> = serde_json::from_slice(&shown).unwrap();
            assert_eq!(shown.len(), group.count());
        }
    }
}
