//! JSON that passes through as bytes.

mod list;
mod text;
mod token;
#[cfg(feature = "serde")]
mod typed;
mod validate;
mod write;

use core::fmt;

use bytes::Bytes;
use bytestring::ByteString;

pub use self::list::{Elements, JsonList};
pub use self::text::{JsonStr, write_json_str};
use self::validate::{
    DEPTH_LIMIT, Fault, behind, field_name, known_value_end, skip_blanks, string_end, to_next,
    value_end,
};
pub use self::write::{ListWriter, ObjectWriter};

/// Deepest nesting of arrays and objects that is accepted unless another limit is given.
pub const DEPTH_MAX: u32 = 64;

/// Why bytes are not acceptable JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not UTF-8.
    #[error("json is not valid utf-8")]
    Utf8,
    /// Not JSON.
    #[error("json is malformed at byte {at}")]
    Syntax {
        /// Offset of the offending byte, or of the end if something is missing.
        at: usize,
    },
    /// JSON, but nested deeper than allowed.
    #[error("json is nested deeper than the limit of {depth_max}")]
    TooDeep {
        /// The limit.
        depth_max: u32,
    },
}

/// What kind of value a JSON text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JsonKind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number of any size and precision.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// One JSON value as bytes: validated, shared, never re-encoded.
///
/// What JavaScript's `JSON.parse` accepts is accepted (lone surrogate escapes, integers of any
/// size, `1e400`) and passes through exactly as it came in. Blanks around the value are cut off.
/// Cloning shares the bytes.
///
/// # Example
/// ```
/// use millstream_core::RawJson;
///
/// let json = RawJson::parse(r#" {"id": 1e400} "#.into())?;
/// assert_eq!(json.as_bytes(), br#"{"id": 1e400}"#);
/// assert_eq!(json.get().field("id").unwrap().as_str(), "1e400");
/// # Ok::<(), millstream_core::JsonError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawJson(ByteString);

impl RawJson {
    /// The value `null`.
    pub const NULL: Self = Self(ByteString::from_static("null"));

    /// The value `true`.
    pub const TRUE: Self = Self(ByteString::from_static("true"));

    /// The value `false`.
    pub const FALSE: Self = Self(ByteString::from_static("false"));

    /// The value `[]`.
    pub const EMPTY_LIST: Self = Self(ByteString::from_static("[]"));

    /// Validates `bytes`, nested at most [`DEPTH_MAX`] deep.
    ///
    /// # Errors
    /// [`JsonError`]; the bytes are dropped.
    pub fn parse(bytes: Bytes) -> Result<Self, JsonError> {
        Self::parse_with_depth(bytes, DEPTH_MAX)
    }

    /// Validates `bytes`, nested at most `depth_max` (and never more than 128) deep.
    ///
    /// # Errors
    /// [`JsonError`]; the bytes are dropped.
    pub fn parse_with_depth(bytes: Bytes, depth_max: u32) -> Result<Self, JsonError> {
        let text = ByteString::try_from(bytes).map_err(|_| JsonError::Utf8)?;
        Self::parse_text(text, depth_max)
    }

    fn parse_text(text: ByteString, depth_max: u32) -> Result<Self, JsonError> {
        let value = RawJsonRef::parse_str_with_depth(&text, depth_max)?.0;
        if value.len() == text.len() {
            return Ok(Self(text));
        }
        let value = text.slice_ref(value);
        Ok(Self(value))
    }

    /// Writes a serde value.
    ///
    /// # Errors
    /// What the value's own serialisation reports, and values nested deeper than 128.
    #[cfg(feature = "serde")]
    pub fn from_serialize<T: serde::Serialize + ?Sized>(
        value: &T,
    ) -> Result<Self, serde_json::Error> {
        let text = serde_json::to_string(value)?;
        Self::parse_text(text.into(), DEPTH_LIMIT).map_err(serde::ser::Error::custom)
    }

    /// Takes text that the caller has written itself and knows to be exactly one JSON value; see
    /// [`RawJsonRef::trust`].
    ///
    /// # Panics
    /// In debug builds, when the text is not such a value.
    ///
    /// # Cost
    /// An allocation if the text has spare capacity, else none.
    #[must_use]
    pub fn trust(text: String) -> Self {
        let _ = RawJsonRef::trust(&text);
        Self(ByteString::from(text))
    }

