//! Positions as they travel in pages and requests.

use core::fmt;
use core::str::FromStr;

use millstream_core::RawJsonRef;

/// The highest number given out: above it a JavaScript number is no longer exact.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// A place in one topic's history, with the epoch that gives the number its meaning.
///
/// Put its text form into a page; a reader that brings it back after the numbers were reset is
/// told so, instead of being handed events of another history.
///
/// # Example
/// ```
/// use millstream_replay::Position;
///
/// let position = Position { epoch: 0x19a, number: 42 };
/// assert_eq!(position.to_string(), "19a.42");
/// assert_eq!("19a.42".parse(), Ok(position));
/// assert!("42".parse::<Position>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which run of numbers this is, as the host named it.
    pub epoch: u64,
    /// Number of the last event that is known.
    pub number: u64,
}

/// Text that is no position: hexadecimal epoch, full stop, decimal number at most 2^53 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position")]
pub struct InvalidPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.epoch, self.number)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, number) = text.split_once('.').ok_or(InvalidPosition)?;
        // The standard parser would take a sign.
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !plain(epoch) || !plain(number) {
            return Err(InvalidPosition);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| InvalidPosition)?;
        let number = number.parse().map_err(|_| InvalidPosition)?;
        if number > NUMBER_MAX {
            return Err(InvalidPosition);
        }
        Ok(Self { epoch, number })
    }
}

/// The number a client asks from, out of its request: any JSON number that is an integer and not
/// negative, `3`, `3.0` and `3e0` alike. `None` is a malformed position.
///
/// Integers too large for `u64` become [`u64::MAX`], which is ahead of everything.
///
/// # Example
/// ```
/// use millstream_core::RawJsonRef;
/// use millstream_replay::parse_number;
///
/// let number = |text: &'static str| parse_number(RawJsonRef::parse_str(text).unwrap());
/// assert_eq!(number("7"), Some(7));
/// assert_eq!(number("1e3"), Some(1_000));
/// assert_eq!(number("1e300"), Some(u64::MAX));
/// assert_eq!((number("-1"), number("1.5"), number("\"7\"")), (None, None, None));
/// ```
#[must_use]
pub fn parse_number(value: RawJsonRef<'_>) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0)?;
        Some(number as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_position_is_refused() {
        for text in [
            "", ".", "1.", ".1", "+1.1", "1.+1", "1.-1", "g.1", "1.1.1", " 1.1",
        ] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text}");
        }
        assert!(format!("0.{NUMBER_MAX}").parse::<Position>().is_ok());
        assert!(format!("0.{}", NUMBER_MAX + 1).parse::<Position>().is_err());
        assert!("10000000000000000.1".parse::<Position>().is_err());
    }

    #[test]
    fn infinities_and_nothing_are_malformed_and_minus_zero_is_zero() {
        let number = |text: &str| parse_number(RawJsonRef::parse_str(text).unwrap());
        assert_eq!(number("1e999"), None);
        assert_eq!(number("-0"), Some(0));
        assert_eq!(
            (number("null"), number("true"), number("[1]")),
            (None, None, None)
        );
    }
}
