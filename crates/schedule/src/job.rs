use crate::Schedule;

/// Tells when to run what a [`Schedule`] names: each matching instant at most once, whatever the
/// wall clock does.
///
/// Call [`handle_timeout`](Self::handle_timeout) when [`next_deadline`](Self::next_deadline) has
/// come, or more often; early calls do nothing.
///
/// - Nothing from before the start is run, nor the instant of the start itself.
/// - After a stall the latest missed instant is run, when it is not older than the grace. The
///   others count as missed.
/// - When the wall clock is set back, nothing is run again: the job waits for its next instant.
///
/// ```
/// use millstream_schedule::{Job, Schedule, Zone};
///
/// let mut job = Job::new(Schedule::parse("* * * * *", Zone::utc()).unwrap(), 30_000);
/// assert_eq!(job.next_deadline(), Some(60_000));
/// // The host was asleep for four minutes.
/// let due = job.handle_timeout(300_500);
/// assert_eq!((due.run_ms, due.missed), (Some(300_000), 4));
/// assert_eq!(job.next_deadline(), Some(360_000));
/// ```
#[derive(Debug, Clone)]
pub struct Job {
    schedule: Schedule,
    grace_ms: i64,
    next_ms: Option<i64>,
}

impl Job {
    /// A job that starts now, in milliseconds since 1970. The grace is 60 s, or 1 s when the
    /// expression has a field for seconds.
    #[must_use]
    pub fn new(schedule: Schedule, now_ms: i64) -> Self {
        let grace_ms = if schedule.cron().has_seconds() {
            1_000
        } else {
            60_000
        };
        Self {
            next_ms: schedule.next_after(now_ms),
            schedule,
            grace_ms,
        }
    }

    /// How late an instant may be run, [`GRACE_MS_MAX`] at most.
    #[must_use]
    pub fn with_grace(mut self, grace_ms: u32) -> Self {
        self.grace_ms = i64::from(grace_ms.min(GRACE_MS_MAX));
        self
    }

    /// Says what is due. Early or repeated calls do nothing.
    ///
    /// # Cost
    /// One search for the next instant, and one for each that was missed, of which it counts
    /// [`MISSED_COUNT_MAX`] at most.
    pub fn handle_timeout(&mut self, now_ms: i64) -> Due {
        let Some(mut latest_ms) = self.next_ms.filter(|next_ms| *next_ms <= now_ms) else {
            return Due::default();
        };
        let oldest_ms = now_ms.saturating_sub(self.grace_ms);
        let mut missed = 0;
        let mut from_ms = latest_ms;
        while let Some(later_ms) = self.schedule.next_after(from_ms).filter(|ms| *ms <= now_ms) {
            if missed < MISSED_COUNT_MAX {
                missed += 1;
                latest_ms = later_ms;
                from_ms = later_ms;
            } else if later_ms < oldest_ms {
                // Nothing in between can be run or counted.
                from_ms = oldest_ms - 1;
            } else {
                latest_ms = later_ms;
                from_ms = later_ms;
            }
        }
        self.next_ms = self.schedule.next_after(now_ms);
        if latest_ms < oldest_ms {
            return Due {
                run_ms: None,
                missed: missed + 1,
            };
        }
        Due {
            run_ms: Some(latest_ms),
            missed,
        }
    }

    /// When to call again, in milliseconds since 1970. `None` when the schedule has nothing within
    /// the next hundred years.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<i64> {
        self.next_ms
    }

    /// The schedule.
    #[must_use]
    pub const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Starts anew at this instant: for a host that knows that its clock had gone far ahead by
    /// mistake. Instants that were run before may come again.
    pub fn restart(&mut self, now_ms: i64) {
        self.next_ms = self.schedule.next_after(now_ms);
    }
}

/// What [`Job::handle_timeout`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// The instant to run now, in milliseconds since 1970.
    pub run_ms: Option<i64>,
    /// How many instants have passed since the last call without being run, counted up to
    /// [`MISSED_COUNT_MAX`] and one.
    pub missed: u32,
}

/// The longest grace: an hour. It bounds how many instants one call looks at.
pub const GRACE_MS_MAX: u32 = 3_600_000;

/// How many missed instants one call counts.
pub const MISSED_COUNT_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Zone;

    fn job(text: &str, now_ms: i64) -> Job {
        Job::new(Schedule::parse(text, Zone::utc()).unwrap(), now_ms)
    }

    fn due(run_ms: impl Into<Option<i64>>, missed: u32) -> Due {
        let run_ms = run_ms.into();
        Due { run_ms, missed }
    }

    #[test]
    fn an_instant_runs_once_and_not_before_the_start() {
        let mut job = job("* * * * *", 60_000);
        assert_eq!(job.handle_timeout(60_000), due(None, 0));
        assert_eq!(job.handle_timeout(119_999), due(None, 0));
        assert_eq!(job.handle_timeout(120_000), due(120_000, 0));
        assert_eq!(job.handle_timeout(120_000), due(None, 0));
        assert_eq!(job.handle_timeout(179_999), due(None, 0));
        assert_eq!(job.handle_timeout(180_001), due(180_000, 0));
    }

    #[test]
    fn a_clock_that_is_set_back_runs_nothing_again() {
        let mut job = job("* * * * *", 0);
        assert_eq!(job.handle_timeout(600_000), due(600_000, 9));
        for now_ms in [599_999, 0, i64::MIN, 540_000, 659_999] {
            assert_eq!(job.handle_timeout(now_ms), due(None, 0));
        }
        assert_eq!(job.handle_timeout(660_000), due(660_000, 0));
        job.restart(0);
        assert_eq!(job.handle_timeout(60_000), due(60_000, 0));
    }

    #[test]
    fn what_is_older_than_the_grace_is_missed() {
        let mut daily = job("0 0 * * *", 1);
        assert_eq!(daily.handle_timeout(86_460_000), due(86_400_000, 0));
        assert_eq!(daily.handle_timeout(172_860_001), due(None, 1));
        let mut seconds = job("*/10 * * * * *", 1);
        assert_eq!(seconds.handle_timeout(11_000), due(10_000, 0));
        assert_eq!(seconds.handle_timeout(31_001), due(None, 2));
        let mut none = job("0 0 * * *", 1).with_grace(0);
        assert_eq!(none.handle_timeout(86_400_001), due(None, 1));
        assert_eq!(none.handle_timeout(172_800_000), due(172_800_000, 0));
    }

    #[test]
    fn a_stall_of_years_is_bounded_work() {
        let year_ms = 31_556_952_000;
        let mut job = job("* * * * * *", 0).with_grace(u32::MAX);
        assert_eq!(job.handle_timeout(year_ms), due(year_ms, MISSED_COUNT_MAX));
        assert_eq!(job.next_deadline(), Some(year_ms + 1_000));
        let last = job.handle_timeout(i64::MAX);
        assert_eq!(last, due(None, MISSED_COUNT_MAX + 1));
        assert_eq!(job.next_deadline(), None);
        assert_eq!(job.handle_timeout(i64::MAX), due(None, 0));
    }
}
