//! What a delivery costs: no allocation per subscriber, one write per connection and turn.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::sync::Arc;

use millstream_core::{Key, Millis, RawJsonRef};
use millstream_hub::{
    Delivery, Hub, HubConfig, Inboxes, PublishOptions, Publisher, Sink, Topics, Wrote,
};

/// Counts writes and takes everything.
#[derive(Default)]
struct Counting {
    writes: usize,
    bytes: usize,
}

impl Sink for Counting {
    fn send(&mut self, _: Key, bytes: &[u8]) -> Wrote {
        self.writes += 1;
        self.bytes += bytes.len();
        Wrote::Bytes(bytes.len())
    }

    fn send_vectored(&mut self, conn: Key, parts: &[std::io::IoSlice<'_>]) -> Wrote {
        let _ = conn;
        self.writes += 1;
        let bytes = parts.iter().map(|part| part.len()).sum();
        self.bytes += bytes;
        Wrote::Bytes(bytes)
    }
}

struct Alone;

impl Inboxes for Alone {
    fn push(&self, _: u16, _: Delivery) {}

    fn is_empty(&self, _: u16) -> bool {
        true
    }

    fn is_full(&self, _: u16) -> bool {
        false
    }
}

struct Room {
    hub: Hub,
    topics: Arc<Topics>,
    conns: Vec<Key>,
}

impl Room {
    fn new(connections: usize, topics_each: usize) -> Self {
        let mut hub = Hub::single(HubConfig::default());
        let conns: Vec<Key> = (0..connections)
            .map(|_| hub.open(None, Millis::ZERO).unwrap())
            .collect();
        for conn in &conns {
            for topic in 0..topics_each {
                assert!(hub.subscribe_unchecked(*conn, &format!("room:{topic}")));
            }
        }
        let topics = Arc::clone(hub.topics());
        Self { hub, topics, conns }
    }

    fn publish(&mut self, topic: &str, times: usize) {
        let data = RawJsonRef::parse(b"{\"id\":1,\"text\":\"hello\"}").unwrap();
        let publisher = Publisher {
            topics: &self.topics,
            inboxes: &Alone,
            now: Millis::ZERO,
        };
        for _ in 0..times {
            let options = PublishOptions::default();
            publisher
                .publish(Some(&mut self.hub), topic, "created", data, options)
                .unwrap();
        }
    }

    /// Allocations of a turn with `times` publishes to `topics`, after two turns of warming up.
    fn allocations(&mut self, topics: &[&str], times: usize) -> u64 {
        let mut sink = Counting::default();
        for _ in 0..2 {
            for topic in topics {
                self.publish(topic, times);
            }
            self.hub.flush(&mut sink);
        }
        let measured = allocation_counter::measure(|| {
            for topic in topics {
                self.publish(topic, times);
            }
            self.hub.flush(&mut sink);
        });
        // The rates are taken every second in a server; here the list only grows.
        let _ = self.topics.take_rates();
        measured.count_total
    }
}

#[test]
fn delivering_to_subscribers_allocates_nothing() {
    for connections in [100, 1_000, 4_000] {
        let mut room = Room::new(connections, 1);
        assert_eq!(
            room.allocations(&["room:0"], 1),
            0,
            "{connections} connections"
        );
        assert_eq!(
            room.allocations(&["room:0"], 64),
            0,
            "{connections} connections, a burst"
        );
    }
}

#[test]
fn delivering_two_topics_in_one_turn_allocates_nothing() {
    for connections in [100, 1_000] {
        let mut room = Room::new(connections, 2);
        assert_eq!(
            room.allocations(&["room:0", "room:1"], 3),
            0,
            "{connections} connections"
        );
    }
}

#[test]
fn delivering_many_topics_of_one_subscriber_each_allocates_nothing() {
    let mut room = Room::new(60, 0);
    let names: Vec<String> = (0..60).map(|nth| format!("private:{nth}")).collect();
    for (conn, name) in room.conns.clone().iter().zip(&names) {
        assert!(room.hub.subscribe_unchecked(*conn, name));
    }
    let topics: Vec<&str> = names.iter().map(|name| &**name).collect();
    assert_eq!(room.allocations(&topics, 2), 0, "all of them");
    // What was used for one is there for another.
    let (some, others) = topics.split_at(30);
    assert_eq!(room.allocations(some, 2), 0, "some of them");
    let mut sink = Counting::default();
    let measured = allocation_counter::measure(|| {
        for topic in others {
            room.publish(topic, 2);
        }
        room.hub.flush(&mut sink);
    });
    // The list of topics that were published to grows.
    assert!(measured.count_total <= 8, "{}", measured.count_total);
    assert_eq!(sink.writes, 30);
}

#[test]
fn a_turn_is_one_write_per_connection() {
    let mut room = Room::new(50, 3);
    let mut sink = Counting::default();
    room.publish("room:0", 16);
    room.hub.flush(&mut sink);
    assert_eq!(sink.writes, 50, "one topic, many frames");

    for topic in ["room:0", "room:1", "room:0", "room:2"] {
        room.publish(topic, 2);
    }
    let first = room.conns[0];
    room.hub.send_text(first, "for you alone");
    room.publish("room:1", 1);
    sink.writes = 0;
    room.hub.flush(&mut sink);
    assert_eq!(sink.writes, 50, "several topics and a direct send");

    sink.writes = 0;
    room.hub.flush(&mut sink);
    assert_eq!(sink.writes, 0, "nothing to say");
}
