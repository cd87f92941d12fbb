//! A map whose keys are JSON string tokens.

use core::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// From string tokens (quotes included, so that looking up and writing need no unescaping) to
/// values. Entries have ids that stay valid until they are removed; iteration is in order of ids,
/// which without removals is the order of insertion.
///
/// # Cost
/// Everything O(1) but iteration. `V + 32` bytes and the token per entry.
#[derive(Clone, Debug)]
pub(crate) struct TokenMap<V> {
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
    entries: Vec<Option<(Box<str>, V)>>,
    free: Vec<u32>,
    token_bytes: usize,
}

impl<V> Default for TokenMap<V> {
    fn default() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            table: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            token_bytes: 0,
        }
    }
}

impl<V> TokenMap<V> {
    pub(crate) fn find(&self, token: &str) -> Option<u32> {
        let is_it =
            |id: &u32| matches!(&self.entries[*id as usize], Some((key, _)) if **key == *token);
        self.table.find(self.hasher.hash_one(token), is_it).copied()
    }

    /// Adds a token that is not there.
    pub(crate) fn insert(&mut self, token: &str, value: V) -> u32 {
        debug_assert!(self.find(token).is_none());
        let entry = Some((token.into(), value));
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.token_bytes += token.len();
        let (entries, hasher) = (&self.entries, &self.hasher);
        // The table only ever leads to entries that are there.
        let rehash = |id: &u32| {
            let entry = entries[*id as usize].as_ref();
            entry.map_or(0, |(token, _)| hasher.hash_one(&**token))
        };
        self.table.insert_unique(hasher.hash_one(token), id, rehash);
        id
    }

    pub(crate) fn remove(&mut self, id: u32) {
        let Some((token, _)) = self.entries.get_mut(id as usize).and_then(Option::take) else {
            return;
        };
        self.token_bytes -= token.len();
        self.free.push(id);
        let hash = self.hasher.hash_one(&*token);
        if let Ok(found) = self.table.find_entry(hash, |other| *other == id) {
            found.remove();
        }
    }

    pub(crate) fn get(&self, id: u32) -> Option<&V> {
        let entry = self.entries.get(id as usize)?.as_ref();
        entry.map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut V> {
        let entry = self.entries.get_mut(id as usize)?.as_mut();
        entry.map(|(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        let there = self.entries.iter().flatten();
        there.map(|(token, value)| (&**token, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut V)> {
        let there = self.entries.iter_mut().flatten();
        there.map(|(token, value)| (&**token, value))
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of all tokens.
    pub(crate) const fn token_bytes(&self) -> usize {
        self.token_bytes
    }

    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.entries.clear();
        self.free.clear();
        self.token_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_and_are_used_again() {
        let mut map = TokenMap::default();
        let (a, b) = (map.insert("\"a\"", 1), map.insert("\"b\"", 2));
        assert_eq!((map.find("\"a\""), map.token_bytes()), (Some(a), 6));
        map.remove(a);
        map.remove(a);
        assert_eq!(
            (map.find("\"a\""), map.len(), map.token_bytes()),
            (None, 1, 3)
        );
        assert_eq!(map.insert("\"c\"", 3), a);
        assert_eq!(map.get(b), Some(&2));
        assert_eq!(
            map.iter().collect::<Vec<_>>(),
            [("\"c\"", &3), ("\"b\"", &2)]
        );
        map.clear();
        assert_eq!((map.len(), map.iter().count()), (0, 0));
    }
}
