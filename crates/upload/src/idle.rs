//! Uploads that wait for their clients, the longest waiting first.

use millstream_core::{Key, Millis, Slab};

use crate::entry::Entry;

/// A list through the entries, ordered by when the waiting began: all may wait equally long, so
/// the first is always the next to fall due.
#[derive(Debug)]
pub(crate) struct Idle {
    first: Option<Key>,
    last: Option<Key>,
}

/// An entry's place in the list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    next: Option<Key>,
    previous: Option<Key>,
    since: Option<Millis>,
}

impl Place {
    pub(crate) const fn is_waiting(&self) -> bool {
        self.since.is_some()
    }
}

impl Idle {
    pub(crate) const fn new() -> Self {
        Self {
            first: None,
            last: None,
        }
    }

    /// The longest waiting, and since when.
    pub(crate) fn first(&self, entries: &Slab<Entry>) -> Option<(Key, Millis)> {
        let key = self.first?;
        Some((key, entries.get(key)?.idle.since?))
    }

    /// Begins waiting now. Should time run backwards, it counts from the last beginning.
    pub(crate) fn push(&mut self, entries: &mut Slab<Entry>, key: Key, now: Millis) {
        let mut since = now;
        if let Some(last) = self.last.and_then(|last| entries.get_mut(last)) {
            since = last.idle.since.map_or(now, |before| before.max(now));
            last.idle.next = Some(key);
        }
        if let Some(entry) = entries.get_mut(key) {
            entry.idle = Place {
                next: None,
                previous: self.last,
                since: Some(since),
            };
            self.first = self.first.or(Some(key));
            self.last = Some(key);
        }
    }

    /// Ends waiting; nothing happens if it does not wait.
    pub(crate) fn remove(&mut self, entries: &mut Slab<Entry>, key: Key) {
        let Some(entry) = entries.get_mut(key) else {
            return;
        };
        let place = core::mem::take(&mut entry.idle);
        if place.since.is_none() {
            return;
        }
        match place
            .previous
            .and_then(|previous| entries.get_mut(previous))
        {
            Some(previous) => previous.idle.next = place.next,
            None => self.first = place.next,
        }
        match place.next.and_then(|next| entries.get_mut(next)) {
            Some(next) => next.idle.previous = place.previous,
            None => self.last = place.previous,
        }
    }
}
