//! An application of calls on this server: its futures polled on the worker, its verbs bound.

use std::any::Any;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millstream_core::{ConnId, Millis, RawJson, RawJsonRef, TopicName};
use millstream_hub::{
    BatchMember, History, Pattern, PublishError, PublishOptions, Published, Snapshot, Verdict,
};
use millstream_live::{
    App, Args, Begun, BoxFuture, Caller, Calls, Client, Ctx, Live, LiveError, Load, Platform,
    Publisher, Reply, UploadStats, User, code,
};

use crate::conn::{Conn, Handle};
use crate::context::Context;
use crate::hooks::{
    Admission, Answer, AuthOutcome, AuthRequest, CloseInfo, HookError, Hooks, LoadRequest, Message,
    Metric, Resume, UpgradeRequest,
};
use crate::peer::Peer;
use crate::worker::ask::try_now;

/// Puts an application of calls in front of an application's own hooks.
///
/// Messages that are calls go to the application, all others to `hooks`. The identity of a caller
/// is what the upgrade hook attached, if it is a `U`.
///
/// A call whose function finishes without waiting is answered in the turn in which it arrived,
/// behind everything it published. Others move to the async runtime.
///
/// ```no_run
/// use millstream_live::{App, Ctx, LiveError, Module};
/// use millstream_server::{Server, with_live};
///
/// async fn add(_: Ctx<(), ()>, a: f64, b: f64) -> Result<f64, LiveError> {
///     Ok(a + b)
/// }
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let app = App::<(), ()>::new(()).module(Module::new("math").call("add", add)).build()?;
/// Server::builder(with_live(app, ())).bind().await?.run().await?;
/// # Ok(())
/// # }
/// ```
pub fn with_live<S, U, H: Hooks>(app: App<S, U>, hooks: H) -> LiveHooks<S, U, H> {
    LiveHooks {
        app: Arc::new(app),
        live: OnceLock::new(),
        publisher: Publisher::detached(),
        read_user: None,
        hooks,
    }
}

/// What [`with_live`] makes.
pub struct LiveHooks<S, U, H> {
    app: Arc<App<S, U>>,
    /// Bound to the server when that is bound.
    live: OnceLock<Live<S, U>>,
    publisher: Publisher,
    read_user: Option<ReadUser<U>>,
    hooks: H,
}

/// How a back end's description of a user becomes one.
type ReadUser<U> = Box<dyn Fn(RawJson) -> Result<U, LiveError> + Send + Sync>;

impl<S, U, H> std::fmt::Debug for LiveHooks<S, U, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveHooks")
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

impl<S, U, H> LiveHooks<S, U, H> {
    /// Says how to read the `user` of `POST /api/load`, by which a back end that renders pages
    /// loads streams on behalf of its visitors. Without this only visitors whom nobody knows
    /// (null) can be served.
    ///
    /// ```
    /// use millstream_core::RawJson;
    /// use millstream_live::{App, RegistrationErrors};
    /// use millstream_server::with_live;
    ///
    /// let app = App::<(), String>::new(()).build()?;
    /// let hooks = with_live(app, ())
    ///     .load_as(|user: RawJson| Ok(serde_json::from_str(user.as_str())?));
    /// # drop(hooks);
    /// # Ok::<(), RegistrationErrors>(())
    /// ```
    #[must_use]
    pub fn load_as(
        mut self,
        read: impl Fn(RawJson) -> Result<U, LiveError> + Send + Sync + 'static,
    ) -> Self {
        self.read_user = Some(Box::new(read));
        self
    }

