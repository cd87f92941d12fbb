//! What happened so far.

/// Counters of one aggregate; plain numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events that were counted or held back.
    pub events: u64,
    /// Outputs made, of whatever reason.
    pub outputs: u64,
    /// Of those: closing states of tumbling windows.
    pub closings: u64,
    /// Of those: slides.
    pub slides: u64,
    /// Reductions, combinations and computations that failed; each left its field alone.
    pub failed: u64,
    /// Failure reports dropped because nobody polled them.
    pub failures_dropped: u64,
    /// Outputs dropped because nobody polled them.
    pub outputs_dropped: u64,
    /// Boundaries and slides that were skipped because the call came later than the next one.
    pub periods_skipped: u64,
    /// The latest that a boundary or slide was handled, in milliseconds.
    pub lag_ms_max: u64,
    /// Tumbling windows whose end was set anew because the wall clock was put back by more than a
    /// whole window.
    pub clock_backs: u64,
    /// Snapshots that were taken in.
    pub snapshots: u64,
    /// Snapshots given up: a boundary came first, too many events waited, or loading failed.
    pub snapshots_abandoned: u64,
    /// Fields of snapshots that were refused.
    pub snapshot_fields_refused: u64,
}
