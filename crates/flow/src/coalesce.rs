//! The newest value per key, in the order in which the keys came.

use core::hash::Hash;

use hashbrown::HashMap;

use crate::arena::Ends;
use crate::keyed::Keyed;
use crate::name::{KeyError, check_length};
use crate::weigh::Weigh;

/// Bounds of a [`Coalesce`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoalesceLimits {
    /// Keys at once. Default 1,000,000. A new key drops the oldest one and its value; with 0
    /// every put is refused. Counter: `evicted`.
    pub keys_max: usize,
    /// Length of a key in UTF-16 units. Default 256. Longer ones are refused.
    pub key_units_max: usize,
    /// Bytes of all keys and values. Default 64 MiB. The oldest keys are dropped until the new
    /// value fits; one that does not fit alone is refused. Counter: `evicted`.
    pub bytes_max: usize,
}

impl Default for CoalesceLimits {
    fn default() -> Self {
        Self {
            keys_max: 1_000_000,
            key_units_max: 256,
            bytes_max: 64 << 20,
        }
    }
}

/// What a put displaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Displaced {
    /// An older value of the same key.
    pub replaced: bool,
    /// Older keys that were dropped to make room.
    pub evicted: usize,
}

/// A put was refused and the value dropped; nothing else happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoalesceError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The limit of keys is zero.
    #[error("no keys are admitted")]
    Full,
    /// Key and value alone exceed the budget.
    #[error("key and value of {bytes} bytes do not fit into the budget of {bytes_max}")]
    NoRoom {
        /// Key and value.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// What a receiver said to a value it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "a receiver has exactly these three answers"
)]
pub enum Reply {
    /// Taken, and there is room for more.
    Sent,
    /// Taken, but come back later for the others.
    Pressure,
    /// Not taken.
    Dropped,
}

/// Counters of a [`Coalesce`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoalesceStats {
    /// Values taken by the receiver or by [`pop`](Coalesce::pop).
    pub taken: u64,
    /// Values lost to a newer one of their key.
    pub replaced: u64,
    /// Values lost with their key to a limit.
    pub evicted: u64,
    /// Puts refused.
    pub refused: u64,
}

/// Values for a receiver that is behind: of each key it has to get the newest only.
///
/// A key keeps the place it took when it first came; a newer value overwrites the older one there.
///
/// # Cost
/// `put`, `pop`, `remove` O(1), amortised over evictions; a put for a known key allocates nothing.
/// 56 bytes for a key of [`bytes::Bytes`] plus its text and 5 to 10 bytes of index.
///
/// # Example
/// ```
/// use millstream_flow::{Coalesce, Reply};
///
/// let mut waiting = Coalesce::default();
/// for (key, value) in [("x", 1), ("y", 2), ("x", 3)] {
///     waiting.put(key, value)?;
/// }
/// let mut got = Vec::new();
/// waiting.drain(|_, value| {
///     got.push(*value);
///     Reply::Sent
/// });
/// assert_eq!(got, [3, 2]);
/// # Ok::<(), millstream_flow::CoalesceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Coalesce<V> {
    keyed: Keyed<Box<str>, V, 1>,
    age: Ends,
    bytes: usize,
    limits: CoalesceLimits,
    stats: CoalesceStats,
}

impl<V: Weigh> Coalesce<V> {
    /// An empty one.
    #[must_use]
    pub fn new(limits: CoalesceLimits) -> Self {
        Self {
            keyed: Keyed::new(),
            age: Ends::EMPTY,
            bytes: 0,
            limits,
            stats: CoalesceStats::default(),
        }
    }

    /// Stores the newest value of a key. The key may be empty.
    ///
    /// # Errors
    /// [`CoalesceError`]; the value is dropped and nothing else happened.
    pub fn put(&mut self, key: &str, value: V) -> Result<Displaced, CoalesceError> {
        let displaced = self.store(key, value);
        match &displaced {
            Ok(displaced) => {
                self.stats.replaced += u64::from(displaced.replaced);
                self.stats.evicted += displaced.evicted as u64;
            }
            Err(_) => self.stats.refused += 1,
        }
        displaced
    }

    fn store(&mut self, key: &str, value: V) -> Result<Displaced, CoalesceError> {
        check_length(key, self.limits.key_units_max)?;
        let bytes = key.len().saturating_add(value.weight());
        let bytes_max = self.limits.bytes_max;
        if bytes > bytes_max {
            return Err(CoalesceError::NoRoom { bytes, bytes_max });
        }
        if self.limits.keys_max == 0 {
            return Err(CoalesceError::Full);
        }
        let mut displaced = Displaced::default();
        let weight = value.weight();
        let known = self.keyed.find(key);
        if let Some(old) = known.and_then(|index| self.keyed.get_mut(index)) {
            self.bytes -= core::mem::replace(old, value).weight();
            self.bytes += weight;
            displaced.replaced = true;
        } else {
            if self.len() >= self.limits.keys_max {
                displaced.evicted += usize::from(self.evict(None));
            }
            let index = self.keyed.insert(key.into(), value);
            self.keyed.link(0, &mut self.age, index);
            self.bytes += bytes;
        }
        let keep = known.or_else(|| self.keyed.find(key));
        while self.bytes > bytes_max && self.evict(keep) {
            displaced.evicted += 1;
        }
        Ok(displaced)
    }

