//! The topic table all workers share: names, numbers and who has subscribers.

use core::hash::BuildHasher;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use millstream_core::{Millis, TopicError, TopicId, TopicName, TopicRules};
use millstream_wire::TopicPrefix;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::retain::{Kept, KeptTurn, Missed, Retention};
use crate::stats::Tally;
use crate::{PolicyTable, Stats, TopicPolicy};

/// All topics of a process.
///
/// A topic comes into being with the first publish or subscribe that names it and keeps its
/// number until it is evicted: the oldest one without subscribers, when the table is full.
/// Numbers never go back. A new topic starts at `unix milliseconds x 1,024`, which is above
/// everything an earlier process gave out (unless it published more than 1,024 events per
/// millisecond on one topic for its whole life, or the clock was set back), and above
/// everything that was forgotten in this one.
///
/// # Cost
/// A lookup takes one read lock of one of 64 shards. A publish takes the topic's own mutex.
#[derive(Debug)]
pub struct Topics {
    shards: Box<[RwLock<Shard>]>,
    hasher: DefaultHashBuilder,
    shard_topics_max: usize,
    workers: u16,
    boot_unix_ms: u64,
    next_id: AtomicU64,
    /// Highest number of any topic that was forgotten.
    forgotten: AtomicU64,
    policies: PolicyTable,
    stats: Arc<Stats>,
    retention: Retention,
    /// Deliveries handed to each worker so far.
    handed: Box<[Counter]>,
    /// Topics published to since the last pressure sample.
    active: Mutex<Vec<Arc<Topic>>>,
}

/// One topic: its name in every form that is needed, its number, its audience.
///
/// With many topics each publish finds its own one outside of the caches. Therefore it is small,
/// what a publish needs is without pointers, and stands in the order in which it is needed.
#[derive(Debug)]
#[repr(C)]
pub struct Topic {
    state: Mutex<TopicState>,
    id: TopicId,
    policy: TopicPolicy,
    /// For envelopes, and for lookups: the name is in it.
    prefix: TopicPrefix,
    name: Box<TopicName>,
}

/// What changes with every publish or subscription, behind the topic's lock.
#[derive(Debug, Default)]
pub(crate) struct TopicState {
    /// The number given out last.
    pub(crate) head: u64,
    /// Events published so far, numbered or not: the order in which workers see them.
    ordinal: u64,
    /// One per worker.
    audience: SmallVec<[Seat; 4]>,
    window_bytes: u64,
    window_messages: u32,
    /// Forgotten by the table: whoever still holds it has to look the name up again.
    retired: bool,
    /// Where its kept events stand among those of all topics.
    pub(crate) turn: KeptTurn,
    /// The newest events, if the topic keeps any.
    pub(crate) kept: Kept,
}

/// What a topic knows of one worker.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seat {
    pub(crate) subscribers: u32,
    /// Where the topic was in that worker's hub last. Only a hint: the hub tells whether it still
    /// is there.
    pub(crate) index: u32,
}

/// Why a topic cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The table is full of topics that have subscribers. Raise `topics_max`.
    #[error("the topic table is full")]
    Full,
    /// The name breaks the topic rules.
    #[error("invalid topic: {0}")]
    Invalid(#[from] TopicError),
}

/// What a topic did in the last pressure window.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicRate {
    /// The topic's name.
    pub topic: TopicName,
    /// Publishes in the window.
    pub messages: u32,
    /// Bytes of frames in the window.
    pub bytes: u64,
}

/// A subscription as the topic saw it begin.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The number of the last event before it.
    pub(crate) head: u64,
    /// The ordinal of the last event before it.
    pub(crate) ordinal: u64,
    /// What was missed since the position that was given.
    pub(crate) missed: Missed,
}

/// A counter on a cache line of its own: each belongs to another worker.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counter(AtomicU64);

#[derive(Debug, Default)]
struct Shard {
    by_name: HashTable<Arc<Topic>>,
    /// In order of creation, as candidates for eviction.
    queue: VecDeque<Arc<Topic>>,
}

const SHARDS: usize = 64;
/// Subscribed topics that are passed over before an eviction gives up.
const EVICTION_PROBES: usize = 32;

impl Shard {
    fn find(&self, hash: u64, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.find(hash, |topic| topic.prefix.is_of(name))
    }
}

