//! A platform that records, and a host that polls.

pub(crate) mod client;
pub(crate) mod world;

use std::any::Any;
use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use millstream_core::{ConnId, Key, Millis, RawJson, RawJsonRef};
use millstream_hub::{
    BatchMember, Delivery, History, Inboxes, Pattern, PolicyTable, PublishError, PublishOptions,
    Published, Publisher, Snapshot, Topics,
};
use millstream_live::{BoxFuture, Caller, Client, Handled, Live, Platform, Reply, User};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Remembers what it was asked to do.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<Value>>, Option<Topics>);

/// Nobody is subscribed.
struct Nobody;

impl Inboxes for Nobody {
    fn push(&self, _: u16, _: Delivery) {}

    fn is_empty(&self, _: u16) -> bool {
        true
    }

    fn is_full(&self, _: u16) -> bool {
        false
    }
}

impl Recorder {
    /// One whose topics, numbered from 1, keep events as they are told to.
    pub(crate) fn keeping(retention: Vec<(Pattern, u32)>) -> Self {
        let keep = |table: PolicyTable, (pattern, events)| table.retaining(pattern, events);
        let policies = retention.into_iter().fold(PolicyTable::default(), keep);
        let topics = Topics::new(1, 0, 100, policies, Arc::default());
        Self(Mutex::default(), Some(topics))
    }

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
        options: PublishOptions,
    ) -> Result<Published, PublishError> {
        let value: Value = serde_json::from_str(data.as_str()).expect("JSON");
        self.0
            .lock()
            .push(json!({"publish": {"topic": topic, "event": event, "data": value}}));
        if let Some(topics) = &self.1 {
            let publisher = Publisher {
                topics,
                inboxes: &Nobody,
                now: Millis::ZERO,
            };
            return publisher.publish(None, topic, event, data, options);
        }
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

    fn position(&self, topic: &str) -> Option<u64> {
        self.1.as_ref()?.position(topic, Millis::ZERO)
    }

    fn since(&self, topic: &str, number: u64) -> Option<History> {
        self.1.as_ref()?.since(topic, number, Millis::ZERO)
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
