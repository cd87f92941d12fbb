//! What the engine counted.

use crate::UploadError;

/// Counters of one table. They only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Uploads that were opened.
    pub opened: u64,
    /// Chunks taken in, of all uploads.
    pub chunks: u64,
    /// Payload bytes taken in.
    pub bytes: u64,
    /// Chunks and cancels dropped: of uploads that are unknown or over, after the last chunk, or
    /// with a header in the wrong place.
    pub dropped: u64,
    /// Times a connection's reading should have been paused.
    pub pauses: u64,
    /// Checks asked for while uploads were running.
    pub reauthorized: u64,
    /// Uploads that ended well.
    pub finished: u64,
    /// Uploads the application failed or refused.
    pub failed_by_application: u64,
    /// Uploads that were malformed or out of order, and second openings.
    pub failed_invalid: u64,
    /// Uploads that were too large.
    pub failed_too_large: u64,
    /// Uploads whose handler was too slow.
    pub failed_backpressure: u64,
    /// Uploads for which the process had no memory left.
    pub failed_overloaded: u64,
    /// Uploads above a limit of concurrency.
    pub failed_too_many: u64,
    /// Uploads the client gave up.
    pub cancelled: u64,
    /// Uploads that fell silent.
    pub failed_idle: u64,
    /// Uploads whose connection closed.
    pub disconnected: u64,
}

/// Sums over tables.
impl core::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.opened += other.opened;
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.dropped += other.dropped;
        self.pauses += other.pauses;
        self.reauthorized += other.reauthorized;
        self.finished += other.finished;
        self.failed_by_application += other.failed_by_application;
        self.failed_invalid += other.failed_invalid;
        self.failed_too_large += other.failed_too_large;
        self.failed_backpressure += other.failed_backpressure;
        self.failed_overloaded += other.failed_overloaded;
        self.failed_too_many += other.failed_too_many;
        self.cancelled += other.cancelled;
        self.failed_idle += other.failed_idle;
        self.disconnected += other.disconnected;
    }
}

impl Stats {
    /// All counters with their names, for metrics.
    #[must_use]
    pub const fn list(&self) -> [(&'static str, u64); 16] {
        [
            ("opened", self.opened),
            ("chunks", self.chunks),
            ("bytes", self.bytes),
            ("dropped", self.dropped),
            ("pauses", self.pauses),
            ("reauthorized", self.reauthorized),
            ("finished", self.finished),
            ("failed_by_application", self.failed_by_application),
            ("failed_invalid", self.failed_invalid),
            ("failed_too_large", self.failed_too_large),
            ("failed_backpressure", self.failed_backpressure),
            ("failed_overloaded", self.failed_overloaded),
            ("failed_too_many", self.failed_too_many),
            ("cancelled", self.cancelled),
            ("failed_idle", self.failed_idle),
            ("disconnected", self.disconnected),
        ]
    }

    pub(crate) fn count(&mut self, error: UploadError) {
        let counter = match error {
            UploadError::NumberInUse
            | UploadError::MissingPath
            | UploadError::OutOfOrder { .. }
            | UploadError::WrongOffset { .. } => &mut self.failed_invalid,
            UploadError::TooLarge | UploadError::TooLargeForStart => &mut self.failed_too_large,
            UploadError::StartQueueFull | UploadError::Backpressure => {
                &mut self.failed_backpressure
            }
            UploadError::Overloaded => &mut self.failed_overloaded,
            UploadError::TooManyOnConnection | UploadError::TooMany => &mut self.failed_too_many,
            UploadError::Cancelled => &mut self.cancelled,
            UploadError::Idle { .. } => &mut self.failed_idle,
            UploadError::Disconnected => &mut self.disconnected,
            UploadError::Over => return,
        };
        *counter += 1;
    }
}
