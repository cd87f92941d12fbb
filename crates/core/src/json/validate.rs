//! The one scanner of JSON: says where a value ends, or that it is not one.
//!
//! No recursion and no allocation: the kinds of the open containers are bits of one word. What is
//! left to scan is one slice that only loses its front, so a look at the next bytes is one
//! comparison.

use super::JsonError;
use super::token::{self, Left, StringEnd};

/// Deepest nesting the scanner can follow at all.
pub(super) const DEPTH_LIMIT: u32 = 128;

/// Where and why a scan failed, in one word so that results stay in registers: a position, or
/// [`TOO_DEEP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault(usize);

const TOO_DEEP: usize = usize::MAX;

impl Fault {
    /// A fault in `bytes`, by what was left of them.
    #[cold]
    pub(super) const fn left(bytes: &[u8], left: Left) -> Self {
        match left {
            Left::TOO_DEEP => Self(TOO_DEEP),
            Left(left) => Self(bytes.len() - left),
        }
    }

    pub(super) const fn at(at: usize) -> Self {
        Self(at)
    }

    /// The error for callers.
    #[cold]
    pub(super) const fn error(self, depth_max: u32) -> JsonError {
        match self.0 {
            TOO_DEEP => JsonError::TooDeep { depth_max },
            at => JsonError::Syntax { at },
        }
    }
}

/// Finds the end of the value that begins at `start` (no whitespace before it).
#[inline]
pub(super) fn value_end(bytes: &[u8], start: usize, depth_max: u32) -> Result<usize, Fault> {
    match value(bytes.get(start..).unwrap_or_default(), depth_max) {
        Ok(rest) => Ok(bytes.len() - rest.len()),
        Err(left) => Err(Fault::left(bytes, left)),
    }
}

/// What is behind the value that `rest` begins with.
#[inline]
pub(super) fn value(rest: &[u8], depth_max: u32) -> Result<&[u8], Left> {
    let left = match rest {
        // Most members are texts.
        [b'"', text @ ..] => return token::string(text).map(|end| end.rest(text)),
        [b'{' | b'[', ..] => container(rest, depth_max),
        _ => other_scalar(rest),
    };
    left.map(|left| token::last(rest, left))
}

/// Gives how many bytes are left behind a number or a word.
#[inline(never)]
fn other_scalar(rest: &[u8]) -> Result<usize, Left> {
    match rest {
        [b'0'..=b'9', ..] => token::number(rest).map(<[u8]>::len),
        _ => token::rarer(rest).map(<[u8]>::len),
    }
}

/// Follows an array or object; gives how many bytes are left behind it. One loop whose state stays
/// in registers.
#[inline(never)]
fn container(text: &[u8], depth_max: u32) -> Result<usize, Left> {
    let mut rest = text;
    // What closes the innermost open container; the bits tell of those around it, beginning with
    // the lowest, whether they are objects.
    let mut close = 0;
    let mut objects = 0_u128;
    let mut depth = 0;
    loop {
        rest = if close == b'}' {
            key(rest)?
        } else {
            next(rest)
        };
        let Some((first, behind)) = rest.split_first() else {
            return Err(Left::of(rest));
        };
        match first {
            b'"' => rest = token::string(behind)?.rest(behind),
            b'0'..=b'9' => rest = token::number(rest)?,
            b'{' | b'[' => {
                if depth >= depth_max {
                    return Err(Left::TOO_DEEP);
                }
                let inner = next(behind);
                // The closing bracket is two behind the opening one in ASCII.
                if inner.first() != Some(&(first + 2)) {
                    depth += 1;
                    objects = objects << 1 | u128::from(close == b'}');
                    close = first + 2;
                    rest = inner;
                    continue;
                }
                rest = inner.get(1..).unwrap_or_default();
                if depth == 0 {
                    return Ok(rest.len());
                }
            }
            _ => rest = token::rarer(rest)?,
        }
        // Closes what ends here, and goes on if another value follows.
        loop {
            let Some((byte, behind)) = rest.split_first() else {
                return Err(Left::of(rest));
            };
            if *byte == b',' {
                rest = behind;
                break;
            }
            if *byte == close {
                rest = behind;
                depth -= 1;
                if depth == 0 {
                    return Ok(rest.len());
                }
                close = if objects & 1 == 1 { b'}' } else { b']' };
                objects >>= 1;
            } else if is_blank(*byte) {
                rest = behind_blanks(rest);
            } else {
                return Err(Left::of(rest));
            }
        }
    }
}

