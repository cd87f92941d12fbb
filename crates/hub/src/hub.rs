//! One worker's connections and topics.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use millstream_core::{Full, Key, Millis, Slab, TimerId, TopicId, TopicRules, Wheel};
use millstream_wire::{self as wire, Caps};

use crate::asked::Asked;
use crate::backlog::{Backlog, Bounds};
use crate::coalesce::{Coalesced, Entry};
use crate::event::{CloseSummary, Event};
use crate::gate::Gates;
use crate::hold::Newcomer;
use crate::local::{LocalTopic, NO_OUTPUT};
use crate::parked::Parked;
use crate::requests::{RequestError, Requests};
use crate::retain::Missed;
use crate::stats::Tally;
use crate::subs::{Place, Subs};
use crate::topics::{Topic, Topics};
use crate::turn::{Output, Span, Turn};
use crate::{Limits, Pattern};

/// The connections of one worker and the topics they hold, without sockets, clocks or threads.
///
/// # Calling contract
///
/// 1. Tell it what happened: [`open`](Self::open), [`receive`](Self::receive) for every text
///    message, [`settle`](Self::settle) for verdicts, [`handle_timeout`](Self::handle_timeout),
///    [`deliver`](Self::deliver) for what other workers publish, [`close`](Self::close).
/// 2. After each of these take [`poll_event`](Self::poll_event) until it gives nothing.
/// 3. Once per turn, and whenever [`wants_flush`](Self::wants_flush) says so, call
///    [`flush`](Self::flush) with the sockets. Output exists only then.
/// 4. When a socket that stalled can take more, call [`write_more`](Self::write_more).
///
/// A hub never calls back into its host; the only trait it is given is [`Sink`](crate::Sink).
///
/// ```
/// use millstream_core::{Key, Millis};
/// use millstream_hub::{Hub, HubConfig, Sink, Wrote};
///
/// struct Printer(Vec<u8>);
/// impl Sink for Printer {
///     fn send(&mut self, _: Key, bytes: &[u8]) -> Wrote {
///         self.0.extend_from_slice(bytes);
///         Wrote::Bytes(bytes.len())
///     }
/// }
/// let mut hub = Hub::single(HubConfig::default());
/// let conn = hub.open(Some("7d0f"), Millis::ZERO).unwrap();
/// let mut socket = Printer(Vec::new());
/// hub.flush(&mut socket);
/// assert!(socket.0.ends_with(br#"{"type":"welcome","sessionId":"7d0f"}"#));
/// # let _ = conn;
/// ```
#[derive(Debug)]
pub struct Hub {
    pub(crate) worker: u16,
    pub(crate) config: Arc<HubConfig>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) conns: Slab<Conn>,
    pub(crate) local: Vec<LocalTopic>,
    free_topics: Vec<u32>,
    by_id: HashMap<TopicId, u32>,
    /// Topics with output in this turn.
    pub(crate) dirty: Vec<u32>,
    /// What each of them has; those behind are from before, for the memory they hold.
    pub(crate) outputs: Vec<Output>,
    /// Topics that lost their last subscriber in this turn.
    reap: Vec<u32>,
    /// What single connections get in this turn; the first `turns_used` are in use.
    pub(crate) turns: Vec<Turn>,
    pub(crate) turns_used: usize,
    /// Bytes of the direct output.
    pub(crate) arena: Vec<u8>,
    pub(crate) turn_number: u32,
    stamp: u32,
    last: Source,
    /// Bytes produced in this turn.
    pub(crate) turn_bytes: usize,
    pub(crate) pool: Vec<Vec<u8>>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) timers: Wheel<Timer>,
    pub(crate) tally: Tally,
    pub(crate) scratch: crate::flush::Scratch,
    /// Deliveries taken so far.
    pub(crate) taken: u64,
    /// Who subscribed while deliveries were on their way, in order.
    pub(crate) newcomers: VecDeque<Newcomer>,
    subscriptions: usize,
    backlog_bytes: usize,
    /// Time of the current turn.
    pub(crate) now: Millis,
}

