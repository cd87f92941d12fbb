//! The JSON scanner against serde_json and simd-json.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use millstream_core::{JsonError, JsonKind, RawJsonRef, write_json_str};
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

/// Checks syntax only: no number range, no surrogate pairing, no depth. What `JSON.parse` does.
fn oracle(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn check(text: &str) {
    let ours = RawJsonRef::parse_str_with_depth(text, 128);
    if let Err(JsonError::TooDeep { .. }) = ours {
        assert!(text.matches(['[', '{']).count() > 128);
        return;
    }
    assert_eq!(ours.is_ok(), oracle(text), "{text:?} {ours:?}");
    if simd_json::to_borrowed_value(&mut text.as_bytes().to_vec()).is_ok() {
        assert!(ours.is_ok(), "simd-json takes {text:?}");
    }
    if let (Ok(ours), Ok(value)) = (ours, serde_json::from_str::<Value>(text)) {
        compare(ours, &value);
    }
}

/// Walks over both; what the scanner slices must parse to the same.
fn compare(ours: RawJsonRef<'_>, value: &Value) {
    match value {
        Value::Null => assert!(ours.is_null()),
        Value::Bool(value) => assert_eq!(ours.as_bool(), Some(*value)),
        Value::Number(number) => {
            // serde_json rounds the last digit freely unless told otherwise; ours is exact.
            let (ours, theirs) = (ours.as_f64().unwrap(), number.as_f64().unwrap());
            assert!(
                ours == theirs || ((ours - theirs) / theirs).abs() < 1e-12,
                "{ours} {theirs}"
            );
        }
        Value::String(text) => {
            let token = ours.as_json_str().unwrap();
            assert!(token.eq_str(text));
            assert_eq!(token.to_cow(), text.as_str());
            assert_eq!(token.to_cow_exact().as_deref(), Some(text.as_str()));
            assert!(!token.eq_str(&format!("{text}x")));
        }
        Value::Array(list) => {
            let elements: Vec<_> = ours.elements().collect();
            assert_eq!(elements.len(), list.len());
            elements
                .into_iter()
                .zip(list)
                .for_each(|(ours, value)| compare(ours, value));
        }
        Value::Object(map) => {
            assert_eq!(ours.kind(), JsonKind::Object);
            for (key, value) in map {
                compare(ours.field(key).unwrap(), value);
            }
            assert!(
                ours.fields()
                    .all(|(key, _)| map.contains_key(&*key.to_cow()))
            );
        }
    }
}

fn blank() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t ")]
}

fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,12}".prop_map(|text| {
            let mut out = Vec::new();
            write_json_str(&mut out, &text);
            String::from_utf8(out).unwrap()
        }),
        // Escapes of every kind, surrogates in and out of pairs.
        r#"(a|\\u00e9|\\ud83d\\ude00|\\udc00|\\n|\\/|\\"|\\\\|"){0,4}"#
            .prop_map(|inner| format!("\"{inner}\"")),
        "[abc]".prop_map(|key| format!("\"{key}\"")),
        "[abc]".prop_map(|key| format!("\"\\u00{:02x}\"", key.as_bytes()[0])),
    ]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:e}")),
        r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        r"[-+0-9.eE]{1,5}",
    ]
}

fn json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number(),
        token(),
    ];
    scalar.prop_recursive(5, 40, 6, |inner| {
        let element = (blank(), inner.clone(), blank()).prop_map(|(a, v, b)| format!("{a}{v}{b}"));
        let field = (blank(), token(), blank(), blank(), inner, blank())
            .prop_map(|(a, k, b, c, v, d)| format!("{a}{k}{b}:{c}{v}{d}"));
        prop_oneof![
            proptest::collection::vec(element, 0..6)
                .prop_map(|list| format!("[{}]", list.join(","))),
            proptest::collection::vec(field, 0..6)
                .prop_map(|list| format!("{{{}}}", list.join(","))),
        ]
    })
}

/// Words, windows and blocks are looked at as wholes: whatever decides has to be found at each
/// place in them, and close to the end of the text, where there are none.
#[test]
fn what_decides_is_found_at_every_place() {
    let specials = [
        "", r#"\""#, r"\", r"\\", r"\u0041", r"\ud800", r"\x", r"\u12", "\n", "\u{1f}", " ", "!",
        "#", "[", "]", "\u{7f}", "\u{80}", "é", "\u{ffff}", "😀", r#"""#, r#"":"#, ",",
    ];
    for before in 0..=20 {
        for special in specials {
            for after in [0, 1, 6, 7, 8, 15, 16, 17, 40] {
                let (before, after) = ("a".repeat(before), "b".repeat(after));
                let text = format!("{before}{special}{after}");
                check(&format!(r#""{text}""#));
                check(&format!(r#"["{text}","c"]"#));
                check(&format!(r#"{{"{text}":1}}"#));
                check(&format!(r#"{{"{text}" : 1,"c":"{text}"}}  "#));
                check(&format!(
                    r#"{{"{text}":{{"id":1,"{text}":[]}},"pad":"cccccccccc"}}"#
                ));
                check(&format!(r#"{{"{text}"#));
            }
        }
    }
}

#[test]
fn numbers_end_at_every_place() {
    let behind = [
        "", ".", ".5", ".50e1", "e", "e5", "E+5", "e-", "-", "+", " ", "x", ",", ",2", "]", "\"",
        "\u{80}",
    ];
    for digits in 0..=20 {
        for first in ["", "-", "0", "-0", "00", "1", "+", "."] {
            for behind in behind {
                let number = format!("{first}{}{behind}", "7".repeat(digits));
                check(&number);
                check(&format!("[{number}]"));
                check(&format!("[{number},true,false,null]"));
                check(&format!(r#"{{"n":{number}}}"#));
                check(&format!(r#"{{"n":{number},"pad":"cccccccccc"}}"#));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn well_formed_or_nearly(text in json()) {
        check(&text);
    }

    #[test]
    fn damaged(
        text in json(),
        at in any::<prop::sample::Index>(),
        with in "[\\[\\]{},:\"\\\\0-9eE.\\-tfnu \u{1}é]",
    ) {
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len() + 1);
        let with = with.chars().next().unwrap();
        if at < chars.len() { chars[at] = with } else { chars.push(with) }
        check(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn cut(text in json(), at in any::<prop::sample::Index>()) {
        let at = text.floor_char_boundary(at.index(text.len() + 1));
        check(&text[..at]);
        check(&text[at..]);
    }

    #[test]
    fn soup(text in r#"[\[\]{},:"\\0-9eE.\-truefalsn \t]{0,20}"#) {
        check(&text);
    }

    #[test]
    fn long_strings(
        head in "[a-zé]{0,80}",
        special in "(\\\\n|\"|\u{1f}|\u{7f}|\\\\)?",
        tail in "[a-zé]{0,80}",
    ) {
        check(&format!("\"{head}{special}{tail}\""));
    }

    #[test]
    fn bytes_that_may_not_be_text(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
        let quoted = [b"\"", bytes.as_slice(), b"\""].concat();
        let ours = RawJsonRef::parse(&quoted);
        match core::str::from_utf8(&quoted) {
            Ok(text) => prop_assert_eq!(ours.is_ok(), oracle(text)),
            Err(_) => prop_assert_eq!(ours, Err(JsonError::Utf8)),
        }
    }
}
