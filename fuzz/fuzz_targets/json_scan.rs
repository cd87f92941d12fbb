//! The JSON scanner against serde_json (syntax, exactly) and simd-json (what it takes, we take).
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_core::{JsonError, JsonStr, RawJson, RawJsonRef, write_json_str};
use serde::de::IgnoredAny;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let ours = RawJsonRef::parse_with_depth(bytes, 128);
    let Ok(text) = core::str::from_utf8(bytes) else {
        assert_eq!(ours, Err(JsonError::Utf8));
        return;
    };
    strings(text);
    if matches!(ours, Err(JsonError::TooDeep { .. })) {
        assert!(text.matches(['[', '{']).count() > 128);
        return;
    }
    // Numbers of any size, surrogates in any order: what JSON.parse does.
    assert_eq!(
        ours.is_ok(),
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    );
    let mut copy = bytes.to_vec();
    let simd = simd_json::to_borrowed_value(&mut copy).is_ok();
    let Ok(ours) = ours else {
        assert!(!simd, "simd-json takes what we refuse");
        return;
    };
    assert_eq!(ours.as_str(), text.trim_matches([' ', '\t', '\r', '\n']));
    let owned = RawJson::parse_with_depth(bytes.to_vec().into(), 128).expect("the same bytes");
    assert_eq!(owned.as_str(), ours.as_str());
    assert_eq!(
        RawJsonRef::scan_with_depth(ours.as_str(), 128).map(|s| s.0),
        Some(ours)
    );
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        compare(ours, &value);
    }
});

fn compare(ours: RawJsonRef<'_>, value: &Value) {
    match value {
        Value::Null => assert!(ours.is_null()),
        Value::Bool(value) => assert_eq!(ours.as_bool(), Some(*value)),
        Value::Number(number) => {
            assert_eq!(ours.as_f64(), number.as_f64());
            assert_eq!(ours.as_u64(), number.as_u64());
        }
        Value::String(text) => {
            let token = ours.as_json_str().expect("a string");
            assert_eq!(token.to_cow(), text.as_str());
            assert!(token.eq_str(text) && token.eq_json(&token));
        }
        Value::Array(list) => {
            assert_eq!(ours.elements().count(), list.len());
            ours.elements()
                .zip(list)
                .for_each(|(ours, value)| compare(ours, value));
        }
        Value::Object(map) => {
            assert!(ours.is_object());
            for (key, value) in map {
                compare(ours.field(key).expect("a field"), value);
            }
            assert!(
                ours.fields()
                    .all(|(key, _)| map.contains_key(&*key.to_cow()))
            );
        }
    }
}

/// Any text, written, is a token that reads back; any text that begins with a token gives it.
fn strings(text: &str) {
    let mut out = Vec::new();
    write_json_str(&mut out, text);
    let raw = String::from_utf8(out).expect("utf-8 in, utf-8 out");
    let (token, rest) = JsonStr::scan(&raw).expect("a token");
    assert!(rest.is_empty() && token.to_cow() == text && token.eq_str(text));
    assert_eq!(serde_json::from_str::<String>(&raw).expect("json"), text);
    if let Some((token, rest)) = JsonStr::scan(text) {
        assert_eq!([token.raw(), rest].concat(), text);
        assert_eq!(token.to_cow_exact(), serde_json::from_str(token.raw()).ok());
    }
}
