use crate::error::ConfigError;
use crate::policy::{Decision, NEVER, Policy, State, positive, whole_ms};

/// A window that the first call opens: so many points until it ends, and all of them again at the
/// first call after that. Optionally, who runs out of points is banned.
///
/// The contract of the JavaScript original (svelte-adapter-uws 0.5.1), arithmetic included. Twice
/// the points can pass within a moment, at the end of one window and the start of the next; where
/// that matters, take [`TwoWindow`](crate::TwoWindow) or [`Gcra`](crate::Gcra).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedWindow {
    points: f64,
    interval_ms: f64,
    block_ms: f64,
}

impl FixedWindow {
    /// So many points for each interval.
    ///
    /// # Errors
    /// [`ConfigError::NotPositive`] when there are no points or the interval is not above zero and
    /// finite.
    pub fn new(points: u64, interval_ms: f64) -> Result<Self, ConfigError> {
        Ok(Self {
            points: positive("points", points as f64)?,
            interval_ms: positive("interval_ms", interval_ms)?,
            block_ms: 0.0,
        })
    }

    /// Bans a key for so long when it asks for more than is left. 0 bans nobody, the default.
    ///
    /// # Errors
    /// [`ConfigError::Negative`] when the time is negative or not finite.
    pub fn with_block(mut self, block_ms: f64) -> Result<Self, ConfigError> {
        if !(block_ms.is_finite() && block_ms >= 0.0) {
            return Err(ConfigError::Negative { name: "block_ms" });
        }
        self.block_ms = block_ms;
        Ok(self)
    }

    /// How long a window lasts.
    #[must_use]
    pub const fn interval_ms(&self) -> f64 {
        self.interval_ms
    }

    /// Points left and the end of the window, as of now.
    fn open(&self, state: State, now_ms: f64) -> (f64, f64) {
        let [points, reset_ms] = state.map(f64::from_bits);
        if reset_ms <= now_ms {
            (self.points, now_ms + self.interval_ms)
        } else {
            (points, reset_ms)
        }
    }
}

impl Policy for FixedWindow {
    fn fresh(&self, now_ms: f64) -> State {
        [self.points, now_ms + self.interval_ms].map(f64::to_bits)
    }

    fn take(&self, state: &mut State, now_ms: f64, cost: f64) -> Decision {
        let (points, reset_at_ms) = self.open(*state, now_ms);
        let allowed = points >= cost;
        let remaining = if allowed { points - cost } else { points };
        *state = [remaining, reset_at_ms].map(f64::to_bits);
        let reset_ms = reset_at_ms - now_ms;
        let retry_ms = match allowed {
            true => 0,
            false if cost > self.points => NEVER,
            false => whole_ms(reset_ms),
        };
        Decision {
            allowed,
            remaining,
            reset_ms,
            retry_ms,
        }
    }

    fn wait_ms(&self, mut state: State, now_ms: f64, cost: f64) -> u64 {
        self.take(&mut state, now_ms, cost).retry_ms
    }

    fn is_spent(&self, state: State, now_ms: f64) -> bool {
        f64::from_bits(state[1]) <= now_ms
    }

    fn block_ms(&self) -> f64 {
        self.block_ms
    }
}
