//! What the engines ask their host to do.

use bytes::Bytes;
use millstream_core::ConnId;

use crate::Snapshot;

/// Takes down what an engine wants done.
///
/// The engines have changed their state before they call, never ask for an answer, and must not
/// be called from inside: implementations record and return. Topics and events need no escaping,
/// they hold no quote, backslash or control character. Effects are to be performed in the order
/// in which they were recorded.
pub trait Effects {
    /// The connection shall receive what is published on `topic`: a subscription by the server
    /// itself, past all gates, that the client does not know of. Repeating it changes nothing.
    fn tap(&mut self, conn: ConnId, topic: &str);

    /// Ends a tap. The connection may be gone already.
    fn untap(&mut self, conn: ConnId, topic: &str);

    /// An event for all who tapped `topic`.
    fn publish(&mut self, topic: &str, event: &str, data: &Data<'_>);

    /// An event for one connection.
    fn send(&mut self, conn: ConnId, topic: &str, event: &str, data: &Data<'_>);
}

/// The `data` of an event: one JSON value in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    pieces: &'a [&'a [u8]],
    shared: Option<&'a Bytes>,
    snapshot: Option<&'a Snapshot>,
}

impl<'a> Data<'a> {
    pub(crate) const fn pieces(pieces: &'a [&'a [u8]]) -> Self {
        Self {
            pieces,
            shared: None,
            snapshot: None,
        }
    }

    pub(crate) const fn shared(bytes: &'a Bytes) -> Self {
        Self {
            pieces: &[],
            shared: Some(bytes),
            snapshot: None,
        }
    }

    pub(crate) const fn of_snapshot(snapshot: &'a Snapshot) -> Self {
        Self {
            pieces: &[],
            shared: None,
            snapshot: Some(snapshot),
        }
    }

    /// The pieces in order: to be copied into a frame.
    pub fn parts(&self) -> impl Iterator<Item = &'a [u8]> {
        let pieces = self.pieces.iter().copied();
        let shared = self.shared.into_iter().map(|bytes| &bytes[..]);
        let snapshot = self.snapshot.into_iter().flat_map(Snapshot::parts);
        pieces.chain(shared).chain(snapshot)
    }

    /// Bytes of all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        match (self.shared, self.snapshot) {
            (Some(bytes), _) => bytes.len(),
            (_, Some(snapshot)) => snapshot.len(),
            _ => self.pieces.iter().map(|piece| piece.len()).sum(),
        }
    }

    /// Never: the shortest JSON value has one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value, owned. Lists of people and data of the application are shared, not copied.
    #[must_use]
    pub fn to_owned(&self) -> OwnedData {
        match (self.shared, self.snapshot) {
            (Some(bytes), _) => OwnedData::Text(bytes.clone()),
            (_, Some(snapshot)) => OwnedData::List(snapshot.clone()),
            _ => OwnedData::Text(self.to_vec().into()),
        }
    }

    /// All pieces copied into one text.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        self.parts().for_each(|part| out.extend_from_slice(part));
        out
    }
}

/// [`Data`] to keep.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OwnedData {
    /// In one piece.
    Text(Bytes),
    /// A roster or a list of members, shared with the engine.
    List(Snapshot),
}

impl OwnedData {
    /// All pieces copied into one text.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Self::Text(bytes) => bytes.to_vec(),
            Self::List(snapshot) => snapshot.to_vec(),
        }
    }
}

/// One thing to do, owned.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the fields are those of the methods of `Effects`"
)]
pub enum Effect {
    /// See [`Effects::tap`].
    Tap { conn: ConnId, topic: Box<str> },
    /// See [`Effects::untap`].
    Untap { conn: ConnId, topic: Box<str> },
    /// See [`Effects::publish`].
    Publish {
        topic: Box<str>,
        event: Box<str>,
        data: OwnedData,
    },
    /// See [`Effects::send`].
    Send {
        conn: ConnId,
        topic: Box<str>,
        event: Box<str>,
        data: OwnedData,
    },
}

/// Keeps everything, in order. Good for tests and for hosts that are not in a hurry.
impl Effects for Vec<Effect> {
    fn tap(&mut self, conn: ConnId, topic: &str) {
        self.push(Effect::Tap {
            conn,
            topic: topic.into(),
        });
    }

    fn untap(&mut self, conn: ConnId, topic: &str) {
        self.push(Effect::Untap {
            conn,
            topic: topic.into(),
        });
    }

    fn publish(&mut self, topic: &str, event: &str, data: &Data<'_>) {
        self.push(Effect::Publish {
            topic: topic.into(),
            event: event.into(),
            data: data.to_owned(),
        });
    }

    fn send(&mut self, conn: ConnId, topic: &str, event: &str, data: &Data<'_>) {
        self.push(Effect::Send {
            conn,
            topic: topic.into(),
            event: event.into(),
            data: data.to_owned(),
        });
    }
}
