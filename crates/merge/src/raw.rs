//! Raw JSON as items: keys are read by scanning, bytes pass through.

use core::fmt;

use bytes::Bytes;
use memchr::memmem::Finder;
use millstream_core::{JsonKind, JsonStr, RawJson, RawJsonRef, write_json_str};

use crate::{Item, Key, KeySpot};

/// An element taken from a list shares the list's bytes if it is at least this part of them;
/// smaller ones are copied, so that no small item keeps a large document in memory.
const SHARE_PART: usize = 8;

/// Deepest nesting of what is built here; what comes in has been checked already.
const DEPTH_MAX: u32 = 128;

/// Names of members that events may not carry, for the sake of JavaScript readers.
const RESERVED: [&str; 3] = ["__proto__", "constructor", "prototype"];

/// Searches for one key field, and for reserved member names.
#[derive(Clone)]
pub struct RawReader {
    field: Box<str>,
    /// `{"id":`, how most items begin.
    opening: Box<[u8]>,
    /// Whether what begins that way needs no look at the beginning.
    is_quick: bool,
    /// `"id"`, unless the name has to be written with escapes, or may be without `\u`.
    quoted: Option<Finder<'static>>,
    /// How `"id"` begins.
    start: [u8; 3],
    /// `\u`: any other spelling of a member name holds it.
    escape: Finder<'static>,
    /// In two of the reserved names.
    proto: Finder<'static>,
    /// The third.
    constructor: Finder<'static>,
}

impl RawReader {
    fn new(field: &str) -> Self {
        let mut quoted = Vec::with_capacity(field.len() + 2);
        write_json_str(&mut quoted, field);
        let opening = [b"{", quoted.as_slice(), b":"].concat().into();
        // `"`, `\`, `/` and control characters have spellings with other escapes than `\u`.
        let is_plain = quoted.len() == field.len() + 2 && !field.contains('/');
        Self {
            field: field.into(),
            opening,
            is_quick: is_plain && !RESERVED.contains(&field),
            start: *quoted.first_chunk().unwrap_or(b"\"\"\""),
            quoted: is_plain.then(|| Finder::new(&quoted).into_owned()),
            escape: Finder::new(b"\\u").into_owned(),
            proto: Finder::new(b"proto").into_owned(),
            constructor: Finder::new(b"constructor").into_owned(),
        }
    }

    /// What follows `{"id":`, if the item begins so and nothing before that matters.
    #[inline]
    fn after_opening<'a>(&self, text: &'a str) -> Option<&'a [u8]> {
        let rest = text.as_bytes().strip_prefix(&*self.opening)?;
        self.is_quick.then_some(rest)
    }

    /// Whether no member after `text[at..]` can have the name of the key field.
    #[inline]
    fn is_last(&self, text: &str, at: usize) -> bool {
        let (Some(quoted), Some(rest)) = (&self.quoted, text.as_bytes().get(at..)) else {
            return false;
        };
        !self.may_name(rest) || (quoted.find(rest).is_none() && self.escape.find(rest).is_none())
    }

    /// Whether `text` may hold the name of the key field, a reserved name or an escape. One quick
    /// pass that says no for most items, so that the exact searches need not run.
    #[inline]
    fn may_name(&self, text: &[u8]) -> bool {
        const BLOCK: usize = 32;
        let start = self.start;
        let Some(places) = text.len().checked_sub(2).filter(|places| *places >= BLOCK) else {
            return text
                .windows(3)
                .any(|three| is_telling(three[0], three[1], three[2], start));
        };
        let (firsts, seconds, thirds) = (&text[..places], &text[1..=places], &text[2..]);
        let mut found = [0_u8; BLOCK];
        let mut look = |a: &[u8; BLOCK], b: &[u8; BLOCK], c: &[u8; BLOCK]| {
            for (place, found) in found.iter_mut().enumerate() {
                *found |= u8::from(is_telling(a[place], b[place], c[place], start));
            }
        };
        let (blocks, _) = firsts.as_chunks::<BLOCK>();
        let others = seconds
            .as_chunks::<BLOCK>()
            .0
            .iter()
            .zip(thirds.as_chunks::<BLOCK>().0);
        for (a, (b, c)) in blocks.iter().zip(others) {
            look(a, b, c);
        }
        // What is left over, together with some of what was seen.
        if let (Some(a), Some(b), Some(c)) = (
            firsts.last_chunk(),
            seconds.last_chunk(),
            thirds.last_chunk(),
        ) {
            look(a, b, c);
        }
        found.iter().any(|found| *found != 0)
    }

    /// The value of the last member that has the name of the key field.
    fn search<'a>(&self, item: RawJsonRef<'a>) -> Option<RawJsonRef<'a>> {
        let text = item.as_str();
        if self.is_last(text, 0) {
            return None;
        }
        let mut found = None;
        for (name, value) in item.fields() {
            if name.eq_str(&self.field) {
                found = Some(value);
                let end = offset(text, value.as_str()) + value.as_str().len();
                if self.is_last(text, end) {
                    break;
                }
            }
        }
        found
    }

    /// Whether sanitising may find something to drop.
    #[inline]
    fn is_suspect(&self, text: &[u8]) -> bool {
        self.proto.find(text).is_some()
            || self.constructor.find(text).is_some()
            || self.escape.find(text).is_some()
    }
}

