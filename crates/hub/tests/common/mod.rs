//! A hub next to a naive model of it, driven by bytes. Used by the property test and, by path,
//! by the fuzz target.

mod belief;
mod outside;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use belief::{
    Belief, CLOSED, HOLD_BYTES_MAX, KEYS_MAX, Kind, Missed, PARKED_HOLD_MS, PARKED_MAX, Past,
    Pending, RETAIN, RETAINED, SUBSCRIPTIONS_MAX, TOPICS, VOLATILE, decode, envelope,
};
use millstream_core::{Key, Millis, RawJson, RawJsonRef};
use millstream_hub::{
    Backlogged, BatchMember, Event, Hub, HubConfig, Limits, Overflow, Pattern, PolicyTable,
    PublishOptions, Publisher, Receipt, RequestError, Sent, Ticket, TopicPolicy, Topics, Verdict,
};
use outside::{Choices, NoInboxes, Wires};

/// How little room connections have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Room for everything: each connection receives exactly what the model says.
    Lossless,
    /// A backlog so small that frames are dropped; every lost frame has to be counted.
    Lossy,
    /// Slow readers may be closed as well, and sockets may break.
    Tight,
}

const BACKLOG_BYTES_MAX: usize = 400;
const CONTROL_BYTES_MAX: usize = 300;
const TURN_BYTES_MAX: usize = 600;
/// More than any single operation of this rig adds to a connection's output: the most have
/// verdicts for which all other requests have waited.
const STEP_BYTES_MAX: usize = 1_500;
const PENDING_MAX: usize = 4;
const RESUME_HOLD_MS: u64 = 30_000;
const CONNS_MAX: usize = 6;

/// Hub, model and sockets.
pub(crate) struct Rig {
    mode: Mode,
    hub: Hub,
    wires: Wires,
    beliefs: BTreeMap<u64, Belief>,
    past: Past,
    keys: Vec<Key>,
    /// Questions of the hub the model has not looked at.
    asks: VecDeque<(Ticket, Vec<String>, bool)>,
    replies: BTreeMap<u64, Result<RawJson, RequestError>>,
    resumes: Vec<Key>,
    /// For references, tokens and unique payloads.
    counter: u32,
    now: u64,
    missed: Missed,
    /// Direct sends refused, and coalesced sends replaced or evicted.
    direct_lost: u64,
    keyed_lost: u64,
    held_lost: u64,
    slow_closed: u64,
}

impl Rig {
    pub(crate) fn new(mode: Mode) -> Self {
        let mut limits = Limits {
            subscriptions_max: SUBSCRIPTIONS_MAX as u32,
            hold_bytes_max: HOLD_BYTES_MAX,
            coalesce_keys_max: KEYS_MAX as u32,
            parked_topics_max: PARKED_MAX as u32,
            parked_hold: Duration::from_millis(PARKED_HOLD_MS),
            resume_hold: Duration::from_millis(RESUME_HOLD_MS),
            ..Limits::default()
        };
        if mode != Mode::Lossless {
            limits.backlog_bytes_max = BACKLOG_BYTES_MAX;
            limits.turn_bytes_max = TURN_BYTES_MAX;
        }
        if mode == Mode::Tight {
            limits.control_bytes_max = CONTROL_BYTES_MAX;
        } else {
            limits.control_bytes_max = 1 << 20;
        }
        let mut policies = PolicyTable::default();
        for (topic, overflow) in TOPICS {
            let overflow = match overflow {
                Overflow::Disconnect if mode != Mode::Tight => Overflow::DropNewest,
                other => other,
            };
            // Volatile events are skipped even when there is room for them.
            let volatile = topic == VOLATILE && mode != Mode::Lossless;
            policies = policies.with(
                Pattern::new(topic),
                TopicPolicy {
                    overflow,
                    volatile,
                    retain: u32::from(RETAINED.contains(&topic)) * RETAIN as u32,
                },
            );
        }
        let topics = Topics::new(1, 1, limits.topics_max, policies, Arc::default());
        for (topic, _) in TOPICS {
            topics.open(topic, Millis::ZERO).expect("room");
        }
        let open_topics = ["a", "b", "room:*", "strict", "v"]
            .map(Pattern::new)
            .to_vec();
        let config = HubConfig {
            limits,
            open_topics,
            park: true,
            ..HubConfig::default()
        };
        Self {
            mode,
            hub: Hub::new(0, Arc::new(config), Arc::new(topics)),
            wires: Wires::default(),
            beliefs: BTreeMap::new(),
            past: Past::default(),
            keys: Vec::new(),
            asks: VecDeque::new(),
            replies: BTreeMap::new(),
            resumes: Vec::new(),
            counter: 0,
            now: 0,
            missed: Missed {
                ends: mode == Mode::Tight,
                ..Missed::default()
            },
            direct_lost: 0,
            keyed_lost: 0,
            held_lost: 0,
            slow_closed: 0,
        }
    }

