//! The application: all modules under their paths, checked before the first request.

use core::fmt;
use core::future::Future;
use core::time::Duration;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use millstream_core::is_system_topic;
use millstream_hub::Pattern;
use millstream_upload::{BudgetLimits, Limits as UploadLimits};
use millstream_wire::is_call_path;

use crate::admission::Admission;
use crate::args::Args;
use crate::ctx::Ctx;
use crate::error::LiveError;
use crate::handler::BoxFuture;
use crate::layer::{Layer, Next, Outcome};
use crate::module::{Check, Kind, Module};
use crate::policy::{Limited, Plan, RateLimits};
use crate::rules::Rules;
use crate::user::User;
use crate::warning::Warning;

/// Everything clients can reach, and what runs around it.
///
/// ```
/// use millstream_live::{App, Ctx, LiveError, Module};
///
/// struct State { greeting: &'static str }
///
/// async fn hello(ctx: Ctx<State, String>, name: String) -> Result<String, LiveError> {
///     Ok(format!("{}, {name}", ctx.state().greeting))
/// }
///
/// let app = App::new(State { greeting: "hello" })
///     .module(Module::new("demo").call("hello", hello))
///     .build()?;
/// assert_eq!(app.paths().collect::<Vec<_>>(), ["demo/hello"]);
/// # Ok::<(), millstream_live::RegistrationErrors>(())
/// ```
pub struct App<S, U> {
    pub(crate) state: Arc<S>,
    /// By their numbers.
    entries: Vec<Arc<Entry<S, U>>>,
    numbers: HashMap<Arc<str>, u32>,
    pub(crate) rules: Rules<S, U>,
    pub(crate) layers: Arc<[Layer<S, U>]>,
    pub(crate) before_execute: Option<BeforeExecute<S, U>>,
    pub(crate) on_error: Option<OnError<S, U>>,
    retained: Vec<(Pattern, u32)>,
    pub(crate) on_warning: Option<OnWarning<S>>,
    pub(crate) limits: Limits,
    pub(crate) admission: Option<Admission>,
    /// The tables that limits and idempotent calls need.
    pub(crate) plan: Plan,
}

/// Limits of the call pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Calls in one batch. More are refused one by one. Default 50.
    pub batch_calls_max: usize,
    /// Messages of one connection whose calls are not finished. Calls beyond that are refused with
    /// `OVERLOADED`; a batch counts as one message, and so does an upload for as long as its
    /// function runs, even when the upload itself is over. Default 1,000.
    pub messages_in_flight_max: usize,
    /// Subscriptions one connection may hold through streams, repeated ones included. Others are
    /// refused with `RATE_LIMITED`. Default 10,000.
    pub subscriptions_max: usize,
    /// How long a call may take that has no deadline of its own; see
    /// [`Call::deadline`](crate::Call::deadline). Default: as long as it likes.
    pub call_deadline: Option<Duration>,
    /// Windows that [`Ctx::skip`] keeps open. More are not opened. Default 100,000.
    pub skip_windows_max: usize,
    /// Entries of a batch that holds nothing but stream subscriptions. Default 1,000.
    pub batch_streams_max: usize,
    /// Bounds of the uploads of all connections of one worker. What a function allows is said with
    /// it. `frame_bytes_max` is the host's unless it is given.
    pub uploads: UploadLimits,
    /// Bounds of the uploads of the process.
    pub upload_budget: BudgetLimits,
    /// Topics that are loaded again when they are stale or invalidated. Others are not, and a
    /// warning says so. Default 100,000.
    pub watched_topics_max: usize,
    /// Topics that are being loaded again at the same time; others wait. Default 64.
    pub reloads_max: usize,
    /// How long loading a topic again may take before it counts as failed. Default 30 s.
    pub reload_timeout: Duration,
    /// Topics whose value the server keeps. Publishes and subscriptions to others are refused
    /// with `OVERLOADED`. Default 100,000.
    pub held_topics_max: usize,
    /// Entries of one held value. Events beyond that are refused with `PAYLOAD_TOO_LARGE`, and
    /// with `OVERLOADED` while the first value is not there. Default 10,000.
    pub held_entries_max: usize,
    /// Bytes of the entries of one held value; the same at the limit. Default 1,000,000: a reply
    /// has no room for more.
    pub held_bytes_max: usize,
    /// Bytes of all held values with what they need beside (60 per entry, 512 per topic). Events
    /// and topics beyond that are refused with `OVERLOADED`. Default 256 MiB.
    pub held_total_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_calls_max: 50,
            batch_streams_max: 1_000,
            call_deadline: None,
            skip_windows_max: 100_000,
            held_bytes_max: 1_000_000,
            held_entries_max: 10_000,
            held_topics_max: 100_000,
            held_total_bytes_max: 256 << 20,
            messages_in_flight_max: 1_000,
            reload_timeout: Duration::from_secs(30),
            reloads_max: 64,
            subscriptions_max: 10_000,
            uploads: UploadLimits::default(),
            upload_budget: BudgetLimits::default(),
            watched_topics_max: 100_000,
        }
    }
}

