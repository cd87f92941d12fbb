//! The one platform of the tests that have to look behind it: what an application asks of the
//! engine, in order; which futures were woken; what is left when everything has ended. Everything
//! else is tested with `millstream_live::testing`, as authors do.

pub(crate) mod client;

use std::any::Any;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use millstream_core::{ConnId, Key, Millis, RawJson, RawJsonRef};
use millstream_hub::{
    BatchMember, Delivery, History, Inboxes, Pattern, PolicyTable, PublishError, PublishOptions,
    Published, Publisher, Snapshot, Topics,
};
use millstream_live::{BoxFuture, Caller, Client, Handled, Live, Platform, Reply, User};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Remembers what it was asked to do. Time stands still until it is moved, and only tasks that
/// were woken are polled.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    parts: Mutex<Parts>,
    topics: Option<Topics>,
}

#[derive(Default)]
struct Parts {
    effects: Vec<Value>,
    replies: Vec<Value>,
    now: u64,
    timers: Vec<(u64, Arc<Fired>)>,
    tasks: Vec<(BoxFuture<()>, Arc<Flag>)>,
    paused: Vec<ConnId>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Fired {
    done: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

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
        Self {
            topics: Some(topics),
            ..Self::default()
        }
    }

    /// What it was asked to do since the last time.
    pub(crate) fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.parts.lock().effects)
    }

    fn effect(&self, effect: Value) {
        self.parts.lock().effects.push(effect);
    }

    /// Polls everything that was woken until nothing is.
    pub(crate) fn run(&self) {
        loop {
            let tasks = std::mem::take(&mut self.parts.lock().tasks);
            let mut quiet = true;
            for (mut task, flag) in tasks {
                let woken = flag.0.swap(false, Ordering::Relaxed);
                quiet &= !woken;
                let waker = Waker::from(Arc::clone(&flag));
                let mut cx = Context::from_waker(&waker);
                if !woken || task.as_mut().poll(&mut cx).is_pending() {
                    self.parts.lock().tasks.push((task, flag));
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Lets time pass, timer by timer.
    pub(crate) fn pass(&self, ms: u64) {
        let until = self.parts.lock().now + ms;
        loop {
            self.run();
            let mut parts = self.parts.lock();
            let next = parts.timers.iter().map(|(at, _)| *at).min();
            let Some(at) = next.filter(|at| *at <= until) else {
                parts.now = until;
                return;
            };
            parts.now = parts.now.max(at);
            let due: Vec<_> = parts.timers.extract_if(.., |(due, _)| *due <= at).collect();
            drop(parts);
            for (_, fired) in due {
                fired.done.store(true, Ordering::Relaxed);
                if let Some(waker) = fired.waker.lock().take() {
                    waker.wake();
                }
            }
        }
    }

    /// Notes a reply that a message's future gave.
    pub(crate) fn note(&self, reply: &Reply) {
        let data: Value = serde_json::from_str(reply.data.as_str()).expect("JSON");
        let note = json!({"topic": reply.topic, "event": reply.event.as_str(), "data": data});
        self.parts.lock().replies.push(note);
    }

    pub(crate) fn replies(&self) -> Vec<Value> {
        std::mem::take(&mut self.parts.lock().replies)
    }

    pub(crate) fn is_paused(&self, conn: ConnId) -> bool {
        self.parts.lock().paused.contains(&conn)
    }

    /// Tasks that have not ended.
    pub(crate) fn tasks(&self) -> usize {
        self.parts.lock().tasks.len()
    }
}

struct Timer(Arc<Fired>);

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.done.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        *self.0.waker.lock() = Some(cx.waker().clone());
        Poll::Pending
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
        self.effect(json!({"publish": {"topic": topic, "event": event, "data": value}}));
        if let Some(topics) = &self.topics {
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
        self.effect(json!({"send": {"topic": topic, "event": event, "data": data}}));
    }

    fn reply(&self, _: ConnId, reply: Reply) {
        self.note(&reply);
    }

    fn set_reading(&self, conn: ConnId, on: bool) {
        let paused = &mut self.parts.lock().paused;
        assert_eq!(paused.contains(&conn), on, "told what it knows");
        paused.retain(|other| *other != conn);
        if !on {
            paused.push(conn);
        }
    }

    fn frame_bytes_max(&self) -> Option<u32> {
        Some(65_536)
    }

    fn release(&self, _: ConnId, _: &str, _: u64) {}

    fn subscribe(&self, _: ConnId, topic: &str, _: u64) -> BoxFuture<Result<(), String>> {
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
        self.parts.lock().effects.extend(note);
        Box::pin(ready(
            refused.map_or(Ok(()), |reason| Err(reason.to_owned())),
        ))
    }

    fn unsubscribe(&self, _: ConnId, topic: &str, _: u64) -> BoxFuture<()> {
        self.effect(json!({ "unsubscribe": topic }));
        Box::pin(ready(()))
    }

    fn subscribers(&self, _: &str) -> u64 {
        0
    }

    fn position(&self, topic: &str) -> Option<u64> {
        self.topics.as_ref()?.position(topic, Millis::ZERO)
    }

    fn since(&self, topic: &str, number: u64) -> Option<History> {
        self.topics.as_ref()?.since(topic, number, Millis::ZERO)
    }

    fn now(&self) -> Millis {
        Millis::from_millis(self.parts.lock().now)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let fired = Arc::new(Fired::default());
        let mut parts = self.parts.lock();
        let at = parts.now + u64::try_from(duration.as_millis()).expect("short");
        parts.timers.push((at, Arc::clone(&fired)));
        Box::pin(Timer(fired))
    }

    fn spawn(&self, work: BoxFuture<()>) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.parts.lock().tasks.push((work, flag));
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
