//! What both benchmarks of `flow` measure: engines that hold many keys, and one step of each.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should fail")]

use std::time::Duration;

use millstream_core::{Millis, SeededRandom};
use millstream_flow::{
    Acquired, Attempt, Claim, Coalesce, CoalesceLimits, Debounce, Dedup, DedupLimits, Guard,
    Idempotency, IdempotencyConfig, IfBusy, KeyLock, LockEvent, LockLimits, Outcome, Queue,
    QueueLimits, SessionLimits, SessionStore, ShapeLimits, Throttle, Ticket, Wait,
};

const SECOND: Duration = Duration::from_secs(1);

/// An engine filled with `n` keys, and one operation on it.
pub(crate) trait Engine {
    /// With `n` keys.
    fn filled(n: usize) -> Self;
    /// One operation.
    fn step(&mut self);
}

/// Names, picked in an order that no cache foresees.
pub(crate) struct Keys {
    names: Vec<String>,
    at: usize,
}

impl Keys {
    fn new(n: usize) -> Self {
        let names = (0..n).map(|n| format!("room:{n:07}")).collect();
        Self { names, at: 0 }
    }

    fn pick(&mut self) -> usize {
        // A stride that is prime to 10^2, 10^4 and 10^6 visits them all.
        self.at = (self.at + 618_033) % self.names.len();
        self.at
    }
}

/// Takes effects and drops them.
struct Sink;

impl<T> Extend<T> for Sink {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        values.into_iter().for_each(drop);
    }
}

/// A value replaces the one that waits.
pub(crate) struct ThrottlePush(Throttle<u64>, Keys);

impl Engine for ThrottlePush {
    fn filled(n: usize) -> Self {
        let mut engine = Throttle::new(SECOND, ShapeLimits::default());
        let keys = Keys::new(n);
        for key in keys.names.iter().chain(&keys.names) {
            engine
                .push(Millis::ZERO, key.as_str(), 0, &mut Sink)
                .unwrap();
        }
        Self(engine, keys)
    }

    fn step(&mut self) {
        let key = self.1.pick();
        let key = self.1.names[key].as_str();
        self.0.push(Millis::ZERO, key, 1, &mut Sink).unwrap();
    }
}

/// A slot falls due, sends, cools, and gets its next value.
pub(crate) struct ThrottleCycle(Throttle<u64>, Keys, u64);

impl Engine for ThrottleCycle {
    fn filled(n: usize) -> Self {
        let mut engine = Throttle::new(Duration::from_millis(n as u64), ShapeLimits::default());
        let keys = Keys::new(n);
        for (now, key) in (0..).zip(&keys.names) {
            for _ in 0..2 {
                engine
                    .push(Millis::from_millis(now), key.as_str(), 0, &mut Sink)
                    .unwrap();
            }
        }
        Self(engine, keys, n as u64)
    }

    fn step(&mut self) {
        let now = Millis::from_millis(self.2);
        let key = &self.1.names[self.2 as usize % self.1.names.len()];
        self.0.handle_timeout(now, &mut Sink);
        self.0.push(now, key.as_str(), 1, &mut Sink).unwrap();
        self.2 += 1;
    }
}

/// A value replaces the one that waits, and the wait starts over.
pub(crate) struct DebouncePush(Debounce<u64>, Keys);

impl Engine for DebouncePush {
    fn filled(n: usize) -> Self {
        let mut engine = Debounce::new(SECOND, Some(SECOND), ShapeLimits::default());
        let keys = Keys::new(n);
        for key in &keys.names {
            engine
                .push(Millis::ZERO, key.as_str(), 0, &mut Sink)
                .unwrap();
        }
        Self(engine, keys)
    }

    fn step(&mut self) {
        let key = self.1.pick();
        let key = self.1.names[key].as_str();
        self.0.push(Millis::ZERO, key, 1, &mut Sink).unwrap();
    }
}

/// The oldest key is taken, and comes back as the newest.
pub(crate) struct CoalesceCycle(Coalesce<u64>);

impl Engine for CoalesceCycle {
    fn filled(n: usize) -> Self {
        let mut engine = Coalesce::new(CoalesceLimits::default());
        for key in Keys::new(n).names {
            engine.put(&key, 0).unwrap();
        }
        Self(engine)
    }

    fn step(&mut self) {
        let (key, value) = self.0.pop().unwrap();
        self.0.put(&key, value).unwrap();
    }
}

/// A task is pushed behind the running one, which ends, so that the task starts.
pub(crate) struct QueueTask(Queue<u64>, Keys, Vec<Ticket>);

impl Engine for QueueTask {
    fn filled(n: usize) -> Self {
        let mut engine = Queue::new(QueueLimits {
            tasks_max: 2 * n,
            ..Default::default()
        });
        let keys = Keys::new(n);
        let start = |key: &String| {
            engine.push(key, 0).unwrap();
            engine.poll_ready().unwrap().0
        };
        let running = keys.names.iter().map(start).collect();
        Self(engine, keys, running)
    }

    fn step(&mut self) {
        let Self(engine, keys, running) = self;
        let at = keys.pick();
        engine.push(&keys.names[at], 1).unwrap();
        assert!(engine.complete(running[at], Outcome::Done));
        running[at] = engine.poll_ready().unwrap().0;
    }
}

/// One key with `n` tasks: the first ends, the next starts, another comes.
pub(crate) struct QueueDeep(Queue<u64>, Ticket);

impl Engine for QueueDeep {
    fn filled(n: usize) -> Self {
        let mut engine = Queue::new(QueueLimits {
            tasks_max: 2 * n,
            ..Default::default()
        });
        for _ in 0..n {
            engine.push("room", 0).unwrap();
        }
        let (running, _) = engine.poll_ready().unwrap();
        Self(engine, running)
    }

