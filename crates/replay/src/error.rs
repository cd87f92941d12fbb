//! Why a frame was not taken.

/// Why a frame was not numbered. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The given number is not above the topic's last one. Numbers never go back: number the frame
    /// under the same lock as the push.
    #[error("number {given} is not above {head}")]
    NumberNotAbove {
        /// The number that was given.
        given: u64,
        /// The topic's last number.
        head: u64,
    },
    /// The next number would be above [`NUMBER_MAX`](crate::NUMBER_MAX). Start a new epoch with
    /// [`Replay::reset`](crate::Replay::reset).
    #[error("no number is left below 2^53")]
    NumbersExhausted,
    /// The name is longer than [`Limits::name_bytes_max`](crate::Limits::name_bytes_max). Publish
    /// without replay, or refuse the topic.
    #[error("a topic name of {bytes} bytes, the limit is {limit}")]
    NameTooLong {
        /// Length of the name.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The key is that of a topic that was evicted or forgotten. Open the name again.
    #[error("the topic was evicted")]
    Evicted,
}