/// What is behind a key, its colon and the blanks around them.
#[inline]
fn key(rest: &[u8]) -> Result<&[u8], Left> {
    match token::short_key(rest) {
        Some(behind) => Ok(next(behind)),
        None => any_key(rest).map(|left| token::last(rest, left)),
    }
}

/// Gives how many bytes are left behind a key that is longer, or has blanks or escapes.
#[inline(never)]
fn any_key(rest: &[u8]) -> Result<usize, Left> {
    let rest = match rest {
        [b'"', ..] => rest,
        _ => next(rest),
    };
    if let Some(behind) = token::short_key(rest) {
        return Ok(next(behind).len());
    }
    let [b'"', text @ ..] = rest else {
        return Err(Left::of(rest));
    };
    let rest = next(token::string(text)?.rest(text));
    match rest {
        [b':', behind @ ..] => Ok(next(behind).len()),
        _ => Err(Left::of(rest)),
    }
}

/// What is left behind blanks. There are hardly ever any: compact JSON, the usual kind, has none,
/// and one comparison decides.
#[inline]
pub(super) fn next(rest: &[u8]) -> &[u8] {
    match rest {
        [byte, ..] if *byte > b' ' => rest,
        _ => behind_blanks(rest),
    }
}

/// Apart from [`next`], so that its loop does not take registers from those who call it.
#[inline(never)]
fn behind_blanks(mut rest: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', behind @ ..] = rest {
        rest = behind;
    }
    rest
}

#[inline]
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Finds the end of the value that begins at `start` of text that was validated before: follows
/// strings and brackets and looks at nothing else. `None` if the text is not valid after all.
pub(super) fn known_value_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    let mut depth = 0_usize;
    match bytes.get(at)? {
        b'"' => return Some(string_end(bytes, at).ok()?.at()),
        b'{' | b'[' => {}
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t'..=b'\r');
            let rest = bytes.get(at..)?;
            return Some(at + rest.iter().position(ends).unwrap_or(rest.len()));
        }
    }
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at).ok()?.at();
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// The name of a field, see [`string_end`].
#[inline]
pub(super) fn field_name(bytes: &[u8], start: usize) -> Result<StringEnd, Fault> {
    if bytes.get(start) != Some(&b'"') {
        return Err(Fault::at(start));
    }
    string_end(bytes, start)
}

/// Finds the end of the string whose opening quote is at `start`.
#[inline]
pub(super) fn string_end(bytes: &[u8], start: usize) -> Result<StringEnd, Fault> {
    let text = bytes.get(start + 1..).unwrap_or_default();
    match token::string(text) {
        Ok(end) => Ok(end.behind(start + 1)),
        Err(left) => Err(Fault::left(bytes, left)),
    }
}

/// The position behind `byte`, which has to be the first one at or after `at` that is no blank.
#[inline]
pub(super) fn behind(bytes: &[u8], at: usize, byte: u8) -> Result<usize, Fault> {
    let at = to_next(bytes, at);
    if bytes.get(at) == Some(&byte) {
        Ok(at + 1)
    } else {
        Err(Fault::at(at))
    }
}

/// [`skip_blanks`] where there are hardly ever any: compact JSON, the usual kind, has none, and
/// one comparison decides.
#[inline]
pub(super) fn to_next(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(byte) if *byte > b' ' => at,
        _ => skip_blanks(bytes, at),
    }
}

/// First position from `at` on that is not whitespace.
#[inline]
pub(super) fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_validated_is_walked_to_the_same_ends() {
        for value in [
            "1",
            "-1.5e+3",
            "true",
            "false",
            "null",
            "\"\"",
            r#""a\"]}""#,
            "[]",
            "{}",
            "[[],{}]",
            r#"{"a]":[1,"}\\"],"b":{"c":null}}"#,
            "[ 1 , 2 ]",
        ] {
            for behind in ["", ",", "]", "}", " ", "\t", "\n", "\r", ",[", " }"] {
                let text = format!("{value}{behind}");
                let end = value_end(text.as_bytes(), 0, DEPTH_LIMIT).unwrap();
                assert_eq!(end, value.len(), "{text}");
                assert_eq!(known_value_end(text.as_bytes(), 0), Some(end), "{text}");
            }
        }
        for unfinished in ["", "[", "[1", "{\"a", "\"a"] {
            assert_eq!(
                known_value_end(unfinished.as_bytes(), 0),
                None,
                "{unfinished}"
            );
        }
    }
}
