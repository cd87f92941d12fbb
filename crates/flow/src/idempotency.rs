//! A repeated call gets the first one's result.

mod types;

use core::time::Duration;

use millstream_core::Millis;

use crate::TIMEOUT_BATCH;
use crate::arena::{Arena, Ends};
use crate::clock::Clock;
use crate::keyed::Keyed;
use crate::name::check;
use crate::ticket::Ticket;
use crate::weigh::Weigh;

pub use types::{
    Attempt, IdempotencyConfig, IdempotencyError, IdempotencyStats, IfBusy, Run, SlotEvent,
};

/// Results by key: a call whose key was seen is given the earlier result instead of running again.
///
/// ```text
/// free        -- claim ------------------> in progress, the caller runs
/// in progress -- claim ------------------> the caller waits, or returns
/// in progress -- complete ---------------> done; all who wait get the result
/// in progress -- abandon, lease ends ----> the first who waits runs; free if nobody does
/// done        -- claim ------------------> the result
/// done        -- ttl over, evicted ------> free
/// ```
///
/// Keys are used as they come. A caller that lets clients choose them must make the client part of
/// the key, or one user is given another user's result: `rpc:<path>:<user>:<key>`.
///
/// A run that loses its lease can neither store its result nor free the slot; that its effect
/// happens once is more than any such table can promise, that it is *recorded* by one run is not.
///
/// # Cost
/// All methods O(1); `complete` plus one event for each caller that waited, at most
/// `waiters_max`, and amortised evictions. 64 bytes for a slot of [`bytes::Bytes`] plus key and
/// 5 to 10 bytes of index; 32 bytes for a waiter. Leases are equally long, and so are lives of
/// results: two lists serve as deadlines.
///
/// # Example
/// ```
/// use millstream_core::Millis;
/// use millstream_flow::{Attempt, Idempotency, IfBusy};
///
/// let at = Millis::from_millis;
/// let mut slots = Idempotency::default();
/// let Attempt::Run(run) = slots.claim(at(0), "pay:alice:7", IfBusy::Wait)? else { panic!() };
/// let busy = slots.claim(at(1), "pay:alice:7", IfBusy::Return)?;
/// assert_eq!(busy, Attempt::InProgress);
/// slots.complete(at(2), run, "paid", &mut Vec::new())?;
/// assert_eq!(slots.claim(at(3), "pay:alice:7", IfBusy::Wait)?, Attempt::Done(&"paid"));
/// # Ok::<(), millstream_flow::IdempotencyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Idempotency<V> {
    keyed: Keyed<Box<str>, Slot<V>, 1>,
    /// Slots in progress, by the end of the lease.
    running: Ends,
    /// Slots that are done, by the end of the result's life.
    done: Ends,
    waiters: Arena<Waiter, 1>,
    clock: Clock,
    numbers: u64,
    bytes: usize,
    /// Those of them that belong to slots that are done.
    done_bytes: usize,
    config: IdempotencyConfig,
    stats: IdempotencyStats,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot<V> {
    ends_at: Millis,
    state: State<V>,
}

#[derive(Clone, Debug)]
pub(crate) enum State<V> {
    Running {
        number: u64,
        waiters: Ends,
        waiting: u32,
    },
    Done(V),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    number: u64,
    slot: u32,
}

impl<V: Weigh + Clone> Idempotency<V> {
    /// Without slots.
    #[must_use]
    pub fn new(config: IdempotencyConfig) -> Self {
        let lease = config.lease.max(Duration::from_millis(1));
        Self {
            keyed: Keyed::new(),
            running: Ends::EMPTY,
            done: Ends::EMPTY,
            waiters: Arena::new(),
            clock: Clock::default(),
            numbers: 0,
            bytes: 0,
            done_bytes: 0,
            config: IdempotencyConfig { lease, ..config },
            stats: IdempotencyStats::default(),
        }
    }