pub(crate) struct Entry<S, U> {
    pub(crate) path: Arc<str>,
    /// Its place among the entries of the application.
    pub(crate) number: u32,
    pub(crate) guard: Arc<[Check<S, U>]>,
    pub(crate) kind: Arc<Kind<S, U>>,
    /// The table of the central limits in which it is counted.
    pub(crate) central: Option<usize>,
}

type BeforeExecute<S, U> =
    Arc<dyn Fn(Ctx<S, U>, Args) -> BoxFuture<Result<(), LiveError>> + Send + Sync>;
type OnWarning<S> = Arc<dyn Fn(&S, &Warning) + Send + Sync>;
type OnError<S, U> = Arc<dyn Fn(&Ctx<S, U>, &LiveError) + Send + Sync>;

impl<S, U> fmt::Debug for App<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("entries", &self.entries.len())
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}

impl<S, U> App<S, U> {
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry<S, U>> {
        self.entries.iter().map(|entry| &**entry)
    }

    /// What a path stands for.
    pub(crate) fn entry(&self, path: &str) -> Option<&Arc<Entry<S, U>>> {
        self.numbered(*self.numbers.get(path)?)
    }

    #[inline]
    pub(crate) fn numbered(&self, number: u32) -> Option<&Arc<Entry<S, U>>> {
        self.entries.get(number as usize)
    }

    /// The path of an entry; the empty text for a number that no entry has.
    pub(crate) fn path(&self, number: u32) -> &str {
        self.numbered(number).map_or("", |entry| &entry.path)
    }
}

impl<S: Send + Sync + 'static, U: User> App<S, U> {
    /// Begins an application around its state.
    #[allow(
        clippy::new_ret_no_self,
        reason = "an application exists once its parts were checked"
    )]
    pub fn new(state: S) -> Builder<S, U> {
        Builder {
            state: Arc::new(state),
            modules: Vec::new(),
            layers: Vec::new(),
            before_execute: None,
            on_error: None,
            retained: Vec::new(),
            on_warning: None,
            limits: Limits::default(),
            rate_limits: RateLimits::default(),
            admission: None,
        }
    }
}

impl<S, U> App<S, U> {
    /// All paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let mut paths: Vec<&str> = self.entries().map(|entry| &*entry.path).collect();
        paths.sort_unstable();
        paths.into_iter()
    }

    /// The limit of messages in flight, for the host, who counts them.
    #[must_use]
    pub fn message_limit(&self) -> usize {
        self.limits.messages_in_flight_max
    }

    /// Whether any path is a stream.
    #[must_use]
    pub fn has_streams(&self) -> bool {
        let mut kinds = self.entries().map(|entry| &*entry.kind);
        kinds.any(|kind| matches!(kind, Kind::Stream(_)))
    }

    /// Topics that keep their newest events, and how many, for the host, whose topics they are.
    #[must_use]
    pub fn retention(&self) -> Vec<(Pattern, u32)> {
        let kinds = self.entries().map(|entry| &*entry.kind);
        let streams = kinds.filter_map(|kind| match kind {
            Kind::Stream(stream) => Some((stream, stream.replay?)),
            _ => None,
        });
        let declared = streams
            .flat_map(|(stream, events)| stream.patterns().map(move |pattern| (pattern, events)));
        declared.chain(self.retained.iter().cloned()).collect()
    }

    /// The application's state.
    #[must_use]
    pub fn state(&self) -> &Arc<S> {
        &self.state
    }
}

