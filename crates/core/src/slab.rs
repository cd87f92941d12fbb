//! Storage with stable, generation-checked keys.

use crate::PagedVec;
use core::fmt;

/// Name of a slab entry: where it lies and which tenant of that place it is.
///
/// A key of a removed entry never finds the next tenant (until one place has been reused 2^24 times
/// while the old key was kept).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Position, below 2^24.
    pub index: u32,
    /// Tenant number of that position, below 2^24.
    pub generation: u32,
}

impl Key {
    /// Bits used by an index and by a generation.
    pub const BITS: u32 = 24;

    /// Largest index and generation.
    pub const MAX: u32 = (1 << Self::BITS) - 1;

    /// Packs the key: generation in bits 24..48, index in bits 0..24.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        ((self.generation & Self::MAX) as u64) << Self::BITS | (self.index & Self::MAX) as u64
    }

    /// Unpacks what [`to_u64`](Self::to_u64) made; higher bits are ignored.
    #[must_use]
    pub const fn from_u64(packed: u64) -> Self {
        Self {
            index: packed as u32 & Self::MAX,
            generation: (packed >> Self::BITS) as u32 & Self::MAX,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.index, self.generation)
    }
}

/// The slab holds as many entries as its limit allows.
///
/// Refuse whatever needed the entry; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("slab is full at its limit of {limit} entries")]
pub struct Full {
    /// The limit that was reached.
    pub limit: usize,
}

/// A vector of places that are reused, with keys that notice reuse.
///
/// # Cost
/// `insert`, `get`, `remove` O(1); `iter` O(places ever used). Memory is never given back: it is
/// `most entries at once x (size of T + 8)`, rounded up.
///
/// # Example
/// ```
/// use millstream_core::Slab;
///
/// let mut slab = Slab::with_limit(2);
/// let a = slab.insert("a")?;
/// slab.remove(a);
/// let b = slab.insert("b")?;
/// assert_eq!(a.index, b.index);
/// assert_eq!(slab.get(a), None); // the old key does not reach the new tenant
/// assert_eq!(slab.get(b), Some(&"b"));
/// # Ok::<(), millstream_core::Full>(())
/// ```
#[derive(Clone, Debug)]
pub struct Slab<T> {
    places: PagedVec<Place<T>>,
    /// Head of the list of free places, `NIL` if there is none.
    free: u32,
    len: usize,
    limit: usize,
}

#[derive(Clone, Debug)]
struct Place<T> {
    generation: u32,
    tenant: Tenant<T>,
}

#[derive(Clone, Debug)]
enum Tenant<T> {
    Free { next: u32 },
    Taken(T),
}

const NIL: u32 = u32::MAX;

impl<T> Slab<T> {
    /// The most entries any slab can hold: 2^24.
    pub const LIMIT_MAX: usize = 1 << Key::BITS;

