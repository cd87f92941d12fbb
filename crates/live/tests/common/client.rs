//! A client of uploads: frames in, and a host that runs what they start.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_core::{ConnId, RawJsonRef};
use millstream_live::{App, Caller, Handled, Live, User};
use millstream_wire::{UploadChunk, encode_cancel, encode_chunk};
use serde_json::Value;

use super::world::World;

/// An application, the world below it, and one connection.
pub(crate) struct Rig<S, U> {
    pub(crate) live: Live<S, U>,
    pub(crate) world: Arc<World>,
    pub(crate) caller: Caller<U>,
    /// What was not read because reading is paused.
    unread: VecDeque<Vec<u8>>,
}

impl<S: Send + Sync + 'static, U: User> Rig<S, U> {
    pub(crate) fn new(app: App<S, U>, user: U) -> Self {
        let world = Arc::new(World::default());
        Self {
            live: Live::new(app, Arc::clone(&world) as _),
            world,
            caller: super::caller(Some(user)),
            unread: VecDeque::new(),
        }
    }

    pub(crate) fn conn(&self) -> ConnId {
        self.caller.conn.expect("a connection")
    }

    /// A message arrives; whether it was claimed. Nothing is polled yet.
    pub(crate) fn receive(&mut self, message: &[u8]) -> bool {
        if self.world.is_paused(self.conn()) || !self.unread.is_empty() {
            self.unread.push_back(message.to_vec());
            return true;
        }
        self.read(message)
    }

    fn read(&self, message: &[u8]) -> bool {
        let Handled::Claimed(running) = self.live.handle_message(&self.caller, message) else {
            return false;
        };
        let world = Arc::clone(&self.world);
        millstream_live::Platform::spawn(
            &*self.world,
            Box::pin(async move {
                if let Some(reply) = running.await {
                    world.note(&reply);
                }
            }),
        );
        true
    }

    /// Lets time pass and everything run.
    pub(crate) fn pass(&mut self, ms: u64) {
        for _ in 0..=ms {
            self.world.pass(u64::from(ms > 0));
            while !self.world.is_paused(self.conn())
                && let Some(message) = self.unread.pop_front()
            {
                self.read(&message);
                self.world.run();
            }
        }
        self.world.run();
    }

    pub(crate) fn chunk(&mut self, upload: u32, number: u32, last: bool, payload: &[u8]) {
        let mut frame = Vec::new();
        let header = (number == 0).then_some(r#"{"rpc":"up/run","args":["a"]}"#);
        let header = header.map(|text| RawJsonRef::parse_str(text).expect("JSON"));
        let chunk = UploadChunk {
            upload,
            number,
            last,
            header,
            payload,
        };
        encode_chunk(&mut frame, &chunk).expect("a short header");
        assert!(self.receive(&frame));
    }

    pub(crate) fn cancel(&mut self, upload: u32) {
        let mut frame = Vec::new();
        encode_cancel(&mut frame, upload);
        assert!(self.receive(&frame));
    }

    /// The replies so far, after everything has run.
    pub(crate) fn replies(&mut self) -> Vec<Value> {
        self.pass(0);
        self.world.replies()
    }
}