impl fmt::Debug for RawReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RawReader").field(&self.field).finish()
    }
}

/// Raw JSON items: validated bytes that are kept, moved and written out as they came.
///
/// # Cost
/// Finding the key is a few vectorised searches over the item if the key comes first and its name
/// appears nowhere else, else one pass of the scanner up to the last place where it appears.
///
/// Elements of a loaded list share its bytes if they are at least an eighth of them, and are copied
/// otherwise. An event's data is kept as it is given: a slice of a large frame keeps that frame in
/// memory, so detach it (`data.get().to_owned()`) when the frame is much larger.
impl Item for RawJson {
    type Reader = RawReader;

    fn reader(field: &str) -> RawReader {
        RawReader::new(field)
    }

    #[inline]
    fn spot(&self, reader: &RawReader) -> KeySpot {
        let text = self.as_str();
        let bytes = text.as_bytes();
        if bytes.first() != Some(&b'{') {
            return KeySpot::Missing;
        }
        let start = reader.opening.len();
        if reader.after_opening(text).is_some() && reader.is_last(text, start) {
            return spot_at(text, start);
        }
        match reader.search(self.get()) {
            Some(value) => spot_at(text, offset(text, value.as_str())),
            None => KeySpot::Missing,
        }
    }

    #[inline]
    fn key(&self, spot: KeySpot) -> Key<'_> {
        let KeySpot::Text { at, len, escaped } = spot else {
            return spot.plain().unwrap_or(Key::Missing);
        };
        let (at, len) = (at as usize, len as usize);
        let text = self.as_str().get(at..at + len).unwrap_or_default();
        if !escaped {
            return Key::Text(text);
        }
        JsonStr::scan(text).map_or(Key::Missing, |(token, _)| Key::Escaped(token))
    }

    #[inline]
    fn byte_len(&self) -> usize {
        self.as_bytes().len()
    }

    #[inline]
    fn is_null(&self) -> bool {
        self.as_bytes().first() == Some(&b'n')
    }

    fn same_primitive(&self, other: &Self) -> bool {
        let (a, b) = (self.get(), other.get());
        match (a.kind(), b.kind()) {
            (JsonKind::Null, JsonKind::Null) => true,
            (JsonKind::Bool, JsonKind::Bool) => a.as_bool() == b.as_bool(),
            (JsonKind::Number, JsonKind::Number) => a.as_f64() == b.as_f64(),
            (JsonKind::String, JsonKind::String) => {
                let same = a.as_json_str().zip(b.as_json_str());
                same.is_some_and(|(a, b)| a.eq_json(&b))
            }
            _ => false,
        }
    }

    /// Whether it has a member `_deleted` that JavaScript finds true.
    fn is_tombstone(&self) -> bool {
        self.get().field("_deleted").is_some_and(is_truthy)
    }

    /// Drops the members `__proto__`, `constructor` and `prototype` of an object, or of each
    /// element of a list, lists in lists included. Copies only if there is something to drop.
    #[inline]
    fn sanitised(self, reader: &RawReader) -> Self {
        if !reader.is_suspect(self.as_bytes()) {
            return self;
        }
        sanitise(self)
    }

    #[inline]
    fn received(self, reader: &RawReader) -> (Self, KeySpot) {
        let text = self.as_str();
        if let Some(rest) = reader.after_opening(text)
            && !reader.may_name(rest)
        {
            let spot = spot_at(text, reader.opening.len());
            return (self, spot);
        }
        let item = self.sanitised(reader);
        let spot = item.spot(reader);
        (item, spot)
    }

    fn into_rows(self) -> Result<Vec<Self>, Self> {
        if !self.get().is_array() {
            return Err(self);
        }
        let whole = self.as_bytes().len();
        Ok(self
            .get()
            .elements()
            .map(|element| row(&self, element, whole))
            .collect())
    }
}

