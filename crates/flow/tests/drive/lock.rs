//! The lock.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap};

use millstream_core::Millis;
use millstream_flow::{
    Acquired, Claim, Guard, KeyLock, LockError, LockEvent, LockLimits, Ticket, Wait,
};
use millstream_vectors::{Batch, Engine, number, positive_integer, rule};
use serde_json::{Value, json};

use super::tasks::{Host, Job, Task, Told};
use super::{absent, key_error, limit, text, timer_delay};

pub(crate) struct Locks {
    lock: KeyLock,
    host: Host<Guard>,
    calls: HashMap<Ticket, Call>,
    /// Waits that end, by time and by the order in which the host armed their timers.
    waits: BTreeMap<(u64, u64), Ticket>,
}

struct Call {
    task: Task,
    key: String,
    max_wait: Value,
    timer: Option<(u64, u64)>,
}

impl Engine for Locks {
    fn new(options: &Value, _: &Value) -> Result<Self, Value> {
        let keys_max = limit(positive_integer(options, "maxKeys")?, 1_000_000);
        let key_units_max = limit(positive_integer(options, "maxKeyLength")?, 256);
        let waiters_max = limit(positive_integer(options, "maxWaitersPerKey")?, 1_000);
        Ok(Self {
            lock: KeyLock::new(LockLimits {
                keys_max,
                key_units_max,
                bytes_max: usize::MAX,
                waiters_max,
                waiters_total_max: usize::MAX,
                cleared_max: usize::MAX,
                hold_max: None,
            }),
            host: Host::new(),
            calls: HashMap::new(),
            waits: BTreeMap::new(),
        })
    }

    fn call(
        &mut self,
        at: u64,
        op: &str,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        let first = args.first().unwrap_or(&Value::Null);
        match op {
            "withLock" => {
                if let Err(error) = self.with_lock(at, first, args, out) {
                    self.host.tell(Told::rejected(first, error));
                }
            }
            "held" => {
                let held = first.as_str().is_some_and(|key| self.lock.is_held(key));
                return Ok(Some(held.into()));
            }
            "size" => return Ok(Some(self.lock.len().into())),
            "clear" => {
                let mut events = Vec::new();
                self.lock.clear(&mut events);
                self.handle(at, events, out);
            }
            other => panic!("locks have no {other}"),
        }
        Ok(None)
    }

