//! Futures polled on virtual time, in an order that a seed decides.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::task::Wake;

use millstream_core::Millis;
use parking_lot::Mutex;

use crate::handler::BoxFuture;

/// What tasks, timers and the platform share.
#[derive(Default)]
pub(super) struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    now: Millis,
    spawned: Vec<BoxFuture<()>>,
    /// Tasks that were woken, each once.
    ready: VecDeque<u64>,
    timers: BTreeMap<(Millis, u64), Waker>,
    timers_made: u64,
}

impl Shared {
    pub(super) fn now(&self) -> Millis {
        self.0.lock().now
    }

    pub(super) fn spawn(&self, work: BoxFuture<()>) {
        self.0.lock().spawned.push(work);
    }

    pub(super) fn sleep(self: &Arc<Self>, duration: Duration) -> Sleep {
        let mut state = self.0.lock();
        state.timers_made += 1;
        Sleep {
            key: (state.now.saturating_add(duration), state.timers_made),
            shared: Arc::clone(self),
        }
    }

    /// Sets the clock and wakes whose time has come.
    pub(super) fn set_now(&self, now: Millis) {
        let due = {
            let mut state = self.0.lock();
            state.now = now;
            let later = state.timers.split_off(&(now.saturating_add(TICK), 0));
            core::mem::replace(&mut state.timers, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    pub(super) fn next_timer(&self) -> Option<Millis> {
        let state = self.0.lock();
        state.timers.first_key_value().map(|(key, _)| key.0)
    }
}

const TICK: Duration = Duration::from_millis(1);

/// Ready when its time has come.
pub(super) struct Sleep {
    key: (Millis, u64),
    shared: Arc<Shared>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.0.lock();
        if state.now >= self.key.0 {
            return Poll::Ready(());
        }
        state.timers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // The waker is dropped outside of the lock: it may own whoever sleeps.
        let waker = self.shared.0.lock().timers.remove(&self.key);
        drop(waker);
    }
}

/// Wakes a task by its number.
struct Alarm {
    task: u64,
    shared: Weak<Shared>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            let mut state = shared.0.lock();
            if !state.ready.contains(&self.task) {
                state.ready.push_back(self.task);
            }
        }
    }
}

/// All tasks of one server.
pub(super) struct Executor {
    pub(super) shared: Arc<Shared>,
    tasks: BTreeMap<u64, BoxFuture<()>>,
    made: u64,
    /// What tasks that panicked said.
    pub(super) panics: Vec<String>,
}

impl Executor {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::default(),
            tasks: BTreeMap::new(),
            made: 0,
            panics: Vec::new(),
        }
    }

    /// Tasks that can go on now.
    pub(super) fn ready(&mut self) -> usize {
        let mut state = self.shared.0.lock();
        for work in core::mem::take(&mut state.spawned) {
            self.made += 1;
            self.tasks.insert(self.made, work);
            state.ready.push_back(self.made);
        }
        state.ready.len()
    }

    /// Tasks that are not finished.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Polls one of the tasks that can go on.
    pub(super) fn run(&mut self, nth: usize) {
        let task = self.shared.0.lock().ready.remove(nth);
        let Some((task, mut work)) = task.and_then(|task| self.tasks.remove_entry(&task)) else {
            return;
        };
        let shared = Arc::downgrade(&self.shared);
        let waker = Waker::from(Arc::new(Alarm { task, shared }));
        let mut cx = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => drop(self.tasks.insert(task, work)),
            Ok(Poll::Ready(())) => {}
            Err(panic) => self
                .panics
                .push(crate::pipeline::panic_text(&*panic).to_owned()),
        }
    }

    /// Polls once now, and hands what is not ready to the tasks.
    pub(super) fn drive(&self, mut work: BoxFuture<()>) {
        let mut cx = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut cx))) {
            Ok(Poll::Ready(())) => {}
            // Polled again at once by a task: no wake-up is lost, and a panic is reported there.
            Ok(Poll::Pending) | Err(_) => self.shared.spawn(work),
        }
    }
}

/// A value that somebody waits for.
pub(super) struct Promise<T>(Arc<Mutex<Slot<T>>>);

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
    given_up: bool,
}

/// Resolves to the value, or to `None` when there will be none.
pub(super) struct Promised<T>(Arc<Mutex<Slot<T>>>);

/// Both ends.
pub(super) fn promise<T>() -> (Promise<T>, Promised<T>) {
    let slot = Arc::new(Mutex::new(Slot {
        value: None,
        waker: None,
        given_up: false,
    }));
    (Promise(Arc::clone(&slot)), Promised(slot))
}

impl<T> Promise<T> {
    pub(super) fn keep(self, value: T) {
        self.0.lock().value = Some(value);
        // Dropping it wakes.
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.lock();
            slot.given_up = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Promised<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.0.lock();
        if let Some(value) = slot.value.take() {
            return Poll::Ready(Some(value));
        }
        if slot.given_up {
            return Poll::Ready(None);
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
