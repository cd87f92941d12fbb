//! One call at a time for each key.

use core::fmt;
use core::future::poll_fn;
use core::task::{Poll, Waker};
use core::time::Duration;
use std::sync::Arc;

use millstream_core::{Millis, ObjectWriter};
use millstream_flow::{
    Acquired, Claim, Guard, KeyLock, LockError, LockEvent, LockLimits, Ticket, Wait,
};
use parking_lot::Mutex;

use crate::app::Problem;
use crate::args::{Arg, Args};
use crate::ctx::Ctx;
use crate::engine::Engine;
use crate::error::{LiveError, code};
use crate::handler::CallResult;
use crate::policy::Rest;
use crate::policy::seat::{Seat, Seats};
use crate::user::User;

/// What lock a call takes, and how long it waits for it.
///
/// Keys belong to the application, not to a path: two calls that lock one key exclude each other.
/// Who comes first is first. The lock is free again when the function has ended in whatever way,
/// also by an error, a panic or a deadline; it does not limit how long that takes. A caller whose
/// connection closes while it waits leaves the line and its function never runs.
///
/// Key of at most 256 UTF-16 units, else `INVALID_REQUEST`. Behind 1,000 others that wait for the
/// same key a call is refused with `OVERLOADED`.
///
/// ```
/// use core::time::Duration;
/// use millstream_live::{Call, Ctx, LiveError, Lock};
///
/// async fn book(_: Ctx<(), String>, seat: String) -> Result<String, LiveError> {
///     Ok(seat)
/// }
/// let lock = Lock::by(|seat: String| format!("seat:{seat}")).max_wait(Duration::from_secs(2));
/// let call: Call<(), String> = Call::new(book).lock(lock);
/// # let _ = call;
/// ```
pub struct Lock<S, U> {
    key: Key<S, U>,
    max_wait: Option<Duration>,
}

enum Key<S, U> {
    Fixed(String),
    Computed(Computed<S, U>),
}

type Computed<S, U> = Arc<dyn Fn(&Ctx<S, U>, &Args) -> Result<String, LiveError> + Send + Sync>;

impl<S, U> fmt::Debug for Lock<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("max_wait", &self.max_wait)
            .finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static, U: User> Lock<S, U> {
    /// One key for all callers.
    #[must_use]
    pub fn fixed(key: impl Into<String>) -> Self {
        Self::with_key(Key::Fixed(key.into()))
    }

    /// A key made from the first argument. An empty key means no lock.
    #[must_use]
    pub fn by<A: Arg>(key: impl Fn(A) -> String + Send + Sync + 'static) -> Self {
        Self::computed(move |_, args| Ok(key(A::from_args(&mut args.cursor())?)))
    }

    /// A key made from everything that is known. An empty key means no lock; an error is the
    /// call's error.
    #[must_use]
    pub fn computed(
        key: impl Fn(&Ctx<S, U>, &Args) -> Result<String, LiveError> + Send + Sync + 'static,
    ) -> Self {
        Self::with_key(Key::Computed(Arc::new(key)))
    }

    fn with_key(key: Key<S, U>) -> Self {
        Self {
            key,
            max_wait: None,
        }
    }

    /// Who has waited so long is refused with `LOCK_TIMEOUT`, and never runs. Zero: does not wait
    /// at all. Default: waits until the key is free.
    #[must_use]
    pub fn max_wait(mut self, limit: Duration) -> Self {
        self.max_wait = Some(limit);
        self
    }

    pub(super) fn problem(&self) -> Option<Problem> {
        match &self.key {
            Key::Fixed(key) if key.is_empty() || key.encode_utf16().count() > 256 => {
                Some(Problem::LockKey)
            }
            _ => None,
        }
    }

    pub(super) async fn around(&self, rest: Rest<'_, S, U>) -> CallResult {
        let computed;
        let key = match &self.key {
            Key::Fixed(key) => key,
            Key::Computed(key) => {
                computed = key(rest.ctx, rest.args)?;
                &computed
            }
        };
        if key.is_empty() {
            return rest.run().await;
        }
        let held = self.acquire(rest.ctx, key).await?;
        let result = rest.run().await;
        drop(held);
        result
    }

    async fn acquire(&self, ctx: &Ctx<S, U>, key: &str) -> Result<Held<S, U>, LiveError> {
        let engine = ctx.engine();
        let wait = match self.max_wait {
            Some(Duration::ZERO) => Wait::Try,
            // Each waiter brings its own timer.
            _ => Wait::Forever,
        };
        let claim = Claim {
            wait,
            owner: Some(ctx.number()),
        };
        let entered = engine.locks.enter(engine.platform.now(), key, claim);
        let (ticket, seat) = match entered {
            Ok(Entered::Held(guard)) => return Ok(Held::new(engine, guard)),
            Ok(Entered::Waiting(ticket, seat)) => (ticket, seat),
            Err(LockError::Busy) => return Err(self.timed_out(ctx, key)),
            Err(error) => return Err(refused(ctx, error)),
        };
        let place = Place {
            engine,
            ticket,
            seat: &seat,
        };
        let mut closed = core::pin::pin!(ctx.closed());
        let mut sleep = self.max_wait.map(|limit| engine.platform.sleep(limit));
        let outcome = poll_fn(|cx| {
            // Whose turn it is runs, even if it is late: it is not in line any more.
            if let Poll::Ready(guard) = seat.poll(cx) {
                return Poll::Ready(Ok(Held::new(engine, guard)));
            }
            if let Some(sleep) = &mut sleep
                && sleep.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Err(self.timed_out(ctx, key)));
            }
            let gone = || LiveError::new(code::CONNECTION_CLOSED, "WebSocket closed");
            closed.as_mut().poll(cx).map(|()| Err(gone()))
        })
        .await;
        drop(place);
        outcome
    }

    fn timed_out(&self, ctx: &Ctx<S, U>, key: &str) -> LiveError {
        ctx.engine().counters.lock_timeouts.add();
        let millis = self.max_wait.unwrap_or_default().as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        let mut details = ObjectWriter::new();
        details.text("key", key).number("maxWaitMs", millis);
        let text = format!("{key:?} was not free within {millis} ms");
        LiveError::new(code::LOCK_TIMEOUT, text).with_details(details.finish())
    }
}

