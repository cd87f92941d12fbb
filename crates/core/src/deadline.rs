//! Deadlines that all lie the same interval ahead.

use core::time::Duration;
use std::collections::VecDeque;

use crate::Millis;

/// Items that fall due one fixed interval after they were pushed, in push order.
///
/// The cheapest deadline structure there is: a queue. Use it where every entry waits equally long
/// (idle checks, request time-outs with one setting) and [`Wheel`](crate::Wheel) where not. There
/// is no cancel: keep a [`Key`](crate::Key) as the item and check it when it falls due.
///
/// # Cost
/// All methods O(1) (amortised for growth). The owner bounds the length by bounding what it pushes.
///
/// # Example
/// ```
/// use core::time::Duration;
/// use millstream_core::{DeadlineFifo, Millis};
///
/// let mut checks = DeadlineFifo::new(Duration::from_secs(1));
/// checks.push(Millis::from_millis(500), "a");
/// assert_eq!(checks.next_deadline(), Some(Millis::from_millis(1_500)));
/// assert_eq!(checks.pop_due(Millis::from_millis(1_499)), None);
/// assert_eq!(checks.pop_due(Millis::from_millis(1_500)), Some("a"));
/// ```
#[derive(Clone, Debug)]
pub struct DeadlineFifo<T> {
    interval: Duration,
    queue: VecDeque<(Millis, T)>,
}

impl<T> DeadlineFifo<T> {
    /// An empty queue whose entries wait for `interval`.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            queue: VecDeque::new(),
        }
    }

    /// Adds an item that falls due at `now + interval`.
    ///
    /// Should `now` run backwards, the item is due no earlier than the one before it.
    pub fn push(&mut self, now: Millis, item: T) {
        let due = now + self.interval;
        let due = self.queue.back().map_or(due, |(last, _)| due.max(*last));
        self.queue.push_back((due, item));
    }

    /// Takes the oldest item if it is due at `now`.
    pub fn pop_due(&mut self, now: Millis) -> Option<T> {
        if self.next_deadline()? > now {
            return None;
        }
        self.queue.pop_front().map(|(_, item)| item)
    }

    /// When [`pop_due`](Self::pop_due) will next give something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.queue.front().map(|(due, _)| *due)
    }

    /// The interval given at construction.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Number of waiting items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_in_push_order_even_if_time_runs_back() {
        let mut fifo = DeadlineFifo::new(Duration::from_millis(10));
        fifo.push(Millis::from_millis(100), 1);
        fifo.push(Millis::from_millis(50), 2);
        assert_eq!(fifo.len(), 2);
        assert_eq!(fifo.pop_due(Millis::from_millis(109)), None);
        assert_eq!(fifo.pop_due(Millis::from_millis(110)), Some(1));
        assert_eq!(fifo.pop_due(Millis::from_millis(110)), Some(2));
        assert!(fifo.is_empty());
        assert_eq!(fifo.next_deadline(), None);
    }
}