/// Whether three bytes in a row are the beginning of the quoted key field, `\u`, or in a reserved
/// name: all of those hold `oto` or `cto`.
#[inline]
const fn is_telling(a: u8, b: u8, c: u8, start: [u8; 3]) -> bool {
    ((a == b'\\') & (b == b'u'))
        | (((a == b'o') | (a == b'c')) & (b == b't') & (c == b'o'))
        | ((a == start[0]) & (b == start[1]) & (c == start[2]))
}

fn row(list: &RawJson, element: RawJsonRef<'_>, whole: usize) -> RawJson {
    if element.as_bytes().len().saturating_mul(SHARE_PART) >= whole {
        list.share(element).unwrap_or_else(|| element.to_owned())
    } else {
        element.to_owned()
    }
}

/// Where `part` begins in `text`, of which it is a slice.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

/// The key that begins at or after `at`.
#[inline]
fn spot_at(text: &str, at: usize) -> KeySpot {
    let bytes = text.as_bytes();
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let at = at + bytes[at..].iter().take_while(|byte| blank(byte)).count();
    match bytes.get(at) {
        Some(b'"') => text_spot(text, at),
        Some(b'-' | b'0'..=b'9') => KeySpot::Number(number(&text[at..])),
        Some(b'n') => KeySpot::Null,
        Some(b't') => KeySpot::Bool(true),
        Some(b'f') => KeySpot::Bool(false),
        _ => KeySpot::Opaque,
    }
}

fn text_spot(text: &str, at: usize) -> KeySpot {
    let Some((token, _)) = JsonStr::scan(&text[at..]) else {
        return KeySpot::Opaque;
    };
    let (at, len, escaped) = match token.plain() {
        Some(plain) => (at + 1, plain.len(), false),
        None => (at, token.raw().len(), true),
    };
    match (u32::try_from(at), u32::try_from(len)) {
        (Ok(at), Ok(len)) => KeySpot::Text { at, len, escaped },
        _ => KeySpot::Opaque,
    }
}

/// The number at the front of `text`.
#[inline]
fn number(text: &str) -> f64 {
    let mut value = 0_u64;
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            // 15 digits are exact in a float.
            b'0'..=b'9' if place < 15 => value = value * 10 + u64::from(byte - b'0'),
            b',' | b'}' if place > 0 => return value as f64,
            _ => break,
        }
    }
    RawJsonRef::scan(text).map_or(f64::NAN, |(value, _)| value.as_f64().unwrap_or(f64::NAN))
}