    /// The value, borrowed: scanning methods are there.
    #[must_use]
    pub fn get(&self) -> RawJsonRef<'_> {
        RawJsonRef(&self.0)
    }

    /// A part of this value (an element, a field) as a value of its own that shares the bytes.
    /// `None` if `part` lies elsewhere.
    ///
    /// The whole stays in memory for as long as the part does.
    #[must_use]
    pub fn share(&self, part: RawJsonRef<'_>) -> Option<Self> {
        let at = part.0.as_ptr().addr().checked_sub(self.0.as_ptr().addr())?;
        let inside = at.checked_add(part.0.len())? <= self.0.len();
        inside.then(|| Self(self.0.slice_ref(part.0)))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One JSON value as a slice of a larger buffer: validated, blanks around it cut off.
///
/// # Cost
/// Scanning methods are linear in the value and never allocate.
///
/// # Example: the last duplicate wins, as in `JSON.parse`
/// ```
/// use millstream_core::RawJsonRef;
///
/// let json = RawJsonRef::parse(br#"{"a": 1, "b": [true, null], "\u0061": 2}"#)?;
/// assert_eq!(json.field("a").unwrap().as_f64(), Some(2.0));
/// assert_eq!(json.field("b").unwrap().elements().count(), 2);
/// assert!(json.field("c").is_none());
/// # Ok::<(), millstream_core::JsonError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawJsonRef<'a>(&'a str);

impl<'a> RawJsonRef<'a> {
    /// The value `""`.
    pub const EMPTY_TEXT: RawJsonRef<'static> = RawJsonRef("\"\"");

    /// The value `true`.
    pub const TRUE: RawJsonRef<'static> = RawJsonRef("true");

    /// The value `false`.
    pub const FALSE: RawJsonRef<'static> = RawJsonRef("false");

    /// The value `null`.
    pub const NULL: RawJsonRef<'static> = RawJsonRef("null");

    /// Validates bytes, nested at most [`DEPTH_MAX`] deep.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JsonError> {
        Self::parse_with_depth(bytes, DEPTH_MAX)
    }

    /// Validates bytes, nested at most `depth_max` (and never more than 128) deep.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn parse_with_depth(bytes: &'a [u8], depth_max: u32) -> Result<Self, JsonError> {
        let text = simdutf8::basic::from_utf8(bytes).map_err(|_| JsonError::Utf8)?;
        Self::parse_str_with_depth(text, depth_max)
    }

    /// Validates text, nested at most [`DEPTH_MAX`] deep.
    ///
    /// # Errors
    /// [`JsonError`], but never `Utf8`.
    pub fn parse_str(text: &'a str) -> Result<Self, JsonError> {
        Self::parse_str_with_depth(text, DEPTH_MAX)
    }

    /// Validates text, nested at most `depth_max` (and never more than 128) deep.
    ///
    /// # Errors
    /// [`JsonError`], but never `Utf8`.
    pub fn parse_str_with_depth(text: &'a str, depth_max: u32) -> Result<Self, JsonError> {
        let bytes = text.as_bytes();
        let start = skip_blanks(bytes, 0);
        let depth_max = depth_max.min(DEPTH_LIMIT);
        let end = value_end(bytes, start, depth_max).map_err(|fault| fault.error(depth_max))?;
        let rest = skip_blanks(bytes, end);
        if rest != bytes.len() {
            return Err(JsonError::Syntax { at: rest });
        }
        Ok(Self(&text[start..end]))
    }

    /// Takes one value (nested at most [`DEPTH_MAX`] deep, no blanks before it) off the front of
    /// `text`; `None` if no valid one begins there.
    ///
    /// A number ends where it cannot go on, so look at what follows.
    #[must_use]
    pub fn scan(text: &'a str) -> Option<(Self, &'a str)> {
        Self::scan_with_depth(text, DEPTH_MAX)
    }

    /// [`scan`](Self::scan) for a value nested at most `depth_max` (and never more than 128) deep.
    #[must_use]
    pub fn scan_with_depth(text: &'a str, depth_max: u32) -> Option<(Self, &'a str)> {
        let end = value_end(text.as_bytes(), 0, depth_max.min(DEPTH_LIMIT)).ok()?;
        let (value, rest) = text.split_at(end);
        Some((Self(value), rest))
    }

    /// Validates an object, nested at most `depth_max` (and never more than 128) deep, and shows
    /// its fields in order while it does: one pass instead of two. What was seen before an error
    /// counts for nothing.
    ///
    /// ```
    /// use millstream_core::RawJsonRef;
    ///
    /// let mut id = None;
    /// RawJsonRef::parse_fields(r#"{"id":7,"data":[1,2]}"#, 64, |name, value| {
    ///     if name.eq_str("id") {
    ///         id = value.as_u64();
    ///     }
    /// })?;
    /// assert_eq!(id, Some(7));
    /// assert!(RawJsonRef::parse_fields(r#"{"id":7"#, 64, |_, _| {}).is_err());
    /// # Ok::<(), millstream_core::JsonError>(())
    /// ```
    ///
    /// # Errors
    /// [`JsonError`], but never `Utf8`; a value of another kind is a `Syntax` error.
    pub fn parse_fields(
        text: &'a str,
        depth_max: u32,
        mut visit: impl FnMut(JsonStr<'a>, Self),
    ) -> Result<(), JsonError> {
        let depth_max = depth_max.min(DEPTH_LIMIT);
        let inner = depth_max
            .checked_sub(1)
            .ok_or(JsonError::TooDeep { depth_max })?;
        walk_fields(text, inner, &mut visit).map_err(|fault| fault.error(depth_max))
    }

    pub(crate) const fn trusted(text: &'a str) -> Self {
        Self(text)
    }

    /// Wraps text that the caller has written itself and knows to be exactly one JSON value,
    /// without blanks around it. Saves the scan; debug builds do it all the same.
    ///
    /// Wrong text is no danger to memory, but peers that get it cannot read it.
    ///
    /// # Panics
    /// In debug builds, when the text is not such a value.
    #[must_use]
    pub fn trust(text: &'a str) -> Self {
        debug_assert!(
            Self::parse_str_with_depth(text, DEPTH_LIMIT)
                .is_ok_and(|json| json.0.len() == text.len()),
            "not one JSON value: {text}"
        );
        Self(text)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0.as_bytes()
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// Copies the value into an owned one.
    #[must_use]
    pub fn to_owned(&self) -> RawJson {
        RawJson(ByteString::from(self.0))
    }

    /// What kind of value it is; the first byte decides.
    #[must_use]
    pub fn kind(&self) -> JsonKind {
        match self.0.as_bytes().first() {
            Some(b'{') => JsonKind::Object,
            Some(b'[') => JsonKind::Array,
            Some(b'"') => JsonKind::String,
            Some(b't' | b'f') => JsonKind::Bool,
            Some(b'n') | None => JsonKind::Null,
            Some(_) => JsonKind::Number,
        }
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.kind() == JsonKind::Null
    }

    /// Whether it is a number.
    #[must_use]
    pub fn is_number(&self) -> bool {
        self.kind() == JsonKind::Number
    }

    /// Whether it is a string.
    #[must_use]
    pub fn is_string(&self) -> bool {
        self.kind() == JsonKind::String
    }

    /// Whether it is an array.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.kind() == JsonKind::Array
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.kind() == JsonKind::Object
    }

    /// The value of a boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The value of a number, rounded as JavaScript does (too large is infinite).
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        if self.is_number() {
            self.0.parse().ok()
        } else {
            None
        }
    }

    /// The value of a number written as a plain non-negative integer that fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        if self.is_number() {
            self.0.parse().ok()
        } else {
            None
        }
    }

    /// The string token, if it is a string.
    #[must_use]
    pub fn as_json_str(&self) -> Option<JsonStr<'a>> {
        if !self.is_string() {
            return None;
        }
        Some(JsonStr::trusted(self.0, self.0.as_bytes().contains(&b'\\')))
    }

    /// The value of a field of an object; the last one if there are several of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Self> {
        self.fields()
            .filter(|(key, _)| key.eq_str(name))
            .last()
            .map(|(_, value)| value)
    }

    /// All fields of an object in order, duplicates included; nothing for other values.
    #[must_use]
    pub fn fields(&self) -> Fields<'a> {
        Fields(Members::new(self.0, b'{'))
    }

    /// All elements of an array in order; nothing for other values.
    #[must_use]
    pub fn elements(&self) -> Elements<'a> {
        Elements::of(*self)
    }
}

