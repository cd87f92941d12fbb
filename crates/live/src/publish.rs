//! The one way of an event from an application to its topic.
//!
//! Every surface ends here: contexts, [`Publisher`]s, batches, publishes by HTTP, reloads. The
//! steps are always the same, in this order: system topics are refused; the key for slow readers
//! is read from the data as it was given; the data is shaped, once; a held value takes it in and
//! the hub numbers, keeps and delivers it, both under the topic's lock; then the clocks of stale
//! topics start again and what the topic invalidates is loaded again. What observes events will
//! come behind that last step, [`Engine::heard`], which every event passes exactly once.

use std::fmt;
use std::sync::{Arc, OnceLock};

use millstream_core::{RawJson, RawJsonRef, TopicRules, check_event, is_system_topic};
use millstream_hub::{BatchMember, OpenError, PublishError, PublishOptions, Published};
use serde::Serialize;

use crate::ctx::{Ctx, CtxPath};
use crate::engine::Engine;
use crate::error::{LiveError, code};
use crate::origin::Origin;
use crate::pipeline::Live;
use crate::platform::Caller;
use crate::rules::Ruled;
use crate::user::User;

/// Publishes from anywhere: other threads, background work, hooks, before and after the server
/// has started. Cheap to clone.
///
/// It does what [`Ctx::publish`] does, for nobody in particular. Publishes of one thread or task
/// to one topic keep their order, through whatever surface each of them goes.
///
/// ```
/// use millstream_live::{LiveError, Publisher};
///
/// fn tick(publisher: &Publisher, n: u64) -> Result<bool, LiveError> {
///     Ok(publisher.publish("clock", "tick", &n)?.delivered)
/// }
/// let early = Publisher::detached();
/// assert_eq!(tick(&early, 1).unwrap_err().code(), "OVERLOADED", "there is no server yet");
/// ```
#[derive(Clone)]
pub struct Publisher(Arc<OnceLock<Box<dyn Surface>>>);

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("attached", &self.0.get().is_some())
            .finish()
    }
}

impl Publisher {
    /// One that has no application yet; see [`Live::attach`].
    #[must_use]
    pub fn detached() -> Self {
        Self(Arc::default())
    }

    /// Publishes a value to all subscribers of a topic.
    ///
    /// # Errors
    /// As [`Ctx::publish`]; `OVERLOADED` before the server has started.
    pub fn publish<T: Serialize + ?Sized>(
        &self,
        topic: &str,
        event: &str,
        data: &T,
    ) -> Result<Published, LiveError> {
        let data = RawJson::from_serialize(data)?;
        self.publish_raw(topic, event, data.get(), PublishOptions::default())
    }

    /// Publishes ready JSON.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_raw(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        options: PublishOptions,
    ) -> Result<Published, LiveError> {
        self.surface()?.publish(Outgoing {
            topic,
            event,
            data,
            options,
        })
    }

    /// Publishes several events; see [`Ctx::publish_batch`].
    ///
    /// # Errors
    /// As there; `OVERLOADED` before the server has started.
    pub fn publish_batch(&self, events: &[BatchEvent<'_>]) -> Result<Vec<Published>, LiveError> {
        self.surface()?.publish_batch(events)
    }

    fn surface(&self) -> Result<&dyn Surface, LiveError> {
        let surface = self.0.get().map(|surface| &**surface);
        surface.ok_or_else(|| LiveError::new(code::OVERLOADED, "the server has not started"))
    }
}

/// What a publisher needs of an application, without the application's types.
trait Surface: Send + Sync {
    fn publish(&self, event: Outgoing<'_>) -> Result<Published, LiveError>;
    fn publish_batch(&self, events: &[BatchEvent<'_>]) -> Result<Vec<Published>, LiveError>;
}

impl<S: Send + Sync + 'static, U: User> Surface for Live<S, U> {
    fn publish(&self, event: Outgoing<'_>) -> Result<Published, LiveError> {
        self.engine().publish(None, event)
    }

    fn publish_batch(&self, events: &[BatchEvent<'_>]) -> Result<Vec<Published>, LiveError> {
        self.engine().publish_batch(None, events)
    }
}

impl<S: Send + Sync + 'static, U: User> Live<S, U> {
    /// A way to publish from outside of calls.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        let publisher = Publisher::detached();
        self.attach(&publisher);
        publisher
    }

    /// Lets a detached publisher, and all its clones, publish here. False when it has a place.
    pub fn attach(&self, publisher: &Publisher) -> bool {
        publisher.0.set(Box::new(self.clone())).is_ok()
    }
}

/// One event of a batch.
///
/// ```
/// use millstream_live::{BatchEvent, LiveError};
///
/// let moved = BatchEvent::new("board:7", "updated", &serde_json::json!({"id": 1}))?;
/// # let _ = moved;
/// # Ok::<(), LiveError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchEvent<'a> {
    topic: &'a str,
    event: &'a str,
    data: RawJson,
    options: PublishOptions,
}

