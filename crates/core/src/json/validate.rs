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
        Some(b'"') => Ok(string_end(bytes, start)?.at()),
        _ => any_value_end(bytes, start, depth_max),
    }
}

/// Follows a value of any kind. One loop whose state stays in registers.
fn any_value_end(bytes: &[u8], start: usize, depth_max: u32) -> Result<usize, Fault> {
    let mut at = start;
    // What closes the innermost open container; the lowest bit of the others tells whether the
    // one around it is an object.
    let mut close = 0;
    let mut objects = 0_u128;
    let mut depth = 0;
    loop {
        if close == b'}' {
            at = key_end(bytes, at)?;
        }
        match bytes.get(at) {
            Some(b'"') => at = string_end(bytes, at)?.at(),
            Some(b'-' | b'0'..=b'9') => at = number_end(bytes, at)?,
            Some(open @ (b'{' | b'[')) => {
                if depth >= depth_max {
                    return Err(Fault(TOO_DEEP));
                }
                at = to_next(bytes, at + 1);
                // The closing bracket is two behind the opening one in ASCII.
                if bytes.get(at) != Some(&(open + 2)) {
                    depth += 1;
                    objects = objects << 1 | u128::from(close == b'}');
                    close = open + 2;
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
            match bytes.get(at) {
                Some(b',') => break,
                Some(byte) if *byte == close => {
                    at += 1;
                    depth -= 1;
                    close = if objects & 1 == 1 { b'}' } else { b']' };
                    objects >>= 1;
                }
                Some(b' ' | b'\t' | b'\n' | b'\r') => at = skip_blanks(bytes, at),
                _ => return Err(Fault::at(at)),
            }
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

/// A key, its colon and the blanks after it.
#[inline]
fn key_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    // A short key without escapes, a colon and no blank: one window shows it all.
    if let Some(window) = window_at::<KEY_WINDOW>(bytes, start)
        && let [b'"', word @ ..] = window
    {
        let special = special_bytes(first_word(word));
        if special != 0 {
            let at = place(special);
            let shown = word[at] == b'"' && word[at + 1] == b':' && word[at + 2] > b' ';
            if shown {
                return Ok(start + at + 3);
            }
        }
    }
    any_key_end(bytes, start)
}

/// An opening quote, a word that holds the closing one, a colon and what follows.
const KEY_WINDOW: usize = 11;

fn any_key_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let at = field_name(bytes, start)?.at();
    behind(bytes, at, b':').map(|at| to_next(bytes, at))
}

/// The name of a field, see [`string_end`].
#[inline]
pub(super) fn field_name(bytes: &[u8], start: usize) -> Result<StringEnd, Fault> {
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

/// Where a string ends and whether it holds escapes, in one word so that results stay in
/// registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StringEnd(usize);

impl StringEnd {
    const fn new(at: usize, escaped: bool) -> Self {
        // No slice is longer than half of all addresses.
        Self(at << 1 | escaped as usize)
    }

    /// The position behind the closing quote.
    pub(super) const fn at(self) -> usize {
        self.0 >> 1
    }

    /// Whether there are escapes.
    pub(super) const fn escaped(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Finds the end of the string whose opening quote is at `start`.
#[inline]
pub(super) fn string_end(bytes: &[u8], start: usize) -> Result<StringEnd, Fault> {
    let at = start + 1;
    // Most strings are short words, over within eight bytes.
    let Some(word) = window_at::<8>(bytes, at) else {
        return rest_of_string(bytes, at);
    };
    let special = special_bytes(u64::from_le_bytes(*word));
    if special == 0 {
        return rest_of_string(bytes, at + 8);
    }
    let place = place(special);
    if word[place] == b'"' {
        Ok(StringEnd::new(at + place + 1, false))
    } else {
        rest_of_string(bytes, at + place)
    }
}

/// [`string_end`] from within the string; what lies before `at` holds no escapes.
fn rest_of_string(bytes: &[u8], mut at: usize) -> Result<StringEnd, Fault> {
    let mut escaped = false;
    loop {
        at = skip_plain(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok(StringEnd::new(at + 1, escaped)),
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
fn skip_plain(bytes: &[u8], at: usize) -> usize {
    let Some(rest) = bytes.get(at..) else {
        return at;
    };
    // Whole blocks without a special byte first; this loop becomes vector code.
    let (blocks, _) = rest.as_chunks::<16>();
    let plain = |block: &&[u8; 16]| {
        !block
            .iter()
            .fold(false, |any, byte| any | is_special(*byte))
    };
    let mut at = at + blocks.iter().take_while(plain).count() * 16;
    while let Some(word) = window_at::<8>(bytes, at) {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return at + place(special);
        }
        at += 8;
    }
    at + last_word(bytes, at).map_or(0, |word| place(special_bytes(word)))
}

/// What is left of `bytes` from `at` on, less than eight bytes, and zeros behind.
#[inline]
fn last_word(bytes: &[u8], at: usize) -> Option<u64> {
    let rest = bytes.get(at..)?;
    if let Some(word) = bytes.last_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        return word.checked_shr(8 * (8 - rest.len() as u32));
    }
    let mut word = [0; 8];
    word.get_mut(..rest.len())?.copy_from_slice(rest);
    Some(u64::from_le_bytes(word))
}

/// The bytes from `at` on, if there are as many.
#[inline]
fn window_at<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// The first eight bytes.
#[inline]
fn first_word(bytes: &[u8; KEY_WINDOW - 1]) -> u64 {
    let [word @ .., _, _] = *bytes;
    u64::from_le_bytes(word)
}

/// Which byte the lowest of the marks is in; they must not all be missing.
#[inline]
const fn place(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

#[inline]
const fn is_special(byte: u8) -> bool {
    // Swapping two pairs of bytes puts the quote right behind the control characters.
    byte ^ 2 < 0x21 || byte == b'\\'
}

/// Sets the top bit of each special byte. Borrows may set bits above a special byte too, so only
/// the lowest set bit is exact.
#[inline]
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    // See `is_special`.
    let controls_and_quotes = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
    let backslashes = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    // A byte from 0x80 on is never special, and no other one sets its top bit before the
    // subtraction: both can share the mask.
    (controls_and_quotes | backslashes) & !word & TOPS
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

#[inline]
fn number_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    // Most numbers are small integers: one word holds them and what follows.
    if let Some(word) = window_at::<8>(bytes, start) {
        let others = other_than_digits(u64::from_le_bytes(*word));
        if others != 0 {
            let digits = place(others);
            let plain = digits == 1 || digits > 1 && word[0] != b'0';
            if plain && !matches!(word[digits], b'.' | b'e' | b'E') {
                return Ok(start + digits);
            }
        }
    }
    any_number_end(bytes, start)
}

fn any_number_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
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
#[inline]
fn digits_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start;
    let others = loop {
        let Some(word) = window_at::<8>(bytes, at) else {
            break last_word(bytes, at).map_or(1, other_than_digits);
        };
        let others = other_than_digits(u64::from_le_bytes(*word));
        if others != 0 {
            break others;
        }
        at += 8;
    };
    at += place(others);
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
