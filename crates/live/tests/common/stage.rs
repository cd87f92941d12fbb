//! A platform with a clock that is turned by hand, and an executor that polls everything.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{poll_fn, ready};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use millstream_core::{ConnId, Key, Millis, RawJson, RawJsonRef};
use millstream_hub::{BatchMember, History, PublishError, PublishOptions, Published, Snapshot};
use millstream_live::{App, BoxFuture, Caller, Client, Handled, Live, Platform, User};
use parking_lot::Mutex;
use serde_json::Value;

/// One event that left the pipeline.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sent {
    pub(crate) topic: String,
    pub(crate) event: String,
    pub(crate) data: Value,
    pub(crate) seq: Option<u64>,
    pub(crate) volatile: bool,
    /// Of a coalesced event; the inner one is what the platform was given.
    pub(crate) key: Option<Option<String>>,
    /// How many events left together with it.
    pub(crate) unit: usize,
}

/// Topics, subscribers, time and tasks.
#[derive(Default)]
pub(crate) struct World(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    sent: Vec<Sent>,
    heads: BTreeMap<String, u64>,
    subscribers: BTreeMap<String, BTreeSet<u32>>,
    tasks: Vec<BoxFuture<()>>,
    now: u64,
    /// Whoever waits for another time.
    wakers: Vec<Waker>,
    /// Publishes are refused from now on.
    busy: bool,
    spawned: usize,
}

/// The platform; it does not keep the world alive.
struct Verbs(Weak<World>);

impl World {
    /// An application in a world of its own.
    pub(crate) fn with<S: Send + Sync + 'static, U: User>(
        app: App<S, U>,
    ) -> (Arc<Self>, Live<S, U>) {
        let world = Arc::new(Self::default());
        let live = Live::new(app, Arc::new(Verbs(Arc::downgrade(&world))));
        (world, live)
    }

    /// What was published since the last time.
    pub(crate) fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut self.0.lock().sent)
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        self.0.lock().busy = busy;
    }

    /// Tasks that are not finished.
    pub(crate) fn tasks(&self) -> usize {
        self.0.lock().tasks.len()
    }

    /// Tasks ever started.
    pub(crate) fn spawned(&self) -> usize {
        self.0.lock().spawned
    }

    /// Polls everything until nothing gets on.
    pub(crate) fn run(&self) {
        let mut quiet = 0;
        while quiet < 3 {
            let mut tasks = std::mem::take(&mut self.0.lock().tasks);
            let before = tasks.len();
            tasks.retain_mut(|task| {
                let mut cx = Context::from_waker(Waker::noop());
                task.as_mut().poll(&mut cx).is_pending()
            });
            let mut inner = self.0.lock();
            let changed = tasks.len() != before || !inner.tasks.is_empty();
            quiet = if changed { 0 } else { quiet + 1 };
            tasks.append(&mut inner.tasks);
            inner.tasks = tasks;
        }
    }

    /// Lets time pass, in steps of ten milliseconds.
    pub(crate) fn advance(&self, millis: u64) {
        self.run();
        for _ in 0..millis / 10 {
            let mut inner = self.0.lock();
            inner.now += 10;
            let wakers = std::mem::take(&mut inner.wakers);
            drop(inner);
            wakers.into_iter().for_each(Waker::wake);
            self.run();
        }
    }

    /// Sends a message and gives the reply's payload, when there is one without waiting.
    pub(crate) fn ask<S: Send + Sync + 'static, U: User>(
        self: &Arc<Self>,
        live: &Live<S, U>,
        caller: &Caller<U>,
        message: &str,
    ) -> Option<Value> {
        let slot = self.start(live, caller, message);
        self.run();
        slot.lock().clone()
    }

    /// Sends a message; the reply's payload appears when there is one.
    pub(crate) fn start<S: Send + Sync + 'static, U: User>(
        self: &Arc<Self>,
        live: &Live<S, U>,
        caller: &Caller<U>,
        message: &str,
    ) -> Arc<Mutex<Option<Value>>> {
        let slot = Arc::new(Mutex::new(None));
        let Handled::Claimed(future) = live.handle_message(caller, message.as_bytes()) else {
            panic!("{message} is no call");
        };
        let answer = Arc::clone(&slot);
        self.0.lock().tasks.push(Box::pin(async move {
            if let Some(reply) = future.await {
                let payload = serde_json::from_str(reply.data.as_str()).expect("JSON");
                *answer.lock() = Some(payload);
            }
        }));
        slot
    }

    /// Closes a connection.
    pub(crate) fn close<S: Send + Sync + 'static, U: User>(
        &self,
        live: &Live<S, U>,
        caller: &Caller<U>,
    ) {
        let conn = caller.conn.expect("a connection");
        for subscribers in self.0.lock().subscribers.values_mut() {
            subscribers.remove(&conn.key().index);
        }
        let ended = live.handle_closed(conn);
        self.0.lock().tasks.push(ended);
        self.run();
    }
}