    fn end_of_turn(&mut self, at: u64, out: &mut Vec<Value>) -> Result<(), Value> {
        while let Some(job) = self.host.next_job(out) {
            if let Job::Settle(guard, told) = job {
                let mut events = Vec::new();
                let released = self
                    .lock
                    .release(Millis::from_millis(at), guard, &mut events);
                assert!(released, "the holder still holds it");
                self.handle(at, events, out);
                self.host.tell(told);
            }
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<u64> {
        let timer = self.host.next_timer().map(|(at, _)| at);
        let wait = self.lock.next_deadline().map(Millis::as_millis);
        timer.into_iter().chain(wait).min()
    }

    fn on_deadline(&mut self, at: u64) -> Vec<Batch> {
        let mut batch = Batch::default();
        let timer = self.host.next_timer().filter(|(due, _)| *due <= at);
        let wait = self.waits.first_key_value().map(|(place, _)| *place);
        let wait = wait.filter(|(due, _)| *due <= at);
        if timer.is_some() && (wait.is_none() || timer < wait) {
            self.host.fire(&mut batch.frames);
        } else {
            let mut events = Vec::new();
            let expired = self.lock.expire_one(Millis::from_millis(at), &mut events);
            assert_eq!(
                expired,
                wait.is_some(),
                "waits end when they should, in order"
            );
            self.handle(at, events, &mut batch.frames);
        }
        self.end_of_turn(at, &mut batch.frames)
            .expect("nothing fails");
        vec![batch]
    }
}

impl Locks {
    fn with_lock(
        &mut self,
        at: u64,
        id: &Value,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<(), Value> {
        let key = text(args, 1, "key")?;
        let max_wait = args
            .get(3)
            .map_or(&Value::Null, |options| &options["maxWaitMs"]);
        let task = Task::parse(id, args.get(2));
        let wait = max_wait_ms(max_wait);
        // A bad task or wait is told after a bad key, and before the lock is asked.
        let (task, wait) = match (task, wait) {
            (Some(task), Ok(wait)) => (task, wait),
            (task, wait) => {
                check_key(&mut self.lock, at, key)?;
                task.ok_or_else(|| rule("must-be-function", "fn"))?;
                wait?;
                return Ok(());
            }
        };
        let claim = Claim {
            wait: wait.map_or(Wait::Forever, |ms| Wait::AtMost(Duration::from_millis(ms))),
            owner: None,
        };
        match self.lock.acquire(Millis::from_millis(at), key, claim) {
            Ok(Acquired::Granted(guard)) => self.host.start(at, guard, task, out),
            Ok(Acquired::Waiting(ticket)) => {
                let timer = wait.map(|ms| (at.saturating_add(ms), self.host.arm()));
                if let Some(place) = timer {
                    self.waits.insert(place, ticket);
                }
                let (key, max_wait) = (key.to_owned(), max_wait.clone());
                self.calls.insert(
                    ticket,
                    Call {
                        task,
                        key,
                        max_wait,
                        timer,
                    },
                );
            }
            Err(error) => return Err(refusal(error, key)),
        }
        Ok(())
    }

    fn handle(&mut self, at: u64, events: Vec<LockEvent>, out: &mut Vec<Value>) {
        for event in events {
            match event {
                LockEvent::Granted { ticket, guard } => {
                    let call = self.end_wait(ticket);
                    self.host.start(at, guard, call.task, out);
                }
                LockEvent::TimedOut { ticket } => {
                    let first = self.waits.first_key_value().map(|(_, first)| *first);
                    assert_eq!(first, Some(ticket), "the order of timers");
                    let Call {
                        task,
                        key,
                        max_wait,
                        ..
                    } = self.end_wait(ticket);
                    let error = json!({
                        "rule": "wait-timeout", "code": "LOCK_TIMEOUT",
                        "key": key, "maxWaitMs": max_wait,
                    });
                    self.host.tell(Told::rejected(&task.id, error));
                }
                LockEvent::Cleared { ticket } => {
                    let call = self.end_wait(ticket);
                    let error = json!({"rule": "cleared", "code": "LOCK_CLEARED"});
                    self.host.tell(Told::rejected(&call.task.id, error));
                }
                other => panic!("cannot happen without hold_max: {other:?}"),
            }
        }
    }

    fn end_wait(&mut self, ticket: Ticket) -> Call {
        let call = self.calls.remove(&ticket).expect("a ticket of this driver");
        if let Some(place) = call.timer {
            self.waits.remove(&place);
        }
        call
    }
}

/// `None` if it was left out; the host's timers have whole milliseconds, at least one.
fn max_wait_ms(value: &Value) -> Result<Option<u64>, Value> {
    if absent(Some(value)) {
        return Ok(None);
    }
    let ms = number(value).filter(|ms| ms.is_finite() && *ms >= 0.0);
    ms.map(|ms| Some(timer_delay(ms)))
        .ok_or_else(|| rule("non-negative-finite", "maxWaitMs"))
}

/// Only what the lock thinks of the key: nothing is taken.
fn check_key(lock: &mut KeyLock, at: u64, key: &str) -> Result<(), Value> {
    let attempt = Claim {
        wait: Wait::Try,
        owner: None,
    };
    let now = Millis::from_millis(at);
    match lock.acquire(now, key, attempt) {
        Ok(Acquired::Granted(guard)) => {
            lock.release(now, guard, &mut Vec::new());
            Ok(())
        }
        Err(LockError::Key(error)) => Err(key_error(error, "key", "maxKeyLength")),
        _ => Ok(()),
    }
}

fn refusal(error: LockError, key: &str) -> Value {
    match error {
        LockError::Key(error) => key_error(error, "key", "maxKeyLength"),
        LockError::KeysFull { keys_max } => json!({"rule": "key-cap", "max": keys_max}),
        LockError::WaitersFull { waiters_max } => json!({
            "rule": "waiter-cap", "code": "LOCK_QUEUE_FULL",
            "key": key, "maxWaitersPerKey": waiters_max,
        }),
        other => panic!("no such limit is set: {other}"),
    }
}
