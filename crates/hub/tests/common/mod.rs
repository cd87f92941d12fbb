//! A hub next to a naive model of it, driven by bytes. Used by the property test and, by path,
//! by the fuzz target.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use millstream_core::{Key, Millis, RawJsonRef};
use millstream_hub::{
    Backlogged, BatchMember, Delivery, Event, Hub, HubConfig, Inboxes, Limits, Pattern,
    PublishOptions, Publisher, Receipt, Sent, Sink, Ticket, Verdict, Wrote,
};
use millstream_wire::{DecodeLimits, Decoder, Event as Frame, Input, Role};

/// Bytes as a source of choices; zeros when they run out.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }
}

/// Nobody else publishes.
pub struct NoInboxes;

impl Inboxes for NoInboxes {
    fn push(&self, _: u16, _: Delivery) {
        panic!("there is one worker, and it drains as it goes");
    }

    fn is_empty(&self, _: u16) -> bool {
        true
    }

    fn is_full(&self, _: u16) -> bool {
        false
    }
}

/// Sockets that take what they like.
#[derive(Default)]
struct Wires {
    received: HashMap<Key, Vec<u8>>,
    /// Bytes each socket still takes; absent: everything.
    room: HashMap<Key, usize>,
    writes: usize,
}

impl Sink for Wires {
    fn send(&mut self, conn: Key, bytes: &[u8]) -> Wrote {
        self.writes += 1;
        let room = self.room.get_mut(&conn);
        let taken = room
            .as_ref()
            .map_or(bytes.len(), |room| bytes.len().min(**room));
        if let Some(room) = room {
            *room -= taken;
        }
        self.received
            .entry(conn)
            .or_default()
            .extend_from_slice(&bytes[..taken]);
        Wrote::Bytes(taken)
    }

    fn send_vectored(&mut self, conn: Key, parts: &[std::io::IoSlice<'_>]) -> Wrote {
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.send(conn, &joined)
    }
}

/// What the model believes of one connection.
#[derive(Default)]
struct Belief {
    topics: BTreeSet<String>,
    /// Events held back, per topic.
    held: BTreeMap<String, Vec<String>>,
    batch: bool,
    closing: bool,
    /// What it has to receive, in order.
    expected: Vec<String>,
    /// Unfinished requests, oldest first.
    pending: Vec<Pending>,
}

struct Pending {
    leave: bool,
    batch: bool,
    /// Per topic, whether the hub asked.
    asked: Vec<bool>,
    topics: Vec<String>,
    reference: u32,
    ticket: Option<Ticket>,
}

impl Pending {
    fn new(topics: Vec<String>, reference: u32, batch: bool) -> Self {
        let asked = vec![false; topics.len()];
        Self {
            leave: false,
            batch,
            asked,
            topics,
            reference,
            ticket: None,
        }
    }
}

/// Hub, model and sockets.
pub struct Rig {
    hub: Hub,
    wires: Wires,
    beliefs: BTreeMap<u64, Belief>,
    keys: Vec<Key>,
    /// Questions of the hub the model has not looked at.
    asks: VecDeque<(Ticket, Vec<String>, bool)>,
    next_reference: u32,
    now: u64,
    /// Streams of connections that are gone, to be checked at the end.
    finished: Vec<(Vec<u8>, Belief, bool)>,
    lossy: bool,
}

const TOPICS: [&str; 5] = ["a", "b", "room:1", "room:2", "shut"];
const CONNS_MAX: usize = 6;

impl Rig {
    /// With `lossy` the backlog is so small that frames are dropped.
    pub fn new(lossy: bool) -> Self {
        let mut limits = Limits {
            subscriptions_max: 4,
            ..Limits::default()
        };
        if lossy {
            limits.backlog_bytes_max = 400;
            limits.control_bytes_max = 1 << 20;
        }
        let config = HubConfig {
            limits,
            open_topics: ["a", "b", "room:*"].map(Pattern::new).to_vec(),
            ..HubConfig::default()
        };
        Self {
            hub: Hub::single(config),
            wires: Wires::default(),
            beliefs: BTreeMap::new(),
            keys: Vec::new(),
            asks: VecDeque::new(),
            next_reference: 0,
            now: 0,
            finished: Vec::new(),
            lossy,
        }
    }

