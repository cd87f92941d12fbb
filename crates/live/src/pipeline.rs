//! From a message to its reply: recognition, lookup, layers, guard, hooks, function.

use std::sync::Arc;

use core::future::{Future, ready};
use core::pin::Pin;
use core::task::{Context, Poll};
use std::panic::AssertUnwindSafe;

use compact_str::CompactString;
use futures_util::FutureExt;
use futures_util::future::join_all;
use millstream_core::{ConnId, JsonList, JsonStr, RawJson, RawJsonRef};
use millstream_wire::{
    BatchEntry, CallArgs, CallBatch, CallFrame, CallRequest, is_call_path, recognise_binary,
    recognise_call,
};

use crate::app::{App, Entry};
use crate::args::Args;
use crate::call::Call;
use crate::calls::Calls;
use crate::ctx::{Brought, Ctx, CtxPath, Grant};
use crate::engine::Engine;
use crate::error::{LiveError, code};
use crate::handler::{BoxFuture, CallResult};
use crate::layer::{Next, Outcome};
use crate::module::{Check, Kind};
use crate::origin::Origin;
use crate::owners::Owner;
use crate::platform::{Caller, Platform};
use crate::policy::charge;
use crate::reply::{BATCH_EVENT, Release, Reply, batch_payload, failure, payload};
use crate::stats::{LiveGauges, LiveStats};
use crate::subscribe::Resume;
use crate::user::User;

/// What became of a message.
#[must_use]
pub enum Handled {
    /// It is no call: it belongs to the application's own protocol.
    Unclaimed,
    /// It is being handled. Poll until it is ready, then send the reply to the caller, if there is
    /// one. The host polls once at once; what is ready then needs no task.
    Claimed(BoxFuture<Option<Reply>>),
}

impl core::fmt::Debug for Handled {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Unclaimed => "Unclaimed",
            Self::Claimed(_) => "Claimed(..)",
        })
    }
}

/// An application on a platform.
pub struct Live<S, U> {
    pub(crate) engine: Arc<Engine<S, U>>,
}

impl<S, U> Clone for Live<S, U> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
        }
    }
}

impl<S, U> core::fmt::Debug for Live<S, U> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Live")
            .field("app", &self.engine.app)
            .finish_non_exhaustive()
    }
}

/// A call that has left its frame.
pub(crate) struct Request<S, U> {
    pub(crate) ctx: Ctx<S, U>,
    pub(crate) entry: Arc<Entry<S, U>>,
    pub(crate) args: Args,
    /// Present when the client wants to subscribe.
    pub(crate) resume: Option<Box<Resume>>,
}

/// A call, or why it cannot be one.
pub(crate) type Found<S, U> = Result<Request<S, U>, LiveError>;

