//! The last value, once a slot has been quiet.

use core::time::Duration;

use millstream_core::Millis;

use crate::TIMEOUT_BATCH;
use crate::clock::Clock;
use crate::name::Slot;
use crate::slots::{Pushed, ShapeError, ShapeLimits, ShapeStats, Slots};
use crate::weigh::Weigh;

/// Holds the newest value of a slot back until nothing has been pushed there for an interval.
///
/// A stream that is faster than the interval would never be sent; `wait_max` bounds how long the
/// first unsent push of a slot may lie back before the newest value leaves all the same. A push at
/// the very instant a slot falls due comes after that slot's value has left.
///
/// # Cost
/// As for [`Throttle`](crate::Throttle); 88 bytes for a slot of [`bytes::Bytes`] plus its name and
/// 5 to 10 bytes of index. Two lists serve as deadlines: by the last push for the interval, and by
/// the first one for `wait_max`.
///
/// # Example
/// ```
/// use core::time::Duration;
/// use millstream_core::Millis;
/// use millstream_flow::{Debounce, ShapeLimits};
///
/// let at = Millis::from_millis;
/// let quiet = Duration::from_millis(100);
/// let mut debounce = Debounce::new(quiet, None, ShapeLimits::default());
/// let mut out = Vec::new();
/// debounce.push(at(0), "search", "m", &mut out)?;
/// debounce.push(at(80), "search", "mill", &mut out)?;
/// assert_eq!(debounce.next_deadline(), Some(at(180)));
/// debounce.handle_timeout(at(180), &mut out);
/// assert_eq!(out, ["mill"]);
/// # Ok::<(), millstream_flow::ShapeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Debounce<V> {
    interval: Duration,
    wait_max: Option<Duration>,
    clock: Clock,
    slots: Slots<V, Pushes>,
}

/// First and last push of the value that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pushes {
    first: Millis,
    last: Millis,
}

impl<V: Weigh> Debounce<V> {
    /// A debounce that waits for `interval` of quiet, rounded up to whole milliseconds, and for
    /// `wait_max` altogether if that is given.
    #[must_use]
    pub fn new(interval: Duration, wait_max: Option<Duration>, limits: ShapeLimits) -> Self {
        Self {
            interval,
            wait_max,
            clock: Clock::default(),
            slots: Slots::new(limits),
        }
    }

