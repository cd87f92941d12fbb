//! Streams: a topic, what it holds at first, and how clients fold what follows.

use core::fmt;
use core::future::Future;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{ListWriter, RawJson, RawJsonRef};
use millstream_hub::Pattern;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::Problem;
use crate::args::{Arg, Args};
use crate::ctx::Ctx;
use crate::error::LiveError;
use crate::handler::{AnyHandler, BoxFuture, Handler, erase};
use crate::held::Holding;
use crate::module::Scope;
use crate::pipe::Pipe;
use crate::policy::{Breaker, Guarded};
use crate::shaping::CoalesceKey;
use crate::user::User;

/// How clients fold events into the value they show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Merge {
    /// A list of items with keys: `created`, `updated`, `deleted`.
    Crud,
    /// A list of the newest entries; every event adds one.
    Latest,
    /// One value; every event replaces it.
    Set,
    /// Who is there: `join`, `leave`.
    Presence,
    /// Where they point: `update`, `remove`.
    Cursor,
}

impl Merge {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crud => "crud",
            Self::Latest => "latest",
            Self::Set => "set",
            Self::Presence => "presence",
            Self::Cursor => "cursor",
        }
    }
}

pub(crate) type TopicOf<S, U> =
    Arc<dyn Fn(&Ctx<S, U>, &Args) -> Result<String, LiveError> + Send + Sync>;
pub(crate) type ArgsCheck = Arc<dyn Fn(Args) -> Result<Args, LiveError> + Send + Sync>;
pub(crate) type Project = Arc<dyn Fn(RawJsonRef<'_>) -> Result<RawJson, LiveError> + Send + Sync>;
pub(crate) type SubscribeHook<S, U> =
    Arc<dyn Fn(Ctx<S, U>, Arc<str>) -> BoxFuture<()> + Send + Sync>;
pub(crate) type UnsubscribeHook<S, U> =
    Arc<dyn Fn(Ctx<S, U>, Arc<str>, u64) -> BoxFuture<()> + Send + Sync>;
pub(crate) type Observer<S, U> = Arc<dyn Fn(&Ctx<S, U>, &str, &LiveError) + Send + Sync>;
type Asked<S, U, T> = Arc<dyn Fn(Ctx<S, U>, Args) -> BoxFuture<Result<T, LiveError>> + Send + Sync>;
type Since<S, U, X> =
    Arc<dyn Fn(Ctx<S, U>, Args, X) -> BoxFuture<Result<Option<RawJson>, LiveError>> + Send + Sync>;

/// One stream with its options. A value: wrapping it never loses an option.
///
/// ```
/// use millstream_live::{Ctx, LiveError, Merge, Stream};
///
/// async fn load(_: Ctx<(), ()>, room: String) -> Result<Vec<String>, LiveError> {
///     Ok(vec![format!("welcome to {room}")])
/// }
/// let stream: Stream<(), ()> = Stream::by(|room: String| format!("room:{room}"))
///     .load(load)
///     .merge(Merge::Latest)
///     .max(100);
/// # let _ = stream;
/// ```
pub struct Stream<S, U> {
    pub(crate) topic: TopicOf<S, U>,
    pub(crate) fixed: Option<String>,
    pub(crate) topics: Option<Pattern>,
    pub(crate) volatile: bool,
    pub(crate) replay: Option<u32>,
    pub(crate) loader: Option<AnyHandler<S, U>>,
    pub(crate) merge: Merge,
    pub(crate) key: Option<String>,
    pub(crate) prepend: Option<bool>,
    pub(crate) max: Option<u32>,
    pub(crate) args: Option<ArgsCheck>,
    pub(crate) gates: Vec<Scope<S, U>>,
    pub(crate) access: Vec<Scope<S, U>>,
    pub(crate) class: Option<String>,
    breaker: Option<Guarded<S, U>>,
    pub(crate) on_subscribe: Option<SubscribeHook<S, U>>,
    pub(crate) on_unsubscribe: Option<UnsubscribeHook<S, U>>,
    pub(crate) on_error: Option<Observer<S, U>>,
    pub(crate) transform: Option<Project>,
    pub(crate) schema: Option<Schema>,
    pub(crate) delta: Option<Delta<S, U>>,
    pub(crate) from_seq: Option<Since<S, U, u64>>,
    pub(crate) coalesce: Option<CoalesceKey>,
    pub(crate) pipe: Option<Pipe<S, U>>,
    pub(crate) stale_after: Option<Duration>,
    pub(crate) invalidate_on: Vec<String>,
    pub(crate) held: Option<Holding<S, U>>,
}

/// A schema version and the steps that lead from one to the next.
pub(crate) struct Schema {
    pub(crate) version: u32,
    pub(crate) steps: BTreeMap<u32, Project>,
}

/// How changes since a version are found.
pub(crate) struct Delta<S, U> {
    pub(crate) version: Asked<S, U, RawJson>,
    pub(crate) diff: Since<S, U, RawJson>,
}

impl<S, U> fmt::Debug for Stream<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("fixed", &self.fixed)
            .field("merge", &self.merge)
            .field("channel", &self.is_channel())
            .finish_non_exhaustive()
    }
}

