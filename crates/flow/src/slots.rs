//! Slots in which one value waits: what throttle and debounce share.

use crate::arena::Ends;
use crate::keyed::Keyed;
use crate::name::{KeyError, Slot, SlotName};
use crate::weigh::Weigh;

/// What a full throttle or debounce does with a slot it has not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtLimit {
    /// Sends the waiting value of the oldest slot early and forgets the slot, as the JavaScript
    /// original does. A throttled slot that was forgotten may be sent twice in one interval.
    /// Counter: `evicted`.
    #[default]
    FlushOldest,
    /// Refuses the new slot, so that the promised rate holds for the others. Counter: `refused`.
    Refuse,
}

/// Bounds of a [`Throttle`](crate::Throttle) or [`Debounce`](crate::Debounce).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeLimits {
    /// Slots at once. Default 1,000,000; with 0 every push is refused. See `at_limit`.
    pub slots_max: usize,
    /// Length of a topic, and of a key within it, in UTF-16 units. Default 256. Longer ones are
    /// refused. Counter: `refused`.
    pub name_units_max: usize,
    /// Bytes of all names and waiting values. Default 256 MiB. See `at_limit`; a value that does
    /// not fit beside nothing else is refused.
    pub bytes_max: usize,
    /// What happens at `slots_max` and `bytes_max`.
    pub at_limit: AtLimit,
}

impl Default for ShapeLimits {
    fn default() -> Self {
        Self {
            slots_max: 1_000_000,
            name_units_max: 256,
            bytes_max: 256 << 20,
            at_limit: AtLimit::FlushOldest,
        }
    }
}

/// What became of a value that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pushed {
    /// It was handed out at once.
    Sent,
    /// It waits.
    Waiting,
    /// It waits in the place of an earlier value, which is lost.
    Replaced,
}

/// A push was refused and the value dropped; nothing else happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// The slot's name.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// All slots are taken and [`AtLimit::Refuse`] holds. Try again after the interval.
    #[error("all {slots_max} slots are taken")]
    Full {
        /// The limit.
        slots_max: usize,
    },
    /// There is no room for the value: it alone exceeds the budget, or the budget is used up and
    /// [`AtLimit::Refuse`] holds.
    #[error("value of {bytes} bytes does not fit into the budget of {bytes_max}")]
    NoRoom {
        /// Name and value.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// Counters of a [`Throttle`](crate::Throttle) or [`Debounce`](crate::Debounce).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShapeStats {
    /// Values handed out, for whatever reason.
    pub sent: u64,
    /// Waiting values lost to a newer one of their slot.
    pub replaced: u64,
    /// Slots forgotten early to make room; their waiting values were handed out.
    pub evicted: u64,
    /// Waiting values dropped by `cancel`.
    pub cancelled: u64,
    /// Pushes refused.
    pub refused: u64,
}