    /// Offers values, oldest key first, until the receiver is not ready for more.
    ///
    /// What it took is removed; what it dropped stays first in line.
    pub fn drain(&mut self, mut offer: impl FnMut(&str, &V) -> Reply) {
        while let Some(index) = self.age.first() {
            let (Some(key), Some(value)) = (self.keyed.key(index), self.keyed.get(index)) else {
                return;
            };
            let reply = offer(key, value);
            if reply != Reply::Dropped {
                self.take(index);
                self.stats.taken += 1;
            }
            if reply != Reply::Sent {
                return;
            }
        }
    }

    /// Takes the value that waits longest.
    pub fn pop(&mut self) -> Option<(Box<str>, V)> {
        let taken = self.take(self.age.first()?);
        self.stats.taken += u64::from(taken.is_some());
        taken
    }

    /// Takes the value of one key.
    pub fn remove(&mut self, key: &str) -> Option<V> {
        let index = self.keyed.find(key)?;
        self.take(index).map(|(_, value)| value)
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.keyed = Keyed::new();
        self.age = Ends::EMPTY;
        self.bytes = 0;
    }

    /// The value of one key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&V> {
        self.keyed.get(self.keyed.find(key)?)
    }

    /// Keys waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keyed.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of keys and values.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> CoalesceStats {
        self.stats
    }

    fn evict(&mut self, keep: Option<u32>) -> bool {
        let mut oldest = self.age.first();
        if oldest == keep {
            oldest = oldest.and_then(|index| self.keyed.next(0, index));
        }
        oldest.is_some_and(|index| self.take(index).is_some())
    }

    fn take(&mut self, index: u32) -> Option<(Box<str>, V)> {
        self.keyed.unlink(0, &mut self.age, index);
        let (key, value) = self.keyed.remove(index)?;
        self.bytes -= key.len() + value.weight();
        Some((key, value))
    }
}

impl<V: Weigh> Default for Coalesce<V> {
    fn default() -> Self {
        Self::new(CoalesceLimits::default())
    }
}

/// Drops items that a later item of the same key makes useless.
///
/// The last item of each key stays, where it stands; items without a key are left alone. Two passes
/// over the list; nothing is allocated when no item has a key.
///
/// ```
/// use millstream_flow::coalesce_batch;
///
/// let mut items = vec![("a", 1), ("", 2), ("b", 3), ("a", 4), ("", 5)];
/// coalesce_batch(&mut items, |item| (!item.0.is_empty()).then_some(item.0));
/// assert_eq!(items, [("", 2), ("b", 3), ("a", 4), ("", 5)]);
/// ```
pub fn coalesce_batch<T, K: Hash + Eq>(items: &mut Vec<T>, key: impl Fn(&T) -> Option<K>) {
    let mut last = HashMap::new();
    for (place, item) in items.iter().enumerate() {
        if let Some(key) = key(item) {
            last.insert(key, place);
        }
    }
    if last.is_empty() {
        return;
    }
    let mut place = 0;
    items.retain(|item| {
        let stays = key(item).is_none_or(|key| last.get(&key) == Some(&place));
        place += 1;
        stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(keys_max: usize, bytes_max: usize) -> Coalesce<Box<str>> {
        let limits = CoalesceLimits {
            keys_max,
            bytes_max,
            ..Default::default()
        };
        Coalesce::new(limits)
    }

    #[test]
    fn the_receiver_decides_how_far_it_goes() {
        let mut waiting = small(9, 99);
        for key in ["a", "b", "c"] {
            assert_eq!(waiting.put(key, key.into()), Ok(Displaced::default()));
        }
        let mut offered = Vec::new();
        let mut replies = [Reply::Sent, Reply::Pressure].into_iter();
        waiting.drain(|key, _| {
            offered.push(key.to_owned());
            replies.next().unwrap_or(Reply::Dropped)
        });
        assert_eq!(offered, ["a", "b"]);
        waiting.drain(|_, _| Reply::Dropped);
        assert_eq!(waiting.pop(), Some(("c".into(), "c".into())));
        assert_eq!((waiting.bytes(), waiting.stats().taken), (0, 3));
    }

    #[test]
    fn both_limits_drop_the_oldest_and_spare_the_newest() {
        let mut few = small(2, 99);
        for key in ["a", "b", "c"] {
            let _ = few.put(key, "".into());
        }
        assert!(few.get("a").is_none());
        assert_eq!((few.len(), few.stats().evicted), (2, 1));

        let mut light = small(9, 6);
        for key in ["a", "b", "c"] {
            let _ = light.put(key, "1".into());
        }
        // "a" grows and stays although it is the oldest.
        let displaced = light.put("a", "12345".into());
        assert_eq!(
            displaced,
            Ok(Displaced {
                replaced: true,
                evicted: 2
            })
        );
        assert_eq!((light.len(), light.bytes()), (1, 6));
        let heavy = light.put("b", "123456".into());
        assert_eq!(
            heavy,
            Err(CoalesceError::NoRoom {
                bytes: 7,
                bytes_max: 6
            })
        );
        assert_eq!(light.get("a").map(|value| &**value), Some("12345"));
        assert_eq!(small(0, 9).put("a", "".into()), Err(CoalesceError::Full));
    }

    #[test]
    fn batches_without_keys_stay_as_they_are() {
        let mut items = vec![1, 2, 3];
        coalesce_batch(&mut items, |_| None::<u8>);
        assert_eq!(items, [1, 2, 3]);
        coalesce_batch(&mut items, |_| Some(()));
        assert_eq!(items, [3]);
    }
}
