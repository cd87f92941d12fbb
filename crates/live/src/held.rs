//! Values that the server keeps itself: every event on a topic is folded into one.
//!
//! An event is admitted, published and folded in under the topic's lock, so that values, numbers
//! and what subscribers see have one order. What does not fit is refused before anybody sees it.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::lock::Mutex as Turnstile;
use hashbrown::HashMap;
use millstream_core::{ListWriter, Millis, RawJson, RawJsonRef};
use millstream_hub::{PublishOptions, Published};
use millstream_merge as merge;
use millstream_merge::{MergeError, Shape};
use parking_lot::{Mutex, RwLock};

use crate::app::Limits;
use crate::ctx::Ctx;
use crate::engine::Engine;
use crate::error::{LiveError, code};
use crate::handler::{BoxFuture, CallResult};
use crate::publish::REFRESHED;
use crate::rules::Ruled;
use crate::stream::{Merge, Stream};
use crate::user::User;

/// What a held stream declares.
pub(crate) struct Holding<S, U> {
    pub(crate) seed: Option<Seed<S, U>>,
    /// Values that nobody has touched for so long are dropped.
    pub(crate) drop_after: Option<Duration>,
    /// A task looks for them.
    sweeping: AtomicBool,
}

impl<S, U> Default for Holding<S, U> {
    fn default() -> Self {
        Self {
            seed: None,
            drop_after: None,
            sweeping: AtomicBool::new(false),
        }
    }
}

pub(crate) type Seed<S, U> =
    Arc<dyn Fn(Ctx<S, U>, Arc<str>) -> BoxFuture<CallResult> + Send + Sync>;

/// All held values of an application.
#[derive(Default)]
pub(crate) struct Store {
    topics: RwLock<HashMap<Arc<str>, Arc<Held>>>,
    /// What they take together, as [`State::cost`] counts.
    bytes: AtomicUsize,
}

/// One topic's value.
struct Held {
    /// Whoever is through it seeds the value.
    seeding: Turnstile<()>,
    state: Mutex<State>,
}

struct State {
    value: merge::Merge<RawJson>,
    /// The number of the last event that is in the value.
    seq: Option<u64>,
    /// The first value is there.
    ready: bool,
    /// Events that came before it.
    early: Vec<(Box<str>, RawJson)>,
    early_bytes: usize,
    touched: Millis,
    /// It is not in the table any more.
    dropped: bool,
}

/// What an entry costs besides its items, and each item besides its bytes.
const ENTRY_BYTES: usize = 512;
const ITEM_BYTES: usize = 60;

impl State {
    fn cost(&self) -> usize {
        let items = (self.value.len() + self.early.len()) * ITEM_BYTES;
        ENTRY_BYTES + items + self.value.bytes() + self.early_bytes
    }

    /// The value and its number.
    fn snapshot(&self) -> (RawJson, Option<u64>) {
        let json = match self.value.shape() {
            Shape::List => {
                let mut list = ListWriter::new();
                for row in self.value.rows() {
                    list.push(row.get());
                }
                list.finish()
            }
            Shape::Whole(value) => value.clone(),
            _ => RawJson::NULL,
        };
        (json, self.seq)
    }
}

impl Store {
    /// Topics and bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.topics.read().len(), self.bytes.load(Ordering::Relaxed))
    }

    fn find(&self, topic: &str) -> Option<Arc<Held>> {
        self.topics.read().get(topic).map(Arc::clone)
    }

    /// Makes room for `more` bytes, or says that there is none.
    fn charge(&self, more: usize, max: usize) -> Result<(), LiveError> {
        let charged = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
                bytes.checked_add(more).filter(|bytes| *bytes <= max)
            });
        charged.map(drop).map_err(|_| full("held_total_bytes_max"))
    }

    /// Notes that a state costs something else than it did.
    fn settle(&self, charged: usize, cost: usize) {
        if cost >= charged {
            self.bytes.fetch_add(cost - charged, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(charged - cost, Ordering::Relaxed);
        }
    }
}

fn full(limit: &str) -> LiveError {
    LiveError::new(code::OVERLOADED, format!("{limit} is reached"))
}

fn too_much(error: MergeError) -> LiveError {
    let code = match error {
        MergeError::NullData => code::INVALID_REQUEST,
        _ => code::PAYLOAD_TOO_LARGE,
    };
    LiveError::new(code, error.to_string())
}