    /// Runs the operations that `bytes` spell and checks everything.
    pub(crate) fn run(mut self, bytes: &[u8]) {
        let mut choices = Choices(bytes);
        while !choices.0.is_empty() {
            self.step(&mut choices);
            self.take_events();
            self.end_slow();
            self.check_counts();
        }
        self.finish();
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(25) {
            0 => self.open(),
            1 => self.close(choices),
            2 | 3 => self.subscribe(choices),
            4 => self.subscribe_batch(choices),
            5 => self.unsubscribe(choices),
            6 => self.settle(choices),
            7..=10 => self.publish(choices),
            11 => self.publish_batched(choices),
            12 => self.send(choices),
            13 => self.send_coalesced(choices),
            14 => self.hello(choices),
            15 => self.hold_or_release(choices),
            16 => self.say_close(choices),
            17 | 18 => self.limit_socket(choices),
            19 => self.request(choices),
            20 => self.reply(choices),
            21 => self.resume(choices),
            22 => self.pass_time(choices),
            24 => self.grant(choices),
            _ => self.flush(),
        }
        if self.hub.wants_flush() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.hub.flush(&mut self.wires);
        if self.mode == Mode::Lossless {
            return;
        }
        let control = match self.mode {
            Mode::Tight => CONTROL_BYTES_MAX,
            _ => 1 << 20,
        };
        let most = BACKLOG_BYTES_MAX + control + TURN_BYTES_MAX + STEP_BYTES_MAX;
        for key in &self.keys {
            assert!(
                self.hub.pending(*key) <= most,
                "{} bytes wait",
                self.hub.pending(*key)
            );
        }
    }

    fn pick(&self, choices: &mut Choices<'_>) -> Option<Key> {
        let at = choices.below(self.keys.len());
        self.keys.get(at).copied()
    }

    /// One with room for another request.
    fn pick_ready(&self, choices: &mut Choices<'_>) -> Option<Key> {
        let ready = |key: &Key| self.beliefs[&key.to_u64()].pending.len() < PENDING_MAX;
        self.pick(choices).filter(ready)
    }

    fn belief(&mut self, key: Key) -> &mut Belief {
        self.beliefs
            .get_mut(&key.to_u64())
            .expect("a connection that is open")
    }

