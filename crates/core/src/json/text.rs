//! JSON strings: tokens as they stand in a frame, and the writer.

use std::borrow::Cow;

use super::RawJsonRef;
use super::token;

/// A JSON string token as it stood in a frame.
///
/// Keeping the token means that what a peer sent can be echoed byte for byte, escapes and all.
///
/// # Example
/// ```
/// use millstream_core::JsonStr;
///
/// let (name, rest) = JsonStr::scan(r#""caf\u00e9", 1"#).unwrap();
/// assert_eq!(name.raw(), r#""caf\u00e9""#);
/// assert_eq!(name.plain(), None); // it holds an escape
/// assert_eq!(name.to_cow(), "café");
/// assert!(name.eq_str("café"));
/// assert_eq!(rest, ", 1");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct JsonStr<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> JsonStr<'a> {
    /// Takes a string token off the front of `text`; `None` if no valid one begins there.
    #[must_use]
    #[inline(always)]
    pub fn scan(text: &'a str) -> Option<(Self, &'a str)> {
        let [b'"', inner @ ..] = text.as_bytes() else {
            return None;
        };
        let end = token::string(inner).ok()?;
        let (raw, rest) = text.split_at_checked(1 + end.at())?;
        let escaped = end.escaped();
        Some((Self { raw, escaped }, rest))
    }

    /// Wraps a token that the scanner has passed.
    pub(super) const fn trusted(raw: &'a str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// The token, quotes included.
    #[must_use]
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    /// The token as a JSON value.
    #[must_use]
    pub const fn as_json(&self) -> RawJsonRef<'a> {
        RawJsonRef::trusted(self.raw)
    }

    /// The string, if it holds no escapes.
    #[must_use]
    #[inline]
    pub fn plain(&self) -> Option<&'a str> {
        if self.escaped {
            None
        } else {
            Some(self.inner())
        }
    }

    /// The string. A lone surrogate, which no Rust string can hold, becomes U+FFFD.
    ///
    /// # Cost
    /// Allocates only if there are escapes.
    #[must_use]
    pub fn to_cow(&self) -> Cow<'a, str> {
        self.plain().map_or_else(
            || {
                Cow::Owned(
                    self.chars()
                        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                        .collect(),
                )
            },
            Cow::Borrowed,
        )
    }

    /// The string, or `None` if it holds a lone surrogate and so differs from every Rust string.
    #[must_use]
    pub fn to_cow_exact(&self) -> Option<Cow<'a, str>> {
        match self.plain() {
            Some(plain) => Some(Cow::Borrowed(plain)),
            None => self.chars().collect::<Option<String>>().map(Cow::Owned),
        }
    }

    /// Whether it is this string, escapes resolved. Never allocates.
    #[must_use]
    pub fn eq_str(&self, other: &str) -> bool {
        match self.plain() {
            Some(plain) => plain == other,
            None => self.chars().eq(other.chars().map(Some)),
        }
    }

    /// Whether both tokens mean the same string for JavaScript, lone surrogates included.
    #[must_use]
    pub fn eq_json(&self, other: &JsonStr<'_>) -> bool {
        match (self.plain(), other.plain()) {
            (Some(a), Some(b)) => a == b,
            _ => self.units().eq(other.units()),
        }
    }

    fn inner(&self) -> &'a str {
        // Both quotes are there: the scanner saw them.
        self.raw.get(1..self.raw.len() - 1).unwrap_or_default()
    }

    /// Characters with escapes resolved; `None` stands for a lone surrogate.
    fn chars(&self) -> impl Iterator<Item = Option<char>> + 'a {
        char::decode_utf16(self.units()).map(Result::ok)
    }

    /// UTF-16 code units with escapes resolved: surrogates may pair up across two escapes.
    ///
    /// Two tokens mean the same string for JavaScript exactly when these are equal.
    pub fn code_units(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.units()
    }

    fn units(&self) -> Units<'a> {
        Units {
            rest: self.inner(),
            low: None,
        }
    }
}

