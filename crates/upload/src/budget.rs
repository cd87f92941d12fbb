//! What all uploads of a process share, whichever table they are in.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Bounds that all tables of a process share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Payload bytes of uploads that have not been accepted yet. Default 64 MiB. At the limit the
    /// upload fails with `OVERLOADED`. Counter: `failed_overloaded`.
    pub starting_bytes_max: usize,
    /// Bytes that wait for a handler, each chunk charged [`CHUNK_COST`](crate::CHUNK_COST) more.
    /// Default 256 MiB. At the limit the upload fails with `OVERLOADED`. Counter:
    /// `failed_overloaded`.
    pub waiting_bytes_max: usize,
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self {
            starting_bytes_max: 64 * 1024 * 1024,
            waiting_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// The share of the process: give the same one to the tables of all workers.
///
/// Plain atomics; a chunk adds to one of them and taking it subtracts. Every table gives back what
/// it holds when it is dropped.
#[derive(Debug, Default)]
pub struct Budget {
    limits: BudgetLimits,
    running: AtomicU32,
    starting_bytes: AtomicUsize,
    waiting_bytes: AtomicUsize,
}

impl Budget {
    /// An untouched budget.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Uploads that were accepted and have not ended.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// Payload bytes of uploads that were not accepted yet.
    #[must_use]
    pub fn starting_bytes(&self) -> usize {
        self.starting_bytes.load(Ordering::Relaxed)
    }

    /// Bytes charged for chunks that wait for their handler.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn take_running(&self, limit: u32) -> bool {
        let room = |count: u32| (count < limit).then_some(count + 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.running.fetch_update(set, fetch, room).is_ok()
    }

    pub(crate) fn give_running(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn take_starting(&self, bytes: usize) -> bool {
        take(&self.starting_bytes, bytes, self.limits.starting_bytes_max)
    }

    pub(crate) fn give_starting(&self, bytes: usize) {
        self.starting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn take_waiting(&self, bytes: usize) -> bool {
        take(&self.waiting_bytes, bytes, self.limits.waiting_bytes_max)
    }

    pub(crate) fn give_waiting(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Adds, and takes it back if that was too much. Others may see the excess for an instant and be
/// refused; the sum never settles above the limit.
fn take(counter: &AtomicUsize, bytes: usize, limit: usize) -> bool {
    let before = counter.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) <= limit {
        return true;
    }
    counter.fetch_sub(bytes, Ordering::Relaxed);
    false
}
