//! A counted resource whose slots come back exactly once, on every way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many of something are in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots(Arc<AtomicUsize>);

/// One in use, until dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slots {
    /// Takes a slot unless `limit` are taken.
    pub(crate) fn take(&self, limit: usize) -> Option<Slot> {
        let one_more = |used: usize| (used < limit).then_some(used + 1);
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()?;
        Some(Slot(Arc::clone(&self.0)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a slot was given back twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_run_out_and_come_back() {
        let slots = Slots::default();
        let held: Vec<_> = (0..3).map_while(|_| slots.take(3)).collect();
        assert_eq!(held.len(), 3);
        assert!(slots.take(3).is_none());
        drop(held);
        assert!(slots.take(1).is_some());
    }
}
