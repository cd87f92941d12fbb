//! Streams that are loaded again: after silence, or when something else was published.
//!
//! A topic is watched from its first successful answer until nobody holds it any more. Of a
//! watched topic there is one entry and no task: each stream with a silence limit has one timer
//! while it has topics, and reloads run in at most `reloads_max` tasks.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use hashbrown::HashMap;
use millstream_core::Millis;
use parking_lot::{Mutex, RwLock};

use crate::args::Args;
use crate::engine::Engine;
use crate::error::{LiveError, code};
use crate::glob::Glob;
use crate::module::Kind;
use crate::publish::{Outgoing, REFRESHED};
use crate::stream::Stream;
use crate::user::User;
use crate::warning::Warning;

/// All watched topics of an application.
pub(crate) struct Watches<S, U> {
    streams: Vec<Arc<Watch<S, U>>>,
    count: AtomicUsize,
    ids: AtomicU64,
    queue: Mutex<Queue<S, U>>,
}

/// One stream that is loaded again, and its topics.
struct Watch<S, U> {
    path: Arc<str>,
    kind: Arc<Kind<S, U>>,
    stale_after: Option<Duration>,
    invalidated_by: Vec<Glob>,
    topics: RwLock<Topics<S, U>>,
    /// One entry per topic, by the time at which to look at it; absent while no timer runs.
    timer: Mutex<Option<Deadlines<S, U>>>,
}

type Topics<S, U> = HashMap<Arc<str>, Arc<Watched<S, U>>>;
type Deadlines<S, U> = BTreeMap<(Millis, u64), Arc<Watched<S, U>>>;

/// One topic that is loaded again.
struct Watched<S, U> {
    watch: Arc<Watch<S, U>>,
    topic: Arc<str>,
    args: Args,
    /// Tells it apart from others, earlier ones of the same topic included.
    id: u64,
    /// When the timer looks at it, in milliseconds.
    look: AtomicU64,
    /// When it is stale, in milliseconds.
    deadline: AtomicU64,
    run: Mutex<Run>,
    gone: AtomicBool,
}

/// What a topic's loader does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Idle,
    /// It waits for its turn, so what it will load is new.
    Queued,
    Running,
    /// It runs, and what it loads may be old already.
    RunningAgain,
}

struct Queue<S, U> {
    waiting: VecDeque<Arc<Watched<S, U>>>,
    tasks: usize,
}

impl<S, U> Watches<S, U> {
    pub(crate) fn new<'a>(
        entries: impl Iterator<Item = (&'a Arc<str>, &'a Arc<Kind<S, U>>)>,
    ) -> Self
    where
        S: 'a,
        U: 'a,
    {
        let streams = entries.filter_map(|(path, kind)| match &**kind {
            Kind::Stream(stream) if stream.is_watched() => Some(Arc::new(Watch {
                path: Arc::clone(path),
                kind: Arc::clone(kind),
                stale_after: stream.stale_after,
                invalidated_by: stream
                    .invalidate_on
                    .iter()
                    .map(|text| Glob::new(text))
                    .collect(),
                topics: RwLock::default(),
                timer: Mutex::default(),
            })),
            _ => None,
        });
        Self {
            streams: streams.collect(),
            count: AtomicUsize::new(0),
            ids: AtomicU64::new(0),
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                tasks: 0,
            }),
        }
    }

    /// Topics that are watched.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn of(&self, path: &str) -> Option<&Arc<Watch<S, U>>> {
        self.streams.iter().find(|watch| &*watch.path == path)
    }
}