impl Topics {
    /// A table for `workers` hubs of a process that started at `boot_unix_ms`.
    #[must_use]
    pub fn new(
        workers: u16,
        boot_unix_ms: u64,
        topics_max: u32,
        policies: PolicyTable,
        stats: Arc<Stats>,
    ) -> Self {
        let shards = if topics_max < 4096 { 1 } else { SHARDS };
        Self {
            shards: (0..shards).map(|_| RwLock::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            shard_topics_max: (topics_max as usize).div_ceil(shards).max(1),
            workers,
            boot_unix_ms,
            next_id: AtomicU64::new(1),
            forgotten: AtomicU64::new(0),
            policies,
            stats,
            retention: Retention::default(),
            handed: (0..workers).map(|_| Counter::default()).collect(),
            active: Mutex::default(),
        }
    }

    /// The topic of that name if it is known.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Topic>> {
        let hash = self.hash(name);
        self.shard(hash).read().find(hash, name).cloned()
    }

    /// The topic of that name, made if need be. `now` is the time since the process started.
    ///
    /// # Errors
    /// [`OpenError::Invalid`] for a name that breaks the server-side rules,
    /// [`OpenError::Full`] when no room can be made.
    pub fn open(&self, name: &str, now: Millis) -> Result<Arc<Topic>, OpenError> {
        if let Some(topic) = self.find(name) {
            return Ok(topic);
        }
        let name = TopicName::parse(name, &TopicRules::SERVER)?;
        let hash = self.hash(&name);
        let mut shard = self.shard(hash).write();
        if let Some(topic) = shard.find(hash, &name) {
            return Ok(Arc::clone(topic));
        }
        if shard.by_name.len() >= self.shard_topics_max && !self.evict(&mut shard) {
            Stats::bump(&self.stats.topics_refused);
            return Err(OpenError::Full);
        }
        let head = self.base(now).max(self.forgotten.load(Ordering::Acquire));
        let topic = Arc::new(Topic {
            id: TopicId::new(self.next_id.fetch_add(1, Ordering::Relaxed)),
            prefix: TopicPrefix::new(&name),
            policy: self.policies.policy(&name),
            state: Mutex::new(TopicState {
                head,
                audience: SmallVec::from_elem(Seat::default(), usize::from(self.workers)),
                ..TopicState::default()
            }),
            name: Box::new(name),
        });
        let rehash = |topic: &Arc<Topic>| self.hash(&topic.name);
        shard
            .by_name
            .insert_unique(hash, Arc::clone(&topic), rehash);
        shard.queue.push_back(Arc::clone(&topic));
        Ok(topic)
    }

