//! The session store.

use core::time::Duration;

use millstream_core::Millis;
use millstream_flow::{Retention, SessionLimits, SessionStore};

use super::{Input, Load, UNITS_MAX, load, name, tight};

/// Entries in no order.
struct Model {
    entries: Vec<Entry>,
    limits: SessionLimits,
    ttl: u64,
    steps: u64,
}

struct Entry {
    token: &'static str,
    value: Load,
    ends_at: u64,
    written: u64,
    used: u64,
}

impl Model {
    fn bytes(&self) -> usize {
        let bytes = |entry: &Entry| entry.token.len() + usize::from(entry.value.weight);
        self.entries.iter().map(bytes).sum()
    }

    fn find(&self, token: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.token == token)
    }

    /// Place of a live entry; removes an expired one.
    fn meet(&mut self, now: u64, token: &str) -> Option<usize> {
        let at = self.find(token)?;
        if self.entries[at].ends_at <= now {
            self.entries.remove(at);
            return None;
        }
        Some(at)
    }

    fn touch(&mut self, now: u64, token: &str) -> Option<Load> {
        self.steps += 1;
        let at = self.meet(now, token)?;
        let entry = &mut self.entries[at];
        (entry.ends_at, entry.used) = (now + self.ttl, self.steps);
        Some(entry.value)
    }

    fn remove_first_by(&mut self, age: impl Fn(&Entry) -> u64) {
        let oldest = (0..self.entries.len()).min_by_key(|at| age(&self.entries[*at]));
        self.entries.remove(oldest.expect("an entry"));
    }

    fn sweep(&mut self, now: u64, most: usize) {
        for _ in 0..most {
            let expired = (0..self.entries.len()).filter(|at| self.entries[*at].ends_at <= now);
            let Some(at) = expired.min_by_key(|at| self.entries[*at].used) else {
                return;
            };
            self.entries.remove(at);
        }
    }

    fn set(&mut self, now: u64, token: &'static str, value: Load) -> bool {
        let alone = token.len() + usize::from(value.weight);
        let units = token.encode_utf16().count();
        if units == 0 || units > UNITS_MAX || alone > self.limits.bytes_max {
            return false;
        }
        if self.limits.entries_max == 0 {
            return false;
        }
        let prompt = self.limits.retention == Retention::Prompt;
        let age = |entry: &Entry| if prompt { entry.used } else { entry.written };
        if prompt {
            self.sweep(now, 2);
        }
        match self.find(token) {
            Some(at) => drop(self.entries.remove(at)),
            None if prompt && self.entries.len() >= self.limits.entries_max => {
                self.remove_first_by(age);
            }
            None => {}
        }
        self.steps += 1;
        let (written, used) = (self.steps, self.steps);
        let ends_at = now + self.ttl;
        self.entries.push(Entry {
            token,
            value,
            ends_at,
            written,
            used,
        });
        if !prompt && self.entries.len() * 10 > self.limits.entries_max * 11 {
            self.entries.retain(|entry| entry.ends_at > now);
            while self.entries.len() > self.limits.entries_max {
                self.remove_first_by(age);
            }
        }
        while self.bytes() > self.limits.bytes_max {
            self.remove_first_by(age);
        }
        true
    }
}

pub(super) fn run(input: &mut Input<'_>) {
    let limits = SessionLimits {
        entries_max: tight(input, 4),
        token_units_max: UNITS_MAX,
        bytes_max: tight(input, 30),
        retention: [Retention::Prompt, Retention::Slack][input.option(2)],
    };
    let ttl = input.option(30) as u64 + 1;
    let mut store = SessionStore::new(Duration::from_millis(ttl), limits.clone());
    let mut model = Model {
        entries: Vec::new(),
        limits,
        ttl,
        steps: 0,
    };
    let (mut clock, mut latest, mut numbers) = (0, 0, 0);
    while let Some(op) = input.below(10) {
        let Some(now) = input.step(&mut clock) else {
            break;
        };
        latest = now.as_millis().max(latest);
        let Some(token) = name(input) else { break };
        let valid = !token.is_empty() && token.encode_utf16().count() <= UNITS_MAX;
        match op {
            0..=3 => {
                let Some(value) = load(input, &mut numbers) else {
                    break;
                };
                let set = store.set(now, token, value);
                assert_eq!(set.is_ok(), model.set(latest, token, value));
            }
            4 | 5 => {
                let got = store.get(now, token);
                assert_eq!(got.is_ok(), valid);
                if let Ok(got) = got {
                    assert_eq!(got.copied(), model.touch(latest, token));
                }
            }
            6 if valid => {
                let live = model.touch(latest, token).is_some();
                assert_eq!(store.touch(now, token), Ok(live));
            }
            7 if valid => {
                let live = model.meet(latest, token);
                let value = live.map(|at| model.entries.remove(at).value);
                assert_eq!(store.remove(now, token), Ok(value));
            }
            8 => {
                let live = model.entries.iter().filter(|entry| entry.ends_at > latest);
                assert_eq!(store.live_len(now), live.count());
            }
            _ => {
                store.handle_timeout(now);
                if model.limits.retention == Retention::Prompt {
                    model.sweep(latest, usize::MAX);
                }
            }
        }
        assert_eq!(
            (store.len(), store.bytes()),
            (model.entries.len(), model.bytes())
        );
        if model.limits.retention == Retention::Prompt {
            let first = model.entries.iter().map(|entry| entry.ends_at).min();
            assert_eq!(store.next_deadline().map(Millis::as_millis), first);
        }
    }
}
