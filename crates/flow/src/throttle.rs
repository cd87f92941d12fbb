//! At most one value per slot and interval: the first at once, the last always.

use core::time::Duration;

use millstream_core::Millis;

use crate::TIMEOUT_BATCH;
use crate::clock::Clock;
use crate::name::Slot;
use crate::slots::{Pushed, ShapeError, ShapeLimits, ShapeStats, Slots};
use crate::weigh::Weigh;

/// Lets one value per slot through in each interval: the first at once (leading edge), and of what
/// follows the newest when the interval is over (trailing edge).
///
/// ```text
/// idle    -- push v ----------------> v goes out; cooling until now + interval
/// cooling -- push v ----------------> v waits, in the place of what waited before
/// cooling -- time is up, v waits ---> v goes out; cooling until now + interval
/// cooling -- time is up, nothing ---> idle, the slot is forgotten
/// ```
///
/// Two values of one slot leave at least an interval apart, unless one is flushed or the slot was
/// evicted in between; and the last value pushed always leaves, unless cancelled. With an interval
/// of zero everything goes out at once.
///
/// Values go to `out`, which is anything to which they can be appended. Should sending a value fail
/// that [`push`](Self::push) gave out at once, call [`cancel`](Self::cancel) to end its window.
///
/// # Cost
/// `push`, `flush`, `cancel` O(1), and no allocation for a slot that is known; a new slot copies
/// its name. `flush_all` and `cancel_all` O(slots). 80 bytes for a slot of [`bytes::Bytes`] plus
/// its name and 5 to 10 bytes of index. Deadlines are one list through the slots: every window is
/// equally long, so the one that was opened first ends first.
///
/// # Example
/// ```
/// use core::time::Duration;
/// use millstream_core::Millis;
/// use millstream_flow::{Pushed, ShapeLimits, Throttle};
///
/// let at = Millis::from_millis;
/// let mut throttle = Throttle::new(Duration::from_millis(100), ShapeLimits::default());
/// let mut out = Vec::new();
/// assert_eq!(throttle.push(at(0), "room", "a", &mut out)?, Pushed::Sent);
/// assert_eq!(throttle.push(at(10), "room", "b", &mut out)?, Pushed::Waiting);
/// assert_eq!(throttle.push(at(20), "room", "c", &mut out)?, Pushed::Replaced);
/// assert_eq!(throttle.next_deadline(), Some(at(100)));
/// throttle.handle_timeout(at(100), &mut out);
/// assert_eq!(out, ["a", "c"]);
/// # Ok::<(), millstream_flow::ShapeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Throttle<V> {
    interval: Duration,
    clock: Clock,
    /// The time of a slot is the end of its window.
    slots: Slots<V, Millis>,
}

impl<V: Weigh> Throttle<V> {
    /// A throttle with windows of `interval`, rounded up to whole milliseconds.
    #[must_use]
    pub fn new(interval: Duration, limits: ShapeLimits) -> Self {
        Self {
            interval,
            clock: Clock::default(),
            slots: Slots::new(limits),
        }
    }