/// An application under construction.
pub struct Builder<S, U> {
    state: Arc<S>,
    modules: Vec<Module<S, U>>,
    layers: Vec<Layer<S, U>>,
    before_execute: Option<BeforeExecute<S, U>>,
    on_error: Option<OnError<S, U>>,
    retained: Vec<(Pattern, u32)>,
    on_warning: Option<OnWarning<S>>,
    limits: Limits,
    rate_limits: RateLimits,
    admission: Option<Admission>,
}

impl<S, U> fmt::Debug for Builder<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("modules", &self.modules)
            .finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static, U: User> Builder<S, U> {
    /// Adds a module.
    #[must_use]
    pub fn module(mut self, module: Module<S, U>) -> Self {
        self.modules.push(module);
        self
    }

    /// Adds a layer around everything clients can reach; the first is the outermost.
    ///
    /// ```
    /// use millstream_live::App;
    ///
    /// let app = App::<(), ()>::new(()).layer(|ctx, next| async move {
    ///     let outcome = next.run(ctx).await;
    ///     // Runs after the rest, also when that has failed.
    ///     outcome
    /// });
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn layer<Fut>(
        mut self,
        layer: impl Fn(Ctx<S, U>, Next<S, U>) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = Result<Outcome, LiveError>> + Send + 'static,
    {
        self.layers
            .push(Arc::new(move |ctx, next| Box::pin(layer(ctx, next))));
        self
    }

    /// Runs after the guard and before the function. An error aborts the call.
    #[must_use]
    pub fn before_execute<Fut>(
        mut self,
        hook: impl Fn(Ctx<S, U>, Args) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = Result<(), LiveError>> + Send + 'static,
    {
        self.before_execute = Some(Arc::new(move |ctx, args| Box::pin(hook(ctx, args))));
        self
    }

    /// Is told of every unexpected error of a call; see [`LiveError::is_typed`].
    #[must_use]
    pub fn on_error(
        mut self,
        hook: impl Fn(&Ctx<S, U>, &LiveError) + Send + Sync + 'static,
    ) -> Self {
        self.on_error = Some(Arc::new(hook));
        self
    }

    /// Lets matching topics, exact names or prefixes such as `room:*`, keep their newest events:
    /// clients that come back are sent what they missed, and [`Platform::since`] tells the
    /// application. For topics of streams see [`Stream::replay`].
    ///
    /// [`Platform::since`]: crate::Platform::since
    /// [`Stream::replay`]: crate::Stream::replay
    #[must_use]
    pub fn retain(mut self, topics: &str, events: u32) -> Self {
        self.retained.push((Pattern::new(topics), events));
        self
    }

    /// Is told of what works but not as its author expects; see [`Warning`].
    #[must_use]
    pub fn on_warning(mut self, hook: impl Fn(&S, &Warning) + Send + Sync + 'static) -> Self {
        self.on_warning = Some(Arc::new(hook));
        self
    }

    /// Replaces the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Limits for all functions that have none of their own. Replaces earlier ones.
    #[must_use]
    pub fn rate_limits(mut self, limits: RateLimits) -> Self {
        self.rate_limits = limits;
        self
    }

    /// Declares which classes of work are refused under pressure. Replaces earlier ones.
    #[must_use]
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = Some(admission);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// All that is wrong, not only the first.
    pub fn build(mut self) -> Result<App<S, U>, RegistrationErrors> {
        let mut entries = Vec::new();
        let mut numbers = HashMap::new();
        let mut rules = Rules::new();
        let mut problems = Vec::new();
        let mut plan = Plan::default();
        let mut admission = self.admission.take();
        let mut topics = HashSet::new();
        for module in core::mem::take(&mut self.modules) {
            let guard: Arc<[Check<S, U>]> = module.guard.into();
            for (name, mut kind) in module.entries {
                let path: Arc<str> = format!("{}/{name}", module.path).into();
                let problem = if !is_call_path(&path) {
                    Some(Problem::Path)
                } else if numbers.contains_key(&path) {
                    Some(Problem::Twice)
                } else {
                    check(&kind, &mut topics)
                        .or_else(|| kind.complete(&mut plan, admission.as_ref()))
                };
                if let Some(problem) = problem {
                    problems.push(RegistrationError { path, problem });
                    continue;
                }
                let central = self.rate_limits.resolve(&path, kind.limited(), &mut plan);
                let kind = Arc::new(kind);
                rules.add(&path, &kind);
                let number = u32::try_from(entries.len()).unwrap_or(u32::MAX);
                numbers.insert(Arc::clone(&path), number);
                entries.push(Arc::new(Entry {
                    path,
                    number,
                    guard: Arc::clone(&guard),
                    kind,
                    central,
                }));
            }
        }
        problems.extend(self.general_problems(&numbers, admission.as_mut()));
        if !problems.is_empty() {
            return Err(RegistrationErrors(problems));
        }
        Ok(App {
            state: self.state,
            entries,
            numbers,
            rules,
            layers: self.layers.into(),
            before_execute: self.before_execute,
            on_error: self.on_error,
            retained: self.retained,
            on_warning: self.on_warning,
            limits: self.limits,
            admission,
            plan,
        })
    }

    /// What is wrong apart from single entries.
    fn general_problems(
        &self,
        numbers: &HashMap<Arc<str>, u32>,
        admission: Option<&mut Admission>,
    ) -> Vec<RegistrationError> {
        let error = |path: &str, problem| RegistrationError {
            path: path.into(),
            problem,
        };
        let limits = self.rate_limits.problems(|path| numbers.contains_key(path));
        let mut problems: Vec<_> = limits.map(|(path, problem)| error(path, problem)).collect();
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(admission) = admission {
            let wrong = admission.problems().into_iter();
            problems.extend(wrong.map(|problem| error("admission", problem)));
        }
        if self
            .limits
            .call_deadline
            .is_some_and(|limit| limit.is_zero())
        {
            problems.push(error("limits.call_deadline", Problem::Deadline));
        }
        problems
    }
}

impl<S: Send + Sync + 'static, U: User> Kind<S, U> {
    /// Does what can only be done once everything is known.
    fn complete(&mut self, plan: &mut Plan, admission: Option<&Admission>) -> Option<Problem> {
        match self {
            Self::Binary(binary) => binary.call.policies.register(plan),
            Self::Call(call) => call.policies.register(plan),
            Self::Upload(upload) => upload.call.policies.register(plan),
            Self::Stream(stream) => {
                let class = stream.class.as_ref();
                let unknown = class.filter(|class| !admission.is_some_and(|all| all.has(class)));
                unknown
                    .map(|class| Problem::UnknownClass(class.clone()))
                    .or_else(|| stream.guard_loader())
            }
        }
    }

    /// How the central limits see it.
    fn limited(&self) -> Limited {
        match self {
            Self::Binary(binary) => binary.call.policies.limited(),
            Self::Call(call) => call.policies.limited(),
            Self::Upload(upload) => upload.call.policies.limited(),
            Self::Stream(_) => Limited::Stream,
        }
    }
}

/// What is wrong with an entry itself.
fn check<S, U>(kind: &Kind<S, U>, topics: &mut HashSet<String>) -> Option<Problem> {
    let stream = match kind {
        Kind::Stream(stream) => stream,
        Kind::Binary(binary) => return binary.problem(),
        Kind::Upload(upload) => return upload.problem(),
        Kind::Call(_) => return None,
    };
    if let Some(topic) = &stream.fixed {
        if is_system_topic(topic) {
            return Some(Problem::ReservedTopic);
        }
        if !topics.insert(topic.clone()) {
            return Some(Problem::TopicTwice(topic.clone()));
        }
    }
    let declares = stream.shapes_events() || stream.replay.is_some();
    if declares && stream.fixed.is_none() && stream.topics.is_none() {
        return Some(Problem::NoTopics);
    }
    match stream.replay {
        Some(0) => return Some(Problem::ReplayNothing),
        Some(_) if stream.volatile => return Some(Problem::ReplayVolatile),
        _ => {}
    }
    if stream.max == Some(0) {
        return Some(Problem::Max);
    }
    if let Some(problem) = stream.shaping_problem() {
        return Some(problem);
    }
    let schema = stream.schema.as_ref()?;
    let first = *schema.steps.keys().next()?;
    let hole = (first..schema.version).find(|step| !schema.steps.contains_key(step));
    hole.map(Problem::NoStep)
}

/// One thing that is wrong with an application.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[millstream] {path}: {problem}")]
#[non_exhaustive]
pub struct RegistrationError {
    /// The path it is about.
    pub path: Arc<str>,
    /// What it is.
    pub problem: Problem,
}

/// What can be wrong with a registration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The path is not made of two or more segments of letters, digits, `_` and `-`.
    #[error(
        "a path has at least two segments, joined by '/', of ASCII letters, digits, '_' and '-'"
    )]
    Path,
    /// The options of the admission make no sense.
    #[error("{0}")]
    Admission(String),
    /// A breaker opens after no failures at all.
    #[error("a breaker opens after one failure or more")]
    Breaker,
    /// A channel has no loader for a breaker to guard.
    #[error("there is no loader for the breaker: add .load(..)")]
    BreakerOfChannel,
    /// A class of service was declared twice.
    #[error("the class of service {0:?} is declared twice")]
    ClassTwice(String),
    /// A deadline of no time at all.
    #[error("a deadline is above zero; leave it out for none")]
    Deadline,
    /// An idempotent call keeps no results, or shares keys between users that it does not make.
    #[error("keep one result or more; .global() needs a .key(..)")]
    Idempotent,
    /// A lock's key is empty or has more than 256 UTF-16 units.
    #[error("the key of a lock has 1 to 256 characters")]
    LockKey,
    /// A rate limit without points, time or callers.
    #[error("a rate has one point or more, a window above zero, and counts one caller or more")]
    Rate,
    /// A class of service that nobody has declared.
    #[error("the class of service {0:?} is not declared: add it to .admission(..)")]
    UnknownClass(String),
    /// A central rule for a path that does not exist.
    #[error("there is a rate limit for this path, but no such path")]
    UnknownPath,
    /// Coalesced events have no number to replay them by.
    #[error("coalesce_by and replay exclude each other")]
    CoalescedReplay,
    /// Both skip events for slow readers, each in its own way.
    #[error("coalesce_by and volatile exclude each other")]
    CoalescedVolatile,
    /// The server keeps the value, so nothing is loaded.
    #[error("a held stream has no loader; its first value comes from a seed")]
    HeldLoader,
    /// What is piped or loaded again has to be loaded.
    #[error("pipe, stale_after and invalidate_on need a loader")]
    NoLoader,
    /// `invalidate_on` has no pattern, or an empty one.
    #[error("invalidate_on needs patterns, none of them empty")]
    NoPattern,
    /// A time is zero.
    #[error("stale_after and drop_idle_after need a time above zero")]
    NoTime,
    /// `max` is zero, which clients read as no limit.
    #[error("max is at least 1; leave it out for no limit")]
    Max,
    /// The chain of migrations has a hole.
    #[error("there is no migration from version {0} to the next")]
    NoStep(u32),
    /// The stream declares something about its events, but not on which topics they are.
    #[error("what a stream declares about events needs the pattern of its topics: add .topics(..)")]
    NoTopics,
    /// A stream keeps no events and says how to replay them.
    #[error("replay keeps at least 1 event; leave it out for none")]
    ReplayNothing,
    /// Volatile events have no number to replay them by.
    #[error("volatile events carry no number: they cannot be replayed")]
    ReplayVolatile,
    /// A fixed topic begins with `__`.
    #[error("topics that begin with __ are reserved")]
    ReservedTopic,
    /// Two streams have the same fixed topic.
    #[error("another stream has the topic {0:?}")]
    TopicTwice(String),
    /// An option is zero with which nothing could ever be taken.
    #[error("{0} is at least 1; leave it out for the default")]
    Zero(&'static str),
    /// Two registrations have the same path.
    #[error("the path is registered twice")]
    Twice,
}

/// Everything that is wrong with an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationErrors(pub Vec<RegistrationError>);

impl fmt::Display for RegistrationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, error) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl core::error::Error for RegistrationErrors {}
