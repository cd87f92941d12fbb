//! Numbers and text as JavaScript has them: what a browser computes from the same events must come
//! out of the server too.

use std::borrow::Cow;
use std::cmp::Ordering;

use millstream_core::{JsonKind, JsonStr, RawJsonRef, write_json_str};

use crate::Value;

/// Appends a number as `JSON.stringify` writes it: the shortest digits that read back as the same
/// number, exponents from 1e21 and below 1e-6, `null` for what is not finite.
///
/// The digits come from `zmij` (the Schubfach family of algorithms); only the layout is done here.
pub(crate) fn write_number(out: &mut String, number: f64) {
    // 2^53: integers below it are exact, and their digits are the shortest.
    let whole = number as i64;
    if whole as f64 == number && number.abs() < 9_007_199_254_740_992.0 {
        out.push_str(itoa::Buffer::new().format(whole));
        return;
    }
    if !number.is_finite() {
        out.push_str("null");
        return;
    }
    if write_short(out, number) {
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(number);
    let (sign, text) = text
        .strip_prefix('-')
        .map_or(("", text), |text| ("-", text));
    out.push_str(sign);
    let text = text.strip_suffix(".0").unwrap_or(text);
    let size = number.abs();
    if !text.contains(['e', 'E']) && (1e-6..1e21).contains(&size) {
        out.push_str(text);
        return;
    }
    relayout(out, text);
}

/// Writes a number that is up to three decimals long, as prices and measurements are.
///
/// Two different decimals of at most 15 digits are never the same float, so if one of that length
/// reads back as the number, there is no shorter one, and the division proves that it does.
fn write_short(out: &mut String, number: f64) -> bool {
    let size = number.abs();
    for (decimals, power) in [(1, 10.0), (2, 100.0), (3, 1000.0)] {
        if !(1e-3..1e12).contains(&size) {
            return false;
        }
        // The product is rounded; whether this is the right integer, the division tells.
        let scaled = (size * power + 0.5) as u64;
        if scaled as f64 / power == size {
            let mut buffer = itoa::Buffer::new();
            let digits = buffer.format(scaled);
            if number < 0.0 {
                out.push('-');
            }
            if digits.len() <= decimals {
                out.push_str("0.");
                (digits.len()..decimals).for_each(|_| out.push('0'));
                out.push_str(digits);
            } else {
                out.push_str(digits);
                out.insert(out.len() - decimals, '.');
            }
            return true;
        }
    }
    false
}

/// Lays out `digits[.digits][e[+-]digits]` as `Number::toString` of ECMAScript says.
fn relayout(out: &mut String, text: &str) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let joined = [whole, fraction].concat();
    let zeros = joined.len() - joined.trim_start_matches('0').len();
    let digits = joined.trim_matches('0');
    // The value is 0.digits times ten to the power of `point`.
    let point = exponent + whole.len() as i32 - zeros as i32;
    let count = digits.len() as i32;
    let (head, tail) = digits.split_at(point.clamp(0, count) as usize);
    if (-5..=21).contains(&point) {
        out.push_str(if point <= 0 { "0" } else { head });
        (count..point).for_each(|_| out.push('0'));
        if count > point {
            out.push('.');
            (point..0).for_each(|_| out.push('0'));
            out.push_str(tail);
        }
        return;
    }
    let (first, rest) = digits.split_at(1);
    out.push_str(first);
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    out.push_str(if point > 0 { "e+" } else { "e-" });
    out.push_str(itoa::Buffer::new().format((point - 1).abs()));
}

/// Reads the text of a valid JSON number.
///
/// Up to 15 digits with at most 15 of them behind the point need one exact integer and one
/// correctly rounded division (Clinger, "How to read floating point numbers accurately", 1990).
#[inline]
pub(crate) fn parse_number(text: &str) -> f64 {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, bytes),
    };
    if digits.len() > 16 {
        return text.parse().unwrap_or(f64::NAN);
    }
    let mut mantissa = 0_u64;
    let mut point = None;
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
            b'.' => point = Some(at),
            _ => return text.parse().unwrap_or(f64::NAN),
        }
    }
    if digits.len() == 16 && point.is_none() {
        return text.parse().unwrap_or(f64::NAN);
    }
    let number = mantissa as f64;
    let number = match point {
        None => number,
        Some(at) => number / POWERS[digits.len() - 1 - at],
    };
    if negative { -number } else { number }
}