    fn unique(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    fn open(&mut self) {
        if self.keys.len() >= CONNS_MAX {
            return;
        }
        let key = self
            .hub
            .open(Some("s"), Millis::from_millis(self.now))
            .expect("room");
        let mut belief = Belief {
            room: self.hub.config().limits.backlog_bytes_max,
            ..Belief::default()
        };
        belief.expect(
            Kind::Kept,
            r#"{"type":"welcome","sessionId":"s"}"#.to_owned(),
        );
        self.beliefs.insert(key.to_u64(), belief);
        self.keys.push(key);
    }

    /// Half of the time what waits is read first, so that it can be held against the model.
    fn close(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let whole = choices.below(2) == 0 || self.mode == Mode::Lossy;
        if whole {
            self.read_all(key);
        }
        self.forget(key, whole);
    }

    /// The socket takes everything that waits for the connection.
    fn read_all(&mut self, key: Key) {
        self.wires.room.remove(&key);
        for _ in 0..3 {
            self.flush();
            self.write_more(key);
        }
        if self.mode != Mode::Tight {
            assert_eq!(self.hub.pending(key), 0, "nothing is left behind");
        }
    }

    fn forget(&mut self, key: Key, whole: bool) {
        self.take_events();
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
        self.take_events();
        for token in belief.requests.keys() {
            assert_eq!(self.replies.remove(token), Some(Err(RequestError::Closed)));
        }
        let broken = self.wires.broken.contains(&key);
        self.wires.broken.retain(|other| *other != key);
        self.wires.room.remove(&key);
        let frames = decode(self.wires.received.remove(&key).unwrap_or_default());
        // Nobody is told when somebody who is being closed is too slow for even that.
        let given_up = belief.closing && self.mode == Mode::Tight;
        let whole = whole && !belief.slow && !broken && !given_up;
        match self.mode {
            Mode::Lossless if whole => {
                let expected: Vec<String> =
                    belief.expected.into_iter().map(|(_, text)| text).collect();
                assert_eq!(frames, expected);
            }
            Mode::Lossless => {
                let expected = belief.expected.iter().map(|(_, text)| text);
                assert!(
                    frames.iter().zip(expected).all(|(got, due)| got == due),
                    "{frames:#?}"
                );
            }
            _ if whole => self.missed.check(&frames, &belief),
            // What it missed until then is not told from what it would still have got.
            _ => {}
        }
    }

    fn text(&mut self, key: Key, text: &str) {
        if self.belief(key).closing {
            return;
        }
        self.belief(key).waiting = self.hub.pending(key);
        assert_eq!(self.hub.receive(key, text), Receipt::Control, "{text}");
    }

    fn subscribe(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick_ready(choices) else {
            return;
        };
        let topic = choices.topic();
        let reference = self.unique();
        self.ask(key, vec![topic], reference, false);
        let text = format!(r#"{{"type":"subscribe","topic":"{topic}","ref":{reference}}}"#);
        self.text(key, &text);
        self.settle_model(key);
    }

    fn subscribe_batch(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick_ready(choices) else {
            return;
        };
        let reference = self.unique();
        let topics: Vec<&str> = (0..1 + choices.below(3)).map(|_| choices.topic()).collect();
        self.ask(key, topics.clone(), reference, true);
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
        let Some(key) = self.pick_ready(choices) else {
            return;
        };
        let topic = choices.topic();
        let belief = self.belief(key);
        if !belief.closing {
            belief.pending.push(Pending {
                leave: true,
                ..Pending::new(vec![topic], 0, false)
            });
        }
        self.text(
            key,
            &format!(r#"{{"type":"unsubscribe","topic":"{topic}"}}"#),
        );
        self.settle_model(key);
    }

    fn ask(&mut self, key: Key, topics: Vec<&'static str>, reference: u32, batch: bool) {
        let belief = self.belief(key);
        if !belief.closing {
            belief.pending.push(Pending::new(topics, reference, batch));
        }
    }

    /// Starts every request of the model whose turn it is, in order, and checks that the hub
    /// asked exactly the questions it should.
    fn settle_model(&mut self, key: Key) {
        self.take_events();
        let topics = Arc::clone(self.hub.topics());
        let head = |topic: &str| topics.head(topic).expect("known");
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
            belief.park(at, self.now);
            let own = &belief.pending[at];
            let asked: Vec<bool> = own
                .topics
                .iter()
                .map(|topic| belief.hub_asks(topic))
                .collect();
            if own.leave {
                let request = belief.pending.remove(at);
                request.topics.iter().for_each(|topic| belief.leave(topic));
            } else if own.batch || asked.contains(&true) {
                let wanted = own.topics.iter().zip(&asked).filter(|(_, asked)| **asked);
                let wanted: Vec<&str> = wanted.map(|(topic, _)| *topic).collect();
                let (ticket, topics, batch) = self.asks.pop_front().expect("a question");
                assert_eq!(ticket.conn(), key);
                assert_eq!(topics, wanted);
                assert_eq!(batch, own.batch);
                belief.pending[at].asked = asked;
                belief.pending[at].ticket = Some(ticket);
            } else {
                // Refused without asking.
                let request = belief.pending.remove(at);
                belief.conclude(&request, &[], &self.past, head);
            }
        }
        assert!(self.asks.is_empty(), "a question too many: {:?}", self.asks);
    }

    /// The application subscribes somebody to the topic that no client may ask for by itself.
    fn grant(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        if self.belief(key).closing {
            return;
        }
        let head = self.hub.topics().head(CLOSED).expect("known");
        let belief = self.beliefs.get_mut(&key.to_u64()).expect("open");
        belief.waiting = self.hub.pending(key);
        let granted = belief.grant(&self.past, head);
        assert_eq!(self.hub.subscribe_unchecked(key, CLOSED), granted);
    }

    fn settle(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let nth = choices.below(4);
        let topics = Arc::clone(self.hub.topics());
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
        belief.waiting = self.hub.pending(key);
        belief.conclude(&request, &verdicts, &self.past, |topic| {
            topics.head(topic).expect("known")
        });
        let ticket = request.ticket.expect("it was asked");
        self.hub.settle(ticket, verdicts);
        self.settle_model(key);
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
                Event::Replied { token, result } => {
                    assert!(self.replies.insert(token, result).is_none(), "one end each");
                }
                Event::Resume { conn, .. } => self.resumes.push(conn),
                Event::Close { conn, code, .. } => {
                    assert_eq!((self.mode, code), (Mode::Tight, 1013));
                    self.slow_closed += 1;
                    let belief = self.belief(conn);
                    assert!(!std::mem::replace(&mut belief.slow, true), "told twice");
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// Ends connections the way a host does: those that are too slow and those that broke.
    fn end_slow(&mut self) {
        let over = |key: &Key| self.beliefs[&key.to_u64()].slow || self.wires.broken.contains(key);
        let gone: Vec<Key> = self.keys.iter().copied().filter(over).collect();
        for key in gone {
            self.forget(key, false);
        }
    }
}

mod output;
