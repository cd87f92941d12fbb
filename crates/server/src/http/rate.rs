//! Upgrades per client address: a sliding estimate over two windows, in a bounded table.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use crate::peer::Address;

/// Addresses remembered at most.
const ENTRIES_MAX: usize = 10_000;
/// How often forgotten addresses are swept out.
const SWEEP_EVERY_MS: u64 = 60_000;
/// How many entries compete for being evicted when the table is full.
const EVICT_SAMPLE: usize = 8;

/// Counts attempts per address. Time is passed in and must not go backwards.
///
/// Windows are anchored at an address's first attempt and advance by whole windows, so that the
/// estimate never counts a finished window in full twice.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    limit: u64,
    window_ms: u64,
    places: HashMap<Key, u32>,
    entries: Vec<(Key, Counts)>,
    hasher: RandomState,
    swept_at: u64,
    /// Where the next search for an entry to evict begins.
    hand: usize,
}

/// What counts as one client: an IPv4 address, an IPv6 /64, or the hash of another text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    V4([u8; 4]),
    V6Prefix(u64),
    Other(u64),
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    previous: u64,
    current: u64,
    window_start: u64,
}

impl RateLimiter {
    /// `limit` attempts per `window`; a limit of 0 lets everything pass.
    pub(crate) fn new(limit: u32, window: Duration) -> Self {
        Self {
            limit: u64::from(limit),
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1),
            places: HashMap::new(),
            entries: Vec::new(),
            hasher: RandomState::new(),
            swept_at: 0,
            hand: 0,
        }
    }

    /// Counts an attempt at `now`, or says after which time one would be accepted. Refused
    /// attempts are not counted.
    pub(crate) fn attempt(&mut self, address: &Address, now: Duration) -> Result<(), Duration> {
        if self.limit == 0 {
            return Ok(());
        }
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if now.saturating_sub(self.swept_at) >= SWEEP_EVERY_MS {
            self.sweep(now);
        }
        let (limit, window_ms) = (self.limit, self.window_ms);
        let at = self.place(self.key(address), now);
        let Some((_, counts)) = self.entries.get_mut(at) else {
            return Ok(());
        };
        counts.advance(now, window_ms);
        match counts.wait_ms(now, limit, window_ms) {
            0 => {
                counts.current += 1;
                Ok(())
            }
            wait => Err(Duration::from_millis(wait)),
        }
    }

    fn key(&self, address: &Address) -> Key {
        match address {
            Address::Ip(ip) => match ip.to_canonical() {
                IpAddr::V4(ip) => Key::V4(ip.octets()),
                IpAddr::V6(ip) => Key::V6Prefix((ip.to_bits() >> 64) as u64),
            },
            Address::Text(text) => Key::Other(self.hasher.hash_one(text)),
        }
    }

    /// The index of the key's entry, which is made if needed.
    fn place(&mut self, key: Key, now: u64) -> usize {
        if let Some(at) = self.places.get(&key) {
            return *at as usize;
        }
        if self.entries.len() >= ENTRIES_MAX {
            self.evict();
        }
        let at = self.entries.len();
        self.entries.push((
            key,
            Counts {
                previous: 0,
                current: 0,
                window_start: now,
            },
        ));
        self.places.insert(key, at as u32);
        debug_assert_eq!(self.entries.len(), self.places.len());
        at
    }

    /// Removes the least active of a few entries: constant time, however often it is provoked.
    fn evict(&mut self) {
        let count = self.entries.len();
        let candidates = (0..EVICT_SAMPLE).map(|step| (self.hand + step) % count.max(1));
        let least = candidates.min_by_key(|at| {
            self.entries
                .get(*at)
                .map_or(u64::MAX, |(_, counts)| counts.previous + counts.current)
        });
        self.hand = self.hand.wrapping_add(EVICT_SAMPLE) % count.max(1);
        if let Some(at) = least {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        let (key, _) = self.entries.swap_remove(at);
        self.places.remove(&key);
        if let Some((moved, _)) = self.entries.get(at)
            && let Entry::Occupied(mut place) = self.places.entry(*moved)
        {
            place.insert(at as u32);
        }
    }

    /// Drops addresses that were idle for two windows.
    fn sweep(&mut self, now: u64) {
        self.swept_at = now;
        let mut at = 0;
        while let Some((_, counts)) = self.entries.get(at) {
            if now.saturating_sub(counts.window_start) >= 2 * self.window_ms {
                self.remove(at);
            } else {
                at += 1;
            }
        }
    }
}

impl Counts {
    fn advance(&mut self, now: u64, window_ms: u64) {
        let windows = now.saturating_sub(self.window_start) / window_ms;
        self.previous = match windows {
            0 => return,
            1 => self.current,
            _ => 0,
        };
        self.current = 0;
        self.window_start += windows * window_ms;
    }

