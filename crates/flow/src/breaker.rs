//! Stops asking somebody who fails again and again.

use core::time::Duration;

use millstream_core::Millis;

use crate::clock::Clock;

/// When a [`Breaker`] opens and when it tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open it. Default 5; zero counts as one.
    pub failures: u32,
    /// How long it stays open before one attempt is let through. Default 30 s. `None`: until
    /// [`reset`](Breaker::reset).
    pub cool_down: Option<Duration>,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            cool_down: Some(Duration::from_secs(30)),
        }
    }
}

/// What a [`Breaker`] thinks of whom it guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a breaker has three states")]
pub enum BreakerState {
    /// Attempts pass.
    Healthy,
    /// Nothing passes.
    Broken,
    /// One attempt is under way that decides.
    Probing,
}

/// The right to make one attempt. Give it back with what came of it, or the probe it may be
/// keeps all others out.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a probe that is never settled keeps the breaker closed to everybody"]
pub struct Permit {
    /// Attempts of an earlier round say nothing about this one.
    round: u64,
    probe: bool,
}

/// Counters of a [`Breaker`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerStats {
    /// Attempts let through.
    pub permitted: u64,
    /// Attempts refused.
    pub refused: u64,
    /// Times it opened, after probes included.
    pub opened: u64,
}

/// Stops asking somebody who fails again and again, and finds out when that is over.
///
/// ```text
/// healthy -- failures in a row --> broken -- cool-down --> probing -- success --> healthy
///                                    ^                        |
///                                    +------- failure --------+
/// ```
///
/// A success while healthy resets the count. Attempts that began before the last change of state
/// and end after it change nothing.
///
/// # Cost
/// All methods O(1), no allocation; 80 bytes.
///
/// # Example
/// ```
/// use core::time::Duration;
/// use millstream_core::Millis;
/// use millstream_flow::{Breaker, BreakerConfig, BreakerState};
///
/// let at = Millis::from_millis;
/// let config = BreakerConfig { failures: 1, cool_down: Some(Duration::from_secs(1)) };
/// let mut breaker = Breaker::new(config);
/// let permit = breaker.try_acquire(at(0)).unwrap();
/// breaker.failure(at(5), permit);
/// assert!(breaker.try_acquire(at(1_004)).is_none());
/// let probe = breaker.try_acquire(at(1_005)).unwrap();
/// assert!(breaker.try_acquire(at(1_006)).is_none(), "one probe at a time");
/// breaker.success(probe);
/// assert_eq!(breaker.state(), BreakerState::Healthy);
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    clock: Clock,
    state: State,
    round: u64,
    stats: BreakerStats,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Healthy {
        failures: u32,
    },
    Broken {
        /// `None`: not by itself.
        until: Option<Millis>,
    },
    Probing,
}

