//! What a reader that does not keep up loses, what it is told, and what stays bounded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use millstream_core::{Key, Millis, RawJsonRef};
use millstream_hub::{
    Backlogged, BatchMember, Delivery, Event, Hub, HubConfig, Inboxes, Limits, Overflow, Pattern,
    PolicyTable, PublishOptions, Publisher, Receipt, Sent, Sink, TopicPolicy, Topics, Wrote,
};
use millstream_wire::{DecodeLimits, Decoder, Event as Frame, Input, Role};

struct Nobody;

impl Inboxes for Nobody {
    fn push(&self, _: u16, _: Delivery) {}

    fn is_empty(&self, _: u16) -> bool {
        true
    }

    fn is_full(&self, _: u16) -> bool {
        false
    }
}

/// A socket that is either full or takes everything.
#[derive(Default)]
struct Socket {
    full: bool,
    bytes: Vec<u8>,
}

impl Sink for Socket {
    fn send(&mut self, _: Key, bytes: &[u8]) -> Wrote {
        if self.full {
            return Wrote::Bytes(0);
        }
        self.bytes.extend_from_slice(bytes);
        Wrote::Bytes(bytes.len())
    }

    fn send_vectored(&mut self, conn: Key, parts: &[std::io::IoSlice<'_>]) -> Wrote {
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.send(conn, &joined)
    }
}

struct Desk {
    hub: Hub,
    conn: Key,
    socket: Socket,
}

const BACKLOG: usize = 1_000;

impl Desk {
    fn new(hello: bool) -> Self {
        let overflow = |overflow| TopicPolicy {
            overflow,
            ..TopicPolicy::default()
        };
        let policies = PolicyTable::default()
            .with(Pattern::new("latest:*"), overflow(Overflow::Coalesce))
            .with(Pattern::new("queue:*"), overflow(Overflow::DropOldest))
            .with(
                Pattern::new("cursor"),
                TopicPolicy {
                    volatile: true,
                    ..Default::default()
                },
            );
        let limits = Limits {
            backlog_bytes_max: BACKLOG,
            ..Limits::default()
        };
        let topics = Topics::new(1, 1, 10_000, policies, Arc::default());
        let config = HubConfig {
            limits,
            ..HubConfig::default()
        };
        let mut hub = Hub::new(0, Arc::new(config), Arc::new(topics));
        let conn = hub.open(None, Millis::ZERO).expect("room");
        if hello {
            let hello = r#"{"type":"hello","caps":["batch"]}"#;
            assert_eq!(hub.receive(conn, hello), Receipt::Control);
        }
        Self {
            hub,
            conn,
            socket: Socket::default(),
        }
    }

    /// The socket takes nothing from now on, and something waits already.
    fn stall(&mut self) {
        self.socket.full = true;
        let data = RawJsonRef::NULL;
        self.hub.send(self.conn, "first", "e", data);
        self.hub.flush(&mut self.socket);
        assert!(self.hub.has_backlog(self.conn));
    }

    fn join(&mut self, topic: &str) {
        assert!(self.hub.subscribe_unchecked(self.conn, topic));
    }

    fn publish(&mut self, topic: &str, data: &str) {
        let topics = Arc::clone(self.hub.topics());
        let publisher = Publisher {
            topics: &topics,
            inboxes: &Nobody,
            now: Millis::ZERO,
        };
        let data = RawJsonRef::parse(data.as_bytes()).expect("json");
        let options = PublishOptions::default();
        publisher
            .publish(Some(&mut self.hub), topic, "e", data, options)
            .expect("published");
    }

    fn publish_batch(&mut self, topics: &[&str], data: &str) {
        let shared = Arc::clone(self.hub.topics());
        let publisher = Publisher {
            topics: &shared,
            inboxes: &Nobody,
            now: Millis::ZERO,
        };
        let data = RawJsonRef::parse(data.as_bytes()).expect("json");
        let member = |topic| BatchMember {
            topic,
            event: "e",
            data,
            coalesce_key: None,
            numbered: true,
        };
        let members: Vec<_> = topics.iter().copied().map(member).collect();
        publisher
            .publish_batched(Some(&mut self.hub), &members, 100)
            .expect("published");
    }

