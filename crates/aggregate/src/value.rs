//! What a field shows.

use millstream_core::{JsonKind, RawJsonRef};

use crate::js;

/// The value of a field: a number, or JSON text that nobody has to decode.
///
/// Numbers are 64-bit floats, as in JavaScript: whole numbers are exact up to 2^53, and what is not
/// finite shows as `null`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// There is no such field (JavaScript's `undefined`).
    #[default]
    Absent,
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(f64),
    /// A string, as a JSON token with its quotes.
    Text(Box<str>),
    /// An array or object, as JSON text.
    Json(Box<str>),
}

impl Value {
    /// Takes over a JSON value. Numbers become floats.
    #[must_use]
    pub fn from_json(json: RawJsonRef<'_>) -> Self {
        match json.kind() {
            JsonKind::Null => Self::Null,
            JsonKind::Bool => Self::Bool(json.as_str() == "true"),
            JsonKind::Number => Self::Number(js::parse_number(json.as_str())),
            JsonKind::String => Self::Text(json.as_str().into()),
            JsonKind::Array | JsonKind::Object => Self::Json(json.as_str().into()),
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub const fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether there is nothing to combine: absent or `null`.
    pub(crate) const fn is_missing(&self) -> bool {
        matches!(self, Self::Absent | Self::Null)
    }

    /// Text held on the heap.
    pub(crate) const fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Json(text) => text.len(),
            _ => 0,
        }
    }

    /// Appends it as JSON; false if there is no such field.
    #[inline]
    pub(crate) fn write(&self, out: &mut String) -> bool {
        match self {
            Self::Number(number) => js::write_number(out, *number),
            Self::Absent => return false,
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Text(text) | Self::Json(text) => out.push_str(text),
        }
        true
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(js::quote(text).into())
    }
}
