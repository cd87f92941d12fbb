use crate::error::ConfigError;
use crate::policy::{Decision, NEVER, Policy, State, positive};

/// An estimate of the calls within the last interval from two counters: those of the present
/// window, and those of the one before as far as it still reaches into the interval, taken as
/// evenly spread.
///
/// The estimate of the JavaScript original (svelte-realtime 0.5.12), in double precision: a call
/// passes while the estimate is below the points; refused calls do not count. Unlike there, the
/// wait that is told is exact, where the original tells the rest of the window
/// ([`Decision::reset_ms`] still does).
///
/// A cost of k passes when k calls of cost 1 would. Costs are rounded up to whole numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoWindow {
    points: f64,
    interval_ms: f64,
}

/// Calls of the window before, of this one, and when this one began.
#[derive(Clone, Copy)]
struct Counts {
    before: u32,
    now: u32,
    start_ms: f64,
}

impl TwoWindow {
    /// About so many points within each interval.
    ///
    /// # Errors
    /// [`ConfigError::NotPositive`] when there are no points or the interval is not above zero and
    /// finite.
    pub fn new(points: u32, interval_ms: f64) -> Result<Self, ConfigError> {
        Ok(Self {
            points: positive("points", points.into())?,
            interval_ms: positive("interval_ms", interval_ms)?,
        })
    }

    /// The counts as of now.
    fn turn(&self, state: State, now_ms: f64) -> Counts {
        let mut counts = Counts::from(state);
        let elapsed_ms = now_ms - counts.start_ms;
        if elapsed_ms >= 2.0 * self.interval_ms {
            counts = Counts {
                before: 0,
                now: 0,
                start_ms: now_ms,
            };
        } else if elapsed_ms >= self.interval_ms {
            counts = Counts {
                before: counts.now,
                now: 0,
                start_ms: counts.start_ms + self.interval_ms,
            };
        }
        counts
    }

    fn estimate(&self, counts: Counts, now_ms: f64) -> f64 {
        let inside_ms = now_ms - counts.start_ms;
        let weight = (1.0 - inside_ms / self.interval_ms).max(0.0);
        f64::from(counts.before) * weight + f64::from(counts.now)
    }

    fn fits(&self, state: State, now_ms: f64, cost: f64) -> bool {
        let counts = self.turn(state, now_ms);
        self.estimate(counts, now_ms) + (cost - 1.0) < self.points
    }

    /// When the estimate will have fallen far enough, by its slope; off by rounding at most.
    fn guess_ms(&self, state: State, now_ms: f64, cost: f64) -> f64 {
        let counts = self.turn(state, now_ms);
        let room = self.points - (cost - 1.0);
        let (before, now) = (f64::from(counts.before), f64::from(counts.now));
        let at = if now < room {
            1.0 - (room - now) / before
        } else {
            2.0 - room / now
        };
        counts.start_ms + at * self.interval_ms - now_ms
    }
}

impl Policy for TwoWindow {
    fn fresh(&self, now_ms: f64) -> State {
        Counts {
            before: 0,
            now: 0,
            start_ms: now_ms,
        }
        .into()
    }

    fn take(&self, state: &mut State, now_ms: f64, cost: f64) -> Decision {
        let cost = cost.ceil();
        let mut counts = self.turn(*state, now_ms);
        *state = counts.into();
        let estimate = self.estimate(counts, now_ms);
        let reset_ms = (self.interval_ms - (now_ms - counts.start_ms)).ceil();
        let left = |estimate: f64| (self.points - estimate).ceil().max(0.0);
        if estimate + (cost - 1.0) < self.points {
            counts.now = counts.now.saturating_add(cost as u32);
            *state = counts.into();
            return Decision {
                allowed: true,
                remaining: left(self.estimate(counts, now_ms)),
                reset_ms,
                retry_ms: 0,
            };
        }
        Decision {
            allowed: false,
            remaining: left(estimate),
            reset_ms,
            retry_ms: self.wait_ms(*state, now_ms, cost),
        }
    }

