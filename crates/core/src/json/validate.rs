//! The one scanner of JSON: says where a value ends, or that it is not one.
//!
//! No recursion and no allocation: the kinds of the open containers are bits of one word.

use super::JsonError;

/// Deepest nesting the scanner can follow at all.
pub(super) const DEPTH_LIMIT: u32 = 128;

/// Where and why a scan failed, in one word so that results stay in registers: a position, or
/// [`TOO_DEEP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault(usize);

const TOO_DEEP: usize = usize::MAX;

impl Fault {
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
    match bytes.get(start) {
        // Most members are texts.
        Some(b'"') => Ok(string_end(bytes, start)?.0),
        _ => any_value_end(bytes, start, depth_max),
    }
}

/// Follows a value of any kind. One loop whose state stays in registers.
fn any_value_end(bytes: &[u8], start: usize, depth_max: u32) -> Result<usize, Fault> {
    let mut at = start;
    // Lowest bit: whether the innermost open container is an object.
    let mut objects = 0_u128;
    let mut depth = 0;
    loop {
        if objects & 1 == 1 {
            at = key_end(bytes, at)?;
        }
        match bytes.get(at) {
            Some(b'"') => at = string_end(bytes, at)?.0,
            Some(b'-' | b'0'..=b'9') => at = number_end(bytes, at)?,
            Some(open @ (b'{' | b'[')) => {
                if depth >= depth_max {
                    return Err(Fault(TOO_DEEP));
                }
                at = to_next(bytes, at + 1);
                // The closing bracket is two behind the opening one in ASCII.
                if bytes.get(at) != Some(&(open + 2)) {
                    depth += 1;
                    objects = objects << 1 | u128::from(*open == b'{');
                    continue;
                }
                at += 1;
            }
            Some(b't') => at = word_end(bytes, at, b"true")?,
            Some(b'f') => at = word_end(bytes, at, b"false")?,
            Some(b'n') => at = word_end(bytes, at, b"null")?,
            _ => return Err(Fault::at(at)),
        }
        // Closes what ends here, and goes on if another value follows.
        loop {
            if depth == 0 {
                return Ok(at);
            }
            at = to_next(bytes, at);
            let close = if objects & 1 == 1 { b'}' } else { b']' };
            match bytes.get(at) {
                Some(b',') => break,
                Some(byte) if *byte == close => at += 1,
                _ => return Err(Fault::at(at)),
            }
            depth -= 1;
            objects >>= 1;
        }
        at = to_next(bytes, at + 1);
    }
}

/// Finds the end of the value that begins at `start` of text that was validated before: follows
/// strings and brackets and looks at nothing else. `None` if the text is not valid after all.
pub(super) fn known_value_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    let mut depth = 0_usize;
    match bytes.get(at)? {
        b'"' => return Some(string_end(bytes, at).ok()?.0),
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
                at = string_end(bytes, at).ok()?.0;
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

/// A key, its colon and the blanks after it.
#[inline]
fn key_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let at = field_name(bytes, start)?.0;
    behind(bytes, at, b':').map(|at| to_next(bytes, at))
}

