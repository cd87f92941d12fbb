//! Idempotency slots.

use core::time::Duration;

use millstream_core::Millis;
use millstream_flow::{
    Attempt, Idempotency, IdempotencyConfig, IdempotencyError, IfBusy, Run, SlotEvent, Ticket,
};

use super::{Input, Load, UNITS_MAX, load, name, tight};

/// Slots by the time of their present state.
struct Model {
    slots: Vec<Slot>,
    config: IdempotencyConfig,
}

struct Slot {
    key: &'static str,
    ends_at: u64,
    state: State,
}

enum State {
    Running(u64, Vec<Ticket>),
    Done(Load),
}

impl Slot {
    fn bytes(&self) -> usize {
        match &self.state {
            State::Running(..) => self.key.len(),
            State::Done(result) => self.key.len() + usize::from(result.weight),
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.state, State::Done(_))
    }
}

struct Rig {
    engine: Idempotency<Load>,
    model: Model,
    runs: Vec<Run>,
    tickets: Vec<Ticket>,
    latest: u64,
}

impl Model {
    fn find(&self, key: &str) -> Option<usize> {
        self.slots.iter().position(|slot| slot.key == key)
    }

    fn owned(&self, run: u64) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| matches!(slot.state, State::Running(n, _) if n == run))
    }

    fn bytes(&self) -> usize {
        self.slots.iter().map(Slot::bytes).sum()
    }

    fn waiting(&self) -> usize {
        let waiting = |slot: &Slot| match &slot.state {
            State::Running(_, waiters) => waiters.len(),
            State::Done(_) => 0,
        };
        self.slots.iter().map(waiting).sum()
    }

    fn evict(&mut self) {
        let oldest = self.slots.iter().position(Slot::is_done).expect("a result");
        self.slots.remove(oldest);
    }

    fn make_room(&mut self, bytes: usize) -> bool {
        let fixed: usize = self
            .slots
            .iter()
            .filter(|slot| !slot.is_done())
            .map(Slot::bytes)
            .sum();
        if bytes + fixed > self.config.bytes_max {
            return false;
        }
        while self.bytes() + bytes > self.config.bytes_max {
            self.evict();
        }
        true
    }

    /// Makes a slot the youngest of its kind.
    fn renew(&mut self, at: usize, ends_at: u64) -> &mut Slot {
        let mut slot = self.slots.remove(at);
        slot.ends_at = ends_at;
        self.slots.push(slot);
        self.slots.last_mut().expect("it was pushed")
    }

    /// What a claim comes to; room is made where it needs some.
    fn admit(&mut self, now: u64, key: &'static str, if_busy: IfBusy) -> &'static str {
        let units = key.encode_utf16().count();
        if units == 0 || units > UNITS_MAX {
            return "key";
        }
        let Some(at) = self.find(key) else {
            let full = self.slots.len() >= self.config.entries_max;
            if full && !self.slots.iter().any(Slot::is_done) {
                return "full";
            }
            if !self.make_room(key.len()) {
                return "room";
            }
            if self.slots.len() >= self.config.entries_max {
                self.evict();
            }
            return "run";
        };
        let over = self.slots[at].ends_at <= now;
        let State::Running(_, waiters) = &self.slots[at].state else {
            return if over { "run" } else { "done" };
        };
        if over && waiters.is_empty() {
            return "run";
        }
        if if_busy == IfBusy::Return {
            return "busy";
        }
        let crowded = waiters.len() >= self.config.waiters_max
            || self.waiting() >= self.config.waiters_total_max;
        if crowded { "waiters" } else { "wait" }
    }
}

fn code(error: IdempotencyError) -> &'static str {
    match error {
        IdempotencyError::Key(_) => "key",
        IdempotencyError::Full { .. } => "full",
        IdempotencyError::WaitersFull { .. } => "waiters",
        IdempotencyError::NoRoom { .. } => "room",
        _ => "lost",
    }
}

