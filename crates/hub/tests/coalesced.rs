//! Publishes of which a reader that is behind gets the newest per key, and others everything.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use millstream_core::{Key, Millis, RawJsonRef};
use millstream_hub::{
    Backlogged, Delivery, Hub, HubConfig, Inboxes, Limits, Publisher, Sink, Wrote,
};
use parking_lot::Mutex;

/// A way to another worker that only collects, or none.
#[derive(Default)]
struct Elsewhere(Mutex<Vec<(u16, Delivery)>>);

impl Inboxes for Elsewhere {
    fn push(&self, worker: u16, delivery: Delivery) {
        self.0.lock().push((worker, delivery));
    }

    fn is_empty(&self, _: u16) -> bool {
        true
    }

    fn is_full(&self, _: u16) -> bool {
        false
    }
}

/// Sockets, some of which take nothing.
#[derive(Default)]
struct Sockets {
    full: Vec<Key>,
    bytes: HashMap<Key, Vec<u8>>,
}

impl Sink for Sockets {
    fn send(&mut self, conn: Key, bytes: &[u8]) -> Wrote {
        if self.full.contains(&conn) {
            return Wrote::Bytes(0);
        }
        self.bytes.entry(conn).or_default().extend_from_slice(bytes);
        Wrote::Bytes(bytes.len())
    }

    fn send_vectored(&mut self, conn: Key, parts: &[std::io::IoSlice<'_>]) -> Wrote {
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.send(conn, &joined)
    }
}

struct Desk {
    hub: Hub,
    sockets: Sockets,
    elsewhere: Elsewhere,
}

impl Desk {
    fn new() -> Self {
        let limits = Limits {
            coalesce_keys_max: 3,
            ..Limits::default()
        };
        let config = HubConfig {
            limits,
            ..HubConfig::default()
        };
        Self {
            hub: Hub::single(config),
            sockets: Sockets::default(),
            elsewhere: Elsewhere::default(),
        }
    }

    fn open(&mut self, topics: &[&str]) -> Key {
        let conn = self.hub.open(None, Millis::ZERO).unwrap();
        for topic in topics {
            assert!(self.hub.subscribe_unchecked(conn, topic));
        }
        conn
    }

    /// The connection reads nothing from now on, and something waits for it.
    fn stall(&mut self, conn: Key) {
        self.sockets.full.push(conn);
        self.hub.send(conn, "first", "e", RawJsonRef::NULL);
        self.flush();
    }

    /// It reads again.
    fn catch_up(&mut self, conn: Key) {
        self.sockets.full.retain(|full| *full != conn);
        assert_eq!(
            self.hub.write_more(conn, &mut self.sockets),
            Backlogged::Drained
        );
        self.flush();
    }

    fn flush(&mut self) {
        self.hub.flush(&mut self.sockets);
    }

    fn publish(&mut self, topic: &str, key: Option<&str>, data: &str) {
        let topics = Arc::clone(self.hub.topics());
        let publisher = Publisher {
            topics: &topics,
            inboxes: &self.elsewhere,
            now: Millis::ZERO,
        };
        let data = RawJsonRef::parse(data.as_bytes()).unwrap();
        let published = publisher
            .publish_coalesced(Some(&mut self.hub), topic, "e", data, key)
            .unwrap();
        assert_eq!(published.seq, None);
    }

    /// Topics and data of what a connection got since the last time.
    fn got(&mut self, conn: Key) -> Vec<String> {
        let bytes = self.sockets.bytes.remove(&conn).unwrap_or_default();
        let mut rest = &bytes[..];
        let mut got = Vec::new();
        while let [_, length @ 0..=125, tail @ ..] = rest {
            let (text, others) = tail.split_at(usize::from(*length));
            let json = RawJsonRef::parse(text).unwrap();
            let topic = json.field("topic").unwrap().as_json_str().unwrap();
            assert!(json.field("seq").is_none());
            got.push(format!(
                "{} {}",
                topic.to_cow(),
                json.field("data").unwrap().as_str()
            ));
            rest = others;
        }
        assert!(rest.is_empty(), "short frames only");
        got
    }