    /// Milliseconds until the estimate `previous x (1 - elapsed / window) + current` is below the
    /// limit, without further attempts; 0 when it is now.
    fn wait_ms(&self, now: u64, limit: u64, window_ms: u64) -> u64 {
        let elapsed = now.saturating_sub(self.window_start);
        let rest = window_ms - elapsed;
        if self.current < limit {
            // previous * rest < (limit - current) * window: until then `previous` decays.
            let room = (limit - self.current) * window_ms;
            if self.previous * rest < room {
                return 0;
            }
            let rest_fine = room.saturating_sub(1) / self.previous.max(1);
            return rest - rest_fine;
        }
        // The next window begins with `previous = current`, which has to decay by one and a bit.
        let rest_fine = (limit * window_ms - 1) / self.current.max(1);
        rest + window_ms.saturating_sub(rest_fine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Address {
        Address::parse(text)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn ten_in_ten() -> RateLimiter {
        RateLimiter::new(10, Duration::from_secs(10))
    }

    #[test]
    fn the_eleventh_in_a_window_is_refused_and_others_are_free() {
        let mut rate = ten_in_ten();
        for at in 0..10 {
            assert_eq!(rate.attempt(&ip("192.0.2.1"), ms(at * 100)), Ok(()));
        }
        assert!(rate.attempt(&ip("192.0.2.1"), ms(1_000)).is_err());
        assert_eq!(rate.attempt(&ip("192.0.2.2"), ms(1_000)), Ok(()));
    }

    #[test]
    fn refusals_do_not_count() {
        let mut rate = ten_in_ten();
        let client = ip("192.0.2.1");
        for _ in 0..10 {
            assert_eq!(rate.attempt(&client, ms(0)), Ok(()));
        }
        for at in 0..1_000 {
            assert!(rate.attempt(&client, ms(at)).is_err());
        }
        assert_eq!(rate.attempt(&client, ms(20_000)), Ok(()));
    }

    #[test]
    fn windows_advance_whole_so_a_pause_of_eleven_seconds_helps() {
        // The original anchors the new window at the arrival and refuses all of these.
        let mut rate = ten_in_ten();
        let client = ip("192.0.2.1");
        for _ in 0..10 {
            assert_eq!(rate.attempt(&client, ms(0)), Ok(()));
        }
        assert_eq!(rate.attempt(&client, ms(11_000)), Ok(()));
        assert!(
            rate.attempt(&client, ms(11_000)).is_err(),
            "9 + 1 is the limit"
        );
    }

    #[test]
    fn the_time_to_wait_is_exact() {
        for limit in [1, 2, 3, 10] {
            for window in [1_000, 4_000, 10_000] {
                let mut seed = 7u64 + u64::from(limit) + window;
                let mut rate = RateLimiter::new(limit, ms(window));
                let (client, mut now) = (ip("2001:db8::1"), 0);
                for _ in 0..500 {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    now += (seed >> 33) % (window / 4);
                    if let Err(wait) = rate.attempt(&client, ms(now)) {
                        assert!(wait <= ms(2 * window), "{wait:?}");
                        let early = ms(now) + wait - ms(1);
                        assert!(
                            rate.attempt(&client, early).is_err(),
                            "{limit} {window} {now}"
                        );
                        assert_eq!(rate.attempt(&client, ms(now) + wait), Ok(()));
                        now += wait.as_millis() as u64;
                    }
                }
            }
        }
    }

    #[test]
    fn zero_switches_it_off() {
        let mut rate = RateLimiter::new(0, ms(0));
        assert!((0..100).all(|_| rate.attempt(&ip("192.0.2.1"), ms(0)).is_ok()));
        assert!(rate.entries.is_empty());
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let mut rate = RateLimiter::new(1, ms(1_000));
        assert_eq!(rate.attempt(&ip("2001:db8:0:1::1"), ms(0)), Ok(()));
        assert!(rate.attempt(&ip("2001:db8:0:1:ffff::2"), ms(0)).is_err());
        assert_eq!(rate.attempt(&ip("2001:db8:0:2::1"), ms(0)), Ok(()));
        assert_eq!(rate.attempt(&ip("192.0.2.1"), ms(0)), Ok(()));
        assert!(rate.attempt(&ip("::ffff:192.0.2.1"), ms(0)).is_err());
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_busy() {
        let mut rate = RateLimiter::new(100, ms(1_000_000));
        let busy = ip("192.0.2.1");
        for _ in 0..100 {
            assert_eq!(rate.attempt(&busy, ms(0)), Ok(()));
        }
        for n in 0..30_000u32 {
            let other = Address::Ip(IpAddr::from((n + 0x0a00_0000).to_be_bytes()));
            assert_eq!(rate.attempt(&other, ms(1)), Ok(()));
            assert!(rate.entries.len() <= ENTRIES_MAX);
        }
        assert!(
            rate.attempt(&busy, ms(2)).is_err(),
            "flooding must not wash a limit away"
        );
        for (at, (key, _)) in rate.entries.iter().enumerate() {
            assert_eq!(rate.places.get(key).map(|place| *place as usize), Some(at));
        }
    }

    #[test]
    fn the_sweep_forgets_the_idle() {
        let mut rate = ten_in_ten();
        for n in 0..100u8 {
            let _ = rate.attempt(&Address::Ip(IpAddr::from([10, 0, 0, n])), ms(0));
        }
        assert_eq!(rate.attempt(&ip("192.0.2.1"), ms(60_000)), Ok(()));
        assert_eq!((rate.entries.len(), rate.places.len()), (1, 1));
    }
}
