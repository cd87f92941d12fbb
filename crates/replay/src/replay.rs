//! Many topics under common budgets.

use std::collections::VecDeque;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use millstream_core::{Key, Slab};

use crate::limits::{ENTRY_COST, Limits, Numbers, RingLimits, TOPIC_COST};
use crate::numbers::{Remembered, hash};
use crate::{Answer, Cursor, Outcome, Position, PushError, Pushed, Read, Ring, Stats};

/// A topic that has a ring; dead as soon as the topic is evicted or cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicKey(Key);

/// Numbers and last frames of many topics.
///
/// # Calling contract
/// [`push`](Self::push) numbers a frame and keeps it; hand it to subscribers under the same lock.
/// [`since`](Self::since) says whether everything after a position is there and gives a
/// [`Cursor`]; [`read`](Self::read) it while the socket takes what it gives. There is no time, no
/// deadline, and nothing to do when a connection goes: dropping a cursor is enough.
///
/// # Cost
/// A push hashes the name once (or not at all with a [`TopicKey`]) and drops at most one frame for
/// each [`ENTRY_COST`] bytes it adds, plus a constant number. `since` and `read` O(1). Topics that
/// are evicted give their frames back a few with each push. A topic takes 168 bytes, its name and
/// its slots; a frame 32 to 128 (64 charged) and whatever its [`Bytes`] keep alive.
///
/// # Example
/// ```
/// use bytes::Bytes;
/// use millstream_replay::{Limits, Outcome, Read, Replay};
///
/// let mut replay = Replay::new(Limits::default(), 1);
/// for text in ["one", "two", "three"] {
///     replay.push("news", Bytes::from(text))?;
/// }
/// let answer = replay.since("news", 1);
/// assert_eq!((answer.outcome, answer.head), (Outcome::Complete, 3));
/// let mut cursor = answer.cursor.expect("the topic is known");
/// let mut sent = Vec::new();
/// while let Read::Frame { number, frame } = replay.read(&mut cursor) {
///     sent.push((number, frame.clone())); // stop here when the socket is full, and come back
/// }
/// assert_eq!(sent, [(2, Bytes::from("two")), (3, Bytes::from("three"))]);
/// # Ok::<(), millstream_replay::PushError>(())
/// ```
#[derive(Debug)]
pub struct Replay {
    limits: Limits,
    epoch: u64,
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
    topics: Slab<Topic>,
    /// Least recently used topic.
    oldest: u32,
    newest: u32,
    remembered: Remembered,
    /// Frames of topics that were evicted, given back step by step. Never holds an empty one.
    retired: VecDeque<VecDeque<Bytes>>,
    /// Everything charged, retired frames included.
    bytes: usize,
    entries: usize,
    stats: Stats,
}

#[derive(Debug)]
struct Topic {
    name: Box<str>,
    hash: u64,
    newer: u32,
    older: u32,
    ring: Ring,
}

const NIL: u32 = u32::MAX;
/// Retired frames given back with each push.
const RETIRED_STEP: usize = 8;
/// Evictions of one push besides those its own bytes pay for.
const EVICTIONS_SPARE: usize = 64;

impl Replay {
    /// Without topics. `epoch` names this run of numbers in [`Position`]s: take the start time, or
    /// anything else that differs from run to run.
    #[must_use]
    pub fn new(limits: Limits, epoch: u64) -> Self {
        let topics_max = limits.topics_max.max(1);
        Self {
            epoch,
            hasher: DefaultHashBuilder::default(),
            table: HashTable::new(),
            topics: Slab::with_limit(topics_max),
            oldest: NIL,
            newest: NIL,
            remembered: Remembered::new(limits.remembered_max, limits.first_number),
            retired: VecDeque::new(),
            bytes: 0,
            entries: 0,
            stats: Stats::default(),
            limits,
        }
    }

    /// Gives `frame` the topic's next number and keeps it. Makes the topic if need be.
    ///
    /// # Errors
    /// [`PushError::NameTooLong`], [`PushError::NumbersExhausted`].
    pub fn push(&mut self, topic: &str, frame: Bytes) -> Result<Pushed, PushError> {
        let key = self.open(topic)?;
        self.push_to(key, frame)
    }

    /// [`push`](Self::push) with a key kept from [`open`](Self::open).
    ///
    /// # Errors
    /// [`PushError::Evicted`], [`PushError::NumbersExhausted`].
    pub fn push_to(&mut self, key: TopicKey, frame: Bytes) -> Result<Pushed, PushError> {
        self.keep(key, frame, Ring::push)
    }