    /// Begins a run, or finds out why not to.
    ///
    /// # Errors
    /// [`IdempotencyError`]; nothing else happened.
    pub fn claim(
        &mut self,
        now: Millis,
        key: &str,
        if_busy: IfBusy,
    ) -> Result<Attempt<'_, V>, IdempotencyError> {
        let now = self.clock.advance(now);
        let attempt = self.admit(now, key, if_busy);
        self.stats.refused += u64::from(attempt.is_err());
        Ok(match attempt? {
            Found::Free(index) => Attempt::Run(self.begin(now, index)),
            Found::Busy => Attempt::InProgress,
            Found::Line(index) => self.wait(index),
            Found::Done(index) => match self.keyed.get(index).map(|slot| &slot.state) {
                Some(State::Done(result)) => {
                    self.stats.hits += 1;
                    Attempt::Done(result)
                }
                _ => Attempt::InProgress,
            },
        })
    }

    fn admit(
        &mut self,
        now: Millis,
        key: &str,
        if_busy: IfBusy,
    ) -> Result<Found, IdempotencyError> {
        check(key, self.config.key_units_max)?;
        let Some(index) = self.keyed.find(key) else {
            return self.add(now, key).map(Found::Free);
        };
        let Some(slot) = self.keyed.get(index) else {
            return Ok(Found::Busy);
        };
        let over = slot.ends_at <= now;
        let State::Running { waiting, .. } = slot.state else {
            return Ok(if over {
                Found::Free(index)
            } else {
                Found::Done(index)
            });
        };
        if over && waiting == 0 {
            return Ok(Found::Free(index));
        }
        if if_busy == IfBusy::Return {
            return Ok(Found::Busy);
        }
        let IdempotencyConfig {
            waiters_max,
            waiters_total_max,
            ..
        } = self.config;
        if waiting as usize >= waiters_max {
            return Err(IdempotencyError::WaitersFull {
                waiters: waiters_max,
            });
        }
        if self.waiters.len() >= waiters_total_max {
            return Err(IdempotencyError::WaitersFull {
                waiters: waiters_total_max,
            });
        }
        Ok(Found::Line(index))
    }

    /// Stores the result of a run. All who wait get a copy of it, or their turn if results are not
    /// kept.
    ///
    /// # Errors
    /// [`IdempotencyError::Lost`] and [`IdempotencyError::NoRoom`]; both tell what became of the
    /// slot.
    pub fn complete(
        &mut self,
        now: Millis,
        run: Run,
        result: V,
        out: &mut impl Extend<SlotEvent<V>>,
    ) -> Result<(), IdempotencyError> {
        let now = self.clock.advance(now);
        let index = self.owned(&run)?;
        if self.config.ttl.is_zero() {
            self.stats.completed += 1;
            self.pass_on(now, index, out);
            return Ok(());
        }
        let bytes = result.weight();
        if let Err(error) = self.make_room(bytes, self.config.result_bytes_max) {
            self.stats.refused += 1;
            return Err(error);
        }
        self.stats.completed += 1;
        self.keyed.unlink(0, &mut self.running, index);
        self.keyed.link(0, &mut self.done, index);
        self.bytes += bytes;
        self.done_bytes += bytes + self.keyed.key(index).map_or(0, |key| key.len());
        let Some(slot) = self.keyed.get_mut(index) else {
            return Ok(());
        };
        slot.ends_at = now + self.config.ttl;
        let old = core::mem::replace(&mut slot.state, State::Done(result.clone()));
        if let State::Running { mut waiters, .. } = old {
            while let Some(place) = waiters.first() {
                self.waiters.unlink(0, &mut waiters, place);
                let number = self.waiters.remove(place).map_or(0, |waiter| waiter.number);
                let ticket = Ticket {
                    number,
                    index: place,
                };
                self.stats.hits += 1;
                out.extend(Some(SlotEvent::Done {
                    ticket,
                    result: result.clone(),
                }));
            }
        }
        Ok(())
    }

    /// Ends a run without a result: the first who waits gets its turn.
    ///
    /// # Errors
    /// [`IdempotencyError::Lost`]; nothing happened.
    pub fn abandon(
        &mut self,
        now: Millis,
        run: Run,
        out: &mut impl Extend<SlotEvent<V>>,
    ) -> Result<(), IdempotencyError> {
        let now = self.clock.advance(now);
        let index = self.owned(&run)?;
        self.stats.abandoned += 1;
        self.pass_on(now, index, out);
        Ok(())
    }

    /// Extends the lease of a run to a full one from now.
    ///
    /// # Errors
    /// [`IdempotencyError::Lost`]; the run should stop.
    pub fn renew(&mut self, now: Millis, run: &Run) -> Result<(), IdempotencyError> {
        let now = self.clock.advance(now);
        let index = self.owned(run)?;
        self.lease(now, index);
        Ok(())
    }

    /// Gives a place in a line up. False if the caller has its event already.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(&Waiter { number, slot }) = self.waiters.get(ticket.index) else {
            return false;
        };
        if number == ticket.number {
            self.leave_line(slot, ticket.index);
        }
        number == ticket.number
    }

    /// Forgets the result of a key, if it is done.
    pub fn forget(&mut self, key: &str) -> Option<V> {
        let index = self.keyed.find(key)?;
        self.take_done(index)
    }

    /// Ends leases and drops results whose time is over, 1,024 of each at most;
    /// [`next_deadline`](Self::next_deadline) says whether there are more.
    pub fn handle_timeout(&mut self, now: Millis, out: &mut impl Extend<SlotEvent<V>>) {
        let now = self.clock.advance(now);
        for _ in 0..TIMEOUT_BATCH {
            match self.running.first() {
                Some(index) if self.has_ended(index, now) => {
                    self.stats.lease_expired += 1;
                    self.pass_on(now, index, out);
                }
                _ => break,
            }
        }
        for _ in 0..TIMEOUT_BATCH {
            match self.done.first() {
                Some(index) if self.has_ended(index, now) => {
                    self.stats.expired += 1;
                    self.take_done(index);
                }
                _ => break,
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let first = |ends: Ends| {
            let slot = self.keyed.get(ends.first()?)?;
            Some(slot.ends_at)
        };
        match (first(self.running), first(self.done)) {
            (Some(lease), Some(life)) => Some(lease.min(life)),
            (lease, life) => lease.or(life),
        }
    }

    /// Slots in progress or done.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keyed.len()
    }

    /// Whether all keys are free.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Callers in line, of all keys.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Bytes of keys and results.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> IdempotencyStats {
        self.stats
    }

    fn owned(&mut self, run: &Run) -> Result<u32, IdempotencyError> {
        match self.keyed.get(run.index).map(|slot| &slot.state) {
            Some(State::Running { number, .. }) if *number == run.number => Ok(run.index),
            _ => {
                self.stats.lost += 1;
                Err(IdempotencyError::Lost)
            }
        }
    }

    /// Makes a slot for a key that has none.
    fn add(&mut self, now: Millis, key: &str) -> Result<u32, IdempotencyError> {
        let entries_max = self.config.entries_max;
        if self.len() >= entries_max && self.done.is_empty() {
            return Err(IdempotencyError::Full { entries_max });
        }
        self.make_room(key.len(), usize::MAX)?;
        if self.len() >= entries_max {
            self.evict();
        }
        self.bytes += key.len();
        let state = State::Running {
            number: 0,
            waiters: Ends::EMPTY,
            waiting: 0,
        };
        let index = self.keyed.insert(
            key.into(),
            Slot {
                ends_at: now,
                state,
            },
        );
        self.keyed.link(0, &mut self.running, index);
        Ok(index)
    }

    /// Turns a slot that is free, whatever it was before, into a run.
    fn begin(&mut self, now: Millis, index: u32) -> Run {
        self.numbers += 1;
        let number = self.numbers;
        self.stats.runs += 1;
        let key_bytes = self.keyed.key(index).map_or(0, |key| key.len());
        if let Some(slot) = self.keyed.get_mut(index) {
            match &mut slot.state {
                State::Running { number: old, .. } => {
                    self.stats.lease_expired += u64::from(*old != 0);
                    *old = number;
                }
                State::Done(result) => {
                    self.bytes -= result.weight();
                    self.done_bytes -= key_bytes + result.weight();
                    self.stats.expired += 1;
                    slot.state = State::Running {
                        number,
                        waiters: Ends::EMPTY,
                        waiting: 0,
                    };
                    self.keyed.unlink(0, &mut self.done, index);
                    self.keyed.link(0, &mut self.running, index);
                }
            }
        }
        self.lease(now, index);
        Run { number, index }
    }

    fn lease(&mut self, now: Millis, index: u32) {
        if let Some(slot) = self.keyed.get_mut(index) {
            slot.ends_at = now + self.config.lease;
            self.keyed.move_back(0, &mut self.running, index);
        }
    }

    fn wait(&mut self, index: u32) -> Attempt<'_, V> {
        self.numbers += 1;
        let number = self.numbers;
        let place = self.waiters.insert(Waiter {
            number,
            slot: index,
        });
        if let Some(Slot {
            state: State::Running {
                waiters, waiting, ..
            },
            ..
        }) = self.keyed.get_mut(index)
        {
            self.waiters.link(0, waiters, place);
            *waiting += 1;
        }
        Attempt::Wait(Ticket {
            number,
            index: place,
        })
    }

    fn leave_line(&mut self, slot: u32, place: u32) -> u64 {
        if let Some(Slot {
            state: State::Running {
                waiters, waiting, ..
            },
            ..
        }) = self.keyed.get_mut(slot)
        {
            self.waiters.unlink(0, waiters, place);
            *waiting -= 1;
        }
        self.waiters.remove(place).map_or(0, |waiter| waiter.number)
    }

    /// Gives a running slot to the first who waits, or frees it.
    fn pass_on(&mut self, now: Millis, index: u32, out: &mut impl Extend<SlotEvent<V>>) {
        let first = match self.keyed.get(index).map(|slot| &slot.state) {
            Some(State::Running { waiters, .. }) => waiters.first(),
            _ => None,
        };
        if let Some(place) = first {
            let number = self.leave_line(index, place);
            self.numbers += 1;
            self.stats.runs += 1;
            let run = Run {
                number: self.numbers,
                index,
            };
            if let Some(Slot {
                state: State::Running { number, .. },
                ..
            }) = self.keyed.get_mut(index)
            {
                *number = run.number;
            }
            self.lease(now, index);
            let ticket = Ticket {
                number,
                index: place,
            };
            out.extend(Some(SlotEvent::Run { ticket, run }));
            return;
        }
        self.keyed.unlink(0, &mut self.running, index);
        if let Some((key, _)) = self.keyed.remove(index) {
            self.bytes -= key.len();
        }
    }

    /// Makes room for so many bytes by dropping results, oldest first; drops none in vain.
    fn make_room(&mut self, bytes: usize, one_max: usize) -> Result<(), IdempotencyError> {
        let bytes_max = self.config.bytes_max.min(one_max);
        if bytes > bytes_max {
            return Err(IdempotencyError::NoRoom { bytes, bytes_max });
        }
        let bytes_max = self.config.bytes_max;
        if self.bytes - self.done_bytes + bytes > bytes_max {
            return Err(IdempotencyError::NoRoom { bytes, bytes_max });
        }
        while self.bytes + bytes > bytes_max {
            self.evict();
        }
        Ok(())
    }

    fn evict(&mut self) {
        if let Some(index) = self.done.first() {
            self.take_done(index);
            self.stats.evicted += 1;
        }
    }

    fn take_done(&mut self, index: u32) -> Option<V> {
        if !matches!(self.keyed.get(index)?.state, State::Done(_)) {
            return None;
        }
        self.keyed.unlink(0, &mut self.done, index);
        let (key, slot) = self.keyed.remove(index)?;
        let State::Done(result) = slot.state else {
            return None;
        };
        self.bytes -= key.len() + result.weight();
        self.done_bytes -= key.len() + result.weight();
        Some(result)
    }

    fn has_ended(&self, index: u32, now: Millis) -> bool {
        let slot = self.keyed.get(index);
        slot.is_some_and(|slot| slot.ends_at <= now)
    }
}