    fn step(&mut self) {
        assert!(self.0.complete(self.1, Outcome::Done));
        self.1 = self.0.poll_ready().unwrap().0;
        self.0.push("room", 1).unwrap();
    }
}

/// A held key is asked for, with a limit of time, and handed over.
pub(crate) struct LockHandOver(KeyLock, Keys, Vec<Option<Guard>>, Vec<LockEvent>);

impl Engine for LockHandOver {
    fn filled(n: usize) -> Self {
        let mut engine = KeyLock::new(LockLimits::default());
        let keys = Keys::new(n);
        let hold = |key: &String| match engine.acquire(Millis::ZERO, key, Claim::default()) {
            Ok(Acquired::Granted(guard)) => Some(guard),
            other => panic!("{other:?}"),
        };
        let guards = keys.names.iter().map(hold).collect();
        Self(engine, keys, guards, Vec::new())
    }

    fn step(&mut self) {
        let Self(engine, keys, guards, events) = self;
        let at = keys.pick();
        let claim = Claim {
            wait: Wait::AtMost(SECOND),
            owner: None,
        };
        let acquired = engine.acquire(Millis::ZERO, &keys.names[at], claim);
        assert!(matches!(acquired, Ok(Acquired::Waiting(_))));
        let guard = guards[at].take().unwrap();
        assert!(engine.release(Millis::ZERO, guard, events));
        let Some(LockEvent::Granted { guard, .. }) = events.pop() else {
            panic!()
        };
        guards[at] = Some(guard);
    }
}

/// A token is read, which extends its life.
pub(crate) struct SessionGet(SessionStore<u64>, Keys);

impl Engine for SessionGet {
    fn filled(n: usize) -> Self {
        let limits = SessionLimits {
            entries_max: n,
            ..Default::default()
        };
        let mut engine = SessionStore::new(SECOND, limits);
        let keys = Keys::new(n);
        for key in &keys.names {
            engine.set(Millis::ZERO, key, 0).unwrap();
        }
        Self(engine, keys)
    }

    fn step(&mut self) {
        let key = self.1.pick();
        let key = self.1.names[key].as_str();
        assert!(self.0.get(Millis::ZERO, key).unwrap().is_some());
    }
}

/// A new token in a full store, in the place of the one used least recently.
pub(crate) struct SessionSet(SessionStore<u64>, Keys);

impl Engine for SessionSet {
    fn filled(n: usize) -> Self {
        let SessionGet(engine, keys) = SessionGet::filled(n);
        // Twice the names, of which the first half is in.
        let mut more = Keys::new(2 * n);
        more.at = n - 1;
        drop(keys);
        Self(engine, more)
    }

    fn step(&mut self) {
        self.1.at = (self.1.at + 1) % self.1.names.len();
        let key = self.1.names[self.1.at].as_str();
        self.0.set(Millis::ZERO, key, 1).unwrap();
    }
}

/// A new id at the limit, in the place of the oldest.
pub(crate) struct DedupClaim(Dedup, Keys);

impl Engine for DedupClaim {
    fn filled(n: usize) -> Self {
        let limits = DedupLimits {
            entries_max: n,
            ..Default::default()
        };
        let mut engine = Dedup::new(SECOND, limits, &mut SeededRandom::new(1));
        let mut keys = Keys::new(2 * n);
        for key in &keys.names[..n] {
            engine.claim(Millis::ZERO, key).unwrap();
        }
        keys.at = n - 1;
        Self(engine, keys)
    }

    fn step(&mut self) {
        self.1.at = (self.1.at + 1) % self.1.names.len();
        let key = self.1.names[self.1.at].as_str();
        assert!(self.0.claim(Millis::ZERO, key).unwrap());
    }
}

/// An id that was seen.
pub(crate) struct DedupRepeat(Dedup, Keys);

impl Engine for DedupRepeat {
    fn filled(n: usize) -> Self {
        let DedupClaim(engine, _) = DedupClaim::filled(n);
        Self(engine, Keys::new(n))
    }

    fn step(&mut self) {
        let key = self.1.pick();
        let key = self.1.names[key].as_str();
        assert!(!self.0.claim(Millis::ZERO, key).unwrap());
    }
}

/// A new key in a full table: claimed, completed, the oldest result dropped.
pub(crate) struct IdempotencyRun(Idempotency<u64>, Keys);

impl Engine for IdempotencyRun {
    fn filled(n: usize) -> Self {
        let config = IdempotencyConfig {
            entries_max: n,
            ..Default::default()
        };
        let mut engine = Self(Idempotency::new(config), Keys::new(2 * n));
        for _ in 0..n {
            engine.step();
        }
        engine
    }

    fn step(&mut self) {
        self.1.at = (self.1.at + 1) % self.1.names.len();
        let key = self.1.names[self.1.at].as_str();
        let Ok(Attempt::Run(run)) = self.0.claim(Millis::ZERO, key, IfBusy::Wait) else {
            panic!("it is new")
        };
        self.0.complete(Millis::ZERO, run, 1, &mut Sink).unwrap();
    }
}

/// A key whose result is there.
pub(crate) struct IdempotencyHit(Idempotency<u64>, Keys);

impl Engine for IdempotencyHit {
    fn filled(n: usize) -> Self {
        let IdempotencyRun(engine, _) = IdempotencyRun::filled(n);
        let mut keys = Keys::new(n + 1);
        // The first name was skipped.
        keys.names.remove(0);
        Self(engine, keys)
    }

    fn step(&mut self) {
        let key = self.1.pick();
        let key = self.1.names[key].as_str();
        let found = self.0.claim(Millis::ZERO, key, IfBusy::Wait);
        assert!(matches!(found, Ok(Attempt::Done(_))));
    }
}
