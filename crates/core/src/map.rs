//! A hash map that cannot grow without end.

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// What a full [`BoundedMap`] does with a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evict {
    /// Drops the key that was inserted first. Replacing a value does not make its key newer.
    Oldest,
    /// Drops the key that was used last the longest ago. Inserting, replacing,
    /// [`get_mut`](BoundedMap::get_mut) and [`touch`](BoundedMap::touch) are uses;
    /// [`get`](BoundedMap::get) is a mere look.
    LeastRecent,
    /// Refuses the new key.
    Refuse,
}

/// What became of an insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a full map evicts or refuses, which somebody should count"]
pub enum Inserted<K, V> {
    /// The key is new and there was room.
    New,
    /// The key was there; this is its old value.
    Replaced(V),
    /// The key is new; to make room this one went.
    Evicted(K, V),
    /// The map is full and keeps what it has; here is what was offered.
    Refused(K, V),
}

/// A hash map with a limit and a stated eviction.
///
/// The hasher is seeded per map, so keys chosen by an attacker do not collide on purpose.
///
/// # Cost
/// All single-key methods O(1). Memory: `limit x (K + V + 16 bytes)` at most, grown as needed.
///
/// # Example
/// ```
/// use millstream_core::{BoundedMap, Evict, Inserted};
///
/// let mut latest = BoundedMap::new(2, Evict::Oldest);
/// assert_eq!(latest.insert("a", 1), Inserted::New);
/// assert_eq!(latest.insert("b", 2), Inserted::New);
/// assert_eq!(latest.insert("a", 3), Inserted::Replaced(1));
/// assert_eq!(latest.insert("c", 4), Inserted::Evicted("a", 3));
/// assert_eq!(latest.get("a"), None);
/// ```
#[derive(Clone, Debug)]
pub struct BoundedMap<K, V> {
    limit: usize,
    evict: Evict,
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
    nodes: Vec<Node<K, V>>,
    free: u32,
    /// The next to be evicted.
    oldest: u32,
    newest: u32,
}

#[derive(Clone, Debug)]
struct Node<K, V> {
    newer: u32,
    older: u32,
    entry: Option<(K, V)>,
}

const NIL: u32 = u32::MAX;

impl<K: Hash + Eq, V> BoundedMap<K, V> {
    /// An empty map for up to `limit` keys (at most 2^32 - 1). With limit 0 everything is refused.
    #[must_use]
    pub fn new(limit: usize, evict: Evict) -> Self {
        Self {
            limit: limit.min(NIL as usize),
            evict,
            hasher: DefaultHashBuilder::default(),
            table: HashTable::new(),
            nodes: Vec::new(),
            free: NIL,
            oldest: NIL,
            newest: NIL,
        }
    }

    /// Sets the value of `key`.
    pub fn insert(&mut self, key: K, value: V) -> Inserted<K, V> {
        if let Some(index) = self.find(&key) {
            self.used(index);
            let Some((_, old)) = &mut self.nodes[index as usize].entry else {
                return Inserted::New;
            };
            return Inserted::Replaced(core::mem::replace(old, value));
        }
        if self.len() < self.limit {
            self.push(key, value);
            return Inserted::New;
        }
        if self.limit == 0 || self.evict == Evict::Refuse {
            return Inserted::Refused(key, value);
        }
        let evicted = self.pop_oldest();
        self.push(key, value);
        evicted.map_or(Inserted::New, |(key, value)| Inserted::Evicted(key, value))
    }