impl Breaker {
    /// A healthy one.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            clock: Clock::default(),
            state: State::Healthy { failures: 0 },
            round: 0,
            stats: BreakerStats::default(),
        }
    }

    /// The right to an attempt; `None` while broken, and while somebody else probes.
    pub fn try_acquire(&mut self, now: Millis) -> Option<Permit> {
        let now = self.clock.advance(now);
        let probe = match self.state {
            State::Healthy { .. } => false,
            State::Broken { until: Some(until) } if until <= now => {
                self.enter(State::Probing);
                true
            }
            State::Broken { .. } | State::Probing => {
                self.stats.refused += 1;
                return None;
            }
        };
        self.stats.permitted += 1;
        Some(Permit {
            round: self.round,
            probe,
        })
    }

    /// The attempt has succeeded.
    pub fn success(&mut self, permit: Permit) {
        if permit.round == self.round {
            match &mut self.state {
                State::Healthy { failures } => *failures = 0,
                _ => self.enter(State::Healthy { failures: 0 }),
            }
        }
    }

    /// The attempt has failed.
    pub fn failure(&mut self, now: Millis, permit: Permit) {
        let now = self.clock.advance(now);
        if permit.round != self.round {
            return;
        }
        if let State::Healthy { failures } = &mut self.state {
            *failures += 1;
            if *failures < self.config.failures.max(1) {
                return;
            }
        }
        self.stats.opened += 1;
        let until = self.config.cool_down.map(|time| now + time);
        self.enter(State::Broken { until });
    }

    /// The attempt says nothing: it was given up, or refused before it got there. The next one
    /// may probe at once if this one did.
    pub fn release(&mut self, now: Millis, permit: Permit) {
        let now = self.clock.advance(now);
        if permit.probe && permit.round == self.round {
            self.enter(State::Broken { until: Some(now) });
        }
    }

    /// Healthy again, whatever it was.
    pub fn reset(&mut self) {
        self.enter(State::Healthy { failures: 0 });
    }

    /// Milliseconds until an attempt may be let through, as far as that is known.
    #[must_use]
    pub fn retry_ms(&self, now: Millis) -> Option<u64> {
        match self.state {
            State::Healthy { .. } => Some(0),
            State::Broken { until: Some(until) } => {
                let wait = until.saturating_since(now);
                u64::try_from(wait.as_millis()).ok()
            }
            State::Broken { until: None } | State::Probing => None,
        }
    }

    /// The present state. Broken lasts until somebody asks after the cool-down.
    #[must_use]
    pub const fn state(&self) -> BreakerState {
        match self.state {
            State::Healthy { .. } => BreakerState::Healthy,
            State::Broken { .. } => BreakerState::Broken,
            State::Probing => BreakerState::Probing,
        }
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> BreakerStats {
        self.stats
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Millis {
        Millis::from_millis(ms)
    }

    fn breaker(failures: u32, cool_down_ms: Option<u64>) -> Breaker {
        Breaker::new(BreakerConfig {
            failures,
            cool_down: cool_down_ms.map(Duration::from_millis),
        })
    }

    fn fail(breaker: &mut Breaker, ms: u64) {
        let permit = breaker.try_acquire(at(ms)).expect("not open");
        breaker.failure(at(ms), permit);
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let mut breaker = breaker(3, None);
        fail(&mut breaker, 0);
        fail(&mut breaker, 0);
        let permit = breaker.try_acquire(at(0)).unwrap();
        breaker.success(permit);
        fail(&mut breaker, 0);
        fail(&mut breaker, 0);
        assert_eq!(breaker.state(), BreakerState::Healthy);
        fail(&mut breaker, 0);
        assert_eq!(breaker.state(), BreakerState::Broken);
        assert_eq!(breaker.try_acquire(Millis::MAX), None, "until reset");
        breaker.reset();
        assert!(breaker.try_acquire(at(0)).is_some());
        assert_eq!(breaker.stats().opened, 1);
    }

    #[test]
    fn one_probe_decides() {
        let mut breaker = breaker(1, Some(100));
        fail(&mut breaker, 0);
        assert_eq!(breaker.retry_ms(at(40)), Some(60));
        assert_eq!(breaker.try_acquire(at(99)), None);
        let probe = breaker.try_acquire(at(100)).unwrap();
        assert_eq!(breaker.state(), BreakerState::Probing);
        assert_eq!(breaker.try_acquire(at(500)), None);
        breaker.failure(at(500), probe);
        assert_eq!(breaker.try_acquire(at(599)), None);
        let probe = breaker.try_acquire(at(600)).unwrap();
        breaker.success(probe);
        assert_eq!(breaker.state(), BreakerState::Healthy);
        assert_eq!(breaker.stats().opened, 2);
    }

    #[test]
    fn a_probe_that_is_given_up_makes_way_for_the_next() {
        let mut breaker = breaker(1, Some(100));
        fail(&mut breaker, 0);
        let probe = breaker.try_acquire(at(100)).unwrap();
        breaker.release(at(150), probe);
        let probe = breaker.try_acquire(at(150)).unwrap();
        breaker.success(probe);
        let permit = breaker.try_acquire(at(150)).unwrap();
        breaker.release(at(150), permit);
        assert_eq!(breaker.state(), BreakerState::Healthy);
    }

    #[test]
    fn attempts_of_an_earlier_round_change_nothing() {
        let mut breaker = breaker(1, Some(100));
        let slow = breaker.try_acquire(at(0)).unwrap();
        let slower = breaker.try_acquire(at(0)).unwrap();
        fail(&mut breaker, 0);
        breaker.success(slow);
        assert_eq!(breaker.state(), BreakerState::Broken);
        let probe = breaker.try_acquire(at(100)).unwrap();
        breaker.failure(at(100), slower);
        assert_eq!(breaker.state(), BreakerState::Probing);
        breaker.success(probe);
        assert_eq!(breaker.state(), BreakerState::Healthy);
    }

    #[test]
    fn zero_failures_count_as_one_and_time_that_runs_back_stands_still() {
        let mut breaker = breaker(0, Some(50));
        fail(&mut breaker, 1_000);
        assert_eq!(breaker.try_acquire(at(10)), None);
        assert!(breaker.try_acquire(at(1_050)).is_some());
        let mut forever = Breaker::new(BreakerConfig {
            failures: 1,
            cool_down: Some(Duration::MAX),
        });
        fail(&mut forever, u64::MAX);
        assert!(forever.retry_ms(at(0)).is_some());
    }
}
