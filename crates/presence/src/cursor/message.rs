//! What clients say about cursors.

use std::borrow::Cow;

use millstream_core::RawJsonRef;

/// A message of the browser's cursor store.
///
/// Whoever handles it checks that the connection may: taps of `__cursor:<topic>` are given by the
/// server alone, so whoever has one may also move there.
///
/// # Example
/// ```
/// use millstream_presence::CursorMessage;
///
/// let text = r#"{"type":"cursor","topic":"canvas","data":{"x":5}}"#;
/// let Some(CursorMessage::Update { topic, data }) = CursorMessage::parse(text) else { panic!() };
/// assert_eq!((&*topic, data.unwrap().as_str()), ("canvas", r#"{"x":5}"#));
/// assert!(CursorMessage::parse(r#"{"type":"chat"}"#).is_none());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CursorMessage<'a> {
    /// `{"type":"cursor","topic":T,"data":D}`; `position` stands in for a missing or null `data`.
    Update {
        /// The topic, as sent.
        topic: Cow<'a, str>,
        /// The value, if there is any.
        data: Option<RawJsonRef<'a>>,
    },
    /// `{"type":"cursor-snapshot","topic":T}`.
    Snapshot {
        /// The topic, as sent.
        topic: Cow<'a, str>,
    },
}

impl<'a> CursorMessage<'a> {
    /// Reads a message; `None` when it is something else.
    ///
    /// # Cost
    /// Linear.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let message = RawJsonRef::parse_str_with_depth(text, u32::MAX).ok()?;
        let kind = message.field("type")?.as_json_str()?;
        let topic = || Some(message.field("topic")?.as_json_str()?.to_cow());
        if kind.eq_str("cursor") {
            let data = message.field("data").filter(|data| !data.is_null());
            let data = data.or_else(|| message.field("position"));
            return Some(Self::Update {
                topic: topic()?,
                data,
            });
        }
        if kind.eq_str("cursor-snapshot") {
            return Some(Self::Snapshot { topic: topic()? });
        }
        None
    }

    /// The topic, as sent.
    #[must_use]
    pub fn topic(&self) -> &str {
        match self {
            Self::Update { topic, .. } | Self::Snapshot { topic } => topic,
        }
    }
}
