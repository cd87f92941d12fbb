//! From one publish to the batches of every worker that has subscribers.
//!
//! A publish takes the topic's lock once: the event is numbered, encoded and handed to each
//! worker before the next publish of that topic gets its number. That is what makes every
//! subscriber see the same order, on whatever worker it lives.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use millstream_core::{Millis, RawJsonRef, TopicId, check_event};
use millstream_wire as wire;
use smallvec::SmallVec;

use crate::topics::{OpenError, Seat, Topic, TopicState, Topics};
use crate::{Hub, Stats};

/// Queues that lead to the workers. The host implements it; pushes of one thread stay in order.
pub trait Inboxes {
    /// Hands `delivery` to a worker and wakes it. Called with a topic locked: must not block.
    fn push(&self, worker: u16, delivery: Delivery);
    /// Whether a worker has taken everything that was pushed.
    fn is_empty(&self, worker: u16) -> bool;
    /// Whether a worker is so far behind that publishes have to be refused.
    fn is_full(&self, worker: u16) -> bool;
}

/// What travels between workers: bytes that are ready to be sent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Delivery {
    /// Members of one batched publish.
    Batch(Arc<[Member]>),
    /// One event.
    Event {
        /// The topic it belongs to.
        topic: TopicId,
        /// How many events that topic has had, this one included.
        ordinal: u64,
        /// The complete WebSocket frame.
        frame: Bytes,
        /// Whether connections with a backlog skip it.
        volatile: bool,
    },
    /// An event of which a connection that is behind gets only the newest.
    Keyed {
        /// The topic it belongs to.
        topic: TopicId,
        /// How many events that topic has had, this one included.
        ordinal: u64,
        /// The complete WebSocket frame.
        frame: Bytes,
        /// What it replaces; absent for everything of its topic.
        key: Option<Arc<str>>,
    },
}

impl Delivery {
    /// Bytes held, for the budget of an inbox.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Batch(members) => members.iter().map(|member| member.frame.len()).sum(),
            Self::Event { frame, .. } | Self::Keyed { frame, .. } => frame.len(),
        }
    }

    /// Whether nothing is carried.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One event of a batched publish, encoded.
#[derive(Debug, Clone)]
pub struct Member {
    pub(crate) topic: TopicId,
    /// How many events that topic has had, this one included.
    pub(crate) ordinal: u64,
    pub(crate) frame: Bytes,
    /// Bytes of the WebSocket header in front of the JSON.
    pub(crate) header: u8,
}

impl Member {
    /// The envelope without its WebSocket header.
    pub(crate) fn json(&self) -> &[u8] {
        self.frame
            .get(usize::from(self.header)..)
            .unwrap_or_default()
    }
}

/// How an event is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishOptions {
    /// Whether the event takes the topic's next number. Default yes.
    pub numbered: bool,
    /// Unnumbered, and skipped for connections that have a backlog. Default no.
    pub volatile: bool,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            numbered: true,
            volatile: false,
        }
    }
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Whether anybody was subscribed, on any worker.
    pub delivered: bool,
    /// The number the event got.
    pub seq: Option<u64>,
    /// The event waits in the publishing worker's own inbox, which has to be drained before
    /// that worker produces more output.
    pub queued: bool,
}

/// Why an event was not published. Nothing was numbered or delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A worker with subscribers is too far behind. Try again later.
    #[error("a worker's inbox is full")]
    Busy,
    /// The event's name holds a control character, a quote or a backslash.
    #[error("invalid event name: {0}")]
    Event(millstream_core::TopicError),
    /// The topic cannot be had.
    #[error(transparent)]
    Topic(#[from] OpenError),
    /// The frame would be over 1,048,576 bytes; clients drop such frames unread.
    #[error("an event of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Size of the frame.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A batch has more members than `batch_members_max`.
    #[error("a batch of {members} members is over the limit of {limit}")]
    TooMany {
        /// Members given.
        members: usize,
        /// The limit.
        limit: usize,
    },
}

/// One event of a batched publish, as the application gives it.
#[derive(Debug, Clone, Copy)]
pub struct BatchMember<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Event name.
    pub event: &'a str,
    /// Payload.
    pub data: RawJsonRef<'a>,
    /// Of members with the same key only the last survives, at its own place.
    pub coalesce_key: Option<&'a str>,
    /// Whether it takes its topic's next number.
    pub numbered: bool,
}

