//! A client whose messages may be refused, and a host that runs what they start.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_core::{ConnId, RawJsonRef};
use millstream_live::{App, Caller, Handled, Live, User};
use millstream_wire::{UploadChunk, encode_cancel, encode_chunk};
use serde_json::Value;

use super::Recorder;

/// An application, the platform below it, and one connection.
pub(crate) struct Rig<S, U> {
    pub(crate) live: Live<S, U>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) caller: Caller<U>,
    /// What was not read because reading is paused.
    unread: VecDeque<Vec<u8>>,
}

impl<S: Send + Sync + 'static, U: User> Rig<S, U> {
    pub(crate) fn new(app: App<S, U>, user: U) -> Self {
        let recorder = Arc::new(Recorder::default());
        Self {
            live: Live::new(app, Arc::clone(&recorder) as _),
            recorder,
            caller: super::caller(Some(user)),
            unread: VecDeque::new(),
        }
    }

    pub(crate) fn conn(&self) -> ConnId {
        self.caller.conn.expect("a connection")
    }

    /// A message arrives; whether it was claimed. Nothing is polled yet.
    pub(crate) fn receive(&mut self, message: &[u8]) -> bool {
        if self.recorder.is_paused(self.conn()) || !self.unread.is_empty() {
            self.unread.push_back(message.to_vec());
            return true;
        }
        self.read(message)
    }

    fn read(&self, message: &[u8]) -> bool {
        let Handled::Claimed(running) = self.live.handle_message(&self.caller, message) else {
            return false;
        };
        let recorder = Arc::clone(&self.recorder);
        millstream_live::Platform::spawn(
            &*self.recorder,
            Box::pin(async move {
                if let Some(reply) = running.await {
                    recorder.note(&reply);
                }
            }),
        );
        true
    }

    /// Lets time pass and everything run.
    pub(crate) fn pass(&mut self, ms: u64) {
        for _ in 0..=ms {
            self.recorder.pass(u64::from(ms > 0));
            while !self.recorder.is_paused(self.conn())
                && let Some(message) = self.unread.pop_front()
            {
                self.read(&message);
                self.recorder.run();
            }
        }
        self.recorder.run();
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
        self.recorder.replies()
    }
}
