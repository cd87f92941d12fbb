//! The numbers of topics that are gone.

use core::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use millstream_core::{BoundedMap, Evict, Inserted};

/// Last numbers of evicted topics: one by one as long as there is room, then as one floor.
///
/// Names are kept as 64-bit hashes with a random key, so an entry costs the same whatever the name
/// is. Two evicted names that share one (a chance of 2^-64 for each pair) share the higher number.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    by_hash: BoundedMap<u64, u64>,
    /// At least as high as every number that is not in the map any more.
    floor: u64,
}

impl Remembered {
    pub(crate) fn new(limit: usize, floor: u64) -> Self {
        Self {
            by_hash: BoundedMap::new(limit, Evict::Oldest),
            floor,
        }
    }

    /// Where a topic of that hash stands, known before or not.
    pub(crate) fn number(&self, hash: u64) -> u64 {
        self.by_hash.get(&hash).copied().unwrap_or(self.floor)
    }

    /// The topic comes back: takes its number out.
    pub(crate) fn take(&mut self, hash: u64) -> u64 {
        self.by_hash.remove(&hash).unwrap_or(self.floor)
    }

    /// The topic goes. Whether another number had to join the floor for it.
    pub(crate) fn keep(&mut self, hash: u64, number: u64) -> bool {
        let number = self.by_hash.get(&hash).map_or(number, |n| number.max(*n));
        match self.by_hash.insert(hash, number) {
            Inserted::New | Inserted::Replaced(_) => false,
            Inserted::Evicted(_, oldest) | Inserted::Refused(_, oldest) => {
                self.floor = self.floor.max(oldest);
                true
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self, floor: u64) {
        self.by_hash.clear();
        self.floor = floor;
    }
}

/// The hash of a name under a key of this table.
pub(crate) fn hash(hasher: &DefaultHashBuilder, name: &str) -> u64 {
    hasher.hash_one(name)
}
