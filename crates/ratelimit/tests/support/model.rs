//! The fixed window with bans, written down naively from its description: a list of buckets in the
//! order in which they came. Shared by the tests and the fuzz target.

/// What a call is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Told {
    pub(crate) allowed: bool,
    pub(crate) remaining: f64,
    pub(crate) reset_ms: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    key: u64,
    points: f64,
    reset_at: f64,
    banned_until: f64,
}

/// The original's bookkeeping: first come, first dropped; all swept above a thousand.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) points: f64,
    pub(crate) interval: f64,
    pub(crate) block: f64,
    pub(crate) buckets_max: usize,
    buckets: Vec<Bucket>,
    /// Whether something was dropped that was not over.
    pub(crate) dropped: bool,
}

impl Model {
    pub(crate) fn new(points: f64, interval: f64, block: f64, buckets_max: usize) -> Self {
        let (buckets, dropped) = (Vec::new(), false);
        Self {
            points,
            interval,
            block,
            buckets_max,
            buckets,
            dropped,
        }
    }

    pub(crate) fn knows(&self, key: u64) -> bool {
        self.buckets.iter().any(|bucket| bucket.key == key)
    }

    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }

    pub(crate) fn consume(&mut self, key: u64, now: f64, cost: f64) -> Told {
        if self.buckets.len() > 1_000 {
            self.buckets
                .retain(|b| b.reset_at > now || b.banned_until > now);
        }
        if !self.knows(key) {
            if self.buckets.len() >= self.buckets_max {
                self.buckets.remove(0);
                self.dropped = true;
            }
            let (points, reset_at) = (self.points, now + self.interval);
            self.buckets.push(Bucket {
                key,
                points,
                reset_at,
                banned_until: 0.0,
            });
        }
        let bucket = self
            .buckets
            .iter_mut()
            .find(|b| b.key == key)
            .expect("it is there");
        let told = |allowed, remaining, reset_ms| Told {
            allowed,
            remaining,
            reset_ms,
        };
        if bucket.banned_until > now {
            return told(false, 0.0, bucket.banned_until - now);
        }
        if bucket.reset_at <= now {
            bucket.points = self.points;
            bucket.reset_at = now + self.interval;
        }
        if bucket.points >= cost {
            bucket.points -= cost;
            return told(true, bucket.points, bucket.reset_at - now);
        }
        if self.block > 0.0 {
            bucket.banned_until = now + self.block;
            return told(false, 0.0, self.block);
        }
        told(false, bucket.points, bucket.reset_at - now)
    }

    pub(crate) fn ban(&mut self, key: u64, now: f64, length: Option<f64>) {
        let default = if self.block > 0.0 {
            self.block
        } else {
            60_000.0
        };
        let banned_until = now + length.unwrap_or(default);
        if !self.knows(key) {
            let (points, reset_at) = (0.0, now + self.interval);
            self.buckets.push(Bucket {
                key,
                points,
                reset_at,
                banned_until,
            });
        }
        let bucket = self
            .buckets
            .iter_mut()
            .find(|b| b.key == key)
            .expect("it is there");
        bucket.banned_until = banned_until;
    }

    pub(crate) fn unban(&mut self, key: u64) {
        if let Some(bucket) = self.buckets.iter_mut().find(|b| b.key == key) {
            bucket.banned_until = 0.0;
        }
    }

    pub(crate) fn reset(&mut self, key: u64) {
        self.buckets.retain(|bucket| bucket.key != key);
    }
}
