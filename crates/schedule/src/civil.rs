//! Days and dates of the proleptic Gregorian calendar, in plain integers.

/// Seconds of a day without clock changes.
pub(crate) const DAY_S: i64 = 86_400;

/// Days since 1970-01-01 of a date. `month` is 1..=12.
///
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.
pub(crate) const fn days_of(year: i64, month: u8, day: u8) -> i64 {
    // The year begins in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month = (month as i64 + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day as i64 - 1;
    let of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

/// Year, month and day of a day since 1970-01-01.
///
/// Source: the same, `civil_from_days`.
pub(crate) const fn date_of(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month as u8, day as u8)
}

/// Days of a month, 28 to 31.
#[cfg(test)]
pub(crate) const fn month_days(year: i64, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_four_centuries_is_the_one_after_the_day_before() {
        let (mut year, mut month, mut day) = (1899, 12, 31);
        for days in days_of(1900, 1, 1)..=days_of(2300, 1, 1) {
            if day < month_days(year, month) {
                day += 1;
            } else if month < 12 {
                (month, day) = (month + 1, 1);
            } else {
                (year, month, day) = (year + 1, 1, 1);
            }
            assert_eq!(date_of(days), (year, month, day));
            assert_eq!(days_of(year, month, day), days);
        }
        assert_eq!((year, month, day), (2300, 1, 1));
    }

    #[test]
    fn known_days() {
        assert_eq!(days_of(1970, 1, 1), 0);
        assert_eq!(days_of(2000, 2, 29), 11_016);
        assert_eq!(date_of(-1), (1969, 12, 31));
        assert_eq!(date_of(days_of(-9999, 1, 1)), (-9999, 1, 1));
        assert_eq!(date_of(days_of(0, 2, 29)), (0, 2, 29));
        assert_eq!(month_days(1900, 2), 28);
        assert_eq!(month_days(2000, 2), 29);
    }
}
