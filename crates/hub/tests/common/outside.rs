//! What is around the hub: choices, other threads, sockets.

use std::collections::HashMap;

use millstream_core::Key;
use millstream_hub::{Delivery, Inboxes, Sink, Wrote};

use super::belief::TOPICS;

/// Bytes as a source of choices; zeros when they run out.
pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

impl Choices<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }

    pub(crate) fn topic(&mut self) -> &'static str {
        TOPICS[self.below(TOPICS.len())].0
    }
}

/// Nobody else publishes.
pub(crate) struct NoInboxes;

impl Inboxes for NoInboxes {
    fn push(&self, _: u16, _: Delivery) {
        panic!("there is one worker, and it drains as it goes");
    }

    fn is_empty(&self, _: u16) -> bool {
        true
    }

    fn is_full(&self, _: u16) -> bool {
        false
    }
}

/// Sockets that take what they like.
#[derive(Default)]
pub(crate) struct Wires {
    pub(crate) received: HashMap<Key, Vec<u8>>,
    /// Bytes each socket still takes; absent: everything.
    pub(crate) room: HashMap<Key, usize>,
    pub(crate) broken: Vec<Key>,
}

impl Sink for Wires {
    fn send(&mut self, conn: Key, bytes: &[u8]) -> Wrote {
        if self.broken.contains(&conn) {
            return Wrote::Failed;
        }
        let room = self.room.get_mut(&conn);
        let taken = room
            .as_ref()
            .map_or(bytes.len(), |room| bytes.len().min(**room));
        if let Some(room) = room {
            *room -= taken;
        }
        self.received
            .entry(conn)
            .or_default()
            .extend_from_slice(&bytes[..taken]);
        Wrote::Bytes(taken)
    }

    fn send_vectored(&mut self, conn: Key, parts: &[std::io::IoSlice<'_>]) -> Wrote {
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.send(conn, &joined)
    }
}