/// Publishes on behalf of one thread: a worker (with its hub) or any other.
///
/// ```
/// # use std::sync::Arc;
/// # use millstream_core::{Millis, RawJsonRef};
/// # use millstream_hub::*;
/// struct Nobody;
/// impl Inboxes for Nobody {
///     fn push(&self, _: u16, _: Delivery) {}
///     fn is_empty(&self, _: u16) -> bool { true }
///     fn is_full(&self, _: u16) -> bool { false }
/// }
/// let topics = Topics::new(1, 1_700_000_000_000, 100, PolicyTable::default(), Arc::default());
/// let publisher = Publisher { topics: &topics, inboxes: &Nobody, now: Millis::ZERO };
/// let data = RawJsonRef::parse(b"{\"id\":1}").unwrap();
/// let one = publisher.publish(None, "rooms", "created", data, PublishOptions::default()).unwrap();
/// assert!(!one.delivered && one.seq > Some(1_700_000_000_000 * 1024));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Publisher<'a, I> {
    /// The shared topic table.
    pub topics: &'a Topics,
    /// The way to the workers.
    pub inboxes: &'a I,
    /// Time since the process started.
    pub now: Millis,
}

impl<I: Inboxes> Publisher<'_, I> {
    /// Publishes one event. `local` is the hub of the calling worker, if it is one.
    ///
    /// # Errors
    /// [`PublishError`]; nothing has happened then.
    ///
    /// # Cost
    /// One table lookup, one lock, one encoding. With subscribers only on the calling worker
    /// the event is encoded straight into that worker's batch and nothing is allocated. A topic
    /// that keeps events costs one allocation more, two with subscribers elsewhere.
    pub fn publish(
        &self,
        local: Option<&mut Hub>,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        options: PublishOptions,
    ) -> Result<Published, PublishError> {
        check_event(event).map_err(PublishError::Event)?;
        let published = self.with_topic(topic, local, |topic, state, local| {
            let size = envelope_size(topic, event, data);
            check_size(size)?;
            let volatile = options.volatile || topic.policy().volatile;
            let numbered = options.numbered && !volatile;
            self.refuse_when_full(state)?;
            let seq = numbered.then(|| state.advance());
            let prefix = topic.prefix();
            let encode = |out: &mut Vec<u8>| wire::encode_envelope(out, prefix, event, data, seq);
            let event = Outgoing {
                seq,
                last_hop: LastHop::Queue { volatile },
                size,
            };
            let kept = seq.is_some() && topic.policy().retain > 0;
            Ok((self.fan_out(topic, state, local, event, encode), kept))
        });
        let (published, kept) = published?;
        if kept {
            self.topics.trim();
        }
        Ok(published)
    }

    /// Publishes an event without a number, of which a connection with a backlog gets only the
    /// newest per `key`, in the place of the first that waits; without a key the event takes the
    /// place of everything that waits of its topic. Connections without backlog get every event.
    ///
    /// # Errors
    /// [`PublishError`]; nothing has happened then.
    ///
    /// # Cost
    /// That of [`publish`](Self::publish) and one allocation for the key; nothing more for a
    /// receiver that is not behind.
    pub fn publish_coalesced(
        &self,
        local: Option<&mut Hub>,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        key: Option<&str>,
    ) -> Result<Published, PublishError> {
        check_event(event).map_err(PublishError::Event)?;
        let key: Option<Arc<str>> = key.map(Into::into);
        self.with_topic(topic, local, |topic, state, local| {
            let size = envelope_size(topic, event, data);
            check_size(size)?;
            self.refuse_when_full(state)?;
            let prefix = topic.prefix();
            let encode = |out: &mut Vec<u8>| wire::encode_envelope(out, prefix, event, data, None);
            let event = Outgoing {
                seq: None,
                last_hop: LastHop::Newest(key.clone()),
                size,
            };
            Ok(self.fan_out(topic, state, local, event, encode))
        })
    }

    /// Publishes bytes of an application's own protocol as they are, without a number.
    ///
    /// # Errors
    /// [`PublishError`]; nothing has happened then.
    pub fn publish_raw(
        &self,
        local: Option<&mut Hub>,
        topic: &str,
        payload: RawPayload<'_>,
    ) -> Result<Published, PublishError> {
        self.with_topic(topic, local, |topic, state, local| {
            check_size(payload.len())?;
            self.refuse_when_full(state)?;
            let encode = |out: &mut Vec<u8>| match payload {
                RawPayload::Text(text) => wire::encode_text(out, text.as_bytes()),
                RawPayload::Binary(bytes) => wire::encode_binary(out, bytes),
            };
            let volatile = topic.policy().volatile;
            let event = Outgoing {
                seq: None,
                last_hop: LastHop::Queue { volatile },
                size: payload.len(),
            };
            Ok(self.fan_out(topic, state, local, event, encode))
        })
    }

    /// Publishes several events as one unit: their numbers are taken together, and a
    /// connection that understands batch frames gets its members in one.
    ///
    /// Gives one [`Published`] per member, in order; a member that lost to a later one with
    /// the same key has no number and was not delivered.
    ///
    /// # Errors
    /// [`PublishError`]; nothing has happened then.
    pub fn publish_batched(
        &self,
        mut local: Option<&mut Hub>,
        members: &[BatchMember<'_>],
        members_max: u32,
    ) -> Result<Vec<Published>, PublishError> {
        if members.len() > members_max as usize {
            let limit = members_max as usize;
            return Err(PublishError::TooMany {
                members: members.len(),
                limit,
            });
        }
        for _ in 0..REOPEN_MAX {
            let opened = self.open_all(members)?;
            // In order of id, so that two batches over the same topics cannot deadlock.
            let mut order: Vec<&Arc<Topic>> = opened.iter().collect();
            order.sort_by_key(|topic| topic.id());
            order.dedup_by_key(|topic| topic.id());
            let ids: Vec<TopicId> = order.iter().map(|topic| topic.id()).collect();
            let mut states: Vec<_> = order.iter().map(|topic| topic.lock()).collect();
            if states.iter().any(|state| state.is_retired()) {
                continue;
            }
            for state in &states {
                self.refuse_when_full(state)?;
            }
            let mut kept = false;
            let survivors = surviving(members);
            let mut results = Vec::with_capacity(members.len());
            let mut encoded = Vec::with_capacity(members.len());
            let mut audience: SmallVec<[u32; 4]> =
                SmallVec::from_elem(0, usize::from(self.topics.workers()));
            for ((member, topic), survives) in members.iter().zip(&opened).zip(survivors) {
                let mut result = Published {
                    delivered: false,
                    seq: None,
                    queued: false,
                };
                if let (true, Ok(at)) = (survives, ids.binary_search(&topic.id())) {
                    let state: &mut TopicState = &mut states[at];
                    let seq =
                        (member.numbered && !topic.policy().volatile).then(|| state.advance());
                    let one = encode_member(topic, member, seq, state.count_event());
                    let tally = local.as_deref_mut().map(|hub| &mut hub.tally);
                    self.topics.count(topic, state, one.frame.len(), tally);
                    if let Some(seq) = seq.filter(|_| topic.policy().retain > 0) {
                        self.topics.keep(topic, state, seq, one.frame.clone());
                        kept = true;
                    }
                    encoded.push(one);
                    result.seq = seq;
                    for (sum, seat) in audience.iter_mut().zip(state.audience()) {
                        result.delivered |= seat.subscribers > 0;
                        *sum = sum.saturating_add(seat.subscribers);
                    }
                }
                results.push(result);
            }
            let queued = self.hand_over_batch(local, encoded.into(), &audience);
            drop(states);
            if kept {
                self.topics.trim();
            }
            for result in &mut results {
                result.queued = queued;
            }
            return Ok(results);
        }
        Err(PublishError::Topic(OpenError::Full))
    }

    fn open_all(&self, members: &[BatchMember<'_>]) -> Result<Vec<Arc<Topic>>, PublishError> {
        members
            .iter()
            .map(|member| {
                check_event(member.event).map_err(PublishError::Event)?;
                let topic = self.topics.open(member.topic, self.now)?;
                check_size(envelope_size(&topic, member.event, member.data))?;
                Ok(topic)
            })
            .collect()
    }

    fn hand_over_batch(
        &self,
        local: Option<&mut Hub>,
        members: Arc<[Member]>,
        audience: &[u32],
    ) -> bool {
        let own = local.as_ref().map(|hub| hub.worker());
        for (worker, count) in (0_u16..).zip(audience) {
            if *count > 0 && Some(worker) != own {
                self.hand_over(worker, Delivery::Batch(Arc::clone(&members)));
            }
        }
        let Some(hub) = local else { return false };
        if audience
            .get(usize::from(hub.worker()))
            .is_none_or(|count| *count == 0)
        {
            return false;
        }
        if self.inboxes.is_empty(hub.worker()) {
            hub.deliver_batch(&members);
            return false;
        }
        self.hand_over(hub.worker(), Delivery::Batch(members));
        true
    }

    fn hand_over(&self, worker: u16, delivery: Delivery) {
        self.topics.count_handed(worker);
        self.inboxes.push(worker, delivery);
    }

    /// Opens a topic and runs `work` with its state locked, again if it was forgotten between.
    fn with_topic<R>(
        &self,
        name: &str,
        mut local: Option<&mut Hub>,
        work: impl Fn(&Arc<Topic>, &mut TopicState, Option<&mut Hub>) -> Result<R, PublishError>,
    ) -> Result<R, PublishError> {
        for _ in 0..REOPEN_MAX {
            let topic = self.topics.open(name, self.now)?;
            if let Some(done) = topic.locked(|state| work(&topic, state, local.as_deref_mut())) {
                return done;
            }
        }
        Err(PublishError::Topic(OpenError::Full))
    }

    fn refuse_when_full(&self, state: &TopicState) -> Result<(), PublishError> {
        let full = (0_u16..)
            .zip(state.audience())
            .any(|(worker, seat)| seat.subscribers > 0 && self.inboxes.is_full(worker));
        if full {
            Stats::bump(&self.topics.stats().publishes_busy);
            return Err(PublishError::Busy);
        }
        Ok(())
    }

    /// Encodes once and gives the frame to every worker with subscribers. Topic locked.
    fn fan_out(
        &self,
        topic: &Arc<Topic>,
        state: &mut TopicState,
        mut local: Option<&mut Hub>,
        event: Outgoing,
        encode: impl Fn(&mut Vec<u8>),
    ) -> Published {
        let Outgoing {
            seq,
            last_hop,
            size,
        } = event;
        let own = local.as_ref().map(|hub| hub.worker());
        let mut delivered = false;
        let mut elsewhere = false;
        let mut here = None;
        for (worker, seat) in (0_u16..).zip(state.audience()) {
            if seat.subscribers > 0 {
                delivered = true;
                if Some(worker) == own {
                    here = Some(seat.index)
                } else {
                    elsewhere = true
                }
            }
        }
        let (id, ordinal) = (topic.id(), state.count_event());
        let kept = seq.filter(|_| topic.policy().retain > 0);
        let direct = own.is_some_and(|worker| self.inboxes.is_empty(worker));
        if let Some(hub) = &mut local
            && !elsewhere
            && (direct || here.is_none())
        {
            // The common case of one worker: straight into the batch.
            let index = here.and_then(|hint| hub.index_near(id, hint));
            let bytes = match (kept, index, last_hop) {
                (Some(number), index, _) => {
                    self.append_kept(topic, state, hub, index, number, &encode)
                }
                (None, Some(index), LastHop::Queue { volatile }) => {
                    hub.append(index, ordinal, volatile, &encode)
                }
                (None, Some(index), LastHop::Newest(key)) => {
                    hub.append_keyed(index, ordinal, key, &encode)
                }
                (None, None, _) => size,
            };
            self.topics.count(topic, state, bytes, Some(&mut hub.tally));
            return Published {
                delivered,
                seq,
                queued: false,
            };
        }
        let mut frame = Vec::new();
        if delivered || kept.is_some() {
            encode(&mut frame);
        }
        let bytes = if frame.is_empty() { size } else { frame.len() };
        let tally = local.map(|hub| &mut hub.tally);
        self.topics.count(topic, state, bytes, tally);
        let frame = Bytes::from(frame);
        let give = |worker, frame| {
            self.hand_over(worker, last_hop.delivery(id, ordinal, frame));
        };
        if let Some(number) = kept {
            give_each(state.audience(), frame.clone(), give);
            self.topics.keep(topic, state, number, frame);
        } else {
            give_each(state.audience(), frame, give);
        }
        Published {
            delivered,
            seq,
            queued: here.is_some(),
        }
    }
}

impl<I> Publisher<'_, I> {
    /// Encodes an event once, for the topic to keep and, if it is at an index of the worker's hub,
    /// for this worker's batch.
    fn append_kept(
        &self,
        topic: &Arc<Topic>,
        state: &mut TopicState,
        hub: &mut Hub,
        index: Option<u32>,
        number: u64,
        encode: impl Fn(&mut Vec<u8>),
    ) -> usize {
        let mut frame = Vec::new();
        encode(&mut frame);
        if let Some(index) = index {
            // What has a number is not volatile.
            hub.append(index, state.ordinal(), false, &|out: &mut Vec<u8>| {
                out.extend_from_slice(&frame);
            });
        }
        let bytes = frame.len();
        self.topics.keep(topic, state, number, frame.into());
        bytes
    }
}