impl Rig {
    /// Only operations that pass a time move the engine's clock.
    fn tell(&mut self, now: Millis) {
        self.latest = self.latest.max(now.as_millis());
    }

    fn claim(&mut self, now: Millis, key: &'static str, if_busy: IfBusy) {
        self.tell(now);
        let want = self.model.admit(self.latest, key, if_busy);
        let lease = self.latest + self.model.config.lease.as_millis() as u64;
        let got = match self.engine.claim(now, key, if_busy) {
            Err(error) => code(error),
            Ok(Attempt::InProgress) => "busy",
            Ok(Attempt::Done(result)) => {
                let at = self.model.find(key).expect("a slot");
                assert!(matches!(self.model.slots[at].state, State::Done(r) if r == *result));
                "done"
            }
            Ok(Attempt::Wait(ticket)) => {
                let at = self.model.find(key).expect("a slot");
                if let State::Running(_, waiters) = &mut self.model.slots[at].state {
                    waiters.push(ticket);
                }
                self.tickets.push(ticket);
                "wait"
            }
            Ok(Attempt::Run(run)) => {
                let at = self.model.find(key);
                if let Some(at) = at {
                    let _ = self.model.slots.remove(at);
                }
                let state = State::Running(run.number(), Vec::new());
                self.model.slots.push(Slot {
                    key,
                    ends_at: lease,
                    state,
                });
                self.runs.push(run);
                "run"
            }
        };
        assert_eq!(got, want);
    }

    /// Passes a running slot on, in the model.
    fn pass_on(&mut self, at: usize, events: &mut Vec<SlotEvent<Load>>) {
        let lease = self.latest + self.model.config.lease.as_millis() as u64;
        let State::Running(_, waiters) = &mut self.model.slots[at].state else {
            panic!()
        };
        if waiters.is_empty() {
            self.model.slots.remove(at);
            return;
        }
        let first = waiters.remove(0);
        assert!(!events.is_empty(), "somebody waits");
        let SlotEvent::Run { ticket, run } = events.remove(0) else {
            panic!()
        };
        assert_eq!(ticket, first);
        let slot = self.model.renew(at, lease);
        if let State::Running(number, _) = &mut slot.state {
            assert!(run.number() > *number);
            *number = run.number();
        }
        self.runs.push(run);
    }

    fn complete(&mut self, now: Millis, run: Run, result: Load) {
        self.tell(now);
        let mut out = Vec::new();
        let at = self.model.owned(run.number());
        let got = self
            .engine
            .complete(now, run, result, &mut out)
            .map_err(code);
        let Some(at) = at else {
            assert_eq!(got, Err("lost"));
            return;
        };
        let weight = usize::from(result.weight);
        let config = &self.model.config;
        if config.ttl.is_zero() {
            assert_eq!(got, Ok(()));
            return self.pass_on(at, &mut out);
        }
        let ends_at = self.latest + config.ttl.as_millis() as u64;
        let key = self.model.slots[at].key;
        if weight > config.result_bytes_max || !self.model.make_room(weight) {
            assert_eq!(got, Err("room"));
            return;
        }
        assert_eq!(got, Ok(()));
        let at = self.model.find(key).expect("results go, runs stay");
        let slot = self.model.renew(at, ends_at);
        let old = core::mem::replace(&mut slot.state, State::Done(result));
        let State::Running(_, waiters) = old else {
            panic!()
        };
        let want: Vec<_> = waiters
            .into_iter()
            .map(|ticket| SlotEvent::Done { ticket, result })
            .collect();
        assert_eq!(out, want);
    }

    fn expire(&mut self, now: Millis) {
        self.tell(now);
        let mut out = Vec::new();
        self.engine.handle_timeout(now, &mut out);
        let latest = self.latest;
        let over = |slot: &Slot| slot.ends_at <= latest;
        let lapsed = |slot: &Slot| over(slot) && !slot.is_done();
        while let Some(at) = self.model.slots.iter().position(lapsed) {
            self.pass_on(at, &mut out);
        }
        self.model.slots.retain(|slot| !over(slot));
        assert!(out.is_empty(), "{out:?}");
    }

