use thiserror::Error;

/// A policy that makes no sense. Nothing was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number has to be finite and above zero.
    #[error("{name} has to be positive and finite")]
    NotPositive {
        /// Which.
        name: &'static str,
    },
    /// A number has to be finite and zero or above.
    #[error("{name} has to be finite and not negative")]
    Negative {
        /// Which.
        name: &'static str,
    },
    /// More than one point for each nanosecond.
    #[error("more points than nanoseconds in the interval")]
    TooFast,
}

/// A call that could not be judged. Nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// A cost has to be finite and zero or above.
    #[error("cost has to be finite and not negative")]
    Cost,
}

/// A ban that was not set. What was there before still is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BanError {
    /// A length has to be zero or above; it may be infinite.
    #[error("length of a ban has to be a number and not negative")]
    Length,
    /// `bans_max` others are in force.
    #[error("{limit} bans in force, limit {limit}")]
    Full {
        /// The limit.
        limit: usize,
    },
}