impl fmt::Debug for RawJsonRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl<'a> From<&'a RawJson> for RawJsonRef<'a> {
    fn from(json: &'a RawJson) -> Self {
        json.get()
    }
}

/// Validates an object whose values are nested at most `inner` deep.
#[inline]
fn walk_fields<'a>(
    text: &'a str,
    inner: u32,
    visit: &mut impl FnMut(JsonStr<'a>, RawJsonRef<'a>),
) -> Result<(), Fault> {
    let bytes = text.as_bytes();
    let mut at = to_next(bytes, behind(bytes, 0, b'{')?);
    if bytes.get(at) != Some(&b'}') {
        loop {
            let key_at = at;
            let key = field_name(bytes, key_at)?;
            let key_end = key.at();
            let start = to_next(bytes, behind(bytes, key_end, b':')?);
            let end = value_end(bytes, start, inner)?;
            visit(
                JsonStr::trusted(&text[key_at..key_end], key.escaped()),
                RawJsonRef(&text[start..end]),
            );
            at = to_next(bytes, end);
            match bytes.get(at) {
                Some(b',') => at = to_next(bytes, at + 1),
                Some(b'}') => break,
                _ => return Err(Fault::at(at)),
            }
        }
    }
    let rest = skip_blanks(bytes, at + 1);
    if rest == bytes.len() {
        Ok(())
    } else {
        Err(Fault::at(rest))
    }
}