    fn check(&self) {
        let (engine, model) = (&self.engine, &self.model);
        assert_eq!(
            (engine.len(), engine.bytes()),
            (model.slots.len(), model.bytes())
        );
        assert_eq!(engine.waiting(), model.waiting());
        let first = model.slots.iter().map(|slot| slot.ends_at).min();
        assert_eq!(engine.next_deadline().map(Millis::as_millis), first);
    }
}

#[allow(clippy::too_many_lines, reason = "one arm for each operation")]
pub(super) fn run(input: &mut Input<'_>) {
    let config = IdempotencyConfig {
        ttl: Duration::from_millis([0, 20, 100][input.option(3)]),
        lease: Duration::from_millis(input.option(20) as u64 + 1),
        entries_max: tight(input, 4),
        key_units_max: UNITS_MAX,
        result_bytes_max: tight(input, 11),
        bytes_max: tight(input, 30),
        waiters_max: tight(input, 3),
        waiters_total_max: tight(input, 4),
    };
    let mut rig = Rig {
        engine: Idempotency::new(config.clone()),
        model: Model {
            slots: Vec::new(),
            config,
        },
        runs: Vec::new(),
        tickets: Vec::new(),
        latest: 0,
    };
    let (mut clock, mut numbers) = (0, 0);
    while let Some(op) = input.below(12) {
        let Some(now) = input.step(&mut clock) else {
            break;
        };
        let runs = rig.runs.len();
        match op {
            0..=4 => {
                let Some(key) = name(input) else { break };
                let if_busy = [IfBusy::Wait, IfBusy::Wait, IfBusy::Return][input.option(3)];
                rig.claim(now, key, if_busy);
            }
            5 | 6 if runs > 0 => {
                let run = rig.runs.remove(input.option(255) % runs);
                let Some(result) = load(input, &mut numbers) else {
                    break;
                };
                rig.complete(now, run, result);
            }
            7 if runs > 0 => {
                rig.tell(now);
                let run = rig.runs.remove(input.option(255) % runs);
                let mut out = Vec::new();
                let at = rig.model.owned(run.number());
                let abandoned = rig.engine.abandon(now, run, &mut out);
                assert_eq!(abandoned.is_ok(), at.is_some());
                if let Some(at) = at {
                    rig.pass_on(at, &mut out);
                }
                assert!(out.is_empty());
            }
            8 if runs > 0 => {
                rig.tell(now);
                let run = &rig.runs[input.option(255) % runs];
                let at = rig.model.owned(run.number());
                assert_eq!(rig.engine.renew(now, run).is_ok(), at.is_some());
                let lease = rig.latest + rig.model.config.lease.as_millis() as u64;
                if let Some(at) = at {
                    let _ = rig.model.renew(at, lease);
                }
            }
            9 if !rig.tickets.is_empty() => {
                let ticket = rig.tickets[input.option(255) % rig.tickets.len()];
                let mut found = false;
                for slot in &mut rig.model.slots {
                    if let State::Running(_, waiters) = &mut slot.state {
                        let before = waiters.len();
                        waiters.retain(|other| *other != ticket);
                        found |= waiters.len() < before;
                    }
                }
                assert_eq!(rig.engine.cancel(ticket), found);
            }
            10 => {
                let Some(key) = name(input) else { break };
                let at = rig
                    .model
                    .find(key)
                    .filter(|at| rig.model.slots[*at].is_done());
                let want = at.map(|at| rig.model.slots.remove(at).state);
                let got = rig.engine.forget(key);
                assert_eq!(got.is_some(), want.is_some());
            }
            _ => rig.expire(now),
        }
        rig.check();
    }
}
