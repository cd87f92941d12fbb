//! A platform whose clock stands still until a test moves it, and a host that polls only what was
//! woken.

use std::any::Any;
use std::collections::HashSet;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use millstream_core::{ConnId, Key, Millis, RawJson, RawJsonRef};
use millstream_hub::{BatchMember, History, PublishError, PublishOptions, Published, Snapshot};
use millstream_live::{App, BoxFuture, Caller, Client, Handled, Live, Platform, User};
use parking_lot::Mutex;
use serde_json::Value;

/// Time that a test moves.
#[derive(Default)]
pub(crate) struct Clock {
    now: Mutex<Millis>,
    sleepers: Mutex<Vec<Waker>>,
    spawned: Mutex<Vec<BoxFuture<()>>>,
    held: Mutex<HashSet<(ConnId, String)>>,
    pub(crate) load: Mutex<Arc<Snapshot>>,
    myself: Weak<Self>,
}

impl Clock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            myself: Weak::clone(myself),
            ..Self::default()
        })
    }

    fn advance(&self, duration: Duration) {
        *self.now.lock() = self.now() + duration;
        for waker in std::mem::take(&mut *self.sleepers.lock()) {
            waker.wake();
        }
    }
}

struct Sleep {
    clock: Arc<Clock>,
    until: Millis,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.until {
            return Poll::Ready(());
        }
        self.clock.sleepers.lock().push(cx.waker().clone());
        Poll::Pending
    }
}

impl Platform for Clock {
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