    /// The value of `key`. Does not count as a use.
    #[must_use]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let index = self.find(key)?;
        self.nodes[index as usize]
            .entry
            .as_ref()
            .map(|(_, value)| value)
    }

    /// The value of `key`, to change it. Counts as a use.
    #[must_use]
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let index = self.find(key)?;
        self.used(index);
        self.nodes[index as usize]
            .entry
            .as_mut()
            .map(|(_, value)| value)
    }

    /// Counts a use of `key`; false if it is not there.
    pub fn touch<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get_mut(key).is_some()
    }

    /// Whether `key` is there.
    #[must_use]
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_some()
    }

    /// Takes `key` out.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let index = self.find(key)?;
        self.take(index).map(|(_, value)| value)
    }

    /// Takes the key that would be evicted next.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        if self.oldest == NIL {
            None
        } else {
            self.take(self.oldest)
        }
    }

    /// All entries, next to be evicted first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut index = self.oldest;
        core::iter::from_fn(move || {
            let node = self.nodes.get(index as usize)?;
            index = node.newer;
            node.entry.as_ref().map(|(key, value)| (key, value))
        })
    }

    /// Drops all entries and keeps the memory.
    pub fn clear(&mut self) {
        self.table.clear();
        self.nodes.clear();
        (self.free, self.oldest, self.newest) = (NIL, NIL, NIL);
    }

    fn find<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        let nodes = &self.nodes;
        let is_key = |index: &u32| {
            nodes[*index as usize]
                .entry
                .as_ref()
                .is_some_and(|(k, _)| k.borrow() == key)
        };
        self.table.find(self.hasher.hash_one(key), is_key).copied()
    }

    fn used(&mut self, index: u32) {
        if self.evict == Evict::LeastRecent && self.newest != index {
            self.unlink(index);
            self.link_newest(index);
        }
    }

    fn push(&mut self, key: K, value: V) {
        let hash = self.hasher.hash_one(&key);
        let node = Node {
            newer: NIL,
            older: NIL,
            entry: Some((key, value)),
        };
        let index = match self.nodes.get_mut(self.free as usize) {
            Some(place) => {
                let next_free = place.newer;
                *place = node;
                core::mem::replace(&mut self.free, next_free)
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.link_newest(index);
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        // A table entry always leads to an occupied node, so the hash is always that of a key.
        let rehash = |index: &u32| {
            nodes[*index as usize]
                .entry
                .as_ref()
                .map_or(0, |(key, _)| hasher.hash_one(key))
        };
        self.table.insert_unique(hash, index, rehash);
    }

    fn take(&mut self, index: u32) -> Option<(K, V)> {
        self.unlink(index);
        let node = &mut self.nodes[index as usize];
        node.newer = core::mem::replace(&mut self.free, index);
        let entry = node.entry.take()?;
        let hash = self.hasher.hash_one(&entry.0);
        if let Ok(found) = self.table.find_entry(hash, |other| *other == index) {
            found.remove();
        }
        Some(entry)
    }
}

impl<K, V> BoundedMap<K, V> {
    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The most keys it will hold.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    fn link_newest(&mut self, index: u32) {
        let older = core::mem::replace(&mut self.newest, index);
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = index,
            None => self.oldest = index,
        }
        let node = &mut self.nodes[index as usize];
        (node.newer, node.older) = (NIL, older);
    }

    fn unlink(&mut self, index: u32) {
        let Node { newer, older, .. } = self.nodes[index as usize];
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_when_told_to() {
        let mut map = BoundedMap::new(1, Evict::Refuse);
        assert_eq!(map.insert(1, 'a'), Inserted::New);
        assert_eq!(map.insert(2, 'b'), Inserted::Refused(2, 'b'));
        assert_eq!(map.insert(1, 'c'), Inserted::Replaced('a'));
        assert_eq!(map.remove(&1), Some('c'));
        assert_eq!(map.insert(2, 'b'), Inserted::New);
        assert_eq!((map.len(), map.limit()), (1, 1));
    }

    #[test]
    fn least_recent_counts_uses() {
        let mut map = BoundedMap::new(2, Evict::LeastRecent);
        let _ = map.insert("a", 1);
        let _ = map.insert("b", 2);
        assert!(map.touch("a"));
        assert_eq!(map.get("b"), Some(&2));
        assert_eq!(map.insert("c", 3), Inserted::Evicted("b", 2));
        assert_eq!(map.iter().collect::<Vec<_>>(), [(&"a", &1), (&"c", &3)]);
    }

    #[test]
    fn zero_limit_holds_nothing() {
        let mut map = BoundedMap::new(0, Evict::Oldest);
        assert_eq!(map.insert(1, 1), Inserted::Refused(1, 1));
        assert!(map.is_empty());
        assert_eq!(map.pop_oldest(), None);
    }

    #[test]
    fn clear_starts_over() {
        let mut map = BoundedMap::new(3, Evict::Oldest);
        let _ = map.insert(1, 1);
        map.clear();
        assert_eq!(map.iter().count(), 0);
        assert_eq!(map.insert(1, 2), Inserted::New);
        assert!(map.contains_key(&1));
    }
}
