//! Raw JSON inside values of serde, for serializers and deserializers of `serde_json`.

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::validate::DEPTH_LIMIT;
use super::{RawJson, RawJsonRef};

/// Passes the text through. Costs one more validation.
impl Serialize for RawJsonRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.as_str()).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Passes the text through. Costs one more validation.
impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

/// Takes the text as it stands, one copy, nested at most 128 deep.
///
/// ```
/// use millstream_core::RawJson;
///
/// let rows: Vec<RawJson> = serde_json::from_str("[1.0, {\"a\": 1e400}]")?;
/// assert_eq!(rows[1].as_str(), "{\"a\": 1e400}");
/// assert_eq!(serde_json::to_string(&rows)?, "[1.0,{\"a\": 1e400}]");
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = String::from(Box::<str>::from(raw));
        Self::parse_text(text.into(), DEPTH_LIMIT).map_err(D::Error::custom)
    }
}
