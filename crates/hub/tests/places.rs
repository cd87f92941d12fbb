//! A topic remembers where each hub has put it. Places are used again, topics are forgotten and
//! made anew: events have to find their subscribers all the same, and nobody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use millstream_core::{Key, Millis, RawJsonRef};
use millstream_hub::{
    BatchMember, Delivery, Hub, HubConfig, Inboxes, PolicyTable, PublishOptions, Published,
    Publisher, Sink, Topics, Wrote,
};

#[derive(Default)]
struct Queues(RefCell<Vec<VecDeque<Delivery>>>);

impl Inboxes for Queues {
    fn push(&self, worker: u16, delivery: Delivery) {
        self.0.borrow_mut()[usize::from(worker)].push_back(delivery);
    }

    fn is_empty(&self, worker: u16) -> bool {
        self.0.borrow()[usize::from(worker)].is_empty()
    }

    fn is_full(&self, _: u16) -> bool {
        false
    }
}

#[derive(Default)]
struct Wires(HashMap<Key, String>);

impl Sink for Wires {
    fn send(&mut self, conn: Key, bytes: &[u8]) -> Wrote {
        let text = String::from_utf8_lossy(bytes);
        self.0.entry(conn).or_default().push_str(&text);
        Wrote::Bytes(bytes.len())
    }
}

struct Cluster {
    topics: Arc<Topics>,
    queues: Queues,
    hubs: Vec<Hub>,
}

impl Cluster {
    fn new(workers: u16, topics_max: u32) -> Self {
        let policies = PolicyTable::default();
        let topics = Topics::new(workers, 1, topics_max, policies, Arc::default());
        let topics = Arc::new(topics);
        let config = Arc::new(HubConfig::default());
        let hub = |worker| Hub::new(worker, Arc::clone(&config), Arc::clone(&topics));
        let queues = Queues(RefCell::new(
            (0..workers).map(|_| VecDeque::new()).collect(),
        ));
        let hubs = (0..workers).map(hub).collect();
        Self {
            topics,
            queues,
            hubs,
        }
    }

    fn conn(&mut self, worker: usize) -> Key {
        self.hubs[worker].open(None, Millis::ZERO).unwrap()
    }

    fn join(&mut self, worker: usize, conn: Key, topic: &str) {
        assert!(self.hubs[worker].subscribe_unchecked(conn, topic));
    }

    fn leave(&mut self, worker: usize, conn: Key, topic: &str) {
        assert!(self.hubs[worker].unsubscribe(conn, topic));
    }

    /// Publishes from a worker, with the topic's own name as the event.
    fn publish(&mut self, from: usize, topic: &str) -> Published {
        let publisher = Publisher {
            topics: &self.topics,
            inboxes: &self.queues,
            now: Millis::ZERO,
        };
        let (hub, options) = (&mut self.hubs[from], PublishOptions::default());
        let data = RawJsonRef::NULL;
        publisher
            .publish(Some(hub), topic, topic, data, options)
            .unwrap()
    }

