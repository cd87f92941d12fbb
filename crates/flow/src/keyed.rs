//! Entries found by a key, threaded on lists.

use core::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, Equivalent, HashTable};

use crate::arena::{Arena, Ends};

/// A hash table from keys to places of an [`Arena`], with `L` lists.
///
/// The hasher is seeded per table by its library, so that keys a client chose do not collide on
/// purpose; nothing depends on the order of the table.
#[derive(Clone, Debug)]
pub(crate) struct Keyed<K, V, const L: usize> {
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
    arena: Arena<(K, V), L>,
}

impl<K: Hash + Eq, V, const L: usize> Keyed<K, V, L> {
    pub(crate) fn new() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            table: HashTable::new(),
            arena: Arena::new(),
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.arena.len()
    }

    pub(crate) fn find<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<u32> {
        let arena = &self.arena;
        let is_key = |index: &u32| arena.get(*index).is_some_and(|(k, _)| key.equivalent(k));
        self.table.find(self.hasher.hash_one(key), is_key).copied()
    }

    /// Stores an entry whose key is not there yet.
    pub(crate) fn insert(&mut self, key: K, value: V) -> u32 {
        let hash = self.hasher.hash_one(&key);
        let index = self.arena.insert((key, value));
        let (arena, hasher) = (&self.arena, &self.hasher);
        // The table only names places that are taken, so the hash is always that of a key.
        let rehash = |index: &u32| arena.get(*index).map_or(0, |(key, _)| hasher.hash_one(key));
        self.table.insert_unique(hash, index, rehash);
        index
    }

    /// Takes out an entry that has been unlinked from all lists.
    pub(crate) fn remove(&mut self, index: u32) -> Option<(K, V)> {
        let entry = self.arena.remove(index)?;
        let hash = self.hasher.hash_one(&entry.0);
        if let Ok(found) = self.table.find_entry(hash, |other| *other == index) {
            found.remove();
        }
        Some(entry)
    }

    pub(crate) fn key(&self, index: u32) -> Option<&K> {
        self.arena.get(index).map(|(key, _)| key)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&V> {
        self.arena.get(index).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut V> {
        self.arena.get_mut(index).map(|(_, value)| value)
    }

    pub(crate) fn next(&self, lane: usize, index: u32) -> Option<u32> {
        self.arena.next(lane, index)
    }

    pub(crate) fn link(&mut self, lane: usize, ends: &mut Ends, index: u32) {
        self.arena.link(lane, ends, index);
    }

    pub(crate) fn unlink(&mut self, lane: usize, ends: &mut Ends, index: u32) {
        self.arena.unlink(lane, ends, index);
    }

    pub(crate) fn move_back(&mut self, lane: usize, ends: &mut Ends, index: u32) {
        self.arena.move_back(lane, ends, index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_and_only_that() {
        let mut keyed = Keyed::<Box<str>, u32, 1>::new();
        for n in 0..1_000 {
            keyed.insert(n.to_string().into(), n);
        }
        for n in (0..1_000).step_by(2) {
            let index = keyed.find(n.to_string().as_str()).unwrap();
            assert_eq!(keyed.remove(index).unwrap().1, n);
            assert!(keyed.remove(index).is_none());
        }
        assert_eq!(keyed.len(), 500);
        assert!(keyed.find("500").is_none());
        assert_eq!(
            keyed.find("501").and_then(|index| keyed.get(index)),
            Some(&501)
        );
    }
}