    /// A way to publish from outside of calls: background tasks, other threads, hooks. Take it
    /// before the hooks go to the server; until the server is bound, publishes are refused with
    /// `OVERLOADED`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_live::{App, Publisher, RegistrationErrors};
    /// use millstream_server::with_live;
    ///
    /// async fn tick(publisher: Publisher) {
    ///     for n in 0_u64.. {
    ///         if let Err(error) = publisher.publish("clock", "tick", &n) {
    ///             eprintln!("{error}");
    ///         }
    ///         tokio::time::sleep(Duration::from_secs(1)).await;
    ///     }
    /// }
    ///
    /// let hooks = with_live(App::<(), ()>::new(()).build()?, ());
    /// let ticking = tick(hooks.publisher()); // spawn it beside `Server::run`
    /// # drop(ticking);
    /// # Ok::<(), RegistrationErrors>(())
    /// ```
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }
}

impl Platform for Handle {
    fn publish(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        options: PublishOptions,
    ) -> Result<Published, PublishError> {
        Self::publish(self, topic, event, data, options)
    }

    fn publish_batched(&self, members: &[BatchMember<'_>]) -> Result<Vec<Published>, PublishError> {
        self.publish_members(members)
    }

    fn publish_coalesced(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        key: Option<&str>,
    ) -> Result<Published, PublishError> {
        Self::publish_coalesced(self, topic, event, data, key)
    }

    fn send(&self, conn: ConnId, topic: &str, event: &str, data: RawJson) {
        self.send_by_id(conn, topic, event, data);
    }

    fn reply(&self, conn: ConnId, reply: Reply) {
        Self::reply(self, conn, reply);
    }

    fn set_reading(&self, conn: ConnId, on: bool) {
        self.read_or_wait(conn, on);
    }

    fn frame_bytes_max(&self) -> Option<u32> {
        Some(self.message_bytes_max())
    }

    fn release(&self, conn: ConnId, topic: &str, holder: u64) {
        self.release_by_id(conn, topic, holder);
    }

    fn subscribe(&self, conn: ConnId, topic: &str, holder: u64) -> BoxFuture<Result<(), String>> {
        let (handle, topic) = (self.clone(), topic.to_owned());
        Box::pin(async move { handle.subscribe_held(conn, &topic, holder).await })
    }

    fn unsubscribe(&self, conn: ConnId, topic: &str, holder: u64) -> BoxFuture<()> {
        let (handle, topic) = (self.clone(), topic.to_owned());
        Box::pin(async move { handle.give_up_by_id(conn, topic, holder).await })
    }

    fn subscribers(&self, topic: &str) -> u64 {
        Self::subscribers(self, topic)
    }

    fn position(&self, topic: &str) -> Option<u64> {
        Self::position(self, topic)
    }

    fn since(&self, topic: &str, number: u64) -> Option<History> {
        Self::since(self, topic, number)
    }

    fn now(&self) -> Millis {
        self.clock()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        // The timer belongs to the runtime, wherever this is called and polled.
        let _entered = self.runtime().enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, work: BoxFuture<()>) {
        self.runtime().spawn(work);
    }

    fn pressure(&self) -> Arc<Snapshot> {
        Self::pressure(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<U: User> Client<U> for Peer {
    fn user(&self) -> Option<&U> {
        self.user.get()
    }

    fn remote_address(&self) -> String {
        self.remote_address.to_string()
    }

    fn request_id(&self) -> String {
        self.request_id.to_string()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// What this server offers to handlers beyond the verbs of every platform.
pub trait ServerCtx {
    /// The connection the call came from: to be sent to, asked, closed, from any thread.
    fn connection(&self) -> Option<Conn>;

    /// The server. `None` in the test harness.
    fn server(&self) -> Option<&Handle>;
}

impl<S, U: User> ServerCtx for Ctx<S, U> {
    fn connection(&self) -> Option<Conn> {
        let peer = Arc::clone(self.client()).into_any().downcast().ok()?;
        Some(self.server()?.connection(self.conn()?, peer))
    }

    fn server(&self) -> Option<&Handle> {
        self.platform().as_any().downcast_ref()
    }
}

impl<S, U, H> LiveHooks<S, U, H>
where
    S: Send + Sync + 'static,
    U: User,
    H: Hooks,
{
    /// The application on the server.
    fn live(&self, handle: impl Fn() -> Handle) -> &Live<S, U> {
        self.live.get_or_init(|| {
            let live = Live::new(Arc::clone(&self.app), Arc::new(handle()));
            live.attach(&self.publisher);
            live
        })
    }

    /// True when the message was a call.
    fn call(&self, cx: &mut Context<'_>, message: Message<'_>) -> bool {
        let live = self.live(|| cx.handle());
        let waiting = cx.peer().in_flight.load(Ordering::Relaxed) as usize;
        let mut calls = calls_of(live, cx);
        let begun = if waiting >= self.app.message_limit() {
            live.refuse_message(calls.caller(), bytes_of(message))
                .into()
        } else {
            match message {
                Message::Text(text) => cx.lending(|| calls.begin_text(text)),
                Message::Binary(bytes) => live.handle_message(calls.caller(), bytes).into(),
            }
        };
        cx.keep(calls);
        let running = match begun {
            Begun::Unclaimed => return false,
            Begun::Claimed(running) => running,
            Begun::Answered(answer) => {
                cx.catch_up();
                if let Some(answer) = answer {
                    cx.reply_success(&answer);
                }
                return true;
            }
        };
        match poll_here(cx, running) {
            Ok(reply) => {
                cx.catch_up();
                if let Some(reply) = reply {
                    cx.reply(reply.topic, &reply.event, reply.data.get());
                    for one in &reply.release {
                        cx.release(one);
                    }
                }
            }
            Err(later) => {
                let (handle, conn) = (cx.handle(), cx.id());
                let waiting = InFlight::new(cx.peer_shared());
                cx.runtime().spawn(async move {
                    let reply = later.await;
                    drop(waiting);
                    if let Some(reply) = reply {
                        handle.reply(conn, reply);
                    }
                });
            }
        }
        true
    }
}

/// The connection's calls: what was kept of the last message, with another caller if that was
/// another connection's.
#[inline]
fn calls_of<S, U>(live: &Live<S, U>, cx: &mut Context<'_>) -> Box<Calls<S, U>>
where
    S: Send + Sync + 'static,
    U: User,
{
    let caller = |cx: &Context<'_>| Caller {
        conn: Some(cx.id()),
        client: cx.peer_shared(),
    };
    match cx.take_kept::<Calls<S, U>>() {
        Some((true, calls)) => calls,
        Some((false, mut calls)) => {
            calls.turn_to(caller(cx));
            calls
        }
        None => Box::new(live.calls(caller(cx))),
    }
}

fn bytes_of(message: Message<'_>) -> &[u8] {
    match message {
        Message::Text(text) => text.as_bytes(),
        Message::Binary(bytes) => bytes,
    }
}

/// Counts a message among those of its connection that are not finished, however it ends.
struct InFlight(Arc<Peer>);

impl InFlight {
    fn new(peer: Arc<Peer>) -> Self {
        peer.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(peer)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Polls of one call on the worker; a call that needs more moves to the runtime.
const ROUNDS_MAX: usize = 16;

/// Polls a call for as long as what it waits for is work of this very worker: a subscription takes
/// effect before the connection's next message, and without a task.
fn poll_here<T>(cx: &mut Context<'_>, running: BoxFuture<T>) -> Result<T, BoxFuture<T>> {
    let mut running = running;
    for _ in 0..ROUNDS_MAX {
        match cx.lending(|| try_now(Answer::Later(running))) {
            Ok(value) => return Ok(value),
            Err(later) => running = later,
        }
        if !cx.serve() {
            break;
        }
    }
    Err(running)
}

/// Runs what nobody waits for: now if it can be done now.
fn drive(cx: &Context<'_>, work: BoxFuture<()>) {
    if let Err(later) = try_now(Answer::Later(work)) {
        cx.runtime().spawn(later);
    }
}

impl<S, U, H> Hooks for LiveHooks<S, U, H>
where
    S: Send + Sync + 'static,
    U: User,
    H: Hooks,
{
    fn upgrade(&self, request: UpgradeRequest) -> Answer<Result<Admission, HookError>> {
        self.hooks.upgrade(request)
    }

    fn has_upgrade(&self) -> bool {
        self.hooks.has_upgrade()
    }

    fn has_streams(&self) -> bool {
        self.app.has_streams() || self.hooks.has_streams()
    }

    fn retention(&self) -> Vec<(Pattern, u32)> {
        let mut retention = self.app.retention();
        retention.extend(self.hooks.retention());
        retention
    }

    fn upload_stats(&self) -> Option<UploadStats> {
        self.live.get().map(Live::upload_stats)
    }

    fn authenticates(&self) -> bool {
        self.hooks.authenticates()
    }

    fn authenticate(&self, request: AuthRequest) -> Answer<Result<AuthOutcome, HookError>> {
        self.hooks.authenticate(request)
    }

    fn open(&self, cx: &mut Context<'_>) {
        self.hooks.open(cx);
    }

    fn message(&self, cx: &mut Context<'_>, message: Message<'_>) {
        if !self.call(cx, message) {
            self.hooks.message(cx, message);
        }
    }

    fn subscribe(
        &self,
        cx: &mut Context<'_>,
        topic: &TopicName,
    ) -> Answer<Result<Verdict, HookError>> {
        self.hooks.subscribe(cx, topic)
    }

    fn subscribe_batch(
        &self,
        cx: &mut Context<'_>,
        topics: &[TopicName],
    ) -> Option<Answer<Result<Vec<Verdict>, HookError>>> {
        self.hooks.subscribe_batch(cx, topics)
    }

    fn unsubscribe(&self, cx: &mut Context<'_>, topic: &str) {
        self.hooks.unsubscribe(cx, topic);
        if let Some(live) = self.live.get() {
            let under_way = cx.under_way(topic);
            drive(cx, live.handle_unsubscribed(cx.id(), topic, &under_way));
        }
    }

    fn resume(&self, cx: &mut Context<'_>, resume: &Resume<'_>) -> Answer<Result<(), HookError>> {
        self.hooks.resume(cx, resume)
    }

    fn close(&self, cx: &mut Context<'_>, info: &CloseInfo<'_>) {
        self.hooks.close(cx, info);
        if let Some(live) = self.live.get() {
            cx.peer_shared().closed.store(true, Ordering::Release);
            drive(cx, live.handle_closed(cx.id()));
        }
    }

    fn start(&self, handle: &Handle) {
        self.live(|| handle.clone());
        self.hooks.start(handle);
    }

    fn publisher(&self) -> Option<Publisher> {
        Some(self.publisher.clone())
    }

    fn load(&self, request: LoadRequest) -> Option<Answer<Result<Option<RawJson>, LiveError>>> {
        let live = self.live.get().filter(|_| self.app.has_streams())?;
        let user = match &self.read_user {
            _ if request.user.get().is_null() => Ok(None),
            Some(read) => read(request.user).map(Some),
            None => Err(LiveError::new(
                code::INVALID_REQUEST,
                "this server reads no users: say how with load_as",
            )),
        };
        Some(match user {
            Ok(user) => Answer::Later(live.load(Load {
                path: request.path,
                args: Args::from_list(request.args.get()),
                cursor: request.cursor,
                user,
            })),
            Err(error) => Answer::Now(Err(error)),
        })
    }

    fn pressure(&self, handle: &Handle, snapshot: &Snapshot) {
        self.hooks.pressure(handle, snapshot);
    }

    fn drain(&self, cx: &mut Context<'_>) {
        self.hooks.drain(cx);
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = self.hooks.metrics();
        if let Some(live) = self.live.get() {
            let (counters, gauges) = (live.stats(), live.gauges());
            metrics.extend(
                counters
                    .list()
                    .map(|(name, help, value)| Metric::counter(name, help, value)),
            );
            metrics.extend(
                gauges
                    .list()
                    .map(|(name, help, value)| Metric::gauge(name, help, value as u64)),
            );
        }
        metrics
    }
}
