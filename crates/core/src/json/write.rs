//! JSON put together from parts that are JSON already: nothing is parsed again.

use bytestring::ByteString;

use super::{RawJson, RawJsonRef};
use crate::write_json_str;

/// Writes an object member by member.
///
/// Names are not checked for duplicates, and nesting adds one level to that of the values: keep
/// wrappers few, readers stop at 128 levels.
///
/// # Cost
/// One copy of every part.
///
/// ```
/// use millstream_core::{ObjectWriter, RawJsonRef};
///
/// let rows = RawJsonRef::parse_str("[1e400, 2]")?;
/// let mut reply = ObjectWriter::new();
/// reply.text("id", "k\"1").raw("ok", RawJsonRef::TRUE).raw("data", rows);
/// assert_eq!(reply.finish().as_str(), r#"{"id":"k\"1","ok":true,"data":[1e400, 2]}"#);
/// # Ok::<(), millstream_core::JsonError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ObjectWriter(String);

impl ObjectWriter {
    /// An object without members.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(64)
    }

    /// An object without members and room for that many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let mut text = String::with_capacity(bytes.max(2));
        text.push('{');
        Self(text)
    }

    /// Adds a member.
    pub fn raw(&mut self, name: &str, value: RawJsonRef<'_>) -> &mut Self {
        self.name(name);
        self.0.push_str(value.as_str());
        self
    }

    /// Adds a member that is text.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.name(name);
        push_text(&mut self.0, value);
        self
    }

    /// Adds a member that is a whole number.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.name(name);
        self.0.push_str(&value.to_string());
        self
    }

    /// The finished object.
    #[must_use]
    pub fn finish(mut self) -> RawJson {
        self.0.push('}');
        RawJson(ByteString::from(self.0))
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        push_text(&mut self.0, name);
        self.0.push(':');
    }
}

impl Default for ObjectWriter {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes a list element by element.
///
/// ```
/// use millstream_core::{ListWriter, RawJsonRef};
///
/// let mut list = ListWriter::new();
/// list.push(RawJsonRef::NULL).push(RawJsonRef::TRUE);
/// assert_eq!(list.finish().as_str(), "[null,true]");
/// ```
#[derive(Debug, Clone)]
pub struct ListWriter(String);

impl ListWriter {
    /// A list without elements.
    #[must_use]
    pub fn new() -> Self {
        Self(String::from("["))
    }

    /// Adds an element.
    pub fn push(&mut self, value: RawJsonRef<'_>) -> &mut Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(value.as_str());
        self
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no elements yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len() == 1
    }

    /// The finished list.
    #[must_use]
    pub fn finish(mut self) -> RawJson {
        self.0.push(']');
        RawJson(ByteString::from(self.0))
    }
}

impl Default for ListWriter {
    fn default() -> Self {
        Self::new()
    }
}

fn push_text(out: &mut String, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return;
    }
    let mut escaped = Vec::new();
    write_json_str(&mut escaped, text);
    // Escaping only adds ASCII, so the text stays what it was: UTF-8.
    out.push_str(&String::from_utf8_lossy(&escaped));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_parses_as_what_was_meant() {
        let mut object = ObjectWriter::with_capacity(0);
        object
            .text("a\n", "say \"hi\" \u{2028}\u{0}")
            .number("n", u64::MAX)
            .raw("l", ListWriter::new().finish().get());
        let json = object.finish();
        assert_eq!(json, RawJson::parse(json.clone().into_bytes()).unwrap());
        assert_eq!(json.get().field("n").unwrap().as_u64(), Some(u64::MAX));
        let text = json.get().field("a\n").unwrap().as_json_str().unwrap();
        assert_eq!(text.to_cow(), "say \"hi\" \u{2028}\u{0}");
        assert_eq!(json.get().field("l").unwrap().as_str(), "[]");
        assert_eq!(ObjectWriter::new().finish().as_str(), "{}");
    }

    #[test]
    fn lists_grow_by_elements() {
        let mut list = ListWriter::new();
        assert!(list.is_empty());
        list.push(RawJsonRef::NULL);
        assert!(!list.is_empty());
        assert_eq!(list.len(), 5);
    }
}
