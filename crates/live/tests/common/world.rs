//! A platform whose time stands still until it is moved, and an executor that polls only what was
//! woken.

use std::any::Any;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use millstream_core::{ConnId, Millis, RawJson, RawJsonRef};
use millstream_hub::{BatchMember, History, PublishError, PublishOptions, Published, Snapshot};
use millstream_live::{BoxFuture, Platform, Reply};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Everything that is observed, and everything that runs.
#[derive(Default)]
pub(crate) struct World(Mutex<Parts>);

#[derive(Default)]
struct Parts {
    now: u64,
    timers: Vec<(u64, Arc<Fired>)>,
    tasks: Vec<(BoxFuture<()>, Arc<Flag>)>,
    replies: Vec<Value>,
    paused: Vec<ConnId>,
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

impl World {
    /// Polls everything that was woken until nothing is.
    pub(crate) fn run(&self) {
        loop {
            let tasks = std::mem::take(&mut self.0.lock().tasks);
            let mut quiet = true;
            for (mut task, flag) in tasks {
                let woken = flag.0.swap(false, Ordering::Relaxed);
                quiet &= !woken;
                let waker = Waker::from(Arc::clone(&flag));
                let mut cx = Context::from_waker(&waker);
                if !woken || task.as_mut().poll(&mut cx).is_pending() {
                    self.0.lock().tasks.push((task, flag));
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Lets time pass, timer by timer.
    pub(crate) fn pass(&self, ms: u64) {
        let until = self.0.lock().now + ms;
        loop {
            self.run();
            let mut parts = self.0.lock();
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
        self.0.lock().replies.push(note);
    }

    pub(crate) fn replies(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().replies)
    }

    pub(crate) fn is_paused(&self, conn: ConnId) -> bool {
        self.0.lock().paused.contains(&conn)
    }

    /// Tasks that have not ended.
    pub(crate) fn tasks(&self) -> usize {
        self.0.lock().tasks.len()
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

impl Platform for World {
    fn publish(
        &self,
        _: &str,
        _: &str,
        _: RawJsonRef<'_>,
        _: PublishOptions,
    ) -> Result<Published, PublishError> {
        Ok(Published {
            delivered: true,
            seq: None,
            queued: false,
        })
    }

    fn publish_batched(&self, _: &[BatchMember<'_>]) -> Result<Vec<Published>, PublishError> {
        Ok(Vec::new())
    }

    fn send(&self, _: ConnId, _: &str, _: &str, _: RawJson) {}

    fn reply(&self, _: ConnId, reply: Reply) {
        self.note(&reply);
    }

    fn set_reading(&self, conn: ConnId, on: bool) {
        let paused = &mut self.0.lock().paused;
        assert_eq!(paused.contains(&conn), on, "told what it knows");
        paused.retain(|other| *other != conn);
        if !on {
            paused.push(conn);
        }
    }

    fn frame_bytes_max(&self) -> Option<u32> {
        Some(65_536)
    }

    fn subscribe(&self, _: ConnId, _: &str) -> BoxFuture<Result<(), String>> {
        Box::pin(ready(Ok(())))
    }

    fn unsubscribe(&self, _: ConnId, _: &str) -> BoxFuture<()> {
        Box::pin(ready(()))
    }

    fn position(&self, _: &str) -> Option<u64> {
        None
    }

    fn since(&self, _: &str, _: u64) -> Option<History> {
        None
    }

    fn subscribers(&self, _: &str) -> u64 {
        0
    }

    fn now(&self) -> Millis {
        Millis::from_millis(self.0.lock().now)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let fired = Arc::new(Fired::default());
        let mut parts = self.0.lock();
        let at = parts.now + u64::try_from(duration.as_millis()).expect("short");
        parts.timers.push((at, Arc::clone(&fired)));
        Box::pin(Timer(fired))
    }

    fn spawn(&self, work: BoxFuture<()>) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.0.lock().tasks.push((work, flag));
    }

    fn pressure(&self) -> Arc<Snapshot> {
        Arc::default()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