    /// Lets a value wait, in the place of the one before it. `out` gets values that were overdue,
    /// and those of slots evicted to make room.
    ///
    /// # Errors
    /// [`ShapeError`]; the value is dropped and nothing else happened.
    pub fn push<'s>(
        &mut self,
        now: Millis,
        slot: impl Into<Slot<'s>>,
        value: V,
        out: &mut impl Extend<V>,
    ) -> Result<Pushed, ShapeError> {
        let now = self.clock.advance(now);
        let pushed = self.admit(now, slot.into(), value, out);
        self.slots.stats.refused += u64::from(pushed.is_err());
        pushed
    }

    fn admit(
        &mut self,
        now: Millis,
        slot: Slot<'_>,
        value: V,
        out: &mut impl Extend<V>,
    ) -> Result<Pushed, ShapeError> {
        slot.check(self.slots.limits.name_units_max)?;
        let Some(index) = self.slots.find(slot) else {
            self.slots.make_room(slot, value.weight(), out)?;
            let pushes = Pushes {
                first: now,
                last: now,
            };
            self.slots.insert(slot, pushes, Some(value));
            return Ok(Pushed::Waiting);
        };
        self.slots.check_value(index, value.weight())?;
        if self.due_at(index).is_some_and(|due| due <= now) {
            self.slots.send_waiting(index, out);
            self.slots.rejuvenate(index);
            self.slots.rearm(index, |pushes| pushes.first = now);
        }
        self.slots.rearm(index, |pushes| pushes.last = now);
        Ok(self.slots.put(index, value, out))
    }

    /// Sends what has waited long enough, 1,024 values at most; [`next_deadline`] says whether
    /// more are due. Early or repeated calls do nothing.
    ///
    /// [`next_deadline`]: Self::next_deadline
    pub fn handle_timeout(&mut self, now: Millis, out: &mut impl Extend<V>) {
        let now = self.clock.advance(now);
        for _ in 0..TIMEOUT_BATCH {
            match self.next_due() {
                Some((due, index)) if due <= now => {
                    self.slots.send_waiting(index, out);
                    self.slots.remove(index);
                }
                _ => return,
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.next_due().map(|(due, _)| due)
    }

    /// Quiet falls due in order of the last push, patience in order of the first.
    fn next_due(&self) -> Option<(Millis, u32)> {
        let quiet = self.slots.first_due()?;
        let oldest = self.slots.oldest()?;
        let (quiet_at, oldest_at) = (self.due_at(quiet)?, self.due_at(oldest)?);
        Some(if oldest_at < quiet_at {
            (oldest_at, oldest)
        } else {
            (quiet_at, quiet)
        })
    }

    fn due_at(&self, index: u32) -> Option<Millis> {
        let pushes = self.slots.time(index)?;
        let quiet = pushes.last + self.interval;
        let patience = self.wait_max.map(|wait_max| pushes.first + wait_max);
        Some(patience.map_or(quiet, |patience| patience.min(quiet)))
    }

    /// Sends what waits in a slot now. False if nothing waited.
    pub fn flush<'s>(&mut self, slot: impl Into<Slot<'s>>, out: &mut impl Extend<V>) -> bool {
        self.slots.flush(slot.into(), out)
    }

    /// Sends everything that waits, oldest slot first.
    pub fn flush_all(&mut self, out: &mut impl Extend<V>) {
        self.slots.flush_all(out);
    }

    /// Drops what waits in a slot. False if nothing waited.
    pub fn cancel<'s>(&mut self, slot: impl Into<Slot<'s>>) -> bool {
        self.slots.cancel(slot.into())
    }

    /// Drops everything that waits.
    pub fn cancel_all(&mut self) {
        self.slots.cancel_all();
    }

    /// The interval given at construction.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Slots with a value waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of names and waiting values.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.slots.bytes()
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> ShapeStats {
        self.slots.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Millis {
        Millis::from_millis(ms)
    }

    fn debounce(wait_max: Option<u64>) -> Debounce<u32> {
        let wait_max = wait_max.map(Duration::from_millis);
        Debounce::new(Duration::from_millis(50), wait_max, ShapeLimits::default())
    }

    #[test]
    fn a_steady_stream_is_sent_when_patience_ends() {
        let mut debounce = debounce(Some(120));
        let mut out = Vec::new();
        for step in 0..30_u32 {
            let now = at(u64::from(step) * 10);
            debounce.handle_timeout(now, &mut out);
            let _ = debounce.push(now, "k", step, &mut out);
        }
        // Pushed at 0, due at 120 with the push of 110; again from 120 on.
        assert_eq!(out, [11, 23]);
    }

    #[test]
    fn patience_of_one_and_quiet_of_another() {
        let mut debounce = debounce(Some(60));
        let mut out = Vec::new();
        let _ = debounce.push(at(0), "busy", 1, &mut out);
        let _ = debounce.push(at(5), "calm", 2, &mut out);
        let _ = debounce.push(at(40), "busy", 3, &mut out);
        assert_eq!(debounce.next_deadline(), Some(at(55)));
        debounce.handle_timeout(at(60), &mut out);
        assert_eq!(out, [2, 3]);
        assert!(debounce.is_empty());
    }

    #[test]
    fn a_push_at_the_due_instant_starts_over() {
        let mut debounce = debounce(None);
        let mut out = Vec::new();
        let _ = debounce.push(at(0), "k", 1, &mut out);
        assert_eq!(debounce.push(at(50), "k", 2, &mut out), Ok(Pushed::Waiting));
        assert_eq!(out, [1]);
        assert_eq!(debounce.next_deadline(), Some(at(100)));
    }

    #[test]
    fn cancelled_values_are_counted() {
        let mut debounce = debounce(None);
        let mut out = Vec::new();
        let _ = debounce.push(at(0), "k", 1, &mut out);
        let _ = debounce.push(at(0), "l", 1, &mut out);
        assert!(debounce.cancel("k"));
        debounce.cancel_all();
        debounce.flush_all(&mut out);
        assert_eq!(
            (out.len(), debounce.stats().cancelled, debounce.bytes()),
            (0, 2, 0)
        );
    }
}
