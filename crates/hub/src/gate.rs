//! Subscribing and leaving by control frame, with verdicts that may arrive later.
//!
//! Requests of one connection that name the same topic are handled strictly in the order in
//! which they arrived; different topics do not wait for each other. So an unsubscribe that
//! arrives while a subscribe waits for its verdict takes effect after it, a verdict for a
//! connection that has closed finds nothing to change, and nothing blocks other messages.

use std::borrow::Cow;
use std::collections::VecDeque;

use hashbrown::HashSet;
use millstream_core::{JsonStr, Key, RawJsonRef, TopicName, TopicRules};
use millstream_wire::Ref;
use smallvec::{SmallVec, smallvec};

use crate::Hub;
use crate::event::Event;

/// Identifies a question that waits for its verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    conn: Key,
    op: u32,
}

impl Ticket {
    /// The connection that asked.
    #[must_use]
    pub fn conn(self) -> Key {
        self.conn
    }
}

/// Whether a connection may hold a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "complete: there is no third answer"
)]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not, for this reason, which the client sees verbatim.
    Deny(Cow<'static, str>),
}

impl Verdict {
    /// A denial with the reason `FORBIDDEN`.
    pub const FORBIDDEN: Self = Self::Deny(Cow::Borrowed(reason::FORBIDDEN));
    /// A denial with the reason `UNAUTHENTICATED`.
    pub const UNAUTHENTICATED: Self = Self::Deny(Cow::Borrowed(reason::UNAUTHENTICATED));
    /// What a failed check amounts to.
    pub const FAILED: Self = Self::Deny(Cow::Borrowed(reason::INTERNAL_ERROR));
}

/// Reasons the engine itself gives in `subscribe-denied`.
pub mod reason {
    /// Refused by the application or because the topic is not open to control frames.
    pub const FORBIDDEN: &str = "FORBIDDEN";
    /// The check itself failed.
    pub const INTERNAL_ERROR: &str = "INTERNAL_ERROR";
    /// The name breaks the topic rules or is reserved.
    pub const INVALID_TOPIC: &str = "INVALID_TOPIC";
    /// A limit of the connection or of the server is reached.
    pub const RATE_LIMITED: &str = "RATE_LIMITED";
    /// Only for users who are known.
    pub const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
}

/// Requests of one connection that are not finished, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    ops: VecDeque<Op>,
    next: u32,
    topics: usize,
}

#[derive(Debug)]
struct Op {
    id: u32,
    kind: Kind,
    entries: SmallVec<[Entry; 1]>,
    /// The `ref` as it stood in the frame.
    reference: Option<Box<[u8]>>,
    /// The host was asked.
    asked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Leave,
    Server { token: u64, holder: Option<u64> },
    Subscribe { batch: bool },
}

#[derive(Debug)]
struct Entry {
    topic: TopicName,
    /// Decided without asking.
    refused: Option<&'static str>,
    /// An unsubscribe came for which there was no room in line: it takes effect behind this.
    leaves: bool,
}

impl Entry {
    fn new(topic: TopicName) -> Self {
        Self {
            topic,
            refused: None,
            leaves: false,
        }
    }
}

impl Gates {
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Tokens of server-made subscriptions that will never be decided.
    pub(crate) fn drain_server_tokens(&mut self) -> impl Iterator<Item = u64> {
        self.ops.drain(..).filter_map(|op| match op.kind {
            Kind::Server { token, .. } => Some(token),
            Kind::Leave | Kind::Subscribe { .. } => None,
        })
    }

    /// The next request that no earlier one stands in the way of and nobody was asked about.
    fn runnable(&self) -> Option<usize> {
        if let Some(first) = self.ops.front()
            && !first.asked
        {
            return Some(0);
        }
        let mut before: HashSet<&str> = HashSet::new();
        for (at, op) in self.ops.iter().enumerate() {
            if !op.asked
                && op
                    .entries
                    .iter()
                    .all(|entry| !before.contains(&*entry.topic))
            {
                return Some(at);
            }
            before.extend(op.entries.iter().map(|entry| &*entry.topic));
        }
        None
    }

