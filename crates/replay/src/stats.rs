//! What the engine counted.

/// Counters of one [`Replay`](crate::Replay). They only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames that were numbered.
    pub pushed: u64,
    /// Frames too large for their topic: numbered, not kept.
    pub oversized: u64,
    /// Numbers a host left out, each of which ended what was kept before it.
    pub holes: u64,
    /// Frames dropped because their topic was full by count.
    pub evicted_by_entries: u64,
    /// Frames dropped because their topic was full by bytes.
    pub evicted_by_bytes: u64,
    /// Frames dropped because everything together was too much.
    pub evicted_by_total: u64,
    /// Topics evicted: by count or with the last of their frames.
    pub evicted_topics: u64,
    /// Remembered numbers that joined the common floor.
    pub numbers_merged: u64,
    /// Positions after which everything was there.
    pub complete: u64,
    /// Positions after which something was gone.
    pub gaps: u64,
    /// Positions above the topic's last number.
    pub ahead: u64,
    /// Positions of another epoch.
    pub other_epochs: u64,
    /// Cursors that were overtaken by eviction.
    pub overtaken: u64,
}
