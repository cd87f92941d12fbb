//! Bounds, what was counted, and what is refused.

/// Bounds of one value, next to what `max` says.
///
/// | limit | default | at the limit | counter |
/// |---|---|---|---|
/// | `entries_max` | 1,000,000 | what would exceed it is refused | `refused_entries` |
/// | `bytes_max` | 64 MiB | the same | `refused_bytes` |
///
/// A refused event changes nothing, but others may have applied it: the value then
/// [`is_behind`](crate::Merge::is_behind) until it is loaded again. What `max` evicts makes room
/// first. Memory beside the items' own bytes: `entries_max x 60 bytes` after a load, up to twice
/// that after growing by single events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most entries of a list (at most 2^31).
    pub entries_max: usize,
    /// Most bytes of all entries together, as [`Item::byte_len`](crate::Item::byte_len) counts.
    pub bytes_max: usize,
}

impl Limits {
    /// As the JavaScript client: only memory bounds it (and 2^31 entries).
    pub const NONE: Self = Self {
        entries_max: ENTRIES_MAX,
        bytes_max: usize::MAX,
    };

    /// The limits as they can be kept.
    pub(crate) fn checked(self) -> Self {
        Self {
            entries_max: self.entries_max.min(ENTRIES_MAX),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries_max: 1_000_000,
            bytes_max: 64 << 20,
        }
    }
}

/// Positions are 32 bits wide and wrap around; half of the range keeps them apart.
const ENTRIES_MAX: usize = 1 << 31;

/// What happened so far, for metrics. Never reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events that changed the value.
    pub applied: u64,
    /// Events that the rules ignore, equal primitives included.
    pub ignored: u64,
    /// Updates left out because a later one of the same key stood in the same frame.
    pub superseded: u64,
    /// Items dropped because of `max`.
    pub evicted: u64,
    /// Events refused because a keyed stream cannot take `null`.
    pub refused_null: u64,
    /// Events and loads refused because of `entries_max`.
    pub refused_entries: u64,
    /// Events and loads refused because of `bytes_max`.
    pub refused_bytes: u64,
    /// Times the whole index was built again outside of loads: only lists that were loaded with
    /// duplicate keys ever need it.
    pub rebuilds: u64,
}

/// Why an event or a value was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// A keyed event came with `null`. Skip it and carry on; the publisher has a bug.
    #[error("null cannot be applied to a keyed list")]
    NullData,
    /// The list would hold too many entries. Load a shorter list, or set `max`.
    #[error("list would hold {needed} entries, limit {limit}")]
    TooManyEntries {
        /// Entries it would hold.
        needed: usize,
        /// The limit.
        limit: usize,
    },
    /// The entries would hold too many bytes. Load a smaller value, or set `max`.
    #[error("entries would take {needed} bytes, limit {limit}")]
    TooManyBytes {
        /// Bytes they would take.
        needed: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many changes wait for their outcome. Refuse the user's action until some have settled.
    #[error("changes in flight are at their limit of {limit}")]
    TooManyPending {
        /// The limit.
        limit: usize,
    },
    /// The changes that wait for their outcome would take too many bytes.
    #[error("changes in flight would take {needed} bytes, limit {limit}")]
    TooManyPendingBytes {
        /// Bytes they would take.
        needed: usize,
        /// The limit.
        limit: usize,
    },
    /// Changes are in flight: what is shown is not settled, so it cannot be undone.
    #[error("cannot move through the history while {pending} changes are in flight")]
    Unsettled {
        /// How many.
        pending: usize,
    },
}