    /// The newest unfinished request about a topic.
    fn last_about(&mut self, topic: &str) -> Option<&mut Entry> {
        let mut entries = self
            .ops
            .iter_mut()
            .rev()
            .flat_map(|op| op.entries.iter_mut().rev());
        entries.find(|entry| &*entry.topic == topic)
    }

    /// Whether an unfinished request is about a topic.
    pub(crate) fn is_about(&self, topic: &str) -> bool {
        let mut entries = self.ops.iter().flat_map(|op| op.entries.iter());
        entries.any(|entry| &*entry.topic == topic)
    }

    fn remove(&mut self, at: usize) -> Option<Op> {
        let op = self.ops.remove(at)?;
        self.topics -= op.entries.len();
        Some(op)
    }
}

impl Hub {
    /// Subscribes a connection on behalf of the application: any valid topic, `__` included.
    /// The outcome comes as [`Event::Subscribed`] with `token`. With a `holder` events are held
    /// back from the start until [`release`](Self::release). A connection that holds the topic
    /// already goes on receiving them, unless they are held back for somebody else.
    pub fn subscribe(&mut self, conn: Key, topic: &str, token: u64, holder: Option<u64>) {
        let outcome = match TopicName::parse(topic, &TopicRules::SERVER) {
            Err(_) => Err(reason::INVALID_TOPIC),
            Ok(topic) if self.pending_full(conn, 1) => {
                let _ = topic;
                Err(reason::RATE_LIMITED)
            }
            Ok(topic) => {
                let kind = Kind::Server { token, holder };
                self.enqueue(conn, kind, smallvec![Entry::new(topic)], None);
                return;
            }
        };
        let result = outcome.map_err(str::to_owned);
        self.events.push_back(Event::Subscribed { token, result });
    }

    /// Subscribes a connection without asking anybody: the caller has decided. True when it holds
    /// the topic afterwards.
    pub fn subscribe_unchecked(&mut self, conn: Key, topic: &str) -> bool {
        let Ok(topic) = TopicName::parse(topic, &TopicRules::SERVER) else {
            return false;
        };
        self.contains(conn)
            && (self.holds(conn, &topic) || self.admit(conn, &topic, None, |_, _| {}).is_ok())
    }

    /// Ends a subscription on behalf of the application. False when it was not held.
    /// A subscribe of that topic that still waits for its verdict is not affected.
    pub fn unsubscribe(&mut self, conn: Key, topic: &str) -> bool {
        let Some(index) = self.local_index(topic) else {
            return false;
        };
        let name = self.local[index as usize].topic.name().clone();
        let left = self.leave(conn, index);
        if left {
            self.events
                .push_back(Event::Unsubscribed { conn, topic: name });
        }
        left
    }

    /// Gives the verdicts of an [`Event::Ask`], in the order of its topics; missing ones deny
    /// with `INTERNAL_ERROR`. Late verdicts for a closed connection change nothing.
    pub fn settle(&mut self, ticket: Ticket, verdicts: impl IntoIterator<Item = Verdict>) {
        let Some(extra) = self.extra(ticket.conn) else {
            self.tally.verdicts_late += 1;
            return;
        };
        let Some(at) = extra
            .gates
            .ops
            .iter()
            .position(|op| op.id == ticket.op && op.asked)
        else {
            self.tally.verdicts_late += 1;
            return;
        };
        if let Some(op) = extra.gates.remove(at) {
            self.conclude(ticket.conn, op, verdicts.into_iter());
        }
        self.advance(ticket.conn);
    }

    pub(crate) fn handle_subscribe(&mut self, conn: Key, topic: JsonStr<'_>, to: Option<Ref<'_>>) {
        let rules = self.config.wire_rules;
        let refused = match TopicName::parse_json(topic, &rules) {
            Err(_) => reason::INVALID_TOPIC,
            Ok(_) if self.pending_full(conn, 1) => reason::RATE_LIMITED,
            Ok(topic) => {
                let kind = Kind::Subscribe { batch: false };
                self.enqueue(conn, kind, smallvec![Entry::new(topic)], to);
                return;
            }
        };
        self.deny(
            conn,
            topic.raw().as_bytes(),
            to.map(|to| to.as_bytes()),
            refused,
        );
    }

