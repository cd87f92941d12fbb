//! A platform that records, and a host that polls.

use std::any::Any;
use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use millstream_core::{ConnId, Key, Millis, RawJson, RawJsonRef};
use millstream_hub::{BatchMember, History, PublishError, PublishOptions, Published, Snapshot};
use millstream_live::{BoxFuture, Caller, Client, Handled, Live, Platform, Reply, User};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Remembers what it was asked to do.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<Value>>);

impl Recorder {
    pub(crate) fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Platform for Recorder {
    fn publish(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        _: PublishOptions,
    ) -> Result<Published, PublishError> {
        let data: Value = serde_json::from_str(data.as_str()).expect("JSON");
        self.0
            .lock()
            .push(json!({"publish": {"topic": topic, "event": event, "data": data}}));
        Ok(Published {
            delivered: true,
            seq: None,
            queued: false,
        })
    }

    fn publish_batched(&self, members: &[BatchMember<'_>]) -> Result<Vec<Published>, PublishError> {
        members
            .iter()
            .map(|one| self.publish(one.topic, one.event, one.data, PublishOptions::default()))
            .collect()
    }

    fn send(&self, _: ConnId, topic: &str, event: &str, data: RawJson) {
        let data: Value = serde_json::from_str(data.as_str()).expect("JSON");
        self.0
            .lock()
            .push(json!({"send": {"topic": topic, "event": event, "data": data}}));
    }

    fn subscribe(&self, _: ConnId, topic: &str) -> BoxFuture<Result<(), String>> {
        let refused = match topic {
            "deny:f" => Some("FORBIDDEN"),
            "deny:u" => Some("UNAUTHENTICATED"),
            "deny:k" => Some("KYC_PENDING"),
            "closed" => Some("CONNECTION_CLOSED"),
            _ => None,
        };
        let note = match refused {
            None => Some(json!({ "subscribe": topic })),
            Some("CONNECTION_CLOSED") => None,
            Some(reason) => Some(json!({"denied": {"topic": topic, "reason": reason}})),
        };
        self.0.lock().extend(note);
        Box::pin(ready(
            refused.map_or(Ok(()), |reason| Err(reason.to_owned())),
        ))
    }

    fn unsubscribe(&self, _: ConnId, topic: &str) -> BoxFuture<()> {
        self.0.lock().push(json!({ "unsubscribe": topic }));
        Box::pin(ready(()))
    }

    fn subscribers(&self, _: &str) -> u64 {
        0
    }

    fn position(&self, _: &str) -> Option<u64> {
        None
    }

    fn since(&self, _: &str, _: u64) -> Option<History> {
        None
    }

    fn now(&self) -> Millis {
        Millis::ZERO
    }

    fn sleep(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(pending())
    }

    fn spawn(&self, work: BoxFuture<()>) {
        let _ = finish(work);
    }

    fn pressure(&self) -> Arc<Snapshot> {
        Arc::default()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Somebody at a documentation address.
struct Somebody<U>(Option<U>);

impl<U: User> Client<U> for Somebody<U> {
    fn user(&self) -> Option<&U> {
        self.0.as_ref()
    }

    fn remote_address(&self) -> String {
        "192.0.2.1".to_owned()
    }

    fn request_id(&self) -> String {
        "r-1".to_owned()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A caller on a connection of its own.
pub(crate) fn caller<U: User>(user: Option<U>) -> Caller<U> {
    let key = Key {
        index: 1,
        generation: 1,
    };
    Caller {
        conn: Some(ConnId::new(0, key)),
        client: Arc::new(Somebody(user)),
    }
}

/// Polls a few times; what is not ready then waits for something that does not come.
pub(crate) fn finish<T>(mut future: Pin<Box<dyn Future<Output = T> + Send>>) -> Option<T> {
    let mut cx = Context::from_waker(Waker::noop());
    (0..1_000).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    })
}

/// Claimed or not, and the reply.
pub(crate) fn ask<S: Send + Sync + 'static, U: User>(
    live: &Live<S, U>,
    caller: &Caller<U>,
    message: &[u8],
) -> (bool, Option<Reply>) {
    match live.handle_message(caller, message) {
        Handled::Unclaimed => (false, None),
        Handled::Claimed(future) => (true, finish(future).expect("nothing here waits")),
    }
}
