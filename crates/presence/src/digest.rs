//! Fingerprints of keys and records.

use millstream_core::{JsonKind, JsonStr, KeyedHash, RawJsonRef};
use smallvec::SmallVec;

/// 128 bits that stand for a text or a JSON value.
pub(crate) type Digest = [u64; 2];

/// Keyed 128-bit fingerprints.
///
/// Who does not know the key cannot look for two texts with the same fingerprint, and among a
/// million honest ones the odds that any two meet are below 2^-88.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprint {
    key: [u64; 2],
}

/// First byte of what is hashed: values of different kinds never have the same text.
#[derive(Clone, Copy)]
enum Tag {
    Key = 1,
    Null,
    False,
    True,
    Number,
    String,
    /// A string no Rust string can hold, by its token.
    LoneSurrogate,
    Array,
    Object,
}

impl Fingerprint {
    pub(crate) const fn new(key: [u64; 2]) -> Self {
        Self { key }
    }

    /// The fingerprint of a roster key.
    pub(crate) fn key(&self, text: &str) -> Digest {
        self.bytes(Tag::Key, text.as_bytes())
    }

    /// The fingerprint of a JSON value: equal for equal values, however they are written. Objects
    /// are equal when they have the same names with equal values in any order (of several members
    /// with one name the last counts), numbers by their value as a double.
    ///
    /// Linear, but for a logarithm in the widest object; recursion is as deep as the value, which
    /// its parser has bounded.
    pub(crate) fn value(&self, json: RawJsonRef<'_>) -> Digest {
        match json.kind() {
            JsonKind::Null => self.bytes(Tag::Null, b""),
            JsonKind::Bool if json.as_bool() == Some(true) => self.bytes(Tag::True, b""),
            JsonKind::Bool => self.bytes(Tag::False, b""),
            JsonKind::Number => {
                // Adding zero makes -0 a plain 0.
                let bits = (json.as_f64().unwrap_or_default() + 0.0).to_bits();
                self.bytes(Tag::Number, &bits.to_le_bytes())
            }
            JsonKind::String => json
                .as_json_str()
                .map_or_else(Digest::default, |s| self.string(Tag::String, s)),
            JsonKind::Array => {
                let mut hash = self.start(Tag::Array);
                for element in json.elements() {
                    add(&mut hash, self.value(element));
                }
                hash.finish()
            }
            JsonKind::Object => self.object(json),
        }
    }

    fn object(&self, json: RawJsonRef<'_>) -> Digest {
        let mut members: SmallVec<[(Digest, usize, Digest); 8]> = SmallVec::new();
        for (at, (name, value)) in json.fields().enumerate() {
            members.push((self.string(Tag::String, name), at, self.value(value)));
        }
        members.sort_unstable();
        let mut hash = self.start(Tag::Object);
        for (at, (name, _, value)) in members.iter().enumerate() {
            let is_last = members.get(at + 1).is_none_or(|(next, ..)| next != name);
            if is_last {
                add(&mut hash, *name);
                add(&mut hash, *value);
            }
        }
        hash.finish()
    }

    fn string(&self, tag: Tag, token: JsonStr<'_>) -> Digest {
        match token.to_cow_exact() {
            Some(text) => self.bytes(tag, text.as_bytes()),
            None => self.bytes(Tag::LoneSurrogate, token.raw().as_bytes()),
        }
    }

    fn bytes(&self, tag: Tag, bytes: &[u8]) -> Digest {
        let mut hash = self.start(tag);
        hash.write(bytes);
        hash.finish()
    }

    fn start(&self, tag: Tag) -> KeyedHash {
        let mut hash = KeyedHash::new(self.key);
        hash.write_u64(tag as u64);
        hash
    }
}

/// Adds a fingerprint, whose length is always the same.
fn add(hash: &mut KeyedHash, digest: Digest) {
    hash.write_u64(digest[0]);
    hash.write_u64(digest[1]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Digest {
        Fingerprint::new([1, 2]).value(RawJsonRef::parse_str(text).unwrap())
    }

    #[test]
    fn equal_values_however_written() {
        for (a, b) in [
            (
                r#"{"a":1,"b":[true,null]}"#,
                r#"{ "b" : [true, null], "\u0061": 1.0 }"#,
            ),
            ("0", "-0"),
            ("100", "1e2"),
            ("1e400", "1e999"),
            (r#""\ud83d\ude00""#, "\"😀\""),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":1,"b":3,"a":2}"#, r#"{"b":3,"a":2}"#),
        ] {
            assert_eq!(value(a), value(b), "{a} {b}");
        }
    }

    #[test]
    fn different_values() {
        let all = [
            "null",
            "false",
            "true",
            "0",
            "1",
            "\"\"",
            "\"0\"",
            "\"1\"",
            "\"null\"",
            "[]",
            "{}",
            "[0]",
            "[null]",
            "[[]]",
            "[1,2]",
            "[2,1]",
            "[[1],2]",
            "[1,[2]]",
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"b":1}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"a":null}"#,
            r#"{"0":1,"1":2}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"b":{"a":1}}"#,
            r#""\ud800""#,
            "\"\u{fffd}\"",
            r#""\ud801""#,
            r#""12345678""#,
            r#""123456781""#,
            r#""1234567\u0000""#,
            r#""1234567""#,
        ];
        for (at, a) in all.iter().enumerate() {
            for b in &all[at + 1..] {
                assert_ne!(value(a), value(b), "{a} {b}");
            }
        }
    }

    #[test]
    fn the_key_matters() {
        let (a, b) = (Fingerprint::new([1, 2]), Fingerprint::new([1, 3]));
        assert_ne!(a.key("ann"), b.key("ann"));
        assert_ne!(a.key("ann"), a.key("bob"));
        assert_eq!(a.key("ann"), a.key("ann"));
    }
}