    fn lost(&self) -> u64 {
        self.hub
            .topics()
            .stats()
            .dropped_coalesced
            .load(Ordering::Relaxed)
    }
}

#[test]
fn a_slow_reader_gets_the_newest_of_each_key_in_the_first_place_and_a_fast_one_everything() {
    let mut desk = Desk::new();
    let (slow, fast) = (desk.open(&["t"]), desk.open(&["t"]));
    desk.stall(slow);
    for (turn, key, data) in [(0, "a", "1"), (0, "b", "2"), (1, "a", "3"), (1, "a", "4")] {
        desk.publish("t", Some(key), data);
        if turn == 1 {
            desk.flush();
        }
    }
    assert_eq!(desk.got(fast), ["t 1", "t 2", "t 3", "t 4"]);
    assert!(desk.got(slow).is_empty());
    desk.catch_up(slow);
    assert_eq!(desk.got(slow), ["first null", "t 4", "t 2"]);
    assert_eq!(desk.lost(), 2);
    // It is not behind any more.
    desk.publish("t", Some("a"), "5");
    desk.publish("t", Some("a"), "6");
    desk.flush();
    assert_eq!(desk.got(slow), ["t 5", "t 6"]);
}

#[test]
fn keys_belong_to_their_topic_and_sends_have_their_own() {
    let mut desk = Desk::new();
    let conn = desk.open(&["t", "u"]);
    desk.stall(conn);
    desk.publish("t", Some("a"), "1");
    desk.publish("u", Some("a"), "2");
    desk.flush();
    desk.hub
        .send_coalesced(conn, "a", "t", "e", RawJsonRef::TRUE);
    desk.publish("t", Some("a"), "3");
    desk.flush();
    desk.catch_up(conn);
    assert_eq!(desk.got(conn), ["first null", "t 3", "u 2", "t true"]);
}

#[test]
fn an_event_without_key_takes_the_place_of_all_that_waits_of_its_topic() {
    let mut desk = Desk::new();
    let conn = desk.open(&["t", "u"]);
    desk.stall(conn);
    for (topic, key, data) in [
        ("t", Some("a"), "1"),
        ("u", Some("a"), "2"),
        ("t", None, "[3]"),
        ("t", Some("a"), "4"),
    ] {
        desk.publish(topic, key, data);
    }
    desk.flush();
    desk.catch_up(conn);
    assert_eq!(desk.got(conn), ["first null", "u 2", "t [3]", "t 4"]);
}

#[test]
fn what_waits_of_a_topic_is_dropped_with_its_subscription() {
    let mut desk = Desk::new();
    let conn = desk.open(&["t", "u"]);
    desk.stall(conn);
    desk.publish("t", Some("a"), "1");
    desk.publish("u", Some("a"), "2");
    desk.flush();
    assert!(desk.hub.unsubscribe(conn, "t"));
    assert!(desk.hub.subscribe_unchecked(conn, "t"));
    desk.catch_up(conn);
    assert_eq!(desk.got(conn), ["first null", "u 2"]);
    assert_eq!(desk.lost(), 1);
}

#[test]
fn keys_are_bounded_and_the_oldest_goes_first() {
    let mut desk = Desk::new();
    let conn = desk.open(&["t"]);
    desk.stall(conn);
    for n in 0..100_000 {
        desk.publish("t", Some(&n.to_string()), &n.to_string());
        if n % 1_000 == 0 {
            desk.flush();
        }
    }
    desk.flush();
    desk.catch_up(conn);
    assert_eq!(
        desk.got(conn),
        ["first null", "t 99997", "t 99998", "t 99999"]
    );
    assert_eq!(desk.lost(), 99_997);
}

#[test]
fn a_turn_that_meets_a_full_socket_keeps_the_first_event_and_the_newest_of_the_others() {
    let mut desk = Desk::new();
    let conn = desk.open(&["t"]);
    desk.sockets.full.push(conn);
    for data in ["1", "2", "3"] {
        desk.publish("t", Some("a"), data);
    }
    desk.flush();
    desk.catch_up(conn);
    assert_eq!(desk.got(conn), ["t 1", "t 3"]);
}

#[test]
fn it_is_the_same_from_another_worker_and_behind_output_of_its_own() {
    let mut desk = Desk::new();
    let conn = desk.open(&["t", "other"]);
    let id = desk.hub.topics().find("t").unwrap().id();
    desk.stall(conn);
    for (ordinal, data) in [(1, "1"), (2, "2")] {
        let mut frame = Vec::new();
        millstream_wire::encode_send(&mut frame, "t", "e", RawJsonRef::parse_str(data).unwrap());
        let delivery = Delivery::Keyed {
            topic: id,
            ordinal,
            frame: Bytes::from(frame),
            key: Some("a".into()),
        };
        desk.hub.deliver(&delivery);
        // Output of its own in the same turn.
        desk.hub
            .send(conn, "own", "e", RawJsonRef::parse_str(data).unwrap());
    }
    desk.flush();
    desk.catch_up(conn);
    assert_eq!(desk.got(conn), ["first null", "own 1", "own 2", "t 2"]);
}

#[test]
fn nothing_is_allocated_per_reader_while_nobody_is_behind() {
    let counts: Vec<u64> = [10, 1_000]
        .into_iter()
        .map(|readers| {
            let mut desk = Desk::new();
            for _ in 0..readers {
                desk.open(&["t"]);
            }
            let turn = |desk: &mut Desk| {
                for key in ["a", "b"] {
                    desk.publish("t", Some(key), "1");
                }
                desk.hub.flush(&mut Discard);
            };
            turn(&mut desk);
            turn(&mut desk);
            allocation_counter::measure(|| turn(&mut desk)).count_total
        })
        .collect();
    assert_eq!(counts[0], counts[1]);
    assert!(counts[0] <= 5, "{counts:?}");
}

/// Takes everything.
struct Discard;

impl Sink for Discard {
    fn send(&mut self, _: Key, bytes: &[u8]) -> Wrote {
        Wrote::Bytes(bytes.len())
    }
}

#[test]
fn who_is_held_back_gets_every_event() {
    let mut desk = Desk::new();
    let conn = desk.open(&["t"]);
    assert!(desk.hub.hold(conn, "t", 1));
    desk.publish("t", Some("a"), "1");
    desk.publish("t", Some("a"), "2");
    desk.flush();
    assert!(desk.got(conn).is_empty());
    assert_eq!(desk.hub.release(conn, "t", 1).unwrap().frames, 2);
    desk.flush();
    assert_eq!(desk.got(conn), ["t 1", "t 2"]);
}