/// Bytes of an application's own protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "complete: WebSocket has two kinds of messages"
)]
pub enum RawPayload<'a> {
    /// A binary message.
    Binary(&'a [u8]),
    /// A text message.
    Text(&'a str),
}

impl RawPayload<'_> {
    /// Bytes of the payload.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Binary(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
        }
    }

    /// Whether the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A topic can be forgotten between lookup and lock; more often than this is not chance.
const REOPEN_MAX: usize = 8;

/// What `fan_out` has to know of an event besides its bytes.
#[derive(Debug, Clone)]
struct Outgoing {
    seq: Option<u64>,
    last_hop: LastHop,
    /// Roughly, for the counters when nobody is subscribed and nothing is encoded.
    size: usize,
}

/// What connections with a backlog get.
#[derive(Debug, Clone)]
enum LastHop {
    /// Everything for which there is room, or nothing if it is volatile.
    Queue { volatile: bool },
    /// The newest with this key, or only this.
    Newest(Option<Arc<str>>),
}

/// Gives a frame to every worker with subscribers. The last one takes the frame itself: one that
/// is not shared costs no counter.
fn give_each(audience: &[Seat], frame: Bytes, give: impl Fn(u16, Bytes)) {
    let mut last = None;
    for (worker, seat) in (0_u16..).zip(audience) {
        if seat.subscribers > 0
            && let Some(before) = last.replace(worker)
        {
            give(before, frame.clone());
        }
    }
    if let Some(worker) = last {
        give(worker, frame);
    }
}