    fn flush(&mut self) {
        self.hub.flush(&mut self.socket);
    }

    /// The socket takes everything again; gives what arrived, numbers cut off.
    fn catch_up(&mut self) -> Vec<String> {
        self.socket.full = false;
        assert_eq!(
            self.hub.write_more(self.conn, &mut self.socket),
            Backlogged::Drained
        );
        self.flush();
        self.take()
    }

    fn take(&mut self) -> Vec<String> {
        let mut bytes = std::mem::take(&mut self.socket.bytes);
        let mut decoder = Decoder::new(Role::Client);
        let limits = DecodeLimits {
            message_bytes_max: 1 << 24,
            ..DecodeLimits::default()
        };
        let mut input = Input::new(&mut bytes);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next(&mut input, &limits).expect("frames") {
            frames.push(match frame {
                Frame::Text(text) => match text.split_once(r#","seq":"#) {
                    Some((event, _)) => event.to_owned(),
                    None => text.to_owned(),
                },
                Frame::Close { code, .. } => format!("close {code:?}"),
                other => panic!("{other:?}"),
            });
        }
        frames
    }
}

fn event(topic: &str, data: &str) -> String {
    format!(r#"{{"topic":"{topic}","event":"e","data":{data}"#)
}

fn mark(topic: &str) -> String {
    format!(r#"{{"topic":"{topic}","event":"end","data":{{"reqId":0,"truncated":true}}}}"#)
}

const FIRST: &str = r#"{"topic":"first","event":"e","data":null}"#;

#[test]
fn a_coalescing_topic_keeps_its_newest_event_and_one_mark() {
    let mut desk = Desk::new(false);
    desk.join("latest:1");
    desk.stall();
    for n in 0..1_000 {
        desk.publish("latest:1", &n.to_string());
        desk.flush();
        assert!(desk.hub.pending(desk.conn) <= BACKLOG + 100);
    }
    let got = desk.catch_up();
    let (events, marks): (Vec<&String>, Vec<&String>) =
        got.iter().partition(|frame| **frame != mark("latest:1"));
    assert_eq!(marks.len(), 1);
    assert_eq!(events.last(), Some(&&event("latest:1", "999")));
    assert_eq!(events.first(), Some(&&FIRST.to_owned()));
}

#[test]
fn the_mark_of_a_drop_oldest_topic_stands_before_what_is_left() {
    let mut desk = Desk::new(false);
    desk.join("queue:1");
    desk.stall();
    let data = |n: usize| format!("\"{n}{}\"", "x".repeat(200));
    for n in 0..10 {
        desk.publish("queue:1", &data(n));
        desk.flush();
    }
    let got = desk.catch_up();
    assert_eq!(got[..2], [FIRST.to_owned(), mark("queue:1")]);
    let left: Vec<String> = (10 - (got.len() - 2)..10)
        .map(|n| event("queue:1", &data(n)))
        .collect();
    assert_eq!(got[2..], left[..]);
    let lost = 10 - left.len() as u64;
    assert_eq!(
        desk.hub
            .topics()
            .stats()
            .dropped_oldest
            .load(Ordering::Relaxed),
        lost
    );
}

#[test]
fn batches_are_skipped_for_a_slow_reader_that_understands_them() {
    let mut desk = Desk::new(true);
    desk.join("a");
    desk.join("b");
    desk.stall();
    let data = format!("\"{}\"", "x".repeat(100));
    for _ in 0..5_000 {
        desk.publish_batch(&["a", "b", "b"], &data);
        desk.flush();
    }
    assert!(desk.hub.pending(desk.conn) <= BACKLOG);
    assert_eq!(desk.hub.poll_event(), None, "it is skipped, not closed");
    desk.catch_up();
    let stats = desk.hub.topics().stats();
    assert!(stats.dropped_newest.load(Ordering::Relaxed) > 3 * 4_990);
    assert_eq!(stats.gap_marks.load(Ordering::Relaxed), 2);
}

#[test]
fn a_gap_is_told_before_the_last_events_in_front_of_a_close() {
    let mut desk = Desk::new(false);
    desk.join("a");
    desk.stall();
    let lost = format!("\"{}\"", "x".repeat(BACKLOG));
    desk.publish("a", &lost);
    desk.flush();
    desk.publish("a", "2");
    desk.hub.say_close(desk.conn, 4_000, "");
    assert_eq!(
        desk.catch_up(),
        [
            FIRST.to_owned(),
            mark("a"),
            event("a", "2"),
            "close Some(4000)".to_owned()
        ]
    );
}

#[test]
fn volatile_events_held_back_are_lost_as_volatile_ones() {
    let mut desk = Desk::new(false);
    desk.join("cursor");
    assert!(desk.hub.hold(desk.conn, "cursor", 1));
    desk.stall();
    let large = format!("\"{}\"", "x".repeat(BACKLOG));
    desk.publish("cursor", &large);
    assert_eq!(
        desk.hub
            .release(desk.conn, "cursor", 1)
            .map(|released| released.frames),
        Some(1)
    );
    desk.flush();
    assert_eq!(desk.catch_up(), [FIRST.to_owned()], "nobody is told");
    assert_eq!(
        desk.hub
            .topics()
            .stats()
            .dropped_volatile
            .load(Ordering::Relaxed),
        1
    );
}

#[test]
fn the_marks_of_many_topics_do_not_come_at_once() {
    let mut desk = Desk::new(false);
    let topics: Vec<String> = (0..4_000).map(|n| format!("topic:{n}")).collect();
    for topic in &topics {
        desk.join(topic);
    }
    desk.stall();
    let large = format!("\"{}\"", "x".repeat(BACKLOG));
    for topic in &topics {
        desk.publish(topic, &large);
        desk.flush();
    }
    let got = desk.catch_up();
    assert_eq!(got.len(), 1 + topics.len());
    assert!(topics.iter().all(|topic| got.contains(&mark(topic))));
}

#[test]
fn a_second_resume_is_remembered_for_its_own_time() {
    let mut desk = Desk::new(false);
    let resume = r#"{"type":"resume","sessionId":"s","lastSeenSeqs":{"a":1}}"#;
    assert_eq!(desk.hub.receive(desk.conn, resume), Receipt::Control);
    desk.hub.handle_timeout(Millis::from_millis(20_000));
    assert_eq!(desk.hub.receive(desk.conn, resume), Receipt::Control);
    desk.hub.handle_timeout(Millis::from_millis(40_000));
    desk.join("a");
    desk.flush();
    assert_eq!(desk.take(), [mark("a")]);
    assert_eq!(desk.hub.receive(desk.conn, resume), Receipt::Control);
    desk.hub.handle_timeout(Millis::from_millis(80_000));
    desk.flush();
    // Held already: told at once, so nothing is left to forget.
    assert_eq!(desk.take(), [mark("a")]);
    assert_eq!(desk.hub.next_deadline(), None);
}

#[test]
fn a_reply_reaches_a_slow_reader_whatever_else_is_dropped() {
    let mut desk = Desk::new(false);
    desk.stall();
    let large = format!("\"{}\"", "x".repeat(BACKLOG));
    let data = RawJsonRef::parse_str(&large).expect("JSON");
    assert_eq!(desk.hub.send(desk.conn, "a", "e", data), Sent::Dropped);
    assert_eq!(desk.hub.reply(desk.conn, "__rpc", "i1", data), Sent::Queued);
    desk.flush();
    let reply = format!(r#"{{"topic":"__rpc","event":"i1","data":{large}}}"#);
    assert_eq!(desk.catch_up(), [FIRST.to_owned(), reply]);
    assert_eq!(desk.hub.poll_event(), None);
}

#[test]
fn replies_that_nobody_reads_end_the_connection() {
    let mut desk = Desk::new(false);
    desk.stall();
    let large = format!(
        "\"{}\"",
        "x".repeat(Limits::default().control_bytes_max / 2)
    );
    let data = RawJsonRef::parse_str(&large).expect("JSON");
    for _ in 0..3 {
        desk.hub.reply(desk.conn, "__rpc", "i1", data);
        desk.flush();
    }
    let closed = desk.hub.poll_event();
    assert!(
        matches!(closed, Some(Event::Close { code: 1013, .. })),
        "{closed:?}"
    );
    desk.hub.close(desk.conn);
    assert_eq!(desk.hub.reply(desk.conn, "__rpc", "i2", data), Sent::Gone);
}