    /// Number of known topics. Takes every shard's read lock.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.read().by_name.len())
            .sum()
    }

    /// Whether no topic is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Subscriptions to a topic on all workers.
    #[must_use]
    pub fn subscribers(&self, name: &str) -> u64 {
        self.find(name).map_or(0, |topic| topic.subscribers())
    }

    /// The number the topic gave out last, if it is known.
    #[must_use]
    pub fn head(&self, name: &str) -> Option<u64> {
        self.find(name).map(|topic| topic.state.lock().head)
    }

    /// The workers that share this table.
    #[must_use]
    pub fn workers(&self) -> u16 {
        self.workers
    }

    /// The counters this table adds to.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Takes what each topic published since the last call, in no order. O(topics published to).
    #[must_use]
    pub fn take_rates(&self) -> Vec<TopicRate> {
        let active = core::mem::take(&mut *self.active.lock());
        active
            .iter()
            .map(|topic| {
                let mut state = topic.state.lock();
                TopicRate {
                    topic: topic.name().clone(),
                    messages: core::mem::take(&mut state.window_messages),
                    bytes: core::mem::take(&mut state.window_bytes),
                }
            })
            .collect()
    }

    /// Notes a publish of `bytes` for the counters; the first of a window enlists the topic.
    /// A hub that publishes counts for itself, and tells with its next flush.
    pub(crate) fn count(
        &self,
        topic: &Arc<Topic>,
        state: &mut TopicState,
        bytes: usize,
        hub: Option<&mut Tally>,
    ) {
        if state.window_messages == 0 {
            self.active.lock().push(Arc::clone(topic));
        }
        let bytes = bytes as u64;
        state.window_messages = state.window_messages.saturating_add(1);
        state.window_bytes = state.window_bytes.saturating_add(bytes);
        if let Some(tally) = hub {
            tally.published += 1;
            tally.published_bytes += bytes;
        } else {
            let stats = &self.stats;
            stats.published.fetch_add(1, Ordering::Relaxed);
            stats.published_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        // The table inside a shard uses the low and the top bits; take others.
        let index = usize::try_from((hash >> 24) & 0xFFFF).unwrap_or(0) % self.shards.len();
        &self.shards[index]
    }

    /// Where numbers of a topic that is new at `now` begin.
    fn base(&self, now: Millis) -> u64 {
        self.boot_unix_ms
            .saturating_add(now.as_millis())
            .saturating_mul(1024)
    }

    /// Forgets the oldest topic without subscribers; one that keeps events only if there is no
    /// other among those that are looked at.
    fn evict(&self, shard: &mut Shard) -> bool {
        for with_events in [false, true] {
            for _ in 0..EVICTION_PROBES.min(shard.queue.len()) {
                let Some(topic) = shard.queue.pop_front() else {
                    return false;
                };
                let mut state = topic.state.lock();
                let spared = !with_events && !state.kept.is_empty();
                if spared || state.audience.iter().any(|seat| seat.subscribers > 0) {
                    drop(state);
                    shard.queue.push_back(topic);
                    continue;
                }
                state.retired = true;
                self.forgotten.fetch_max(state.head, Ordering::AcqRel);
                self.drop_kept(&mut state);
                drop(state);
                let hash = self.hash(&topic.name);
                let same = |other: &Arc<Topic>| Arc::ptr_eq(other, &topic);
                if let Ok(entry) = shard.by_name.find_entry(hash, same) {
                    entry.remove();
                }
                Stats::bump(&self.stats.topics_evicted);
                return true;
            }
        }
        false
    }

    /// What a topic of that name would be told by its policy.
    pub(crate) fn policy(&self, name: &str) -> TopicPolicy {
        self.policies.policy(name)
    }

    pub(crate) fn retention(&self) -> &Retention {
        &self.retention
    }

    pub(crate) fn retention_mut(&mut self) -> &mut Retention {
        &mut self.retention
    }

    /// Counts a delivery that is about to be handed to a worker.
    pub(crate) fn count_handed(&self, worker: u16) {
        if let Some(handed) = self.handed.get(usize::from(worker)) {
            handed.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Deliveries handed to a worker so far; at least those of topics whose lock was taken since.
    pub(crate) fn handed(&self, worker: u16) -> u64 {
        self.handed
            .get(usize::from(worker))
            .map_or(0, |handed| handed.0.load(Ordering::Relaxed))
    }
}

impl Topic {
    /// The id that stands for this topic in hand-overs between workers. Never reused.
    #[must_use]
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// The name as the beginning of an envelope.
    #[must_use]
    pub fn prefix(&self) -> &TopicPrefix {
        &self.prefix
    }

    /// What slow readers of this topic lose.
    #[must_use]
    pub fn policy(&self) -> TopicPolicy {
        self.policy
    }

    /// Subscriptions on all workers.
    #[must_use]
    pub fn subscribers(&self) -> u64 {
        self.state
            .lock()
            .audience
            .iter()
            .map(|seat| u64::from(seat.subscribers))
            .sum()
    }

    /// Runs `work` with the state locked; `None` when the table has forgotten the topic.
    pub(crate) fn locked<R>(&self, work: impl FnOnce(&mut TopicState) -> R) -> Option<R> {
        let mut state = self.state.lock();
        if state.retired {
            None
        } else {
            Some(work(&mut state))
        }
    }

    /// Locks several topics at once; the caller has to pass them in order of id.
    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, TopicState> {
        self.state.lock()
    }

    /// One more subscriber on `worker`, who has seen the topic up to `position`, if at all.
    pub(crate) fn join(&self, worker: u16, position: Option<f64>) -> Option<Joined> {
        self.locked(|state| {
            if let Some(seat) = state.audience.get_mut(usize::from(worker)) {
                seat.subscribers += 1;
            }
            Joined {
                head: state.head,
                ordinal: state.ordinal,
                missed: position.map_or(Missed::Nothing, |position| state.missed(position)),
            }
        })
    }

    /// One subscriber less on `worker`.
    pub(crate) fn leave(&self, worker: u16) {
        let mut state = self.state.lock();
        if let Some(seat) = state.audience.get_mut(usize::from(worker)) {
            debug_assert!(seat.subscribers > 0, "more leave than join");
            seat.subscribers = seat.subscribers.saturating_sub(1);
        }
    }

    /// Notes where `worker` has put the topic.
    pub(crate) fn seat(&self, worker: u16, index: u32) {
        let mut state = self.state.lock();
        if let Some(seat) = state.audience.get_mut(usize::from(worker)) {
            seat.index = index;
        }
    }
}

impl TopicState {
    /// The next number.
    pub(crate) fn advance(&mut self) -> u64 {
        let before = self.head;
        self.head = before + 1;
        assert!(self.head > before); // clients keep the maximum: it must never go back
        self.head
    }

    /// Counts an event, numbered or not.
    pub(crate) fn count_event(&mut self) -> u64 {
        self.ordinal += 1;
        self.ordinal
    }

    /// Events counted so far.
    pub(crate) fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// What is known of each worker.
    pub(crate) fn audience(&self) -> &[Seat] {
        &self.audience
    }

    /// Whether the table has forgotten this topic.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_and_its_counters_are_three_cache_lines() {
        assert_eq!(size_of::<Topic>() + 2 * size_of::<usize>(), 192);
    }
}
