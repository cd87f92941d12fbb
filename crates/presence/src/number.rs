//! Numbers as JavaScript writes them.

use core::fmt::Write;

/// Appends a number as JavaScript's `String(number)`: the shortest digits that read back, with an
/// exponent below 1e-6 and from 1e21 on.
pub(crate) fn write_number(out: &mut String, number: f64) {
    if number.is_nan() {
        return out.push_str("NaN");
    }
    if number == 0.0 {
        return out.push('0');
    }
    if number < 0.0 {
        out.push('-');
    }
    if number.is_infinite() {
        return out.push_str("Infinity");
    }
    let magnitude = number.abs();
    // Writing to a String cannot fail.
    let _ = if (1e-6..1e21).contains(&magnitude) {
        write!(out, "{magnitude}")
    } else {
        let text = format!("{magnitude:e}");
        let sign = if text.contains("e-") { "" } else { "+" };
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        write!(out, "{digits}e{sign}{exponent}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_javascript() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (7.0, "7"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.25e300, "-1.25e+300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-9, "1.5e-9"),
            (5e-324, "5e-324"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = String::new();
            write_number(&mut out, number);
            assert_eq!(out, text);
        }
    }
}
