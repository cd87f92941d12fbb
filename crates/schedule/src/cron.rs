use std::str::FromStr;

use crate::civil::{DAY_S, date_of, days_of, month_days};
use crate::error::CronError;
use crate::parse::{Fields, parse};

/// A cron expression of five fields (`minute hour day month weekday`) or six (`second` first), as
/// a set of values for each field.
///
/// | part of a field | matches |
/// |---|---|
/// | `*` | always; stands alone |
/// | `N` | that value |
/// | `A-B` | from A to B, both included |
/// | `A-B/N` | A, A + N, A + 2N and so on up to B |
/// | `*/N` | the values that N divides: as a day, `*/2` is 2, 4, 6 |
/// | parts with commas between | what one of them matches |
///
/// All fields have to match, day **and** weekday too. Weekday 0 and 7 are Sunday. What is not in
/// this table is refused: names, `?`, `L`, `W`, `#`, `@daily`, signs, fractions, `5/15`.
///
/// ```
/// use millstream_schedule::Cron;
///
/// let cron: Cron = "*/15 9-17 * * 1-5".parse()?;
/// assert!(!cron.has_seconds());
/// let error = "0 9 * * MON".parse::<Cron>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"weekday "MON" at byte 8: not a number, a range or a step; allowed are 0-7"#,
/// );
/// # Ok::<(), millstream_schedule::CronError>(())
/// ```
///
/// 56 bytes, on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    seconds: u64,
    minutes: u64,
    hours: u32,
    months: u16,
    has_seconds: bool,
    /// The days of a month that match, by the weekday of its first day.
    days: [u32; 7],
}

impl Cron {
    /// Whether the expression has six fields. One with five matches at second 0.
    #[must_use]
    pub const fn has_seconds(&self) -> bool {
        self.has_seconds
    }

    /// Whether no date of any year matches, as in `0 0 30 2 *` or `0 0 */40 * *`.
    #[must_use]
    pub fn is_never(&self) -> bool {
        // In 400 years every date falls on every weekday, 29 February included.
        !(1..=12).any(|month| {
            let days = self.days.iter().fold(0, |any, days| any | days);
            self.months & (1 << month) != 0 && days & mask(month_days(2_000, month)) != 0
        })
    }

    /// Whether this second of local time matches.
    pub(crate) fn matches_second(&self, local_s: i64) -> bool {
        self.matches_minute(local_s) && self.seconds & (1 << local_s.rem_euclid(60)) != 0
    }

    /// Whether the minute of this second of local time matches.
    pub(crate) fn matches_minute(&self, local_s: i64) -> bool {
        let of_day_s = local_s.rem_euclid(DAY_S);
        self.minutes & (1 << (of_day_s / 60 % 60)) != 0
            && self.hours & (1 << (of_day_s / 3_600)) != 0
            && {
                let (year, month, day) = date_of(local_s.div_euclid(DAY_S));
                self.days_in(year, month) & (1 << day) != 0
            }
    }

    /// The first second of local time in `from_s..until_s` that matches.
    ///
    /// Field by field: a few steps for each month in between.
    pub(crate) fn first_in(&self, from_s: i64, until_s: i64) -> Option<i64> {
        let today = from_s.div_euclid(DAY_S);
        let (mut year, mut month, day) = date_of(today);
        let days = self.days_in(year, month);
        if days & (1 << day) != 0
            && let Some(of_day_s) = self.time_from(from_s.rem_euclid(DAY_S))
        {
            let at_s = today * DAY_S + of_day_s;
            return (at_s < until_s).then_some(at_s);
        }
        let first_s = self.time_from(0)?;
        let mut later = days & !mask(day);
        loop {
            if later != 0 {
                let at_s = days_of(year, month, lowest(later)) * DAY_S + first_s;
                return (at_s < until_s).then_some(at_s);
            }
            (year, month) = self.month_after(year, month)?;
            if days_of(year, month, 1) * DAY_S >= until_s {
                return None;
            }
            later = self.days_in(year, month);
        }
    }

    /// The next month that matches.
    fn month_after(&self, year: i64, month: u8) -> Option<(i64, u8)> {
        let later = self.months & !(((2_u32 << month) - 1) as u16);
        match (later, self.months) {
            (0, 0) => None,
            (0, months) => Some((year + 1, lowest(months.into()))),
            (later, _) => Some((year, lowest(later.into()))),
        }
    }

    /// The days of one month that match.
    fn days_in(&self, year: i64, month: u8) -> u32 {
        if self.months & (1 << month) == 0 {
            return 0;
        }
        // 1970 began on a Thursday.
        let weekday = (days_of(year, month, 1) + 4).rem_euclid(7);
        self.days[weekday as usize] & mask(month_days(year, month))
    }

    /// The first second of a day, from `from_s` on, that matches.
    fn time_from(&self, from_s: i64) -> Option<i64> {
        let (hour, minute, second) = (from_s / 3_600, from_s / 60 % 60, from_s % 60);
        if self.hours & (1 << hour) != 0 {
            if self.minutes & (1 << minute) != 0
                && let Some(second) = first_from(self.seconds, second)
            {
                return Some(hour * 3_600 + minute * 60 + second);
            }
            if let Some(minute) = first_from(self.minutes, minute + 1) {
                return Some(hour * 3_600 + minute * 60 + first_from(self.seconds, 0)?);
            }
        }
        let hour = first_from(self.hours.into(), hour + 1)?;
        let (minute, second) = (first_from(self.minutes, 0)?, first_from(self.seconds, 0)?);
        Some(hour * 3_600 + minute * 60 + second)
    }
}

impl FromStr for Cron {
    type Err = CronError;

    /// Reads an expression. White space around it does not count, and separates its fields.
    ///
    /// # Cost
    /// Linear in its length.
    fn from_str(text: &str) -> Result<Self, CronError> {
        parse(text).map(Self::from)
    }
}

impl From<Fields> for Cron {
    fn from(fields: Fields) -> Self {
        let by_first = |first: usize| {
            (1..=31_usize)
                .filter(|day| fields.weekdays & (1 << ((first + day - 1) % 7)) != 0)
                .filter(|day| fields.days & (1 << day) != 0)
                .fold(0, |days, day| days | (1 << day))
        };
        Self {
            seconds: fields.seconds.unwrap_or(1),
            minutes: fields.minutes,
            hours: fields.hours as u32,
            months: fields.months as u16,
            has_seconds: fields.seconds.is_some(),
            days: std::array::from_fn(by_first),
        }
    }
}

/// Days 0 to `day`.
const fn mask(day: u8) -> u32 {
    (((2_u64) << day) - 1) as u32
}

/// The lowest value of a set that is not empty.
const fn lowest(set: u32) -> u8 {
    set.trailing_zeros() as u8
}

/// The lowest value of a set that is `from` or more.
fn first_from(set: u64, from: i64) -> Option<i64> {
    let rest = set & (u64::MAX.checked_shl(u32::try_from(from).ok()?)?);
    (rest != 0).then(|| i64::from(rest.trailing_zeros()))
}
