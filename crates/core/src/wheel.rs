//! Deadlines at any distance.

use core::time::Duration;

use crate::Millis;
use crate::time::millis_ceil;

/// Handle of a timer in a [`Wheel`].
///
/// A handle whose timer fired or was cancelled is dead; it never reaches a later timer (until one
/// place has been reused 2^32 times while the old handle was kept).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

/// A hierarchical timer wheel: many deadlines at mixed distances, cheap to set and to cancel.
///
/// Time is cut into ticks of the granularity given at construction. A timer fires at the first tick
/// that is not before its deadline: never early, and late by less than one tick (plus however late
/// the host calls). Timers of one tick fire in no particular order.
///
/// # Cost
/// `insert` and `cancel` O(1). `pop_due` O(1) amortised: an entry moves down at most eleven levels
/// in its life, in practice one or two. About 3 KiB for the wheel and 24 bytes plus `Option<T>` for
/// each entry; places are reused, memory is not given back. The owner bounds the number of entries.
///
/// # Example
/// ```
/// use core::time::Duration;
/// use millstream_core::{Millis, Wheel};
///
/// let mut wheel = Wheel::new(Duration::from_millis(10));
/// let soon = wheel.insert(Millis::from_millis(101), "soon");
/// wheel.insert(Millis::from_millis(60_000), "late");
/// assert_eq!(wheel.pop_due(Millis::from_millis(109)), None);
/// assert_eq!(wheel.pop_due(Millis::from_millis(110)), Some("soon"));
/// assert_eq!(wheel.cancel(soon), None); // it fired
/// ```
#[derive(Clone, Debug)]
pub struct Wheel<T> {
    tick_ms: u64,
    /// All ticks up to this one have been looked at.
    elapsed: u64,
    entries: Vec<Entry<T>>,
    free: u32,
    len: usize,
    /// One bit for each slot of a level that holds something.
    occupied: [u64; LEVELS],
    /// First entry of each slot, then of the list of due entries.
    heads: Box<[u32; LISTS]>,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    tick: u64,
    next: u32,
    previous: u32,
    generation: u32,
    list: u16,
    value: Option<T>,
}

const NIL: u32 = u32::MAX;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Enough levels for any 64-bit tick, so that there is no overflow list to look after.
const LEVELS: usize = 64_usize.div_ceil(SLOT_BITS as usize);
const DUE: u16 = (LEVELS * SLOTS) as u16;
const LISTS: usize = LEVELS * SLOTS + 1;

impl<T> Wheel<T> {
    /// An empty wheel with ticks of `granularity` (at least one millisecond).
    #[must_use]
    pub fn new(granularity: Duration) -> Self {
        Self {
            tick_ms: millis_ceil(granularity).max(1),
            elapsed: 0,
            entries: Vec::new(),
            free: NIL,
            len: 0,
            occupied: [0; LEVELS],
            heads: Box::new([NIL; LISTS]),
        }
    }

    /// Sets a timer for `at`. One whose time has passed is due at the next call of `pop_due`.
    ///
    /// # Panics
    /// At 2^32 - 1 timers at once.
    pub fn insert(&mut self, at: Millis, value: T) -> TimerId {
        let tick = at.as_millis().div_ceil(self.tick_ms);
        let index = self.take_place();
        let entry = &mut self.entries[index as usize];
        entry.tick = tick;
        entry.value = Some(value);
        let generation = entry.generation;
        self.len += 1;
        self.link(index);
        TimerId { index, generation }
    }

    /// Takes a timer out before it fires.
    pub fn cancel(&mut self, timer: TimerId) -> Option<T> {
        let entry = self.entries.get(timer.index as usize)?;
        if entry.generation != timer.generation || entry.value.is_none() {
            return None;
        }
        self.unlink(timer.index);
        self.release(timer.index)
    }

    /// Takes one timer that is due at `now`; call until `None`.
    pub fn pop_due(&mut self, now: Millis) -> Option<T> {
        let now_tick = now.as_millis() / self.tick_ms;
        loop {
            let first = self.heads[usize::from(DUE)];
            if first != NIL {
                self.unlink(first);
                return self.release(first);
            }
            match self.next_slot() {
                Some((level, slot, tick)) if tick <= now_tick => {
                    self.elapsed = self.elapsed.max(tick);
                    self.empty_slot(level, slot);
                }
                _ => {
                    self.elapsed = self.elapsed.max(now_tick);
                    return None;
                }
            }
        }
    }

