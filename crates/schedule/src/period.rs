use crate::Zone;
use crate::civil::{DAY_S, date_of, days_of};
use crate::zone::{FIRST_S, LAST_S};

/// A cell of the calendar, as the clocks and calendars of a zone show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Period {
    /// As long as the local minute and the zone's offset stay: sixty seconds.
    Minute,
    /// As long as the local hour and the zone's offset stay: an hour, or less next to a clock
    /// change that does not happen on the hour. An hour that clocks show twice is two hours.
    Hour,
    /// Until the local date becomes later. From 23 to 25 hours at clock changes; a date that a zone
    /// has skipped has no day, and one that it had twice is one day of 48 hours.
    Day,
    /// Until the local month becomes later.
    Month,
}

impl Zone {
    /// When the period that contains `at_ms` began. Both in milliseconds since 1970.
    ///
    /// Never later than `at_ms`. When local midnight does not exist, the day begins at the clock
    /// change that skips it; when it happens twice, at the first.
    ///
    /// The database speaks about the years -9999 to 9999. Before them the answer is `i64::MIN`,
    /// after them the last boundary within them.
    ///
    /// ```
    /// use millstream_schedule::{Period, Zone};
    ///
    /// // 10 March 2024, 01:30 in Havana. That day had no midnight: it began at 01:00.
    /// let zone = Zone::get("America/Havana").unwrap();
    /// assert_eq!(zone.start_of(Period::Day, 1_710_048_600_000), 1_710_046_800_000);
    /// ```
    ///
    /// # Cost
    /// A microsecond or less, without allocation.
    #[must_use]
    pub fn start_of(&self, period: Period, at_ms: i64) -> i64 {
        let at_s = at_ms.div_euclid(1_000);
        if at_s < FIRST_S {
            return i64::MIN;
        }
        let at_s = at_s.min(LAST_S);
        let start_s = match period {
            Period::Minute => self.clock_cell(60, at_s).0,
            Period::Hour => self.clock_cell(3_600, at_s).0,
            Period::Day => self.date_cell(Calendar::Days, at_s).0,
            Period::Month => self.date_cell(Calendar::Months, at_s).0,
        };
        if start_s < FIRST_S {
            i64::MIN
        } else {
            start_s * 1_000
        }
    }

    /// The first boundary after `at_ms`, which is when the period that contains it ends. Both in
    /// milliseconds since 1970.
    ///
    /// Always later than `at_ms`, but for the ends of time: when the database knows no later
    /// boundary (after the year 9999), the answer is `i64::MAX`, which stands for never.
    ///
    /// ```
    /// use millstream_schedule::{Period, Zone};
    ///
    /// // 3 November 2024, 00:00 in New York: a day of 25 hours.
    /// let zone = Zone::get("America/New_York").unwrap();
    /// let end_ms = zone.next_boundary(Period::Day, 1_730_606_400_000);
    /// assert_eq!(end_ms, 1_730_606_400_000 + 25 * 3_600_000);
    /// ```
    ///
    /// # Cost
    /// A microsecond or less, without allocation.
    #[must_use]
    pub fn next_boundary(&self, period: Period, at_ms: i64) -> i64 {
        let at_s = at_ms.div_euclid(1_000);
        if at_s > LAST_S {
            return i64::MAX;
        }
        let at_s = at_s.max(FIRST_S);
        let end_s = match period {
            Period::Minute => self.clock_cell(60, at_s).1,
            Period::Hour => self.clock_cell(3_600, at_s).1,
            Period::Day => self.date_cell(Calendar::Days, at_s).1,
            Period::Month => self.date_cell(Calendar::Months, at_s).1,
        };
        let end_ms = if end_s > LAST_S {
            i64::MAX
        } else {
            end_s * 1_000
        };
        assert!(end_ms > at_ms, "a boundary lies in the future");
        end_ms
    }

    /// Start and end of the cell of `size_s` seconds that the clock shows, cut at clock changes.
    fn clock_cell(&self, size_s: i64, at_s: i64) -> (i64, i64) {
        let stretch = self.stretch_at(at_s);
        let into_s = (at_s + stretch.offset_s).rem_euclid(size_s);
        let start_s = at_s - into_s;
        (
            start_s.max(stretch.start_s),
            (start_s + size_s).min(stretch.end_s),
        )
    }

    /// Start and end of the cell of dates. Where the clock goes back over midnight, the earlier
    /// date shows again; the later cell has begun all the same.
    fn date_cell(&self, calendar: Calendar, at_s: i64) -> (i64, i64) {
        let shown = calendar.cell_of((at_s + self.offset_at(at_s)).div_euclid(DAY_S));
        let mut start_s = self.first_second(calendar.first_day(shown));
        let mut cell = shown;
        loop {
            cell += 1;
            let end_s = self.first_second(calendar.first_day(cell));
            if end_s > at_s {
                return (start_s, end_s);
            }
            start_s = end_s;
        }
    }

    /// The first second at which the local date is `day` or later.
    fn first_second(&self, day: i64) -> i64 {
        // No zone is 26 hours from UTC: here the date is still an earlier one.
        const AWAY_S: i64 = 26 * 3_600;
        let midnight_s = day * DAY_S;
        let mut from_s = midnight_s - AWAY_S;
        loop {
            let stretch = self.rest_at(from_s);
            let reached_s = midnight_s - stretch.offset_s;
            if reached_s < stretch.end_s {
                return reached_s.max(from_s);
            }
            from_s = stretch.end_s;
        }
    }
}

/// Dates counted in cells.
#[derive(Clone, Copy)]
enum Calendar {
    Days,
    Months,
}

impl Calendar {
    /// The number of the cell that contains a day since 1970.
    const fn cell_of(self, day: i64) -> i64 {
        match self {
            Self::Days => day,
            Self::Months => {
                let (year, month, _) = date_of(day);
                year * 12 + month as i64 - 1
            }
        }
    }

    /// The first day of a cell.
    const fn first_day(self, cell: i64) -> i64 {
        match self {
            Self::Days => cell,
            Self::Months => days_of(cell.div_euclid(12), cell.rem_euclid(12) as u8 + 1, 1),
        }
    }
}
