//! Hashes that nobody outside can aim at.

use core::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

/// A keyed 128-bit hash, built piece by piece: SipHash-1-3 with the long output, by Aumasson and
/// Bernstein ("SipHash: a fast short-input PRF", 2012).
///
/// Who does not know the seed cannot look for two texts with one hash, and among a million honest
/// ones the odds that any two meet are below 2^-88. So the hash may stand for the text where
/// keeping the text would cost too much. It is no password hash and no signature.
///
/// # Cost
/// About a nanosecond per byte, and some ten for a hash of its own. Pieces are not told apart: hash
/// their lengths, too, where that matters.
///
/// ```
/// use millstream_core::KeyedHash;
///
/// let seed = [0x8a5c_d789_635d_2dff, 0x121f_d215_5c47_1713]; // from a source of randomness
/// let mut hash = KeyedHash::new(seed);
/// hash.write(b"room:");
/// hash.write(b"1");
/// assert_eq!(hash.finish(), KeyedHash::of(seed, b"room:1"));
/// assert_ne!(hash.finish(), KeyedHash::of([1, 2], b"room:1"));
/// ```
#[derive(Debug, Clone)]
pub struct KeyedHash(SipHasher13);

impl KeyedHash {
    /// An empty hash under a seed.
    #[must_use]
    pub fn new(seed: [u64; 2]) -> Self {
        Self(SipHasher13::new_with_keys(seed[0], seed[1]))
    }

    /// The hash of one piece.
    #[must_use]
    pub fn of(seed: [u64; 2], bytes: &[u8]) -> [u64; 2] {
        let mut hash = Self::new(seed);
        hash.write(bytes);
        hash.finish()
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Adds the eight bytes of a number.
    pub fn write_u64(&mut self, number: u64) {
        self.0.write(&number.to_le_bytes());
    }

    /// The hash of everything so far.
    #[must_use]
    pub fn finish(&self) -> [u64; 2] {
        let hash = self.0.finish128();
        [hash.h1, hash.h2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_the_seed_matter() {
        let bytes: Vec<u8> = (0..40).collect();
        let mut seen = std::collections::HashSet::new();
        for length in 0..=bytes.len() {
            assert!(
                seen.insert(KeyedHash::of([1, 2], &bytes[..length])),
                "{length}"
            );
        }
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x80;
            assert!(seen.insert(KeyedHash::of([1, 2], &other)), "{at}");
        }
        assert!(seen.insert(KeyedHash::of([1, 3], &bytes)));
        assert!(seen.insert(KeyedHash::of([3, 2], &bytes)));
    }

    #[test]
    fn numbers_are_their_bytes() {
        let mut hash = KeyedHash::new([7, 7]);
        hash.write_u64(1);
        assert_eq!(
            hash.finish(),
            KeyedHash::of([7, 7], &[1, 0, 0, 0, 0, 0, 0, 0])
        );
    }
}