    fn publish_batched(&self, members: &[BatchMember<'_>]) -> Result<Vec<Published>, PublishError> {
        members
            .iter()
            .map(|one| self.publish(one.topic, one.event, one.data, PublishOptions::default()))
            .collect()
    }

    fn send(&self, _: ConnId, _: &str, _: &str, _: RawJson) {}

    fn subscribe(&self, conn: ConnId, topic: &str) -> BoxFuture<Result<(), String>> {
        self.held.lock().insert((conn, topic.to_owned()));
        Box::pin(ready(Ok(())))
    }

    fn unsubscribe(&self, conn: ConnId, topic: &str) -> BoxFuture<()> {
        self.held.lock().remove(&(conn, topic.to_owned()));
        Box::pin(ready(()))
    }

    fn subscribers(&self, topic: &str) -> u64 {
        self.held
            .lock()
            .iter()
            .filter(|held| held.1 == topic)
            .count() as u64
    }

    fn position(&self, _: &str) -> Option<u64> {
        None
    }

    fn since(&self, _: &str, _: u64) -> Option<History> {
        None
    }

    fn now(&self) -> Millis {
        *self.now.lock()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(Sleep {
            clock: self.myself.upgrade().expect("in an Arc"),
            until: self.now() + duration,
        })
    }

    fn spawn(&self, work: BoxFuture<()>) {
        self.spawned.lock().push(work);
    }

    fn pressure(&self) -> Arc<Snapshot> {
        Arc::clone(&self.load.lock())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Somebody on a connection.
pub(crate) struct Person<U> {
    user: Option<U>,
    closed: AtomicBool,
}

impl<U: User> Client<U> for Person<U> {
    fn user(&self) -> Option<&U> {
        self.user.as_ref()
    }

    fn remote_address(&self) -> String {
        "192.0.2.1".to_owned()
    }

    fn request_id(&self) -> String {
        "r-1".to_owned()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

struct Task {
    id: String,
    conn: Option<ConnId>,
    future: BoxFuture<Option<millstream_live::Reply>>,
    woken: Arc<Flag>,
}

/// An application on a clock, and the calls that are not answered yet.
pub(crate) struct Host<S, U> {
    pub(crate) live: Live<S, U>,
    pub(crate) clock: Arc<Clock>,
    tasks: Vec<Task>,
    replies: Vec<(String, Value)>,
}

impl<S: Send + Sync + 'static, U: User> Host<S, U> {
    pub(crate) fn new(app: App<S, U>) -> Self {
        let clock = Clock::new();
        Self {
            live: Live::new(app, Arc::clone(&clock) as _),
            clock,
            tasks: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// A caller on the connection of this number.
    pub(crate) fn caller(number: u32, user: Option<U>) -> (Caller<U>, Arc<Person<U>>) {
        let person = Arc::new(Person {
            user,
            closed: AtomicBool::new(false),
        });
        let key = Key {
            index: number,
            generation: 1,
        };
        let caller = Caller {
            conn: Some(ConnId::new(0, key)),
            client: Arc::clone(&person) as _,
        };
        (caller, person)
    }

    /// Sends a call with further members, and polls it once.
    pub(crate) fn send(&mut self, caller: &Caller<U>, path: &str, id: &str, rest: &str) {
        let frame = format!(r#"{{"rpc":"{path}","id":"{id}"{rest}}}"#);
        let Handled::Claimed(future) = self.live.handle_message(caller, frame.as_bytes()) else {
            panic!("no call: {frame}");
        };
        self.tasks.push(Task {
            id: id.to_owned(),
            conn: caller.conn,
            future,
            woken: Arc::new(Flag(AtomicBool::new(true))),
        });
        self.run();
    }

    /// Sends a call and gives its reply, which has to be there at once.
    pub(crate) fn ask(&mut self, caller: &Caller<U>, path: &str, rest: &str) -> Value {
        self.send(caller, path, "asked", rest);
        let (id, reply) = self.replies.pop().expect("answered at once");
        assert_eq!(id, "asked", "answered at once");
        reply
    }

    /// Polls what was woken until nothing is.
    fn run(&mut self) {
        loop {
            let woken = |task: &Task| task.woken.0.swap(false, Ordering::AcqRel);
            let Some(at) = self.tasks.iter().position(woken) else {
                return;
            };
            let task = &mut self.tasks[at];
            let waker = Waker::from(Arc::clone(&task.woken));
            if let Poll::Ready(reply) = task.future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                let task = self.tasks.remove(at);
                let data = reply.map_or(Value::Null, |reply| {
                    serde_json::from_str(reply.data.as_str()).expect("JSON")
                });
                self.replies.push((task.id, data));
            }
        }
    }

    /// Moves the clock on, and runs what wakes.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
        self.run();
    }

    /// Drops a call that is not answered.
    pub(crate) fn drop_call(&mut self, id: &str) {
        let before = self.tasks.len();
        self.tasks.retain(|task| task.id != id);
        assert!(self.tasks.len() < before, "{id} is not running");
        self.run();
    }

    /// Closes a connection as a server does: its calls go on.
    pub(crate) fn close(&mut self, caller: &Caller<U>, person: &Person<U>) {
        person.closed.store(true, Ordering::Release);
        let conn = caller.conn.expect("a connection");
        let ending = self.live.handle_closed(conn);
        let waker = Waker::noop();
        let mut ending = ending;
        let ended = ending.as_mut().poll(&mut Context::from_waker(waker));
        assert!(ended.is_ready(), "hooks of these tests do not wait");
        self.run();
    }

    /// The ids that were answered since, each with its code or `ok`.
    pub(crate) fn take(&mut self) -> Vec<String> {
        let replies = std::mem::take(&mut self.replies);
        replies
            .iter()
            .map(|(id, reply)| format!("{id} {}", outcome(reply)))
            .collect()
    }

    /// Calls of a connection that are not answered.
    pub(crate) fn waiting(&self, caller: &Caller<U>) -> usize {
        let same = |task: &&Task| task.conn == caller.conn;
        self.tasks.iter().filter(same).count()
    }
}

/// The code of a reply, or `ok`.
pub(crate) fn outcome(reply: &Value) -> &str {
    if reply["ok"] == true {
        "ok"
    } else {
        reply["code"].as_str().unwrap_or("no reply")
    }
}