fn is_truthy(value: RawJsonRef<'_>) -> bool {
    match value.kind() {
        JsonKind::Null => false,
        JsonKind::Bool => value.as_bool() == Some(true),
        JsonKind::Number => value.as_f64() != Some(0.0),
        JsonKind::String => value.as_str() != "\"\"",
        JsonKind::Array | JsonKind::Object => true,
    }
}

#[cold]
fn sanitise(item: RawJson) -> RawJson {
    if !needs_sanitising(item.get()) {
        return item;
    }
    let mut out = Vec::with_capacity(item.as_bytes().len());
    write_sanitised(&mut out, item.get());
    // Members were left out of a valid text: it stays valid.
    RawJson::parse_with_depth(Bytes::from(out), DEPTH_MAX).unwrap_or(item)
}

fn is_reserved(name: JsonStr<'_>) -> bool {
    RESERVED.iter().any(|reserved| name.eq_str(reserved))
}

fn needs_sanitising(value: RawJsonRef<'_>) -> bool {
    // Of an object there are only fields, of an array only elements.
    value.fields().any(|(name, _)| is_reserved(name)) || value.elements().any(needs_sanitising)
}

fn write_sanitised(out: &mut Vec<u8>, value: RawJsonRef<'_>) {
    match value.kind() {
        JsonKind::Object => {
            out.push(b'{');
            let kept = value.fields().filter(|(name, _)| !is_reserved(*name));
            for (place, (name, member)) in kept.enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(name.raw().as_bytes());
                out.push(b':');
                out.extend_from_slice(member.as_bytes());
            }
            out.push(b'}');
        }
        JsonKind::Array => {
            out.push(b'[');
            for (place, element) in value.elements().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write_sanitised(out, element);
            }
            out.push(b']');
        }
        _ => out.extend_from_slice(value.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> RawJson {
        RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn is(item: &str, key: Key<'_>) {
        let (reader, item) = (RawJson::reader("id"), json(item));
        let got = item.key(item.spot(&reader));
        assert!(got.same(&key), "{item:?}: {got:?}");
    }

    #[test]
    fn keys_are_found_wherever_they_stand() {
        is(r#"{"id":1}"#, Key::Number(1.0));
        is(r#"{ "id" : 1 }"#, Key::Number(1.0));
        is(r#"{"a":{"id":2},"id":1,"b":[{"id":3}]}"#, Key::Number(1.0));
        is(r#"{"id":1,"a":{"id":2}}"#, Key::Number(1.0));
        is(r#"{"id":1,"a":"id"}"#, Key::Number(1.0));
        is(r#"{"id":1,"a":"\"id\":2"}"#, Key::Number(1.0));
        is(r#"{"a":"id","b":"x"}"#, Key::Missing);
        is(r#"{"Id":1}"#, Key::Missing);
        is(r#"[{"id":1}]"#, Key::Missing);
        is(r#""id""#, Key::Missing);
        is("{}", Key::Missing);
    }

    #[test]
    fn the_last_of_duplicate_names_counts() {
        is(r#"{"id":1,"id":2}"#, Key::Number(2.0));
        is(r#"{"id":1,"\u0069d":2}"#, Key::Number(2.0));
        is(r#"{"\u0069\u0064":1}"#, Key::Number(1.0));
        is(
            r#"{"id":2,"x":{"id":7},"id" :3,"y":"id"}"#,
            Key::Number(3.0),
        );
    }

    #[test]
    fn all_kinds_of_keys() {
        is(r#"{"id":null}"#, Key::Null);
        is(r#"{"id":true,"x":1}"#, Key::Bool(true));
        is(r#"{"id":""}"#, Key::Text(""));
        is(r#"{"id":"\u0061"}"#, Key::Text("a"));
        is(r#"{"id":1.0}"#, Key::Number(1.0));
        is(r#"{"id":1e0 }"#, Key::Number(1.0));
        is(r#"{"id":-0}"#, Key::Number(0.0));
        is(r#"{"id":100000000000000000000000}"#, Key::Number(1e23));
        is(
            r#"{"id":9007199254740993}"#,
            Key::Number(9_007_199_254_740_992.0),
        );
        is(
            r#"{"id":999999999999999}"#,
            Key::Number(999_999_999_999_999.0),
        );
        is(r#"{"id":1e999}"#, Key::Number(f64::INFINITY));
        is(r#"{"id":12 }"#, Key::Number(12.0));
        let reader = RawJson::reader("id");
        for text in [r#"{"id":{}}"#, r#"{"id":[1]}"#] {
            assert_eq!(json(text).spot(&reader), KeySpot::Opaque);
        }
    }

    #[test]
    fn the_quick_pass_sees_every_place_and_nothing_else() {
        let reader = RawJson::reader("id");
        for len in 0..80 {
            let plain = vec![b'x'; len];
            assert!(!reader.may_name(&plain), "{len}");
            for telling in [b"\"id".as_slice(), b"\\u0", b"oto", b"cto"] {
                for at in 0..(len + 1).saturating_sub(3) {
                    let mut text = plain.clone();
                    text[at..at + 3].copy_from_slice(telling);
                    assert!(reader.may_name(&text), "{telling:?} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn odd_field_names() {
        for (field, item) in [
            ("a/b", r#"{"a\/b":1}"#),
            ("a\"b", r#"{"a\"b":1}"#),
            ("é", r#"{"é":1}"#),
            ("é", r#"{"\u00e9":1}"#),
            ("\n", r#"{"\n":1}"#),
        ] {
            let reader = RawJson::reader(field);
            assert_eq!(json(item).spot(&reader), KeySpot::Number(1.0), "{item}");
        }
    }

    #[test]
    fn reserved_names_go_from_the_top_level_only() {
        let reader = RawJson::reader("id");
        for (from, to) in [
            (
                r#"{"id":1,"__proto__":{},"constructor":1,"prototype":[]}"#,
                r#"{"id":1}"#,
            ),
            (r#"{"\u005f_proto__":1,"id": 1.0}"#, r#"{"id":1.0}"#),
            (r#"{"a":{"__proto__":1}}"#, r#"{"a":{"__proto__":1}}"#),
            (
                r#"[[{"prototype":1}],{"a":[{"prototype":1}]},"x"]"#,
                r#"[[{}],{"a":[{"prototype":1}]},"x"]"#,
            ),
            (r#"{"a":"__proto__"}"#, r#"{"a":"__proto__"}"#),
            (r#""constructor""#, r#""constructor""#),
            (r#"{"constructor":1}"#, "{}"),
        ] {
            assert_eq!(json(from).sanitised(&reader).as_str(), to);
        }
    }

    #[test]
    fn small_rows_do_not_keep_a_document() {
        let big = format!("[{{\"id\":1}},\"{}\"]", "x".repeat(4_000));
        let list = json(&big);
        let whole = list.as_bytes().as_ptr_range();
        let rows = list.into_rows().unwrap();
        assert!(!whole.contains(&rows[0].as_bytes().as_ptr()));
        assert!(whole.contains(&rows[1].as_bytes().as_ptr()));
        assert!(json("{}").into_rows().is_err());
    }

    #[test]
    fn tombstones_are_what_javascript_finds_true() {
        for (text, is) in [
            (r#"{"_deleted":true}"#, true),
            (r#"{"_deleted":1}"#, true),
            (r#"{"_deleted":{}}"#, true),
            (r#"{"_deleted":"0"}"#, true),
            (r#"{"_deleted":0}"#, false),
            (r#"{"_deleted":-0.0}"#, false),
            (r#"{"_deleted":""}"#, false),
            (r#"{"_deleted":null}"#, false),
            ("{}", false),
            ("[1]", false),
        ] {
            assert_eq!(json(text).is_tombstone(), is, "{text}");
        }
    }
}
