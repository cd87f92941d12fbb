//! Settings, limits, counters and errors of presence.

use core::time::Duration;

use millstream_core::{JsonKind, TopicError};

use crate::Select;

/// Settings of [`Presence`](crate::Presence).
///
/// Worst case memory: `bytes_max` plus `turn_bytes_max` plus snapshots the host still holds.
///
/// ```
/// use millstream_presence::{PresenceConfig, Select};
///
/// let config = PresenceConfig { select: Select::Identity, ..PresenceConfig::default() };
/// assert_eq!(config.connections_max, 1_000_000);
/// ```
#[derive(Clone, Debug)]
pub struct PresenceConfig {
    /// The member of a record that identifies a person. Default `id`.
    pub key: String,
    /// What of the user data is shown. Default [`Select::Public`].
    pub select: Select,
    /// Time between heartbeats. Default none: no heartbeats.
    pub heartbeat: Option<Duration>,
    /// Connections in any roster. Default 1,000,000. At the limit a join of one more is refused
    /// with [`JoinError::Connections`]. Counter: `refused`.
    pub connections_max: usize,
    /// Topics with anybody on them. Default 1,000,000. At the limit a join that needs one more is
    /// refused with [`JoinError::Topics`]. Counter: `refused`.
    pub topics_max: usize,
    /// Joined pairs of connection and topic. Default 4,000,000. At the limit a join is refused
    /// with [`JoinError::Members`]. Counter: `refused`.
    pub members_max: usize,
    /// Bytes of a selected record with its key. Default 64 KiB, at most 4 GiB. A larger one is
    /// refused with [`JoinError::Record`]. Counter: `refused`.
    pub record_bytes_max: usize,
    /// Bytes of a topic's name. Default 1,024. Longer ones are refused with
    /// [`JoinError::TopicLength`]. Counter: `refused`.
    pub topic_bytes_max: usize,
    /// Bytes of everything that is kept, as counted by [`Presence::bytes`](crate::Presence::bytes).
    /// Default 1 GiB. At the limit a join is refused with [`JoinError::Bytes`]. Counter: `refused`.
    pub bytes_max: usize,
    /// Bytes of changes collected in one turn. Default 16 MiB. At the limit they are published
    /// before the turn ends: the only case in which a topic gets two diffs in one turn.
    /// Counter: `early_flushes`.
    pub turn_bytes_max: usize,
    /// Topics that get their heartbeat in one call of
    /// [`handle_timeout`](crate::Presence::handle_timeout). Default 1,024; the next call goes on.
    pub heartbeat_topics_max: usize,
    /// Key of the fingerprints by which people and records are compared. Give random bits where
    /// users may choose their ids. Default zero.
    pub seed: [u64; 2],
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            key: "id".into(),
            select: Select::Public,
            heartbeat: None,
            connections_max: 1_000_000,
            topics_max: 1_000_000,
            members_max: 4_000_000,
            record_bytes_max: 64 * 1024,
            topic_bytes_max: 1024,
            bytes_max: 1 << 30,
            turn_bytes_max: 16 * 1024 * 1024,
            heartbeat_topics_max: 1024,
            seed: [0; 2],
        }
    }
}

/// Counters since construction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresenceStats {
    /// Joins that took effect.
    pub joins: u64,
    /// Memberships that ended.
    pub leaves: u64,
    /// Joins and updates that were refused.
    pub refused: u64,
    /// Diffs published.
    pub diffs: u64,
    /// Times changes were published before the turn's end.
    pub early_flushes: u64,
    /// Heartbeats published.
    pub heartbeats: u64,
    /// Ids that were not accepted because they look like the generated key of somebody present.
    pub keys_contested: u64,
}

/// What a join did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Joined {
    /// The connection is now in the roster.
    New,
    /// It was already; nothing happened.
    Already,
    /// The topic is reserved (`__...`); nothing happened.
    Reserved,
}

/// Why a join or update was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The record is neither an object nor an array: a mistake of the application.
    #[error("the selected record is {got:?}, not an object")]
    NotAnObject {
        /// What it is.
        got: JsonKind,
    },
    /// The topic's name holds characters that no frame can carry.
    #[error("topic: {0}")]
    Topic(#[from] TopicError),
    /// The topic's name is too long.
    #[error("topic of {len} bytes, limit {limit}")]
    TopicLength {
        /// Its length.
        len: usize,
        /// `topic_bytes_max`.
        limit: usize,
    },
    /// The record is too long.
    #[error("record of {len} bytes, limit {limit}")]
    Record {
        /// Its length with its key.
        len: usize,
        /// `record_bytes_max`.
        limit: usize,
    },
    /// As many connections as allowed are present: try later or elsewhere.
    #[error("connections at their limit of {limit}")]
    Connections {
        /// `connections_max`.
        limit: usize,
    },
    /// As many topics as allowed have somebody on them.
    #[error("topics at their limit of {limit}")]
    Topics {
        /// `topics_max`.
        limit: usize,
    },
    /// As many memberships as allowed exist.
    #[error("memberships at their limit of {limit}")]
    Members {
        /// `members_max`.
        limit: usize,
    },
    /// No room for the record.
    #[error("bytes at their limit of {limit}")]
    Bytes {
        /// `bytes_max`.
        limit: usize,
    },
}
