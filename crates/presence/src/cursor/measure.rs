//! How long a value is in compact JSON, as JavaScript writes it.

use millstream_core::{JsonKind, JsonStr, RawJsonRef};

use crate::number::write_number;
use crate::select::is_plain_integer;

/// Most bytes that may stand in a frame for one byte of compact JSON.
const SLACK: usize = 8;

/// Whether a value, written compactly, has at most `limit` bytes.
///
/// Several members of one name all count: all of them are passed on.
///
/// Linear; a value that is short enough in any case is not looked at.
pub(super) fn is_within(value: RawJsonRef<'_>, limit: usize) -> bool {
    let written = value.as_bytes().len();
    // Nothing grows more than `1e20`, from four to twenty-one bytes.
    if written <= limit / 6 {
        return true;
    }
    written <= limit.saturating_mul(SLACK) && compact_len(value) <= limit
}

fn compact_len(value: RawJsonRef<'_>) -> usize {
    match value.kind() {
        JsonKind::Null | JsonKind::Bool => value.as_bytes().len(),
        JsonKind::Number => number_len(value),
        JsonKind::String => value.as_json_str().map_or(0, string_len),
        JsonKind::Array => {
            let mut len = 1;
            for element in value.elements() {
                len += compact_len(element) + 1;
            }
            len.max(2)
        }
        JsonKind::Object => {
            let mut len = 1;
            for (name, member) in value.fields() {
                len += string_len(name) + 1 + compact_len(member) + 1;
            }
            len.max(2)
        }
    }
}

fn number_len(value: RawJsonRef<'_>) -> usize {
    if is_plain_integer(value.as_str()) {
        return value.as_bytes().len();
    }
    let number = value.as_f64().unwrap_or_default();
    if number.is_infinite() {
        // What does not fit a double is written as null.
        return 4;
    }
    let mut text = String::with_capacity(24);
    write_number(&mut text, number);
    text.len()
}

fn string_len(token: JsonStr<'_>) -> usize {
    if token.plain().is_some() {
        return token.raw().len();
    }
    // No Rust string holds a lone surrogate, which is written as an escape of six bytes as it
    // came. Other escapes beside one are counted as they stand, which is never too short.
    let Some(text) = token.to_cow_exact() else {
        return token.raw().len();
    };
    let chars = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | 0x08 | 0x0c | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    });
    2 + chars.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_as_written_by_javascript() {
        for (text, len) in [
            ("null", 4),
            ("[]", 2),
            ("{}", 2),
            ("[ 1 , 2 ]", 5),
            ("{ \"a\" : [ ] }", 8),
            ("{\"a\":1,\"b\":2}", 13),
            ("1.0", 1),
            ("-0", 1),
            ("1e2", 3),
            ("1e20", 21),
            ("1e400", 4),
            ("0.00000010", 4),
            ("\"\\u0041\"", 3),
            ("\"\\/\"", 3),
            ("\"\\n\\u000a\"", 6),
            ("\"\\u0001\"", 8),
            ("\"\\u00e9\"", 4),
            ("\"é😀\"", 8),
            ("\"\\ud83d\\ude00\"", 6),
            ("\"\\ud83d\"", 8),
            ("\"\\\"\"", 4),
        ] {
            let value = RawJsonRef::parse_str(text).unwrap();
            assert_eq!(compact_len(value), len, "{text}");
            assert!(
                is_within(value, len) && !is_within(value, len - 1),
                "{text}"
            );
        }
    }

    #[test]
    fn padding_is_not_free() {
        let text = format!("{}1", "[".repeat(3) + &" ".repeat(100)) + "]]]";
        let value = RawJsonRef::parse_str(&text).unwrap();
        assert_eq!(compact_len(value), 7);
        assert!(is_within(value, 14) && !is_within(value, 13));
    }
}
