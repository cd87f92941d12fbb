//! A list whose items are found by key, in constant time at both ends and in between.
//!
//! Items lie in a ring; the index holds absolute positions, which do not move when something is
//! put in front. Where the index points, an item with that key lies: so it stores no keys.
//!
//! What the index may miss are *strays*: items that have a key, but lost it to another item of the
//! same key. Only loaded lists bring them along.

use std::collections::VecDeque;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use crate::{Item, Key, KeySpot};

#[derive(Clone, Debug)]
pub(crate) struct Slot<T> {
    pub(crate) item: T,
    pub(crate) spot: KeySpot,
}

impl<T: Item> Slot<T> {
    pub(crate) const fn keyless(item: T) -> Self {
        let spot = KeySpot::Missing;
        Self { item, spot }
    }

    pub(crate) fn key(&self) -> Key<'_> {
        self.item.key(self.spot)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct List<T> {
    slots: VecDeque<Slot<T>>,
    /// Absolute position of the first item; wraps around.
    base: u32,
    /// Absolute positions of the items that can be addressed.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The item that stands for "the key field is missing".
    keyless: Option<u32>,
    /// Items with a key to which the index does not lead.
    strays: usize,
    /// Whether building the index again could lead to another item than it does now.
    disordered: bool,
    bytes: usize,
}

impl<T: Item> List<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: VecDeque::new(),
            base: 0,
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            keyless: None,
            strays: 0,
            disordered: false,
            bytes: 0,
        }
    }

    /// Takes rows as they are. Without a reader nothing can be addressed.
    pub(crate) fn from_rows(rows: Vec<T>, reader: Option<&T::Reader>) -> Self {
        let mut list = Self::new();
        list.slots.reserve(rows.len());
        list.extend(rows, reader);
        list.rebuild();
        list
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn rows(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.slots.iter().map(|slot| &slot.item)
    }

    pub(crate) fn row(&self, at: usize) -> Option<&T> {
        self.slots.get(at).map(|slot| &slot.item)
    }

    /// Where the addressable item with this key lies.
    #[inline]
    pub(crate) fn find(&self, key: Key<'_>) -> Option<usize> {
        match key {
            Key::Missing => self.keyless.map(|position| self.place(position)),
            Key::Opaque => None,
            key => {
                let hash = key.hash(&self.hasher);
                let position = self
                    .index
                    .find(hash, |position| self.is_at(*position, &key))?;
                Some(self.place(*position))
            }
        }
    }

    pub(crate) fn replace(&mut self, at: usize, slot: Slot<T>) -> Option<T> {
        let place = self.slots.get_mut(at)?;
        self.bytes += slot.item.byte_len();
        let old = core::mem::replace(place, slot);
        self.bytes -= old.item.byte_len();
        Some(old.item)
    }

    /// Appends an item whose key cannot be found yet.
    pub(crate) fn push_back(&mut self, slot: Slot<T>) {
        let position = self.position(self.slots.len());
        self.bytes += slot.item.byte_len();
        self.slots.push_back(slot);
        self.point(position);
    }

    /// Appends an item that nobody will look for.
    pub(crate) fn push_unindexed(&mut self, item: T) {
        self.bytes += item.byte_len();
        self.slots.push_back(Slot::keyless(item));
    }

    /// Puts an item in front whose key cannot be found yet.
    pub(crate) fn push_front(&mut self, slot: Slot<T>) {
        self.bytes += slot.item.byte_len();
        self.slots.push_front(slot);
        self.base = self.base.wrapping_sub(1);
        self.point(self.base);
    }

    /// Takes the addressable item at `at` out and moves the last one there. The second value is
    /// where that came from.
    pub(crate) fn swap_remove(&mut self, at: usize) -> Option<(T, Option<usize>)> {
        let position = self.position(at);
        let last = self.slots.len().checked_sub(1)?;
        self.unpoint(position);
        let removed = self.slots.swap_remove_back(at)?;
        self.bytes -= removed.item.byte_len();
        let moved = at < last;
        if moved {
            self.repoint(self.position(last), position);
        }
        self.disordered |= self.strays > 0;
        Some((removed.item, moved.then_some(last)))
    }

    /// Drops the first `count` items. What had no key can no longer be addressed afterwards, and
    /// of several items with one key the last can: as if the index were built again. Says whether
    /// it had to be.
    pub(crate) fn evict_front(&mut self, count: usize, evicted: &mut SmallVec<[T; 1]>) -> bool {
        self.keyless = None;
        let rebuild = self.disordered && self.strays > 0;
        for _ in 0..count {
            let (Some(slot), position) = (self.slots.pop_front(), self.base) else {
                break;
            };
            self.base = self.base.wrapping_add(1);
            self.bytes -= slot.item.byte_len();
            let key = slot.key();
            if key.is_indexed() && !rebuild {
                let hash = key.hash(&self.hasher);
                match self.index.find_entry(hash, |other| *other == position) {
                    Ok(entry) => drop(entry.remove()),
                    Err(_) => self.strays -= 1,
                }
            }
            evicted.push(slot.item);
        }
        if rebuild {
            self.rebuild();
        }
        rebuild
    }

    /// Drops the last item and forgets its key, even if another item is known by it.
    pub(crate) fn evict_back(&mut self) -> Option<T> {
        let slot = self.slots.pop_back()?;
        let position = self.position(self.slots.len());
        self.bytes -= slot.item.byte_len();
        match slot.key() {
            Key::Missing => self.keyless = None,
            Key::Opaque => {}
            key => {
                let hash = key.hash(&self.hasher);
                let (slots, base) = (&self.slots, self.base);
                let same = |other: &u32| *other == position || is_at(slots, base, *other, &key);
                match self.index.find_entry(hash, same) {
                    // If it led to another item, that is a stray now, in place of the dropped one.
                    Ok(entry) => drop(entry.remove()),
                    Err(_) => self.strays -= 1,
                }
            }
        }
        self.disordered |= self.strays > 0;
        Some(slot.item)
    }

    /// Appends rows without looking at their keys' neighbours: [`rebuild`](Self::rebuild) after.
    pub(crate) fn extend(&mut self, rows: Vec<T>, reader: Option<&T::Reader>) {
        for item in rows {
            self.bytes += item.byte_len();
            self.slots.push_back(read(item, reader));
        }
    }

    /// Puts rows in front, in their order. [`rebuild`](Self::rebuild) after.
    pub(crate) fn extend_front(&mut self, rows: Vec<T>, reader: Option<&T::Reader>) {
        for item in rows.into_iter().rev() {
            self.bytes += item.byte_len();
            self.slots.push_front(read(item, reader));
        }
    }

    /// Reads all keys anew.
    pub(crate) fn rekey(&mut self, reader: Option<&T::Reader>) {
        for slot in &mut self.slots {
            slot.spot = reader.map_or(KeySpot::Missing, |reader| slot.item.spot(reader));
        }
        self.rebuild();
    }

    /// Builds the index: of several items with one key, the last.
    pub(crate) fn rebuild(&mut self) {
        self.index.clear();
        (self.base, self.keyless) = (0, None);
        (self.strays, self.disordered) = (0, false);
        for at in 0..self.slots.len() {
            let spot = self
                .slots
                .get(at)
                .map_or(KeySpot::Missing, |slot| slot.spot);
            if spot != KeySpot::Missing {
                self.point(self.position(at));
            }
        }
    }

    /// Lets the key of the item at `position` lead to it.
    fn point(&mut self, position: u32) {
        let (slots, base, hasher) = (&self.slots, self.base, &self.hasher);
        let Some(slot) = slots.get(position.wrapping_sub(base) as usize) else {
            return;
        };
        match slot.key() {
            Key::Missing => self.keyless = Some(position),
            Key::Opaque => {}
            key => {
                let same = |other: &u32| is_at(slots, base, *other, &key);
                let rehash = |other: &u32| hash_at(slots, base, *other, hasher);
                match self.index.entry(key.hash(hasher), same, rehash) {
                    Entry::Occupied(mut entry) => {
                        *entry.get_mut() = position;
                        self.strays += 1;
                    }
                    Entry::Vacant(entry) => drop(entry.insert(position)),
                }
            }
        }
    }

    /// Forgets the addressable item at `position`.
    fn unpoint(&mut self, position: u32) {
        if self.keyless == Some(position) {
            self.keyless = None;
            return;
        }
        let hash = hash_at(&self.slots, self.base, position, &self.hasher);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == position) {
            entry.remove();
        }
    }

    /// The item that was at `from` has moved to `to`, and its key with it.
    fn repoint(&mut self, from: u32, to: u32) {
        let (slots, base) = (&self.slots, self.base);
        let Some(slot) = slots.get(to.wrapping_sub(base) as usize) else {
            return;
        };
        let key = slot.key();
        if key.is_indexed() {
            let hash = key.hash(&self.hasher);
            if let Some(position) = self.index.find_mut(hash, |other| *other == from) {
                *position = to;
                return;
            }
            // It was a stray, and no longer is.
            self.strays -= 1;
        }
        self.point(to);
    }

    fn position(&self, at: usize) -> u32 {
        self.base.wrapping_add(at as u32)
    }

    fn place(&self, position: u32) -> usize {
        position.wrapping_sub(self.base) as usize
    }

    fn is_at(&self, position: u32, key: &Key<'_>) -> bool {
        is_at(&self.slots, self.base, position, key)
    }

    /// Whether everything fits together: for tests.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let keyed = self.slots.iter().filter(|slot| slot.key().is_indexed());
        assert_eq!(keyed.count(), self.index.len() + self.strays);
        assert!(
            self.keyless
                .is_none_or(|position| self.place(position) < self.len())
        );
        for (at, slot) in self.slots.iter().enumerate() {
            if let Some(found) = self.find(slot.key()) {
                assert!(self.slots[found].key().same(&slot.key()));
                assert!(self.strays > 0 || !slot.key().is_indexed() || found == at);
            }
        }
        let bytes: usize = self.rows().map(Item::byte_len).sum();
        assert_eq!(bytes, self.bytes);
    }
}

