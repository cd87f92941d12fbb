//! A topic as one hub sees it.

use std::sync::Arc;

use millstream_core::TopicId;

use crate::hold::Held;
use crate::listeners::Listeners;
use crate::topics::Topic;

/// A topic that connections of this hub hold. There are many and each is found outside of the
/// caches: everything that an event needs is on one cache line. Output is elsewhere, and only for
/// topics that have some.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct LocalTopic {
    /// The topic's, or `FREE` while nobody holds it.
    id: TopicId,
    pub(crate) topic: Arc<Topic>,
    /// Connections without and with the `batch` capability.
    pub(crate) subs: [Listeners; 2],
    rare: Option<Box<Rare>>,
    /// Index of what it has for this turn, or `NO_OUTPUT`.
    pub(crate) output: u32,
}

/// What few topics have.
#[derive(Debug, Default)]
struct Rare {
    /// Connections from which events are held back.
    held: Vec<Held>,
    /// Of topics that keep events: the topic's number when each connection subscribed, in the
    /// order of `subs`.
    since: [Vec<u64>; 2],
}

/// Ids begin at 1.
const FREE: TopicId = TopicId::new(0);
pub(crate) const NO_OUTPUT: u32 = u32::MAX;

impl LocalTopic {
    pub(crate) fn new(topic: &Arc<Topic>) -> Self {
        Self {
            id: topic.id(),
            topic: Arc::clone(topic),
            subs: <[Listeners; 2]>::default(),
            rare: None,
            output: NO_OUTPUT,
        }
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.held().is_empty() && self.subs.iter().all(Listeners::is_empty)
    }

    /// Whether this is that topic, and somebody may hold it.
    #[inline]
    pub(crate) fn is(&self, topic: TopicId) -> bool {
        self.id == topic
    }

    /// Empties the place for the next topic.
    pub(crate) fn free(&mut self) {
        self.id = FREE;
        self.subs = <[Listeners; 2]>::default();
        self.rare = None;
    }

    /// Those from whom events are held back.
    #[inline]
    pub(crate) fn held(&self) -> &[Held] {
        self.rare.as_ref().map_or(&[], |rare| &rare.held)
    }

    #[inline]
    pub(crate) fn held_mut(&mut self) -> &mut [Held] {
        self.rare.as_mut().map_or(&mut [], |rare| &mut rare.held)
    }

    pub(crate) fn push_held(&mut self, held: Held) {
        self.rare.get_or_insert_default().held.push(held);
    }

    /// Takes the one at `at`; the last one takes its place.
    pub(crate) fn take_held(&mut self, at: usize) -> Held {
        let rare = self.rare.get_or_insert_default();
        let held = rare.held.swap_remove(at);
        self.tidy();
        held
    }

    /// Adds a connection; `since` is the topic's number when it subscribed. Gives its slot.
    pub(crate) fn add(&mut self, lane: u8, conn: u32, since: u64) -> u32 {
        let subs = &mut self.subs[usize::from(lane)];
        let slot = u32::try_from(subs.len()).unwrap_or(u32::MAX);
        subs.push(conn);
        if self.topic.policy().retain > 0 {
            let rare = self.rare.get_or_insert_default();
            rare.since[usize::from(lane)].push(since);
        }
        slot
    }

    /// Removes the connection at a slot. Gives the topic's number when it subscribed, if that is
    /// known, and who has its slot now.
    pub(crate) fn remove(&mut self, lane: u8, slot: u32) -> (u64, Option<u32>) {
        let (lane, slot) = (usize::from(lane), slot as usize);
        self.subs[lane].swap_remove(slot);
        let moved = self.subs[lane].as_slice().get(slot).copied();
        let since = match &mut self.rare {
            Some(rare) if !rare.since[lane].is_empty() => rare.since[lane].swap_remove(slot),
            _ => 0,
        };
        self.tidy();
        (since, moved)
    }

    /// The topic's number when the connection at a slot subscribed, if that is known.
    pub(crate) fn since(&self, lane: u8, slot: u32) -> Option<u64> {
        let rare = self.rare.as_ref()?;
        rare.since[usize::from(lane)].get(slot as usize).copied()
    }

    /// Gives back what it no longer needs.
    fn tidy(&mut self) {
        let empty = |rare: &Rare| rare.held.is_empty() && rare.since.iter().all(Vec::is_empty);
        if self.rare.as_deref().is_some_and(empty) {
            self.rare = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_one_cache_line() {
        assert_eq!(size_of::<LocalTopic>(), 64);
    }
}
