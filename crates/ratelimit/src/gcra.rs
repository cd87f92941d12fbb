use crate::error::ConfigError;
use crate::policy::{Decision, NEVER, Policy, State, positive};

/// The generic cell rate algorithm: a steady rate with bursts, from one number for each key, the
/// theoretical arrival time of the next call. What ATM networks used (ITU-T I.371); the same as a
/// leaky bucket that is never refilled by a timer.
///
/// Smooth where windows are not: there is no edge at which twice the points pass, and points come
/// back one by one. A fresh key has a whole burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    /// Nanoseconds that one point costs.
    point_ns: u64,
    /// How far the arrival time may run ahead.
    burst_ns: u64,
}

const NS_PER_MS: u64 = 1_000_000;

/// 279 years after the origin time stands still, so that nanoseconds do not overflow.
const NOW_MS_MAX: u64 = 1 << 43;

impl Gcra {
    /// So many points for each interval, and as many at once at most.
    ///
    /// # Errors
    /// [`ConfigError::NotPositive`] when there are no points or the interval is not above zero and
    /// finite, [`ConfigError::TooFast`] when a point would come back in less than a nanosecond.
    pub fn new(points: u32, interval_ms: f64) -> Result<Self, ConfigError> {
        let points = positive("points", points.into())?;
        let interval_ns = positive("interval_ms", interval_ms)? * NS_PER_MS as f64;
        if interval_ns < points {
            return Err(ConfigError::TooFast);
        }
        // Rounded up, so that the rate is never above what was asked for.
        let point_ns = (interval_ns / points).ceil() as u64;
        Ok(Self {
            point_ns,
            burst_ns: point_ns.saturating_mul(points as u64),
        })
    }

    /// So many points at once at most, whatever the interval gives.
    ///
    /// # Errors
    /// [`ConfigError::NotPositive`] for 0.
    pub fn with_burst(mut self, points: u32) -> Result<Self, ConfigError> {
        positive("burst", points.into())?;
        self.burst_ns = self.point_ns.saturating_mul(points.into());
        Ok(self)
    }

    /// The time now, and how far the arrival time is ahead of it.
    fn ahead(&self, state: State, now_ms: f64) -> (u64, u64) {
        let now_ns = (now_ms as u64).min(NOW_MS_MAX) * NS_PER_MS;
        (now_ns, state[0].saturating_sub(now_ns))
    }

    fn cost_ns(&self, cost: f64) -> u64 {
        (cost * self.point_ns as f64).ceil() as u64
    }
}

impl Policy for Gcra {
    fn fresh(&self, _now_ms: f64) -> State {
        [0; 2]
    }

    fn take(&self, state: &mut State, now_ms: f64, cost: f64) -> Decision {
        let (now_ns, ahead_ns) = self.ahead(*state, now_ms);
        let after_ns = ahead_ns.saturating_add(self.cost_ns(cost));
        let allowed = after_ns <= self.burst_ns;
        let ahead_ns = if allowed { after_ns } else { ahead_ns };
        state[0] = now_ns.saturating_add(ahead_ns);
        Decision {
            allowed,
            remaining: (self.burst_ns.saturating_sub(ahead_ns) / self.point_ns) as f64,
            reset_ms: ahead_ns as f64 / NS_PER_MS as f64,
            retry_ms: if allowed {
                0
            } else {
                self.wait_ms(*state, now_ms, cost)
            },
        }
    }

    fn wait_ms(&self, state: State, now_ms: f64, cost: f64) -> u64 {
        let cost_ns = self.cost_ns(cost);
        if cost_ns > self.burst_ns {
            return NEVER;
        }
        let (_, ahead_ns) = self.ahead(state, now_ms);
        let over_ns = ahead_ns
            .saturating_add(cost_ns)
            .saturating_sub(self.burst_ns);
        over_ns.div_ceil(NS_PER_MS)
    }

    fn is_spent(&self, state: State, now_ms: f64) -> bool {
        self.ahead(state, now_ms).1 == 0
    }
}
