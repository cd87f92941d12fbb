//! Topic and event names, parsed once.

use core::borrow::Borrow;
use core::fmt;
use core::ops::Deref;
use std::sync::Arc;

use crate::JsonStr;

/// Longest topic, in UTF-16 code units.
pub const TOPIC_UNITS_MAX: usize = 256;

/// A topic name that obeys the rules it was parsed under.
///
/// Cheap to clone (a shared `Arc<str>`), looked up in maps by `&str`, matched exactly. Because
/// quotes, backslashes and control characters are never in it, it can be put between quotes as
/// JSON.
///
/// # Example
/// ```
/// use millstream_core::{TopicError, TopicName, TopicRules};
///
/// let topic = TopicName::parse("rooms:1", &TopicRules::WIRE)?;
/// assert_eq!(&*topic, "rooms:1");
/// // Clients may not name system topics, the server may.
/// assert_eq!(TopicName::parse("__rpc", &TopicRules::WIRE), Err(TopicError::System));
/// assert!(TopicName::parse("__rpc", &TopicRules::SERVER)?.is_system());
/// # Ok::<(), TopicError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks `name` against `rules` and takes a copy of it.
    ///
    /// # Errors
    /// The first rule broken, see [`TopicError`]; on the wire all of them are `INVALID_TOPIC`.
    pub fn parse(name: &str, rules: &TopicRules) -> Result<Self, TopicError> {
        rules.check(name)?;
        Ok(Self(name.into()))
    }

    /// [`parse`](Self::parse) for a name as it stood in a JSON frame.
    ///
    /// # Errors
    /// As `parse`; a lone surrogate, which no Rust string can hold, is [`TopicError::NonAscii`].
    pub fn parse_json(name: JsonStr<'_>, rules: &TopicRules) -> Result<Self, TopicError> {
        match name.plain() {
            Some(plain) => Self::parse(plain, rules),
            None => Self::parse(&name.to_cow_exact().ok_or(TopicError::NonAscii)?, rules),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared string inside.
    #[must_use]
    pub const fn as_arc(&self) -> &Arc<str> {
        &self.0
    }

    /// Whether it is reserved for the framework (begins with two underscores).
    #[must_use]
    pub fn is_system(&self) -> bool {
        is_system_topic(&self.0)
    }
}

impl Deref for TopicName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Which topic names are acceptable.
///
/// Under all rules a name has 1 to 256 UTF-16 code units and holds no control character below
/// U+0020, no quote and no backslash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRules {
    /// Allow everything above `~`: DEL and all of Unicode.
    ///
    /// That includes C1 controls, bidirectional controls and zero-width characters: names are
    /// matched exactly and never normalised, so turn this on only where names are not shown to
    /// people who must tell them apart.
    pub non_ascii: bool,
    /// Allow names that begin with `__`.
    pub system: bool,
}

impl TopicRules {
    /// What a client may name by default: printable ASCII, no system topics.
    pub const WIRE: Self = Self {
        non_ascii: false,
        system: false,
    };

    /// What the server itself may name.
    pub const SERVER: Self = Self {
        non_ascii: true,
        system: true,
    };

    /// Checks a name without copying it.
    ///
    /// # Errors
    /// The first rule broken.
    ///
    /// # Cost
    /// Looks at no more than about a kilobyte, however long the name is.
    pub fn check(&self, name: &str) -> Result<(), TopicError> {
        if name.is_empty() {
            return Err(TopicError::Empty);
        }
        // One code unit is at most three bytes of UTF-8.
        if name.len() > TOPIC_UNITS_MAX
            && (name.len() > TOPIC_UNITS_MAX * 3 || name.encode_utf16().count() > TOPIC_UNITS_MAX)
        {
            return Err(TopicError::TooLong);
        }
        check_plain(name)?;
        if !self.non_ascii && name.bytes().any(|b| b > 0x7e) {
            return Err(TopicError::NonAscii);
        }
        if !self.system && is_system_topic(name) {
            return Err(TopicError::System);
        }
        Ok(())
    }
}

/// Why a topic or event name was refused.
///
/// Towards a client every variant is the reason `INVALID_TOPIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It has no characters.
    #[error("name is empty")]
    Empty,
    /// It has more than [`TOPIC_UNITS_MAX`] code units.
    #[error("name is over the limit of {TOPIC_UNITS_MAX} UTF-16 code units")]
    TooLong,
    /// It holds a control character, a quote or a backslash.
    #[error("name holds a control character, a quote or a backslash")]
    Illegal,
    /// It holds DEL or something outside ASCII, which the rules do not allow.
    #[error("name holds a character outside printable ascii")]
    NonAscii,
    /// It begins with two underscores, which the rules do not allow.
    #[error("name is reserved: it begins with two underscores")]
    System,
}

/// Checks an event name: any length, but no control character, quote or backslash, so that it can
/// be put between quotes as JSON.
///
/// # Errors
/// [`TopicError::Illegal`].
pub fn check_event(event: &str) -> Result<(), TopicError> {
    check_plain(event)
}

