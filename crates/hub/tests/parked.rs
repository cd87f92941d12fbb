//! Subscribes that come shortly before the application gives the connection the topic, and
//! unsubscribes that come while it is about to.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::{Key, Millis, RawJsonRef};
use millstream_hub::{
    Delivery, Event, Hub, HubConfig, Inboxes, Limits, Pattern, PublishOptions, Publisher, Receipt,
    Sink, Stats, Ticket, Verdict, Wrote,
};
use millstream_wire::{DecodeLimits, Decoder, Event as Frame, Input, Role};

const HOLD: Duration = Duration::from_millis(2_000);

/// What one connection got.
#[derive(Default)]
struct Socket(Vec<u8>);

impl Sink for Socket {
    fn send(&mut self, _: Key, bytes: &[u8]) -> Wrote {
        self.0.extend_from_slice(bytes);
        Wrote::Bytes(bytes.len())
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

/// A hub with one connection and a clock that is set by hand.
struct Rig {
    hub: Hub,
    conn: Key,
    now: u64,
}

impl Rig {
    fn new(limits: Limits) -> Self {
        Self::with(HubConfig {
            limits,
            open_topics: vec![Pattern::new("open:*")],
            park: true,
            ..HubConfig::default()
        })
    }

    fn with(config: HubConfig) -> Self {
        let mut hub = Hub::single(config);
        let conn = hub.open(None, Millis::ZERO).unwrap();
        Self { hub, conn, now: 0 }
    }

    fn say(&mut self, text: &str) {
        assert_eq!(self.hub.receive(self.conn, text), Receipt::Control);
    }

    /// A subscribe with a reference.
    fn ask(&mut self, topic: &str, reference: u32) {
        self.say(&format!(
            r#"{{"type":"subscribe","topic":"{topic}","ref":{reference}}}"#
        ));
    }

    fn advance(&mut self, millis: u64) {
        self.now += millis;
        self.hub.handle_timeout(Millis::from_millis(self.now));
    }

    /// The question about the stream's subscription, if the hub asks one.
    fn ticket(&mut self) -> Ticket {
        match self.hub.poll_event() {
            Some(Event::Ask { ticket, .. }) => ticket,
            other => panic!("a question, not {other:?}"),
        }
    }

    /// A stream opens a topic for the connection.
    fn grant(&mut self, topic: &str, hold: bool) {
        self.hub.subscribe(self.conn, topic, 7, hold.then_some(5));
        let ticket = self.ticket();
        self.hub.settle(ticket, [Verdict::Allow]);
        let result = Ok(());
        assert_eq!(
            self.hub.poll_event(),
            Some(Event::Subscribed { token: 7, result })
        );
    }

    /// The client has no more listeners.
    fn leave(&mut self, topic: &str) {
        self.say(&format!(r#"{{"type":"unsubscribe","topic":"{topic}"}}"#));
        let left = self.hub.poll_event();
        assert!(matches!(left, Some(Event::Unsubscribed { .. })), "{left:?}");
    }

    /// A stream asks for a topic that the connection holds.
    fn share(&mut self, topic: &str, holder: u64) {
        self.hub.subscribe(self.conn, topic, holder, Some(holder));
        let (token, result) = (holder, Ok(()));
        let done = self.hub.poll_event();
        assert_eq!(done, Some(Event::Subscribed { token, result }));
    }

    /// Nothing is kept for later any more.
    fn is_at_rest(&mut self) {
        assert_eq!(self.hub.next_deadline(), None);
        assert_eq!(self.hub.poll_event(), None);
        assert!(self.hub.under_way(self.conn, "a").is_empty());
    }

    /// The frames since the last time.
    fn frames(&mut self) -> Vec<String> {
        let mut socket = Socket::default();
        self.hub.flush(&mut socket);
        let mut input = Input::new(&mut socket.0);
        let mut decoder = Decoder::new(Role::Client);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next(&mut input, &DecodeLimits::default()).unwrap() {
            let Frame::Text(text) = frame else {
                panic!("text only")
            };
            frames.push(text.to_owned());
        }
        frames
    }

    fn publish(&mut self, topic: &str) -> u64 {
        let topics = self.hub.topics().clone();
        let publisher = Publisher {
            topics: &topics,
            inboxes: &Alone,
            now: Millis::from_millis(self.now),
        };
        let options = PublishOptions::default();
        let published = publisher
            .publish(Some(&mut self.hub), topic, "e", RawJsonRef::NULL, options)
            .unwrap();
        published.seq.unwrap_or_default()
    }

    fn count(&mut self, counter: impl Fn(&Stats) -> &AtomicU64) -> u64 {
        let _ = self.frames();
        counter(self.hub.topics().stats()).load(Ordering::Relaxed)
    }
}

fn acked(topic: &str, reference: u32) -> String {
    format!(r#"{{"type":"subscribed","topic":"{topic}","ref":{reference}}}"#)
}

fn denied(topic: &str, reference: u32, reason: &str) -> String {
    format!(
        r#"{{"type":"subscribe-denied","topic":"{topic}","ref":{reference},"reason":"{reason}"}}"#
    )
}

#[test]
fn a_subscribe_is_accepted_once_a_stream_has_opened_the_topic() {
    for hold in [false, true] {
        let mut rig = Rig::new(Limits::default());
        rig.ask("a", 1);
        rig.advance(1_900);
        assert_eq!(rig.frames(), [""; 0], "no answer yet");
        assert!(!rig.hub.holds(rig.conn, "a"), "and nothing else either");
        rig.publish("a");
        rig.grant("a", hold);
        rig.publish("a");
        if hold {
            assert_eq!(rig.frames(), [acked("a", 1)], "not held back");
            assert_eq!(rig.hub.release(rig.conn, "a", 5).unwrap().frames, 1);
            assert_eq!(rig.frames().len(), 1);
        } else {
            let frames = rig.frames();
            assert_eq!(frames[0], acked("a", 1), "before the topic's events");
            assert_eq!(frames.len(), 2, "{frames:?}");
        }
        assert_eq!(rig.hub.next_deadline(), None);
        rig.advance(10_000);
        assert_eq!(rig.frames(), [""; 0], "one answer");
        assert_eq!(rig.hub.subscription_count(rig.conn), 1);
        assert_eq!(rig.count(|stats| &stats.parked), 1);
        assert_eq!(rig.count(|stats| &stats.parked_granted), 1);
        assert_eq!(rig.count(|stats| &stats.denied), 0);
    }
}

#[test]
fn it_is_denied_when_the_time_is_over() {
    let mut rig = Rig::new(Limits::default());
    rig.ask("a", 1);
    rig.advance(500);
    rig.ask("b", 2);
    rig.advance(1_499);
    assert_eq!(rig.frames(), [""; 0]);
    rig.advance(30);
    assert_eq!(rig.frames(), [denied("a", 1, "FORBIDDEN")]);
    assert_eq!(
        rig.hub.poll_event(),
        None,
        "the application is never asked about it"
    );
    rig.advance(500);
    assert_eq!(rig.frames(), [denied("b", 2, "FORBIDDEN")]);
    assert_eq!(rig.hub.next_deadline(), None);
    // Too late: the stream has the topic, and the client may ask again.
    rig.grant("a", false);
    assert_eq!(rig.frames(), [""; 0]);
    assert_eq!(rig.count(|stats| &stats.denied), 2);
}

#[test]
fn a_batch_is_answered_topic_by_topic() {
    let mut rig = Rig::new(Limits::default());
    let topics = r#"["a","open:1","b",5,"__sys","a","open:2"]"#;
    rig.say(&format!(
        r#"{{"type":"subscribe-batch","topics":{topics},"ref":3}}"#
    ));
    let Some(Event::Ask { ticket, topics, .. }) = rig.hub.poll_event() else {
        panic!("a question about the open ones");
    };
    assert_eq!(topics.len(), 2);
    assert_eq!(
        rig.frames(),
        [
            r#"{"type":"subscribe-denied","topic":5,"ref":3,"reason":"INVALID_TOPIC"}"#.to_owned(),
            denied("__sys", 3, "INVALID_TOPIC"),
        ],
        "what is never allowed is denied at once"
    );
    // A stream does not wait for the verdicts about the others.
    rig.grant("a", true);
    assert_eq!(rig.frames(), [acked("a", 3), acked("a", 3)]);
    rig.hub.settle(ticket, [Verdict::Allow, Verdict::FORBIDDEN]);
    let rest = [acked("open:1", 3), denied("open:2", 3, "FORBIDDEN")];
    assert_eq!(rig.frames(), rest);
    rig.advance(2_100);
    assert_eq!(rig.frames(), [denied("b", 3, "FORBIDDEN")]);
}

#[test]
fn a_connection_that_closes_leaves_nothing() {
    let mut rig = Rig::new(Limits::default());
    for n in 0..100 {
        rig.ask(&format!("t{n}"), n);
    }
    assert!(rig.hub.next_deadline().is_some());
    rig.hub.close(rig.conn);
    assert_eq!(rig.hub.next_deadline(), None);
    rig.advance(5_000);
    assert_eq!(rig.frames(), [""; 0]);
    assert_eq!(rig.count(|stats| &stats.denied), 0);
}

#[test]
fn no_more_wait_than_the_limit() {
    let mut rig = Rig::new(Limits {
        parked_topics_max: 2,
        ..Limits::default()
    });
    rig.ask("a", 1);
    rig.say(r#"{"type":"subscribe-batch","topics":["b","c","d"],"ref":2}"#);
    // The application may want to see every batch.
    let ticket = rig.ticket();
    rig.hub.settle(ticket, []);
    let over = [denied("c", 2, "FORBIDDEN"), denied("d", 2, "FORBIDDEN")];
    assert_eq!(rig.frames(), over);
    rig.ask("a", 3);
    assert_eq!(rig.frames(), [denied("a", 3, "FORBIDDEN")]);
    rig.grant("a", false);
    assert_eq!(rig.frames(), [acked("a", 1)]);
    rig.ask("c", 4);
    assert_eq!(rig.frames(), [""; 0], "there is room again");
    assert_eq!(rig.count(|stats| &stats.parked), 3);
    assert_eq!(rig.count(|stats| &stats.parked_refused), 3);
}

#[test]
fn without_room_or_time_or_a_reference_nothing_waits() {
    let none = Limits {
        parked_topics_max: 0,
        ..Limits::default()
    };
    let at_once = Limits {
        parked_hold: Duration::ZERO,
        ..Limits::default()
    };
    for limits in [none, at_once] {
        let mut rig = Rig::new(limits);
        rig.ask("a", 1);
        assert_eq!(rig.frames(), [denied("a", 1, "FORBIDDEN")]);
        assert_eq!(rig.hub.next_deadline(), None);
    }
    let mut rig = Rig::with(HubConfig::default());
    rig.ask("a", 1);
    assert_eq!(rig.frames(), [denied("a", 1, "FORBIDDEN")], "not wanted");
    let mut rig = Rig::new(Limits::default());
    rig.say(r#"{"type":"subscribe","topic":"a"}"#);
    assert_eq!(rig.hub.next_deadline(), None, "nobody waits for an answer");
    let long = format!("\"{}\"", "x".repeat(63));
    rig.say(&format!(
        r#"{{"type":"subscribe","topic":"a","ref":{long}}}"#
    ));
    assert_eq!(rig.hub.next_deadline(), None);
    assert_eq!(rig.frames().len(), 1);
}

/// The client leaves the topic right before it asks for the stream, and shows what is denied.
#[test]
fn an_unsubscribe_does_not_answer_what_waits() {
    let mut rig = Rig::new(Limits::default());
    rig.say(r#"{"type":"subscribe-batch","topics":["a","b"],"ref":1}"#);
    let ticket = rig.ticket();
    rig.hub.settle(ticket, []);
    for topic in ["a", "b"] {
        rig.leave(topic);
    }
    assert_eq!(rig.frames(), [""; 0]);
    rig.grant("a", true);
    assert_eq!(rig.frames(), [acked("a", 1)]);
    rig.advance(2_100);
    assert_eq!(rig.frames(), [denied("b", 1, "FORBIDDEN")]);
    assert!(rig.hub.holds(rig.conn, "a"));
}

#[test]
fn who_waits_for_a_topic_that_the_application_refuses_is_told_its_reason() {
    let mut rig = Rig::new(Limits::default());
    rig.ask("a", 1);
    rig.hub.subscribe(rig.conn, "a", 9, Some(5));
    let ticket = rig.ticket();
    // It takes longer to decide than a subscribe waits.
    for _ in 0..3 {
        rig.advance(1_999);
        assert_eq!(rig.frames(), [""; 0], "at {}", rig.now);
    }
    rig.hub.settle(ticket, [Verdict::UNAUTHENTICATED]);
    assert_eq!(rig.frames(), [denied("a", 1, "UNAUTHENTICATED")]);
    assert_eq!(rig.hub.next_deadline(), None);
}

/// What was missed is sent once, with the subscription.
#[test]
fn a_resume_is_answered_with_the_stream_and_not_again() {
    let mut rig = Rig::new(Limits::default());
    let seen = rig.publish("a");
    rig.publish("a");
    rig.say(&format!(
        r#"{{"type":"resume","sessionId":"s","lastSeenSeqs":{{"a":{seen}}}}}"#
    ));
    assert!(matches!(rig.hub.poll_event(), Some(Event::Resume { .. })));
    rig.hub.resumed(rig.conn);
    rig.ask("a", 1);
    assert_eq!(rig.frames(), [r#"{"type":"resumed"}"#]);
    rig.grant("a", true);
    let frames = rig.frames();
    assert_eq!(frames[0], acked("a", 1));
    assert!(
        frames[1].contains("truncated"),
        "nothing is kept: {frames:?}"
    );
    assert_eq!(frames.len(), 2);
    rig.ask("a", 2);
    let ticket = rig.ticket();
    rig.hub.settle(ticket, [Verdict::Allow]);
    assert_eq!(rig.frames(), [acked("a", 2)], "and not a second time");
}

#[test]
fn many_that_wait_keep_one_timer_and_are_answered_in_order() {
    let limits = Limits::default();
    let room = limits.parked_topics_max;
    let mut rig = Rig::new(limits);
    for n in 0..room + 10 {
        rig.ask("same", n);
        if n % 16 == 0 {
            rig.advance(1);
        }
    }
    let over: Vec<String> = (room..room + 10)
        .map(|n| denied("same", n, "FORBIDDEN"))
        .collect();
    assert_eq!(rig.frames(), over);
    rig.advance(u64::try_from(HOLD.as_millis()).unwrap() + 100);
    let all: Vec<String> = (0..room).map(|n| denied("same", n, "FORBIDDEN")).collect();
    assert_eq!(rig.frames(), all);
    assert_eq!(rig.hub.next_deadline(), None);
}

/// The topic is given, and asked for once more by a request that has no reply yet.
fn asked_twice(limits: Limits) -> Rig {
    let mut rig = Rig::new(limits);
    rig.grant("a", true);
    rig.hub.release(rig.conn, "a", 5).unwrap();
    rig.share("a", 6);
    rig.publish("a");
    assert_eq!(rig.frames().len(), 1, "not held back: somebody listens");
    assert_eq!(rig.hub.under_way(rig.conn, "a"), [6]);
    rig
}

#[test]
fn a_topic_that_is_left_waits_for_the_reply_that_is_to_come() {
    for asks in [true, false] {
        let mut rig = asked_twice(Limits::default());
        rig.leave("a");
        rig.publish("a");
        rig.advance(10_000);
        assert_eq!(rig.frames(), [""; 0], "nobody listens");
        assert_eq!(rig.hub.release(rig.conn, "a", 6).unwrap().frames, 1);
        assert_eq!(rig.frames().len(), 1);
        if asks {
            rig.ask("a", 1);
            let ticket = rig.ticket();
            rig.hub.settle(ticket, [Verdict::Allow]);
            assert_eq!(rig.frames(), [acked("a", 1)]);
        }
        rig.advance(1_999);
        assert!(rig.hub.holds(rig.conn, "a"));
        rig.advance(1);
        assert_eq!(rig.hub.holds(rig.conn, "a"), asks);
        let ended = rig.hub.poll_event();
        assert_eq!(ended.is_none(), asks, "{ended:?}");
        rig.is_at_rest();
        assert_eq!(rig.count(|stats| &stats.left_under_way), 1);
        assert_eq!(rig.count(|stats| &stats.doubts_ended), u64::from(!asks));
    }
}

#[test]
fn a_verdict_that_takes_long_does_not_count_against_the_client() {
    let mut rig = asked_twice(Limits::default());
    rig.leave("a");
    rig.hub.release(rig.conn, "a", 6).unwrap();
    rig.ask("a", 1);
    let ticket = rig.ticket();
    rig.advance(60_000);
    assert!(rig.hub.holds(rig.conn, "a"));
    rig.hub.settle(ticket, [Verdict::Allow]);
    rig.is_at_rest();
}

#[test]
fn asking_before_the_reply_is_as_good_as_behind_it() {
    let mut rig = asked_twice(Limits::default());
    rig.leave("a");
    rig.ask("a", 1);
    let ticket = rig.ticket();
    rig.hub.settle(ticket, [Verdict::Allow]);
    rig.hub.release(rig.conn, "a", 6).unwrap();
    rig.advance(60_000);
    assert!(rig.hub.holds(rig.conn, "a"));
    rig.is_at_rest();
}

#[test]
fn leaving_for_good_forgets_what_was_under_way() {
    for late in [false, true] {
        let mut rig = asked_twice(Limits::default());
        rig.leave("a");
        if late {
            rig.hub.release(rig.conn, "a", 6).unwrap();
        }
        assert!(
            rig.hub.unsubscribe(rig.conn, "a"),
            "the application decides"
        );
        assert!(rig.hub.poll_event().is_some());
        rig.is_at_rest();
        assert!(rig.hub.release(rig.conn, "a", 6).is_none());
        rig.grant("a", true);
        rig.hub.release(rig.conn, "a", 5).unwrap();
        rig.advance(60_000);
        assert!(rig.hub.holds(rig.conn, "a"));
        rig.is_at_rest();
    }
}

#[test]
fn a_request_that_fails_ends_its_subscription_unless_others_are_under_way() {
    let mut rig = Rig::new(Limits::default());
    rig.grant("a", true);
    rig.share("a", 6);
    rig.publish("a");
    rig.hub.give_up(rig.conn, "a", 5);
    assert!(rig.hub.holds(rig.conn, "a"));
    assert_eq!(rig.hub.release(rig.conn, "a", 6).unwrap().frames, 1);
    rig.is_at_rest();
    rig.share("a", 7);
    rig.hub.give_up(rig.conn, "a", 7);
    assert!(!rig.hub.holds(rig.conn, "a"));
    assert!(rig.hub.poll_event().is_some());
    rig.is_at_rest();
}

#[test]
fn a_connection_that_closes_leaves_no_deadline() {
    let mut rig = asked_twice(Limits::default());
    rig.leave("a");
    rig.hub.release(rig.conn, "a", 6).unwrap();
    assert!(rig.hub.next_deadline().is_some());
    rig.hub.close(rig.conn).unwrap();
    assert_eq!(rig.hub.next_deadline(), None);
}

#[test]
fn without_time_for_the_client_a_topic_that_was_left_ends_with_the_reply() {
    let mut rig = asked_twice(Limits {
        parked_hold: Duration::ZERO,
        ..Limits::default()
    });
    rig.leave("a");
    rig.hub.release(rig.conn, "a", 6).unwrap();
    rig.advance(0);
    assert!(!rig.hub.holds(rig.conn, "a"));
}

#[test]
fn requests_under_way_beyond_the_limit_end_with_what_was_left() {
    let mut rig = asked_twice(Limits {
        parked_topics_max: 2,
        ..Limits::default()
    });
    rig.share("a", 7);
    rig.share("a", 8);
    assert_eq!(rig.hub.under_way(rig.conn, "a"), [6, 7]);
    for holder in [6, 7] {
        rig.hub.release(rig.conn, "a", holder);
    }
    rig.leave("a");
    assert!(!rig.hub.holds(rig.conn, "a"));
}

#[test]
fn a_topic_in_doubt_stays_for_a_request_that_came_since() {
    let mut rig = asked_twice(Limits::default());
    rig.leave("a");
    rig.hub.release(rig.conn, "a", 6).unwrap();
    rig.share("a", 7);
    rig.advance(2_000);
    assert!(rig.hub.holds(rig.conn, "a"));
    assert!(
        rig.hub.poll_event().is_some(),
        "what was there before is over"
    );
    assert_eq!(rig.count(|stats| &stats.doubts_ended), 0);
    rig.publish("a");
    assert_eq!(rig.frames(), [""; 0], "nobody listens");
    assert_eq!(rig.hub.release(rig.conn, "a", 7).unwrap().frames, 1);
    rig.advance(2_000);
    assert!(!rig.hub.holds(rig.conn, "a"));
    assert!(rig.hub.poll_event().is_some());
    assert_eq!(rig.count(|stats| &stats.doubts_ended), 1);
    rig.is_at_rest();
}
