//! The tokens of JSON: strings, numbers and words, eight bytes at a time.

/// Why there is no token: how many bytes were left where it went wrong. Counted from the end
/// because what is left is all that the scanner knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left(pub(super) usize);

impl Left {
    /// Not a fault of syntax: nested deeper than allowed.
    pub(super) const TOO_DEEP: Self = Self(usize::MAX);

    #[inline]
    pub(super) const fn of(rest: &[u8]) -> Self {
        Self(rest.len())
    }
}

/// How far a string goes and whether it holds escapes, in one word so that results stay in
/// registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StringEnd(usize);

impl StringEnd {
    #[inline]
    const fn new(at: usize, escaped: bool) -> Self {
        // No slice is longer than half of all addresses.
        Self(at << 1 | escaped as usize)
    }

    /// The position behind the closing quote.
    #[inline]
    pub(super) const fn at(self) -> usize {
        self.0 >> 1
    }

    /// Whether there are escapes.
    #[inline]
    pub(super) const fn escaped(self) -> bool {
        self.0 & 1 == 1
    }

    /// The same seen from `count` bytes further ahead.
    #[inline]
    pub(super) const fn behind(self, count: usize) -> Self {
        Self(self.0 + (count << 1))
    }

    /// What `text`, in which the string was found, goes on with.
    #[inline]
    pub(super) fn rest(self, text: &[u8]) -> &[u8] {
        text.get(self.at()..).unwrap_or_default()
    }
}

/// Finds the end of the string of which `text` is what follows its opening quote.
#[inline(always)]
pub(super) fn string(text: &[u8]) -> Result<StringEnd, Left> {
    // Most strings are short words, over within eight bytes.
    let Some((word, behind)) = text.split_first_chunk::<8>() else {
        return any_string(text, text);
    };
    let special = special_bytes(u64::from_le_bytes(*word));
    if special == 0 {
        return long_string(text, behind);
    }
    let at = place(special);
    if text[at] == b'"' {
        return Ok(StringEnd::new(at + 1, false));
    }
    any_string(text, text)
}

/// Words in which the end of a text is looked for before more is made of it.
const WORDS_FIRST: usize = 4;

/// [`string`] for those that do not end within eight bytes. What is before `rest` in `text` is
/// plain.
#[inline(never)]
fn long_string(text: &[u8], mut rest: &[u8]) -> Result<StringEnd, Left> {
    for _ in 0..WORDS_FIRST {
        let Some((word, behind)) = rest.split_first_chunk::<8>() else {
            break;
        };
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            let at = place(special);
            if rest[at] == b'"' {
                return Ok(StringEnd::new(text.len() - rest.len() + at + 1, false));
            }
            break;
        }
        rest = behind;
    }
    any_string(text, rest)
}

/// [`long_string`] of every kind.
#[inline(never)]
fn any_string(text: &[u8], mut rest: &[u8]) -> Result<StringEnd, Left> {
    let mut escaped = false;
    loop {
        rest = skip_plain(rest);
        match rest {
            [b'"', behind @ ..] => {
                return Ok(StringEnd::new(text.len() - behind.len(), escaped));
            }
            [b'\\', behind @ ..] => {
                escaped = true;
                rest = escape(behind).ok_or_else(|| Left::of(rest))?;
            }
            _ => return Err(Left::of(rest)),
        }
    }
}

/// What is left from the first quote, backslash or control character on.
#[inline]
fn skip_plain(mut rest: &[u8]) -> &[u8] {
    let mut words = 0;
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return &rest[place(special)..];
        }
        rest = behind;
        words += 1;
        if words == WORDS_FIRST {
            rest = last(rest, plain_blocks_left(rest));
            words = 0;
        }
    }
    skip_plain_bytes(rest)
}

/// How many bytes are left behind whole blocks of 16 without a special one; this loop becomes
/// vector code.
#[inline(never)]
fn plain_blocks_left(mut rest: &[u8]) -> usize {
    while let Some((block, behind)) = rest.split_first_chunk::<16>()
        && !block
            .iter()
            .fold(false, |any, byte| any | is_special(*byte))
    {
        rest = behind;
    }
    rest.len()
}

#[inline]
fn skip_plain_bytes(mut rest: &[u8]) -> &[u8] {
    while let [byte, behind @ ..] = rest
        && !is_special(*byte)
    {
        rest = behind;
    }
    rest
}

/// What is behind the rest of an escape. Surrogates need not come in pairs.
fn escape(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
            behind @ ..,
        ] => Some(behind),
        [b'u', a, b, c, d, behind @ ..] => [a, b, c, d]
            .into_iter()
            .all(u8::is_ascii_hexdigit)
            .then_some(behind),
        _ => None,
    }
}