    pub(crate) fn handle_subscribe_batch(
        &mut self,
        conn: Key,
        topics: RawJsonRef<'_>,
        to: Option<Ref<'_>>,
    ) {
        let rules = self.config.wire_rules;
        let mut entries: SmallVec<[Entry; 1]> = SmallVec::new();
        for element in topics
            .elements()
            .take(self.config.limits.batch_topics_max as usize)
        {
            let name = element.as_json_str();
            match name.and_then(|name| TopicName::parse_json(name, &rules).ok()) {
                Some(topic) => entries.push(Entry::new(topic)),
                None => {
                    let to = to.as_ref().map(|to| to.as_bytes());
                    self.deny(conn, element.as_bytes(), to, reason::INVALID_TOPIC);
                }
            }
        }
        if self.pending_full(conn, entries.len()) {
            for entry in &mut entries {
                entry.refused = Some(reason::RATE_LIMITED);
            }
            let op = Op {
                id: 0,
                kind: Kind::Subscribe { batch: true },
                entries,
                reference: to.map(|to| to.as_bytes().into()),
                asked: true,
            };
            self.conclude(conn, op, core::iter::empty());
            return;
        }
        self.enqueue(conn, Kind::Subscribe { batch: true }, entries, to);
    }

    pub(crate) fn handle_unsubscribe(&mut self, conn: Key, topic: JsonStr<'_>) {
        // Reserved and impossible names were never subscribed by this client: not its business.
        let Ok(topic) = TopicName::parse_json(topic, &self.config.wire_rules) else {
            return;
        };
        if self.pending_full(conn, 1) {
            // No room to wait in line: follow what waits for this topic, or leave now.
            let waiting = self
                .extra(conn)
                .and_then(|extra| extra.gates.last_about(&topic));
            match waiting {
                Some(entry) => entry.leaves = true,
                None => {
                    self.leave_now(conn, topic);
                }
            }
            return;
        }
        self.enqueue(conn, Kind::Leave, smallvec![Entry::new(topic)], None);
    }

    fn pending_full(&self, conn: Key, more: usize) -> bool {
        let pending = self
            .conns
            .get(conn)
            .and_then(|conn| conn.extra.as_ref())
            .map_or(0, |extra| extra.gates.topics);
        pending > 0 && pending + more > self.config.limits.pending_topics_max as usize
    }

    fn enqueue(
        &mut self,
        conn: Key,
        kind: Kind,
        entries: SmallVec<[Entry; 1]>,
        reference: Option<Ref<'_>>,
    ) {
        if matches!(kind, Kind::Subscribe { .. }) {
            for entry in &entries {
                self.is_wanted(conn, &entry.topic);
            }
        }
        let Some(extra) = self.extra_or_new(conn) else {
            if let Kind::Server { token, .. } = kind {
                let result = Err("CONNECTION_CLOSED".to_owned());
                self.events.push_back(Event::Subscribed { token, result });
            }
            return;
        };
        let gates = &mut extra.gates;
        gates.next = gates.next.wrapping_add(1);
        gates.topics += entries.len();
        gates.ops.push_back(Op {
            id: gates.next,
            kind,
            entries,
            reference: reference.map(|to| to.as_bytes().into()),
            asked: false,
        });
        self.advance(conn);
    }

    /// Starts everything that may start.
    fn advance(&mut self, conn: Key) {
        loop {
            let Some(extra) = self.extra(conn) else {
                return;
            };
            let Some(at) = extra.gates.runnable() else {
                break;
            };
            let decided = self.start(conn, at);
            if decided {
                let op = self.extra(conn).and_then(|extra| extra.gates.remove(at));
                if let Some(op) = op {
                    self.conclude(conn, op, core::iter::empty());
                }
            }
        }
        self.tidy(conn);
    }