    /// Sends a value or lets it wait.
    ///
    /// A window that is over by `now` counts as over even if
    /// [`handle_timeout`](Self::handle_timeout) has not been called yet.
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
        let until = now + self.interval;
        let Some(index) = self.slots.find(slot) else {
            self.slots.make_room(slot, 0, out)?;
            self.slots.send(value, out);
            self.slots.insert(slot, until, None);
            return Ok(Pushed::Sent);
        };
        let over = self.slots.time(index).is_some_and(|end| *end <= now);
        if over && !self.slots.waits(index) {
            self.slots.send(value, out);
            self.slots.rearm(index, |end| *end = until);
            self.slots.rejuvenate(index);
            return Ok(Pushed::Sent);
        }
        self.slots.check_value(index, value.weight())?;
        if over {
            self.slots.send_waiting(index, out);
            self.slots.rearm(index, |end| *end = until);
        }
        Ok(self.slots.put(index, value, out))
    }

    /// Sends what waits where the window is over.
    ///
    /// Handles 1,024 slots at most; [`next_deadline`](Self::next_deadline) says whether more are
    /// due. Early or repeated calls do nothing.
    pub fn handle_timeout(&mut self, now: Millis, out: &mut impl Extend<V>) {
        let now = self.clock.advance(now);
        for _ in 0..TIMEOUT_BATCH {
            let Some(index) = self.slots.first_due() else {
                return;
            };
            if self.slots.time(index).is_none_or(|end| *end > now) {
                return;
            }
            if self.slots.waits(index) {
                self.slots.send_waiting(index, out);
                let until = now + self.interval;
                self.slots.rearm(index, |end| *end = until);
            } else {
                self.slots.remove(index);
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.slots.time(self.slots.first_due()?).copied()
    }

    /// Sends what waits in a slot and forgets the slot, so that its next value goes out at once.
    /// False if the slot was idle.
    pub fn flush<'s>(&mut self, slot: impl Into<Slot<'s>>, out: &mut impl Extend<V>) -> bool {
        self.slots.flush(slot.into(), out)
    }

    /// Flushes all slots, oldest first.
    pub fn flush_all(&mut self, out: &mut impl Extend<V>) {
        self.slots.flush_all(out);
    }

    /// Forgets a slot and what waits in it. False if the slot was idle.
    pub fn cancel<'s>(&mut self, slot: impl Into<Slot<'s>>) -> bool {
        self.slots.cancel(slot.into())
    }

    /// Forgets all slots.
    pub fn cancel_all(&mut self) {
        self.slots.cancel_all();
    }

    /// The interval given at construction.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Slots that are cooling.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether all slots are idle.
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
    use crate::AtLimit;

    fn at(ms: u64) -> Millis {
        Millis::from_millis(ms)
    }

    fn throttle(limits: ShapeLimits) -> Throttle<Box<str>> {
        Throttle::new(Duration::from_millis(100), limits)
    }

    #[test]
    fn a_late_host_keeps_the_rate() {
        let mut throttle = throttle(ShapeLimits::default());
        let mut out = Vec::new();
        for (ms, value) in [(0, "a"), (10, "b"), (250, "c")] {
            let _ = throttle.push(at(ms), "t", value.into(), &mut out);
        }
        // "b" was overdue at 250 and opened a window there.
        assert_eq!(out, ["a".into(), "b".into()] as [Box<str>; 2]);
        assert_eq!(throttle.next_deadline(), Some(at(350)));
        throttle.handle_timeout(at(1_000), &mut out);
        assert_eq!(out.len(), 3);
        throttle.handle_timeout(at(1_100), &mut out);
        assert!(throttle.is_empty());
        assert_eq!(throttle.bytes(), 0);
    }

    #[test]
    fn refusing_keeps_every_promise_made() {
        let limits = ShapeLimits {
            slots_max: 1,
            at_limit: AtLimit::Refuse,
            ..Default::default()
        };
        let mut throttle = throttle(limits);
        let mut out = Vec::new();
        assert!(throttle.push(at(0), "a", "1".into(), &mut out).is_ok());
        let refused = throttle.push(at(0), "b", "1".into(), &mut out);
        assert_eq!(refused, Err(ShapeError::Full { slots_max: 1 }));
        assert_eq!(
            throttle.push(at(1), "a", "2".into(), &mut out),
            Ok(Pushed::Waiting)
        );
        assert_eq!((throttle.stats().refused, out.len()), (1, 1));
    }

    #[test]
    fn bytes_are_bounded_and_the_oldest_goes_early() {
        let limits = ShapeLimits {
            bytes_max: 10,
            ..Default::default()
        };
        let mut throttle = throttle(limits);
        let mut out = Vec::new();
        for slot in ["a", "b"] {
            let _ = throttle.push(at(0), slot, "1".into(), &mut out);
        }
        out.clear();
        assert_eq!(
            throttle.push(at(1), "a", "xxxx".into(), &mut out),
            Ok(Pushed::Waiting)
        );
        assert_eq!(
            throttle.push(at(1), "b", "yyyyyy".into(), &mut out),
            Ok(Pushed::Waiting)
        );
        assert_eq!(out, ["xxxx".into()] as [Box<str>; 1]);
        assert_eq!(
            (throttle.bytes(), throttle.len(), throttle.stats().evicted),
            (7, 1, 1)
        );
        let heavy = throttle.push(at(2), "b", "zzzzzzzzzz".into(), &mut out);
        assert_eq!(
            heavy,
            Err(ShapeError::NoRoom {
                bytes: 10,
                bytes_max: 10
            })
        );
        assert_eq!(throttle.bytes(), 7);
    }

    #[test]
    fn zero_slots_and_the_end_of_time() {
        let limits = ShapeLimits {
            slots_max: 0,
            ..Default::default()
        };
        let mut none = throttle(limits);
        let refused = none.push(at(0), "a", "1".into(), &mut Vec::new());
        assert_eq!(refused, Err(ShapeError::Full { slots_max: 0 }));
        let mut late = throttle(ShapeLimits::default());
        let mut out = Vec::new();
        let _ = late.push(Millis::MAX, "a", "1".into(), &mut out);
        let _ = late.push(Millis::MAX, "a", "2".into(), &mut out);
        late.handle_timeout(Millis::MAX, &mut out);
        assert!(late.is_empty());
        assert_eq!(out.len(), 2);
    }

    #[test]
    fn time_that_runs_back_counts_as_standing_still() {
        let mut throttle = throttle(ShapeLimits::default());
        let mut out = Vec::new();
        let _ = throttle.push(at(1_000), "a", "1".into(), &mut out);
        let _ = throttle.push(at(0), "b", "1".into(), &mut out);
        throttle.handle_timeout(at(1_099), &mut out);
        assert_eq!(throttle.len(), 2);
        throttle.handle_timeout(at(1_100), &mut out);
        assert!(throttle.is_empty());
    }

    #[test]
    fn one_call_does_bounded_work() {
        let mut throttle = throttle(ShapeLimits::default());
        let mut out = Vec::new();
        for n in 0..3_000 {
            let _ = throttle.push(at(0), n.to_string().as_str(), "1".into(), &mut out);
        }
        throttle.handle_timeout(at(100), &mut out);
        assert_eq!(throttle.len(), 3_000 - TIMEOUT_BATCH);
        assert_eq!(throttle.next_deadline(), Some(at(100)));
    }

    #[test]
    fn publishers_do_not_hide_each_other() {
        let mut throttle = throttle(ShapeLimits::default());
        let mut out = Vec::new();
        for who in ["alice", "bob"] {
            let pushed = throttle.push(at(0), Slot::of("board", who), who.into(), &mut out);
            assert_eq!(pushed, Ok(Pushed::Sent));
        }
        assert!(throttle.flush(Slot::of("board", "bob"), &mut out));
        assert!(!throttle.flush("board", &mut out));
    }
}