impl LastHop {
    fn delivery(&self, topic: TopicId, ordinal: u64, frame: Bytes) -> Delivery {
        match self {
            Self::Queue { volatile } => Delivery::Event {
                topic,
                ordinal,
                frame,
                volatile: *volatile,
            },
            Self::Newest(key) => Delivery::Keyed {
                topic,
                ordinal,
                frame,
                key: key.clone(),
            },
        }
    }
}

/// An upper bound of an envelope's size: 64 covers the number and the punctuation.
fn envelope_size(topic: &Topic, event: &str, data: RawJsonRef<'_>) -> usize {
    topic.prefix().as_bytes().len() + event.len() + data.as_bytes().len() + 64
}

fn check_size(bytes: usize) -> Result<(), PublishError> {
    let limit = wire::FRAME_CODE_UNITS_MAX;
    if bytes > limit {
        Err(PublishError::TooLarge { bytes, limit })
    } else {
        Ok(())
    }
}

fn encode_member(
    topic: &Topic,
    member: &BatchMember<'_>,
    seq: Option<u64>,
    ordinal: u64,
) -> Member {
    let mut frame = Vec::new();
    wire::encode_envelope(&mut frame, topic.prefix(), member.event, member.data, seq);
    let header = header_len(frame.len());
    debug_assert_eq!(frame.get(header), Some(&b'{'), "an envelope follows");
    Member {
        topic: topic.id(),
        ordinal,
        header: u8::try_from(header).unwrap_or_default(),
        frame: frame.into(),
    }
}

/// Bytes of a server frame's header, from the length of the whole frame.
pub(crate) const fn header_len(frame: usize) -> usize {
    match frame {
        0..=127 => 2,
        128..=65_539 => 4,
        _ => 10,
    }
}

/// Which members are not replaced by a later one with the same key.
fn surviving(members: &[BatchMember<'_>]) -> Vec<bool> {
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (at, member) in members.iter().enumerate() {
        if let Some(key) = member.coalesce_key {
            last.insert(key, at);
        }
    }
    members
        .iter()
        .enumerate()
        .map(|(at, member)| {
            member
                .coalesce_key
                .is_none_or(|key| last.get(key).is_none_or(|newest| *newest == at))
        })
        .collect()
}