    /// Runs the operations that `bytes` spell and checks everything.
    pub fn run(mut self, bytes: &[u8]) {
        let mut choices = Choices::new(bytes);
        while !choices.is_empty() {
            self.step(&mut choices);
            self.take_events();
            self.check_counts();
        }
        self.finish();
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0 => self.open(),
            1 => self.close(choices),
            2 | 3 => self.subscribe(choices),
            4 => self.subscribe_batch(choices),
            5 => self.unsubscribe(choices),
            6 => self.settle(choices),
            7 | 8 => self.publish(choices),
            9 => self.publish_batched(choices),
            10 => self.send(choices),
            11 => self.hello(choices),
            12 => self.hold_or_release(choices),
            13 => self.say_close(choices),
            14 => self.limit_socket(choices),
            _ => {
                self.now += 1;
                self.hub.set_now(Millis::from_millis(self.now));
                self.hub.flush(&mut self.wires);
            }
        }
    }

    fn pick(&self, choices: &mut Choices<'_>) -> Option<Key> {
        let at = choices.below(self.keys.len());
        self.keys.get(at).copied()
    }

    fn belief(&mut self, key: Key) -> &mut Belief {
        self.beliefs
            .get_mut(&key.to_u64())
            .expect("a connection that is open")
    }

    fn open(&mut self) {
        if self.keys.len() >= CONNS_MAX {
            return;
        }
        let key = self
            .hub
            .open(Some("s"), Millis::from_millis(self.now))
            .expect("room");
        let welcome = r#"{"type":"welcome","sessionId":"s"}"#.to_owned();
        let belief = Belief {
            expected: vec![welcome],
            ..Belief::default()
        };
        self.beliefs.insert(key.to_u64(), belief);
        self.keys.push(key);
    }

    fn close(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let summary = self.hub.close(key).expect("it was open");
        assert!(self.hub.close(key).is_none());
        self.keys.retain(|other| *other != key);
        let belief = self.beliefs.remove(&key.to_u64()).expect("it was open");
        let mut told: Vec<&str> = summary.subscriptions.iter().map(|topic| &**topic).collect();
        told.sort_unstable();
        assert!(
            told.iter().eq(belief.topics.iter()),
            "the summary names what was held"
        );
        for pending in &belief.pending {
            if let Some(ticket) = pending.ticket {
                // Verdicts that come late change nothing.
                self.hub
                    .settle(ticket, [Verdict::Allow, Verdict::Allow, Verdict::Allow]);
            }
        }
        let received = self.wires.received.remove(&key).unwrap_or_default();
        self.wires.room.remove(&key);
        self.finished.push((received, belief, false));
    }

    fn text(&mut self, key: Key, text: &str) {
        if self.belief(key).closing {
            return;
        }
        assert_eq!(self.hub.receive(key, text), Receipt::Control, "{text}");
    }

