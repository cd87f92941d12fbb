//! Data by token, for as long as the token keeps being used.

use core::time::Duration;

use millstream_core::Millis;

use crate::TIMEOUT_BATCH;
use crate::arena::Ends;
use crate::clock::Clock;
use crate::keyed::Keyed;
use crate::name::{KeyError, check};
use crate::weigh::Weigh;

/// When entries leave that nobody looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// Expired entries leave as time passes. At the limit a new entry takes the place of the one
    /// that was used least recently. Every call does a constant amount of work.
    #[default]
    Prompt,
    /// As the JavaScript original does: expired entries stay, and count, until somebody asks for
    /// them. When there are more than 110 % of the limit, all expired ones go, and then those
    /// written longest ago until the limit holds; reading saves nothing. That call costs O(entries
    /// removed), which is O(1) amortised, since every entry is removed once.
    Slack,
}

/// Bounds of a [`SessionStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Entries at once. Default 10,000; with 0 every set is refused. See [`Retention`].
    /// Counter: `evicted`.
    pub entries_max: usize,
    /// Length of a token in UTF-16 units. Default 1,024. Longer ones are refused.
    pub token_units_max: usize,
    /// Bytes of all tokens and values. Default 64 MiB. The next victims of `retention` go until a
    /// new value fits; one that does not fit alone is refused. Counter: `evicted`.
    pub bytes_max: usize,
    /// Who leaves first.
    pub retention: Retention,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            entries_max: 10_000,
            token_units_max: 1_024,
            bytes_max: 64 << 20,
            retention: Retention::Prompt,
        }
    }
}

/// An entry was refused and its value dropped; nothing else happened. Counter: `refused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The token.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The limit of entries is zero.
    #[error("no entries are admitted")]
    Full,
    /// Token and value alone exceed the budget.
    #[error("token and value of {bytes} bytes do not fit into the budget of {bytes_max}")]
    NoRoom {
        /// Token and value.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// Counters of a [`SessionStore`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Values stored.
    pub set: u64,
    /// Reads and touches of live entries.
    pub hits: u64,
    /// Reads and touches of missing and expired ones.
    pub misses: u64,
    /// Entries removed because their time was over.
    pub expired: u64,
    /// Entries removed to make room while they were live.
    pub evicted: u64,
    /// Sets refused.
    pub refused: u64,
}

/// Values by token, each of which lives for a time since it was last used.
///
/// An entry is live while `now` is before its end; a set, a get and a touch put the end at
/// `now + ttl`.
///
/// # Cost
/// All methods O(1) but for the overflow of [`Retention::Slack`]; get and touch allocate nothing.
/// Every entry lives equally long since its last use, so the list by last use is also the list by
/// expiry, and its front is the next to expire and the least recently used. 72 bytes for an entry
/// of [`bytes::Bytes`] plus its token and 5 to 10 bytes of index. When the index grows it is
/// copied once, as in any hash table.
///
/// # Example
/// ```
/// use core::time::Duration;
/// use millstream_core::Millis;
/// use millstream_flow::{SessionLimits, SessionStore};
///
/// let at = Millis::from_millis;
/// let mut sessions = SessionStore::new(Duration::from_secs(60), SessionLimits::default());
/// sessions.set(at(0), "token", "alice")?;
/// assert_eq!(sessions.get(at(59_999), "token")?, Some(&"alice")); // lives another minute
/// assert_eq!(sessions.get(at(119_999), "token")?, None);
/// # Ok::<(), millstream_flow::SessionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SessionStore<V> {
    keyed: Keyed<Box<str>, Entry<V>, 2>,
    written: Ends,
    used: Ends,
    clock: Clock,
    ttl: Duration,
    bytes: usize,
    /// Entries known to be expired: those with an end not after `counted_at`, a prefix of `used`.
    expired: usize,
    counted_at: Millis,
    /// The first entry behind that prefix.
    border: Option<u32>,
    limits: SessionLimits,
    stats: SessionStats,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry<V> {
    ends_at: Millis,
    value: V,
}

