//! Monotonic time as a value.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

/// A point on the host's monotonic clock, in milliseconds since an origin the host chose.
///
/// No crate below the server reads a clock: hosts pass the time in. All arithmetic saturates, so a
/// deadline that would overflow is simply never reached.
///
/// # Example
/// ```
/// use core::time::Duration;
/// use millstream_core::Millis;
///
/// let opened = Millis::from_millis(1_000);
/// let deadline = opened + Duration::from_secs(5);
/// assert_eq!(deadline.as_millis(), 6_000);
/// assert_eq!(opened.saturating_since(deadline), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(u64);

impl Millis {
    /// The origin of the host's clock.
    pub const ZERO: Self = Self(0);

    /// The farthest time that can be expressed; used for "never".
    pub const MAX: Self = Self(u64::MAX);

    /// Makes a time from milliseconds since the origin.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the origin.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This time plus `duration`, rounded up to whole milliseconds so that deadlines never come
    /// early.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis_ceil(duration)))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Millis {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        self.saturating_add(duration)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Whole milliseconds of a duration, rounded up and saturating.
pub(crate) fn millis_ceil(duration: Duration) -> u64 {
    let ceil = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(ceil).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_round_up_and_saturate() {
        assert_eq!(
            Millis::ZERO + Duration::from_micros(1),
            Millis::from_millis(1)
        );
        assert_eq!(Millis::MAX + Duration::from_millis(1), Millis::MAX);
        assert_eq!(Millis::ZERO + Duration::MAX, Millis::MAX);
    }

    #[test]
    fn differences_stop_at_zero() {
        let (a, b) = (Millis::from_millis(3), Millis::from_millis(10));
        assert_eq!(b.saturating_since(a), Duration::from_millis(7));
        assert_eq!(a.saturating_since(b), Duration::ZERO);
    }
}