/// The name of a field, see [`string_end`].
#[inline]
pub(super) fn field_name(bytes: &[u8], start: usize) -> Result<(usize, bool), Fault> {
    if bytes.get(start) != Some(&b'"') {
        return Err(Fault::at(start));
    }
    string_end(bytes, start)
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

#[inline]
fn word_end(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, Fault> {
    match bytes.get(at..) {
        Some(rest) if rest.starts_with(word) => Ok(at + word.len()),
        _ => Err(Fault::at(at)),
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

/// Finds the end of the string whose opening quote is at `start`, and whether it holds escapes.
#[inline]
pub(super) fn string_end(bytes: &[u8], start: usize) -> Result<(usize, bool), Fault> {
    let mut at = start + 1;
    let mut escaped = false;
    loop {
        at = skip_plain(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok((at + 1, escaped)),
            Some(b'\\') => {
                escaped = true;
                at = escape_end(bytes, at)?;
            }
            _ => return Err(Fault::at(at)),
        }
    }
}

/// First position from `at` on that holds a quote, a backslash or a control character.
#[inline]
fn skip_plain(bytes: &[u8], mut at: usize) -> usize {
    // Most strings are keys and short words: eight bytes at a time, then wider once it is long.
    let mut words = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
        words += 1;
        if words == 4 {
            at = skip_plain_wide(bytes, at);
            words = 0;
        }
    }
    while let Some(byte) = bytes.get(at)
        && !is_special(*byte)
    {
        at += 1;
    }
    at
}

/// Skips whole blocks of 32 bytes without a special one; this loop becomes vector code.
fn skip_plain_wide(bytes: &[u8], at: usize) -> usize {
    let Some(rest) = bytes.get(at..) else {
        return at;
    };
    let (blocks, _) = rest.as_chunks::<32>();
    let plain = blocks
        .iter()
        .take_while(|block| {
            !block
                .iter()
                .fold(false, |any, byte| any | is_special(*byte))
        })
        .count();
    at + plain * 32
}

#[inline]
const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Sets the top bit of each special byte. Borrows may set bits above a special byte too, so only
/// the lowest set bit is exact.
#[inline]
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let quotes = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslashes = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    let controls = word.wrapping_sub(ONES * 0x20);
    // A byte from 0x80 on is never special, and no other one sets its top bit before the
    // subtraction: all three can share the mask.
    (quotes | backslashes | controls) & !word & TOPS
}

/// End of the escape whose backslash is at `at`. Surrogates need not come in pairs.
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match bytes.get(at + 2..at + 6) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(at + 6),
            _ => Err(Fault::at(at)),
        },
        _ => Err(Fault::at(at)),
    }
}

fn number_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start;
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        Some(b'1'..=b'9') => digits_end(bytes, at)?,
        _ => return Err(Fault::at(at)),
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits_end(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits_end(bytes, at)?;
    }
    Ok(at)
}

/// End of a run of at least one digit.
fn digits_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let others = other_than_digits(u64::from_le_bytes(*word));
        if others != 0 {
            at += (others.trailing_zeros() / 8) as usize;
            return if at == start {
                Err(Fault::at(at))
            } else {
                Ok(at)
            };
        }
        at += 8;
    }
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    if at == start {
        Err(Fault::at(at))
    } else {
        Ok(at)
    }
}

/// Sets the top bit of each byte that is no digit. Carries may set bits above such a byte too, so
/// only the lowest set bit is exact.
#[inline]
const fn other_than_digits(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    // Digits become 0 to 9, and nothing else does.
    let values = word ^ (ONES * b'0' as u64);
    (values.wrapping_add(ONES * (0x80 - 10)) | values) & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_bytes_are_found_at_every_place() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for place in 0..100 {
                for filler in [b'a', 0x7f, 0x80, 0xff, b' ', b'!', b'#', b'[', b']'] {
                    let mut bytes = vec![filler; 100];
                    bytes[place] = special;
                    assert_eq!(skip_plain(&bytes, 0), place, "{special} behind {filler}");
                }
            }
        }
        assert_eq!(skip_plain(&[b'a'; 77], 0), 77);
    }

    #[test]
    fn digits_end_at_every_other_byte() {
        for other in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
            for place in 0..20 {
                for filler in b'0'..=b'9' {
                    let mut bytes = vec![filler; 24];
                    bytes[place] = other;
                    let want = if place == 0 {
                        Err(Fault::at(0))
                    } else {
                        Ok(place)
                    };
                    assert_eq!(digits_end(&bytes, 0), want, "{other} behind {filler}");
                }
            }
        }
        assert_eq!(digits_end(&[b'7'; 21], 3), Ok(21));
        assert_eq!(digits_end(b"", 0), Err(Fault::at(0)));
    }

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
