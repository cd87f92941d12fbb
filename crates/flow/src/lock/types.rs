//! Limits, wishes, answers and errors of the lock.

use core::time::Duration;

use crate::name::KeyError;
use crate::ticket::Ticket;

/// Bounds of a [`KeyLock`](crate::KeyLock).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockLimits {
    /// Keys held at once. Default 1,000,000. Further ones are refused.
    pub keys_max: usize,
    /// Length of a key in UTF-16 units. Default 256. Longer ones are refused.
    pub key_units_max: usize,
    /// Bytes of the texts of all held keys. Default 64 MiB. Keys that do not fit are refused.
    pub bytes_max: usize,
    /// Waiters of one key. Default 1,000. Further ones are refused; one that gave up or ran out
    /// of time leaves its place at once.
    pub waiters_max: usize,
    /// Waiters of all keys. Default 1,000,000. Further ones are refused.
    pub waiters_total_max: usize,
    /// Keys that were cleared while somebody still holds them, beyond `keys_max`. Default
    /// 1,000,000. With more of them, new keys are refused.
    pub cleared_max: usize,
    /// How long a key may be held. Default: without end. A holder that takes longer loses the
    /// lock to the next in line, so what it guards must check the guard's number.
    pub hold_max: Option<Duration>,
}

impl Default for LockLimits {
    fn default() -> Self {
        Self {
            keys_max: 1_000_000,
            key_units_max: 256,
            bytes_max: 64 << 20,
            waiters_max: 1_000,
            waiters_total_max: 1_000_000,
            cleared_max: 1_000_000,
            hold_max: None,
        }
    }
}

/// How long to wait for a key that is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// Not at all: [`LockError::Busy`].
    Try,
    /// Up to a time, rounded up to whole milliseconds; zero is [`Wait::Try`].
    AtMost(Duration),
    /// Until it is this caller's turn.
    #[default]
    Forever,
}

/// A wish for a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// How long to wait.
    pub wait: Wait,
    /// Who asks, if the host can tell. An owner that asks for a key it holds is refused instead of
    /// waiting for itself.
    pub owner: Option<u64>,
}

/// What became of a wish that was not refused.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a guard that is not released blocks its key"]
#[allow(clippy::exhaustive_enums, reason = "a key is free or it is not")]
pub enum Acquired {
    /// The key was free.
    Granted(Guard),
    /// In line. A [`LockEvent`] will name this ticket, exactly one.
    Waiting(Ticket),
}

/// The right to a key, to be given back with [`KeyLock::release`](crate::KeyLock::release).
///
/// It cannot be copied, so it is given back once. Dropping it leaves the key held until
/// `hold_max`.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a guard that is not released blocks its key"]
pub struct Guard {
    pub(super) number: u64,
    pub(super) index: u32,
}

impl Guard {
    /// Larger than that of every guard given out before, whatever the key. Storage that is
    /// guarded can refuse writes with a smaller number than it has seen (a fencing token).
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }
}

/// What happened to waiters and holders.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockEvent {
    /// It is this waiter's turn.
    Granted {
        /// Who waited.
        ticket: Ticket,
        /// What it has to release.
        guard: Guard,
    },
    /// The waiter's time is up; it is out of the line.
    TimedOut {
        /// Who waited.
        ticket: Ticket,
    },
    /// The line was cleared.
    Cleared {
        /// Who waited.
        ticket: Ticket,
    },
    /// A holder exceeded `hold_max` and has lost the lock. Its release will say so.
    HoldExpired {
        /// The guard's number.
        number: u64,
    },
}

/// A wish was refused; nothing else happened. Counter: `refused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key is held and the caller would not wait.
    #[error("key is held")]
    Busy,
    /// The owner holds the key itself and would wait for ever.
    #[error("key is held by the same owner")]
    Reentrant,
    /// Too many keys.
    #[error("{keys_max} keys are held already")]
    KeysFull {
        /// The limit.
        keys_max: usize,
    },
    /// Too much text in keys that are held.
    #[error("key of {bytes} bytes does not fit into what is left of {bytes_max}")]
    NoRoom {
        /// Bytes of the key.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Too many waiters for this key.
    #[error("{waiters_max} callers wait for this key already")]
    WaitersFull {
        /// The limit.
        waiters_max: usize,
    },
    /// Too many waiters altogether.
    #[error("{waiters_total_max} callers wait already")]
    TotalFull {
        /// The limit.
        waiters_total_max: usize,
    },
}

/// Counters of a [`KeyLock`](crate::KeyLock).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockStats {
    /// Guards given out.
    pub granted: u64,
    /// Callers that had to wait.
    pub waited: u64,
    /// Waiters whose time ran out.
    pub timed_out: u64,
    /// Waiters that gave up.
    pub cancelled: u64,
    /// Waiters sent away by `clear`.
    pub cleared: u64,
    /// Holders that lost their key after `hold_max`.
    pub hold_expired: u64,
    /// Releases of guards that had lost their key.
    pub stale: u64,
    /// Wishes refused.
    pub refused: u64,
}
