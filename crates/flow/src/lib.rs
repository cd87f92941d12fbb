#![doc = include_str!("../README.md")]

mod arena;
mod breaker;
mod clock;
mod coalesce;
mod debounce;
mod dedup;
mod idempotency;
mod keyed;
mod lock;
mod name;
mod queue;
mod session;
#[cfg(test)]
mod sizes;
mod slots;
mod throttle;
mod ticket;
mod weigh;

pub use breaker::{Breaker, BreakerConfig, BreakerState, BreakerStats, Permit};
pub use coalesce::{
    Coalesce, CoalesceError, CoalesceLimits, CoalesceStats, Displaced, Reply, coalesce_batch,
};
pub use debounce::Debounce;
pub use dedup::{Dedup, DedupLimits, DedupStats};
pub use idempotency::{
    Attempt, Idempotency, IdempotencyConfig, IdempotencyError, IdempotencyStats, IfBusy, Run,
    SlotEvent,
};
pub use lock::{
    Acquired, Claim, Guard, KeyLock, LockError, LockEvent, LockLimits, LockStats, Wait,
};
pub use name::{KeyError, Slot};
pub use queue::{Outcome, Queue, QueueError, QueueLimits, QueueStats, Refused, Watch};
pub use session::{Retention, SessionError, SessionLimits, SessionStats, SessionStore};
pub use slots::{AtLimit, Pushed, ShapeError, ShapeLimits, ShapeStats};
pub use throttle::Throttle;
pub use ticket::Ticket;
pub use weigh::Weigh;

/// Entries one call of a `handle_timeout` deals with at most.
const TIMEOUT_BATCH: usize = 1_024;