const POWERS: [f64; 16] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// The `+` of JavaScript: adds unless one side is text, a list or an object.
pub(crate) fn add(left: &Value, right: &Value) -> Value {
    if let (Value::Number(left), Value::Number(right)) = (left, right) {
        return Value::Number(left + right);
    }
    let joins = |value: &Value| matches!(value, Value::Text(_) | Value::Json(_));
    if !joins(left) && !joins(right) {
        return Value::Number(to_number(left) + to_number(right));
    }
    let mut token = String::from("\"");
    write_inner(&mut token, left);
    write_inner(&mut token, right);
    token.push('"');
    Value::Text(token.into())
}

/// `Number(value)`.
pub(crate) fn to_number(value: &Value) -> f64 {
    match value {
        Value::Absent => f64::NAN,
        Value::Null | Value::Bool(false) => 0.0,
        Value::Bool(true) => 1.0,
        Value::Number(number) => *number,
        Value::Text(token) => text_to_number(&plain(token)),
        Value::Json(_) => {
            let mut inner = String::new();
            write_inner(&mut inner, value);
            text_to_number(&plain(&format!("\"{inner}\"")))
        }
    }
}

fn text_to_number(text: &str) -> f64 {
    let text = text.trim();
    let radix =
        |digits: &str, radix| u64::from_str_radix(digits, radix).map_or(f64::NAN, |n| n as f64);
    match text.get(..2) {
        Some("0x" | "0X") => return radix(&text[2..], 16),
        Some("0o" | "0O") => return radix(&text[2..], 8),
        Some("0b" | "0B") => return radix(&text[2..], 2),
        _ => {}
    }
    match text {
        "" => 0.0,
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        // Rust also reads words such as `inf`; JavaScript does not.
        text if text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) =>
        {
            text.parse().unwrap_or(f64::NAN)
        }
        _ => f64::NAN,
    }
}

/// `left < right` and the like, `None` when the two cannot be compared.
pub(crate) fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.partial_cmp(right),
        (Value::Text(left), Value::Text(right)) => Some(compare_tokens(left, right)),
        _ => to_number(left).partial_cmp(&to_number(right)),
    }
}

/// Compares two string tokens by their UTF-16 code units, as `<` does.
pub(crate) fn compare_tokens(left: &str, right: &str) -> Ordering {
    // Below 0xD800 the order of UTF-8 bytes is that of code units.
    let simple = |token: &str| !token.bytes().any(|byte| byte == b'\\' || byte >= 0xed);
    if simple(left) && simple(right) {
        let inner = |token: &'_ str| token.len() - 1;
        return left[1..inner(left)].cmp(&right[1..inner(right)]);
    }
    plain(left).encode_utf16().cmp(plain(right).encode_utf16())
}

/// The string a token stands for.
pub(crate) fn plain(token: &str) -> Cow<'_, str> {
    JsonStr::scan(token).map_or(Cow::Borrowed(token), |(token, _)| token.to_cow())
}

/// Appends `String(value)` without quotes, escaped as inside a JSON string.
pub(crate) fn write_inner(out: &mut String, value: &Value) {
    match value {
        Value::Absent => out.push_str("undefined"),
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number_text(out, *number),
        Value::Text(token) => out.push_str(inner(token)),
        Value::Json(json) => write_raw_inner(out, RawJsonRef::trust(json)),
    }
}

/// The same for a value as it stands in an event.
pub(crate) fn write_raw_inner(out: &mut String, json: RawJsonRef<'_>) {
    match json.kind() {
        JsonKind::Null | JsonKind::Bool => out.push_str(json.as_str()),
        JsonKind::Number => write_number_text(out, parse_number(json.as_str())),
        JsonKind::String => write_canonical(out, json),
        JsonKind::Object => out.push_str("[object Object]"),
        JsonKind::Array => {
            for (index, element) in json.elements().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                if !element.is_null() {
                    write_raw_inner(out, element);
                }
            }
        }
    }
}

/// `String(number)`, which has words for what JSON cannot express.
fn write_number_text(out: &mut String, number: f64) {
    match number {
        n if n.is_nan() => out.push_str("NaN"),
        n if n == f64::INFINITY => out.push_str("Infinity"),
        n if n == f64::NEG_INFINITY => out.push_str("-Infinity"),
        n => write_number(out, n),
    }
}