impl<S: Send + Sync + 'static, U: User> Live<S, U> {
    /// Puts an application on a platform.
    pub fn new(app: impl Into<Arc<App<S, U>>>, platform: Arc<dyn Platform>) -> Self {
        Self {
            engine: Arc::new(Engine::new(app.into(), platform)),
        }
    }

    /// A client has given a topic up. The future runs what has to run then. `under_way` are the
    /// holders of requests for it that have no reply yet, see [`Platform::subscribe`]: what they
    /// have subscribed goes on.
    pub fn handle_unsubscribed(
        &self,
        conn: ConnId,
        topic: &str,
        under_way: &[u64],
    ) -> BoxFuture<()> {
        let ended = self.engine.owners.take_topic(conn, topic, under_way);
        self.end(ended)
    }

    /// A connection is over. The future runs what has to run then. Functions that take uploads
    /// of it have heard before this returns.
    pub fn handle_closed(&self, conn: ConnId) -> BoxFuture<()> {
        self.engine.closings.close(conn);
        self.engine.uploads.close(conn);
        let ended = self.engine.owners.take_all(conn);
        self.end(ended)
    }

    fn end(&self, ended: Vec<Owner>) -> BoxFuture<()> {
        if ended.is_empty() {
            return Box::pin(ready(()));
        }
        Box::pin(end(Arc::clone(&self.engine.platform), ended))
    }

    /// What was refused so far.
    #[must_use]
    pub fn stats(&self) -> LiveStats {
        self.engine.counters.read()
    }

    /// What is kept at this moment.
    ///
    /// # Cost
    /// Linear in the number of paths with limits; takes each of their locks once.
    #[must_use]
    pub fn gauges(&self) -> LiveGauges {
        self.engine.gauges()
    }

    /// What all its contexts share.
    pub(crate) fn engine(&self) -> &Arc<Engine<S, U>> {
        &self.engine
    }

    /// The application.
    #[must_use]
    pub fn app(&self) -> &App<S, U> {
        &self.engine.app
    }

    /// Takes a message of a client. Text and binary messages are told apart by their bytes alone.
    ///
    /// A message with bytes is copied once, out of `message`, when it is for a function that takes
    /// it. Of an upload, the message with its first chunk gives the future that runs its function;
    /// its reply goes through [`Platform::reply`].
    pub fn handle_message(&self, caller: &Caller<U>, message: &[u8]) -> Handled {
        if let Some(frame) = recognise_binary(message) {
            return Handled::Claimed(self.binary_frame(caller, frame, None));
        }
        match str::from_utf8(message) {
            Ok(text) => self.handle_text(caller, text),
            Err(_) => self.handle_text(caller, &String::from_utf8_lossy(message)),
        }
    }

    /// Takes a message that is known to be text.
    pub fn handle_text(&self, caller: &Caller<U>, text: &str) -> Handled {
        self.calls(caller.clone()).begin_text(text).into()
    }

    /// For a host that writes the usual answers itself and takes several messages in a row.
    #[must_use]
    pub fn calls(&self, caller: Caller<U>) -> Calls<S, U> {
        Calls::new(self.origin(caller))
    }

    pub(crate) fn origin(&self, caller: Caller<U>) -> Origin<S, U> {
        Origin::new(Arc::clone(&self.engine), caller)
    }

    /// Refuses whatever a message asks for, because its connection has `messages_in_flight_max`
    /// others that are not finished.
    /// Further chunks of uploads are not refused: those uploads run already.
    pub fn refuse_message(&self, caller: &Caller<U>, message: &[u8]) -> Handled {
        let max = self.engine.app.limits.messages_in_flight_max;
        let error = LiveError::new(
            code::OVERLOADED,
            format!("{max} messages of this connection are not finished"),
        );
        if let Some(frame) = recognise_binary(message) {
            return Handled::Claimed(self.binary_frame(caller, frame, Some(error)));
        }
        let text = String::from_utf8_lossy(message);
        let refused = |id: JsonStr<'_>| failure(id.as_json(), &error);
        let reply = match recognise_call(&text) {
            None => return Handled::Unclaimed,
            Some(CallFrame::TooDeep { id }) => Some((id.to_cow().into_owned(), refused(id))),
            Some(CallFrame::Call(call)) => {
                call.id.map(|id| (id.to_cow().into_owned(), refused(id)))
            }
            Some(CallFrame::Batch(batch)) => {
                let ids: Vec<RawJson> = batch
                    .entries()
                    .map(|entry| match entry {
                        BatchEntry::Call(call) => own_id(call.id.map(|id| id.as_json())),
                        BatchEntry::Malformed { id } => own_id(id),
                    })
                    .collect();
                let entries = ids.iter().map(|id| (id.get(), failure(id.get(), &error)));
                Some((BATCH_EVENT.to_owned(), batch_payload(entries)))
            }
        };
        let reply = reply.map(|(event, data)| Reply::to_call(&event, data));
        Handled::Claimed(Box::pin(ready(reply)))
    }

    /// A call that runs once it is polled.
    fn request(&self, origin: &Origin<S, U>, call: &CallRequest<'_>) -> Found<S, U> {
        let (entry, list) = (self.find(call)?, arguments(call)?);
        Ok(prepare(origin, call, entry, list.json()))
    }

    /// What the path stands for.
    pub(crate) fn find(&self, call: &CallRequest<'_>) -> Result<&Arc<Entry<S, U>>, LiveError> {
        let path = call.path.to_cow();
        let entry = self.engine.app.entry(&path);
        entry.ok_or_else(|| no_entry(&path, call))
    }

    pub(crate) fn batch(
        &self,
        origin: &Origin<S, U>,
        batch: &CallBatch<'_>,
    ) -> BoxFuture<Option<Reply>> {
        let limits = self.engine.app.limits;
        let entries: Vec<BatchEntry<'_>> = batch.entries().collect();
        let streams = |entry: &BatchEntry<'_>| matches!(entry, BatchEntry::Call(c) if c.stream);
        let max = if entries.iter().all(streams) {
            limits.batch_streams_max
        } else {
            limits.batch_calls_max
        };
        let refuse = |reason: &str| Err(LiveError::new(code::INVALID_REQUEST, reason.to_owned()));
        let too_many = entries.len() > max;
        let started: Vec<(RawJson, Found<S, U>)> = entries
            .iter()
            .map(|entry| match entry {
                BatchEntry::Call(call) if too_many => (
                    own_id(call.id.map(|id| id.as_json())),
                    refuse(&format!("A batch has at most {max} entries")),
                ),
                BatchEntry::Call(call) => (
                    own_id(call.id.map(|id| id.as_json())),
                    self.request(origin, call),
                ),
                BatchEntry::Malformed { id } => {
                    (own_id(*id), refuse("Each batch entry requires rpc and id"))
                }
            })
            .collect();
        let sequential = batch.sequential;
        Box::pin(async move {
            let run = |(id, request)| async move { (id, execute(request).await) };
            let results = if sequential {
                let mut results = Vec::with_capacity(started.len());
                for entry in started {
                    results.push(run(entry).await);
                }
                results
            } else {
                join_all(started.into_iter().map(run)).await
            };
            let entries = results
                .iter()
                .map(|(id, result)| (id.get(), payload(id.get(), result)));
            let reply = Reply::to_call(BATCH_EVENT, batch_payload(entries));
            Some(reply.releasing(results.iter().filter_map(|(_, result)| release_of(result))))
        })
    }
}

