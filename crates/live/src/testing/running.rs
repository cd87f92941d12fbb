//! The calls of a connection that wait for something, so that a test can drop them.

use std::sync::{Arc, Weak};

use futures_util::future::{AbortHandle, abortable};
use millstream_core::JsonStr;
use millstream_wire::{BatchEntry, BinaryFrame, CallFrame, recognise_binary, recognise_call};

use crate::handler::BoxFuture;
use crate::reply::Reply;

/// Messages whose calls are not finished.
#[derive(Default)]
pub(super) struct Running(Vec<Message>);

struct Message {
    /// The ids of its calls; gone when the message is finished.
    ids: Weak<Vec<String>>,
    handle: AbortHandle,
}

impl Running {
    /// The same work, which can be dropped from outside. Then it gives no reply.
    pub(super) fn add(
        &mut self,
        message: &[u8],
        work: BoxFuture<Option<Reply>>,
    ) -> BoxFuture<Option<Reply>> {
        self.0.retain(|message| message.ids.strong_count() > 0);
        let (work, handle) = abortable(work);
        let ids = Arc::new(ids(message));
        self.0.push(Message {
            ids: Arc::downgrade(&ids),
            handle,
        });
        Box::pin(async move {
            let reply = work.await.unwrap_or(None);
            drop(ids);
            reply
        })
    }

    pub(super) fn drop_call(&self, id: &str) -> bool {
        let asked = |message: &&Message| {
            let ids = message.ids.upgrade();
            ids.is_some_and(|ids| ids.iter().any(|other| other == id))
        };
        let found = self.0.iter().find(asked);
        found.inspect(|found| found.handle.abort()).is_some()
    }
}

/// The names under which a client waits for what it has asked in a message.
fn ids(message: &[u8]) -> Vec<String> {
    let text = |id: JsonStr<'_>| id.to_cow().into_owned();
    match recognise_binary(message) {
        Some(BinaryFrame::Call(call)) => return vec![text(call.id)],
        Some(BinaryFrame::Chunk(chunk)) => return vec![format!("{:08x}", chunk.upload)],
        _ => {}
    }
    let message = String::from_utf8_lossy(message);
    match recognise_call(&message) {
        Some(CallFrame::Call(call)) => call.id.map(text).into_iter().collect(),
        Some(CallFrame::Batch(batch)) => {
            let entries = batch.entries().filter_map(|entry| match entry {
                BatchEntry::Call(call) => call.id,
                BatchEntry::Malformed { id } => id.and_then(|id| id.as_json_str()),
            });
            entries.map(text).collect()
        }
        _ => Vec::new(),
    }
}
