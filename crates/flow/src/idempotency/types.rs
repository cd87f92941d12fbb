//! Configuration, answers and errors of idempotency slots.

use core::time::Duration;

use crate::name::KeyError;
use crate::ticket::Ticket;

/// Times and bounds of an [`Idempotency`](crate::Idempotency).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyConfig {
    /// How long a result is kept. Default 48 hours. With zero nothing is kept, but calls with one
    /// key still take turns.
    pub ttl: Duration,
    /// How long a run keeps its slot without [`renew`](crate::Idempotency::renew). Default 60 s, at
    /// least 1 ms.
    pub lease: Duration,
    /// Slots at once, in progress or done. Default 10,000. The oldest result goes; when all are in
    /// progress the call is refused. Counters: `evicted`, `refused`.
    pub entries_max: usize,
    /// Length of a key in UTF-16 units. Default 512. Longer ones are refused.
    pub key_units_max: usize,
    /// Bytes of one result. Default 256 KiB. A larger one is not kept.
    pub result_bytes_max: usize,
    /// Bytes of all keys and results. Default 64 MiB. The oldest results go; what does not fit
    /// even so is refused.
    pub bytes_max: usize,
    /// Callers that wait for one key. Default 1,000. Further ones are refused.
    pub waiters_max: usize,
    /// Callers that wait, of all keys. Default 100,000. Further ones are refused.
    pub waiters_total_max: usize,
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_hours(48),
            lease: Duration::from_secs(60),
            entries_max: 10_000,
            key_units_max: 512,
            result_bytes_max: 256 << 10,
            bytes_max: 64 << 20,
            waiters_max: 1_000,
            waiters_total_max: 100_000,
        }
    }
}

/// What a caller wants while another one runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IfBusy {
    /// Wait for the result, or for its turn if there is none.
    #[default]
    Wait,
    /// Hear at once that it is in progress.
    Return,
}

/// The state a caller found its key in.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a run that is neither completed nor abandoned blocks its key until the lease ends"]
#[allow(
    clippy::exhaustive_enums,
    reason = "free, in progress (twice) and done"
)]
pub enum Attempt<'a, V> {
    /// It was free: run, then complete or abandon.
    Run(Run),
    /// It is done; this is the result.
    Done(&'a V),
    /// In progress; a [`SlotEvent`] will name this ticket, exactly one.
    Wait(Ticket),
    /// In progress, and the caller would not wait.
    InProgress,
}

/// The right to complete a slot. It cannot be copied, so it is used once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a run that is neither completed nor abandoned blocks its key until the lease ends"]
pub struct Run {
    pub(super) number: u64,
    pub(super) index: u32,
}

impl Run {
    /// Larger than that of every run before, whatever the key.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }
}

/// What happened to callers that waited.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotEvent<V> {
    /// The one before came to nothing; it is this caller's turn.
    Run {
        /// Who waited.
        ticket: Ticket,
        /// What to complete or abandon.
        run: Run,
    },
    /// Here is the result.
    Done {
        /// Who waited.
        ticket: Ticket,
        /// The result of the call waited for.
        result: V,
    },
}

/// A call was refused, or a result not stored. Counter: `refused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdempotencyError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// All slots are in progress.
    #[error("all {entries_max} slots are in progress")]
    Full {
        /// The limit.
        entries_max: usize,
    },
    /// Too many callers wait, for this key or altogether.
    #[error("{waiters} callers wait already")]
    WaitersFull {
        /// The limit that was reached.
        waiters: usize,
    },
    /// The run's lease ended before, and the slot is free or somebody else's. The effect of the
    /// run has happened all the same; its result may be given to its own caller.
    #[error("the lease of this run has ended")]
    Lost,
    /// The result, or the key, is too large. After a `complete` the slot stays in progress until
    /// the lease ends; the result may be given to the run's own caller.
    #[error("{bytes} bytes do not fit into {bytes_max}")]
    NoRoom {
        /// Bytes to be stored.
        bytes: usize,
        /// The limit that was reached.
        bytes_max: usize,
    },
}

/// Counters of an [`Idempotency`](crate::Idempotency).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdempotencyStats {
    /// Runs begun.
    pub runs: u64,
    /// Calls that were given a result, at once or after waiting.
    pub hits: u64,
    /// Runs completed.
    pub completed: u64,
    /// Runs abandoned.
    pub abandoned: u64,
    /// Leases that ended.
    pub lease_expired: u64,
    /// Results whose time was over.
    pub expired: u64,
    /// Results dropped to make room.
    pub evicted: u64,
    /// Completions, renewals and abandonments of runs that had lost their slot.
    pub lost: u64,
    /// Calls refused and results not stored.
    pub refused: u64,
}