/// What a hub is built with. Shared by all hubs of a process.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Bounds.
    pub limits: Limits,
    /// Topics that clients may subscribe to by control frame. Everything else is denied with
    /// `FORBIDDEN` unless the connection already holds it. Default: none.
    pub open_topics: Vec<Pattern>,
    /// Whether the host subscribes connections itself ([`Hub::subscribe`]), so that a client may
    /// ask for a topic shortly before it gets it. Then what would be denied with `FORBIDDEN` waits
    /// for its answer, at most `parked_hold`. Default: no.
    pub park: bool,
    /// What clients may call a topic.
    pub wire_rules: TopicRules,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            open_topics: Vec::new(),
            park: false,
            wire_rules: TopicRules::WIRE,
        }
    }
}

impl HubConfig {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            bytes: self.limits.backlog_bytes_max,
            pieces: self.limits.backlog_pieces_max,
            control_bytes: self.limits.control_bytes_max,
            coalesce_keys: self.limits.coalesce_keys_max as usize,
            coalesce_bytes: self.limits.coalesce_bytes_max,
        }
    }
}

/// What a flush reads of each receiver stands together at the end: one cache line for most.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Conn {
    pub(crate) opened_at: Millis,
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) extra: Option<Box<Extra>>,
    pub(crate) subs: Subs,
    pub(crate) backlog: Option<Box<Backlog>>,
    /// Index of its entry in `turns`, or `NO_TURN`.
    pub(crate) turn: u32,
    /// The last turn in which a dirty topic of it was seen; for finding those with several.
    pub(crate) mark: u32,
    /// It gets output of more than one source in this turn.
    pub(crate) mixed: bool,
    pub(crate) batch: bool,
    /// A close frame was queued: nothing may follow it.
    pub(crate) closing: bool,
    /// That close frame has been given to the socket or to the backlog.
    pub(crate) closed: bool,
    /// The socket failed; the host will close it.
    pub(crate) dead: bool,
}

/// What few connections have at any one time.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) gates: Gates,
    pub(crate) parked: Parked,
    pub(crate) asked: Asked,
    pub(crate) requests: Requests,
    pub(crate) coalesced: Coalesced,
    /// Positions of a `resume` that wait for the topics to be subscribed.
    pub(crate) positions: HashMap<Box<str>, f64>,
    /// When they are forgotten. Set while there are any.
    pub(crate) positions_timer: Option<TimerId>,
}

impl Extra {
    /// Keeps a frame until the connection has caught up; gives how many were lost for it.
    pub(crate) fn keep_coalesced(&mut self, entry: Entry, bounds: Bounds) -> u64 {
        let Bounds {
            coalesce_keys,
            coalesce_bytes,
            ..
        } = bounds;
        self.coalesced.put(entry, coalesce_keys, coalesce_bytes)
    }

    fn is_idle(&self) -> bool {
        self.gates.is_empty()
            && self.parked.is_empty()
            && self.asked.is_empty()
            && self.requests.is_empty()
            && self.coalesced.is_empty()
            && self.positions.is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    Parked(Key),
    Doubts(Key),
    Positions(Key),
    Request { conn: Key, reference: u64 },
}

/// Where output came from, to join neighbours of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Conn(u32),
    /// One frame for several connections; never continued.
    Group,
    None,
    Topic {
        index: u32,
        volatile: bool,
    },
}

pub(crate) const NO_TURN: u32 = u32::MAX;
/// No slab index gets there.
const NOBODY: u32 = u32::MAX;

impl Hub {
    /// The hub of one worker.
    #[must_use]
    pub fn new(worker: u16, config: Arc<HubConfig>, topics: Arc<Topics>) -> Self {
        Self {
            worker,
            conns: Slab::with_limit(config.limits.connections_max as usize),
            config,
            topics,
            local: Vec::new(),
            free_topics: Vec::new(),
            by_id: HashMap::new(),
            dirty: Vec::new(),
            outputs: Vec::new(),
            reap: Vec::new(),
            turns: Vec::new(),
            turns_used: 0,
            arena: Vec::new(),
            turn_number: 1,
            stamp: 0,
            last: Source::None,
            turn_bytes: 0,
            pool: Vec::new(),
            events: VecDeque::new(),
            timers: Wheel::new(core::time::Duration::from_millis(10)),
            tally: Tally::default(),
            scratch: crate::flush::Scratch::default(),
            taken: 0,
            newcomers: VecDeque::new(),
            subscriptions: 0,
            backlog_bytes: 0,
            now: Millis::ZERO,
        }
    }

