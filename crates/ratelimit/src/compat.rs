use std::collections::BTreeMap;

use hashbrown::HashMap;
use millstream_core::Millis;

use crate::LimitKey;
use crate::error::ConsumeError;
use crate::fixed::FixedWindow;
use crate::policy::{Decision, Policy, State, whole_ms};

/// A fixed window with the bookkeeping of the JavaScript original (svelte-adapter-uws 0.5.1) in
/// place of that of [`Limiter`](crate::Limiter): for hosts that have to answer like it call for
/// call, and for comparisons.
///
/// The arithmetic is the same. What differs, and why `Limiter` is the better choice otherwise:
///
/// - Bans live in the counters. At the limit the key that came first goes, with its ban.
/// - With more than [`SWEEP_KEYS`] keys a call may look at all of them. With fewer, none is
///   forgotten.
/// - A ban on a key that was never seen leaves a window without points behind, and does not count
///   against the limit.
#[derive(Debug, Clone)]
pub struct OldestFirst {
    policy: FixedWindow,
    buckets: HashMap<LimitKey, Bucket>,
    order: BTreeMap<u64, LimitKey>,
    inserted: u64,
    buckets_max: usize,
    /// No window ends before this, so that a sweep would find nothing.
    quiet_until_ms: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    state: State,
    banned_until_ms: f64,
    inserted: u64,
}

/// Up to so many keys nothing is swept.
pub const SWEEP_KEYS: usize = 1_000;

impl OldestFirst {
    /// An empty one, for so many keys at most.
    #[must_use]
    pub fn new(policy: FixedWindow, buckets_max: usize) -> Self {
        Self {
            policy,
            buckets: HashMap::new(),
            order: BTreeMap::new(),
            inserted: 0,
            buckets_max,
            quiet_until_ms: f64::INFINITY,
        }
    }

    /// Counts a call, and says whether it may go on.
    ///
    /// # Errors
    /// [`ConsumeError::Cost`] when the cost is no number, negative or infinite.
    ///
    /// # Cost
    /// Linear in the keys when there are more than [`SWEEP_KEYS`] and a window has ended.
    pub fn consume(
        &mut self,
        key: LimitKey,
        now: Millis,
        cost: f64,
    ) -> Result<Decision, ConsumeError> {
        if !(0.0..f64::INFINITY).contains(&cost) {
            return Err(ConsumeError::Cost);
        }
        let now_ms = now.as_millis() as f64;
        self.sweep(now_ms);
        if !self.buckets.contains_key(&key) {
            if self.buckets.len() >= self.buckets_max {
                self.evict();
            }
            self.insert(key, self.policy.fresh(now_ms), 0.0);
        }
        let policy = self.policy;
        let Some(bucket) = self.buckets.get_mut(&key) else {
            unreachable!("it was inserted");
        };
        let ban_ms = bucket.banned_until_ms - now_ms;
        if ban_ms > 0.0 {
            return Ok(banned(ban_ms, policy.wait_ms(bucket.state, now_ms, cost)));
        }
        let decision = policy.take(&mut bucket.state, now_ms, cost);
        let block_ms = policy.block_ms();
        if decision.allowed || block_ms == 0.0 {
            return Ok(decision);
        }
        bucket.banned_until_ms = now_ms + block_ms;
        Ok(banned(block_ms, decision.retry_ms))
    }

    /// Bans a key: for so long, or for the block of the policy, or for a minute. The length is not
    /// checked, as it is not in the original.
    pub fn ban(&mut self, key: LimitKey, now: Millis, length_ms: Option<f64>) {
        let now_ms = now.as_millis() as f64;
        let length_ms = length_ms.unwrap_or_else(|| match self.policy.block_ms() {
            0.0 => 60_000.0,
            block_ms => block_ms,
        });
        if !self.buckets.contains_key(&key) {
            let empty = [0.0, now_ms + self.policy.interval_ms()].map(f64::to_bits);
            self.insert(key, empty, 0.0);
        }
        if let Some(bucket) = self.buckets.get_mut(&key) {
            bucket.banned_until_ms = now_ms + length_ms;
        }
    }

    /// Ends a ban.
    pub fn unban(&mut self, key: LimitKey) {
        if let Some(bucket) = self.buckets.get_mut(&key) {
            bucket.banned_until_ms = 0.0;
        }
    }

    /// Forgets a key, its counter and its ban.
    pub fn reset(&mut self, key: LimitKey) {
        if let Some(bucket) = self.buckets.remove(&key) {
            self.order.remove(&bucket.inserted);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets.clear();
        self.order.clear();
    }

    /// Keys kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether no key is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    fn insert(&mut self, key: LimitKey, state: State, banned_until_ms: f64) {
        self.quiet_until_ms = self.quiet_until_ms.min(f64::from_bits(state[1]));
        self.inserted += 1;
        self.order.insert(self.inserted, key);
        let bucket = Bucket {
            state,
            banned_until_ms,
            inserted: self.inserted,
        };
        self.buckets.insert(key, bucket);
    }

    fn evict(&mut self) {
        if let Some((_, key)) = self.order.pop_first() {
            self.buckets.remove(&key);
        }
    }

    fn sweep(&mut self, now_ms: f64) {
        if self.buckets.len() <= SWEEP_KEYS || now_ms < self.quiet_until_ms {
            return;
        }
        let Self {
            policy,
            buckets,
            order,
            quiet_until_ms,
            ..
        } = self;
        *quiet_until_ms = f64::INFINITY;
        buckets.retain(|_, bucket| {
            let over = policy.is_spent(bucket.state, now_ms) && bucket.banned_until_ms <= now_ms;
            if !over {
                // Windows only move on.
                *quiet_until_ms = quiet_until_ms.min(f64::from_bits(bucket.state[1]));
            }
            if over {
                order.remove(&bucket.inserted);
            }
            !over
        });
    }
}

fn banned(ban_ms: f64, wait_ms: u64) -> Decision {
    Decision {
        allowed: false,
        remaining: 0.0,
        reset_ms: ban_ms,
        retry_ms: wait_ms.max(whole_ms(ban_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keys;

    #[test]
    fn each_window_that_ends_is_swept_above_a_thousand_keys() {
        let keys = Keys::new([1, 2]);
        let policy = FixedWindow::new(1, 100.0).unwrap();
        let mut books = OldestFirst::new(policy, 10_000);
        let mut call = |name: &str, millis: u64| {
            let key = keys.text(name);
            let _ = books
                .consume(key, Millis::from_millis(millis), 1.0)
                .unwrap();
            books.len()
        };
        for n in 0..700 {
            call(&format!("early {n}"), 0);
            call(&format!("late {n}"), 50);
        }
        assert_eq!(call("x", 99), 1_401);
        for n in 0..700 {
            // The first of these forgets the early ones.
            assert_eq!(call(&format!("new {n}"), 100), 702 + n);
        }
        assert_eq!(call("x", 149), 1_401);
        // And this one the late ones.
        assert_eq!(call("y", 150), 702);
    }
}