/// What a call came with besides its arguments, if anything.
#[inline]
pub(crate) fn brought(call: &CallRequest<'_>) -> Option<Box<Brought>> {
    let brings = call.cursor.is_some() || call.idempotency_key.is_some();
    brings.then(|| {
        Box::new(Brought {
            cursor: call.cursor.map(|cursor| cursor.to_owned()),
            idempotency_key: call.idempotency_key.map(|key| key.to_owned()),
            ..Brought::default()
        })
    })
}

/// Takes all a call needs out of its frame.
pub(crate) fn prepare<S, U: User>(
    origin: &Origin<S, U>,
    call: &CallRequest<'_>,
    entry: &Arc<Entry<S, U>>,
    list: RawJsonRef<'_>,
) -> Request<S, U> {
    Request {
        ctx: Ctx::new(origin.clone(), CtxPath::Called(entry.number), brought(call)),
        entry: Arc::clone(entry),
        args: Args::from_list(list),
        resume: call.stream.then(|| {
            Box::new(Resume {
                seq: call.seq.and_then(|seq| seq.as_f64()),
                version: call.version.map(|version| version.to_owned()),
                schema_version: call.schema_version.and_then(|version| version.as_f64()),
            })
        }),
    }
}

pub(crate) async fn answer<S, U>(id: Option<CompactString>, request: Found<S, U>) -> Option<Reply>
where
    S: Send + Sync + 'static,
    U: User,
{
    let unanswered = request.as_ref().ok().filter(|_| id.is_none());
    let unanswered = unanswered.map(|request| request.ctx.clone());
    let result = execute(request).await;
    if let (Some(ctx), Some(release)) = (unanswered, release_of(&result)) {
        ctx.release(&release.topic, release.holder);
    }
    let reply = reply(id.as_deref(), &result)?;
    Some(reply.releasing(release_of(&result)))
}

/// The arguments in their frame.
#[inline]
pub(crate) fn arguments<'c, 'a>(call: &'c CallRequest<'a>) -> Result<&'c JsonList<'a>, LiveError> {
    match &call.args {
        CallArgs::Absent => Ok(&JsonList::EMPTY),
        CallArgs::List(list) => Ok(list),
        CallArgs::NotAList => {
            let text = "args must be an array";
            Err(LiveError::new(code::INVALID_REQUEST, text))
        }
    }
}

/// Why a path stands for nothing. A list that is none is told of first.
#[cold]
fn no_entry(path: &str, call: &CallRequest<'_>) -> LiveError {
    if !is_call_path(path) {
        return LiveError::new(code::INVALID_REQUEST, "Invalid path");
    }
    let not_found = || LiveError::new(code::NOT_FOUND, "Not found");
    arguments(call).err().unwrap_or_else(not_found)
}