    fn wait_ms(&self, state: State, now_ms: f64, cost: f64) -> u64 {
        let cost = cost.ceil();
        if self.points - (cost - 1.0) <= 0.0 {
            return NEVER;
        }
        let after = |wait_ms: u64| self.fits(state, now_ms + wait_ms as f64, cost);
        if after(0) {
            return 0;
        }
        // The estimate only falls, so there is one first millisecond at which it fits: where the
        // slope says, give or take the rounding of a division.
        let guess = self.guess_ms(state, now_ms, cost).max(1.0) as u64;
        for wait_ms in guess.saturating_sub(1).max(1)..=guess.saturating_add(2) {
            if after(wait_ms) && !after(wait_ms - 1) {
                return wait_ms;
            }
        }
        first(2.0 * self.interval_ms, after)
    }

    fn is_spent(&self, state: State, now_ms: f64) -> bool {
        now_ms - Counts::from(state).start_ms >= 2.0 * self.interval_ms
    }
}

/// The first millisecond of `1..=most` that is `true`, when all before it are `false` and all
/// after it `true`.
fn first(most_ms: f64, is: impl Fn(u64) -> bool) -> u64 {
    let (mut no, mut yes) = (0, (most_ms.ceil() as u64).saturating_add(1));
    while yes - no > 1 {
        let middle = no + (yes - no) / 2;
        if is(middle) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    yes
}

impl From<State> for Counts {
    fn from(state: State) -> Self {
        Self {
            before: (state[0] >> 32) as u32,
            now: state[0] as u32,
            start_ms: f64::from_bits(state[1]),
        }
    }
}

impl From<Counts> for State {
    fn from(counts: Counts) -> Self {
        let calls = u64::from(counts.before) << 32 | u64::from(counts.now);
        [calls, counts.start_ms.to_bits()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 points for each 1,000 ms, one identity: the instants of calls and the rest of the window
    /// for those that are refused, as the original answers.
    #[test]
    fn the_estimate_is_that_of_the_original() {
        let policy = TwoWindow::new(3, 1_000.0).unwrap();
        let mut state = policy.fresh(0.0);
        let (ok, mut told) = (None, Vec::new());
        let calls: [(u32, Option<f64>); 21] = [
            (0, ok),
            (10, ok),
            (20, ok),
            (30, Some(970.0)),
            (500, Some(500.0)),
            (999, Some(1.0)),
            (1_000, Some(1_000.0)),
            (1_001, ok),
            (1_200, Some(800.0)),
            (1_300, Some(700.0)),
            (1_350, ok),
            (1_700, ok),
            (1_990, Some(10.0)),
            (2_000, Some(1_000.0)),
            (2_300, ok),
            (2_400, ok),
            (2_700, ok),
            (5_000, ok),
            (5_001, ok),
            (5_002, ok),
            (5_003, Some(997.0)),
        ];
        for (at_ms, _) in calls {
            let decision = policy.take(&mut state, at_ms.into(), 1.0);
            told.push((at_ms, (!decision.allowed).then_some(decision.reset_ms)));
        }
        assert_eq!(told, calls);
    }

    #[test]
    fn the_wait_is_exact_where_the_rest_of_the_window_is_not() {
        let policy = TwoWindow::new(3, 1_000.0).unwrap();
        let mut state = policy.fresh(0.0);
        for _ in 0..3 {
            assert!(policy.take(&mut state, 0.0, 1.0).allowed);
        }
        let refused = policy.take(&mut state, 30.0, 1.0);
        // The window has 970 ms to go; at its end all three still weigh in full.
        assert_eq!((refused.reset_ms, refused.retry_ms), (970.0, 971));
        assert_eq!(policy.wait_ms(state, 30.0, 2.0), 1_334 - 30);
        assert_eq!(policy.wait_ms(state, 30.0, 3.0), 1_667 - 30);
        assert_eq!(policy.wait_ms(state, 30.0, 4.0), NEVER);
        assert_eq!(policy.wait_ms(state, 30.0, 0.0), 0);
    }
}