    /// When to call [`pop_due`](Self::pop_due) next; `None` when no timer is set.
    ///
    /// Exact for timers within 64 ticks. Farther ones are announced at the start of the range they
    /// lie in, so a call at that time may give nothing and move the announcement.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.heads[usize::from(DUE)] != NIL {
            return Some(Millis::from_millis(
                self.elapsed.saturating_mul(self.tick_ms),
            ));
        }
        let (_, _, tick) = self.next_slot()?;
        Some(Millis::from_millis(tick.saturating_mul(self.tick_ms)))
    }

    /// Number of timers set.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The earliest occupied slot and the tick at which its range begins.
    ///
    /// Lower levels hold strictly earlier ticks than higher ones, so the first level that holds
    /// anything decides.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let shift = level as u32 * SLOT_BITS;
        let here = (self.elapsed >> shift) as u32 % SLOTS as u32;
        // Slots behind `here` are empty: their ticks have passed.
        let ahead = self.occupied[level].rotate_right(here).trailing_zeros();
        debug_assert!(
            here + ahead < SLOTS as u32,
            "a timer in a slot that has passed"
        );
        let tick = ((self.elapsed >> shift) + u64::from(ahead)) << shift;
        Some((level, (here + ahead) as usize % SLOTS, tick))
    }

    /// Moves all entries of a slot to where they belong now that `elapsed` has reached it.
    fn empty_slot(&mut self, level: usize, slot: usize) {
        let list = level * SLOTS + slot;
        let mut index = core::mem::replace(&mut self.heads[list], NIL);
        self.occupied[level] &= !(1 << slot);
        while index != NIL {
            let next = self.entries[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    fn link(&mut self, index: u32) {
        let list = self.list_of(self.entries[index as usize].tick);
        let next = core::mem::replace(&mut self.heads[usize::from(list)], index);
        if let Some(entry) = self.entries.get_mut(next as usize) {
            entry.previous = index;
        }
        if list != DUE {
            self.occupied[usize::from(list) / SLOTS] |= 1 << (usize::from(list) % SLOTS);
        }
        let entry = &mut self.entries[index as usize];
        (entry.next, entry.previous, entry.list) = (next, NIL, list);
    }

    fn unlink(&mut self, index: u32) {
        let Entry {
            next,
            previous,
            list,
            ..
        } = self.entries[index as usize];
        if let Some(entry) = self.entries.get_mut(next as usize) {
            entry.previous = previous;
        }
        if let Some(entry) = self.entries.get_mut(previous as usize) {
            entry.next = next;
            return;
        }
        self.heads[usize::from(list)] = next;
        if next == NIL && list != DUE {
            self.occupied[usize::from(list) / SLOTS] &= !(1 << (usize::from(list) % SLOTS));
        }
    }

    /// The slot is named by the highest bits in which the tick differs from `elapsed`.
    fn list_of(&self, tick: u64) -> u16 {
        if tick <= self.elapsed {
            return DUE;
        }
        let highest = 63 - (tick ^ self.elapsed).leading_zeros();
        let level = highest / SLOT_BITS;
        let slot = (tick >> (level * SLOT_BITS)) as usize % SLOTS;
        (level as usize * SLOTS + slot) as u16
    }

    fn take_place(&mut self) -> u32 {
        if let Some(entry) = self.entries.get(self.free as usize) {
            return core::mem::replace(&mut self.free, entry.next);
        }
        let index = self.entries.len();
        assert!(index < NIL as usize, "more than 2^32 - 1 timers");
        self.entries.push(Entry {
            tick: 0,
            next: NIL,
            previous: NIL,
            generation: 0,
            list: DUE,
            value: None,
        });
        index as u32
    }

    fn release(&mut self, index: u32) -> Option<T> {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = core::mem::replace(&mut self.free, index);
        self.len -= 1;
        entry.value.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Millis {
        Millis::from_millis(ms)
    }

    fn drain(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
        let mut due: Vec<u64> = core::iter::from_fn(|| wheel.pop_due(at(now))).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn fires_at_every_distance() {
        let mut wheel = Wheel::new(Duration::from_millis(1));
        let times: Vec<u64> = (0..60).map(|shift| (1_u64 << shift) + shift).collect();
        for time in &times {
            wheel.insert(at(*time), *time);
        }
        for time in &times {
            assert_eq!(
                drain(&mut wheel, *time - 1),
                [] as [u64; 0],
                "before {time}"
            );
            assert_eq!(drain(&mut wheel, *time), [*time]);
        }
        assert!(wheel.is_empty());
    }

    #[test]
    fn next_deadline_leads_to_each_timer() {
        let mut wheel = Wheel::new(Duration::from_millis(100));
        for time in [5, 250, 90_000, 7_200_000] {
            wheel.insert(at(time), time);
        }
        let mut fired = Vec::new();
        let mut calls = 0;
        while let Some(deadline) = wheel.next_deadline() {
            calls += 1;
            while let Some(time) = wheel.pop_due(deadline) {
                assert!(
                    (time..time + 100).contains(&deadline.as_millis()),
                    "{time} {deadline}"
                );
                fired.push(time);
            }
        }
        assert_eq!(fired, [5, 250, 90_000, 7_200_000]);
        assert!(calls <= 12, "{calls} wake-ups for four timers");
    }

    #[test]
    fn cancelled_timers_do_not_fire_and_ids_die() {
        let mut wheel = Wheel::new(Duration::from_millis(10));
        let a = wheel.insert(at(100), 1);
        let b = wheel.insert(at(100), 2);
        assert_eq!(wheel.cancel(a), Some(1));
        assert_eq!(wheel.cancel(a), None);
        let c = wheel.insert(at(100), 3);
        assert_eq!(wheel.cancel(a), None, "the place has a new tenant");
        assert_eq!(drain(&mut wheel, 100), [2, 3]);
        assert_eq!((wheel.cancel(b), wheel.cancel(c)), (None, None));
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn past_deadlines_are_due_at_once() {
        let mut wheel = Wheel::new(Duration::from_millis(10));
        assert_eq!(wheel.pop_due(at(1_000)), None);
        wheel.insert(at(3), 3);
        assert_eq!(wheel.next_deadline(), Some(at(1_000)));
        assert_eq!(drain(&mut wheel, 1_000), [3]);
    }

    #[test]
    fn entries_are_compact() {
        assert_eq!(size_of::<Entry<core::num::NonZeroU64>>(), 32);
    }
}
