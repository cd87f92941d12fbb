//! Settings, limits, counters and errors of cursors.

use core::time::Duration;

use crate::Select;

/// Settings of [`Cursors`](crate::Cursors).
///
/// Worst case memory: `bytes_max` plus the cached snapshots, which hold the same once more.
///
/// ```
/// use millstream_presence::CursorConfig;
///
/// assert_eq!(CursorConfig::default().throttle.as_millis(), 50);
/// ```
#[derive(Clone, Debug)]
pub struct CursorConfig {
    /// Time between two broadcasts of one connection on one topic. Default 50 ms; zero sends
    /// everything at once. Rounded up to whole milliseconds.
    pub throttle: Duration,
    /// Instead of `throttle`: time between two broadcasts of one *topic*, which then carry
    /// everything that moved as one `bulk` frame. Default none.
    pub tick: Option<Duration>,
    /// What of the user data is shown, taken once per connection. Default
    /// [`Select::Identity`]: everything.
    pub select: Select,
    /// Connections that have moved. Default 1,000,000. At the limit an update of one more is
    /// refused with [`CursorError::Connections`]. Counter: `refused`.
    pub connections_max: usize,
    /// Topics with any cursor. Default 1,000,000. At the limit an update that needs one more is
    /// refused with [`CursorError::Topics`]. Counter: `refused`.
    pub topics_max: usize,
    /// Cursors, that is pairs of connection and topic. Default 4,000,000. At the limit a new one
    /// is refused with [`CursorError::Cursors`]. Counter: `refused`.
    pub cursors_max: usize,
    /// UTF-16 code units of a topic's name. Default 256. An update of a longer one is ignored.
    /// Counter: `ignored`.
    pub topic_units_max: usize,
    /// Bytes of a value in compact JSON. Default 8,192. An update with a larger one is ignored,
    /// and so is one that is written in more than eight times as many (blanks, escapes).
    /// Counter: `ignored`.
    pub data_bytes_max: usize,
    /// Bytes of the selected user data. Default 64 KiB. More is refused with
    /// [`CursorError::User`]. Counter: `refused`.
    pub user_bytes_max: usize,
    /// Bytes of everything that is kept, as counted by [`Cursors::bytes`](crate::Cursors::bytes).
    /// Default 1 GiB. At the limit an update is refused with [`CursorError::Bytes`].
    /// Counter: `refused`.
    pub bytes_max: usize,
    /// Cursors looked at in one call of [`handle_timeout`](crate::Cursors::handle_timeout).
    /// Default 4,096; the next call goes on.
    pub timeout_cursors_max: usize,
    /// Cursors in one `bulk` frame. Default 1,000; the rest goes into further ones.
    pub bulk_cursors_max: usize,
}

impl Default for CursorConfig {
    fn default() -> Self {
        Self {
            throttle: Duration::from_millis(50),
            tick: None,
            select: Select::Identity,
            connections_max: 1_000_000,
            topics_max: 1_000_000,
            cursors_max: 4_000_000,
            topic_units_max: 256,
            data_bytes_max: 8192,
            user_bytes_max: 64 * 1024,
            bytes_max: 1 << 30,
            timeout_cursors_max: 4096,
            bulk_cursors_max: 1000,
        }
    }
}

/// Counters since construction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CursorStats {
    /// Updates taken.
    pub updates: u64,
    /// Updates published, one by one or in bulk.
    pub published: u64,
    /// Waiting values that were replaced by newer ones before they were published.
    pub replaced: u64,
    /// Updates ignored: see [`Update::Ignored`].
    pub ignored: u64,
    /// Updates refused: see [`CursorError`].
    pub refused: u64,
    /// Cursors removed.
    pub removed: u64,
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update {
    /// It was published.
    Published,
    /// It waits for the end of its window, unless a newer one takes its place.
    Waiting,
    /// The topic is empty, too long or holds a character that no frame can carry, or the value is
    /// too long. Nothing was changed; a waiting value goes on waiting.
    Ignored,
}

/// Why an update was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// As many connections as allowed have cursors.
    #[error("connections at their limit of {limit}")]
    Connections {
        /// `connections_max`.
        limit: usize,
    },
    /// As many topics as allowed have cursors.
    #[error("topics at their limit of {limit}")]
    Topics {
        /// `topics_max`.
        limit: usize,
    },
    /// As many cursors as allowed exist.
    #[error("cursors at their limit of {limit}")]
    Cursors {
        /// `cursors_max`.
        limit: usize,
    },
    /// The selected user data is too long.
    #[error("user data of {len} bytes, limit {limit}")]
    User {
        /// Its length.
        len: usize,
        /// `user_bytes_max`.
        limit: usize,
    },
    /// No room for the value.
    #[error("bytes at their limit of {limit}")]
    Bytes {
        /// `bytes_max`.
        limit: usize,
    },
}
