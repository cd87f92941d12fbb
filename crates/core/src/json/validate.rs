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
    const fn at(at: usize) -> Self {
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

fn any_value_end(bytes: &[u8], start: usize, depth_max: u32) -> Result<usize, Fault> {
    let mut scanner = Scanner {
        bytes,
        at: start,
        objects: 0,
        depth: 0,
        depth_max,
    };
    scanner.value()?;
    Ok(scanner.at)
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

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Lowest bit: whether the innermost open container is an object.
    objects: u128,
    depth: u32,
    depth_max: u32,
}

impl Scanner<'_> {
    fn value(&mut self) -> Result<(), Fault> {
        loop {
            match self.peek() {
                Some(b'"') => self.at = string_end(self.bytes, self.at)?.0,
                Some(b'{') => {
                    self.open(true)?;
                    if self.peek_after_blanks() != Some(b'}') {
                        self.key()?;
                        continue;
                    }
                    self.close();
                }
                Some(b'[') => {
                    self.open(false)?;
                    if self.peek_after_blanks() != Some(b']') {
                        continue;
                    }
                    self.close();
                }
                Some(b'-' | b'0'..=b'9') => self.at = number_end(self.bytes, self.at)?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return Err(self.syntax()),
            }
            if !self.more()? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what ends here; true if another value follows.
    fn more(&mut self) -> Result<bool, Fault> {
        while self.depth > 0 {
            let in_object = self.objects & 1 == 1;
            match self.peek_after_blanks() {
                Some(b',') => {
                    self.at += 1;
                    self.at = skip_blanks(self.bytes, self.at);
                    if in_object {
                        self.key()?;
                    }
                    return Ok(true);
                }
                Some(b'}') if in_object => self.close(),
                Some(b']') if !in_object => self.close(),
                _ => return Err(self.syntax()),
            }
        }
        Ok(false)
    }

    /// A key, its colon and the blanks after it.
    fn key(&mut self) -> Result<(), Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.syntax());
        }
        self.at = string_end(self.bytes, self.at)?.0;
        if self.peek_after_blanks() != Some(b':') {
            return Err(self.syntax());
        }
        self.at = skip_blanks(self.bytes, self.at + 1);
        Ok(())
    }

    fn open(&mut self, object: bool) -> Result<(), Fault> {
        if self.depth >= self.depth_max {
            return Err(Fault(TOO_DEEP));
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
        self.at += 1;
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.syntax())
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn peek_after_blanks(&mut self) -> Option<u8> {
        // Compact JSON, the usual kind, has no blanks: one comparison decides.
        match self.peek() {
            Some(byte) if byte > b' ' => Some(byte),
            _ => {
                self.at = skip_blanks(self.bytes, self.at);
                self.peek()
            }
        }
    }

    fn syntax(&self) -> Fault {
        Fault::at(self.at)
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
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    let quotes = quote.wrapping_sub(ONES) & !quote;
    let backslashes = backslash.wrapping_sub(ONES) & !backslash;
    (controls | quotes | backslashes) & TOPS
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
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    if at == start {
        Err(Fault::at(at))
    } else {
        Ok(at)
    }
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
}