    /// A hub with a topic table of its own, for tests and single-threaded hosts.
    #[must_use]
    pub fn single(config: HubConfig) -> Self {
        let topics_max = config.limits.topics_max;
        let policies = crate::PolicyTable::default();
        let topics = Topics::new(1, 1, topics_max, policies, Arc::default());
        Self::new(0, Arc::new(config), Arc::new(topics))
    }

    /// Takes in a connection. With a session id a `welcome` frame is its first output.
    ///
    /// # Errors
    /// [`Full`] at `connections_max`.
    pub fn open(&mut self, session: Option<&str>, now: Millis) -> Result<Key, Full> {
        self.set_now(now);
        let key = self.conns.insert(Conn {
            subs: Subs::default(),
            backlog: None,
            extra: None,
            turn: NO_TURN,
            mark: 0,
            mixed: false,
            batch: false,
            closing: false,
            closed: false,
            dead: false,
            opened_at: now,
            messages_in: 0,
            bytes_in: 0,
            messages_out: 0,
            bytes_out: 0,
        })?;
        if let Some(session) = session {
            self.control(key, |out| wire::encode_welcome(out, session));
        }
        Ok(key)
    }

    /// Queues a close frame as the last output of a connection and drops its subscriptions'
    /// further output. The host ends the socket when [`pending`](Self::pending) is zero.
    /// 1005 sends an empty close frame; a code that must not be sent is replaced by 1000.
    pub fn say_close(&mut self, conn: Key, code: u16, reason: &str) {
        if self.conns.get(conn).is_none_or(|c| c.closing) {
            return;
        }
        self.control(conn, |out| match code {
            1005 => wire::frame::encode_header(out, wire::Opcode::Close, true, 0, None),
            _ if wire::CloseCode::may_be_sent(code) => wire::encode_close(out, code, reason),
            _ => wire::encode_close(out, wire::CloseCode::NORMAL, reason),
        });
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.closing = true;
        }
    }

    /// Forgets a connection: subscriptions, questions, requests and unsent output.
    /// Requests that waited end as [`RequestError::Closed`]; verdicts that come later are
    /// ignored.
    pub fn close(&mut self, conn: Key) -> Option<CloseSummary> {
        let gone = self.conns.get(conn)?;
        let places: Vec<Place> = gone.subs.iter().collect();
        let mut summary = CloseSummary {
            opened_at: gone.opened_at,
            messages_in: gone.messages_in,
            bytes_in: gone.bytes_in,
            messages_out: gone.messages_out,
            bytes_out: gone.bytes_out,
            ..CloseSummary::default()
        };
        for place in places {
            if let Some(topic) = self.local.get(place.topic as usize) {
                summary.subscriptions.push(topic.topic.name().clone());
            }
            self.leave(conn, place.topic);
        }
        let gone = self.conns.remove(conn)?;
        // Its place may be taken again in this very turn: by somebody else.
        if let Some(turn) = self
            .turns
            .get_mut(gone.turn as usize)
            .filter(|t| t.conn == conn.index)
        {
            turn.reset(NOBODY);
        }
        if let Some(backlog) = &gone.backlog {
            self.backlog_bytes = self.backlog_bytes.saturating_sub(backlog.bytes());
        }
        if let Some(mut extra) = gone.extra {
            let timers = [extra.positions_timer, extra.parked.timer, extra.asked.timer];
            for timer in timers.into_iter().flatten() {
                self.timers.cancel(timer);
            }
            for (token, timer) in extra.requests.drain() {
                self.timers.cancel(timer);
                let result = Err(RequestError::Closed);
                self.events.push_back(Event::Replied { token, result });
            }
            for token in extra.gates.drain_server_tokens() {
                let result = Err("CONNECTION_CLOSED".to_owned());
                self.events.push_back(Event::Subscribed { token, result });
            }
        }
        Some(summary)
    }

    /// The next thing for the host to do.
    #[must_use]
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.timers.next_deadline()
    }

    /// Says what time it is, once per turn. The clock of new topics' numbers.
    pub fn set_now(&mut self, now: Millis) {
        self.now = self.now.max(now);
    }

    /// The time that was said last.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Ends requests whose time is over, refuses subscribes that waited in vain and forgets old
    /// resume positions.
    pub fn handle_timeout(&mut self, now: Millis) {
        self.now = self.now.max(now);
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Parked(conn) => self.expire_parked(conn),
                Timer::Doubts(conn) => self.expire_doubts(conn),
                Timer::Positions(conn) => {
                    if let Some(extra) = self.extra(conn) {
                        extra.positions = HashMap::new();
                        extra.positions_timer = None;
                    }
                    self.tidy(conn);
                }
                Timer::Request { conn, reference } => {
                    let waited = self.extra(conn).and_then(|e| e.requests.take(reference));
                    if waited.is_some() {
                        self.tally.requests_timed_out += 1;
                        let result = Err(RequestError::TimedOut);
                        self.events.push_back(Event::Replied {
                            token: reference,
                            result,
                        });
                    }
                    self.tidy(conn);
                }
            }
        }
    }

    /// Notes inbound messages and their bytes for the counters of the connection.
    pub fn count_received(&mut self, conn: Key, messages: u64, bytes: u64) {
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.messages_in += messages;
            conn.bytes_in += bytes;
        }
    }

    /// This hub's worker number.
    #[must_use]
    pub fn worker(&self) -> u16 {
        self.worker
    }

    /// The topic table this hub shares.
    #[must_use]
    pub fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Subscriptions of all connections.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Unsent bytes of all connections, as far as they are this hub's.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.backlog_bytes
    }

    /// Whether the connection is known.
    #[must_use]
    pub fn contains(&self, conn: Key) -> bool {
        self.conns.get(conn).is_some()
    }

    /// Whether the connection holds the topic, in whatever way.
    #[must_use]
    pub fn holds(&self, conn: Key, topic: &str) -> bool {
        self.local_index(topic).is_some_and(|index| {
            self.conns
                .get(conn)
                .is_some_and(|c| c.subs.slot(index).is_some())
        })
    }

    /// Topics the connection holds.
    #[must_use]
    pub fn subscription_count(&self, conn: Key) -> usize {
        self.conns.get(conn).map_or(0, |conn| conn.subs.len())
    }

    /// Unsent bytes of a connection, those of this turn included.
    #[must_use]
    pub fn pending(&self, conn: Key) -> usize {
        let Some(conn) = self.conns.get(conn) else {
            return 0;
        };
        let turn = self.turns.get(conn.turn as usize).map_or(0, Turn::bytes);
        turn + conn.backlog.as_ref().map_or(0, |backlog| backlog.bytes())
    }

    /// Whether the connection's socket has not taken everything yet.
    #[must_use]
    pub fn has_backlog(&self, conn: Key) -> bool {
        self.conns
            .get(conn)
            .is_some_and(|conn| conn.backlog.is_some())
    }

    /// Whether so much output was collected that it should be flushed before going on.
    #[must_use]
    pub fn wants_flush(&self) -> bool {
        self.turn_bytes >= self.config.limits.turn_bytes_max
    }

    /// Whether there is anything to flush.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.dirty.is_empty() || self.turns_used > 0
    }

    pub(crate) fn set_caps(&mut self, key: Key, caps: Caps) {
        let batch = caps.has_batch();
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        if conn.batch == batch {
            return;
        }
        let places: Vec<Place> = conn.subs.iter().filter(|p| p.slot != Place::HELD).collect();
        let since: Vec<u64> = places
            .iter()
            .map(|place| self.leave_lane(key, *place))
            .collect();
        if let Some(conn) = self.conns.get_mut(key) {
            conn.batch = batch;
        }
        for (place, since) in places.into_iter().zip(since) {
            self.join_lane(key, place.topic, since);
        }
    }

    /// Subscribes; the topic must not be held yet. Says what the connection has missed since the
    /// position it gives, if it gives one.
    pub(crate) fn join(
        &mut self,
        key: Key,
        topic: &Arc<Topic>,
        position: Option<f64>,
    ) -> Option<Missed> {
        let joined = topic.join(self.worker, position)?;
        let index = self.localise(topic);
        if self.topics.handed(self.worker) == self.taken {
            self.join_lane(key, index, joined.head);
        } else {
            self.join_late(key, index, &joined);
        }
        self.subscriptions += 1;
        self.tally.subscribed += 1;
        Some(joined.missed)
    }

    /// Ends a subscription, held back or not.
    pub(crate) fn leave(&mut self, key: Key, index: u32) -> bool {
        let Some(conn) = self.conns.get_mut(key) else {
            return false;
        };
        let Some(slot) = conn.subs.slot(index) else {
            return false;
        };
        if slot == Place::HELD {
            conn.subs.remove(index);
            self.drop_held(key, index);
        } else {
            self.leave_lane(key, Place { topic: index, slot });
        }
        self.subscriptions -= 1;
        self.tally.unsubscribed += 1;
        let topic = self.local[index as usize].topic.id();
        if let Some(extra) = self.extra(key) {
            // Who subscribes again gets newer data first, and must not get these behind it.
            let lost = extra.coalesced.forget(topic);
            self.tally.dropped_coalesced += lost;
        }
        self.forget_asked(key, index);
        let local = &self.local[index as usize];
        local.topic.leave(self.worker);
        if local.is_unused() {
            self.reap.push(index);
            if self.dirty.is_empty() {
                self.reap_topics();
            }
        }
        true
    }

    /// Lets a topic's events through. `since` is the topic's number at the subscription.
    pub(crate) fn join_lane(&mut self, key: Key, index: u32, since: u64) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let lane = u8::from(conn.batch);
        let slot = self.local[index as usize].add(lane, key.index, since);
        conn.subs.set(index, slot);
        let from = self.chunks(index, lane);
        if from > 0 {
            // Earlier output of this turn is not for the newcomer.
            self.cut(index);
            let turn = self.turn_of(key.index);
            turn.spans.push(Span {
                topic: index,
                lane,
                from,
                to: Span::OPEN,
            });
        }
    }

    /// Gives the topic's number at the subscription, if the topic keeps events.
    pub(crate) fn leave_lane(&mut self, key: Key, place: Place) -> u64 {
        let Place { topic: index, slot } = place;
        let Some(conn) = self.conns.get_mut(key) else {
            return 0;
        };
        conn.subs.remove(index);
        let lane = u8::from(conn.batch);
        let local = &mut self.local[index as usize];
        debug_assert_eq!(
            local.subs[usize::from(lane)].as_slice().get(slot as usize),
            Some(&key.index),
            "slots are kept right"
        );
        let (since, moved) = local.remove(lane, slot);
        let chunks = self.chunks(index, lane);
        if let Some(moved) = moved
            && let Some(other) = at_mut(&mut self.conns, moved)
        {
            other.subs.set(index, slot);
        }
        if chunks > 0 {
            // What was published before it left is still for it.
            self.cut(index);
            let turn = self.turn_of(key.index);
            let open = turn
                .spans
                .iter_mut()
                .find(|span| span.topic == index && span.lane == lane && span.to == Span::OPEN);
            match open {
                Some(span) => span.to = chunks,
                None => {
                    let span = Span {
                        topic: index,
                        lane,
                        from: 0,
                        to: chunks,
                    };
                    turn.spans.push(span);
                }
            }
        }
        since
    }

    /// Runs of events in a topic's lane in this turn.
    fn chunks(&self, index: u32, lane: u8) -> u32 {
        let output = self.local[index as usize].output;
        let output = self.outputs.get(output as usize);
        let chunks = output.map_or(0, |output| output.lanes[usize::from(lane)].chunks.len());
        u32::try_from(chunks).unwrap_or(u32::MAX)
    }

    /// Where a topic's output of this turn is; made if need be.
    pub(crate) fn output_of(&mut self, index: u32) -> usize {
        let local = &mut self.local[index as usize];
        if local.output == NO_OUTPUT {
            local.output = u32::try_from(self.dirty.len()).unwrap_or(NO_OUTPUT);
            self.dirty.push(index);
            if self.outputs.len() < self.dirty.len() {
                self.outputs.push(Output::default());
            }
        }
        local.output as usize
    }

    /// Gives back the memory of a burst, a part with every turn that needs less.
    pub(crate) fn shrink_outputs(&mut self, used: usize) {
        let len = self.outputs.len();
        if len > OUTPUTS_KEPT {
            let kept = OUTPUTS_KEPT.max(used).max(len - len / 16);
            self.outputs.truncate(kept);
            self.outputs.shrink_to(2 * kept);
        }
    }

    /// The index of a topic in this hub, if anyone here holds it.
    pub(crate) fn local_index(&self, topic: &str) -> Option<u32> {
        let topic = self.topics.find(topic)?;
        self.by_id.get(&topic.id()).copied()
    }

    pub(crate) fn index_of(&self, topic: TopicId) -> Option<u32> {
        self.by_id.get(&topic).copied()
    }

    /// The same when it probably is at `hint`: one look instead of a search.
    pub(crate) fn index_near(&self, topic: TopicId, hint: u32) -> Option<u32> {
        match self.local.get(hint as usize) {
            Some(local) if local.is(topic) => Some(hint),
            _ => self.index_of(topic),
        }
    }

    /// What the connection gets in this turn; made if need be.
    pub(crate) fn turn_of(&mut self, index: u32) -> &mut Turn {
        let at = match at_mut(&mut self.conns, index) {
            Some(conn) if conn.turn != NO_TURN => conn.turn as usize,
            Some(conn) => {
                conn.turn = u32::try_from(self.turns_used).unwrap_or(NO_TURN);
                self.claim_turn(index)
            }
            // Nobody there: a turn that will find no connection when it is flushed.
            None => self.claim_turn(index),
        };
        &mut self.turns[at]
    }

    fn claim_turn(&mut self, index: u32) -> usize {
        let at = self.turns_used;
        self.turns_used += 1;
        if self.turns.len() == at {
            self.turns.push(Turn::default());
        }
        self.turns[at].reset(index);
        at
    }

    /// The stamp for output of `source`: the same as before when nothing came between.
    pub(crate) fn stamp(&mut self, source: Source) -> u32 {
        if self.last != source {
            self.last = source;
            self.stamp += 1;
        }
        self.stamp
    }

    /// Makes the next output of a topic a chunk of its own.
    fn cut(&mut self, index: u32) {
        if matches!(self.last, Source::Topic { index: last, .. } if last == index) {
            self.last = Source::None;
        }
    }

    /// Ends the turn's bookkeeping after everything was given to the sink.
    pub(crate) fn end_turn(&mut self) {
        self.turn_number = self.turn_number.wrapping_add(1).max(1);
        self.stamp = 0;
        self.last = Source::None;
        self.turn_bytes = 0;
        self.turns_used = 0;
        self.turns.shrink_to(TURNS_KEPT.max(self.turns.len() / 2));
        self.arena.clear();
        self.arena.shrink_to(ARENA_KEPT);
        self.reap_topics();
        self.topics.stats().add(&mut self.tally);
    }

    pub(crate) fn note_backlog(&mut self, before: usize, after: usize) {
        self.backlog_bytes = (self.backlog_bytes + after).saturating_sub(before);
    }

    pub(crate) fn extra(&mut self, conn: Key) -> Option<&mut Extra> {
        self.conns
            .get_mut(conn)
            .and_then(|conn| conn.extra.as_deref_mut())
    }

    pub(crate) fn extra_or_new(&mut self, conn: Key) -> Option<&mut Extra> {
        self.conns
            .get_mut(conn)
            .map(|conn| &mut **conn.extra.get_or_insert_default())
    }

    /// Gives back what a connection no longer needs.
    pub(crate) fn tidy(&mut self, conn: Key) {
        let Some(conn) = self.conns.get_mut(conn) else {
            return;
        };
        let Some(extra) = &mut conn.extra else { return };
        if extra.positions.is_empty()
            && let Some(timer) = extra.positions_timer.take()
        {
            self.timers.cancel(timer);
        }
        if extra.parked.is_empty()
            && let Some(timer) = extra.parked.timer.take()
        {
            self.timers.cancel(timer);
        }
        if !extra.asked.has_doubts()
            && let Some(timer) = extra.asked.timer.take()
        {
            self.timers.cancel(timer);
        }
        if extra.is_idle() {
            conn.extra = None;
        }
    }

    fn localise(&mut self, topic: &Arc<Topic>) -> u32 {
        if let Some(index) = self.by_id.get(&topic.id()) {
            return *index;
        }
        let local = LocalTopic::new(topic);
        let index = match self.free_topics.pop() {
            Some(index) => {
                self.local[index as usize] = local;
                index
            }
            None => {
                self.local.push(local);
                u32::try_from(self.local.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.by_id.insert(topic.id(), index);
        topic.seat(self.worker, index);
        index
    }

    /// Forgets topics nobody here holds. Only between turns: spans name topics by index.
    fn reap_topics(&mut self) {
        for index in core::mem::take(&mut self.reap) {
            let local = &self.local[index as usize];
            // Twice in the list, or subscribed again meanwhile.
            let current = self.by_id.get(&local.topic.id()) == Some(&index);
            if current && local.is_unused() {
                self.by_id.remove(&local.topic.id());
                self.local[index as usize].free();
                self.free_topics.push(index);
            }
        }
    }
}

/// The connection at a slab index, whatever its generation.
pub(crate) fn at_mut(conns: &mut Slab<Conn>, index: u32) -> Option<&mut Conn> {
    conns.get_at_mut(index).map(|(_, conn)| conn)
}

const TURNS_KEPT: usize = 256;
const OUTPUTS_KEPT: usize = 256;
const ARENA_KEPT: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use millstream_core::RawJsonRef;

    use super::*;
    use crate::{Delivery, Inboxes, PublishOptions, Publisher, Sink, Wrote};

    struct Nothing;

    impl Inboxes for Nothing {
        fn push(&self, _: u16, _: Delivery) {}

        fn is_empty(&self, _: u16) -> bool {
            true
        }

        fn is_full(&self, _: u16) -> bool {
            false
        }
    }

    impl Sink for Nothing {
        fn send(&mut self, _: Key, bytes: &[u8]) -> Wrote {
            Wrote::Bytes(bytes.len())
        }
    }

    /// A turn in which that many topics have events.
    fn turn(hub: &mut Hub, topics: usize) {
        let table = Arc::clone(&hub.topics);
        let publisher = Publisher {
            topics: &table,
            inboxes: &Nothing,
            now: Millis::ZERO,
        };
        for topic in 0..topics {
            let (name, options) = (format!("t{topic}"), PublishOptions::default());
            publisher
                .publish(Some(&mut *hub), &name, "e", RawJsonRef::NULL, options)
                .unwrap();
        }
        hub.flush(&mut Nothing);
    }

    #[test]
    fn memory_of_a_burst_is_given_back() {
        let mut hub = Hub::single(HubConfig::default());
        let conn = hub.open(None, Millis::ZERO).unwrap();
        for topic in 0..2_000 {
            assert!(hub.subscribe_unchecked(conn, &format!("t{topic}")));
        }
        turn(&mut hub, 2_000);
        assert_eq!(hub.outputs.len(), 2_000);
        turn(&mut hub, 1_900);
        assert_eq!(hub.outputs.len(), 1_900);
        for _ in 0..50 {
            turn(&mut hub, 10);
        }
        assert_eq!(hub.outputs.len(), OUTPUTS_KEPT);
        assert!(hub.outputs.capacity() <= 2 * OUTPUTS_KEPT + OUTPUTS_KEPT / 8);
    }
}
