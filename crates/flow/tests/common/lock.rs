//! The lock.

use core::time::Duration;

use millstream_core::Millis;
use millstream_flow::{
    Acquired, Claim, Guard, KeyLock, LockError, LockEvent, LockLimits, Ticket, Wait,
};

use super::{Input, UNITS_MAX, name, tight};

/// Held keys by age.
struct Model {
    keys: Vec<Held>,
    limits: LockLimits,
}

struct Held {
    key: &'static str,
    number: u64,
    owner: Option<u64>,
    ends_at: Option<u64>,
    waiters: Vec<Waiter>,
    cleared: bool,
}

struct Waiter {
    ticket: Ticket,
    owner: Option<u64>,
    ends_at: Option<u64>,
}

/// An event without the guard, which only the engine can make.
#[derive(Debug, PartialEq)]
enum Told {
    Granted(Ticket),
    TimedOut(Ticket),
    Cleared(Ticket),
    HoldExpired(u64),
}

struct Rig {
    lock: KeyLock,
    model: Model,
    guards: Vec<Guard>,
    tickets: Vec<Ticket>,
    latest: u64,
}

impl Model {
    fn find(&self, key: &str) -> Option<usize> {
        self.keys.iter().position(|held| held.key == key)
    }

    fn live(&self) -> usize {
        self.keys.iter().filter(|held| !held.cleared).count()
    }

    fn bytes(&self) -> usize {
        self.keys.iter().map(|held| held.key.len()).sum()
    }

    fn waiting(&self) -> usize {
        self.keys.iter().map(|held| held.waiters.len()).sum()
    }

    fn refuses(&self, key: &str, claim: Claim) -> Option<&'static str> {
        if key.is_empty() || key.encode_utf16().count() > UNITS_MAX {
            return Some("key");
        }
        let crowded = self.live() >= self.limits.keys_max;
        let Some(held) = self.find(key).map(|at| &self.keys[at]) else {
            let cleared = self.keys.len() - self.live();
            if crowded || cleared > self.limits.cleared_max {
                return Some("keys");
            }
            return (self.bytes() + key.len() > self.limits.bytes_max).then_some("room");
        };
        if claim.owner.is_some() && claim.owner == held.owner {
            return Some("reentrant");
        }
        if matches!(claim.wait, Wait::Try | Wait::AtMost(Duration::ZERO)) {
            return Some("busy");
        }
        if held.cleared && crowded {
            return Some("keys");
        }
        if held.waiters.len() >= self.limits.waiters_max {
            return Some("waiters");
        }
        (self.waiting() >= self.limits.waiters_total_max).then_some("total")
    }

    /// Who gets the key of a holder that is gone.
    fn hand_over(&mut self, at: usize) -> Option<Waiter> {
        let held = &mut self.keys[at];
        if held.waiters.is_empty() {
            self.keys.remove(at);
            return None;
        }
        let next = held.waiters.remove(0);
        held.owner = next.owner;
        Some(next)
    }

    /// Deadline and number of what is due first.
    fn first_due(&self, now: u64) -> Option<(u64, u64)> {
        let holds = self.keys.iter().map(|held| (held.ends_at, held.number));
        let waits = self.keys.iter().flat_map(|held| &held.waiters);
        let waits = waits.map(|waiter| (waiter.ends_at, waiter.ticket.number()));
        let all = holds
            .chain(waits)
            .filter_map(|(at, number)| Some((at?, number)));
        all.filter(|(at, _)| *at <= now).min()
    }
}

impl Rig {
    /// Only operations that pass a time move the engine's clock.
    fn tell(&mut self, now: Millis) {
        self.latest = self.latest.max(now.as_millis());
    }

