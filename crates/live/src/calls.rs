//! The calls of one connection, one after the other: most finish where they begin.

use core::fmt;
use core::future::{Future, ready};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use compact_str::CompactString;
use millstream_core::{JsonList, RawJson};
use millstream_wire::{CallFrame, CallRequest, recognise_binary, recognise_call};

use crate::app::Entry;
use crate::args::ArgCursor;
use crate::call::Call;
use crate::ctx::{Ctx, CtxPath};
use crate::error::{LiveError, code};
use crate::handler::{BoxFuture, CallResult};
use crate::layer::Outcome;
use crate::origin::Origin;
use crate::pipeline::{
    Handled, Live, answer, arguments, brought, kept_id, panicked, prepare, reply,
};
use crate::platform::Caller;
use crate::reply::{Answer, Reply, failure};
use crate::user::User;

/// An application and one of its callers, for a host that takes several messages of a connection
/// in a row; made by [`Live::calls`].
///
/// What a call needs besides its own future and result is kept from the one before: its context,
/// unless the function is still using that, and the look-up of its path.
pub struct Calls<S, U> {
    origin: Origin<S, U>,
    /// The last one's context, of which nobody else has a clone.
    spare: Option<Ctx<S, U>>,
    /// The path called last, by number.
    last: u32,
}

/// What became of a message whose call was begun.
#[must_use]
pub enum Begun<'a> {
    /// As [`Handled::Unclaimed`].
    Unclaimed,
    /// It is done. The caller is sent the answer, if there is one.
    Answered(Option<Answer<'a>>),
    /// As [`Handled::Claimed`].
    Claimed(BoxFuture<Option<Reply>>),
}

impl Begun<'_> {
    fn ready(reply: Option<Reply>) -> Self {
        Self::Claimed(Box::pin(ready(reply)))
    }
}

impl fmt::Debug for Begun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unclaimed => "Unclaimed",
            Self::Answered(_) => "Answered(..)",
            Self::Claimed(_) => "Claimed(..)",
        })
    }
}

impl From<Handled> for Begun<'_> {
    fn from(handled: Handled) -> Self {
        match handled {
            Handled::Unclaimed => Self::Unclaimed,
            Handled::Claimed(running) => Self::Claimed(running),
        }
    }
}

impl From<Begun<'_>> for Handled {
    fn from(begun: Begun<'_>) -> Self {
        match begun {
            Begun::Unclaimed => Self::Unclaimed,
            Begun::Answered(answer) => {
                Self::Claimed(Box::pin(ready(answer.map(Answer::into_reply))))
            }
            Begun::Claimed(running) => Self::Claimed(running),
        }
    }
}

impl<S, U: User> fmt::Debug for Calls<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("caller", self.origin.caller())
            .finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static, U: User> Calls<S, U> {
    pub(crate) fn new(origin: Origin<S, U>) -> Self {
        Self {
            origin,
            spare: None,
            last: 0,
        }
    }

    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> &Caller<U> {
        self.origin.caller()
    }

    /// From here on somebody else calls.
    pub fn turn_to(&mut self, caller: Caller<U>) {
        self.origin = Origin::new(Arc::clone(self.origin.engine()), caller);
        let origin = &self.origin;
        self.spare.take_if(|spare| !spare.move_to(origin));
    }

    /// [`Live::handle_text`], with the function of a call polled already, once and before this
    /// returns. One that has finished costs neither a future nor a written reply then.
    pub fn begin_text<'a>(&mut self, text: &'a str) -> Begun<'a> {
        let live = self.origin.live();
        if let Some(frame) = recognise_binary(text.as_bytes()) {
            return Begun::Claimed(live.binary_frame(self.caller(), frame, None));
        }
        // Matched by reference: what was recognised is used where it was written.
        match &recognise_call(text) {
            None => Begun::Unclaimed,
            Some(CallFrame::TooDeep { id }) => {
                let error = LiveError::new(code::INVALID_REQUEST, "Nested too deep");
                let reply = Reply::to_call(&id.to_cow(), failure(id.as_json(), &error));
                Begun::ready(Some(reply))
            }
            Some(CallFrame::Call(call)) => self.call(call),
            Some(CallFrame::Batch(batch)) => Begun::Claimed(live.batch(&self.origin, batch)),
        }
    }

    /// One call. A plain one starts right here, with its arguments still in the frame.
    #[inline]
    fn call<'a>(&mut self, call: &CallRequest<'a>) -> Begun<'a> {
        let origin = &self.origin;
        let app = &origin.engine().app;
        let found = find(origin.live(), &mut self.last, call);
        let (entry, list) = match found.and_then(|entry| Ok((entry, arguments(call)?))) {
            Ok(found) => found,
            Err(error) => return Begun::ready(reply(kept_id(call).as_deref(), &Err(error))),
        };
        let Some(function) = entry.plain(app).filter(|_| app.layers.is_empty()) else {
            let request = prepare(origin, call, entry, list.json());
            return Begun::Claimed(Box::pin(answer(kept_id(call), Ok(request))));
        };
        let path = CtxPath::Called(entry.number);
        let ctx = Ctx::reusing(&mut self.spare, origin, path, brought(call));
        let observer = app.on_error.is_some().then(|| ctx.clone());
        // Written where it stays: a result that is handed on by value is copied at every step.
        let mut begun = Begun::Unclaimed;
        let begin = AssertUnwindSafe(|| match entry.begin(function, ctx, list) {
            Started::Done(Ok(data)) => begun = succeeded(call, data),
            Started::Done(Err(error)) => begun = failed(call, observer.as_ref(), error),
            Started::Waits(running) => {
                begun = Begun::Claimed(Box::pin(Plain {
                    id: kept_id(call),
                    observer: observer.clone(),
                    running,
                }));
            }
        });
        if let Err(panic) = catch_unwind(begin) {
            begun = failed(call, observer.as_ref(), panicked(&*panic));
        }
        drop(observer);
        // One that is still in use must not live longer for being kept here, too.
        self.spare.take_if(|spare| !spare.clear());
        begun
    }
}