impl<'a> BatchEvent<'a> {
    /// An event with a value.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` for what cannot be written as JSON.
    pub fn new<T: Serialize + ?Sized>(
        topic: &'a str,
        event: &'a str,
        data: &T,
    ) -> Result<Self, LiveError> {
        Ok(Self::raw(topic, event, RawJson::from_serialize(data)?))
    }

    /// An event with ready JSON.
    #[must_use]
    pub fn raw(topic: &'a str, event: &'a str, data: RawJson) -> Self {
        Self {
            topic,
            event,
            data,
            options: PublishOptions::default(),
        }
    }

    /// Says how it is published.
    #[must_use]
    pub fn options(mut self, options: PublishOptions) -> Self {
        self.options = options;
        self
    }

    fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            topic: self.topic,
            event: self.event,
            data: self.data.get(),
            options: self.options,
        }
    }
}

/// An event on its way in.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) event: &'a str,
    pub(crate) data: RawJsonRef<'a>,
    pub(crate) options: PublishOptions,
}

/// An event on its way out: as subscribers will see it.
struct Prepared<'a, S, U> {
    event: Outgoing<'a>,
    ruled: Option<&'a Ruled<S, U>>,
    shaped: Option<RawJson>,
    slow: Slow,
}

/// What a connection with a backlog gets.
enum Slow {
    /// Everything.
    Queue,
    /// The newest event with this key.
    Newest(String),
    /// This event, instead of everything that waits of the topic.
    Only,
}

impl<S, U> Prepared<'_, S, U> {
    fn data(&self) -> RawJsonRef<'_> {
        self.shaped.as_ref().map_or(self.event.data, RawJson::get)
    }

    /// Whether it can be published together with others.
    fn is_plain(&self) -> bool {
        let held = self
            .ruled
            .is_some_and(|ruled| ruled.stream().held.is_some());
        matches!(self.slow, Slow::Queue) && !self.event.options.volatile && !held
    }
}

/// What a publish gives that was not delivered because an observer took its error.
const ABSORBED: Published = Published {
    delivered: false,
    seq: None,
    queued: false,
};