/// The fields of an object, see [`RawJsonRef::fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a>(Members<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = (JsonStr<'a>, RawJsonRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let members = &mut self.0;
        let key_at = members.begin()?;
        let end = string_end(members.text.as_bytes(), key_at).ok()?;
        let key_end = end.at();
        let key = JsonStr::trusted(&members.text[key_at..key_end], end.escaped());
        let colon = to_next(members.text.as_bytes(), key_end);
        Some((key, members.value(colon + 1)?))
    }
}

/// Walks over the members of a validated container.
#[derive(Clone, Debug)]
struct Members<'a> {
    text: &'a str,
    /// Just behind the opening bracket or a comma; past the end when done.
    at: usize,
}

impl<'a> Members<'a> {
    fn new(text: &'a str, bracket: u8) -> Self {
        let matches = text.as_bytes().first() == Some(&bracket);
        Self {
            text,
            at: if matches { 1 } else { text.len() },
        }
    }

    /// Where the next member begins.
    fn begin(&self) -> Option<usize> {
        let at = to_next(self.text.as_bytes(), self.at);
        match self.text.as_bytes().get(at) {
            None | Some(b'}' | b']') => None,
            Some(_) => Some(at),
        }
    }

    /// The value at or after `at`; steps over the comma behind it.
    fn value(&mut self, at: usize) -> Option<RawJsonRef<'a>> {
        let bytes = self.text.as_bytes();
        let start = to_next(bytes, at);
        self.take(start, known_value_end(bytes, start)?)
    }

    /// The value that stands there; steps over the comma behind it.
    fn take(&mut self, start: usize, end: usize) -> Option<RawJsonRef<'a>> {
        let bytes = self.text.as_bytes();
        let behind = to_next(bytes, end);
        let comma = bytes.get(behind) == Some(&b',');
        self.at = if comma { behind + 1 } else { self.text.len() };
        self.text.get(start..end).map(RawJsonRef)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_parse_accepts() {
        let deep = "[".repeat(64) + &"]".repeat(64);
        for text in [
            "null",
            " true ",
            "\t\r\n0",
            "-0",
            "1e400",
            "-1.5E-7",
            "123456789012345678901234567890",
            r#""""#,
            r#""\ud800""#,
            "[]",
            "[ ]",
            "{}",
            "{ }",
            "[1 , 2]",
            r#"{"a":{},"a":[]}"#,
            "\"\u{2028}\u{7f}\"",
            r#"{"":""}"#,
            &deep,
        ] {
            assert!(RawJsonRef::parse_str(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn what_json_parse_refuses() {
        for text in [
            "",
            " ",
            "nul",
            "nulll",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e+",
            "-",
            "--1",
            "0x1",
            "NaN",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "[",
            "]",
            "[}",
            "{]",
            "{\"a\":1]",
            "[1}",
            "1 2",
            "\u{feff}1",
            "\u{a0}1",
            "\"a",
            "\"\n\"",
            "{,}",
            "{1:2}",
            "[1,,2]",
            "\"\\u12\"",
            "truefalse",
            "{\"a\" 1}",
            "\u{b}1",
        ] {
            assert!(
                matches!(RawJsonRef::parse_str(text), Err(JsonError::Syntax { .. })),
                "{text:?}"
            );
        }
        assert_eq!(RawJsonRef::parse(b"\"\xff\""), Err(JsonError::Utf8));
    }

    #[test]
    fn one_pass_over_fields_agrees_with_two() {
        let deep = format!(r#"{{"a":{}}}"#, "[".repeat(63) + &"]".repeat(63));
        let deeper = format!(r#"{{"a":{}}}"#, "[".repeat(64) + &"]".repeat(64));
        for text in [
            "{}",
            " { } ",
            r#" { "a" : 1 , "b\u0031":[ ] } "#,
            r#"{"a":1,"a":{"b":2}}"#,
            &deep,
            &deeper,
            r#"{"a":1,}"#,
            r#"{,}"#,
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1"#,
            r#"{"a":1}}"#,
            r#"{"a":1} x"#,
            r#"{"a":1]"#,
            r#"{a:1}"#,
            "[]",
            "1",
            "",
        ] {
            let mut seen = Vec::new();
            let parsed = RawJsonRef::parse_fields(text, DEPTH_MAX, |name, value| {
                seen.push((name.raw(), value));
            });
            let whole = RawJsonRef::parse_str(text);
            match whole {
                Ok(json) if json.is_object() => {
                    let fields: Vec<_> = json.fields().map(|(k, v)| (k.raw(), v)).collect();
                    assert_eq!((parsed, seen), (Ok(()), fields), "{text}");
                }
                Ok(_) => assert!(parsed.is_err(), "{text}"),
                Err(JsonError::TooDeep { .. }) => {
                    assert_eq!(parsed, whole.map(drop), "{text}");
                }
                Err(_) => assert!(parsed.is_err(), "{text}"),
            }
        }
        assert!(RawJsonRef::parse_fields("{}", 0, |_, _| {}).is_err());
    }

    #[test]
    fn depth_is_limited() {
        let nest = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(RawJsonRef::parse_str(&nest(64)).is_ok());
        assert_eq!(
            RawJsonRef::parse_str(&nest(65)),
            Err(JsonError::TooDeep { depth_max: 64 })
        );
        assert!(RawJsonRef::parse_str_with_depth(&nest(128), 1_000).is_ok());
        assert!(RawJsonRef::parse_str_with_depth(&nest(129), 1_000).is_err());
        assert!(RawJsonRef::parse_str_with_depth("1", 0).is_ok());
        assert!(RawJsonRef::parse_str_with_depth("[]", 0).is_err());
        assert!(RawJsonRef::parse_str(&"[".repeat(1_000_000)).is_err());
    }

    #[test]
    fn parts_share_and_strangers_do_not() {
        let whole = RawJson::parse(Bytes::from_static(b"[{\"a\":1},2]")).unwrap();
        let part = whole.get().elements().next().unwrap();
        let shared = whole.share(part).unwrap();
        assert_eq!(shared.as_str(), "{\"a\":1}");
        assert_eq!(shared.as_bytes().as_ptr(), part.as_bytes().as_ptr());
        assert!(whole.share(RawJsonRef::NULL).is_none());
        assert!(shared.share(whole.get()).is_none());
    }

    #[test]
    fn owned_values_share_and_trim() {
        let json = RawJson::parse(Bytes::from_static(b" [1] ")).unwrap();
        assert_eq!(json.as_str(), "[1]");
        assert_eq!(json.get().to_owned(), json);
        assert_eq!(json.into_bytes(), "[1]");
        assert_eq!(RawJson::NULL.get(), RawJsonRef::NULL);
        assert_eq!(
            RawJson::parse(Bytes::from_static(b"x")),
            Err(JsonError::Syntax { at: 0 })
        );
    }

    #[test]
    fn fields_and_elements() {
        let json = RawJsonRef::parse_str(r#"{ "a" : [ 1 , "x,]" ] , "b\n":{"a":2},"a":null }"#);
        let json = json.unwrap();
        let fields: Vec<_> = json.fields().map(|(k, v)| (k.raw(), v.as_str())).collect();
        let want = [
            ("\"a\"", r#"[ 1 , "x,]" ]"#),
            ("\"b\\n\"", r#"{"a":2}"#),
            ("\"a\"", "null"),
        ];
        assert_eq!(fields, want);
        assert_eq!(json.field("a"), Some(RawJsonRef::NULL));
        assert_eq!(json.elements().count(), 0);
        let elements: Vec<_> = json.fields().next().unwrap().1.elements().collect();
        assert_eq!(
            elements.iter().map(RawJsonRef::as_str).collect::<Vec<_>>(),
            ["1", "\"x,]\""]
        );
        assert_eq!(RawJsonRef::NULL.fields().count(), 0);
    }

    #[test]
    fn scalars() {
        let parse = |text| RawJsonRef::parse_str(text).unwrap();
        assert_eq!(parse("1e400").as_f64(), Some(f64::INFINITY));
        assert_eq!(parse("-2.5").as_f64(), Some(-2.5));
        assert_eq!(parse("\"1\"").as_f64(), None);
        assert_eq!(parse("17").as_u64(), Some(17));
        assert_eq!(parse("17.0").as_u64(), None);
        assert_eq!(parse("true").as_bool(), Some(true));
        assert_eq!(parse("\"\\u0061\"").as_json_str().unwrap().to_cow(), "a");
        assert_eq!(parse("{}").kind(), JsonKind::Object);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn serde_values() {
        assert_eq!(
            RawJson::from_serialize(&(1, "a")).unwrap().as_str(),
            r#"[1,"a"]"#
        );
    }
}