/// What the path stands for: first of all, the same as last time.
#[inline]
fn find<'l, S: Send + Sync + 'static, U: User>(
    live: &'l Live<S, U>,
    last: &mut u32,
    call: &CallRequest<'_>,
) -> Result<&'l Arc<Entry<S, U>>, LiveError> {
    if let Some(entry) = live.app().numbered(*last)
        && call.path.plain() == Some(&entry.path)
    {
        return Ok(entry);
    }
    let entry = live.find(call)?;
    *last = entry.number;
    Ok(entry)
}

/// A call that did not wait.
#[inline]
fn succeeded<'a>(call: &CallRequest<'a>, data: Option<RawJson>) -> Begun<'a> {
    let Some(id) = call.id else {
        return Begun::Answered(None);
    };
    match Answer::new(id, data) {
        Ok(answer) => Begun::Answered(Some(answer)),
        Err(data) => Begun::ready(reply(kept_id(call).as_deref(), &Ok(Outcome::Value(data)))),
    }
}

#[cold]
fn failed<S, U: User>(
    call: &CallRequest<'_>,
    observer: Option<&Ctx<S, U>>,
    error: LiveError,
) -> Begun<'static> {
    let result = Err(error);
    tell(observer, &result);
    Begun::ready(reply(kept_id(call).as_deref(), &result.map(Outcome::Value)))
}

/// A function that was polled once.
enum Started {
    Done(CallResult),
    Waits(BoxFuture<CallResult>),
}

impl<S: Send + Sync + 'static, U: User> Entry<S, U> {
    /// Starts a function and polls it once.
    #[inline]
    fn begin(&self, function: &Call<S, U>, ctx: Ctx<S, U>, list: &JsonList<'_>) -> Started {
        if let Err(error) = self.charge(&ctx) {
            return Started::Done(Err(error));
        }
        let mut running = match function.start(ctx, &mut ArgCursor::over(list)) {
            Ok(running) => running,
            Err(error) => return Started::Done(Err(error)),
        };
        // Whoever drives what is not ready polls it at once: no wake-up is lost.
        match running
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(result) => Started::Done(result),
            Poll::Pending => Started::Waits(running),
        }
    }
}

/// A call with nothing around its function, which is running. It subscribes to nothing, so there
/// is nothing to take back when it fails.
struct Plain<S, U> {
    id: Option<CompactString>,
    /// Present when somebody wants to hear of errors.
    observer: Option<Ctx<S, U>>,
    running: BoxFuture<CallResult>,
}

impl<S, U: User> Future for Plain<S, U> {
    type Output = Option<Reply>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match poll_caught(&mut self.running, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(result) => result,
        };
        tell(self.observer.as_ref(), &result);
        Poll::Ready(reply(self.id.as_deref(), &result.map(Outcome::Value)))
    }
}

/// Polls a function; one that panics has failed.
fn poll_caught(running: &mut BoxFuture<CallResult>, cx: &mut Context<'_>) -> Poll<CallResult> {
    let poll = AssertUnwindSafe(|| running.as_mut().poll(cx));
    catch_unwind(poll).unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
}

/// Tells the observer, if there is one, of an error that the client does not hear of.
fn tell<S, U: User>(observer: Option<&Ctx<S, U>>, result: &CallResult) {
    if let (Err(error), Some(ctx)) = (result, observer)
        && !error.is_typed()
    {
        ctx.report(error);
    }
}