    /// Keeps a frame under a number that was given outside, where the host numbers topics itself.
    /// If numbers were left out, what was kept before them is dropped.
    ///
    /// # Errors
    /// [`PushError::Evicted`], [`PushError::NumberNotAbove`], [`PushError::NumbersExhausted`].
    pub fn push_to_at(
        &mut self,
        key: TopicKey,
        number: u64,
        frame: Bytes,
    ) -> Result<Pushed, PushError> {
        let topic = self.topics.get_mut(key.0).ok_or(PushError::Evicted)?;
        topic.ring.check(number)?;
        if number != topic.ring.head() + 1 {
            self.stats.holes += 1;
            let frames = topic.ring.take();
            self.retire(frames);
        }
        self.keep(key, frame, |ring, frame| ring.push_at(number, frame))
    }

    /// The key of a topic, made with [`Limits::ring`] if need be, and makes it recently used.
    ///
    /// # Errors
    /// [`PushError::NameTooLong`].
    pub fn open(&mut self, topic: &str) -> Result<TopicKey, PushError> {
        self.open_with(topic, self.limits.ring)
    }

    /// [`open`](Self::open) with other limits, which count when the topic is made by this call.
    ///
    /// # Errors
    /// [`PushError::NameTooLong`].
    pub fn open_with(&mut self, topic: &str, ring: RingLimits) -> Result<TopicKey, PushError> {
        let hash = hash(&self.hasher, topic);
        if let Some(key) = self.find(hash, topic) {
            self.used(key.index);
            return Ok(TopicKey(key));
        }
        self.make(hash, topic, ring)
    }

    /// The topic's last number; that of an evicted topic is remembered. Never makes a topic.
    pub fn head(&mut self, topic: &str) -> u64 {
        let hash = hash(&self.hasher, topic);
        match self.look_up(hash, topic) {
            Some(key) => self.topics.get(key).map_or(0, |topic| topic.ring.head()),
            None => self.remembered.number(hash),
        }
    }

    /// The topic's last number as a token for a page.
    pub fn position(&mut self, topic: &str) -> Position {
        Position {
            epoch: self.epoch,
            number: self.head(topic),
        }
    }

    /// What is there after `number`, and how to read it. Never makes a topic.
    ///
    /// For a topic without a ring the remembered number decides: who has it is up to date, who is
    /// below it missed something that is gone.
    pub fn since(&mut self, topic: &str, number: u64) -> Answer {
        let hash = hash(&self.hasher, topic);
        let key = self.look_up(hash, topic);
        let answer = match key.and_then(|key| Some((key, self.topics.get(key)?))) {
            Some((key, Topic { ring, .. })) => Answer {
                outcome: ring.since(number),
                head: ring.head(),
                cursor: Some(Cursor {
                    topic: TopicKey(key),
                    next: number.saturating_add(1),
                    last: u64::MAX,
                }),
            },
            None => {
                let head = self.remembered.number(hash);
                Answer {
                    outcome: Ring::new(self.limits.ring, head).since(number),
                    head,
                    cursor: None,
                }
            }
        };
        self.settle(answer)
    }

    /// [`since`](Self::since) for a token; one of another epoch has no cursor.
    pub fn since_position(&mut self, topic: &str, position: Position) -> Answer {
        if position.epoch == self.epoch {
            return self.since(topic, position.number);
        }
        self.stats.other_epochs += 1;
        Answer {
            outcome: Outcome::OtherEpoch {
                current: self.epoch,
            },
            head: self.head(topic),
            cursor: None,
        }
    }