impl<S: Send + Sync + 'static, U: User> Watches<S, U> {
    /// A subscription was answered: its topic is watched from now on.
    pub(crate) fn arm(
        &self,
        engine: &Arc<Engine<S, U>>,
        path: &str,
        topic: &Arc<str>,
        args: &Args,
    ) {
        let Some(watch) = self.of(path) else { return };
        let mut topics = watch.topics.write();
        // Who has left while it was being loaded has no end any more that would disarm it.
        if topics.contains_key(topic) || engine.platform.subscribers(topic) == 0 {
            return;
        }
        if self.len() >= engine.app.limits.watched_topics_max {
            drop(topics);
            let topic = Arc::clone(topic);
            engine.warn(&Warning::NotWatched { topic });
            return;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let deadline = watch.stale_after.map(|after| engine.platform.now() + after);
        let watched = Arc::new(Watched {
            watch: Arc::clone(watch),
            topic: Arc::clone(topic),
            args: args.clone(),
            id: self.ids.fetch_add(1, Ordering::Relaxed),
            look: AtomicU64::new(0),
            deadline: AtomicU64::new(deadline.unwrap_or(Millis::MAX).as_millis()),
            run: Mutex::new(Run::Idle),
            gone: AtomicBool::new(false),
        });
        topics.insert(Arc::clone(topic), Arc::clone(&watched));
        drop(topics);
        if let Some(deadline) = deadline {
            watch.look_at(engine, deadline, watched);
        }
    }

    /// A subscription has ended: if it was the last, the topic is not watched any more.
    pub(crate) fn disarm(&self, engine: &Engine<S, U>, path: &str, topic: &str) {
        if let Some(watch) = self.of(path) {
            watch.forget_unused(engine, topic);
        }
    }

    /// An event was published: clocks start again, and what it invalidates is loaded again.
    pub(crate) fn heard(&self, engine: &Arc<Engine<S, U>>, topic: &str, event: &str) {
        for watch in &self.streams {
            if let Some(after) = watch.stale_after
                && let Some(watched) = watch.topics.read().get(topic)
            {
                let deadline = engine.platform.now() + after;
                watched
                    .deadline
                    .store(deadline.as_millis(), Ordering::Relaxed);
            }
            let invalidates = event != REFRESHED
                && watch
                    .invalidated_by
                    .iter()
                    .any(|pattern| pattern.matches(topic));
            if invalidates {
                let all: Vec<_> = watch.topics.read().values().map(Arc::clone).collect();
                for watched in all {
                    self.reload(engine, watched);
                }
            }
        }
    }

    /// Loads a topic again, once more if that is being done already.
    fn reload(&self, engine: &Arc<Engine<S, U>>, watched: Arc<Watched<S, U>>) {
        {
            let mut run = watched.run.lock();
            match *run {
                Run::Idle => *run = Run::Queued,
                Run::Queued | Run::RunningAgain => return,
                Run::Running => {
                    *run = Run::RunningAgain;
                    return;
                }
            }
        }
        let mut queue = self.queue.lock();
        queue.waiting.push_back(watched);
        if queue.tasks < engine.app.limits.reloads_max.max(1) {
            queue.tasks += 1;
            drop(queue);
            let work = Arc::clone(engine);
            engine
                .platform
                .spawn(Box::pin(async move { run_queue(work).await }));
        }
    }

    fn next(&self) -> Option<Arc<Watched<S, U>>> {
        let mut queue = self.queue.lock();
        let next = queue.waiting.pop_front();
        if next.is_none() {
            queue.tasks -= 1;
        }
        next
    }
}

/// Runs reloads one after the other until none waits.
async fn run_queue<S: Send + Sync + 'static, U: User>(engine: Arc<Engine<S, U>>) {
    while let Some(watched) = engine.watches.next() {
        *watched.run.lock() = Run::Running;
        // Nothing here is expected to panic, but a queue that lost a task would be short of it.
        let _ = AssertUnwindSafe(watched.run_once(&engine))
            .catch_unwind()
            .await;
        engine.counters.reloads.add();
        let again = core::mem::replace(&mut *watched.run.lock(), Run::Idle) == Run::RunningAgain;
        if again && !watched.gone.load(Ordering::Acquire) {
            engine.watches.reload(&engine, watched);
        }
    }
}