fn refused<S, U: User>(ctx: &Ctx<S, U>, error: LockError) -> LiveError {
    match error {
        LockError::Key(error) => {
            LiveError::new(code::INVALID_REQUEST, format!("Lock key: {error}"))
        }
        LockError::Reentrant => LiveError::internal(error),
        full => {
            ctx.engine().counters.lock_overloads.add();
            LiveError::new(code::OVERLOADED, full.to_string())
        }
    }
}

/// All locks of an application, and the seats of those who wait.
pub(crate) struct Locks(Mutex<Inner>);

struct Inner {
    lock: KeyLock,
    seats: Seats<Guard>,
}

enum Entered {
    Held(Guard),
    Waiting(Ticket, Arc<Seat<Guard>>),
}

impl Locks {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Inner {
            lock: KeyLock::new(LockLimits::default()),
            seats: Seats::new(),
        }))
    }

    fn enter(&self, now: Millis, key: &str, claim: Claim) -> Result<Entered, LockError> {
        let mut inner = self.0.lock();
        Ok(match inner.lock.acquire(now, key, claim)? {
            Acquired::Granted(guard) => Entered::Held(guard),
            Acquired::Waiting(ticket) => Entered::Waiting(ticket, inner.seats.sit(ticket.number())),
        })
    }

    fn release(&self, now: Millis, guard: Guard) {
        let next = self.0.lock().hand_over(now, guard);
        if let Some(waker) = next {
            waker.wake();
        }
    }

    /// Leaves the line; whose turn it was already passes it on.
    fn leave(&self, now: Millis, ticket: Ticket, seat: &Seat<Guard>) {
        let mut inner = self.0.lock();
        if inner.lock.cancel(ticket) {
            inner.seats.leave(ticket.number());
            return;
        }
        let next = seat.take().and_then(|guard| inner.hand_over(now, guard));
        drop(inner);
        if let Some(waker) = next {
            waker.wake();
        }
    }

    /// Keys held and callers in line.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let inner = self.0.lock();
        (inner.lock.len(), inner.lock.waiting())
    }
}

impl Inner {
    fn hand_over(&mut self, now: Millis, guard: Guard) -> Option<Waker> {
        let mut events = Events(None);
        self.lock.release(now, guard, &mut events);
        match events.0? {
            LockEvent::Granted { ticket, guard } => self.seats.tell(ticket.number(), guard),
            // There are no time limits in the engine, and nobody clears.
            _ => None,
        }
    }
}

/// A release causes one event at most.
struct Events(Option<LockEvent>);

impl Extend<LockEvent> for Events {
    fn extend<T: IntoIterator<Item = LockEvent>>(&mut self, events: T) {
        self.0 = events.into_iter().last().or_else(|| self.0.take());
    }
}

/// A lock that is held until this is dropped.
struct Held<S, U> {
    engine: Arc<Engine<S, U>>,
    guard: Option<Guard>,
}

impl<S, U> Held<S, U> {
    fn new(engine: &Arc<Engine<S, U>>, guard: Guard) -> Self {
        Self {
            engine: Arc::clone(engine),
            guard: Some(guard),
        }
    }
}

impl<S, U> Drop for Held<S, U> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            self.engine.locks.release(self.engine.platform.now(), guard);
        }
    }
}

/// A place in line that is given up when this is dropped.
struct Place<'a, S, U> {
    engine: &'a Engine<S, U>,
    ticket: Ticket,
    seat: &'a Seat<Guard>,
}

impl<S, U> Drop for Place<'_, S, U> {
    fn drop(&mut self) {
        let now = self.engine.platform.now();
        self.engine.locks.leave(now, self.ticket, self.seat);
    }
}
