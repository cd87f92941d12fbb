//! One holder per key, and a line of waiters.

mod types;

use core::time::Duration;
use std::collections::VecDeque;

use millstream_core::{Millis, TimerId, Wheel};

use crate::TIMEOUT_BATCH;
use crate::arena::{Arena, Ends};
use crate::clock::Clock;
use crate::keyed::Keyed;
use crate::name::check;
use crate::ticket::Ticket;

pub use types::{Acquired, Claim, Guard, LockError, LockEvent, LockLimits, LockStats, Wait};

/// Mutual exclusion per key, first come, first served, with bounded waiting.
///
/// Nothing runs in here and nothing blocks: a caller gets a guard, or a ticket that a later
/// [`LockEvent`] names. A release hands the key over to the next in line in the same call. A guard
/// only ever releases the hold it was given for.
///
/// [`clear`](Self::clear) sends all waiters away, but a key stays taken until its holder releases
/// it: two holders of one key exist only after `hold_max`.
///
/// # Cost
/// `acquire`, `release`, `cancel` O(1); an acquire of a free key copies its text. `handle_timeout`
/// O(k log k) for k deadlines of one millisecond, so that they are told in the order of arrival.
/// 80 bytes for a held key plus its text and 5 to 10 bytes of index; 48 bytes for a waiter, 40 more
/// if its wait is limited.
///
/// # Example
/// ```
/// use core::time::Duration;
/// use millstream_core::Millis;
/// use millstream_flow::{Acquired, Claim, KeyLock, LockEvent, LockLimits, Wait};
///
/// let at = Millis::from_millis;
/// let mut lock = KeyLock::new(LockLimits::default());
/// let free = lock.acquire(at(0), "doc:1", Claim::default())?;
/// let Acquired::Granted(guard) = free else { panic!() };
/// let patient = Claim { wait: Wait::AtMost(Duration::from_millis(50)), ..Claim::default() };
/// let Acquired::Waiting(ticket) = lock.acquire(at(0), "doc:1", patient)? else { panic!() };
///
/// let mut events = Vec::new();
/// assert!(lock.release(at(10), guard, &mut events));
/// assert!(matches!(&events[..], [LockEvent::Granted { ticket: t, .. }] if *t == ticket));
/// # Ok::<(), millstream_flow::LockError>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeyLock {
    keys: Keyed<Box<str>, Held, 1>,
    order: Ends,
    /// Held keys that were cleared; they do not count as held.
    cleared: usize,
    bytes: usize,
    waiters: Arena<Waiter, 1>,
    wheel: Wheel<Deadline>,
    /// Deadlines that the wheel gave up, in order.
    due: VecDeque<Deadline>,
    due_at: Millis,
    clock: Clock,
    numbers: u64,
    limits: LockLimits,
    stats: LockStats,
}

/// A key and who holds it. A key without holder does not exist.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    number: u64,
    owner: Option<u64>,
    timer: Option<TimerId>,
    waiters: Ends,
    waiting: u32,
    cleared: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    number: u64,
    owner: Option<u64>,
    timer: Option<TimerId>,
    key: u32,
}

/// Ordered by number, which is the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    number: u64,
    of: Of,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Of {
    Wait(u32),
    Hold(u32),
}

impl KeyLock {
    /// Without holders.
    #[must_use]
    pub fn new(limits: LockLimits) -> Self {
        Self {
            keys: Keyed::new(),
            order: Ends::EMPTY,
            cleared: 0,
            bytes: 0,
            waiters: Arena::new(),
            wheel: Wheel::new(Duration::from_millis(1)),
            due: VecDeque::new(),
            due_at: Millis::ZERO,
            clock: Clock::default(),
            numbers: 0,
            limits,
            stats: LockStats::default(),
        }
    }

    /// Takes a key, or a place in its line.
    ///
    /// # Errors
    /// [`LockError`]; nothing else happened.
    pub fn acquire(&mut self, now: Millis, key: &str, claim: Claim) -> Result<Acquired, LockError> {
        let now = self.clock.advance(now);
        let acquired = self.admit(now, key, claim);
        self.stats.refused += u64::from(acquired.is_err());
        acquired
    }