    fn acquire(&mut self, now: Millis, key: &'static str, claim: Claim) {
        self.tell(now);
        let refused = self.model.refuses(key, claim);
        match self.lock.acquire(now, key, claim) {
            Err(error) => assert_eq!(Some(code(error)), refused),
            Ok(Acquired::Granted(guard)) => {
                assert_eq!((refused, self.model.find(key)), (None, None));
                self.model.keys.push(Held {
                    key,
                    number: guard.number(),
                    owner: claim.owner,
                    ends_at: self.hold_end(),
                    waiters: Vec::new(),
                    cleared: false,
                });
                self.guards.push(guard);
            }
            Ok(Acquired::Waiting(ticket)) => {
                assert_eq!(refused, None);
                let at = self.model.find(key).expect("a free key is granted");
                let Wait::AtMost(ms) = claim.wait else {
                    return self.line(at, ticket, claim.owner, None);
                };
                let ends_at = self.latest + ms.as_millis() as u64;
                self.line(at, ticket, claim.owner, Some(ends_at));
            }
        }
    }

    fn line(&mut self, at: usize, ticket: Ticket, owner: Option<u64>, ends_at: Option<u64>) {
        let held = &mut self.model.keys[at];
        held.cleared = false;
        held.waiters.push(Waiter {
            ticket,
            owner,
            ends_at,
        });
        self.tickets.push(ticket);
    }

    fn hold_end(&self) -> Option<u64> {
        let hold_max = self.model.limits.hold_max?;
        Some(self.latest + hold_max.as_millis() as u64)
    }

    /// Compares events with what the model says, and keeps the guards.
    fn handle(&mut self, events: Vec<LockEvent>, want: &[(Told, Option<usize>)]) {
        assert_eq!(events.len(), want.len(), "{events:?} {want:?}");
        for (event, (want, key)) in events.into_iter().zip(want) {
            let told = match event {
                LockEvent::Granted { ticket, guard } => {
                    let ends_at = self.hold_end();
                    let held = &mut self.model.keys[key.expect("of a key")];
                    assert!(guard.number() > held.number);
                    (held.number, held.ends_at) = (guard.number(), ends_at);
                    self.guards.push(guard);
                    Told::Granted(ticket)
                }
                LockEvent::TimedOut { ticket } => Told::TimedOut(ticket),
                LockEvent::Cleared { ticket } => Told::Cleared(ticket),
                LockEvent::HoldExpired { number } => Told::HoldExpired(number),
                other => panic!("{other:?}"),
            };
            assert_eq!(told, *want);
        }
    }

    fn release(&mut self, now: Millis, pick: usize) {
        self.tell(now);
        let guard = self.guards.remove(pick % self.guards.len());
        let at = self
            .model
            .keys
            .iter()
            .position(|held| held.number == guard.number());
        let mut out = Vec::new();
        assert_eq!(self.lock.release(now, guard, &mut out), at.is_some());
        let next = at.and_then(|at| Some((self.model.hand_over(at)?, at)));
        let want: Vec<_> = next
            .map(|(next, at)| (Told::Granted(next.ticket), Some(at)))
            .into_iter()
            .collect();
        self.handle(out, &want);
    }

    fn clear(&mut self) {
        let mut out = Vec::new();
        self.lock.clear(&mut out);
        let mut want = Vec::new();
        for held in &mut self.model.keys {
            held.cleared = true;
            want.extend(
                held.waiters
                    .drain(..)
                    .map(|waiter| (Told::Cleared(waiter.ticket), None)),
            );
        }
        self.handle(out, &want);
    }

    /// One deadline at a time, so that the guard of each hand-over is known for the next.
    fn expire(&mut self, now: Millis) {
        self.tell(now);
        loop {
            let mut out = Vec::new();
            let expired = self.lock.expire_one(now, &mut out);
            let Some((_, number)) = self.model.first_due(self.latest) else {
                assert!(!expired, "{out:?}");
                return;
            };
            assert!(expired);
            let mut want = Vec::new();
            if let Some(at) = self
                .model
                .keys
                .iter()
                .position(|held| held.number == number)
            {
                want.push((Told::HoldExpired(number), None));
                let next = self.model.hand_over(at);
                want.extend(next.map(|next| (Told::Granted(next.ticket), Some(at))));
            }
            for held in &mut self.model.keys {
                let is_due = |waiter: &Waiter| waiter.ticket.number() == number;
                if let Some(at) = held.waiters.iter().position(is_due) {
                    want.push((Told::TimedOut(held.waiters.remove(at).ticket), None));
                }
            }
            self.handle(out, &want);
        }
    }