impl<S: Send + Sync + 'static, U: User> Engine<S, U> {
    /// Publishes an event through all steps. `from` is the context of whoever does it.
    pub(crate) fn publish(
        self: &Arc<Self>,
        from: Option<&Ctx<S, U>>,
        event: Outgoing<'_>,
    ) -> Result<Published, LiveError> {
        refuse_system(event.topic)?;
        self.warn_of(event);
        let outcome = match self.app.rules.of(event.topic) {
            // Most topics: nothing to shape, nothing to keep.
            None => self.deliver(event, event.data, &Slow::Queue),
            Some(ruled) => match self.prepare(from, event, Some(ruled)) {
                Ok(Some(prepared)) => self.hand_over(&prepared),
                Ok(None) => Ok(ABSORBED),
                Err(error) => Err(error),
            },
        };
        self.heard(event);
        outcome
    }

    /// Checks and shapes all events, then publishes them in order.
    pub(crate) fn publish_batch(
        self: &Arc<Self>,
        from: Option<&Ctx<S, U>>,
        events: &[BatchEvent<'_>],
    ) -> Result<Vec<Published>, LiveError> {
        let mut prepared = Vec::with_capacity(events.len());
        for event in events {
            refuse_system(event.topic)?;
            check_event(event.event)
                .map_err(|error| LiveError::publish(PublishError::Event(error)))?;
            TopicRules::SERVER.check(event.topic).map_err(|error| {
                LiveError::publish(PublishError::Topic(OpenError::Invalid(error)))
            })?;
        }
        for event in events {
            let event = event.outgoing();
            self.warn_of(event);
            let ruled = self.app.rules.of(event.topic);
            prepared.push(self.prepare(from, event, ruled)?);
        }
        let outcome = self.hand_over_all(&prepared);
        for event in events {
            self.heard(event.outgoing());
        }
        outcome
    }

    /// What has to happen to an event before anybody sees it. Nothing, when an observer has taken
    /// an error of its shape.
    fn prepare<'a>(
        self: &'a Arc<Self>,
        from: Option<&Ctx<S, U>>,
        mut event: Outgoing<'a>,
        ruled: Option<&'a Ruled<S, U>>,
    ) -> Result<Option<Prepared<'a, S, U>>, LiveError> {
        let Some(ruled) = ruled else {
            return Ok(Some(Prepared {
                event,
                ruled: None,
                shaped: None,
                slow: Slow::Queue,
            }));
        };
        let stream = ruled.stream();
        event.options.numbered &= !stream.volatile;
        event.options.volatile |= stream.volatile;
        let key = match &stream.coalesce {
            None => Ok(Slow::Queue),
            // It holds everything that waits already.
            Some(_) if event.event == REFRESHED => Ok(Slow::Only),
            Some(key) => key(event.data).map(|key| Slow::Newest(key.unwrap_or_default())),
        };
        let shaped = key.and_then(|slow| Ok((slow, stream.shape_event(event.event, event.data)?)));
        match (shaped, &stream.on_error) {
            (Ok((slow, shaped)), _) => Ok(Some(Prepared {
                event,
                ruled: Some(ruled),
                shaped,
                slow,
            })),
            (Err(error), None) => Err(error),
            (Err(error), Some(_)) => {
                let nobody;
                let ctx = match from {
                    Some(ctx) => ctx,
                    None => {
                        nobody = self.system_ctx(&ruled.path);
                        &nobody
                    }
                };
                stream.observe(ctx, event.topic, &error);
                Ok(None)
            }
        }
    }

    /// Gives one event to whoever keeps and delivers it.
    fn hand_over(self: &Arc<Self>, prepared: &Prepared<'_, S, U>) -> Result<Published, LiveError> {
        let Prepared {
            event, ruled, slow, ..
        } = prepared;
        let data = prepared.data();
        match ruled {
            Some(ruled) if ruled.stream().held.is_some() => {
                let deliver = || self.deliver(*event, data, slow);
                self.publish_held(ruled, event.topic, event.event, data, deliver)
            }
            _ => self.deliver(*event, data, slow),
        }
    }

    /// Gives the platform an event, with data as subscribers see it.
    fn deliver(
        &self,
        event: Outgoing<'_>,
        data: RawJsonRef<'_>,
        slow: &Slow,
    ) -> Result<Published, LiveError> {
        let Outgoing {
            topic,
            event,
            options,
            ..
        } = event;
        let platform = &self.platform;
        match slow {
            Slow::Queue => platform.publish(topic, event, data, options),
            Slow::Newest(key) => platform.publish_coalesced(topic, event, data, Some(key)),
            Slow::Only => platform.publish_coalesced(topic, event, data, None),
        }
        .map_err(LiveError::publish)
    }

    /// Tells of data that clients would not read as their author means it.
    fn warn_of(&self, event: Outgoing<'_>) {
        if let Some(warning) = self.warnings.check(event.topic, event.data) {
            self.warn(&warning);
        }
    }

    /// Gives all events on: neighbours that need nothing special as one unit.
    fn hand_over_all(
        self: &Arc<Self>,
        prepared: &[Option<Prepared<'_, S, U>>],
    ) -> Result<Vec<Published>, LiveError> {
        let mut results = Vec::with_capacity(prepared.len());
        let mut rest = prepared;
        while let Some(first) = rest.first() {
            let plain = rest
                .iter()
                .take_while(|one| one.as_ref().is_some_and(Prepared::is_plain));
            let (run, others) = rest.split_at(plain.count().max(1));
            rest = others;
            match first {
                None => results.push(ABSORBED),
                Some(one) if !one.is_plain() => results.push(self.hand_over(one)?),
                Some(_) => {
                    let members: Vec<BatchMember<'_>> = run
                        .iter()
                        .flatten()
                        .map(|one| BatchMember {
                            topic: one.event.topic,
                            event: one.event.event,
                            data: one.data(),
                            coalesce_key: None,
                            numbered: one.event.options.numbered,
                        })
                        .collect();
                    results.extend(
                        self.platform
                            .publish_batched(&members)
                            .map_err(LiveError::publish)?,
                    );
                }
            }
        }
        Ok(results)
    }

    /// An event was published, or refused: either way what it tells of has happened.
    fn heard(self: &Arc<Self>, event: Outgoing<'_>) {
        self.watches.heard(self, event.topic, event.event);
    }

    /// A context for work that no client asked for.
    pub(crate) fn system_ctx(self: &Arc<Self>, path: &Arc<str>) -> Ctx<S, U> {
        let origin = Origin::new(Arc::clone(self), Caller::nobody());
        Ctx::new(origin, CtxPath::Work(Arc::clone(path)), None)
    }
}

/// The event that replaces everything a client has of a stream.
pub(crate) const REFRESHED: &str = "refreshed";

fn refuse_system(topic: &str) -> Result<(), LiveError> {
    if is_system_topic(topic) {
        return Err(LiveError::new(
            code::INVALID_TOPIC,
            "topics that begin with __ are reserved",
        ));
    }
    Ok(())
}

impl LiveError {
    /// The engine's reason not to publish, as applications and clients see it: `INVALID_TOPIC`,
    /// `INVALID_REQUEST` (the event's name, too many members), `PAYLOAD_TOO_LARGE`, `OVERLOADED`.
    #[must_use]
    pub fn publish(error: PublishError) -> Self {
        let code = match &error {
            PublishError::Topic(OpenError::Invalid(_)) => code::INVALID_TOPIC,
            PublishError::TooLarge { .. } => code::PAYLOAD_TOO_LARGE,
            PublishError::Busy | PublishError::Topic(OpenError::Full) => code::OVERLOADED,
            PublishError::Event(_) | PublishError::TooMany { .. } => code::INVALID_REQUEST,
            _ => return Self::internal(error),
        };
        Self::new(code, error.to_string())
    }
}