    /// Looks at one request: true when it is decided without asking.
    fn start(&mut self, conn: Key, at: usize) -> bool {
        self.park_closed(conn, at);
        let Some(op) = self
            .extra(conn)
            .and_then(|extra| extra.gates.ops.get_mut(at))
        else {
            return false;
        };
        let (id, kind) = (op.id, op.kind);
        op.asked = true;
        let topics: Vec<TopicName> = op.entries.iter().map(|entry| entry.topic.clone()).collect();
        let batch = match kind {
            Kind::Leave => return true,
            Kind::Server { .. } if topics.iter().all(|topic| self.holds(conn, topic)) => {
                return true;
            }
            Kind::Server { .. } => false,
            Kind::Subscribe { batch } => batch,
        };
        let wire = matches!(kind, Kind::Subscribe { .. });
        let mut ask = Vec::with_capacity(topics.len());
        for (nth, topic) in topics.into_iter().enumerate() {
            let held = self.holds(conn, &topic);
            let refused = if wire && !held && !self.is_open(&topic) {
                Some(reason::FORBIDDEN)
            } else if !held && self.subscriptions_full(conn) {
                Some(reason::RATE_LIMITED)
            } else {
                None
            };
            if refused.is_none() {
                ask.push(topic);
            } else if let Some(entry) = self
                .extra(conn)
                .and_then(|extra| extra.gates.ops.get_mut(at))
                .and_then(|op| op.entries.get_mut(nth))
            {
                entry.refused = refused;
            }
        }
        if ask.is_empty() && !batch {
            return true;
        }
        let ticket = Ticket { conn, op: id };
        self.events.push_back(Event::Ask {
            ticket,
            topics: ask,
            batch,
        });
        false
    }

    /// Takes those topics out of a client's subscribe that it may yet get from the application.
    fn park_closed(&mut self, conn: Key, at: usize) {
        if !self.config.park {
            return;
        }
        let Some(extra) = self.extra(conn) else {
            return;
        };
        let Some(op) = extra
            .gates
            .ops
            .get_mut(at)
            .filter(|op| matches!(op.kind, Kind::Subscribe { .. }))
        else {
            return;
        };
        let reference = op.reference.clone();
        let mut entries = core::mem::take(&mut op.entries);
        let before = entries.len();
        entries.retain(|entry| {
            let closed = !self.holds(conn, &entry.topic) && !self.is_open(&entry.topic);
            let parked = closed && self.park(conn, &entry.topic, reference.as_deref());
            if parked && entry.leaves {
                self.leave_now(conn, entry.topic.clone());
            }
            !parked
        });
        let parked = before - entries.len();
        if let Some(extra) = self.extra(conn) {
            extra.gates.topics -= parked;
            if let Some(op) = extra.gates.ops.get_mut(at) {
                op.entries = entries;
            }
        }
    }