    fn subscribe(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let topic = TOPICS[choices.below(TOPICS.len())];
        self.next_reference += 1;
        let reference = self.next_reference;
        self.request(key, vec![topic.to_owned()], reference, false);
        let text = format!(r#"{{"type":"subscribe","topic":"{topic}","ref":{reference}}}"#);
        self.text(key, &text);
        self.settle_model(key);
    }

    fn subscribe_batch(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        self.next_reference += 1;
        let reference = self.next_reference;
        let topics: Vec<String> = (0..1 + choices.below(3))
            .map(|_| TOPICS[choices.below(TOPICS.len())].to_owned())
            .collect();
        self.request(key, topics.clone(), reference, true);
        let list = topics
            .iter()
            .map(|t| format!("\"{t}\""))
            .collect::<Vec<_>>()
            .join(",");
        let text = format!(r#"{{"type":"subscribe-batch","topics":[{list}],"ref":{reference}}}"#);
        self.text(key, &text);
        self.settle_model(key);
    }

    fn unsubscribe(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let topic = TOPICS[choices.below(TOPICS.len())];
        let belief = self.belief(key);
        if !belief.closing {
            let topics = vec![topic.to_owned()];
            belief.pending.push(Pending {
                leave: true,
                ..Pending::new(topics, 0, false)
            });
        }
        self.text(
            key,
            &format!(r#"{{"type":"unsubscribe","topic":"{topic}"}}"#),
        );
        self.settle_model(key);
    }

    fn request(&mut self, key: Key, topics: Vec<String>, reference: u32, batch: bool) {
        let belief = self.belief(key);
        if !belief.closing {
            belief.pending.push(Pending::new(topics, reference, batch));
        }
    }

    /// Starts every request of the model whose turn it is, in order, and checks that the hub
    /// asked exactly the questions it should.
    fn settle_model(&mut self, key: Key) {
        self.take_events();
        loop {
            let belief = self.beliefs.get_mut(&key.to_u64()).expect("open");
            let next = (0..belief.pending.len()).find(|at| {
                let own = &belief.pending[*at];
                let before = &belief.pending[..*at];
                own.ticket.is_none()
                    && before
                        .iter()
                        .all(|b| b.topics.iter().all(|t| !own.topics.contains(t)))
            });
            let Some(at) = next else { break };
            let own = &belief.pending[at];
            let asked: Vec<bool> = own
                .topics
                .iter()
                .map(|topic| hub_asks(belief, topic))
                .collect();
            if own.leave {
                let request = belief.pending.remove(at);
                for topic in &request.topics {
                    belief.topics.remove(topic);
                    belief.held.remove(topic);
                }
            } else if own.batch || asked.contains(&true) {
                let wanted = own.topics.iter().zip(&asked).filter(|(_, asked)| **asked);
                let wanted: Vec<&str> = wanted.map(|(topic, _)| topic.as_str()).collect();
                let (ticket, topics, batch) = self.asks.pop_front().expect("a question");
                assert_eq!(ticket.conn(), key);
                assert_eq!(topics, wanted);
                assert_eq!(batch, own.batch);
                belief.pending[at].asked = asked;
                belief.pending[at].ticket = Some(ticket);
            } else {
                // Refused without asking.
                let request = belief.pending.remove(at);
                conclude(belief, &request, &[]);
            }
        }
        assert!(self.asks.is_empty(), "a question too many: {:?}", self.asks);
    }

    fn take_events(&mut self) {
        while let Some(event) = self.hub.poll_event() {
            match event {
                Event::Ask {
                    ticket,
                    topics,
                    batch,
                } => {
                    let topics = topics.iter().map(|topic| topic.to_string()).collect();
                    self.asks.push_back((ticket, topics, batch));
                }
                Event::Unsubscribed { .. } => {}
                Event::Close { conn, .. } => {
                    assert!(self.lossy, "nobody is too slow without limits: {conn:?}");
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn settle(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let nth = choices.below(4);
        let belief = self.beliefs.get_mut(&key.to_u64()).expect("open");
        let asked: Vec<usize> = (0..belief.pending.len())
            .filter(|at| belief.pending[*at].ticket.is_some())
            .collect();
        let Some(at) = asked.get(nth % asked.len().max(1)).copied() else {
            return;
        };
        let request = belief.pending.remove(at);
        let verdicts: Vec<Verdict> = (0..3)
            .map(|_| match choices.below(4) {
                0 => Verdict::FORBIDDEN,
                _ => Verdict::Allow,
            })
            .collect();
        conclude(belief, &request, &verdicts);
        let ticket = request.ticket.expect("it was asked");
        self.hub.settle(ticket, verdicts);
        self.settle_model(key);
    }

    fn publish(&mut self, choices: &mut Choices<'_>) {
        let topic = TOPICS[choices.below(TOPICS.len())];
        let size = choices.below(40);
        let numbered = choices.below(4) > 0;
        let data = format!("\"{}\"", "x".repeat(size * 4));
        let json = RawJsonRef::parse(data.as_bytes()).expect("json");
        let topics = self.hub.topics().clone();
        let now = Millis::from_millis(self.now);
        let publisher = Publisher {
            topics: &topics,
            inboxes: &NoInboxes,
            now,
        };
        let before = topics.head(topic);
        let options = PublishOptions {
            numbered,
            ..PublishOptions::default()
        };
        let published = publisher
            .publish(Some(&mut self.hub), topic, "e", json, options)
            .expect("published");
        if let (Some(before), Some(seq)) = (before, published.seq) {
            assert_eq!(seq, before + 1, "without holes");
        }
        let someone = self
            .beliefs
            .values()
            .any(|belief| belief.topics.contains(topic));
        assert_eq!(published.delivered, someone);
        self.expect_event(topic, &envelope(topic, &data, published.seq));
    }

    fn publish_batched(&mut self, choices: &mut Choices<'_>) {
        let picked: Vec<(&str, Option<&str>)> = (0..1 + choices.below(4))
            .map(|_| {
                let topic = TOPICS[choices.below(TOPICS.len())];
                (topic, [None, None, Some("k"), Some("l")][choices.below(4)])
            })
            .collect();
        let data = RawJsonRef::parse(b"7").expect("json");
        let members: Vec<BatchMember<'_>> = picked
            .iter()
            .map(|(topic, key)| BatchMember {
                topic,
                event: "e",
                data,
                coalesce_key: *key,
                numbered: true,
            })
            .collect();
        let topics = self.hub.topics().clone();
        let now = Millis::from_millis(self.now);
        let publisher = Publisher {
            topics: &topics,
            inboxes: &NoInboxes,
            now,
        };
        let results = publisher
            .publish_batched(Some(&mut self.hub), &members, 100)
            .expect("published");
        for (at, ((topic, key), result)) in picked.iter().zip(&results).enumerate() {
            let survives = key.is_none() || !picked[at + 1..].iter().any(|(_, later)| later == key);
            assert_eq!(result.seq.is_some(), survives);
            if survives {
                self.expect_event(topic, &envelope(topic, "7", result.seq));
            }
        }
    }

    fn expect_event(&mut self, topic: &str, text: &str) {
        for belief in self.beliefs.values_mut() {
            if belief.topics.contains(topic) {
                match belief.held.get_mut(topic) {
                    Some(held) => held.push(text.to_owned()),
                    None if !belief.closing => belief.expected.push(text.to_owned()),
                    None => {}
                }
            }
        }
    }

    fn send(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let json = RawJsonRef::parse(b"{\"to\":\"you\"}").expect("json");
        let sent = self.hub.send(key, "direct", "d", json);
        let belief = self.belief(key);
        match sent {
            Sent::Queued => {
                let text = r#"{"topic":"direct","event":"d","data":{"to":"you"}}"#;
                belief.expected.push(text.to_owned());
            }
            Sent::Gone => assert!(belief.closing),
            Sent::Dropped => assert!(self.lossy),
            other => panic!("{other:?}"),
        }
    }

    fn hello(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let batch = choices.below(2) == 1;
        let caps = if batch { "\"batch\"" } else { "" };
        let belief = self.belief(key);
        if !belief.closing {
            belief.batch = batch;
        }
        self.text(key, &format!(r#"{{"type":"hello","caps":[{caps}]}}"#));
    }

    fn hold_or_release(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let topic = TOPICS[choices.below(TOPICS.len())];
        let hold = choices.below(2) == 0;
        let belief = self.beliefs.get_mut(&key.to_u64()).expect("open");
        if hold {
            let can = belief.topics.contains(topic) && !belief.held.contains_key(topic);
            assert_eq!(self.hub.hold(key, topic), can);
            if can {
                belief.held.insert(topic.to_owned(), Vec::new());
            }
        } else {
            let released = self.hub.release(key, topic);
            let held = belief.held.remove(topic);
            assert_eq!(released.map(|r| r.frames), held.as_ref().map(Vec::len));
            if !belief.closing {
                belief.expected.extend(held.into_iter().flatten());
            }
        }
    }

    fn say_close(&mut self, choices: &mut Choices<'_>) {
        // Rarely, or nothing else is left to look at.
        if choices.below(8) != 0 {
            return;
        }
        let Some(key) = self.pick(choices) else {
            return;
        };
        self.hub.say_close(key, 4000, "bye");
        self.belief(key).closing = true;
    }

    fn limit_socket(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let room = match choices.below(4) {
            0 => None,
            _ => Some(choices.below(200)),
        };
        match room {
            None => {
                self.wires.room.remove(&key);
            }
            Some(room) => {
                self.wires.room.insert(key, room);
            }
        }
        let outcome = self.hub.write_more(key, &mut self.wires);
        assert!(room.is_some() || outcome != Backlogged::Waiting);
    }

    fn check_counts(&self) {
        let believed: usize = self
            .beliefs
            .values()
            .map(|belief| belief.topics.len())
            .sum();
        assert_eq!(self.hub.subscriptions(), believed);
        for topic in TOPICS {
            let holders = self
                .beliefs
                .values()
                .filter(|b| b.topics.contains(topic))
                .count();
            assert_eq!(
                self.hub.topics().subscribers(topic),
                holders as u64,
                "{topic}"
            );
        }
    }

    fn finish(mut self) {
        self.hub.flush(&mut self.wires);
        self.wires.room.clear();
        for key in std::mem::take(&mut self.keys) {
            while self.hub.write_more(key, &mut self.wires) == Backlogged::Waiting {}
            // Coalesced sends of a drained backlog leave with the next flush.
            self.hub.flush(&mut self.wires);
            let received = self.wires.received.remove(&key).unwrap_or_default();
            let belief = self.beliefs.remove(&key.to_u64()).expect("open");
            self.finished.push((received, belief, true));
        }
        let lossy = self.lossy;
        for (received, belief, whole) in self.finished {
            let frames = decode(received);
            if lossy {
                check_subsequence(&frames, &belief.expected);
            } else if whole {
                assert_eq!(frames, belief.expected);
            } else {
                assert!(belief.expected.starts_with(&frames), "{frames:#?}");
            }
        }
        assert_eq!(self.hub.backlog_bytes(), 0, "nothing is left behind");
    }
}

/// Whether the hub asks about a topic: it is open, or held.
fn hub_asks(belief: &Belief, topic: &str) -> bool {
    let held = belief.topics.contains(topic);
    (topic != "shut" || held) && (held || belief.topics.len() < 4)
}

fn conclude(belief: &mut Belief, request: &Pending, verdicts: &[Verdict]) {
    let mut verdicts = verdicts.iter();
    for (topic, asked) in request.topics.iter().zip(&request.asked) {
        let reference = request.reference;
        let verdict = if *asked {
            verdicts.next().cloned()
        } else {
            None
        };
        let reason = match verdict {
            Some(Verdict::Allow) if belief.topics.contains(topic) => None,
            Some(Verdict::Allow) if belief.topics.len() >= 4 => Some("RATE_LIMITED".to_owned()),
            Some(Verdict::Allow) => None,
            Some(Verdict::Deny(reason)) => {
                belief.topics.remove(topic);
                belief.held.remove(topic);
                Some(reason.into_owned())
            }
            None if topic == "shut" => Some("FORBIDDEN".to_owned()),
            None => Some("RATE_LIMITED".to_owned()),
        };
        let text = match reason {
            None => {
                belief.topics.insert(topic.clone());
                format!(r#"{{"type":"subscribed","topic":"{topic}","ref":{reference}}}"#)
            }
            Some(reason) => format!(
                r#"{{"type":"subscribe-denied","topic":"{topic}","ref":{reference},"reason":"{reason}"}}"#
            ),
        };
        if !belief.closing {
            belief.expected.push(text);
        }
    }
}

fn envelope(topic: &str, data: &str, seq: Option<u64>) -> String {
    let seq = seq.map_or_else(String::new, |seq| format!(",\"seq\":{seq}"));
    format!(r#"{{"topic":"{topic}","event":"e","data":{data}{seq}}}"#)
}

/// The text messages in a stream of server frames, batch frames taken apart. The close frame
/// has to be the last.
fn decode(mut bytes: Vec<u8>) -> Vec<String> {
    let mut decoder = Decoder::new(Role::Client);
    let limits = DecodeLimits {
        message_bytes_max: 1 << 24,
        ..DecodeLimits::default()
    };
    let mut input = Input::new(&mut bytes);
    let mut frames = Vec::new();
    let mut closed = false;
    while let Some(frame) = decoder
        .next(&mut input, &limits)
        .expect("well-formed frames")
    {
        assert!(!closed, "nothing follows a close frame");
        match frame {
            Frame::Text(text) => match text.strip_prefix(r#"{"type":"batch","events":"#) {
                Some(events) => {
                    let events = events.strip_suffix('}').expect("a batch");
                    let events = RawJsonRef::parse(events.as_bytes()).expect("json");
                    frames.extend(events.elements().map(|event| event.as_str().to_owned()));
                }
                None => frames.push(text.to_owned()),
            },
            Frame::Close { .. } => closed = true,
            other => panic!("unexpected {other:?}"),
        }
    }
    frames
}

/// Everything received was expected, in order, gap marks aside.
fn check_subsequence(frames: &[String], expected: &[String]) {
    let mut rest = expected.iter();
    for frame in frames {
        if frame.contains(r#""truncated":true"#) {
            continue;
        }
        assert!(
            rest.any(|text| text == frame),
            "not expected here: {frame}\n{expected:#?}"
        );
    }
}