/// Whether a name is reserved for the framework (begins with two underscores).
#[must_use]
pub fn is_system_topic(name: &str) -> bool {
    name.starts_with("__")
}

#[inline]
fn check_plain(name: &str) -> Result<(), TopicError> {
    // Eight bytes at a time and without an early exit: names are short.
    let (words, rest) = name.as_bytes().as_chunks();
    let mut last = [b' '; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let illegal = words
        .iter()
        .fold(illegal(last), |any, word| any | illegal(*word));
    if illegal == 0 {
        Ok(())
    } else {
        Err(TopicError::Illegal)
    }
}

/// Not zero if one of the bytes is a control character, a quote or a backslash.
#[inline]
const fn illegal(bytes: [u8; 8]) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    /// The top bit of each byte that is below `limit`, and perhaps of some above such a byte.
    const fn below(word: u64, limit: u8) -> u64 {
        word.wrapping_sub(EACH * limit as u64) & !word
    }
    let word = u64::from_le_bytes(bytes);
    let quote = below(word ^ (EACH * b'"' as u64), 1);
    let backslash = below(word ^ (EACH * b'\\' as u64), 1);
    (below(word, b' ') | quote | backslash) & (EACH << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAXED: TopicRules = TopicRules {
        non_ascii: true,
        system: false,
    };

    fn check(name: &str, rules: &TopicRules) -> Result<(), TopicError> {
        TopicName::parse(name, rules).map(drop)
    }

    #[test]
    fn every_character_at_every_place() {
        let letters = (0..0x180).filter_map(char::from_u32);
        for letter in letters.chain("€😀".chars()) {
            let legal = letter >= ' ' && !['"', '\\'].contains(&letter);
            let want = if legal {
                Ok(())
            } else {
                Err(TopicError::Illegal)
            };
            for (before, after) in (0..20).flat_map(|at| [(at, 0), (at, 1), (at, 19 - at)]) {
                for filler in ["a", " ", "!", "ÿ"] {
                    let (before, after) = (filler.repeat(before), filler.repeat(after));
                    let name = format!("{before}{letter}{after}");
                    assert_eq!(check_event(&name), want, "{name:?}");
                }
            }
        }
        assert_eq!(check_event(""), Ok(()));
    }

    #[test]
    fn wire_rules() {
        let cases: &[(&str, Result<(), TopicError>)] = &[
            ("rooms", Ok(())),
            ("a b:/.~", Ok(())),
            ("_draft", Ok(())),
            ("", Err(TopicError::Empty)),
            ("__signal:u2", Err(TopicError::System)),
            ("a\"b", Err(TopicError::Illegal)),
            ("a\\b", Err(TopicError::Illegal)),
            ("a\nb", Err(TopicError::Illegal)),
            ("a\u{7f}", Err(TopicError::NonAscii)),
            ("café", Err(TopicError::NonAscii)),
            ("a\u{202e}b", Err(TopicError::NonAscii)),
        ];
        for (name, want) in cases {
            assert_eq!(check(name, &TopicRules::WIRE), *want, "{name:?}");
        }
    }

    #[test]
    fn relaxed_rules() {
        for name in ["a\u{7f}", "café", "a\u{202e}b", "\u{200b}", "\u{85}"] {
            assert_eq!(check(name, &RELAXED), Ok(()), "{name:?}");
        }
        assert_eq!(check("__x", &RELAXED), Err(TopicError::System));
        assert_eq!(
            check("a\u{1}", &TopicRules::SERVER),
            Err(TopicError::Illegal)
        );
        assert_eq!(check("__x", &TopicRules::SERVER), Ok(()));
    }

    #[test]
    fn length_counts_code_units() {
        assert_eq!(check(&"k".repeat(256), &TopicRules::WIRE), Ok(()));
        assert_eq!(
            check(&"k".repeat(257), &TopicRules::WIRE),
            Err(TopicError::TooLong)
        );
        assert_eq!(check(&"é".repeat(256), &RELAXED), Ok(()));
        assert_eq!(check(&"€".repeat(256), &RELAXED), Ok(()));
        assert_eq!(check(&"😀".repeat(128), &RELAXED), Ok(()));
        assert_eq!(check(&"😀".repeat(129), &RELAXED), Err(TopicError::TooLong));
        assert_eq!(
            check(&"x".repeat(10_000), &RELAXED),
            Err(TopicError::TooLong)
        );
    }

    #[test]
    fn names_from_json() {
        let parse =
            |raw: &'static str| TopicName::parse_json(JsonStr::scan(raw).unwrap().0, &RELAXED);
        assert_eq!(&*parse(r#""a\u0062c""#).unwrap(), "abc");
        assert_eq!(parse(r#""\ud800""#), Err(TopicError::NonAscii));
        assert_eq!(parse(r#""a\nb""#), Err(TopicError::Illegal));
    }

    #[test]
    fn events() {
        assert_eq!(check_event(""), Ok(()));
        assert_eq!(check_event("créé"), Ok(()));
        assert_eq!(check_event("a\"b"), Err(TopicError::Illegal));
    }
}