/// All slots by name, in two lists: by age, and by when they fall due.
#[derive(Clone, Debug)]
pub(crate) struct Slots<V, T> {
    keyed: Keyed<SlotName, Entry<V, T>, 2>,
    age: Ends,
    due: Ends,
    bytes: usize,
    pub(crate) limits: ShapeLimits,
    pub(crate) stats: ShapeStats,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry<V, T> {
    pub(crate) time: T,
    waiting: Option<V>,
}

const AGE: usize = 0;
const DUE: usize = 1;

impl<V: Weigh, T> Slots<V, T> {
    pub(crate) fn new(limits: ShapeLimits) -> Self {
        Self {
            keyed: Keyed::new(),
            age: Ends::EMPTY,
            due: Ends::EMPTY,
            bytes: 0,
            limits,
            stats: ShapeStats::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.keyed.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn find(&self, slot: Slot<'_>) -> Option<u32> {
        self.keyed.find(&slot)
    }

    pub(crate) fn first_due(&self) -> Option<u32> {
        self.due.first()
    }

    pub(crate) fn oldest(&self) -> Option<u32> {
        self.age.first()
    }

    pub(crate) fn time(&self, index: u32) -> Option<&T> {
        self.keyed.get(index).map(|entry| &entry.time)
    }

    pub(crate) fn waits(&self, index: u32) -> bool {
        let entry = self.keyed.get(index);
        entry.is_some_and(|entry| entry.waiting.is_some())
    }

    /// Makes room for a slot that is not there, with a value of `weight` in it.
    pub(crate) fn make_room(
        &mut self,
        slot: Slot<'_>,
        weight: usize,
        out: &mut impl Extend<V>,
    ) -> Result<(), ShapeError> {
        let bytes = slot.bytes().saturating_add(weight);
        let full = self.len() >= self.limits.slots_max;
        if full && (self.limits.at_limit == AtLimit::Refuse || self.limits.slots_max == 0) {
            let slots_max = self.limits.slots_max;
            return Err(ShapeError::Full { slots_max });
        }
        self.check_budget(self.bytes, bytes, bytes)?;
        if full {
            self.evict_oldest(None, out);
        }
        while self.bytes + bytes > self.limits.bytes_max && self.evict_oldest(None, out) {}
        Ok(())
    }

    /// Whether `bytes` more fit, if need be by eviction; `alone` is what must fit beside nothing.
    fn check_budget(&self, used: usize, bytes: usize, alone: usize) -> Result<(), ShapeError> {
        let bytes_max = self.limits.bytes_max;
        let refuse = self.limits.at_limit == AtLimit::Refuse;
        if alone > bytes_max || (refuse && used.saturating_add(bytes) > bytes_max) {
            return Err(ShapeError::NoRoom { bytes, bytes_max });
        }
        Ok(())
    }

    /// Whether a value of `weight` may take the place of what waits in a slot.
    pub(crate) fn check_value(&self, index: u32, weight: usize) -> Result<(), ShapeError> {
        let name = self.keyed.key(index).map_or(0, SlotName::bytes);
        let entry = self.keyed.get(index);
        let old = entry.map_or(0, |entry| entry.waiting.weight());
        self.check_budget(self.bytes - old, weight, name.saturating_add(weight))
    }

    /// Stores a slot that is not there; room has been made.
    pub(crate) fn insert(&mut self, slot: Slot<'_>, time: T, waiting: Option<V>) {
        self.bytes += slot.bytes() + waiting.weight();
        let index = self.keyed.insert(slot.to_name(), Entry { time, waiting });
        self.keyed.link(AGE, &mut self.age, index);
        self.keyed.link(DUE, &mut self.due, index);
    }

    /// Puts a value that [`check_value`](Self::check_value) let through into its slot.
    pub(crate) fn put(&mut self, index: u32, value: V, out: &mut impl Extend<V>) -> Pushed {
        let Some(entry) = self.keyed.get_mut(index) else {
            return Pushed::Waiting;
        };
        self.bytes += value.weight();
        let old = entry.waiting.replace(value);
        let pushed = match &old {
            Some(old) => {
                self.bytes -= old.weight();
                self.stats.replaced += 1;
                Pushed::Replaced
            }
            None => Pushed::Waiting,
        };
        while self.bytes > self.limits.bytes_max && self.evict_oldest(Some(index), out) {}
        pushed
    }

    /// Hands out what waits in a slot.
    pub(crate) fn send_waiting(&mut self, index: u32, out: &mut impl Extend<V>) {
        let waiting = self.keyed.get_mut(index).and_then(|e| e.waiting.take());
        if let Some(value) = waiting {
            self.bytes -= value.weight();
            self.send(value, out);
        }
    }

    pub(crate) fn send(&mut self, value: V, out: &mut impl Extend<V>) {
        self.stats.sent += 1;
        out.extend(Some(value));
    }

    /// Gives a slot its next due time, which no other slot's comes after.
    pub(crate) fn rearm(&mut self, index: u32, change: impl FnOnce(&mut T)) {
        if let Some(entry) = self.keyed.get_mut(index) {
            change(&mut entry.time);
            self.keyed.move_back(DUE, &mut self.due, index);
        }
    }

    /// A slot that starts over is the youngest.
    pub(crate) fn rejuvenate(&mut self, index: u32) {
        self.keyed.move_back(AGE, &mut self.age, index);
    }

    /// Forgets a slot; gives what waited in it.
    pub(crate) fn remove(&mut self, index: u32) -> Option<V> {
        self.keyed.unlink(AGE, &mut self.age, index);
        self.keyed.unlink(DUE, &mut self.due, index);
        let (name, entry) = self.keyed.remove(index)?;
        self.bytes -= name.bytes() + entry.waiting.weight();
        entry.waiting
    }

    pub(crate) fn flush(&mut self, slot: Slot<'_>, out: &mut impl Extend<V>) -> bool {
        let found = self.find(slot);
        if let Some(index) = found {
            self.send_waiting(index, out);
            self.remove(index);
        }
        found.is_some()
    }

    pub(crate) fn flush_all(&mut self, out: &mut impl Extend<V>) {
        while let Some(index) = self.age.first() {
            self.send_waiting(index, out);
            self.remove(index);
        }
    }

    pub(crate) fn cancel(&mut self, slot: Slot<'_>) -> bool {
        let found = self.find(slot);
        if let Some(index) = found
            && self.remove(index).is_some()
        {
            self.stats.cancelled += 1;
        }
        found.is_some()
    }

    pub(crate) fn cancel_all(&mut self) {
        while let Some(index) = self.age.first() {
            if self.remove(index).is_some() {
                self.stats.cancelled += 1;
            }
        }
    }

    /// Forgets the oldest slot but `keep`, after handing out what waits in it.
    fn evict_oldest(&mut self, keep: Option<u32>, out: &mut impl Extend<V>) -> bool {
        let mut oldest = self.age.first();
        if oldest == keep {
            oldest = oldest.and_then(|index| self.keyed.next(AGE, index));
        }
        let Some(index) = oldest else { return false };
        self.send_waiting(index, out);
        self.remove(index);
        self.stats.evicted += 1;
        true
    }
}
