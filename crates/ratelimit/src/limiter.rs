use millstream_core::Millis;

use crate::LimitKey;
use crate::error::{BanError, ConsumeError};
use crate::policy::{Decision, NEVER, Policy, State, whole_ms};
use crate::table::Table;

/// How much a [`Limiter`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Keys with a counter. Default 1,000,000. At the limit a counter that is over or was not used
    /// lately makes room (`evicted`). 43 to 86 bytes for each key, half as much again while the
    /// table grows.
    pub counters_max: usize,
    /// Bans in force. Default 100,000. At the limit a new one is refused (`bans_refused`): who runs
    /// out of points is then refused until the window ends, and not longer. Bytes as above.
    pub bans_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            counters_max: 1_000_000,
            bans_max: 100_000,
        }
    }
}

/// Decides for each call whether it may go on.
///
/// Give it a [`LimitKey`], the time and what the call costs. There is nothing to poll and no timer:
/// what is over is found when its key comes again, or when the hand of the clock comes by, which
/// moves on by [`SWEEP_SLOTS`] slots with every new key.
///
/// Times are those of one clock. One that goes back counts as standing still.
///
/// ```
/// use millstream_core::Millis;
/// use millstream_ratelimit::{FixedWindow, Keys, Limiter, Limits};
///
/// let keys = Keys::new([17, 4]);
/// let policy = FixedWindow::new(2, 1_000.0)?.with_block(5_000.0)?;
/// let mut limiter = Limiter::new(policy, Limits::default());
/// let (alice, now) = (keys.text("alice"), Millis::from_millis(0));
///
/// assert!(limiter.consume(alice, now, 1.0)?.allowed);
/// assert_eq!(limiter.consume(alice, now, 1.0)?.remaining, 0.0);
/// let refused = limiter.consume(alice, now, 1.0)?;
/// assert!(!refused.allowed);
/// assert_eq!(refused.retry_ms, 5_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Limiter<P> {
    policy: P,
    counters: Table,
    bans: Table,
    limits: Limits,
    now: Millis,
    stats: Stats,
}

impl<P: Policy> Limiter<P> {
    /// An empty one. Allocates nothing yet. Limits of zero count as one.
    #[must_use]
    pub fn new(policy: P, limits: Limits) -> Self {
        Self {
            policy,
            counters: Table::default(),
            bans: Table::default(),
            limits: Limits {
                counters_max: limits.counters_max.max(1),
                bans_max: limits.bans_max.max(1),
            },
            now: Millis::ZERO,
            stats: Stats::default(),
        }
    }

    /// Counts a call, and says whether it may go on. A call that is refused takes nothing.
    ///
    /// # Errors
    /// [`ConsumeError::Cost`] when the cost is no number, negative or infinite.
    ///
    /// # Cost
    /// Flat: one slot of 32 bytes is read and written, [`EVICT_SLOTS_MAX`] are looked at in the
    /// worst case. While there are bans, a slot of theirs too. A table that grows does so step by
    /// step.
    pub fn consume(
        &mut self,
        key: LimitKey,
        now: Millis,
        cost: f64,
    ) -> Result<Decision, ConsumeError> {
        if !(0.0..f64::INFINITY).contains(&cost) {
            return Err(ConsumeError::Cost);
        }
        let now_ms = self.advance(now);
        if self.bans.len() > 0
            && let Some(until_ms) = self.banned_until(key, now_ms)
        {
            return Ok(self.refuse_banned(key, now_ms, until_ms, cost));
        }
        let decision = match self.counters.find(key) {
            Some((_, state)) => self.policy.take(state, now_ms, cost),
            None => self.first(key, now_ms, cost),
        };
        if decision.allowed {
            self.stats.allowed += 1;
            return Ok(decision);
        }
        Ok(self.refuse(key, now_ms, decision))
    }

    /// Bans a key, or changes the end of its ban, also to an earlier one. Without a length: the
    /// block of the policy, or a minute. Infinite means for good; zero ends a ban. The counter of
    /// the key stays as it is.
    ///
    /// # Errors
    /// [`BanError`] when the length is negative or no number, or too many bans are in force.
    pub fn ban(
        &mut self,
        key: LimitKey,
        now: Millis,
        length_ms: Option<f64>,
    ) -> Result<(), BanError> {
        let now_ms = self.advance(now);
        let length_ms = length_ms.unwrap_or_else(|| match self.policy.block_ms() {
            0.0 => BAN_MS,
            block_ms => block_ms,
        });
        if length_ms.is_nan() || length_ms < 0.0 {
            return Err(BanError::Length);
        }
        if length_ms == 0.0 {
            self.unban(key);
            return Ok(());
        }
        self.set_ban(key, now_ms, now_ms + length_ms)
    }

    /// Ends a ban. The key's counter stays as it is.
    pub fn unban(&mut self, key: LimitKey) {
        if let Some((place, _)) = self.bans.find(key) {
            self.bans.remove(place);
        }
    }

    /// Forgets a key, its counter and its ban.
    pub fn reset(&mut self, key: LimitKey) {
        self.unban(key);
        if let Some((place, _)) = self.counters.find(key) {
            self.counters.remove(place);
        }
    }

    /// Forgets everything but the statistics, and gives the memory back.
    pub fn clear(&mut self) {
        self.counters.clear();
        self.bans.clear();
    }

