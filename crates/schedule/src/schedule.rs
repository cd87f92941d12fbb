use crate::zone::{FIRST_S, LAST_S, Zone};
use crate::{Cron, CronError};

/// A cron expression in a time zone: the instants at which clocks there show what it names.
///
/// A local time that is skipped by a clock change does not happen on that day, and one that comes
/// twice happens twice. [`matches`](Self::matches) and [`next_after`](Self::next_after) agree: the
/// second gives the first later instant of which the first says yes.
///
/// ```
/// use millstream_schedule::{Schedule, Zone};
///
/// let berlin = Zone::get("Europe/Berlin").unwrap();
/// let daily = Schedule::parse("30 2 * * *", berlin)?;
///
/// // 30 March 2024, 02:30. The next day has no such time: clocks go from two to three.
/// let at_ms = 1_711_762_200_000;
/// assert!(daily.matches(at_ms));
/// assert_eq!(daily.next_after(at_ms), Some(at_ms + (48 - 1) * 3_600_000));
/// # Ok::<(), millstream_schedule::CronError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    cron: Cron,
    zone: Zone,
}

impl Schedule {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`CronError`] with the field, the place and the reason.
    pub fn parse(text: &str, zone: Zone) -> Result<Self, CronError> {
        Ok(Self::new(text.parse()?, zone))
    }

    /// The same from an expression that was read before.
    #[must_use]
    pub const fn new(cron: Cron, zone: Zone) -> Self {
        Self { cron, zone }
    }

    /// The expression.
    #[must_use]
    pub const fn cron(&self) -> &Cron {
        &self.cron
    }

    /// The zone.
    #[must_use]
    pub const fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Whether the second that contains this instant matches; without a field for seconds, only
    /// second 0 of a minute does. In milliseconds since 1970, of which the last three digits do not
    /// count. Nothing matches before the year -9999 or after the year 9999.
    ///
    /// # Cost
    /// Some 50 ns.
    #[must_use]
    pub fn matches(&self, at_ms: i64) -> bool {
        let at_s = at_ms.div_euclid(1_000);
        (FIRST_S..=LAST_S).contains(&at_s)
            && self.cron.matches_second(at_s + self.zone.offset_s(at_s))
    }

    /// Whether the minute that contains this instant matches, whatever its second: for a host that
    /// looks once a minute and does not care when exactly.
    #[must_use]
    pub fn matches_minute(&self, at_ms: i64) -> bool {
        let at_s = at_ms.div_euclid(1_000);
        (FIRST_S..=LAST_S).contains(&at_s)
            && self.cron.matches_minute(at_s + self.zone.offset_s(at_s))
    }

    /// The first instant after `at_ms` that matches, in milliseconds since 1970, on a whole
    /// second.
    ///
    /// `None` when there is none within [`SEARCH_YEARS_MAX`] years: for a date that does not
    /// exist (30 February), or a time that clocks always skip.
    ///
    /// # Cost
    /// Some 200 ns for what comes soon. A few steps for each month and each clock change until
    /// then, so at worst about 100 us for `None`. No allocation.
    #[must_use]
    pub fn next_after(&self, at_ms: i64) -> Option<i64> {
        if self.cron.is_never() {
            return None;
        }
        let mut from_s = at_ms.div_euclid(1_000).saturating_add(1).max(FIRST_S);
        let end_s = from_s
            .saturating_add(SEARCH_YEARS_MAX * YEAR_S)
            .min(LAST_S + 1);
        while from_s < end_s {
            let stretch = self.zone.rest_at(from_s);
            let until_s = stretch.end_s.min(end_s);
            let offset_s = stretch.offset_s;
            if let Some(local_s) = self.cron.first_in(from_s + offset_s, until_s + offset_s) {
                return Some((local_s - offset_s) * 1_000);
            }
            from_s = until_s;
        }
        None
    }
}

/// How far [`Schedule::next_after`] looks. The longest that any date can keep one waiting is 40
/// years: from one Monday, 29 February to the next, over a century without leap day.
pub const SEARCH_YEARS_MAX: i64 = 100;

const YEAR_S: i64 = 31_556_952;
