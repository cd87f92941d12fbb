//! Sends of which only the newest per key has to arrive, for a reader that is behind.

use std::collections::VecDeque;

use hashbrown::HashMap;
use millstream_core::RawJson;

/// Newest value per key of one connection, in the order in which the keys first came.
#[derive(Debug, Default)]
pub(crate) struct Coalesced {
    /// Position of a key, counted from the first entry ever.
    by_key: HashMap<Box<str>, u64>,
    entries: VecDeque<Entry>,
    /// Position of the first entry in the queue.
    first: u64,
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Entry {
    key: Box<str>,
    pub(crate) topic: Box<str>,
    pub(crate) event: Box<str>,
    pub(crate) data: RawJson,
}

impl Entry {
    pub(crate) fn new(key: &str, topic: &str, event: &str, data: RawJson) -> Self {
        Self {
            key: key.into(),
            topic: topic.into(),
            event: event.into(),
            data,
        }
    }

    fn size(&self) -> usize {
        self.key.len() * 2 + self.topic.len() + self.event.len() + self.data.as_bytes().len() + 128
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
            .get(&entry.key)
            .and_then(|at| usize::try_from(at - self.first).ok());
        match at.and_then(|at| self.entries.get_mut(at)) {
            Some(old) => {
                self.bytes -= old.size();
                *old = entry;
                lost += 1;
            }
            None => {
                let at = self.first + self.entries.len() as u64;
                self.by_key.insert(entry.key.clone(), at);
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

    /// Takes the oldest entry.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.first += 1;
        self.by_key.remove(&entry.key);
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

    fn entry(key: &str, data: &'static str) -> Entry {
        let data = RawJson::parse(bytes::Bytes::from_static(data.as_bytes())).unwrap();
        Entry::new(key, "t", "e", data)
    }

    #[test]
    fn a_key_keeps_its_place_and_its_newest_value() {
        let mut waiting = Coalesced::default();
        assert_eq!(waiting.put(entry("a", "1"), 9, 9_999), 0);
        assert_eq!(waiting.put(entry("b", "2"), 9, 9_999), 0);
        assert_eq!(waiting.put(entry("a", "3"), 9, 9_999), 1);
        assert_eq!(waiting.pop().unwrap().data.as_str(), "3");
        assert_eq!(waiting.put(entry("a", "4"), 9, 9_999), 0);
        assert_eq!(waiting.pop().unwrap().data.as_str(), "2");
        assert_eq!(waiting.pop().unwrap().data.as_str(), "4");
        assert!(waiting.pop().is_none());
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn a_new_key_evicts_the_oldest_at_either_limit() {
        let mut waiting = Coalesced::default();
        for key in ["a", "b", "c"] {
            waiting.put(entry(key, "1"), 2, 9_999);
        }
        assert_eq!(&*waiting.pop().unwrap().key, "b");
        let mut waiting = Coalesced::default();
        for key in ["a", "b", "c"] {
            waiting.put(entry(key, "1"), 9, 300);
        }
        assert_eq!(waiting.entries.len(), 2);
    }
}
