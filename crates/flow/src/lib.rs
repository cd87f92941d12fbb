#![doc = include_str!("../README.md")]

mod arena;
mod clock;
mod coalesce;
mod debounce;
mod keyed;
mod name;
mod slots;
mod throttle;
mod weigh;

pub use coalesce::{
    Coalesce, CoalesceError, CoalesceLimits, CoalesceStats, Displaced, Reply, coalesce_batch,
};
pub use debounce::Debounce;
pub use name::{KeyError, Slot};
pub use slots::{AtLimit, Pushed, ShapeError, ShapeLimits, ShapeStats};
pub use throttle::Throttle;
pub use weigh::Weigh;

/// Entries one call of a `handle_timeout` deals with at most.
const TIMEOUT_BATCH: usize = 1_024;