struct Units<'a> {
    rest: &'a str,
    low: Option<u16>,
}

impl Iterator for Units<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some(low) = self.low.take() {
            return Some(low);
        }
        let mut chars = self.rest.chars();
        let first = chars.next()?;
        if first != '\\' {
            self.rest = chars.as_str();
            let mut units = [0; 2];
            if let [high, low] = *first.encode_utf16(&mut units) {
                self.low = Some(low);
                return Some(high);
            }
            return Some(units[0]);
        }
        let kind = chars.next()?;
        self.rest = chars.as_str();
        Some(match kind {
            'b' => 0x08,
            'f' => 0x0c,
            'n' => u16::from(b'\n'),
            'r' => u16::from(b'\r'),
            't' => u16::from(b'\t'),
            'u' => {
                let (digits, rest) = self.rest.split_at_checked(4)?;
                self.rest = rest;
                u16::from_str_radix(digits, 16).ok()?
            }
            other => other as u16,
        })
    }
}

/// Appends `text` as a JSON string, quotes included.
///
/// Quotes, backslashes and control characters are escaped; everything else passes, also U+2028 and
/// U+2029, which JSON allows.
///
/// # Example
/// ```
/// let mut out = Vec::new();
/// millstream_core::write_json_str(&mut out, "say \"hi\"\n");
/// assert_eq!(out, br#""say \"hi\"\n""#);
/// ```
pub fn write_json_str(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut rest = bytes;
    while let Some(at) = rest
        .iter()
        .position(|b| *b < 0x20 || matches!(b, b'"' | b'\\'))
    {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        if let Some((byte, tail)) = tail.split_first() {
            write_escape(out, *byte);
            rest = tail;
        }
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0x0f)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(raw: &str) -> JsonStr<'_> {
        let (token, rest) = JsonStr::scan(raw).unwrap();
        assert_eq!(rest, "");
        token
    }

    #[test]
    fn escapes_resolve() {
        let token = token(r#""\"\\\/\b\f\n\r\t\u0041\ud83d\ude00é😀""#);
        assert_eq!(token.to_cow(), "\"\\/\u{8}\u{c}\n\r\tA😀é😀");
        assert!(token.eq_str("\"\\/\u{8}\u{c}\n\r\tA😀é😀"));
    }

    #[test]
    fn lone_surrogates_are_kept_apart() {
        for raw in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800x""#,
            r#""\udc00\ud800""#,
        ] {
            assert_eq!(token(raw).to_cow_exact(), None, "{raw}");
            assert!(!token(raw).eq_str(&token(raw).to_cow()), "{raw}");
            assert!(token(raw).eq_json(&token(raw)));
        }
        assert_eq!(token(r#""\ud800""#).to_cow(), "\u{fffd}");
        assert!(!token(r#""\ud800""#).eq_json(&token(r#""\ud801""#)));
        assert!(token(r#""\u0061""#).eq_json(&token(r#""a""#)));
    }

    #[test]
    fn not_tokens() {
        for raw in [
            "",
            "x",
            "\"",
            "\"a",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u123",
            "\"a\nb\"",
            "\"\\",
        ] {
            assert!(JsonStr::scan(raw).is_none(), "{raw:?}");
        }
    }

    #[test]
    fn written_strings_read_back() {
        for text in [
            "",
            "plain",
            "a\"b\\c",
            "\u{0}\u{1f}\u{7f}",
            "\u{2028}é😀",
            "\r\n\t\u{8}\u{c}",
        ] {
            let mut out = Vec::new();
            write_json_str(&mut out, text);
            let raw = String::from_utf8(out).unwrap();
            assert_eq!(token(&raw).to_cow(), text);
            assert_eq!(serde_json::from_str::<String>(&raw).unwrap(), text);
        }
    }
}