/// The id of a call that has to outlive its frame.
pub(crate) fn kept_id(call: &CallRequest<'_>) -> Option<CompactString> {
    call.id.map(|id| CompactString::from(id.raw()))
}

/// The reply to a call, if it has an id.
pub(crate) fn reply(id: Option<&str>, result: &Result<Outcome, LiveError>) -> Option<Reply> {
    let id = RawJsonRef::trust(id?);
    Some(Reply::to_call(
        &id.as_json_str()?.to_cow(),
        payload(id, result),
    ))
}

pub(crate) fn panicked(panic: &(dyn core::any::Any + Send)) -> LiveError {
    LiveError::internal(format!("panicked: {}", panic_text(panic)))
}

/// Everything behind the lookup.
pub(crate) async fn execute<S, U>(request: Found<S, U>) -> Result<Outcome, LiveError>
where
    S: Send + Sync + 'static,
    U: User,
{
    let request = request?;
    let ctx = request.ctx.clone();
    let running = AssertUnwindSafe(async { run(request).await });
    let result = running.catch_unwind().await;
    let result = result.unwrap_or_else(|panic| Err(panicked(&*panic)));
    match &result {
        Ok(Outcome::Stream(stream)) if stream.holder.is_some() => {}
        // A layer has put something else in the place of a stream's reply.
        Ok(_) => {
            if let Some(grant) = ctx.take_grant() {
                ctx.release(&grant.topic, grant.id);
            }
        }
        Err(error) => {
            if !error.is_typed() {
                ctx.report(error);
            }
            if let Some(grant) = ctx.take_grant() {
                // Boxed, as everything that few calls need: the futures of all others stay small.
                Box::pin(take_back(&ctx, grant)).await;
            }
        }
    }
    result
}

/// Undoes the subscription of a call that has failed, and this one alone.
async fn take_back<S, U: User>(ctx: &Ctx<S, U>, grant: Grant) {
    let Some(conn) = ctx.conn() else {
        return;
    };
    let engine = ctx.engine();
    let taken = engine.owners.take(conn, grant.id);
    if !matches!(taken, Some((_, true))) {
        // Others of the connection must not wait for a reply that never comes.
        ctx.release(&grant.topic, grant.id);
    }
    // It is gone when the client has given the topic up meanwhile, or the connection.
    if let Some((owner, last)) = taken {
        if last {
            let Grant { id, topic } = &grant;
            engine.platform.unsubscribe(conn, topic, *id).await;
        }
        end(Arc::clone(&engine.platform), vec![owner]).await;
    }
}

/// Runs what subscriptions have to run when they end.
async fn end(platform: Arc<dyn Platform>, ended: Vec<Owner>) {
    for owner in ended {
        if let Some(ending) = owner.ending {
            // All of one topic see the same number: nobody joins in between who counts.
            let remaining = platform.subscribers(&owner.topic);
            // One that panics must not keep the others from running.
            let ended = AssertUnwindSafe(ending.ended(owner.topic, remaining));
            let _ = ended.catch_unwind().await;
        }
    }
}

/// Layers, then guard and function.
fn run<S, U>(request: Request<S, U>) -> Running
where
    S: Send + Sync + 'static,
    U: User,
{
    let Request {
        ctx,
        entry,
        args,
        resume,
    } = request;
    let layers = &ctx.engine().app.layers;
    if layers.is_empty() {
        return entry.run(ctx, args, resume);
    }
    let core = Box::new(move |ctx: Ctx<S, U>| entry.run(ctx, args, resume).into_future());
    Running::Boxed(Next::new(Arc::clone(layers), core).run(ctx))
}

