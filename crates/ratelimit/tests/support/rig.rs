//! Operations on three engines at once: [`OldestFirst`] must do what the model does, always;
//! [`Limiter`] must do so until something happens that it treats differently on purpose, and keep
//! its own promises after that. Shared by the tests and the fuzz target.

use std::collections::HashMap;

use millstream_core::{ConnId, Millis};
use millstream_ratelimit::{
    BanError, Decision, FixedWindow, Keys, LimitKey, Limiter, Limits, NEVER, OldestFirst,
};

use crate::model::{Model, Told};

pub(crate) struct Rig {
    model: Model,
    oldest_first: OldestFirst,
    limiter: Limiter<FixedWindow>,
    limits: Limits,
    /// Nothing has happened yet that `limiter` treats differently.
    alike: bool,
    /// The bans of `limiter`.
    bans: HashMap<u64, f64>,
    keys: Keys,
    now: u64,
}

impl Rig {
    /// The first bytes choose the policy and the limits, the rest are operations of four bytes.
    pub(crate) fn play(bytes: &[u8]) {
        let Some((head, operations)) = bytes.split_first_chunk::<4>() else {
            return;
        };
        let mut rig = Self::new(*head);
        for operation in operations.chunks_exact(4) {
            rig.step(
                operation[0],
                operation[1],
                u16::from_le_bytes([operation[2], operation[3]]),
            );
        }
    }

    fn new([points, interval, block, limit]: [u8; 4]) -> Self {
        let points = u64::from(points % 8) + 1;
        // Some are no whole milliseconds.
        let interval = f64::from(interval) * 2.5 + 0.5;
        let block = f64::from(block % 64) * 8.25;
        let limit = if limit >= 128 {
            5_000
        } else {
            usize::from(limit % 12) + 1
        };
        let policy = FixedWindow::new(points, interval).expect("a policy");
        let policy = policy.with_block(block).expect("a policy");
        let limits = Limits {
            counters_max: limit,
            bans_max: limit.min(8),
        };
        Self {
            model: Model::new(points as f64, interval, block, limit),
            oldest_first: OldestFirst::new(policy, limit),
            limiter: Limiter::new(policy, limits),
            limits,
            alike: true,
            bans: HashMap::new(),
            keys: Keys::new([7, 8]),
            now: 0,
        }
    }

    fn step(&mut self, op: u8, key: u8, number: u16) {
        let (key, time) = (u64::from(key % 24), u64::from(number));
        match op % 16 {
            0..=7 => self.consume(key, f64::from(op / 16 % 6) / 2.0),
            8 | 9 => self.now += time % 700,
            10 => self.now += time,
            11 => self.ban(key, (op < 128).then(|| f64::from(number) / 4.0)),
            12 => {
                let id = self.key(key);
                self.model.unban(key);
                self.oldest_first.unban(id);
                self.limiter.unban(id);
                self.bans.remove(&key);
            }
            13 => {
                let id = self.key(key);
                self.model.reset(key);
                self.oldest_first.reset(id);
                self.limiter.reset(id);
                self.bans.remove(&key);
            }
            14 => {
                self.limiter
                    .sweep(Millis::from_millis(self.now), usize::from(number % 64));
            }
            // Many new keys at once, few times.
            _ => (0..time % 300).for_each(|n| self.consume(1_000 + time * 300 + n, 1.0)),
        }
        assert_eq!(self.oldest_first.len(), self.model.len());
        assert!(self.limiter.len() <= self.limits.counters_max);
        assert!(self.limiter.bans_len() <= self.limits.bans_max);
    }

    fn key(&self, key: u64) -> LimitKey {
        self.keys.conn(ConnId::from_u64(key))
    }

    fn consume(&mut self, key: u64, cost: f64) {
        let (id, now) = (self.key(key), Millis::from_millis(self.now));
        let now_ms = self.now as f64;
        let want = self.model.consume(key, now_ms, cost);
        let theirs = self.oldest_first.consume(id, now, cost).expect("a cost");
        assert_eq!(told(theirs), want);
        self.alike &= !self.model.dropped;

        let bans = self.limiter.stats().bans;
        let ours = self.limiter.consume(id, now, cost).expect("a cost");
        // Full of bans: the block could not begin.
        self.alike &= self.limiter.stats().bans_refused == 0;
        if self.alike {
            assert_eq!(ours, theirs);
        }
        if let Some(until_ms) = self.bans.get(&key).filter(|until_ms| **until_ms > now_ms) {
            // No flood of keys washes a ban out.
            assert!(!ours.allowed && ours.reset_ms == until_ms - now_ms);
        } else {
            self.bans.remove(&key);
            if self.limiter.stats().bans > bans {
                self.bans.insert(key, now_ms + self.model.block);
            }
        }
        self.retry(id, cost, ours);
    }

    /// What is told of the wait is so: one millisecond less is too early, and then it passes.
    fn retry(&self, id: LimitKey, cost: f64, ours: Decision) {
        if ours.allowed {
            assert_eq!(ours.retry_ms, 0);
            return;
        }
        assert!(ours.retry_ms > 0);
        let pass = |wait_ms: u64| {
            let mut later = self.limiter.clone();
            let at = Millis::from_millis(self.now + wait_ms);
            later.consume(id, at, cost).expect("a cost").allowed
        };
        if ours.retry_ms == NEVER {
            assert!(!pass(1 << 40));
        } else {
            assert!(
                !pass(ours.retry_ms - 1),
                "too early by a millisecond: {ours:?}"
            );
            assert!(pass(ours.retry_ms), "{ours:?}");
        }
    }

    fn ban(&mut self, key: u64, length_ms: Option<f64>) {
        let (id, now) = (self.key(key), Millis::from_millis(self.now));
        self.alike &= self.model.knows(key);
        self.model.ban(key, self.now as f64, length_ms);
        self.oldest_first.ban(id, now, length_ms);
        let default_ms = if self.model.block > 0.0 {
            self.model.block
        } else {
            60_000.0
        };
        let length_ms = length_ms.unwrap_or(default_ms);
        match self.limiter.ban(id, now, Some(length_ms)) {
            Ok(()) => drop(self.bans.insert(key, self.now as f64 + length_ms)),
            Err(BanError::Full { limit }) => {
                assert_eq!(
                    (limit, self.limiter.bans_len()),
                    (self.limits.bans_max, limit)
                );
                self.alike = false;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn told(decision: Decision) -> Told {
    Told {
        allowed: decision.allowed,
        remaining: decision.remaining,
        reset_ms: decision.reset_ms,
    }
}