impl Inner {
    fn publish(&mut self, mut sent: Sent, numbered: bool) -> Result<Published, PublishError> {
        if self.busy {
            return Err(PublishError::Busy);
        }
        if numbered {
            let head = self.heads.entry(sent.topic.clone()).or_default();
            *head += 1;
            sent.seq = Some(*head);
        }
        let subscribers = self.subscribers.get(&sent.topic);
        let published = Published {
            delivered: subscribers.is_some_and(|all| !all.is_empty()),
            seq: sent.seq,
            queued: false,
        };
        self.sent.push(sent);
        Ok(published)
    }
}

fn sent(topic: &str, event: &str, data: RawJsonRef<'_>) -> Sent {
    Sent {
        topic: topic.to_owned(),
        event: event.to_owned(),
        data: serde_json::from_str(data.as_str()).expect("JSON"),
        seq: None,
        volatile: false,
        key: None,
        unit: 1,
    }
}

impl Verbs {
    fn world(&self) -> Arc<World> {
        self.0
            .upgrade()
            .expect("the world outlives its application")
    }
}

impl Platform for Verbs {
    fn publish(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        options: PublishOptions,
    ) -> Result<Published, PublishError> {
        let mut sent = sent(topic, event, data);
        sent.volatile = options.volatile;
        let numbered = options.numbered && !options.volatile;
        self.world().0.lock().publish(sent, numbered)
    }

    fn publish_batched(&self, members: &[BatchMember<'_>]) -> Result<Vec<Published>, PublishError> {
        let world = self.world();
        let mut inner = world.0.lock();
        let publish = |member: &BatchMember<'_>| {
            let mut sent = sent(member.topic, member.event, member.data);
            sent.unit = members.len();
            inner.publish(sent, member.numbered)
        };
        members.iter().map(publish).collect()
    }

    fn publish_coalesced(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        key: Option<&str>,
    ) -> Result<Published, PublishError> {
        let mut sent = sent(topic, event, data);
        sent.key = Some(key.map(str::to_owned));
        self.world().0.lock().publish(sent, false)
    }

    fn send(&self, _: ConnId, _: &str, _: &str, _: RawJson) {}

    fn subscribe(&self, conn: ConnId, topic: &str) -> BoxFuture<Result<(), String>> {
        let world = self.world();
        let mut inner = world.0.lock();
        let subscribers = inner.subscribers.entry(topic.to_owned()).or_default();
        subscribers.insert(conn.key().index);
        Box::pin(ready(Ok(())))
    }

    fn unsubscribe(&self, conn: ConnId, topic: &str) -> BoxFuture<()> {
        let world = self.world();
        if let Some(subscribers) = world.0.lock().subscribers.get_mut(topic) {
            subscribers.remove(&conn.key().index);
        }
        Box::pin(ready(()))
    }

    fn subscribers(&self, topic: &str) -> u64 {
        let world = self.world();
        let inner = world.0.lock();
        inner
            .subscribers
            .get(topic)
            .map_or(0, |all| all.len() as u64)
    }

    fn position(&self, _: &str) -> Option<u64> {
        None
    }

    fn since(&self, _: &str, _: u64) -> Option<History> {
        None
    }

    fn now(&self) -> Millis {
        Millis::from_millis(self.world().0.lock().now)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let until = self.now() + duration;
        let world = Weak::clone(&self.0);
        Box::pin(poll_fn(move |cx| {
            let Some(world) = world.upgrade() else {
                return Poll::Ready(());
            };
            let mut inner = world.0.lock();
            if Millis::from_millis(inner.now) >= until {
                return Poll::Ready(());
            }
            inner.wakers.push(cx.waker().clone());
            Poll::Pending
        }))
    }

    fn spawn(&self, work: BoxFuture<()>) {
        let world = self.world();
        let mut inner = world.0.lock();
        inner.spawned += 1;
        inner.tasks.push(work);
    }

    fn pressure(&self) -> Arc<Snapshot> {
        Arc::default()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Somebody, perhaps with a name.
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

/// A caller on a connection of that number.
pub(crate) fn on<U: User>(number: u32, user: Option<U>) -> Caller<U> {
    let key = Key {
        index: number,
        generation: 1,
    };
    Caller {
        conn: Some(ConnId::new(0, key)),
        client: Arc::new(Somebody(user)),
    }
}

/// A call, or a subscription.
pub(crate) fn frame(path: &str, args: &Value, stream: bool) -> String {
    format!(r#"{{"rpc":"{path}","id":"1","args":{args},"stream":{stream}}}"#)
}
