use std::fmt;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase, TimeZoneTransition};
use thiserror::Error;

/// A time zone of the IANA database, with all its past and future clock changes.
///
/// The database is part of the program: no file is read, and every machine answers alike. Cheap to
/// clone. Two zones are equal when their names are.
///
/// ```
/// use millstream_schedule::Zone;
///
/// let zone = Zone::get("europe/berlin")?;
/// assert_eq!(zone.name(), "Europe/Berlin");
/// assert!(Zone::get("Mars/Olympus").is_err());
/// # Ok::<(), millstream_schedule::ZoneError>(())
/// ```
///
/// # Cost
/// The first `get` of a name parses its table, some ten microseconds; later ones find it parsed. A
/// parsed table stays for the life of the process; there are about 600 names.
#[derive(Clone)]
pub struct Zone {
    tz: TimeZone,
}

impl Zone {
    /// Coordinated universal time.
    #[must_use]
    pub const fn utc() -> Self {
        Self { tz: TimeZone::UTC }
    }

    /// The zone with this IANA name, in any mix of upper and lower case. Links such as
    /// `Asia/Calcutta` are zones of their own with the same rules.
    ///
    /// # Errors
    /// [`ZoneError`] when the database has no such name. Offsets (`+02:00`) and rules
    /// (`EST5EDT,M3.2.0,M11.1.0`) are no names.
    pub fn get(name: &str) -> Result<Self, ZoneError> {
        let known = TimeZoneDatabase::bundled().get(name);
        match known {
            // `Etc/Unknown` behaves as UTC, which nobody who names a zone wants.
            Ok(tz) if !tz.is_unknown() && tz.iana_name().is_some() => Ok(Self { tz }),
            _ => Err(ZoneError::new(name)),
        }
    }

    /// The IANA name, as the database spells it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.tz.iana_name().unwrap_or("UTC")
    }

    /// How far local time is ahead of UTC at this second, in seconds.
    pub(crate) fn offset_at(&self, at_s: i64) -> i64 {
        i64::from(self.tz.to_offset(stamp(at_s)).seconds())
    }

    /// The stretch of constant offset that contains this second.
    pub(crate) fn stretch_at(&self, at_s: i64) -> Stretch {
        let mut changes = self.tz.preceding(stamp(at_s.saturating_add(1)));
        let start_s = changes.find_map(|change| self.real(&change));
        Stretch {
            start_s: start_s.unwrap_or(i64::MIN),
            ..self.rest_at(at_s)
        }
    }

    /// The same without a look back: it starts where it is asked.
    pub(crate) fn rest_at(&self, at_s: i64) -> Stretch {
        let mut changes = self.tz.following(stamp(at_s));
        let end_s = changes.find_map(|change| self.real(&change));
        Stretch {
            start_s: at_s,
            end_s: end_s.unwrap_or(i64::MAX),
            offset_s: self.offset_at(at_s),
        }
    }

    /// The second of a change, when it changes the offset and not only a name.
    fn real(&self, change: &TimeZoneTransition<'_>) -> Option<i64> {
        let at_s = change.timestamp().as_second();
        let before_s = self.offset_at(at_s.saturating_sub(1));
        (before_s != i64::from(change.offset().seconds())).then_some(at_s)
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name())
    }
}

/// The zone database has no such name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no time zone {name:?} in the IANA database")]
#[non_exhaustive]
pub struct ZoneError {
    /// The name, cut after 64 characters.
    pub name: Box<str>,
}

impl ZoneError {
    fn new(name: &str) -> Self {
        const NAME_CHARS_MAX: usize = 64;
        Self {
            name: name.chars().take(NAME_CHARS_MAX).collect(),
        }
    }
}

/// Seconds `start_s..end_s` with one offset. `i64::MIN` and `i64::MAX` stand for no end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) start_s: i64,
    pub(crate) end_s: i64,
    pub(crate) offset_s: i64,
}

/// The first and the last second the database speaks about: years -9999 to 9999.
pub(crate) const FIRST_S: i64 = -377_705_023_200;
pub(crate) const LAST_S: i64 = 253_402_207_199;

fn stamp(at_s: i64) -> Timestamp {
    Timestamp::from_second(at_s.clamp(FIRST_S, LAST_S)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_refused() {
        assert_eq!(Zone::get("utc").unwrap(), Zone::utc());
        assert_eq!(
            Zone::get("ASIA/KATHMANDU").unwrap().name(),
            "Asia/Kathmandu"
        );
        for name in [
            "",
            " ",
            "Nowhere",
            "+05:00",
            "Etc/Unknown",
            "../UTC",
            "UTC\0",
            "EST5EDT,M3.2.0,M11.1.0",
        ] {
            assert!(Zone::get(name).is_err(), "{name:?}");
        }
        let long = "é".repeat(1_000_000);
        assert_eq!(Zone::get(&long).unwrap_err().name.chars().count(), 64);
    }

    #[test]
    fn the_ends_of_time_are_answered() {
        assert_eq!(FIRST_S, Timestamp::MIN.as_second() + 1);
        assert_eq!(LAST_S, Timestamp::MAX.as_second() - 1);
        for name in ["UTC", "Europe/Berlin", "Pacific/Kiritimati"] {
            let zone = Zone::get(name).unwrap();
            for at_s in [i64::MIN, FIRST_S, LAST_S, i64::MAX] {
                let stretch = zone.stretch_at(at_s);
                assert!(stretch.offset_s.abs() < 86_400);
                assert!(stretch.start_s < stretch.end_s);
            }
        }
    }
}