    fn admit(&mut self, now: Millis, key: &str, claim: Claim) -> Result<Acquired, LockError> {
        check(key, self.limits.key_units_max)?;
        let Some(index) = self.keys.find(key) else {
            self.check_keys()?;
            if self.cleared > self.limits.cleared_max {
                return Err(LockError::KeysFull {
                    keys_max: self.limits.keys_max,
                });
            }
            let (bytes, bytes_max) = (key.len(), self.limits.bytes_max);
            if self.bytes + bytes > bytes_max {
                return Err(LockError::NoRoom { bytes, bytes_max });
            }
            return Ok(Acquired::Granted(self.hold_new(now, key, claim.owner)));
        };
        self.check_line(index, claim)?;
        let number = self.next_number();
        let place = self.waiters.insert(Waiter {
            number,
            owner: claim.owner,
            timer: None,
            key: index,
        });
        if let Wait::AtMost(time) = claim.wait {
            let deadline = Deadline {
                number,
                of: Of::Wait(place),
            };
            let timer = self.wheel.insert(now + time, deadline);
            if let Some(waiter) = self.waiters.get_mut(place) {
                waiter.timer = Some(timer);
            }
        }
        if let Some(held) = self.keys.get_mut(index) {
            self.waiters.link(0, &mut held.waiters, place);
            held.waiting += 1;
            self.cleared -= usize::from(core::mem::take(&mut held.cleared));
        }
        self.stats.waited += 1;
        Ok(Acquired::Waiting(Ticket {
            number,
            index: place,
        }))
    }

    /// Whether one more caller may wait for a held key.
    fn check_line(&self, index: u32, claim: Claim) -> Result<(), LockError> {
        let LockLimits {
            waiters_max,
            waiters_total_max,
            ..
        } = self.limits;
        let Some(held) = self.keys.get(index) else {
            return Err(LockError::Busy);
        };
        if claim.owner.is_some() && claim.owner == held.owner {
            return Err(LockError::Reentrant);
        }
        if matches!(claim.wait, Wait::Try | Wait::AtMost(Duration::ZERO)) {
            return Err(LockError::Busy);
        }
        if held.cleared {
            // To whoever cleared, this is a key that comes back.
            self.check_keys()?;
        }
        if held.waiting as usize >= waiters_max {
            return Err(LockError::WaitersFull { waiters_max });
        }
        if self.waiters.len() >= waiters_total_max {
            return Err(LockError::TotalFull { waiters_total_max });
        }
        Ok(())
    }

    fn check_keys(&self) -> Result<(), LockError> {
        let keys_max = self.limits.keys_max;
        if self.len() >= keys_max {
            return Err(LockError::KeysFull { keys_max });
        }
        Ok(())
    }

    /// Gives a key back; the next in line gets it in the same call. False if the guard had lost
    /// its key, in which case nothing happens.
    pub fn release(&mut self, now: Millis, guard: Guard, out: &mut impl Extend<LockEvent>) -> bool {
        let now = self.clock.advance(now);
        let Guard { number, index } = guard;
        if self
            .keys
            .get(index)
            .is_none_or(|held| held.number != number)
        {
            self.stats.stale += 1;
            return false;
        }
        self.hand_over(now, index, out);
        true
    }

