//! First sight of an id within a window.

use core::num::NonZeroU64;
use core::time::Duration;

use hashbrown::HashTable;
use millstream_core::{KeyedHash, Millis, Random};

use crate::TIMEOUT_BATCH;
use crate::arena::{Arena, Ends};
use crate::clock::Clock;
use crate::name::{KeyError, check};
use crate::session::Retention;

/// Bounds of a [`Dedup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupLimits {
    /// Ids at once. Default 10,000, at least 1. A claim beyond drops the oldest one, which can
    /// then be claimed again too early. See [`Retention`]. Counter: `evicted`. At most 48 bytes
    /// each, whatever their length.
    pub entries_max: usize,
    /// Length of an id in UTF-16 units. Default 256. Longer ones are refused.
    pub id_units_max: usize,
    /// When ids leave.
    pub retention: Retention,
}

impl Default for DedupLimits {
    fn default() -> Self {
        Self {
            entries_max: 10_000,
            id_units_max: 256,
            retention: Retention::Prompt,
        }
    }
}

/// Counters of a [`Dedup`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DedupStats {
    /// Claims that came first.
    pub claimed: u64,
    /// Claims that were repeats.
    pub repeated: u64,
    /// Ids removed because their window was over.
    pub expired: u64,
    /// Ids removed to make room while their window lasted.
    pub evicted: u64,
    /// Calls refused because of their id.
    pub refused: u64,
}

/// Says of an id whether it is new, and remembers it for a fixed time since it was.
///
/// Not the id is kept but 128 bits of it, hashed under a secret key that comes from the caller's
/// source of randomness. A claim is refused by mistake when its hash meets that of another live
/// id. With a million live ids that has a chance of 10^6 / 2^128, or 3 in 10^33, per claim: at a
/// million claims a second it is expected once in 10^19 years. Half as many bits would mean 5 in
/// 10^14, a lost message every eight months. Without the key nobody can search for ids that meet.
///
/// # Cost
/// All methods O(1) but for the overflow of [`Retention::Slack`], plus hashing the id; no
/// allocation in the steady state. 32 bytes for an id and 5 to 10 bytes of index. All windows are
/// equally long, so ids expire in the order in which they were claimed.
///
/// # Example
/// ```
/// use core::time::Duration;
/// use millstream_core::{Millis, SeededRandom};
/// use millstream_flow::{Dedup, DedupLimits};
///
/// let at = Millis::from_millis;
/// let mut random = SeededRandom::new(1); // the operating system's in earnest
/// let mut seen = Dedup::new(Duration::from_secs(1), DedupLimits::default(), &mut random);
/// assert!(seen.claim(at(0), "order-7")?);
/// assert!(!seen.claim(at(999), "order-7")?);
/// assert!(seen.claim(at(1_000), "order-7")?);
/// # Ok::<(), millstream_flow::KeyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dedup {
    secret: [u64; 2],
    table: HashTable<u32>,
    claims: Arena<Claimed, 1>,
    age: Ends,
    clock: Clock,
    ttl: Duration,
    limits: DedupLimits,
    stats: DedupStats,
}

#[derive(Clone, Copy, Debug)]
struct Claimed {
    hash: [u64; 2],
    /// Milliseconds; a window ends after it began, so never at zero.
    ends_at: NonZeroU64,
}

impl Dedup {
    /// Without ids. `ttl` is rounded up to whole milliseconds, and at least one.
    #[must_use]
    pub fn new(ttl: Duration, limits: DedupLimits, random: &mut (impl Random + ?Sized)) -> Self {
        Self {
            secret: [random.next_u64(), random.next_u64()],
            table: HashTable::new(),
            claims: Arena::new(),
            age: Ends::EMPTY,
            clock: Clock::default(),
            ttl: ttl.max(Duration::from_millis(1)),
            limits,
            stats: DedupStats::default(),
        }
    }