impl<S: Send + Sync + 'static, U: User> Watched<S, U> {
    /// Where the timer has it.
    fn place(&self) -> (Millis, u64) {
        (
            Millis::from_millis(self.look.load(Ordering::Relaxed)),
            self.id,
        )
    }

    /// Loads, and publishes what was loaded; or tells who observes the stream.
    async fn run_once(&self, engine: &Arc<Engine<S, U>>) {
        let Some(stream) = self.watch.stream() else {
            return;
        };
        if self.gone.load(Ordering::Acquire) {
            return;
        }
        let ctx = engine.system_ctx(&self.watch.path);
        let limit = engine.app.limits.reload_timeout;
        let loading = AssertUnwindSafe(stream.load_list(&ctx, &self.args)).catch_unwind();
        let loaded = match select(Box::pin(loading), engine.platform.sleep(limit)).await {
            Either::Left((Ok(loaded), _)) => loaded,
            Either::Left((Err(_), _)) => Err(LiveError::internal("the loader panicked")),
            Either::Right(_) => Err(LiveError::new(code::TIMEOUT, "the loader took too long")),
        };
        if self.gone.load(Ordering::Acquire) {
            return;
        }
        let published = loaded.and_then(|data| {
            let event = Outgoing {
                topic: &self.topic,
                event: REFRESHED,
                data: data.get(),
                options: Default::default(),
            };
            engine.publish(Some(&ctx), event).map(drop)
        });
        if let Err(error) = published {
            if !stream.observe(&ctx, &self.topic, &error) {
                ctx.report(&error);
            }
            // Publishing has done it otherwise.
            if let Some(after) = self.watch.stale_after {
                let deadline = engine.platform.now() + after;
                self.deadline.store(deadline.as_millis(), Ordering::Relaxed);
            }
        }
    }
}

impl<S: Send + Sync + 'static, U: User> Watch<S, U> {
    fn stream(&self) -> Option<&Stream<S, U>> {
        match &*self.kind {
            Kind::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    /// Forgets a topic unless somebody holds it. Who subscribes is counted before it arms the
    /// topic, so nobody is overlooked.
    fn forget_unused(&self, engine: &Engine<S, U>, topic: &str) -> bool {
        let mut topics = self.topics.write();
        if !topics.contains_key(topic) || engine.platform.subscribers(topic) > 0 {
            return false;
        }
        if let Some(watched) = topics.remove(topic) {
            watched.gone.store(true, Ordering::Release);
            if let Some(deadlines) = &mut *self.timer.lock() {
                deadlines.remove(&watched.place());
            }
            engine.watches.count.fetch_sub(1, Ordering::Relaxed);
        }
        true
    }

    /// Has the timer look at a topic; starts the timer when there is none. No deadline is earlier
    /// than those that the timer has, because they all lie the same time ahead.
    fn look_at(
        self: &Arc<Self>,
        engine: &Arc<Engine<S, U>>,
        at: Millis,
        watched: Arc<Watched<S, U>>,
    ) {
        let mut timer = self.timer.lock();
        if watched.gone.load(Ordering::Acquire) {
            return;
        }
        let starts = timer.is_none();
        watched.look.store(at.as_millis(), Ordering::Relaxed);
        timer
            .get_or_insert_default()
            .insert(watched.place(), watched);
        drop(timer);
        if starts {
            let (watch, work) = (Arc::clone(self), Arc::clone(engine));
            engine
                .platform
                .spawn(Box::pin(async move { watch.keep_time(work).await }));
        }
    }

    /// Looks at topics when they may be stale, for as long as there are any.
    async fn keep_time(self: Arc<Self>, engine: Arc<Engine<S, U>>) {
        loop {
            let now = engine.platform.now();
            let next = {
                let mut timer = self.timer.lock();
                let first = timer.as_mut().and_then(BTreeMap::first_entry);
                match first {
                    None => {
                        *timer = None;
                        return;
                    }
                    Some(first) if first.key().0 > now => Err(first.key().0.saturating_since(now)),
                    Some(first) => Ok(first.remove()),
                }
            };
            match next {
                Err(wait) => engine.platform.sleep(wait).await,
                Ok(watched) => {
                    if let Some(at) = self.next_look(&engine, &watched, now) {
                        self.look_at(&engine, at, watched);
                    }
                }
            }
        }
    }

    /// Reloads a topic that is stale; when to look at it again.
    fn next_look(
        &self,
        engine: &Arc<Engine<S, U>>,
        watched: &Arc<Watched<S, U>>,
        now: Millis,
    ) -> Option<Millis> {
        let after = self.stale_after?;
        let deadline = Millis::from_millis(watched.deadline.load(Ordering::Relaxed));
        if deadline > now {
            return Some(deadline);
        }
        if self.forget_unused(engine, &watched.topic) {
            return None;
        }
        // One that is being loaded, or will be, needs nothing else.
        if *watched.run.lock() == Run::Idle {
            engine.watches.reload(engine, Arc::clone(watched));
        }
        Some(now + after)
    }
}