const WRITTEN: usize = 0;
const USED: usize = 1;

/// Expired entries a set removes on its way, so that they go faster than new ones come.
const SWEEP: usize = 2;

impl<V: Weigh> SessionStore<V> {
    /// An empty store. `ttl` is rounded up to whole milliseconds, and at least one.
    #[must_use]
    pub fn new(ttl: Duration, limits: SessionLimits) -> Self {
        Self {
            keyed: Keyed::new(),
            written: Ends::EMPTY,
            used: Ends::EMPTY,
            clock: Clock::default(),
            ttl: ttl.max(Duration::from_millis(1)),
            bytes: 0,
            expired: 0,
            counted_at: Millis::ZERO,
            border: None,
            limits,
            stats: SessionStats::default(),
        }
    }

    /// Stores the value of a token, in the place of an older one.
    ///
    /// # Errors
    /// [`SessionError`]; the value is dropped and nothing else happened.
    pub fn set(&mut self, now: Millis, token: &str, value: V) -> Result<(), SessionError> {
        let now = self.clock.advance(now);
        let bytes = token.len().saturating_add(value.weight());
        if let Err(error) = self.check(token, bytes) {
            self.stats.refused += 1;
            return Err(error);
        }
        self.stats.set += 1;
        if self.limits.retention == Retention::Prompt {
            self.sweep(now, SWEEP);
        }
        let ends_at = now + self.ttl;
        if let Some(index) = self.keyed.find(token) {
            self.replace(index, ends_at, value);
        } else {
            if self.limits.retention == Retention::Prompt && self.len() >= self.limits.entries_max {
                self.evict(self.used.first());
            }
            self.bytes += bytes;
            let index = self.keyed.insert(token.into(), Entry { ends_at, value });
            self.keyed.link(WRITTEN, &mut self.written, index);
            self.link_used(index, ends_at);
        }
        self.settle(now);
        Ok(())
    }

    fn check(&self, token: &str, bytes: usize) -> Result<(), SessionError> {
        check(token, self.limits.token_units_max)?;
        if self.limits.entries_max == 0 {
            return Err(SessionError::Full);
        }
        let bytes_max = self.limits.bytes_max;
        if bytes > bytes_max {
            return Err(SessionError::NoRoom { bytes, bytes_max });
        }
        Ok(())
    }

    fn replace(&mut self, index: u32, ends_at: Millis, value: V) {
        self.unlink_used(index);
        if let Some(entry) = self.keyed.get_mut(index) {
            self.bytes += value.weight();
            self.bytes -= core::mem::replace(&mut entry.value, value).weight();
            entry.ends_at = ends_at;
        }
        self.keyed.move_back(WRITTEN, &mut self.written, index);
        self.link_used(index, ends_at);
    }

    /// Holds the limits after a set, whose entry is the last to go.
    fn settle(&mut self, now: Millis) {
        let entries_max = self.limits.entries_max;
        let slack = self.limits.retention == Retention::Slack;
        // 110 %, without fractions and without overflow.
        if slack && self.len() as u128 * 10 > entries_max as u128 * 11 {
            self.sweep(now, usize::MAX);
            while self.len() > entries_max {
                self.evict(self.written.first());
            }
        }
        while self.bytes > self.limits.bytes_max {
            let victims = if slack { self.written } else { self.used };
            self.evict(victims.first());
        }
    }