impl<V: Weigh + Clone> Default for Idempotency<V> {
    fn default() -> Self {
        Self::new(IdempotencyConfig::default())
    }
}

/// What `claim` found, before it changes anything but room.
enum Found {
    Free(u32),
    Busy,
    Line(u32),
    Done(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    type Slots = Idempotency<Box<str>>;

    fn at(ms: u64) -> Millis {
        Millis::from_millis(ms)
    }

    fn slots(config: IdempotencyConfig) -> Slots {
        Idempotency::new(IdempotencyConfig {
            ttl: Duration::from_millis(1_000),
            lease: Duration::from_millis(100),
            ..config
        })
    }

    fn run(slots: &mut Slots, ms: u64, key: &str) -> Run {
        match slots.claim(at(ms), key, IfBusy::Wait) {
            Ok(Attempt::Run(run)) => run,
            other => panic!("not free: {other:?}"),
        }
    }

    fn wait(slots: &mut Slots, ms: u64, key: &str) -> Ticket {
        match slots.claim(at(ms), key, IfBusy::Wait) {
            Ok(Attempt::Wait(ticket)) => ticket,
            other => panic!("not in progress: {other:?}"),
        }
    }

    #[test]
    fn waiting_callers_get_the_result_or_their_turn() {
        let mut slots = slots(IdempotencyConfig::default());
        let mut out = Vec::new();
        let first = run(&mut slots, 0, "k");
        let [a, b, c] = [1, 2, 3].map(|ms| wait(&mut slots, ms, "k"));
        assert!(slots.cancel(b));
        assert!(!slots.cancel(b));
        assert_eq!(slots.abandon(at(4), first, &mut out), Ok(()));
        let Some(SlotEvent::Run { ticket, run }) = out.pop() else {
            panic!()
        };
        assert_eq!(ticket, a);
        assert_eq!(slots.complete(at(5), run, "r".into(), &mut out), Ok(()));
        assert_eq!(
            out,
            [SlotEvent::Done {
                ticket: c,
                result: "r".into()
            }]
        );
        let done = slots.claim(at(1_004), "k", IfBusy::Return);
        assert_eq!(done, Ok(Attempt::Done(&"r".into())));
        let again = run_number(&mut slots, 1_005);
        assert!(again > 0);
        assert_eq!((slots.waiting(), slots.bytes()), (0, 1));
    }

    fn run_number(slots: &mut Slots, ms: u64) -> u64 {
        run(slots, ms, "k").number()
    }

    #[test]
    fn a_late_owner_can_neither_store_nor_free() {
        let mut slots = slots(IdempotencyConfig::default());
        let mut out = Vec::new();
        let late = run(&mut slots, 0, "k");
        let next = run(&mut slots, 100, "k");
        let stored = slots.complete(at(101), late, "late".into(), &mut out);
        assert_eq!(stored, Err(IdempotencyError::Lost));
        assert_eq!(slots.renew(at(150), &next), Ok(()));
        slots.handle_timeout(at(240), &mut out);
        assert_eq!(
            slots.complete(at(249), next, "next".into(), &mut out),
            Ok(())
        );
        let done = slots.claim(at(250), "k", IfBusy::Wait);
        assert_eq!(done, Ok(Attempt::Done(&"next".into())));
        assert_eq!((slots.stats().lost, slots.stats().lease_expired), (1, 1));
    }

    #[test]
    fn a_lease_that_ends_goes_to_the_line() {
        let mut slots = slots(IdempotencyConfig::default());
        let mut out = Vec::new();
        let slow = run(&mut slots, 0, "k");
        let ticket = wait(&mut slots, 10, "k");
        assert_eq!(slots.next_deadline(), Some(at(100)));
        // Overdue, but somebody is first in line.
        let other = wait(&mut slots, 120, "k");
        slots.handle_timeout(at(120), &mut out);
        assert!(matches!(&out[..], [SlotEvent::Run { ticket: t, .. }] if *t == ticket));
        assert_eq!(
            slots.abandon(at(121), slow, &mut out),
            Err(IdempotencyError::Lost)
        );
        assert_eq!(slots.next_deadline(), Some(at(220)));
        assert!(slots.cancel(other));
        slots.handle_timeout(at(220), &mut out);
        assert!(slots.is_empty());
    }

    #[test]
    fn without_a_life_results_only_take_turns() {
        let config = IdempotencyConfig {
            ttl: Duration::ZERO,
            ..Default::default()
        };
        let mut slots = Slots::new(config);
        let mut out = Vec::new();
        let first = run(&mut slots, 0, "k");
        let ticket = wait(&mut slots, 0, "k");
        assert_eq!(slots.complete(at(0), first, "r".into(), &mut out), Ok(()));
        let Some(SlotEvent::Run { ticket: t, run }) = out.pop() else {
            panic!()
        };
        assert_eq!(t, ticket);
        assert_eq!(slots.complete(at(0), run, "r".into(), &mut out), Ok(()));
        assert!(slots.is_empty());
    }

    #[test]
    fn limits_spare_what_is_in_progress() {
        let config = IdempotencyConfig {
            entries_max: 2,
            waiters_max: 1,
            ..Default::default()
        };
        let mut slots = slots(config);
        let mut out = Vec::new();
        let a = run(&mut slots, 0, "a");
        let _b = run(&mut slots, 0, "b");
        let full = slots.claim(at(0), "c", IfBusy::Wait);
        assert_eq!(full, Err(IdempotencyError::Full { entries_max: 2 }));
        let _ = wait(&mut slots, 0, "b");
        let full = slots.claim(at(0), "b", IfBusy::Wait);
        assert_eq!(full, Err(IdempotencyError::WaitersFull { waiters: 1 }));
        assert_eq!(slots.complete(at(0), a, "r".into(), &mut out), Ok(()));
        let _c = run(&mut slots, 0, "c");
        assert_eq!((slots.len(), slots.stats().evicted), (2, 1));
    }

    #[test]
    fn results_that_do_not_fit_leave_the_slot_to_its_lease() {
        let config = IdempotencyConfig {
            result_bytes_max: 4,
            bytes_max: 8,
            ..Default::default()
        };
        let mut slots = slots(config);
        let mut out = Vec::new();
        let heavy = run(&mut slots, 0, "a");
        let refused = slots.complete(at(0), heavy, "12345".into(), &mut out);
        assert_eq!(
            refused,
            Err(IdempotencyError::NoRoom {
                bytes: 5,
                bytes_max: 4
            })
        );
        let busy = slots.claim(at(1), "a", IfBusy::Return);
        assert_eq!(busy, Ok(Attempt::InProgress));
        for key in ["b", "c"] {
            let run = run(&mut slots, 0, key);
            assert_eq!(slots.complete(at(0), run, "1234".into(), &mut out), Ok(()));
        }
        assert_eq!(
            (slots.len(), slots.bytes(), slots.stats().evicted),
            (2, 6, 1)
        );
        assert_eq!(slots.forget("a"), None);
        assert_eq!(slots.forget("c"), Some("1234".into()));
        slots.handle_timeout(at(100), &mut out);
        assert_eq!((slots.len(), slots.bytes()), (0, 0));
    }
}