    /// An empty slab that holds up to [`LIMIT_MAX`](Self::LIMIT_MAX) entries.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_limit(Self::LIMIT_MAX)
    }

    /// An empty slab that holds up to `limit` entries (at most [`LIMIT_MAX`](Self::LIMIT_MAX)).
    #[must_use]
    pub const fn with_limit(limit: usize) -> Self {
        let limit = if limit < Self::LIMIT_MAX {
            limit
        } else {
            Self::LIMIT_MAX
        };
        Self {
            places: PagedVec::new(),
            free: NIL,
            len: 0,
            limit,
        }
    }

    /// Stores `value` and names it.
    ///
    /// # Errors
    /// [`Full`] at the limit; `value` is dropped. Ask [`is_full`](Self::is_full) first to keep it.
    pub fn insert(&mut self, value: T) -> Result<Key, Full> {
        self.insert_with(|_| value)
    }

    /// Like [`insert`](Self::insert) for a value that holds its own key.
    ///
    /// # Errors
    /// [`Full`] at the limit; `make` is not called.
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Result<Key, Full> {
        if self.is_full() {
            return Err(Full { limit: self.limit });
        }
        self.len += 1;
        if let Some(place) = self.places.get_mut(self.free as usize)
            && let Tenant::Free { next } = place.tenant
        {
            let key = Key {
                index: self.free,
                generation: place.generation,
            };
            place.tenant = Tenant::Taken(make(key));
            self.free = next;
            return Ok(key);
        }
        debug_assert_eq!(self.free, NIL, "a free list that leads to a taken place");
        let key = Key {
            index: self.places.len() as u32,
            generation: 0,
        };
        self.places.push(Place {
            generation: 0,
            tenant: Tenant::Taken(make(key)),
        });
        Ok(key)
    }

    /// The entry of that name.
    #[must_use]
    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.places.get(key.index as usize)? {
            Place {
                generation,
                tenant: Tenant::Taken(value),
            } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The entry of that name, to change it.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.places.get_mut(key.index as usize)? {
            Place {
                generation,
                tenant: Tenant::Taken(value),
            } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Whoever lives at `index` now.
    #[must_use]
    #[inline]
    pub fn get_at(&self, index: u32) -> Option<(Key, &T)> {
        let place = self.places.get(index as usize)?;
        let Tenant::Taken(value) = &place.tenant else {
            return None;
        };
        Some((
            Key {
                index,
                generation: place.generation,
            },
            value,
        ))
    }

    /// Whoever lives at `index` now, to change it.
    #[must_use]
    #[inline]
    pub fn get_at_mut(&mut self, index: u32) -> Option<(Key, &mut T)> {
        let place = self.places.get_mut(index as usize)?;
        let Tenant::Taken(value) = &mut place.tenant else {
            return None;
        };
        Some((
            Key {
                index,
                generation: place.generation,
            },
            value,
        ))
    }

    /// Takes the entry out; its key and all copies of it are dead from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        if !self.contains(key) {
            return None;
        }
        let place = self.places.get_mut(key.index as usize)?;
        let tenant = core::mem::replace(&mut place.tenant, Tenant::Free { next: self.free });
        place.generation = place.generation.wrapping_add(1) & Key::MAX;
        self.free = key.index;
        self.len -= 1;
        match tenant {
            Tenant::Taken(value) => Some(value),
            Tenant::Free { .. } => None,
        }
    }

    /// Whether the entry of that name is still there.
    #[must_use]
    #[inline]
    pub fn contains(&self, key: Key) -> bool {
        self.get(key).is_some()
    }

    /// All entries by rising index.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places
            .iter()
            .enumerate()
            .filter_map(|(index, place)| match &place.tenant {
                Tenant::Taken(value) => Some((
                    Key {
                        index: index as u32,
                        generation: place.generation,
                    },
                    value,
                )),
                Tenant::Free { .. } => None,
            })
    }

    /// All entries by rising index, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.places
            .iter_mut()
            .enumerate()
            .filter_map(|(index, place)| match &mut place.tenant {
                Tenant::Taken(value) => Some((
                    Key {
                        index: index as u32,
                        generation: place.generation,
                    },
                    value,
                )),
                Tenant::Free { .. } => None,
            })
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the next insert would be refused.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len >= self.limit
    }

    /// The most entries it will hold.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_at_the_limit_and_reuses_places() {
        let mut slab = Slab::with_limit(2);
        let a = slab.insert('a').unwrap();
        let b = slab.insert('b').unwrap();
        assert_eq!(slab.insert('c'), Err(Full { limit: 2 }));
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        let c = slab.insert('c').unwrap();
        assert_eq!((c.index, c.generation), (a.index, 1));
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(c, &'c'), (b, &'b')]);
        assert_eq!(slab.get_at(b.index), Some((b, &'b')));
        assert_eq!(slab.get_at(9), None);
    }

    #[test]
    fn keys_pack_into_48_bits() {
        let key = Key {
            index: Key::MAX,
            generation: 5,
        };
        assert_eq!(Key::from_u64(key.to_u64()), key);
        assert!(key.to_u64() < 1 << 48);
    }

    #[test]
    fn generations_wrap_at_24_bits() {
        let mut slab = Slab::new();
        let first = slab.insert(0).unwrap();
        slab.places.get_mut(0).unwrap().generation = Key::MAX;
        let last = Key {
            generation: Key::MAX,
            ..first
        };
        assert_eq!(slab.remove(last), Some(0));
        assert_eq!(slab.insert(1).unwrap().generation, 0);
    }
}