    /// Delivers and flushes; gives the topics whose events each connection of a worker got.
    fn got(&mut self, worker: usize, conn: Key) -> Vec<String> {
        while let Some(delivery) = {
            let mut queues = self.queues.0.borrow_mut();
            queues[worker].pop_front()
        } {
            self.hubs[worker].deliver(&delivery);
        }
        let mut wires = Wires::default();
        self.hubs[worker].flush(&mut wires);
        let text = wires.0.remove(&conn).unwrap_or_default();
        let others: Vec<&String> = wires.0.values().filter(|text| !text.is_empty()).collect();
        assert!(others.is_empty(), "only one is expected to get anything");
        let events = text.split(r#""event":""#).skip(1);
        events
            .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
            .collect()
    }
}

#[test]
fn a_place_that_another_topic_took() {
    let mut one = Cluster::new(1, 100);
    let (first, second) = (one.conn(0), one.conn(0));
    one.join(0, first, "a");
    one.publish(0, "a");
    assert_eq!(one.got(0, first), ["a"]);
    one.leave(0, first, "a");
    // The only place there is.
    one.join(0, second, "b");
    assert!(!one.publish(0, "a").delivered);
    assert!(one.publish(0, "b").delivered);
    assert_eq!(one.got(0, second), ["b"]);
    // The first comes back, to another place than the one it had.
    one.join(0, first, "a");
    assert!(one.publish(0, "a").delivered);
    assert_eq!(one.got(0, first), ["a"]);
    // And when both change places.
    one.leave(0, first, "a");
    one.leave(0, second, "b");
    one.join(0, first, "b");
    one.join(0, first, "a");
    for topic in ["b", "a", "b"] {
        assert!(one.publish(0, topic).delivered);
    }
    assert_eq!(one.got(0, first), ["b", "a", "b"]);
}

#[test]
fn left_and_taken_within_a_turn() {
    let mut one = Cluster::new(1, 100);
    let (first, second) = (one.conn(0), one.conn(0));
    one.join(0, first, "a");
    one.publish(0, "a");
    one.leave(0, first, "a");
    one.join(0, first, "b");
    one.publish(0, "a");
    one.publish(0, "b");
    assert_eq!(one.got(0, first), ["a", "b"]);
    one.join(0, second, "a");
    one.publish(0, "a");
    assert_eq!(one.got(0, second), ["a"]);
    one.publish(0, "b");
    assert_eq!(one.got(0, first), ["b"]);
}

#[test]
fn each_worker_has_places_of_its_own() {
    let mut two = Cluster::new(2, 100);
    let (here, there) = (two.conn(0), two.conn(1));
    for topic in ["x", "y", "a"] {
        two.join(0, here, topic);
    }
    two.join(1, there, "a");
    for from in [0, 1] {
        two.publish(from, "a");
        assert_eq!(two.got(0, here), ["a"], "from {from}");
        assert_eq!(two.got(1, there), ["a"], "from {from}");
    }
    two.leave(0, here, "a");
    for from in [0, 1] {
        two.publish(from, "a");
        two.publish(from, "x");
        assert_eq!(two.got(0, here), ["x"], "from {from}");
        assert_eq!(two.got(1, there), ["a"], "from {from}");
    }
    two.leave(1, there, "a");
    two.join(1, there, "y");
    two.join(0, here, "a");
    for from in [1, 0] {
        two.publish(from, "a");
        two.publish(from, "y");
        assert_eq!(two.got(0, here), ["a", "y"], "from {from}");
        assert_eq!(two.got(1, there), ["y"], "from {from}");
    }
}

#[test]
fn a_topic_forgotten_and_made_anew() {
    let mut one = Cluster::new(1, 2);
    let conn = one.conn(0);
    one.join(0, conn, "a");
    let before = one.topics.find("a").unwrap();
    one.leave(0, conn, "a");
    // No room for both of these and the first.
    one.join(0, conn, "b");
    one.publish(0, "c");
    assert!(one.topics.find("a").is_none());
    assert_eq!(one.got(0, conn), [""; 0]);
    one.join(0, conn, "a");
    let after = one.topics.find("a").unwrap();
    assert_ne!(before.id(), after.id());
    assert!(one.publish(0, "a").delivered);
    assert!(one.publish(0, "b").delivered);
    assert_eq!(one.got(0, conn), ["a", "b"]);
}

#[test]
fn many_topics_come_and_go() {
    let mut one = Cluster::new(1, 1_000);
    let conn = one.conn(0);
    let names: Vec<String> = (0..50).map(|topic| format!("t{topic}")).collect();
    for round in 0..40_usize {
        let held: Vec<&String> = (0..8)
            .map(|nth| &names[(round * 7 + nth * 11) % 50])
            .collect();
        for topic in &held {
            one.join(0, conn, topic);
        }
        for topic in &names {
            assert_eq!(one.publish(0, topic).delivered, held.contains(&topic));
        }
        let mut due: Vec<&String> = names.iter().filter(|name| held.contains(name)).collect();
        due.sort_by_key(|name| names.iter().position(|other| other == *name));
        assert_eq!(one.got(0, conn).iter().collect::<Vec<_>>(), due);
        for topic in held {
            one.leave(0, conn, topic);
        }
    }
}

#[test]
fn publishes_are_counted_before_they_can_be_seen() {
    struct Reading<'a>(&'a Topics, u64);
    impl Sink for Reading<'_> {
        fn send(&mut self, _: Key, bytes: &[u8]) -> Wrote {
            let stats = self.0.stats();
            self.1 = stats.published.load(core::sync::atomic::Ordering::Relaxed);
            Wrote::Bytes(bytes.len())
        }
    }
    let mut one = Cluster::new(1, 100);
    let conn = one.conn(0);
    one.join(0, conn, "a");
    one.publish(0, "a");
    one.publish(0, "nobody");
    let member = BatchMember {
        topic: "a",
        event: "e",
        data: RawJsonRef::NULL,
        coalesce_key: None,
        numbered: true,
    };
    let publisher = Publisher {
        topics: &one.topics,
        inboxes: &one.queues,
        now: Millis::ZERO,
    };
    let hub = &mut one.hubs[0];
    publisher
        .publish_batched(Some(&mut *hub), &[member; 3], 8)
        .unwrap();
    let topics = Arc::clone(&one.topics);
    let mut reading = Reading(&topics, 0);
    hub.flush(&mut reading);
    assert_eq!(reading.1, 5);
    let rates = topics.take_rates();
    let bytes: u64 = rates.iter().map(|rate| rate.bytes).sum();
    let counted = &topics.stats().published_bytes;
    assert_eq!(
        counted.load(core::sync::atomic::Ordering::Relaxed),
        bytes,
        "as the topics have counted"
    );
}