/// Appends the inside of a string token so that equal strings give equal bytes.
///
/// A string with a lone surrogate keeps its spelling: no Rust string can hold it.
fn write_canonical(out: &mut String, json: RawJsonRef<'_>) {
    let Some(token) = json.as_json_str() else {
        return;
    };
    match token.plain() {
        Some(plain) => out.push_str(plain),
        None => match token.to_cow_exact() {
            Some(text) => out.push_str(inner(&quote(&text))),
            None => out.push_str(inner(token.raw())),
        },
    }
}

/// A Rust string as a JSON string token.
pub(crate) fn quote(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len() + 2);
    write_json_str(&mut bytes, text);
    String::from_utf8(bytes).unwrap_or_default()
}

fn inner(token: &str) -> &str {
    token
        .get(1..token.len().saturating_sub(1))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: f64) -> String {
        let mut out = String::new();
        write_number(&mut out, number);
        out
    }

    #[test]
    fn numbers_look_as_in_javascript() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (13.0 / 3.0, "4.333333333333333"),
            (1e15, "1000000000000000"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e20, "100000000000000000000"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (1e-6, "0.000001"),
            (1.25e-6, "0.00000125"),
            (1e-7, "1e-7"),
            (-1.234e-7, "-1.234e-7"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
        ] {
            assert_eq!(written(number), text);
        }
    }

    #[test]
    fn numbers_read_back_exactly() {
        for text in [
            "0",
            "-0",
            "7",
            "-12.5",
            "0.1",
            "123456789012345",
            "1234567890123456",
            "0.30000000000000004",
            "1.7976931348623157e308",
            "1e400",
            "5e-324",
            "99999999999999.9",
            "9007199254740993",
            "1.5E3",
            "999999999999999.9",
            "0.000000000000001",
        ] {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(parse_number(text).to_bits(), expected.to_bits(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn short_numbers_are_written_like_long_ones(
            scaled in -10_000_000_i64..10_000_000,
            power in 0..5,
        ) {
            let number = scaled as f64 / 10_f64.powi(power);
            // What Rust prints is the shortest too; it has no exponents in this range.
            proptest::prop_assert_eq!(written(number), (number + 0.0).to_string());
        }

        #[test]
        fn any_number_survives(number: f64) {
            let text = written(number);
            if number.is_finite() {
                proptest::prop_assert_eq!(text.parse::<f64>().unwrap(), number);
                proptest::prop_assert_eq!(parse_number(&text), number);
            }
        }

        #[test]
        fn short_decimals_are_read_like_long_ones(text in "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,8})?") {
            let expected: f64 = text.parse().unwrap();
            proptest::prop_assert_eq!(parse_number(&text).to_bits(), expected.to_bits());
        }
    }

    #[test]
    fn plus_joins_text_and_adds_the_rest() {
        let text = |text: &str| Value::from(text);
        let list = Value::Json("[1,[2,null]]".into());
        for (left, right, sum) in [
            (Value::Number(1.0), text("a"), text("1a")),
            (text("a"), Value::Absent, text("aundefined")),
            (Value::Number(1.0), Value::Null, Value::Number(1.0)),
            (Value::Number(1.0), Value::Bool(true), Value::Number(2.0)),
            (Value::Number(0.0), list, text("01,2,")),
            (
                Value::Null,
                Value::Json("{}".into()),
                text("null[object Object]"),
            ),
        ] {
            assert_eq!(add(&left, &right), sum);
        }
        let none = add(&Value::Number(1.0), &Value::Absent);
        assert!(matches!(none, Value::Number(n) if n.is_nan()));
    }

    #[test]
    fn text_is_read_as_a_number_where_javascript_does() {
        for (text, number) in [
            ("", 0.0),
            (" 12 ", 12.0),
            ("0x1f", 31.0),
            ("1e3", 1000.0),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(to_number(&Value::from(text)), number);
        }
        for text in ["inf", "nan", "1 2", "12px", "é", "0xg"] {
            assert!(to_number(&Value::from(text)).is_nan(), "{text}");
        }
    }

    #[test]
    fn tokens_are_ordered_by_code_units() {
        assert_eq!(compare_tokens("\"a\"", "\"ab\""), Ordering::Less);
        assert_eq!(compare_tokens("\"a\"", "\"a!\""), Ordering::Less);
        // U+FF5E is one unit above the surrogates that U+1F600 is made of.
        assert_eq!(
            compare_tokens("\"\u{ff5e}\"", "\"\u{1f600}\""),
            Ordering::Greater
        );
        assert_eq!(compare_tokens("\"\\u0061\"", "\"a\""), Ordering::Equal);
    }
}