    fn check(&self) {
        let (lock, model) = (&self.lock, &self.model);
        assert_eq!(
            (lock.len(), lock.waiting()),
            (model.live(), model.waiting())
        );
        assert_eq!(lock.bytes(), model.bytes());
        for held in &model.keys {
            assert_eq!(lock.is_held(held.key), !held.cleared);
        }
        if model.limits.hold_max.is_none() {
            assert_eq!(
                self.guards.len(),
                model.keys.len(),
                "one guard for each held key"
            );
        }
        let holds = model.keys.iter().filter_map(|held| held.ends_at);
        let waits = model.keys.iter().flat_map(|held| &held.waiters);
        let first = holds.chain(waits.filter_map(|waiter| waiter.ends_at)).min();
        match (lock.next_deadline(), first) {
            // It may ask to be called too early, or for something that is gone, never too late.
            (Some(next), Some(first)) => assert!(next.as_millis() <= first),
            (None, Some(first)) => panic!("{first} is missed"),
            (_, None) => {}
        }
    }
}

fn code(error: LockError) -> &'static str {
    match error {
        LockError::Key(_) => "key",
        LockError::Busy => "busy",
        LockError::Reentrant => "reentrant",
        LockError::KeysFull { .. } => "keys",
        LockError::NoRoom { .. } => "room",
        LockError::WaitersFull { .. } => "waiters",
        _ => "total",
    }
}

pub(super) fn run(input: &mut Input<'_>) {
    let limits = LockLimits {
        keys_max: tight(input, 3),
        key_units_max: UNITS_MAX,
        bytes_max: tight(input, 6),
        waiters_max: tight(input, 3),
        waiters_total_max: tight(input, 5),
        cleared_max: tight(input, 2),
        hold_max: [None, None, Some(Duration::from_millis(9))][input.option(3)],
    };
    let mut rig = Rig {
        lock: KeyLock::new(limits.clone()),
        model: Model {
            keys: Vec::new(),
            limits,
        },
        guards: Vec::new(),
        tickets: Vec::new(),
        latest: 0,
    };
    let mut clock = 0;
    while let Some(op) = input.below(12) {
        let Some(now) = input.step(&mut clock) else {
            break;
        };
        match op {
            0..=4 => {
                let Some(key) = name(input) else { break };
                let wait = match input.option(5) {
                    0 => Wait::Try,
                    1 | 2 => Wait::Forever,
                    _ => Wait::AtMost(Duration::from_millis(input.option(30) as u64)),
                };
                let owner = [None, None, Some(1), Some(2)][input.option(4)];
                rig.acquire(now, key, Claim { wait, owner });
            }
            5..=7 if !rig.guards.is_empty() => rig.release(now, input.option(255)),
            8 if !rig.tickets.is_empty() => {
                let ticket = rig.tickets[input.option(255) % rig.tickets.len()];
                let mut found = false;
                for held in &mut rig.model.keys {
                    let before = held.waiters.len();
                    held.waiters.retain(|waiter| waiter.ticket != ticket);
                    found |= held.waiters.len() < before;
                }
                assert_eq!(rig.lock.cancel(ticket), found);
            }
            9 if input.option(4) == 0 => rig.clear(),
            _ => rig.expire(now),
        }
        rig.check();
    }
    // No waiter is lost: with the holders gone, one after the other, everybody gets a turn.
    while !rig.guards.is_empty() {
        rig.release(Millis::from_millis(rig.latest), 0);
    }
    assert_eq!(
        (rig.model.waiting(), rig.lock.waiting(), rig.lock.len()),
        (0, 0, 0)
    );
}