    /// The value of a live token, whose life this extends.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn get(&mut self, now: Millis, token: &str) -> Result<Option<&V>, KeyError> {
        let used = self.use_now(now, token)?;
        Ok(used
            .and_then(|index| self.keyed.get(index))
            .map(|entry| &entry.value))
    }

    /// Extends the life of a token. False if it is not live.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn touch(&mut self, now: Millis, token: &str) -> Result<bool, KeyError> {
        Ok(self.use_now(now, token)?.is_some())
    }

    fn use_now(&mut self, now: Millis, token: &str) -> Result<Option<u32>, KeyError> {
        let now = self.clock.advance(now);
        let live = self.meet(now, token)?;
        let Some(index) = live else {
            self.stats.misses += 1;
            return Ok(None);
        };
        self.stats.hits += 1;
        let ends_at = now + self.ttl;
        self.unlink_used(index);
        if let Some(entry) = self.keyed.get_mut(index) {
            entry.ends_at = ends_at;
        }
        self.link_used(index, ends_at);
        Ok(live)
    }

    /// Removes a token; gives its value if it was live.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn remove(&mut self, now: Millis, token: &str) -> Result<Option<V>, KeyError> {
        let now = self.clock.advance(now);
        let live = self.meet(now, token)?;
        Ok(live.and_then(|index| self.take(index)))
    }

    /// Finds a live token; removes it if it has expired.
    fn meet(&mut self, now: Millis, token: &str) -> Result<Option<u32>, KeyError> {
        check(token, self.limits.token_units_max)?;
        let found = self.keyed.find(token);
        if let Some(index) = found
            && self.has_ended(index, now)
        {
            self.take(index);
            self.stats.expired += 1;
            return Ok(None);
        }
        Ok(found)
    }

    /// Removes expired entries, 1,024 at most; [`next_deadline`](Self::next_deadline) says whether
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
        self.keyed
            .get(self.used.first()?)
            .map(|entry| entry.ends_at)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.keyed = Keyed::new();
        (self.written, self.used) = (Ends::EMPTY, Ends::EMPTY);
        (self.bytes, self.expired, self.border) = (0, 0, None);
    }

    /// Entries, expired ones included that nobody has met.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keyed.len()
    }

    /// Whether there are no entries, not even expired ones.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries that are live at `now`. O(1) amortised: it looks at each expiry once.
    #[must_use]
    pub fn live_len(&mut self, now: Millis) -> usize {
        let now = self.clock.advance(now);
        self.counted_at = now;
        while let Some(index) = self.border
            && self.has_ended(index, now)
        {
            self.expired += 1;
            self.border = self.keyed.next(USED, index);
        }
        self.len() - self.expired
    }

    /// Bytes of tokens and values.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> SessionStats {
        self.stats
    }

    fn has_ended(&self, index: u32, now: Millis) -> bool {
        let entry = self.keyed.get(index);
        entry.is_some_and(|entry| entry.ends_at <= now)
    }

    fn sweep(&mut self, now: Millis, most: usize) {
        for _ in 0..most {
            match self.used.first() {
                Some(index) if self.has_ended(index, now) => {
                    self.take(index);
                    self.stats.expired += 1;
                }
                _ => return,
            }
        }
    }

    fn evict(&mut self, victim: Option<u32>) {
        if let Some(index) = victim {
            self.take(index);
            self.stats.evicted += 1;
        }
    }

    fn take(&mut self, index: u32) -> Option<V> {
        self.keyed.unlink(WRITTEN, &mut self.written, index);
        self.unlink_used(index);
        let (token, entry) = self.keyed.remove(index)?;
        self.bytes -= token.len() + entry.value.weight();
        Some(entry.value)
    }

    /// Puts an entry behind all others, which end no later.
    fn link_used(&mut self, index: u32, ends_at: Millis) {
        self.keyed.link(USED, &mut self.used, index);
        if ends_at <= self.counted_at {
            self.expired += 1;
        } else if self.border.is_none() {
            self.border = Some(index);
        }
    }

    fn unlink_used(&mut self, index: u32) {
        if self.has_ended(index, self.counted_at) {
            self.expired -= 1;
        } else if self.border == Some(index) {
            self.border = self.keyed.next(USED, index);
        }
        self.keyed.unlink(USED, &mut self.used, index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Millis {
        Millis::from_millis(ms)
    }

    fn store(entries_max: usize, retention: Retention) -> SessionStore<u32> {
        let limits = SessionLimits {
            entries_max,
            retention,
            ..Default::default()
        };
        SessionStore::new(Duration::from_millis(100), limits)
    }

    #[test]
    fn those_in_use_survive() {
        let mut sessions = store(3, Retention::Prompt);
        for (n, token) in (0..).zip(["a", "b", "c"]) {
            assert_eq!(sessions.set(at(0), token, n), Ok(()));
        }
        assert_eq!(sessions.touch(at(1), "a"), Ok(true));
        assert_eq!(sessions.set(at(2), "d", 3), Ok(()));
        assert_eq!(sessions.get(at(2), "b"), Ok(None));
        assert_eq!(sessions.get(at(2), "a"), Ok(Some(&0)));
        assert_eq!((sessions.len(), sessions.stats().evicted), (3, 1));
    }

    #[test]
    fn expired_entries_leave_a_few_at_a_time() {
        let mut sessions = store(100, Retention::Prompt);
        for n in 0..10 {
            let _ = sessions.set(at(0), &n.to_string(), n);
        }
        assert_eq!(sessions.next_deadline(), Some(at(100)));
        let _ = sessions.set(at(100), "x", 0);
        assert_eq!((sessions.len(), sessions.live_len(at(100))), (9, 1));
        sessions.handle_timeout(at(100));
        assert_eq!((sessions.len(), sessions.stats().expired), (1, 10));
    }

    #[test]
    fn live_entries_are_counted_without_a_pass() {
        let mut sessions = store(100, Retention::Slack);
        for n in 0..10 {
            let _ = sessions.set(at(n), &n.to_string(), 0);
        }
        assert_eq!(sessions.live_len(at(104)), 5);
        assert_eq!(sessions.touch(at(104), "9"), Ok(true));
        assert_eq!(sessions.remove(at(104), "0"), Ok(None));
        assert_eq!(sessions.remove(at(104), "5"), Ok(Some(0)));
        assert_eq!((sessions.len(), sessions.live_len(at(104))), (8, 4));
        let _ = sessions.set(at(105), "1", 1);
        assert_eq!(sessions.live_len(at(109)), 2);
        assert_eq!(sessions.live_len(at(1_000)), 0);
        let _ = sessions.set(at(1_000), "1", 1);
        assert_eq!(sessions.live_len(at(1_000)), 1);
        assert_eq!(sessions.next_deadline(), None);
    }

    #[test]
    fn bytes_are_bounded() {
        let limits = SessionLimits {
            bytes_max: 10,
            ..Default::default()
        };
        let mut sessions = SessionStore::new(Duration::from_secs(1), limits);
        for token in ["a", "b", "c"] {
            let _ = sessions.set(at(0), token, "12".to_owned());
        }
        let _ = sessions.set(at(0), "b", "12345".to_owned());
        assert_eq!((sessions.len(), sessions.bytes()), (2, 9));
        assert_eq!(sessions.get(at(0), "a"), Ok(None));
        let heavy = sessions.set(at(0), "b", "1234567890".to_owned());
        assert_eq!(
            heavy,
            Err(SessionError::NoRoom {
                bytes: 11,
                bytes_max: 10
            })
        );
        assert!(sessions.get(at(0), "b").is_ok_and(|value| value.is_some()));
        sessions.clear();
        assert_eq!((sessions.bytes(), sessions.live_len(at(0))), (0, 0));
    }

    #[test]
    fn hostile_tokens_and_the_end_of_time() {
        let mut sessions = store(2, Retention::Slack);
        let long = "x".repeat(1_000_000);
        let error = KeyError::TooLong {
            units: 1_000_000,
            units_max: 1_024,
        };
        assert_eq!(sessions.set(at(0), &long, 0), Err(error.into()));
        assert_eq!(sessions.get(at(0), ""), Err(KeyError::Empty));
        assert_eq!(sessions.set(Millis::MAX, "a", 0), Ok(()));
        assert_eq!(sessions.live_len(Millis::MAX), 0);
        assert_eq!(sessions.set(Millis::MAX, "a", 0), Ok(()));
        assert_eq!(sessions.live_len(Millis::MAX), 0);
        assert_eq!(sessions.get(Millis::MAX, "a"), Ok(None));
        assert_eq!(
            store(0, Retention::Prompt).set(at(0), "a", 0),
            Err(SessionError::Full)
        );
    }
}