/// What has to be released when the reply has been sent.
fn release_of(result: &Result<Outcome, LiveError>) -> Option<Release> {
    let Ok(Outcome::Stream(stream)) = result else {
        return None;
    };
    Some(Release {
        topic: stream.topic.clone()?,
        holder: stream.holder?,
        covered: stream.covered.unwrap_or(0),
    })
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn core::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

fn own_id(id: Option<RawJsonRef<'_>>) -> RawJson {
    id.unwrap_or(RawJsonRef::EMPTY_TEXT).to_owned()
}

/// A call on its way. The plain kind costs no future besides the function's own.
enum Running {
    Done(Option<LiveError>),
    Function(BoxFuture<CallResult>),
    Boxed(BoxFuture<Result<Outcome, LiveError>>),
}

impl Running {
    fn into_future(self) -> BoxFuture<Result<Outcome, LiveError>> {
        match self {
            Self::Boxed(future) => future,
            other => Box::pin(other),
        }
    }
}

impl Future for Running {
    type Output = Result<Outcome, LiveError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Done(error) => Poll::Ready(Err(error
                .take()
                .unwrap_or_else(|| LiveError::internal("polled after it was ready")))),
            Self::Function(function) => function
                .as_mut()
                .poll(cx)
                .map(|result| result.map(Outcome::Value)),
            Self::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}

impl<S: Send + Sync + 'static, U: User> Entry<S, U> {
    /// Guard, hook, then the function or the stream.
    fn run(self: Arc<Self>, ctx: Ctx<S, U>, args: Args, resume: Option<Box<Resume>>) -> Running {
        let Some(call) = self.plain(&ctx.engine().app) else {
            return Running::Boxed(Box::pin(self.run_guarded(ctx, args, resume)));
        };
        let started = self.charge(&ctx);
        match started.and_then(|()| call.start(ctx, &mut args.cursor())) {
            Ok(function) => Running::Function(function),
            Err(error) => Running::Done(Some(error)),
        }
    }

    /// The function, if it is one with nothing around it besides layers.
    pub(crate) fn plain(&self, app: &App<S, U>) -> Option<&Call<S, U>> {
        match &*self.kind {
            Kind::Call(call)
                if self.guard.is_empty() && app.before_execute.is_none() && call.is_plain(app) =>
            {
                Some(call)
            }
            _ => None,
        }
    }

    /// Counts the caller in the central limits, if the path is limited there. Comes right before
    /// the function, whatever kind of function it is.
    pub(crate) fn charge(&self, ctx: &Ctx<S, U>) -> Result<(), LiveError> {
        self.central
            .map_or(Ok(()), |table| charge(ctx, table, None))
    }

    async fn run_guarded(
        self: Arc<Self>,
        ctx: Ctx<S, U>,
        args: Args,
        resume: Option<Box<Resume>>,
    ) -> Result<Outcome, LiveError> {
        ask_guard(&self.guard, &ctx).await?;
        if let Some(hook) = &ctx.engine().app.before_execute {
            hook(ctx.clone(), args.clone()).await?;
        }
        if resume.is_some() || !matches!(&*self.kind, Kind::Stream(_)) {
            self.charge(&ctx)?;
        }
        match (&*self.kind, resume) {
            (Kind::Binary(binary), None) if ctx.payload().is_some() => {
                binary.call.run(ctx, args).await
            }
            (Kind::Upload(upload), None) if ctx.is_upload() => upload.call.run(ctx, args).await,
            (Kind::Binary(_), _) => Err(LiveError::new(
                code::INVALID_REQUEST,
                "A binary endpoint is called with bytes",
            )),
            (Kind::Upload(_), _) => Err(LiveError::new(
                code::INVALID_REQUEST,
                "An upload endpoint is uploaded to, not called",
            )),
            (Kind::Call(call), _) => call.run(ctx, args).await,
            (Kind::Stream(stream), Some(resume)) => stream.subscribe(ctx, args, *resume).await,
            (Kind::Stream(_), None) => Err(LiveError::new(
                code::INVALID_REQUEST,
                "A stream is subscribed to, not called",
            )),
        }
    }
}

/// All parts of a guard, until one says no.
pub(crate) async fn ask_guard<S, U: User>(
    guard: &[Check<S, U>],
    ctx: &Ctx<S, U>,
) -> Result<(), LiveError> {
    for part in guard {
        part(ctx.clone())
            .await
            .map_err(|error| classify(ctx, error))?;
    }
    Ok(())
}

/// A guard's unexpected error says no, without saying why.
fn classify<S, U: User>(ctx: &Ctx<S, U>, error: LiveError) -> LiveError {
    if error.is_typed() {
        error
    } else {
        ctx.denied().with_cause(error.to_string())
    }
}
