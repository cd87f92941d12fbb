//! What the benchmarks share.

use std::io::IoSlice;
use std::sync::Arc;

use millstream_core::{Key, Millis, RawJsonRef};
use millstream_hub::{
    Delivery, Hub, HubConfig, Inboxes, PublishOptions, Publisher, Sink, Topics, Wrote,
};

/// Sockets that take everything and cost nothing.
#[derive(Debug, Default)]
pub struct Void {
    /// Bytes taken, so that nothing is optimised away.
    pub bytes: usize,
}

impl Sink for Void {
    fn send(&mut self, _: Key, bytes: &[u8]) -> Wrote {
        self.bytes += bytes.len();
        Wrote::Bytes(bytes.len())
    }

    fn send_vectored(&mut self, _: Key, parts: &[IoSlice<'_>]) -> Wrote {
        let bytes = parts.iter().map(|part| part.len()).sum();
        self.bytes += bytes;
        Wrote::Bytes(bytes)
    }
}

/// No other workers.
#[derive(Debug)]
pub struct Alone;

impl Inboxes for Alone {
    fn push(&self, _: u16, _: Delivery) {}

    fn is_empty(&self, _: u16) -> bool {
        true
    }

    fn is_full(&self, _: u16) -> bool {
        false
    }
}

/// A hub whose connections all hold the topic `room`.
#[derive(Debug)]
pub struct Room {
    hub: Hub,
    topics: Arc<Topics>,
    sink: Void,
}

impl Room {
    /// A room of that size, warmed up.
    ///
    /// # Panics
    /// When the hub refuses, which it does not.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        let mut hub = Hub::single(HubConfig::default());
        for _ in 0..connections {
            let conn = hub.open(None, Millis::ZERO).expect("no limit is reached");
            assert!(hub.subscribe_unchecked(conn, "room"), "no limit is reached");
        }
        let topics = Arc::clone(hub.topics());
        let mut room = Self {
            hub,
            topics,
            sink: Void::default(),
        };
        room.turn(1);
        room
    }

    /// One turn with so many publishes. Gives the bytes written so far.
    ///
    /// # Panics
    /// When the hub refuses, which it does not.
    pub fn turn(&mut self, publishes: usize) -> usize {
        let data = RawJsonRef::parse(DATA).expect("valid");
        let publisher = Publisher {
            topics: &self.topics,
            inboxes: &Alone,
            now: Millis::ZERO,
        };
        for _ in 0..publishes {
            let options = PublishOptions::default();
            publisher
                .publish(Some(&mut self.hub), "room", "created", data, options)
                .expect("published");
        }
        self.hub.flush(&mut self.sink);
        self.sink.bytes
    }
}

/// 64 bytes of payload.
pub const DATA: &[u8] = br#"{"id":123456,"text":"a payload of sixty-four bytes exactly ....."}"#;