    fn is_open(&self, topic: &str) -> bool {
        let patterns = &self.config.open_topics;
        patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// Carries a request out and answers it, in the order of its topics.
    fn conclude(&mut self, conn: Key, op: Op, mut verdicts: impl Iterator<Item = Verdict>) {
        match op.kind {
            Kind::Leave => {
                for entry in op.entries {
                    self.leave_now(conn, entry.topic);
                }
            }
            Kind::Server { token, holder } => {
                let Some(entry) = op.entries.first() else {
                    return;
                };
                let verdict = match entry.refused {
                    Some(refused) => Err(Cow::Borrowed(refused)),
                    None if self.holds(conn, &entry.topic) => {
                        if let Some(holder) = holder {
                            self.hold_longer(conn, &entry.topic, holder);
                        }
                        Ok(())
                    }
                    None => match verdicts.next().unwrap_or(Verdict::FAILED) {
                        Verdict::Allow => self.admit(conn, &entry.topic, holder, |_, _| {}),
                        Verdict::Deny(reason) => Err(reason),
                    },
                };
                if let (Ok(()), Some(holder)) = (&verdict, holder) {
                    self.note_asked(conn, &entry.topic, holder);
                }
                self.tally.denied += u64::from(verdict.is_err());
                if let Err(reason) = &verdict {
                    self.refuse_parked(conn, &entry.topic, reason);
                }
                let result = verdict.map_err(Cow::into_owned);
                self.events.push_back(Event::Subscribed { token, result });
                if entry.leaves {
                    self.leave_now(conn, entry.topic.clone());
                }
            }
            Kind::Subscribe { .. } => {
                let to = op.reference.as_deref();
                for entry in op.entries {
                    match entry.refused {
                        // Nobody has decided about it: what it holds meanwhile stays.
                        Some(refused) => self.deny(conn, &quoted(&entry.topic), to, refused),
                        None => {
                            let verdict = verdicts.next().unwrap_or(Verdict::FAILED);
                            self.conclude_one(conn, &entry.topic, to, verdict);
                        }
                    }
                    if entry.leaves {
                        self.leave_now(conn, entry.topic);
                    }
                }
            }
        }
    }

    fn conclude_one(&mut self, conn: Key, topic: &TopicName, to: Option<&[u8]>, verdict: Verdict) {
        let json = quoted(topic);
        let denied = match verdict {
            Verdict::Allow => {
                let ack = |hub: &mut Self, conn: Key| {
                    if let Some(to) = to {
                        hub.control(conn, |out| {
                            millstream_wire::encode_subscribed(out, &json, to)
                        });
                    }
                };
                if self.holds(conn, topic) {
                    self.is_wanted(conn, topic);
                    ack(self, conn);
                    return;
                }
                match self.admit(conn, topic, None, ack) {
                    Ok(()) => return,
                    Err(reason) => reason,
                }
            }
            Verdict::Deny(reason) => {
                // A denial revokes what an earlier verdict allowed.
                self.unsubscribe(conn, topic);
                reason
            }
        };
        self.deny(conn, &json, to, &denied);
    }

    /// Makes a subscription that was allowed; `ack` runs when nothing can fail any more and
    /// before anything of the topic can be delivered. Subscribes that were parked are answered
    /// then too.
    fn admit(
        &mut self,
        conn: Key,
        topic: &TopicName,
        holder: Option<u64>,
        ack: impl FnOnce(&mut Self, Key),
    ) -> Result<(), Cow<'static, str>> {
        if self.subscriptions_full(conn) {
            return Err(Cow::Borrowed(reason::RATE_LIMITED));
        }
        let now = self.now;
        let position = self.position_of(conn, topic);
        for _ in 0..4 {
            let Ok(shared) = self.topics.open(topic, now) else {
                break;
            };
            let Some(missed) = self.join(conn, &shared, position) else {
                continue;
            };
            ack(self, conn);
            self.grant_parked(conn, topic);
            if let Some(holder) = holder {
                self.hold(conn, topic, holder);
            }
            self.catch_up(conn, &shared, missed);
            return Ok(());
        }
        Err(Cow::Borrowed(reason::RATE_LIMITED))
    }

    fn subscriptions_full(&self, conn: Key) -> bool {
        self.subscription_count(conn) >= self.config.limits.subscriptions_max as usize
    }

    /// Leaves a topic as the client has said, or would have. False when it was not held, or stays
    /// for replies to come.
    pub(crate) fn leave_now(&mut self, conn: Key, topic: TopicName) -> bool {
        let left = self
            .local_index(&topic)
            .is_some_and(|index| !self.stays_for_replies(conn, index) && self.leave(conn, index));
        self.events.push_back(Event::Unsubscribed { conn, topic });
        left
    }

    pub(crate) fn deny(&mut self, conn: Key, topic_json: &[u8], to: Option<&[u8]>, reason: &str) {
        self.tally.denied += 1;
        if let Some(to) = to {
            let encode =
                |out: &mut Vec<u8>| millstream_wire::encode_denied(out, topic_json, to, reason);
            self.control(conn, encode);
        }
    }
}

/// A valid topic as JSON: nothing in it needs an escape.
pub(crate) fn quoted(topic: &TopicName) -> Vec<u8> {
    let mut json = Vec::with_capacity(topic.len() + 2);
    json.push(b'"');
    json.extend_from_slice(topic.as_bytes());
    json.push(b'"');
    json
}