fn read<T: Item>(item: T, reader: Option<&T::Reader>) -> Slot<T> {
    let spot = reader.map_or(KeySpot::Missing, |reader| item.spot(reader));
    Slot { item, spot }
}

#[inline]
fn is_at<T: Item>(slots: &VecDeque<Slot<T>>, base: u32, position: u32, key: &Key<'_>) -> bool {
    slots
        .get(position.wrapping_sub(base) as usize)
        .is_some_and(|slot| slot.key().same(key))
}

fn hash_at<T: Item>(
    slots: &VecDeque<Slot<T>>,
    base: u32,
    position: u32,
    hasher: &DefaultHashBuilder,
) -> u64 {
    slots
        .get(position.wrapping_sub(base) as usize)
        .map_or(0, |slot| slot.key().hash(hasher))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::{Random, RawJson, SeededRandom};

    #[test]
    fn index_and_strays_fit_the_items_whatever_is_done() {
        let reader = RawJson::reader("id");
        let mut random = SeededRandom::new(11);
        let item = |random: &mut SeededRandom| {
            let text = match random.below(12) {
                0 => "{}".to_owned(),
                1 => r#"{"id":[]}"#.to_owned(),
                2 => "null".to_owned(),
                n => format!(r#"{{"id":{}}}"#, n % 5),
            };
            RawJson::parse(text.into_bytes().into()).unwrap()
        };
        for _ in 0..300 {
            let rows = (0..random.below(9)).map(|_| item(&mut random)).collect();
            let mut list = List::from_rows(rows, Some(&reader));
            list.check();
            for _ in 0..30 {
                let slot = read(item(&mut random), Some(&reader));
                let known = list.find(slot.key());
                match (random.below(4), known) {
                    (0, Some(at)) => drop(list.swap_remove(at)),
                    (_, Some(at)) => drop(list.replace(at, slot)),
                    (0 | 1, None) => list.push_back(slot),
                    (_, None) => list.push_front(slot),
                }
                list.check();
                if list.len() > 8 {
                    if random.below(2) == 0 {
                        list.evict_front(2, &mut SmallVec::new());
                        assert!(list.strays == 0 || !list.disordered);
                    } else {
                        list.evict_back();
                    }
                    list.check();
                }
            }
        }
    }
}
