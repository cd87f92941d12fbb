//! Random bits as an argument.

use core::fmt;
use core::ops::Deref;

/// A source of random bits that the host passes in.
///
/// Tests and simulations pass [`SeededRandom`], so that a seed reproduces a run; the server passes
/// the operating system's generator where guessing must be hard (session ids).
pub trait Random {
    /// The next 64 bits.
    fn next_u64(&mut self) -> u64;

    /// A number below `n`, each equally likely; 0 when `n` is 0.
    fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        // Lemire's method: the high half of a product, redrawn in the biased fringe.
        let fringe = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= fringe {
                return (product >> 64) as u64;
            }
        }
    }

    /// Fills `out`.
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bits = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bits[..chunk.len()]);
        }
    }
}

impl<R: Random + ?Sized> Random for &mut R {
    fn next_u64(&mut self) -> u64 {
        (**self).next_u64()
    }
}

/// xoshiro256** started from one number by splitmix64: fast, reproducible, **not** for secrets.
///
/// # Example
/// ```
/// use millstream_core::{Random, SeededRandom};
///
/// let (mut a, mut b) = (SeededRandom::new(7), SeededRandom::new(7));
/// assert_eq!(a.next_u64(), b.next_u64());
/// assert!(a.below(6) < 6);
/// ```
#[derive(Clone, Debug)]
pub struct SeededRandom {
    state: [u64; 4],
}

impl SeededRandom {
    /// Every seed gives a different, usable sequence.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut mix = seed;
        let state = [(); 4].map(|()| {
            mix = mix.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mix;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state }
    }
}

impl Random for SeededRandom {
    fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let out = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        out
    }
}

/// A UUID in its 36-character form, without a heap allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UuidText([u8; 36]);

impl UuidText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only hexadecimal digits and hyphens are ever written into it.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Deref for UuidText {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for UuidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for UuidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// A version 4 (random) UUID.
///
/// # Example
/// ```
/// use millstream_core::{SeededRandom, uuid_v4};
///
/// let id = uuid_v4(&mut SeededRandom::new(1));
/// assert_eq!(id.len(), 36);
/// assert_eq!(id.as_bytes()[14], b'4');
/// ```
#[must_use]
pub fn uuid_v4(random: &mut (impl Random + ?Sized)) -> UuidText {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let mut bits = [0; 16];
    random.fill(&mut bits);
    bits[6] = bits[6] & 0x0f | 0x40;
    bits[8] = bits[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
    for (nibble, place) in places.enumerate() {
        let byte = bits[nibble / 2];
        let value = if nibble % 2 == 0 {
            byte >> 4
        } else {
            byte & 0x0f
        };
        text[place] = HEX[usize::from(value)];
    }
    UuidText(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sequence() {
        // Reference values of xoshiro256** with state 1, 2, 3, 4.
        let mut random = SeededRandom {
            state: [1, 2, 3, 4],
        };
        let got = [(); 4].map(|()| random.next_u64());
        assert_eq!(got, [11520, 0, 1_509_978_240, 1_215_971_899_390_074_240]);
    }

    #[test]
    fn below_stays_below_and_reaches_all() {
        let mut random = SeededRandom::new(3);
        let mut seen = [0_u32; 5];
        for _ in 0..1_000 {
            seen[random.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|n| *n > 120), "{seen:?}");
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
        assert!(random.below(u64::MAX) < u64::MAX);
    }

    #[test]
    fn uuids_have_the_right_shape() {
        let mut random = SeededRandom::new(9);
        for _ in 0..100 {
            let id = uuid_v4(&mut random);
            let parts: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12]);
            assert!(id.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()));
            assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        }
    }
}
