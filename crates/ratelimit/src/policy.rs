use crate::error::ConfigError;

/// How calls are counted. The table keeps 16 bytes for each key; what they mean is the policy's
/// business. All times are milliseconds of one clock that does not go back.
///
/// Implemented by [`FixedWindow`](crate::FixedWindow), [`TwoWindow`](crate::TwoWindow) and
/// [`Gcra`](crate::Gcra).
pub trait Policy {
    /// What is kept for a key that was never seen.
    fn fresh(&self, now_ms: f64) -> State;

    /// Takes `cost` when it fits, and takes nothing when it does not. `cost` is finite and not
    /// negative.
    fn take(&self, state: &mut State, now_ms: f64, cost: f64) -> Decision;

    /// In how many whole milliseconds `cost` would fit, when nobody takes anything until then: 0
    /// for now, [`NEVER`] for never.
    fn wait_ms(&self, state: State, now_ms: f64, cost: f64) -> u64;

    /// Whether the state says no more than a fresh one, so that it may be forgotten.
    fn is_spent(&self, state: State, now_ms: f64) -> bool;

    /// For how many milliseconds a refused key is banned; 0 for not at all.
    fn block_ms(&self) -> f64 {
        0.0
    }
}

/// What the table keeps for one key.
pub type State = [u64; 2];

/// There is no time after which it would be admitted.
pub const NEVER: u64 = u64::MAX;

/// What became of one call.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct Decision {
    /// Whether it may go on.
    pub allowed: bool,
    /// How much is left: points of the window, or calls that would be admitted now. 0 during a ban.
    pub remaining: f64,
    /// Milliseconds until the window ends, or the ban. What the JavaScript original tells its
    /// clients.
    pub reset_ms: f64,
    /// When refused: in how many whole milliseconds the same cost is admitted, provided that nobody
    /// takes anything until then, and that it is not in one millisecond less; [`NEVER`] for
    /// never. 0 when allowed.
    pub retry_ms: u64,
}

/// A number of a policy's configuration that is finite and above zero.
pub(crate) fn positive(name: &'static str, value: f64) -> Result<f64, ConfigError> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(ConfigError::NotPositive { name })
    }
}

/// A time span in whole milliseconds, rounded up; [`NEVER`] when it does not fit.
pub(crate) fn whole_ms(span_ms: f64) -> u64 {
    // The conversion saturates, and 0 is what it makes of NaN.
    span_ms.ceil() as u64
}