/// What is behind a short key without escapes and the colon right behind it.
#[inline]
pub(super) fn short_key(rest: &[u8]) -> Option<&[u8]> {
    // An opening quote, a word that has to hold the closing one, and the colon.
    let window = rest.first_chunk::<10>()?;
    let [quote, a, b, c, d, e, f, g, h, _] = *window;
    let special = special_bytes(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    if quote != b'"' || special == 0 {
        return None;
    }
    let at = place(special) + 1;
    if [window[at], window[at + 1]] == *b"\":" {
        rest.get(at + 2..)
    } else {
        None
    }
}

/// What is behind a number that begins with a digit. It ends where it cannot go on.
#[inline(always)]
pub(super) fn number(rest: &[u8]) -> Result<&[u8], Left> {
    // Most are integers that end within a word, or within two if they tell a time.
    if let Some((word, behind)) = rest.split_first_chunk::<8>() {
        let mut digits = 0;
        let mut others = other_than_digits(u64::from_le_bytes(*word));
        if others == 0
            && let Some(word) = behind.first_chunk::<8>()
        {
            digits = 8;
            others = other_than_digits(u64::from_le_bytes(*word));
        }
        digits += if others == 0 { 0 } else { place(others) };
        if others != 0 && (digits == 1 || rest[0] != b'0') {
            let behind = &rest[digits..];
            return match behind {
                [b'.' | b'e' | b'E', ..] => fraction(behind).map(|left| last(behind, left)),
                _ => Ok(behind),
            };
        }
    }
    any_number(rest).map(|left| last(rest, left))
}

/// Gives how many bytes are left behind a number without its sign.
#[inline(never)]
fn any_number(rest: &[u8]) -> Result<usize, Left> {
    match rest {
        [b'0', behind @ ..] => fraction(behind),
        _ => fraction(digits(rest)?),
    }
}

/// Gives how many bytes are left behind what may follow the integer of a number.
#[inline(never)]
fn fraction(mut rest: &[u8]) -> Result<usize, Left> {
    if let [b'.', behind @ ..] = rest {
        rest = digits(behind)?;
    }
    if let [b'e' | b'E', behind @ ..] = rest {
        rest = match behind {
            [b'+' | b'-', behind @ ..] => digits(behind)?,
            _ => digits(behind)?,
        };
    }
    Ok(rest.len())
}

/// What is behind a negative number or a word.
#[inline]
pub(super) fn rarer(rest: &[u8]) -> Result<&[u8], Left> {
    match rest {
        [b'-', behind @ ..] => any_number(behind).map(|left| last(rest, left)),
        [b't', ..] => word(rest, b"true"),
        [b'f', ..] => word(rest, b"false"),
        _ => word(rest, b"null"),
    }
}

/// The last `left` bytes.
#[inline]
pub(super) fn last(rest: &[u8], left: usize) -> &[u8] {
    rest.get(rest.len() - left..).unwrap_or_default()
}

/// What is behind a run of at least one digit.
#[inline]
fn digits(text: &[u8]) -> Result<&[u8], Left> {
    let mut rest = text;
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        let others = other_than_digits(u64::from_le_bytes(*word));
        if others != 0 {
            rest = &rest[place(others)..];
            return if rest.len() == text.len() {
                Err(Left::of(rest))
            } else {
                Ok(rest)
            };
        }
        rest = behind;
    }
    while let [b'0'..=b'9', behind @ ..] = rest {
        rest = behind;
    }
    if rest.len() == text.len() {
        Err(Left::of(rest))
    } else {
        Ok(rest)
    }
}

/// What is behind `word`.
#[inline]
fn word<'a>(rest: &'a [u8], word: &[u8]) -> Result<&'a [u8], Left> {
    rest.strip_prefix(word).ok_or_else(|| Left::of(rest))
}

/// Which byte the lowest mark is in; 8 if there is none.
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
    // subtractions: both can share the mask.
    (controls_and_quotes | backslashes) & !word & TOPS
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
                    assert_eq!(
                        skip_plain(&bytes),
                        &bytes[place..],
                        "{special} behind {filler}"
                    );
                }
            }
        }
        assert_eq!(skip_plain(&[b'a'; 77]), b"");
    }

    #[test]
    fn digits_end_at_every_other_byte() {
        for other in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
            for place in 0..20 {
                for filler in b'0'..=b'9' {
                    let mut bytes = vec![filler; 24];
                    bytes[place] = other;
                    let want = if place == 0 {
                        Err(Left(24))
                    } else {
                        Ok(&bytes[place..])
                    };
                    assert_eq!(digits(&bytes), want, "{other} behind {filler}");
                }
            }
        }
        assert_eq!(digits(&[b'7'; 21]), Ok(&b""[..]));
        assert_eq!(digits(b""), Err(Left(0)));
    }
}