    /// Looks at so many slots of counters and of bans and forgets what is over: for hosts that want
    /// the count of keys to fall while no new ones come. Gives how many it forgot.
    pub fn sweep(&mut self, now: Millis, slots: usize) -> usize {
        let now_ms = self.advance(now);
        let policy = &self.policy;
        let swept = self
            .counters
            .sweep(slots, |state| policy.is_spent(state, now_ms));
        self.stats.swept += swept as u64;
        swept + self.bans.sweep(slots, |ban| is_over(ban, now_ms))
    }

    /// The policy.
    #[must_use]
    pub const fn policy(&self) -> &P {
        &self.policy
    }

    /// Counters kept, some of which may be over.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether no counter is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.counters.len() == 0
    }

    /// Bans kept, some of which may be over.
    #[must_use]
    pub const fn bans_len(&self) -> usize {
        self.bans.len()
    }

    /// Bytes of the tables.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.counters.bytes() + self.bans.bytes()
    }

    /// What has happened so far.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The latest time that was seen, in milliseconds that a float holds exactly.
    fn advance(&mut self, now: Millis) -> f64 {
        self.now = self.now.max(now);
        // By way of a signed number, which is one instruction.
        self.now.as_millis().min(NOW_MS_MAX) as i64 as f64
    }

    /// A key without a counter.
    #[cold]
    fn first(&mut self, key: LimitKey, now_ms: f64, cost: f64) -> Decision {
        let policy = &self.policy;
        let spent = |state: State| policy.is_spent(state, now_ms);
        let swept = self.counters.sweep(SWEEP_SLOTS, spent);
        self.stats.swept += swept as u64;
        if self.counters.len() >= self.limits.counters_max {
            let gone = self.counters.evict(EVICT_SLOTS_MAX, spent);
            self.stats.swept += u64::from(gone);
            self.stats.evicted += u64::from(!gone);
        }
        let mut state = policy.fresh(now_ms);
        let decision = policy.take(&mut state, now_ms, cost);
        self.counters.insert(key, state);
        decision
    }

    /// Turns a refusal into a ban, if the policy says so and there is room.
    #[cold]
    fn refuse(&mut self, key: LimitKey, now_ms: f64, refused: Decision) -> Decision {
        self.stats.refused += 1;
        let block_ms = self.policy.block_ms();
        if block_ms == 0.0 || self.set_ban(key, now_ms, now_ms + block_ms).is_err() {
            return refused;
        }
        Decision {
            remaining: 0.0,
            reset_ms: block_ms,
            retry_ms: refused.retry_ms.max(whole_ms(block_ms)),
            ..refused
        }
    }

    #[cold]
    fn refuse_banned(&mut self, key: LimitKey, now_ms: f64, until_ms: f64, cost: f64) -> Decision {
        self.stats.refused += 1;
        let reset_ms = until_ms - now_ms;
        let state = self
            .counters
            .peek(key)
            .unwrap_or_else(|| self.policy.fresh(now_ms));
        let wait_ms = self.policy.wait_ms(state, now_ms, cost);
        let ban_ms = if reset_ms.is_finite() {
            whole_ms(reset_ms)
        } else {
            NEVER
        };
        Decision {
            allowed: false,
            remaining: 0.0,
            reset_ms,
            retry_ms: wait_ms.max(ban_ms),
        }
    }

    /// The end of a ban that is in force. One that is over is forgotten.
    fn banned_until(&mut self, key: LimitKey, now_ms: f64) -> Option<f64> {
        let (place, ban) = self.bans.find(key)?;
        let ban = *ban;
        if is_over(ban, now_ms) {
            self.bans.remove(place);
            return None;
        }
        Some(f64::from_bits(ban[0]))
    }

    fn set_ban(&mut self, key: LimitKey, now_ms: f64, until_ms: f64) -> Result<(), BanError> {
        let ban = [until_ms.to_bits(), 0];
        if let Some((_, present)) = self.bans.find(key) {
            *present = ban;
            return Ok(());
        }
        self.bans.sweep(SWEEP_SLOTS, |ban| is_over(ban, now_ms));
        let limit = self.limits.bans_max;
        if self.bans.len() >= limit {
            self.bans.sweep(EVICT_SLOTS_MAX, |ban| is_over(ban, now_ms));
        }
        if self.bans.len() >= limit {
            self.stats.bans_refused += 1;
            return Err(BanError::Full { limit });
        }
        self.bans.insert(key, ban);
        self.stats.bans += 1;
        Ok(())
    }
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that may go on.
    pub allowed: u64,
    /// Calls that may not.
    pub refused: u64,
    /// Bans that began.
    pub bans: u64,
    /// Bans that did not, for there were `bans_max`.
    pub bans_refused: u64,
    /// Counters forgotten when they were over.
    pub swept: u64,
    /// Counters forgotten before, for there were `counters_max`: their keys have all points again.
    pub evicted: u64,
}

/// Slots that every new key sweeps.
pub const SWEEP_SLOTS: usize = 4;

/// Slots that a call looks at to make room.
pub const EVICT_SLOTS_MAX: usize = 64;

/// How long a ban is when nobody says.
const BAN_MS: f64 = 60_000.0;

/// 2^53: up to it a float holds every millisecond.
const NOW_MS_MAX: u64 = 1 << 53;

fn is_over(ban: State, now_ms: f64) -> bool {
    f64::from_bits(ban[0]) <= now_ms
}