impl<S, U> Stream<S, U> {
    /// A value as the stream has it before anything happened.
    fn first_state(&self, limits: &Limits, now: Millis) -> State {
        let mut options = merge::Options::new(merge::Strategy::named(self.merge.as_str()));
        options.adopt(&merge::Settings {
            strategy: None,
            key: self.key.as_deref().map(Into::into),
            prepend: self.prepend,
            max: self.max.map(|max| max as usize),
        });
        let bounds = merge::Limits {
            entries_max: limits.held_entries_max,
            bytes_max: limits.held_bytes_max,
        };
        let mut value = merge::Merge::new(options, bounds);
        // An empty value is within any limit but zero bytes for `null`, which is refused later.
        let _ = value.load(self.empty_value());
        State {
            value,
            seq: None,
            ready: self.held.as_ref().is_none_or(|held| held.seed.is_none()),
            early: Vec::new(),
            early_bytes: 0,
            touched: now,
            dropped: false,
        }
    }

    /// What a client begins with when there is nothing.
    pub(crate) fn empty_value(&self) -> RawJson {
        match self.merge {
            Merge::Set => RawJson::NULL,
            _ => RawJson::EMPTY_LIST,
        }
    }
}

impl<S: Send + Sync + 'static, U: User> Engine<S, U> {
    /// The topic's value, made if there is none.
    fn hold(self: &Arc<Self>, ruled: &Ruled<S, U>, topic: &str) -> Result<Arc<Held>, LiveError> {
        if let Some(held) = self.held.find(topic) {
            return Ok(held);
        }
        let limits = &self.app.limits;
        let state = ruled.stream().first_state(limits, self.platform.now());
        let mut topics = self.held.topics.write();
        if let Some(held) = topics.get(topic) {
            return Ok(Arc::clone(held));
        }
        if topics.len() >= limits.held_topics_max {
            return Err(full("held_topics_max"));
        }
        self.held
            .charge(state.cost(), limits.held_total_bytes_max)?;
        let held = Arc::new(Held {
            seeding: Turnstile::new(()),
            state: Mutex::new(state),
        });
        topics.insert(topic.into(), Arc::clone(&held));
        drop(topics);
        self.sweep(ruled);
        Ok(held)
    }

    /// Publishes an event and folds it in, or does neither.
    pub(crate) fn publish_held(
        self: &Arc<Self>,
        ruled: &Ruled<S, U>,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        deliver: impl Fn() -> Result<Published, LiveError>,
    ) -> Result<Published, LiveError> {
        let limits = &self.app.limits;
        let data = data.to_owned();
        loop {
            let held = self.hold(ruled, topic)?;
            let mut state = held.state.lock();
            if state.dropped {
                continue;
            }
            let now = state.cost();
            let after = if state.ready {
                let growth = state.value.fits(event, &data).map_err(too_much)?;
                now + growth.entries * ITEM_BYTES + growth.bytes
            } else {
                // Whether it fits is known when the first value is; but it must not be null.
                state.value.fits(event, &data).map_err(too_much)?;
                let bytes = state.early_bytes + data.as_bytes().len();
                if bytes > limits.held_bytes_max || state.early.len() >= limits.held_entries_max {
                    return Err(full("held_bytes_max"));
                }
                now + ITEM_BYTES + event.len() + data.as_bytes().len()
            };
            let charged = after.saturating_sub(now);
            self.held.charge(charged, limits.held_total_bytes_max)?;
            let published = deliver().inspect_err(|_| self.held.settle(charged, 0))?;
            state.touched = self.platform.now();
            state.seq = published.seq.or(state.seq);
            let seeds = !state.ready;
            if seeds {
                state.early_bytes += event.len() + data.as_bytes().len();
                state.early.push((event.into(), data));
            } else {
                let folded = state.value.apply(event, data);
                debug_assert!(folded.is_ok(), "it fitted");
            }
            self.held.settle(now + charged, state.cost());
            drop(state);
            if seeds {
                self.seed_later(ruled, topic, held);
            }
            return Ok(published);
        }
    }

    /// The topic's value, with the number of the last event in it.
    ///
    /// Cost: one copy of the value.
    pub(crate) async fn held_value(
        self: &Arc<Self>,
        topic: &str,
    ) -> Result<(RawJson, Option<u64>), LiveError> {
        let ruled = self
            .app
            .rules
            .of(topic)
            .filter(|ruled| ruled.stream().held.is_some());
        let Some(ruled) = ruled else {
            return Err(LiveError::internal(
                "the topic is not one of its stream's topics",
            ));
        };
        loop {
            let held = self.hold(ruled, topic)?;
            self.seed(ruled, topic, &held).await?;
            let state = held.state.lock();
            if !state.dropped {
                return Ok(state.snapshot());
            }
        }
    }

    /// Seeds a value that nobody has asked for yet.
    fn seed_later(self: &Arc<Self>, ruled: &Ruled<S, U>, topic: &str, held: Arc<Held>) {
        if held.seeding.try_lock().is_none() {
            return;
        }
        let (engine, topic, path) = (Arc::clone(self), topic.to_owned(), Arc::clone(&ruled.path));
        self.platform.spawn(Box::pin(async move {
            let Some(ruled) = engine.app.rules.of(&topic) else {
                return;
            };
            if let Err(error) = engine.seed(ruled, &topic, &held).await {
                let ctx = engine.system_ctx(&path);
                if !ruled.stream().observe(&ctx, &topic, &error) {
                    ctx.report(&error);
                }
            }
        }));
    }

    /// Makes sure that the first value is there, and folds in what came before it.
    async fn seed(
        self: &Arc<Self>,
        ruled: &Ruled<S, U>,
        topic: &str,
        held: &Held,
    ) -> Result<(), LiveError> {
        if held.state.lock().ready {
            return Ok(());
        }
        // Given back when this future is dropped; the next one then tries.
        let _mine = held.seeding.lock().await;
        let holding = ruled.stream().held.as_ref();
        let Some(seed) = holding.and_then(|holding| holding.seed.as_ref()) else {
            return Ok(());
        };
        if held.state.lock().ready {
            return Ok(());
        }
        let ctx = self.system_ctx(&ruled.path);
        let seeding = AssertUnwindSafe(async { seed(ctx, topic.into()).await }).catch_unwind();
        let seeded = seeding
            .await
            .unwrap_or_else(|_| Err(LiveError::internal("the seed panicked")))?;
        let stream = ruled.stream();
        let first = match seeded {
            None => stream.empty_value(),
            Some(value) => stream.transformed(value)?,
        };
        let mut state = held.state.lock();
        let charged = state.cost();
        state.value.load(first).map_err(too_much)?;
        state.ready = true;
        state.early_bytes = 0;
        let mut lost = false;
        for (event, data) in core::mem::take(&mut state.early) {
            lost |= state.value.apply(&event, data).is_err();
        }
        // The limit may be exceeded by one value here: it was read before its size was known.
        self.held.settle(charged, state.cost());
        if lost {
            // Subscribers have seen events for which there is no room: they get the value.
            let (value, _) = state.snapshot();
            let numbered = !stream.volatile && stream.coalesce.is_none();
            let options = PublishOptions {
                numbered,
                ..PublishOptions::default()
            };
            let told = self
                .platform
                .publish(topic, REFRESHED, value.get(), options);
            if let Ok(published) = told {
                state.seq = published.seq.or(state.seq);
            }
        }
        Ok(())
    }

    /// Starts the task that drops idle values of a stream, if it declares such and none runs.
    fn sweep(self: &Arc<Self>, ruled: &Ruled<S, U>) {
        let Some(holding) = &ruled.stream().held else {
            return;
        };
        let Some(after) = holding.drop_after else {
            return;
        };
        if holding.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (engine, ruled) = (Arc::clone(self), ruled.clone());
        self.platform.spawn(Box::pin(async move {
            loop {
                engine.platform.sleep(after).await;
                if !engine.drop_idle(&ruled, after) {
                    // One that is made right now has seen the flag or sets it again.
                    if let Some(holding) = &ruled.stream().held {
                        holding.sweeping.store(false, Ordering::Release);
                    }
                    if !engine.holds_any(&ruled) {
                        return;
                    }
                    engine.sweep(&ruled);
                    return;
                }
            }
        }));
    }

    fn holds_any(&self, ruled: &Ruled<S, U>) -> bool {
        let topics = self.held.topics.read();
        topics.keys().any(|topic| self.is_topic_of(ruled, topic))
    }

    fn is_topic_of(&self, ruled: &Ruled<S, U>, topic: &str) -> bool {
        let of = self.app.rules.of(topic);
        of.is_some_and(|of| Arc::ptr_eq(&of.kind, &ruled.kind))
    }

    /// Drops values that nobody holds and nobody has changed for a while; whether some are left.
    fn drop_idle(&self, ruled: &Ruled<S, U>, after: Duration) -> bool {
        let now = self.platform.now();
        let mut left = false;
        self.held.topics.write().retain(|topic, held| {
            if !self.is_topic_of(ruled, topic) {
                return true;
            }
            let idle = |state: &State| {
                now.saturating_since(state.touched) >= after
                    && self.platform.subscribers(topic) == 0
            };
            // One that is being used now is not idle.
            if let Some(mut state) = held.state.try_lock()
                && idle(&state)
            {
                state.dropped = true;
                self.held.settle(state.cost(), 0);
                return false;
            }
            left = true;
            true
        });
        left
    }
}