    /// Whether this is the first claim of the id within the window, which it opens in that case.
    /// A repeat changes nothing.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn claim(&mut self, now: Millis, id: &str) -> Result<bool, KeyError> {
        let now = self.clock.advance(now);
        let hash = self.hash(id)?;
        if self.meet(now, hash).is_some() {
            self.stats.repeated += 1;
            return Ok(false);
        }
        self.stats.claimed += 1;
        let entries_max = self.limits.entries_max.max(1);
        let prompt = self.limits.retention == Retention::Prompt;
        if prompt {
            self.sweep(now, 2);
            if self.len() >= entries_max {
                self.evict();
            }
        }
        let ends_at = (now + self.ttl).as_millis();
        let ends_at = NonZeroU64::new(ends_at).unwrap_or(NonZeroU64::MIN);
        let index = self.claims.insert(Claimed { hash, ends_at });
        self.claims.link(0, &mut self.age, index);
        let claims = &self.claims;
        let rehash = |index: &u32| claims.get(*index).map_or(0, |claimed| claimed.hash[0]);
        self.table.insert_unique(hash[0], index, rehash);
        if !prompt && self.len() as u128 * 10 > entries_max as u128 * 11 {
            self.sweep(now, usize::MAX);
            while self.len() > entries_max {
                self.evict();
            }
        }
        Ok(true)
    }

    /// Whether the id was claimed and its window lasts.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn has(&mut self, now: Millis, id: &str) -> Result<bool, KeyError> {
        let now = self.clock.advance(now);
        let hash = self.hash(id)?;
        Ok(self.meet(now, hash).is_some())
    }

    /// Forgets an id, so that it can be claimed again. True if its window lasted.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn remove(&mut self, now: Millis, id: &str) -> Result<bool, KeyError> {
        let now = self.clock.advance(now);
        let hash = self.hash(id)?;
        let live = self.meet(now, hash);
        if let Some(index) = live {
            self.take(index);
        }
        Ok(live.is_some())
    }

    /// Removes expired ids, 1,024 at most; [`next_deadline`](Self::next_deadline) says whether
    /// there are more. With [`Retention::Slack`] it does nothing.
    pub fn handle_timeout(&mut self, now: Millis) {
        let now = self.clock.advance(now);
        if self.limits.retention == Retention::Prompt {
            self.sweep(now, TIMEOUT_BATCH);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; calling it late only costs
    /// memory. With [`Retention::Slack`] there is no such time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.limits.retention == Retention::Slack {
            return None;
        }
        let oldest = self.claims.get(self.age.first()?)?;
        Some(Millis::from_millis(oldest.ends_at.get()))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.table = HashTable::new();
        self.claims = Arena::new();
        self.age = Ends::EMPTY;
    }

    /// Ids, expired ones included that nobody has met.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.claims.len()
    }

    /// Whether there are no ids, not even expired ones.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> DedupStats {
        self.stats
    }

    fn hash(&mut self, id: &str) -> Result<[u64; 2], KeyError> {
        if let Err(error) = check(id, self.limits.id_units_max) {
            self.stats.refused += 1;
            return Err(error);
        }
        Ok(KeyedHash::of(self.secret, id.as_bytes()))
    }

    /// Finds a live id; removes it if it has expired.
    fn meet(&mut self, now: Millis, hash: [u64; 2]) -> Option<u32> {
        let claims = &self.claims;
        let is_id = |index: &u32| {
            claims
                .get(*index)
                .is_some_and(|claimed| claimed.hash == hash)
        };
        let index = *self.table.find(hash[0], is_id)?;
        if self.has_ended(index, now) {
            self.take(index);
            self.stats.expired += 1;
            return None;
        }
        Some(index)
    }

    fn has_ended(&self, index: u32, now: Millis) -> bool {
        let claimed = self.claims.get(index);
        claimed.is_some_and(|claimed| claimed.ends_at.get() <= now.as_millis())
    }

    fn sweep(&mut self, now: Millis, most: usize) {
        for _ in 0..most {
            match self.age.first() {
                Some(index) if self.has_ended(index, now) => {
                    self.take(index);
                    self.stats.expired += 1;
                }
                _ => return,
            }
        }
    }

    fn evict(&mut self) {
        if let Some(index) = self.age.first() {
            self.take(index);
            self.stats.evicted += 1;
        }
    }

    fn take(&mut self, index: u32) {
        self.claims.unlink(0, &mut self.age, index);
        let Some(claimed) = self.claims.remove(index) else {
            return;
        };
        let found = self
            .table
            .find_entry(claimed.hash[0], |other| *other == index);
        if let Ok(found) = found {
            found.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Place;
    use millstream_core::SeededRandom;

    fn at(ms: u64) -> Millis {
        Millis::from_millis(ms)
    }

    fn dedup(entries_max: usize, retention: Retention) -> Dedup {
        let limits = DedupLimits {
            entries_max,
            retention,
            ..Default::default()
        };
        Dedup::new(
            Duration::from_millis(100),
            limits,
            &mut SeededRandom::new(1),
        )
    }

    #[test]
    fn an_id_takes_thirty_two_bytes() {
        assert_eq!(size_of::<Place<Claimed, 1>>(), 32);
    }

    #[test]
    fn the_limit_is_exact_unless_slack_is_asked_for() {
        for (retention, expected) in [(Retention::Prompt, 10), (Retention::Slack, 11)] {
            let mut seen = dedup(10, retention);
            for n in 0..11 {
                assert_eq!(seen.claim(at(0), &n.to_string()), Ok(true));
            }
            assert_eq!(seen.len(), expected);
            assert_eq!(seen.claim(at(0), "x"), Ok(true));
            assert_eq!(seen.len(), 10);
            assert_eq!(
                (seen.has(at(0), "1"), seen.has(at(0), "2")),
                (Ok(false), Ok(true))
            );
            assert_eq!(seen.stats().evicted, 2);
        }
    }

    #[test]
    fn expired_ids_leave_as_time_passes() {
        let mut seen = dedup(5_000, Retention::Prompt);
        for n in 0..3_000 {
            let _ = seen.claim(at(0), &n.to_string());
        }
        let _ = seen.claim(at(100), "x");
        assert_eq!(seen.len(), 2_999);
        seen.handle_timeout(at(100));
        assert_eq!(seen.len(), 2_999 - TIMEOUT_BATCH);
        assert_eq!(seen.next_deadline(), Some(at(100)));
    }

    #[test]
    fn claiming_and_removing_in_a_loop_takes_no_memory() {
        let mut seen = dedup(10, Retention::Prompt);
        for _ in 0..10_000 {
            assert_eq!(seen.claim(at(0), "same"), Ok(true));
            assert_eq!(seen.remove(at(0), "same"), Ok(true));
        }
        assert!(seen.is_empty());
        assert_eq!(
            seen.claims.insert(Claimed {
                hash: [0; 2],
                ends_at: NonZeroU64::MIN
            }),
            0
        );
    }

    #[test]
    fn the_secret_decides_about_hashes_and_the_end_of_time_about_nothing() {
        let mut seen = dedup(10, Retention::Slack);
        let mut other = Dedup::new(
            Duration::ZERO,
            DedupLimits::default(),
            &mut SeededRandom::new(2),
        );
        assert_ne!(seen.hash("a"), other.hash("a"));
        assert_eq!(seen.claim(Millis::MAX, "a"), Ok(true));
        assert_eq!(seen.has(Millis::MAX, "a"), Ok(false));
        assert_eq!(seen.claim(at(0), ""), Err(KeyError::Empty));
    }
}
