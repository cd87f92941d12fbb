use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use millstream_core::{ConnId, KeyedHash};

/// Who is counted: 16 bytes, made by [`Keys`]. Keep it with the connection; making it costs more
/// than looking it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LimitKey(pub(crate) [u64; 2]);

impl LimitKey {
    /// The top bit of the first word says that a slot is in use, the lowest of the second that it
    /// was used lately; 126 bits remain.
    const fn new(high: u64, low: u64) -> Self {
        Self([high | 1 << 63, low & !1])
    }
}

/// Makes keys of texts, addresses and connections, by a hash under a secret of yours: nobody
/// outside can choose names that collide. Names of different kinds never share a key.
///
/// ```
/// use millstream_ratelimit::Keys;
///
/// let keys = Keys::new([17, 4]);
/// let ip = |text: &str| keys.ip(text.parse().unwrap());
///
/// // One household, one limit; and one machine is one, however it is written.
/// assert_eq!(ip("2001:db8:1:2::1"), ip("2001:db8:1:2:ffff::2"));
/// assert_ne!(ip("2001:db8:1:2::1"), ip("2001:db8:1:3::1"));
/// assert_eq!(ip("::ffff:192.0.2.7"), ip("192.0.2.7"));
/// assert_ne!(keys.text("192.0.2.7"), ip("192.0.2.7"));
/// ```
#[derive(Debug, Clone)]
pub struct Keys {
    seed: [u64; 2],
    ipv6_mask: u128,
}

impl Keys {
    /// With a random seed, for limits that live in one process. Several processes that are to agree
    /// on keys need the same seed.
    #[must_use]
    pub const fn new(seed: [u64; 2]) -> Self {
        Self {
            seed,
            ipv6_mask: mask(64),
        }
    }

    /// How many bits of an IPv6 address count. Default 64: what one customer usually gets. More
    /// than 128 is taken for 128.
    #[must_use]
    pub const fn with_ipv6_prefix(mut self, bits: u8) -> Self {
        self.ipv6_mask = mask(bits);
        self
    }

    /// Of any text: a user's id, an API key, a room.
    ///
    /// # Cost
    /// Linear in the text, about a nanosecond for each byte. Nothing is kept of it.
    #[must_use]
    pub fn text(&self, text: &str) -> LimitKey {
        self.hash(Kind::Text, text.as_bytes())
    }

    /// Of an address: IPv4 as it is, IPv6 by its prefix. An IPv4 address inside of an IPv6 address
    /// (`::ffff:192.0.2.7`) is the IPv4 address.
    #[must_use]
    pub fn ip(&self, address: IpAddr) -> LimitKey {
        let bits = match address.to_canonical() {
            IpAddr::V4(v4) => mapped(v4),
            IpAddr::V6(v6) => v6.to_bits() & self.ipv6_mask,
        };
        self.hash(Kind::Address, &bits.to_be_bytes())
    }

    /// Of one connection.
    #[must_use]
    pub fn conn(&self, conn: ConnId) -> LimitKey {
        self.hash(Kind::Connection, &conn.to_u64().to_le_bytes())
    }

    /// Of an address, or of the connection when the address is not known: strangers without an
    /// address do not share one limit.
    #[must_use]
    pub fn caller(&self, address: Option<IpAddr>, conn: ConnId) -> LimitKey {
        address.map_or_else(|| self.conn(conn), |address| self.ip(address))
    }

    /// The same caller under another heading, so that one table serves several limits: a path, a
    /// kind of event. Headings are numbers of yours.
    #[must_use]
    pub fn under(&self, heading: u64, key: LimitKey) -> LimitKey {
        let mut bytes = [0; 24];
        for (place, word) in [heading, key.0[0], key.0[1]].iter().enumerate() {
            bytes[place * 8..place * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        self.hash(Kind::Heading, &bytes)
    }

    fn hash(&self, kind: Kind, bytes: &[u8]) -> LimitKey {
        let [high, low] = KeyedHash::of([self.seed[0] ^ kind as u64, self.seed[1]], bytes);
        LimitKey::new(high, low)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Text = 1,
    Address,
    Connection,
    Heading,
}

const fn mask(bits: u8) -> u128 {
    match bits {
        0 => 0,
        1..=127 => u128::MAX << (128 - bits),
        _ => u128::MAX,
    }
}

fn mapped(v4: Ipv4Addr) -> u128 {
    Ipv6Addr::to_bits(v4.to_ipv6_mapped())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_do_not_meet() {
        let keys = Keys::new([1, 2]);
        let mut all = HashSet::new();
        for n in 0..10_000_u64 {
            assert!(all.insert(keys.text(&n.to_string())));
            assert!(all.insert(keys.conn(ConnId::from_u64(n))));
            assert!(all.insert(keys.ip(Ipv4Addr::from_bits(n as u32).into())));
            assert!(all.insert(keys.under(n, keys.text("x"))));
        }
        assert_ne!(keys.text("a"), Keys::new([1, 3]).text("a"));
        assert_ne!(keys.text(""), keys.text("\0"));
        assert_eq!(
            keys.text(&"x".repeat(1_000_000)),
            keys.text(&"x".repeat(1_000_000))
        );
    }

    #[test]
    fn prefixes_group_addresses() {
        let same = |bits: u8, a: &str, b: &str| {
            let keys = Keys::new([5, 6]).with_ipv6_prefix(bits);
            keys.ip(a.parse().unwrap()) == keys.ip(b.parse().unwrap())
        };
        assert!(same(64, "2001:db8::1", "2001:db8::2"));
        assert!(!same(64, "2001:db8::1", "2001:db8:0:1::1"));
        assert!(same(48, "2001:db8::1", "2001:db8:0:1::1"));
        assert!(!same(128, "2001:db8::1", "2001:db8::2"));
        assert!(!same(200, "2001:db8::1", "2001:db8::2"));
        assert!(same(0, "2001:db8::1", "ff02::1"));
        // Grouping never reaches into IPv4, mapped or not.
        assert!(!same(0, "192.0.2.1", "192.0.2.2"));
        assert!(!same(64, "::ffff:192.0.2.1", "::ffff:192.0.2.2"));
        assert!(!same(0, "192.0.2.1", "2001:db8::1"));
    }
}