    /// Leaves the line. False if the waiter is not in it: it has the key, or its event is out.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let waiter = self.waiters.get(ticket.index);
        if waiter.is_none_or(|waiter| waiter.number != ticket.number) {
            return false;
        }
        self.leave_line(ticket.index);
        self.stats.cancelled += 1;
        true
    }

    /// Sends all waiters away, oldest key first. Holders keep their keys until they release them,
    /// but [`is_held`](Self::is_held) and [`len`](Self::len) forget these keys until somebody asks
    /// for them again.
    pub fn clear(&mut self, out: &mut impl Extend<LockEvent>) {
        let mut next = self.order.first();
        while let Some(index) = next {
            next = self.keys.next(0, index);
            while let Some(place) = self.keys.get(index).and_then(|held| held.waiters.first()) {
                let number = self.leave_line(place);
                self.stats.cleared += 1;
                let ticket = Ticket {
                    number,
                    index: place,
                };
                out.extend(Some(LockEvent::Cleared { ticket }));
            }
            if let Some(held) = self.keys.get_mut(index)
                && !core::mem::replace(&mut held.cleared, true)
            {
                self.cleared += 1;
            }
        }
    }

    /// Tells waiters whose time is up, and ends holds that took too long: 1,024 deadlines at most;
    /// [`next_deadline`](Self::next_deadline) says whether more are due.
    pub fn handle_timeout(&mut self, now: Millis, out: &mut impl Extend<LockEvent>) {
        for _ in 0..TIMEOUT_BATCH {
            if !self.expire_one(now, out) {
                return;
            }
        }
    }

    /// [`handle_timeout`](Self::handle_timeout) for one deadline: the earliest, and of those at
    /// one instant the one whose caller came first. False if none is due.
    pub fn expire_one(&mut self, now: Millis, out: &mut impl Extend<LockEvent>) -> bool {
        let now = self.clock.advance(now);
        while let Some(deadline) = self.next_due(now) {
            let Deadline { number, of } = deadline;
            match of {
                Of::Wait(index) => {
                    if self
                        .waiters
                        .get(index)
                        .is_none_or(|waiter| waiter.number != number)
                    {
                        continue;
                    }
                    self.leave_line(index);
                    self.stats.timed_out += 1;
                    let ticket = Ticket { number, index };
                    out.extend(Some(LockEvent::TimedOut { ticket }));
                }
                Of::Hold(index) => {
                    if self
                        .keys
                        .get(index)
                        .is_none_or(|held| held.number != number)
                    {
                        continue;
                    }
                    self.stats.hold_expired += 1;
                    out.extend(Some(LockEvent::HoldExpired { number }));
                    self.hand_over(now, index, out);
                }
            }
            return true;
        }
        false
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next. A call may find nothing to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.due.is_empty() {
            self.wheel.next_deadline()
        } else {
            Some(self.due_at)
        }
    }

    /// Whether a key is held, and was not cleared since.
    #[must_use]
    pub fn is_held(&self, key: &str) -> bool {
        let held = self.keys.find(key).and_then(|index| self.keys.get(index));
        held.is_some_and(|held| !held.cleared)
    }

    /// Keys that are held, and were not cleared since.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len() - self.cleared
    }

    /// Whether no key is held.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the texts of held keys, cleared ones included.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Callers in line, of all keys.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> LockStats {
        self.stats
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn hold_new(&mut self, now: Millis, key: &str, owner: Option<u64>) -> Guard {
        let held = Held {
            number: 0,
            owner: None,
            timer: None,
            waiters: Ends::EMPTY,
            waiting: 0,
            cleared: false,
        };
        self.bytes += key.len();
        let index = self.keys.insert(key.into(), held);
        self.keys.link(0, &mut self.order, index);
        self.grant(now, index, owner)
    }

    /// Makes somebody the holder of a key.
    fn grant(&mut self, now: Millis, index: u32, owner: Option<u64>) -> Guard {
        let number = self.next_number();
        let timer = self.limits.hold_max.map(|hold_max| {
            let deadline = Deadline {
                number,
                of: Of::Hold(index),
            };
            self.wheel.insert(now + hold_max, deadline)
        });
        let old = self.keys.get_mut(index).and_then(|held| {
            (held.number, held.owner) = (number, owner);
            core::mem::replace(&mut held.timer, timer)
        });
        if let Some(old) = old {
            self.wheel.cancel(old);
        }
        self.stats.granted += 1;
        Guard { number, index }
    }

    /// Gives a held key to the first in line, or forgets it.
    fn hand_over(&mut self, now: Millis, index: u32, out: &mut impl Extend<LockEvent>) {
        let first = self.keys.get(index).and_then(|held| held.waiters.first());
        if let Some(place) = first {
            let owner = self.waiters.get(place).and_then(|waiter| waiter.owner);
            let number = self.leave_line(place);
            let guard = self.grant(now, index, owner);
            let ticket = Ticket {
                number,
                index: place,
            };
            out.extend(Some(LockEvent::Granted { ticket, guard }));
            return;
        }
        self.keys.unlink(0, &mut self.order, index);
        if let Some((key, held)) = self.keys.remove(index) {
            self.bytes -= key.len();
            self.cleared -= usize::from(held.cleared);
            if let Some(timer) = held.timer {
                self.wheel.cancel(timer);
            }
        }
    }

    /// Takes a waiter out; gives its number.
    fn leave_line(&mut self, place: u32) -> u64 {
        let Some(&Waiter {
            number, timer, key, ..
        }) = self.waiters.get(place)
        else {
            return 0;
        };
        if let Some(timer) = timer {
            self.wheel.cancel(timer);
        }
        if let Some(held) = self.keys.get_mut(key) {
            self.waiters.unlink(0, &mut held.waiters, place);
            held.waiting -= 1;
        }
        self.waiters.remove(place);
        number
    }

    /// The wheel gives deadlines of one tick in any order; sorting them makes it that of arrival.
    fn next_due(&mut self, now: Millis) -> Option<Deadline> {
        while self.due.is_empty() {
            let tick = self.wheel.next_deadline().filter(|tick| *tick <= now)?;
            self.due_at = tick;
            while let Some(deadline) = self.wheel.pop_due(tick) {
                self.due.push_back(deadline);
            }
            self.due.make_contiguous().sort_unstable();
        }
        self.due.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Millis {
        Millis::from_millis(ms)
    }

    fn wait(ms: u64) -> Claim {
        Claim {
            wait: Wait::AtMost(Duration::from_millis(ms)),
            owner: None,
        }
    }

    fn granted(acquired: Result<Acquired, LockError>) -> Guard {
        match acquired {
            Ok(Acquired::Granted(guard)) => guard,
            other => panic!("not granted: {other:?}"),
        }
    }

    fn waiting(acquired: Result<Acquired, LockError>) -> Ticket {
        match acquired {
            Ok(Acquired::Waiting(ticket)) => ticket,
            other => panic!("not waiting: {other:?}"),
        }
    }

    #[test]
    fn zero_wait_means_try() {
        let mut lock = KeyLock::new(LockLimits::default());
        let guard = granted(lock.acquire(at(0), "k", wait(0)));
        assert_eq!(lock.acquire(at(0), "k", wait(0)), Err(LockError::Busy));
        let try_it = Claim {
            wait: Wait::Try,
            owner: None,
        };
        assert_eq!(lock.acquire(at(0), "k", try_it), Err(LockError::Busy));
        assert!(lock.release(at(1), guard, &mut Vec::new()));
        assert!(lock.is_empty());
    }

    #[test]
    fn an_owner_does_not_wait_for_itself() {
        let mut lock = KeyLock::new(LockLimits::default());
        let mine = Claim {
            owner: Some(7),
            ..Claim::default()
        };
        let guard = granted(lock.acquire(at(0), "k", mine));
        assert_eq!(lock.acquire(at(0), "k", mine), Err(LockError::Reentrant));
        let other = Claim {
            owner: Some(8),
            ..Claim::default()
        };
        let ticket = waiting(lock.acquire(at(0), "k", other));
        let mut out = Vec::new();
        assert!(lock.release(at(0), guard, &mut out));
        assert!(matches!(&out[..], [LockEvent::Granted { ticket: t, .. }] if *t == ticket));
        assert_eq!(lock.acquire(at(0), "k", other), Err(LockError::Reentrant));
        assert!(lock.acquire(at(0), "k", mine).is_ok());
    }

    #[test]
    fn clearing_does_not_let_two_in() {
        let limits = LockLimits {
            keys_max: 1,
            ..Default::default()
        };
        let mut lock = KeyLock::new(limits);
        let mut out = Vec::new();
        let first = granted(lock.acquire(at(0), "k", Claim::default()));
        let ticket = waiting(lock.acquire(at(0), "k", wait(5)));
        lock.clear(&mut out);
        lock.clear(&mut out);
        assert_eq!(out, [LockEvent::Cleared { ticket }]);
        assert!(!lock.is_held("k"));
        assert_eq!((lock.len(), lock.waiting()), (0, 0));
        // Another key has room meanwhile, and then "k" has none.
        let other = granted(lock.acquire(at(1), "l", Claim::default()));
        let full = lock.acquire(at(1), "k", Claim::default());
        assert_eq!(full, Err(LockError::KeysFull { keys_max: 1 }));
        assert!(lock.release(at(1), other, &mut out));
        let second = waiting(lock.acquire(at(1), "k", Claim::default()));
        assert!(lock.is_held("k"));
        out.clear();
        lock.handle_timeout(at(100), &mut out);
        assert!(out.is_empty());
        assert!(lock.release(at(100), first, &mut out));
        assert!(matches!(&out[..], [LockEvent::Granted { ticket, .. }] if *ticket == second));
    }

    #[test]
    fn a_hold_that_takes_too_long_ends() {
        let hold_max = Some(Duration::from_millis(100));
        let mut lock = KeyLock::new(LockLimits {
            hold_max,
            ..Default::default()
        });
        let mut out = Vec::new();
        let slow = granted(lock.acquire(at(0), "k", Claim::default()));
        let ticket = waiting(lock.acquire(at(10), "k", Claim::default()));
        lock.handle_timeout(at(99), &mut out);
        assert!(out.is_empty());
        lock.handle_timeout(at(100), &mut out);
        assert_eq!(
            out[0],
            LockEvent::HoldExpired {
                number: slow.number()
            }
        );
        let Some(LockEvent::Granted { ticket: t, guard }) = out.pop() else {
            panic!()
        };
        assert_eq!(t, ticket);
        assert!(guard.number() > slow.number());
        assert!(!lock.release(at(150), slow, &mut out));
        assert!(lock.is_held("k"));
        assert!(lock.release(at(150), guard, &mut out));
        assert_eq!(lock.next_deadline(), None);
        assert_eq!((lock.stats().stale, lock.stats().hold_expired), (1, 1));
    }

    #[test]
    fn waiters_of_one_instant_time_out_in_order_and_free_their_places() {
        let limits = LockLimits {
            waiters_max: 3,
            ..Default::default()
        };
        let mut lock = KeyLock::new(limits);
        let guard = granted(lock.acquire(at(0), "k", Claim::default()));
        let tickets = [20, 10, 10].map(|ms| waiting(lock.acquire(at(0), "k", wait(ms))));
        let full = lock.acquire(at(0), "k", wait(5));
        assert_eq!(full, Err(LockError::WaitersFull { waiters_max: 3 }));
        let mut out = Vec::new();
        assert!(lock.expire_one(at(15), &mut out));
        assert_eq!(lock.next_deadline(), Some(at(10)));
        // Due, but it gives up before it is told.
        assert!(lock.cancel(tickets[2]));
        assert!(!lock.expire_one(at(15), &mut out));
        assert_eq!(out, [LockEvent::TimedOut { ticket: tickets[1] }]);
        assert!(lock.acquire(at(15), "k", wait(5)).is_ok());
        assert!(lock.release(at(16), guard, &mut out));
        assert!(matches!(&out[1], LockEvent::Granted { ticket, .. } if *ticket == tickets[0]));
    }

    #[test]
    fn who_leaves_the_line_leaves_no_deadline_behind() {
        let mut lock = KeyLock::new(LockLimits::default());
        let mut out = Vec::new();
        let guard = granted(lock.acquire(at(0), "k", Claim::default()));
        let gone = waiting(lock.acquire(at(0), "k", wait(60_000)));
        let _next = waiting(lock.acquire(at(0), "k", wait(60_000)));
        let _sent_away = waiting(lock.acquire(at(0), "k", wait(60_000)));
        assert!(lock.cancel(gone));
        assert!(lock.release(at(1), guard, &mut out));
        lock.clear(&mut out);
        assert_eq!(lock.next_deadline(), None);
    }

    #[test]
    fn the_end_of_time_and_totals() {
        let limits = LockLimits {
            waiters_total_max: 1,
            ..Default::default()
        };
        let mut lock = KeyLock::new(limits);
        let _a = granted(lock.acquire(Millis::MAX, "a", Claim::default()));
        let _b = granted(lock.acquire(Millis::MAX, "b", Claim::default()));
        let ticket = waiting(lock.acquire(Millis::MAX, "a", wait(u64::MAX)));
        let full = lock.acquire(Millis::MAX, "b", wait(1));
        assert_eq!(
            full,
            Err(LockError::TotalFull {
                waiters_total_max: 1
            })
        );
        let mut out = Vec::new();
        lock.handle_timeout(Millis::MAX, &mut out);
        assert_eq!(out, [LockEvent::TimedOut { ticket }]);
    }
}
