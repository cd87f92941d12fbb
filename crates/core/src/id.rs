//! Identifiers that travel between crates and threads.

use core::fmt;

use crate::Key;

/// One connection: which worker owns it and its key in that worker's slab.
///
/// # Example
/// ```
/// use millstream_core::{ConnId, Key};
///
/// let id = ConnId::new(3, Key { index: 7, generation: 1 });
/// assert_eq!((id.worker(), id.key().index), (3, 7));
/// assert_eq!(id.to_string(), "0003000001000007");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl ConnId {
    /// Packs worker (16 bits), generation (24 bits) and index (24 bits).
    #[must_use]
    pub const fn new(worker: u16, key: Key) -> Self {
        Self((worker as u64) << (2 * Key::BITS) | key.to_u64())
    }

    /// The worker that owns the connection.
    #[must_use]
    pub const fn worker(self) -> u16 {
        (self.0 >> (2 * Key::BITS)) as u16
    }

    /// Its key in that worker's slab.
    #[must_use]
    pub const fn key(self) -> Key {
        Key::from_u64(self.0)
    }

    /// The packed form.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// Unpacks [`to_u64`](Self::to_u64).
    #[must_use]
    pub const fn from_u64(packed: u64) -> Self {
        Self(packed)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnId({self})")
    }
}

/// A topic, as a number its owner gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(u64);

impl TopicId {
    /// Wraps a number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let key = Key {
            index: Key::MAX,
            generation: Key::MAX,
        };
        let id = ConnId::new(u16::MAX, key);
        assert_eq!((id.worker(), id.key()), (u16::MAX, key));
        assert_eq!(ConnId::from_u64(id.to_u64()), id);
    }
}