impl<S, U> Stream<S, U> {
    /// The topics that the stream makes, as far as they are known beforehand.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = Pattern> {
        let fixed = self.fixed.as_deref().map(Pattern::exact);
        fixed.into_iter().chain(self.topics.clone())
    }

    /// Whether clients keep what they have because nobody else does.
    pub(crate) fn is_channel(&self) -> bool {
        self.loader.is_none() && self.held.is_none()
    }
}

impl<S: Send + Sync + 'static, U: User> Stream<S, U> {
    /// A stream with one topic for everybody.
    #[must_use]
    pub fn fixed(topic: impl Into<String>) -> Self {
        let topic = topic.into();
        let fixed = Some(topic.clone());
        Self {
            fixed,
            ..Self::with_topic(Arc::new(move |_, _| Ok(topic.clone())))
        }
    }

    /// A stream whose topic is made from its first argument, which therefore cannot be absent.
    /// Different arguments have to give different topics.
    #[must_use]
    pub fn by<A: Arg>(topic: impl Fn(A) -> String + Send + Sync + 'static) -> Self {
        Self::computed(move |_, args| Ok(topic(A::from_args(&mut args.cursor())?)))
    }

    /// A stream whose topic is made from everything that is known.
    #[must_use]
    pub fn computed(
        topic: impl Fn(&Ctx<S, U>, &Args) -> Result<String, LiveError> + Send + Sync + 'static,
    ) -> Self {
        Self::with_topic(Arc::new(topic))
    }

    fn with_topic(topic: TopicOf<S, U>) -> Self {
        Self {
            topic,
            fixed: None,
            topics: None,
            volatile: false,
            replay: None,
            loader: None,
            merge: Merge::Crud,
            key: None,
            prepend: None,
            max: None,
            args: None,
            gates: Vec::new(),
            access: Vec::new(),
            class: None,
            breaker: None,
            on_subscribe: None,
            on_unsubscribe: None,
            on_error: None,
            transform: None,
            schema: None,
            delta: None,
            from_seq: None,
            coalesce: None,
            pipe: None,
            stale_after: None,
            invalidate_on: Vec::new(),
            held: None,
        }
    }

    /// The topics that the stream makes: an exact name or a prefix such as `room:*`. What the
    /// stream declares about events then holds for every publish there, whether or not anybody
    /// has subscribed. A fixed topic needs none.
    #[must_use]
    pub fn topics(mut self, pattern: &str) -> Self {
        self.topics = Some(Pattern::new(pattern));
        self
    }

    /// Events carry no number and skip readers that are behind, for values that are old soon.
    #[must_use]
    pub fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// Keeps the newest `events` of each topic, so that a client that comes back gets what it
    /// missed instead of everything, as long as that is not more. A stream whose topic is
    /// computed has to name its [`topics`](Self::topics); then every publish on them is kept,
    /// wherever it comes from and whether or not anybody has subscribed.
    ///
    /// Clients of a [`Merge::Latest`] stream that come back get everything all the same: they
    /// cannot tell events that they have from those that they missed. What all topics keep
    /// together is bounded by the server; who needs more than is left is given everything.
    ///
    /// ```
    /// use millstream_live::{Ctx, LiveError, Stream};
    ///
    /// async fn load(_: Ctx<(), ()>, _room: String) -> Result<Vec<u32>, LiveError> {
    ///     Ok(Vec::new())
    /// }
    /// let stream: Stream<(), ()> = Stream::by(|room: String| format!("room:{room}"))
    ///     .topics("room:*")
    ///     .replay(1_000)
    ///     .load(load);
    /// # let _ = stream;
    /// ```
    #[must_use]
    pub fn replay(mut self, events: u32) -> Self {
        self.replay = Some(events);
        self
    }

    /// What the stream holds at first. Without a loader it is a channel: clients keep what they
    /// have, or begin with nothing. A result that has both members `data` and `hasMore` is a
    /// page; see [`Page`].
    #[must_use]
    pub fn load<P: 'static>(mut self, loader: impl Handler<S, U, P>) -> Self {
        self.loader = Some(erase(loader));
        self
    }

    /// How clients fold events. Default [`Merge::Crud`].
    #[must_use]
    pub fn merge(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }

    /// The field that identifies an item. Default `id` for crud.
    #[must_use]
    pub fn key(mut self, field: impl Into<String>) -> Self {
        self.key = Some(field.into());
        self
    }

    /// Whether new items go to the front. Default no.
    #[must_use]
    pub fn prepend(mut self, prepend: bool) -> Self {
        self.prepend = Some(prepend);
        self
    }

    /// Items that clients keep. Default 50 for latest, else no limit.
    #[must_use]
    pub fn max(mut self, max: u32) -> Self {
        self.max = Some(max);
        self
    }

    /// Checks or rewrites the arguments before anything else sees them.
    #[must_use]
    pub fn args(
        mut self,
        check: impl Fn(Args) -> Result<Args, LiveError> + Send + Sync + 'static,
    ) -> Self {
        self.args = Some(Arc::new(check));
        self
    }

    /// Off, rather than forbidden, while the predicate says no: the client gets null and no topic.
    #[must_use]
    pub fn gate<Fut>(
        mut self,
        open: impl Fn(Ctx<S, U>, Args) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = Result<bool, LiveError>> + Send + 'static,
    {
        self.gates
            .push(Arc::new(move |ctx, args| Box::pin(open(ctx, args))));
        self
    }

    /// Lets through only what the predicate accepts; of several all have to. Asked once for each
    /// subscription; an error is the call's error. [`access`](crate::access) has ready predicates.
    #[must_use]
    pub fn access<Fut>(
        mut self,
        predicate: impl Fn(Ctx<S, U>, Args) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = Result<bool, LiveError>> + Send + 'static,
    {
        self.access
            .push(Arc::new(move |ctx, args| Box::pin(predicate(ctx, args))));
        self
    }

    /// One more predicate of [`access`](Self::access), by the name it has for calls.
    #[must_use]
    pub fn scoped<Fut>(
        self,
        predicate: impl Fn(Ctx<S, U>, Args) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = Result<bool, LiveError>> + Send + 'static,
    {
        self.access(predicate)
    }

    /// New subscriptions are refused with `OVERLOADED` while this class is shed; those that exist
    /// stay. The class has to be declared by [`Builder::admission`](crate::Builder::admission).
    #[must_use]
    pub fn class_of_service(mut self, class: impl Into<String>) -> Self {
        self.class = Some(class.into());
        self
    }

    /// A breaker around the loader, whoever runs it: while it is open, subscriptions are refused
    /// with `SERVICE_UNAVAILABLE`.
    #[must_use]
    pub fn breaker(mut self, breaker: &Breaker) -> Self {
        self.breaker = Some(Guarded {
            breaker: breaker.clone(),
            fallback: None,
        });
        self
    }

    /// The same with another loader that runs while the breaker is open.
    #[must_use]
    pub fn breaker_or<P: 'static>(
        mut self,
        breaker: &Breaker,
        fallback: impl Handler<S, U, P>,
    ) -> Self {
        self.breaker = Some(Guarded {
            breaker: breaker.clone(),
            fallback: Some(erase(fallback)),
        });
        self
    }

    /// Puts the breaker around the loader, in whatever order they were named.
    pub(crate) fn guard_loader(&mut self) -> Option<Problem> {
        let guarded = self.breaker.take()?;
        if let Some(problem) = guarded.breaker.problem() {
            return Some(problem);
        }
        let Some(loader) = self.loader.take() else {
            return Some(Problem::BreakerOfChannel);
        };
        self.loader = Some(guarded.wrap(loader));
        None
    }

    /// Runs once per subscription, before the loader.
    #[must_use]
    pub fn on_subscribe<Fut>(
        mut self,
        hook: impl Fn(Ctx<S, U>, Arc<str>) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.on_subscribe = Some(Arc::new(move |ctx, topic| Box::pin(hook(ctx, topic))));
        self
    }

    /// Runs once per subscription when it ends, in whatever way, with the topic and the number of
    /// other connections that still hold it.
    #[must_use]
    pub fn on_unsubscribe<Fut>(
        mut self,
        hook: impl Fn(Ctx<S, U>, Arc<str>, u64) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.on_unsubscribe = Some(Arc::new(move |ctx, topic, remaining| {
            Box::pin(hook(ctx, topic, remaining))
        }));
        self
    }

    /// Is told of errors of the loader and of the shape of events, with the topic.
    #[must_use]
    pub fn on_error(
        mut self,
        hook: impl Fn(&Ctx<S, U>, &str, &LiveError) + Send + Sync + 'static,
    ) -> Self {
        self.on_error = Some(Arc::new(hook));
        self
    }

    /// Shapes what clients see: of the first value every element of a list, or the whole value,
    /// not null; of each event its data, once, before anybody gets it. A stream whose topic is
    /// computed has to name its [`topics`](Self::topics) for this. When the shape of an event
    /// fails it is not published: [`on_error`](Self::on_error) is told, or else the publisher.
    #[must_use]
    pub fn transform<T: DeserializeOwned, R: Serialize>(
        mut self,
        shape: impl Fn(T) -> Result<R, LiveError> + Send + Sync + 'static,
    ) -> Self {
        self.transform = Some(project(shape));
        self
    }

    /// The version of the items' shape. A client that says it holds an older one gets what is
    /// loaded through every [`migrate`](Self::migrate) step from its version to this one.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.schema_mut().version = version;
        self
    }

    /// The step from version `from` to the next.
    #[must_use]
    pub fn migrate<T: DeserializeOwned, R: Serialize>(
        mut self,
        from: u32,
        step: impl Fn(T) -> Result<R, LiveError> + Send + Sync + 'static,
    ) -> Self {
        self.schema_mut().steps.insert(from, project(step));
        self
    }

    fn schema_mut(&mut self) -> &mut Schema {
        self.schema.get_or_insert_with(|| Schema {
            version: 1,
            steps: BTreeMap::new(),
        })
    }

    /// How to tell whether a client's data is current, and what has changed since. `diff` gives a
    /// list of changed items, removed ones with `_deleted: true`, or nothing when it cannot say.
    #[must_use]
    pub fn delta<V, D>(
        mut self,
        version: impl Fn(Ctx<S, U>, Args) -> V + Send + Sync + 'static,
        diff: impl Fn(Ctx<S, U>, Args, RawJson) -> D + Send + Sync + 'static,
    ) -> Self
    where
        V: Future<Output = Result<RawJson, LiveError>> + Send + 'static,
        D: Future<Output = Result<Option<RawJson>, LiveError>> + Send + 'static,
    {
        self.delta = Some(Delta {
            version: Arc::new(move |ctx, args| Box::pin(version(ctx, args))),
            diff: Arc::new(move |ctx, args, since| Box::pin(diff(ctx, args, since))),
        });
        self
    }

    /// How to find events after a number in a durable place. Gives a list of
    /// `{event, data, seq}`, or nothing when it cannot say.
    #[must_use]
    pub fn from_seq<F>(
        mut self,
        find: impl Fn(Ctx<S, U>, Args, u64) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Option<RawJson>, LiveError>> + Send + 'static,
    {
        self.from_seq = Some(Arc::new(move |ctx, args, since| {
            Box::pin(find(ctx, args, since))
        }));
        self
    }

    /// The key field that replies name.
    pub(crate) fn key_field(&self) -> Option<&str> {
        match (&self.key, self.merge) {
            (Some(key), _) => Some(key),
            (None, Merge::Crud) => Some("id"),
            (None, _) => None,
        }
    }
}

/// One page of a loader's result.
///
/// ```
/// use millstream_live::Page;
/// let page = Page { data: vec![1, 2], has_more: true, cursor: Some(2) };
/// let json = millstream_core::RawJson::from_serialize(&page).unwrap();
/// assert_eq!(json.as_str(), r#"{"data":[1,2],"hasMore":true,"cursor":2}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(
    clippy::exhaustive_structs,
    reason = "made by applications, member by member"
)]
pub struct Page<T, C> {
    /// The items of this page.
    pub data: Vec<T>,
    /// Whether there are more.
    pub has_more: bool,
    /// Where the next page begins. Clients take zero and the empty text for the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<C>,
}

fn project<T: DeserializeOwned, R: Serialize>(
    shape: impl Fn(T) -> Result<R, LiveError> + Send + Sync + 'static,
) -> Project {
    Arc::new(move |item| {
        let item: T = serde_json::from_str(item.as_str())?;
        Ok(RawJson::from_serialize(&shape(item)?)?)
    })
}

/// Runs a projection over every element of a list, over any other value as a whole, not over null.
pub(crate) fn apply(project: &Project, data: RawJsonRef<'_>) -> Result<RawJson, LiveError> {
    if data.is_null() {
        return Ok(data.to_owned());
    }
    if !data.is_array() {
        return project(data);
    }
    let mut list = ListWriter::new();
    for element in data.elements() {
        list.push(project(element)?.get());
    }
    Ok(list.finish())
}