    /// The next step of an answer. Does not count as a use of the topic.
    pub fn read(&mut self, cursor: &mut Cursor) -> Read<'_> {
        let Some(Topic { ring, .. }) = self.topics.get(cursor.topic.0) else {
            return Read::Gone;
        };
        let head = ring.head();
        if cursor.next > cursor.last.min(head) {
            return Read::End { head };
        }
        let read = ring.read(&mut cursor.next);
        if matches!(read, Read::Gap { .. }) {
            self.stats.overtaken += 1;
        }
        read
    }

    /// Reads on for as long as `take` says that it can take more after a frame, at a fraction of
    /// [`read`](Self::read)'s cost for each. Says why it ended; `None` when `take` had enough.
    pub fn read_while(
        &mut self,
        cursor: &mut Cursor,
        mut take: impl FnMut(u64, &Bytes) -> bool,
    ) -> Option<Read<'_>> {
        if let Some(Topic { ring, .. }) = self.topics.get(cursor.topic.0)
            && cursor.next >= ring.oldest()
            && cursor.next > 0
        {
            let left = (cursor.last.saturating_add(1)).saturating_sub(cursor.next);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            for (number, frame) in ring.after(cursor.next - 1).take(left) {
                cursor.next = number + 1;
                if !take(number, frame) {
                    return None;
                }
            }
        }
        // At the end, overtaken or gone: one step says which.
        Some(self.read(cursor))
    }

    /// Drops a topic's ring. With [`Numbers::Keep`] it goes on counting when it comes back.
    /// Whether it had a ring.
    pub fn clear_topic(&mut self, topic: &str) -> bool {
        let hash = hash(&self.hasher, topic);
        let found = self.find(hash, topic);
        if let Some(key) = found {
            self.remove(key.index);
        }
        found.is_some()
    }

    /// Drops all rings, as [`clear_topic`](Self::clear_topic) does with one. O(topics + frames).
    pub fn clear(&mut self) {
        while self.oldest != NIL {
            self.remove(self.oldest);
        }
        self.retired.clear();
        (self.bytes, self.entries) = (0, 0);
    }

    /// Drops everything, numbers included, and starts a new epoch. O(topics + frames).
    pub fn reset(&mut self, epoch: u64) {
        self.clear();
        self.remembered.reset(self.limits.first_number);
        self.epoch = epoch;
    }

    /// The epoch of positions handed out now.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A topic's ring, to look at.
    #[must_use]
    pub fn ring(&self, topic: &str) -> Option<&Ring> {
        let key = self.find(hash(&self.hasher, topic), topic)?;
        self.topics.get(key).map(|topic| &topic.ring)
    }

    /// Topics with a ring.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Frames held, those of evicted topics included that are still being given back.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries
    }

    /// Bytes charged.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Evicted topics whose numbers are remembered one by one.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.remembered.len()
    }

    /// The limits given at construction.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What was counted.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    fn keep(
        &mut self,
        key: TopicKey,
        frame: Bytes,
        push: impl FnOnce(&mut Ring, Bytes) -> Result<Pushed, PushError>,
    ) -> Result<Pushed, PushError> {
        let topic = self.topics.get_mut(key.0).ok_or(PushError::Evicted)?;
        let ring = &mut topic.ring;
        let cost = frame.len() + ENTRY_COST;
        let (bytes, entries) = (ring.bytes(), ring.len());
        let pushed = push(ring, frame)?;
        self.bytes = self.bytes - bytes + ring.bytes();
        self.entries = self.entries - entries + ring.len();
        self.stats.pushed += 1;
        self.stats.oversized += u64::from(!pushed.kept);
        self.stats.evicted_by_entries += u64::from(pushed.evicted_by_entries);
        self.stats.evicted_by_bytes += u64::from(pushed.evicted_by_bytes);
        self.used(key.0.index);
        if !self.retired.is_empty() {
            for _ in 0..RETIRED_STEP {
                self.give_back();
            }
        }
        if self.is_over() {
            self.make_room(key.0.index, cost);
        }
        Ok(pushed)
    }

    /// Makes a topic that is not there, the least recently used one going if there is no room.
    #[cold]
    fn make(&mut self, hash: u64, name: &str, ring: RingLimits) -> Result<TopicKey, PushError> {
        if name.len() > self.limits.name_bytes_max {
            return Err(PushError::NameTooLong {
                bytes: name.len(),
                limit: self.limits.name_bytes_max,
            });
        }
        if self.topics.is_full() {
            self.evict(self.oldest);
        }
        let topic = Topic {
            name: name.into(),
            hash,
            newer: NIL,
            older: NIL,
            ring: Ring::new(ring, self.remembered.take(hash)),
        };
        let Ok(key) = self.topics.insert(topic) else {
            unreachable!("one was evicted, and at least one fits");
        };
        let topics = &self.topics;
        let rehash = |index: &u32| topics.get_at(*index).map_or(0, |(_, topic)| topic.hash);
        self.table.insert_unique(hash, key.index, rehash);
        self.link(key.index);
        let cost = TOPIC_COST + name.len();
        self.bytes += cost;
        if self.is_over() {
            self.make_room(key.index, cost);
        }
        Ok(TopicKey(key))
    }

    #[inline]
    fn find(&self, hash: u64, name: &str) -> Option<Key> {
        let topics = &self.topics;
        let is_topic = |index: &u32| {
            let topic = topics.get_at(*index);
            topic.is_some_and(|(_, topic)| &*topic.name == name)
        };
        let index = *self.table.find(hash, is_topic)?;
        topics.get_at(index).map(|(key, _)| key)
    }

    /// Finds a topic for a reader.
    fn look_up(&mut self, hash: u64, name: &str) -> Option<Key> {
        let key = self.find(hash, name)?;
        if self.limits.reads_count_as_use {
            self.used(key.index);
        }
        Some(key)
    }

    fn settle(&mut self, answer: Answer) -> Answer {
        match answer.outcome {
            Outcome::Complete => self.stats.complete += 1,
            Outcome::Gap { .. } => self.stats.gaps += 1,
            Outcome::Ahead { .. } => self.stats.ahead += 1,
            Outcome::OtherEpoch { .. } => self.stats.other_epochs += 1,
        }
        answer
    }

    fn is_over(&self) -> bool {
        self.bytes > self.limits.bytes_max || self.entries > self.limits.entries_max
    }

    /// Evicts until everything fits, after `cost` bytes were added for the topic `own`. The least
    /// recently used go first; `own` pays itself when it is the last or the work gets too much.
    #[cold]
    fn make_room(&mut self, own: u32, cost: usize) {
        let mut steps = EVICTIONS_SPARE + cost / ENTRY_COST;
        while self.is_over() {
            let spent = steps == 0 || (self.retired.is_empty() && self.oldest == own);
            if spent {
                if self.pop_oldest(own).is_none() {
                    return;
                }
                continue;
            }
            steps -= 1;
            if self.give_back() {
                continue;
            }
            let victim = self.oldest;
            // A topic that lost its last frame goes as well: nothing is left to be used.
            if self.pop_oldest(victim) != Some(true) {
                self.evict(victim);
            }
        }
    }

    /// Drops a topic's oldest frame because of the common limits. Whether there are more; `None`
    /// if there was none.
    fn pop_oldest(&mut self, index: u32) -> Option<bool> {
        let (_, Topic { ring, .. }) = self.topics.get_at_mut(index)?;
        let frame = ring.pop_oldest()?;
        let more = !ring.is_empty();
        self.bytes -= frame.len() + ENTRY_COST;
        self.entries -= 1;
        self.stats.evicted_by_total += 1;
        Some(more)
    }

    fn evict(&mut self, index: u32) {
        self.remove(index);
        self.stats.evicted_topics += 1;
    }

    fn remove(&mut self, index: u32) {
        let Some((key, _)) = self.topics.get_at(index) else {
            return;
        };
        self.unlink(index);
        let Some(mut topic) = self.topics.remove(key) else {
            return;
        };
        if let Ok(found) = self.table.find_entry(topic.hash, |other| *other == index) {
            found.remove();
        }
        self.bytes -= TOPIC_COST + topic.name.len();
        if self.limits.numbers == Numbers::Keep {
            let merged = self.remembered.keep(topic.hash, topic.ring.head());
            self.stats.numbers_merged += u64::from(merged);
        }
        let frames = topic.ring.take();
        self.retire(frames);
    }

    fn retire(&mut self, frames: VecDeque<Bytes>) {
        if !frames.is_empty() {
            self.retired.push_back(frames);
        }
    }

    /// Gives one retired frame back. Whether there was one.
    fn give_back(&mut self) -> bool {
        let Some(frames) = self.retired.front_mut() else {
            return false;
        };
        if let Some(frame) = frames.pop_front() {
            self.bytes -= frame.len() + ENTRY_COST;
            self.entries -= 1;
        }
        if frames.is_empty() {
            self.retired.pop_front();
        }
        true
    }

    #[inline]
    fn used(&mut self, index: u32) {
        if self.newest != index {
            self.unlink(index);
            self.link(index);
        }
    }

    fn link(&mut self, index: u32) {
        let older = core::mem::replace(&mut self.newest, index);
        match self.topics.get_at_mut(older) {
            Some((_, topic)) => topic.newer = index,
            None => self.oldest = index,
        }
        if let Some((_, topic)) = self.topics.get_at_mut(index) {
            (topic.older, topic.newer) = (older, NIL);
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some((_, topic)) = self.topics.get_at(index) else {
            return;
        };
        let (older, newer) = (topic.older, topic.newer);
        match self.topics.get_at_mut(older) {
            Some((_, topic)) => topic.newer = newer,
            None => self.oldest = newer,
        }
        match self.topics.get_at_mut(newer) {
            Some((_, topic)) => topic.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_topic_is_what_the_documentation_says() {
        assert_eq!(size_of::<Ring>(), 64);
        assert_eq!(size_of::<Topic>(), 96);
        assert_eq!(size_of::<Bytes>(), 32);
    }
}
