//! What a subscribe reply does to the value.

use millstream_core::{RawJson, RawJsonRef};

use crate::{Item, Key, Merge, MergeError, Settings, Shape};

/// A subscribe reply, sorted by what it does to the value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reply<T> {
    /// Nothing happened since the client's version.
    Unchanged,
    /// Items that changed since, and tombstones of those that went.
    Delta(Vec<T>),
    /// Events that were missed, in order.
    Replay(Vec<Missed<T>>),
    /// A channel or derived stream: for those who have no value yet.
    Keep(T),
    /// A new value.
    Full(T),
}

/// An event that was missed.
#[derive(Clone, Debug)]
pub struct Missed<T> {
    /// Its name.
    pub event: Box<str>,
    /// Its data.
    pub data: T,
    /// Its number, if it has one.
    pub seq: Option<u64>,
}

/// Why a reply cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// It is not an object.
    #[error("reply is not an object")]
    NotAnObject,
}

impl Reply<RawJson> {
    /// Reads a reply: `data` with the flags `unchanged`, `delta`, `replay`, `channel`, `derived`,
    /// and what it says about the options. A flag counts if it is `true`.
    ///
    /// # Errors
    /// [`ReplyError`].
    pub fn read(reply: &RawJson) -> Result<(Self, Settings), ReplyError> {
        let object = reply.get();
        if !object.is_object() {
            return Err(ReplyError::NotAnObject);
        }
        let flag = |name| object.field(name).and_then(|value| value.as_bool()) == Some(true);
        let data = object
            .field("data")
            .map_or(RawJson::NULL, |data| part(reply, data));
        let settings = Settings::read(object);
        let is_list = data.get().is_array();
        let read = if flag("unchanged") {
            Self::Unchanged
        } else if flag("delta") && is_list {
            Self::Delta(data.into_rows().unwrap_or_default())
        } else if flag("replay") && is_list {
            let missed = data.into_rows().unwrap_or_default();
            Self::Replay(missed.iter().filter_map(Missed::read).collect())
        } else if flag("channel") || flag("derived") {
            Self::Keep(data)
        } else {
            Self::Full(data)
        };
        Ok((read, settings))
    }
}

impl Missed<RawJson> {
    /// Reads `{event, data, seq}`; `None` without a name.
    fn read(missed: &RawJson) -> Option<Self> {
        let object = missed.get();
        let data = object.field("data");
        Some(Self {
            event: object.field("event")?.as_json_str()?.to_cow().into(),
            data: data.map_or(RawJson::NULL, |data| part(missed, data)),
            seq: object.field("seq").and_then(|seq| seq.as_u64()),
        })
    }
}

impl<T: Item> Merge<T> {
    /// Takes a subscribe reply. Call [`adopt`](Self::adopt) with its settings first. Says whether
    /// readers should hear of it.
    ///
    /// Items and events of a delta or replay that are refused (see [`apply`](Self::apply)) are
    /// left out and counted.
    ///
    /// # Cost
    /// Linear in the reply and in the list.
    ///
    /// # Errors
    /// A value over the [`Limits`](crate::Limits); the old one stays.
    pub fn handle_reply(&mut self, reply: Reply<T>) -> Result<bool, MergeError> {
        match reply {
            Reply::Unchanged => return Ok(false),
            Reply::Delta(rows) => {
                for row in rows {
                    let event = self.delta_event(&row);
                    // Refusals are counted, and end in `is_behind` where that matters.
                    let _ = self.apply(event, row);
                }
            }
            Reply::Replay(missed) => {
                for Missed { event, data, .. } in missed {
                    let _ = self.apply(&event, data);
                }
            }
            Reply::Keep(value) => {
                if matches!(self.shape(), Shape::Undefined) {
                    self.load(value)?;
                }
            }
            Reply::Full(value) => self.load(value)?,
        }
        self.rebuild();
        Ok(true)
    }

    fn delta_event(&self, row: &T) -> &'static str {
        if row.is_tombstone() {
            return "deleted";
        }
        let key = self.key_of(row);
        let known = !matches!(key, Key::Opaque) && self.find(key).is_some();
        if known { "updated" } else { "created" }
    }
}

fn part(whole: &RawJson, part: RawJsonRef<'_>) -> RawJson {
    whole.share(part).unwrap_or_else(|| part.to_owned())
}
