//! The first chunk's header.

use std::borrow::Cow;

use millstream_core::RawJson;

/// What an upload is for: `{"rpc", "args"?, "offset"?}`, kept as it came.
///
/// `offset` is an extension that clients of the original never send: see
/// [`Terms::continue_from`](crate::Terms::continue_from).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header(RawJson);

impl Header {
    /// Wraps any JSON.
    #[must_use]
    pub const fn new(json: RawJson) -> Self {
        Self(json)
    }

    /// Which function; `None` unless there is a text.
    #[must_use]
    pub fn path(&self) -> Option<Cow<'_, str>> {
        Some(self.0.get().field("rpc")?.as_json_str()?.to_cow())
    }

    /// The arguments if they are a list; anything else counts as none.
    #[must_use]
    pub fn args(&self) -> Option<RawJson> {
        let args = self.0.get().field("args").filter(|args| args.is_array())?;
        Some(args.to_owned())
    }

    /// Where in the whole the first payload begins; `None` when the client does not say so.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.get().field("offset")?.as_u64()
    }

    /// The whole header.
    #[must_use]
    pub const fn json(&self) -> &RawJson {
        &self.0
    }
}
