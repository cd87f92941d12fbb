//! Kept events: what gets in, what is told of them, and what goes when there is no room.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]
#![allow(
    clippy::disallowed_methods,
    reason = "one of these tests is about threads"
)]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use millstream_core::{Key, Millis, RawJsonRef};
use millstream_hub::{
    BatchMember, Delivery, Hub, HubConfig, Inboxes, Limits, Outcome, Pattern, PolicyTable,
    PublishOptions, Publisher, RawPayload, Sink, TopicPolicy, Topics, Wrote,
};
use serde_json::{Value, json};

struct Nowhere;

impl Inboxes for Nowhere {
    fn push(&self, _: u16, _: Delivery) {}

    fn is_empty(&self, _: u16) -> bool {
        true
    }

    fn is_full(&self, _: u16) -> bool {
        false
    }
}

#[derive(Default)]
struct Wire(Vec<u8>);

impl Sink for Wire {
    fn send(&mut self, _: Key, bytes: &[u8]) -> Wrote {
        self.0.extend_from_slice(bytes);
        Wrote::Bytes(bytes.len())
    }

    fn send_vectored(&mut self, _: Key, parts: &[std::io::IoSlice<'_>]) -> Wrote {
        for part in parts {
            self.0.extend_from_slice(part);
        }
        Wrote::Bytes(parts.iter().map(|part| part.len()).sum())
    }
}

fn table(topics_max: u32, bytes_max: usize) -> Topics {
    let volatile = TopicPolicy {
        volatile: true,
        retain: 5,
        ..TopicPolicy::default()
    };
    let policies = PolicyTable::default()
        .with(Pattern::new("fast:*"), volatile)
        .retaining(Pattern::new("room:*"), 3)
        .retaining(Pattern::new("room:big*"), 1_000)
        .retaining(Pattern::new("fast:*"), 10);
    Topics::new(1, 1_000, topics_max, policies, Arc::default()).retaining(bytes_max)
}

fn at(ms: u64) -> Millis {
    Millis::from_millis(ms)
}

fn publish(topics: &Topics, topic: &str, data: &str) -> u64 {
    let publisher = Publisher {
        topics,
        inboxes: &Nowhere,
        now: Millis::ZERO,
    };
    let data = RawJsonRef::parse(data.as_bytes()).unwrap();
    let published = publisher.publish(None, topic, "e", data, PublishOptions::default());
    published.unwrap().seq.unwrap()
}

fn evicted(topics: &Topics) -> u64 {
    topics.stats().retained_evicted.load(Ordering::Relaxed)
}

#[test]
fn every_numbered_publish_is_kept_once_and_in_order() {
    let topics = table(100, 1 << 20);
    let mut hub = Hub::new(0, Arc::default(), Arc::new(table(100, 1 << 20)));
    let publisher = Publisher {
        topics: &topics,
        inboxes: &Nowhere,
        now: Millis::ZERO,
    };
    let first = topics.position("room:1", Millis::ZERO).unwrap();
    let null = RawJsonRef::NULL;
    let plain = PublishOptions::default();
    let tricky = RawJsonRef::parse_str(r#"{"a":"\"","seq":7}"#).unwrap();
    publisher
        .publish(Some(&mut hub), "room:1", "ä,b", tricky, plain)
        .unwrap();
    for (numbered, volatile) in [(false, false), (true, true), (false, true)] {
        let options = PublishOptions { numbered, volatile };
        publisher
            .publish(None, "room:1", "not kept", null, options)
            .unwrap();
    }
    publisher
        .publish_raw(None, "room:1", RawPayload::Text("not kept"))
        .unwrap();
    let member = |topic, numbered, key| BatchMember {
        topic,
        event: "batched",
        data: null,
        coalesce_key: key,
        numbered,
    };
    let members = [
        member("room:1", true, Some("k")),
        member("room:1", false, None),
        member("room:2", true, None),
        member("room:1", true, Some("k")),
    ];
    publisher.publish_batched(None, &members, 10).unwrap();
    assert_eq!(publish(&topics, "room:1", "5"), first + 3);

    let history = topics.since("room:1", first, Millis::ZERO).unwrap();
    assert_eq!(
        (history.position, history.outcome),
        (first + 3, Outcome::Complete)
    );
    let list = history.to_list();
    assert!(list.as_bytes().len() <= history.bytes());
    let due = json!([
        {"event": "ä,b", "data": {"a": "\"", "seq": 7}, "seq": first + 1},
        {"event": "batched", "data": null, "seq": first + 2},
        {"event": "e", "data": 5, "seq": first + 3},
    ]);
    assert_eq!(serde_json::from_str::<Value>(list.as_str()).unwrap(), due);
    for (event, due) in history.events.iter().zip(due.as_array().unwrap()) {
        let data: Value = serde_json::from_str(event.data().as_str()).unwrap();
        let told = json!({"event": event.event(), "data": data, "seq": event.number()});
        assert_eq!(told, *due);
    }
    let other = topics.since("room:2", first, Millis::ZERO).unwrap();
    assert_eq!(other.events.len(), 1);
}

#[test]
fn what_is_told_is_true_at_every_boundary() {
    let topics = table(100, 1 << 20);
    let first = topics.position("room:1", at(5)).unwrap();
    let ask = |number| topics.since("room:1", number, at(5)).unwrap();
    let kept = |number| ask(number).events.len();
    assert_eq!((ask(first).outcome, kept(first)), (Outcome::Complete, 0));
    assert_eq!(
        ask(first - 1).outcome,
        Outcome::Gap {
            resumes_at: first + 1
        }
    );
    assert_eq!(ask(first + 1).outcome, Outcome::Ahead { head: first });
    for n in 1..=5 {
        assert_eq!(publish(&topics, "room:1", "1"), first + n);
    }
    assert_eq!(
        (ask(first + 2).outcome, kept(first + 2)),
        (Outcome::Complete, 3)
    );
    assert_eq!(
        (ask(first + 5).outcome, kept(first + 5)),
        (Outcome::Complete, 0)
    );
    let gap = Outcome::Gap {
        resumes_at: first + 3,
    };
    assert_eq!((ask(first + 1).outcome, kept(first + 1)), (gap, 3));
    assert_eq!((ask(0).outcome, kept(0)), (gap, 3));
    let ahead = Outcome::Ahead { head: first + 5 };
    assert_eq!((ask(u64::MAX).outcome, kept(u64::MAX)), (ahead, 0));
    assert_eq!(topics.position("room:1", at(9)), Some(first + 5));

    // Nothing is kept on others, and nobody is made by asking.
    publish(&topics, "lobby", "1");
    let before = topics.len();
    for topic in ["lobby", "unknown", "fast:1", "bad\"name", ""] {
        assert_eq!(topics.position(topic, at(5)), None, "{topic}");
        assert!(topics.since(topic, 0, at(5)).is_none());
    }
    assert_eq!(topics.len(), before);
}

#[test]
fn the_topic_written_to_least_recently_loses_its_oldest_events() {
    const BUDGET: usize = 20_000;
    let topics = table(100, BUDGET);
    let text = format!("\"{}\"", "x".repeat(500));
    let before: Vec<u64> = (0..10)
        .map(|n| publish(&topics, &format!("room:{n}"), &text) - 1)
        .collect();
    for n in 1..200_u64 {
        publish(&topics, "room:0", &text);
        publish(&topics, "room:big", &text);
        assert!(topics.retained_bytes() <= BUDGET, "{n}");
    }
    let complete = |n: usize| {
        let history = topics.since(&format!("room:{n}"), before[n], Millis::ZERO);
        history.unwrap().is_complete()
    };
    // What one busy topic may have leaves room for all that are quiet.
    assert!((1..10).all(complete) && !complete(0));

    for n in 0..40 {
        publish(&topics, &format!("room:more:{n}"), &text);
        publish(&topics, "room:1", &text);
        assert!(topics.retained_bytes() <= BUDGET);
    }
    assert!((2..10).all(|n| !complete(n)), "they were quiet");
    let history = topics.since("room:1", 0, Millis::ZERO).unwrap();
    assert_eq!(history.events.len(), 3, "it was not");
    assert!(evicted(&topics) > 0);
}

#[test]
fn what_does_not_fit_is_numbered_and_leaves_a_gap() {
    let topics = table(100, 8 * 1_000);
    let before = publish(&topics, "room:1", "1") - 1;
    let large = format!("\"{}\"", "x".repeat(1_000));
    let number = publish(&topics, "room:1", &large);
    assert_eq!(number, before + 2);
    assert!(
        !topics
            .since("room:1", before, Millis::ZERO)
            .unwrap()
            .is_complete()
    );
    assert!(
        topics
            .since("room:1", number, Millis::ZERO)
            .unwrap()
            .is_complete()
    );
    assert_eq!((topics.retained_bytes(), evicted(&topics)), (0, 2));

    let nothing = table(100, 0);
    let number = publish(&nothing, "room:1", "1");
    assert_eq!(nothing.retained_bytes(), 0);
    let outcome = |from| nothing.since("room:1", from, Millis::ZERO).unwrap().outcome;
    assert_eq!(outcome(number), Outcome::Complete);
    assert_eq!(
        outcome(number - 1),
        Outcome::Gap {
            resumes_at: number + 1
        }
    );
}

#[test]
fn topics_that_keep_events_are_forgotten_last_and_their_numbers_never() {
    let topics = table(8, 1 << 20);
    let kept = publish(&topics, "room:1", "1");
    for n in 0..100 {
        publish(&topics, &format!("lobby:{n}"), "1");
    }
    assert!(
        topics
            .since("room:1", kept - 1, Millis::ZERO)
            .unwrap()
            .is_complete()
    );
    for n in 0..5_000 {
        publish(&topics, &format!("room:x{n}"), "1");
        assert!(topics.len() <= 8);
    }
    let each = topics.retained_bytes() / 8;
    assert!(
        each > 0 && each < 200,
        "{each} bytes each: what was forgotten is given back"
    );
    let again = topics.since("room:1", kept - 1, Millis::ZERO).unwrap();
    assert!(!again.is_complete() && again.events.is_empty() && again.position >= kept);
    assert!(publish(&topics, "room:1", "1") > kept);
    let late = topics.since("room:1", kept - 1, Millis::ZERO).unwrap();
    assert!(!late.is_complete());
}

fn hub_of(topics: Topics, backlog: usize) -> (Hub, Arc<Topics>) {
    let topics = Arc::new(topics);
    let config = HubConfig {
        limits: Limits {
            backlog_bytes_max: backlog,
            ..Limits::default()
        },
        open_topics: vec![Pattern::new("room:*")],
        ..HubConfig::default()
    };
    let hub = Hub::new(0, Arc::new(config), Arc::clone(&topics));
    (hub, topics)
}

fn resume(hub: &mut Hub, conn: Key, topic: &str, number: u64) {
    let seen = format!(r#""lastSeenSeqs":{{"{topic}":{number}}}"#);
    let text = format!(r#"{{"type":"resume","sessionId":"s",{seen}}}"#);
    let _ = hub.receive(conn, &text);
}

fn told(hub: &mut Hub) -> String {
    let mut wire = Wire::default();
    hub.flush(&mut wire);
    String::from_utf8_lossy(&wire.0).into_owned()
}

#[test]
fn who_comes_back_gets_what_was_missed_only_where_it_may_subscribe() {
    let (mut hub, topics) = hub_of(table(100, 1 << 20), 1 << 20);
    let seen = publish(&topics, "room:1", "1");
    publish(&topics, "room:1", "2");
    publish(&topics, "room:1", "3");
    let conn = hub.open(None, Millis::ZERO).unwrap();
    resume(&mut hub, conn, "room:1", seen);
    assert_eq!(told(&mut hub), "", "not asked for yet");
    assert!(hub.subscribe_unchecked(conn, "room:1"));
    let publisher = Publisher {
        topics: &topics,
        inboxes: &Nowhere,
        now: Millis::ZERO,
    };
    let four = RawJsonRef::parse_str("4").unwrap();
    let plain = PublishOptions::default();
    publisher
        .publish(Some(&mut hub), "room:1", "e", four, plain)
        .unwrap();
    let text = told(&mut hub);
    let places: Vec<_> = (1..=3)
        .map(|n| text.find(&format!("\"seq\":{}}}", seen + n)))
        .collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{text}"
    );
    assert_eq!(topics.stats().replayed.load(Ordering::Relaxed), 2);

    // The same position again, now that it holds the topic and has had more.
    resume(&mut hub, conn, "room:1", seen + 3);
    assert_eq!(told(&mut hub), "");
    resume(&mut hub, conn, "room:1", seen);
    assert!(
        told(&mut hub).contains("truncated"),
        "older ones would come too late"
    );
}

#[test]
fn what_a_reply_holds_already_is_not_released_again() {
    let (mut hub, topics) = hub_of(table(100, 1 << 20), 1 << 20);
    let conn = hub.open(None, Millis::ZERO).unwrap();
    assert!(hub.subscribe_unchecked(conn, "room:1") && hub.hold(conn, "room:1", 1));
    let publisher = Publisher {
        topics: &topics,
        inboxes: &Nowhere,
        now: Millis::ZERO,
    };
    let mut say = |numbered| {
        let data = RawJsonRef::parse_str(r#"{"seq":1}"#).unwrap();
        let options = PublishOptions {
            numbered,
            volatile: false,
        };
        let published = publisher.publish(Some(&mut hub), "room:1", "e", data, options);
        published.unwrap().seq
    };
    let first = say(true).unwrap();
    say(true);
    say(false);
    say(true);
    let released = hub.release_after(conn, "room:1", 1, first + 1).unwrap();
    assert_eq!(
        (released.frames, released.dropped),
        (2, 0),
        "one of them has no number"
    );
    let text = told(&mut hub);
    assert!(
        !text.contains(&format!("\"seq\":{}}}", first + 1)),
        "{text}"
    );
    assert!(text.contains(&format!("\"seq\":{}}}", first + 2)), "{text}");
    assert!(hub.release_after(conn, "room:1", 1, 0).is_none());
}

/// Two requests for a stream are under way: what the first reply lacks may be missing in the
/// second one's value too.
#[test]
fn events_wait_for_everybody_who_holds_them() {
    for (numbers, frames) in [
        ([1, 2], 2),
        ([2, 1], 2),
        ([0, 2], 3),
        ([2, 0], 3),
        ([3, 3], 0),
    ] {
        let (mut hub, topics) = hub_of(table(100, 1 << 20), 1 << 20);
        let conn = hub.open(None, Millis::ZERO).unwrap();
        assert!(!hub.hold(conn, "room:1", 7), "it does not hold the topic");
        assert!(hub.subscribe_unchecked(conn, "room:1") && hub.hold(conn, "room:1", 7));
        assert!(!hub.hold(conn, "room:1", 7), "it holds them already");
        // As the host does it.
        hub.subscribe(conn, "room:1", 1, Some(8));
        let publisher = Publisher {
            topics: &topics,
            inboxes: &Nowhere,
            now: Millis::ZERO,
        };
        let mut say = || {
            let options = PublishOptions::default();
            let hub = Some(&mut hub);
            let published = publisher.publish(hub, "room:1", "e", RawJsonRef::TRUE, options);
            published.unwrap().seq.unwrap()
        };
        let first = [say(), say(), say()][0];
        let number = |nth: u64| if nth == 0 { 0 } else { first + nth - 1 };
        assert!(hub.release(conn, "room:1", 9).is_none(), "a stranger");
        assert!(
            hub.release_after(conn, "room:1", 7, number(numbers[0]))
                .is_none()
        );
        assert!(
            hub.release_after(conn, "room:1", 7, number(numbers[0]))
                .is_none()
        );
        assert!(!told(&mut hub).contains("room:1"));
        let released = hub
            .release_after(conn, "room:1", 8, number(numbers[1]))
            .unwrap();
        assert_eq!(released.frames, frames, "{numbers:?}");
        // Who comes now finds a connection that receives them.
        hub.subscribe(conn, "room:1", 2, Some(9));
        assert!(hub.release(conn, "room:1", 9).is_none());
        told(&mut hub);
    }
}

/// A client leaves the topic while a first value is loaded, and asks again.
#[test]
fn an_old_reply_releases_nothing_of_a_new_subscription() {
    let (mut hub, _) = hub_of(table(100, 1 << 20), 1 << 20);
    let conn = hub.open(None, Millis::ZERO).unwrap();
    assert!(hub.subscribe_unchecked(conn, "room:1") && hub.hold(conn, "room:1", 7));
    assert!(hub.unsubscribe(conn, "room:1"));
    assert!(hub.subscribe_unchecked(conn, "room:1") && hub.hold(conn, "room:1", 8));
    assert!(hub.release(conn, "room:1", 7).is_none());
    assert!(hub.release(conn, "room:1", 8).is_some());
}

#[test]
fn a_resume_brings_no_more_than_a_slow_reader_may_have() {
    for (backlog, marked) in [(2_000, true), (4_000, false)] {
        let (mut hub, topics) = hub_of(table(100, 1 << 20), backlog);
        let text = format!("\"{}\"", "x".repeat(1_000));
        let seen = publish(&topics, "room:1", &text) - 1;
        publish(&topics, "room:1", &text);
        publish(&topics, "room:1", &text);
        let conn = hub.open(None, Millis::ZERO).unwrap();
        resume(&mut hub, conn, "room:1", seen);
        assert!(hub.subscribe_unchecked(conn, "room:1"));
        assert!(hub.pending(conn) <= backlog);
        assert_eq!(told(&mut hub).contains("truncated"), marked);
    }
}

#[test]
fn positions_of_every_kind_are_answered() {
    for position in ["-1", "0.5", "1e300", "-0", "null", "\"1\"", "1e-400"] {
        let (mut hub, topics) = hub_of(table(100, 1 << 20), 1 << 20);
        publish(&topics, "room:1", "1");
        let conn = hub.open(None, Millis::ZERO).unwrap();
        let seen = format!(r#""lastSeenSeqs":{{"room:1":{position}}}"#);
        let _ = hub.receive(
            conn,
            &format!(r#"{{"type":"resume","sessionId":"s",{seen}}}"#),
        );
        assert!(hub.subscribe_unchecked(conn, "room:1"));
        let number = position.parse::<f64>().is_ok();
        assert_eq!(told(&mut hub).contains("truncated"), number, "{position}");
    }
}

#[test]
fn threads_that_evict_each_others_events_end_and_stay_in_the_budget() {
    const BUDGET: usize = 10_000;
    for topics_max in [64, 1_000] {
        let topics = table(topics_max, BUDGET);
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let topics = &topics;
                scope.spawn(move || {
                    for n in 0..3_000 {
                        let topic = format!("room:{}", (n * 7 + thread) % 90);
                        publish(topics, &topic, "[1,2,3]");
                    }
                });
            }
        });
        publish(&topics, "room:0", "1");
        assert!(topics.retained_bytes() <= BUDGET);
        let kept = |n: i32| {
            let topic = topics.find(&format!("room:{n}"))?;
            let history = topics.since(topic.name(), 0, Millis::ZERO)?;
            Some(history.events.len())
        };
        let kept: usize = (0..90).filter_map(kept).sum();
        assert!((30..BUDGET / 64).contains(&kept), "{kept}");
    }
}

#[test]
fn keeping_an_event_allocates_once() {
    let (mut hub, topics) = hub_of(table(100, 1 << 26), 1 << 20);
    for _ in 0..100 {
        let conn = hub.open(None, Millis::ZERO).unwrap();
        assert!(hub.subscribe_unchecked(conn, "room:big"));
    }
    let data = RawJsonRef::parse_str(r#"{"id":1}"#).unwrap();
    let mut turn = |times: usize| {
        let publisher = Publisher {
            topics: &topics,
            inboxes: &Nowhere,
            now: Millis::ZERO,
        };
        for _ in 0..times {
            let plain = PublishOptions::default();
            publisher
                .publish(Some(&mut hub), "room:big", "e", data, plain)
                .unwrap();
        }
        let mut wire = Wire(Vec::with_capacity(1 << 20));
        hub.flush(&mut wire);
    };
    turn(2_000);
    let measured = allocation_counter::measure(|| turn(64));
    // The frame of each event, and the buffer of this test.
    assert_eq!(measured.count_total, 64 + 1);
    let kept = topics.since("room:big", 0, Millis::ZERO).unwrap();
    assert_eq!(kept.events.len(), 1_000);
}
