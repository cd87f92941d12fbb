//! Sends of which only the newest per key has to arrive, for a reader that is behind.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use millstream_core::TopicId;

/// Newest value per key of one connection, in the order in which the keys first came.
#[derive(Debug, Default)]
pub(crate) struct Coalesced {
    /// Position of a key, counted from the first entry ever.
    by_key: HashMap<Slot, u64>,
    entries: VecDeque<Entry>,
    /// Position of the first entry in the queue.
    first: u64,
    bytes: usize,
}

/// What a newer value takes the place of: the same key of the same topic, if it was published,
/// or the same key given to a send.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) topic: Option<TopicId>,
    pub(crate) key: Arc<str>,
}

/// A complete frame that waits.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) slot: Slot,
    pub(crate) frame: Bytes,
}

impl Entry {
    fn size(&self) -> usize {
        self.slot.key.len() + self.frame.len() + 128
    }
}

impl Coalesced {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Stores a value: in its key's old place, or at the end. Gives how many values were lost,
    /// replaced ones and evicted ones.
    pub(crate) fn put(&mut self, entry: Entry, keys_max: usize, bytes_max: usize) -> u64 {
        self.bytes += entry.size();
        let mut lost = 0;
        let at = self
            .by_key
            .get(&entry.slot)
            .and_then(|at| usize::try_from(at - self.first).ok());
        match at.and_then(|at| self.entries.get_mut(at)) {
            Some(old) => {
                self.bytes -= old.size();
                *old = entry;
                lost += 1;
            }
            None => {
                let at = self.first + self.entries.len() as u64;
                self.by_key.insert(entry.slot.clone(), at);
                self.entries.push_back(entry);
            }
        }
        while self.entries.len() > keys_max.max(1)
            || (self.bytes > bytes_max && self.entries.len() > 1)
        {
            if self.pop().is_none() {
                break;
            }
            lost += 1;
        }
        lost
    }

    /// Drops what was published on a topic; gives how many values were lost. O(entries).
    pub(crate) fn forget(&mut self, topic: TopicId) -> u64 {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.slot.topic != Some(topic));
        let lost = before - self.entries.len();
        if lost > 0 {
            self.bytes = self.entries.iter().map(Entry::size).sum();
            let slots = self.entries.iter().map(|entry| entry.slot.clone());
            self.by_key = slots.zip(self.first..).collect();
        }
        lost as u64
    }

    /// Takes the oldest entry.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.first += 1;
        self.by_key.remove(&entry.slot);
        self.bytes -= entry.size();
        if self.entries.is_empty() {
            *self = Self {
                first: self.first,
                ..Self::default()
            };
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, frame: &'static str) -> Entry {
        of(None, key, frame)
    }

    fn of(topic: Option<u64>, key: &str, frame: &'static str) -> Entry {
        let topic = topic.map(TopicId::new);
        let slot = Slot {
            topic,
            key: key.into(),
        };
        let frame = Bytes::from_static(frame.as_bytes());
        Entry { slot, frame }
    }

    #[test]
    fn a_key_keeps_its_place_and_its_newest_value() {
        let mut waiting = Coalesced::default();
        assert_eq!(waiting.put(entry("a", "1"), 9, 9_999), 0);
        assert_eq!(waiting.put(entry("b", "2"), 9, 9_999), 0);
        assert_eq!(waiting.put(entry("a", "3"), 9, 9_999), 1);
        assert_eq!(waiting.pop().unwrap().frame, "3");
        assert_eq!(waiting.put(entry("a", "4"), 9, 9_999), 0);
        assert_eq!(waiting.pop().unwrap().frame, "2");
        assert_eq!(waiting.pop().unwrap().frame, "4");
        assert!(waiting.pop().is_none());
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn a_new_key_evicts_the_oldest_at_either_limit() {
        let mut waiting = Coalesced::default();
        for key in ["a", "b", "c"] {
            waiting.put(entry(key, "1"), 2, 9_999);
        }
        assert_eq!(&*waiting.pop().unwrap().slot.key, "b");
        let mut waiting = Coalesced::default();
        for key in ["a", "b", "c"] {
            waiting.put(entry(key, "1"), 9, 300);
        }
        assert_eq!(waiting.entries.len(), 2);
    }

    #[test]
    fn what_a_topic_left_is_forgotten_alone() {
        let mut waiting = Coalesced::default();
        for (topic, key) in [(Some(1), "a"), (None, "a"), (Some(2), "a"), (Some(1), "b")] {
            assert_eq!(waiting.put(of(topic, key, "1"), 9, 9_999), 0);
        }
        assert_eq!(waiting.forget(TopicId::new(1)), 2);
        assert_eq!(waiting.forget(TopicId::new(1)), 0);
        assert_eq!(waiting.put(of(Some(2), "a", "2"), 9, 9_999), 1);
        assert_eq!(waiting.put(of(Some(1), "a", "3"), 9, 9_999), 0);
        let left: Vec<Bytes> = std::iter::from_fn(|| waiting.pop().map(|one| one.frame)).collect();
        assert_eq!(left, ["1", "2", "3"]);
        assert_eq!(waiting.bytes, 0);
    }
}
