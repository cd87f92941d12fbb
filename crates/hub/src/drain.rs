//! Closing all connections of a server a few at a time, so that their reconnects do not arrive
//! all at once.

use core::time::Duration;
use std::collections::VecDeque;

use millstream_core::{Key, Millis};

/// Spreads the closing of connections evenly over a period.
///
/// ```
/// # use core::time::Duration;
/// # use millstream_core::{Key, Millis};
/// # use millstream_hub::DrainPlan;
/// let conns = (0..4).map(|index| Key { index, generation: 0 });
/// let mut plan = DrainPlan::new(conns, Millis::ZERO, Duration::from_secs(4));
/// assert_eq!(plan.due(Millis::from_millis(0)).count(), 1);
/// assert_eq!(plan.due(Millis::from_millis(2_000)).count(), 2);
/// assert_eq!(plan.next_deadline(), Some(Millis::from_millis(3_000)));
/// ```
#[derive(Debug)]
pub struct DrainPlan {
    waiting: VecDeque<Key>,
    total: u64,
    started: Millis,
    spread: Duration,
}

impl DrainPlan {
    /// A plan for the given connections that begins at `started`. O(connections).
    pub fn new(conns: impl IntoIterator<Item = Key>, started: Millis, spread: Duration) -> Self {
        let waiting: VecDeque<Key> = conns.into_iter().collect();
        Self {
            total: waiting.len() as u64,
            waiting,
            started,
            spread,
        }
    }

    /// The connections to close by `now`, each once.
    pub fn due(&mut self, now: Millis) -> impl Iterator<Item = Key> {
        let elapsed = now.saturating_since(self.started);
        let done = self.total - self.waiting.len() as u64;
        let spread = self.spread.as_millis().max(1);
        let wanted = u128::from(self.total) * elapsed.as_millis() / spread + 1;
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX).min(self.total);
        let count = usize::try_from(wanted.saturating_sub(done)).unwrap_or(usize::MAX);
        self.waiting.drain(..count.min(self.waiting.len()))
    }

    /// When the next connection is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.waiting.is_empty() {
            return None;
        }
        let done = u128::from(self.total - self.waiting.len() as u64);
        let offset = (done * self.spread.as_millis()).div_ceil(u128::from(self.total));
        let offset = Duration::from_millis(u64::try_from(offset).unwrap_or(u64::MAX));
        Some(self.started.saturating_add(offset))
    }

    /// Connections that are not closed yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.waiting.len()
    }
}
