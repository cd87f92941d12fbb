//! A call that is repeated gives the first one's result.

use core::fmt;
use core::future::{Future, poll_fn};
use core::task::{Poll, Waker};
use core::time::Duration;
use std::sync::Arc;

use millstream_core::{Millis, RawJson};
use millstream_flow::{
    Attempt, Idempotency, IdempotencyConfig, IdempotencyError, IfBusy, Run, SlotEvent, Ticket,
    Weigh,
};
use parking_lot::Mutex;

use crate::app::Problem;
use crate::args::Args;
use crate::ctx::Ctx;
use crate::engine::Engine;
use crate::error::{LiveError, code};
use crate::handler::{BoxFuture, CallResult};
use crate::policy::Rest;
use crate::policy::seat::{Seat, Seats};
use crate::user::User;

/// Length of a key that a client may send, in UTF-16 units.
const KEY_UNITS_MAX: usize = 256;

/// How a call remembers its results.
///
/// A call with a key that was seen gets the first call's result instead of running again; while
/// that one still runs it waits. Only successes are remembered: after an error the next one that
/// waits runs. Without a key, or with an empty one, the function just runs. Guards and whatever
/// is wrapped outside run every time.
///
/// Keys count for one path and one user; callers without a user are told apart by their
/// connections, so that nobody is given somebody else's result.
///
/// | limit | default | at the limit |
/// |---|---|---|
/// | key | 256 UTF-16 units | `INVALID_REQUEST`, as for a key that is no text |
/// | [`results_max`](Self::results_max) per path | 10,000 | the oldest result goes |
/// | [`bytes_max`](Self::bytes_max) per path | 64 MiB | the oldest results go |
/// | one result | 256 KiB | for its caller alone; others wait a minute, then run |
/// | calls that wait for one key | 1,000 | `OVERLOADED` |
///
/// ```
/// use core::time::Duration;
/// use millstream_live::{Args, Call, Ctx, Idempotent, LiveError};
///
/// async fn pay(_: Ctx<(), String>, order: u64) -> Result<u64, LiveError> {
///     Ok(order)
/// }
/// let hour = Idempotent::new().ttl(Duration::from_secs(3_600));
/// let call: Call<(), String> = Call::new(pay).idempotent(hour);
/// # let _ = call;
/// ```
pub struct Idempotent<S, U> {
    key: Option<KeyOf<S, U>>,
    global: bool,
    refuse_running: bool,
    config: IdempotencyConfig,
    pub(super) table: usize,
}

type KeyOf<S, U> =
    Arc<dyn Fn(Ctx<S, U>, Args) -> BoxFuture<Result<Option<String>, LiveError>> + Send + Sync>;

impl<S, U> fmt::Debug for Idempotent<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotent")
            .field("ttl", &self.config.ttl)
            .field("global", &self.global)
            .finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static, U: User> Default for Idempotent<S, U> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Send + Sync + 'static, U: User> Idempotent<S, U> {
    /// With keys from clients, remembered for 48 hours.
    #[must_use]
    pub fn new() -> Self {
        Self {
            key: None,
            global: false,
            refuse_running: false,
            config: IdempotencyConfig {
                // What a client may send is checked before; the user's id comes on top.
                key_units_max: usize::MAX,
                ..IdempotencyConfig::default()
            },
            table: 0,
        }
    }

    /// Makes the key. Where it gives none, or an empty one, the client's counts.
    #[must_use]
    pub fn key<Fut>(mut self, key: impl Fn(Ctx<S, U>, Args) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = Result<Option<String>, LiveError>> + Send + 'static,
    {
        self.key = Some(Arc::new(move |ctx, args| Box::pin(key(ctx, args))));
        self
    }

    /// How long results are remembered. Default 48 hours. Zero: not at all, but calls with one key
    /// still take turns.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.config.ttl = ttl;
        self
    }

    /// Keys that [`key`](Self::key) makes count for all users together. Those of clients never do.
    #[must_use]
    pub fn global(mut self) -> Self {
        self.global = true;
        self
    }

    /// A call whose key is running is refused with `CONFLICT` instead of waiting.
    #[must_use]
    pub fn refuse_running(mut self) -> Self {
        self.refuse_running = true;
        self
    }

    /// Results that are remembered. Default 10,000.
    #[must_use]
    pub fn results_max(mut self, limit: usize) -> Self {
        self.config.entries_max = limit;
        self
    }

    /// Bytes of keys and results that are remembered. Default 64 MiB.
    #[must_use]
    pub fn bytes_max(mut self, limit: usize) -> Self {
        self.config.bytes_max = limit;
        self
    }

    pub(super) fn problem(&self) -> Option<Problem> {
        let empty = self.config.entries_max == 0 || self.config.bytes_max == 0;
        let useless = self.global && self.key.is_none();
        (empty || useless).then_some(Problem::Idempotent)
    }

    pub(super) fn config(&self) -> IdempotencyConfig {
        self.config.clone()
    }

    pub(super) async fn around(&self, rest: Rest<'_, S, U>) -> CallResult {
        let Some(key) = self.key_of(rest.ctx, rest.args).await? else {
            return rest.run().await;
        };
        let engine = Arc::clone(rest.ctx.engine());
        let run = match self.claim(&engine, &key).await? {
            Turn::Done(Kept(result)) => {
                engine.counters.repeated.add();
                return Ok(result);
            }
            Turn::Run(run) => run,
        };
        let mut running = Running {
            engine: &engine,
            table: self.table,
            run: Some(run),
        };
        let result = running.renewing(rest.run(), self.config.lease).await;
        if let Ok(value) = &result {
            running.complete(Kept(value.clone()));
        }
        result
    }

    /// The key under which the result is kept.
    async fn key_of(&self, ctx: &Ctx<S, U>, args: &Args) -> Result<Option<String>, LiveError> {
        let made = match &self.key {
            None => None,
            Some(key) => key(ctx.clone(), args.clone()).await?,
        };
        let bad = || {
            let text = "idempotencyKey must be a string no longer than 256 characters";
            LiveError::new(code::INVALID_REQUEST, text)
        };
        let own = made.filter(|key| !key.is_empty());
        let global = self.global && own.is_some();
        let key = match (own, ctx.idempotency_key()) {
            (Some(own), _) => own,
            (None, None) => return Ok(None),
            (None, Some(sent)) => sent.as_json_str().ok_or_else(bad)?.to_cow().into_owned(),
        };
        if key.is_empty() {
            return Ok(None);
        }
        if key.encode_utf16().count() > KEY_UNITS_MAX {
            return Err(bad());
        }
        Ok(Some(if global {
            format!("all:{key}")
        } else {
            ctx.scoped_key(&key)
        }))
    }

    async fn claim(&self, engine: &Engine<S, U>, key: &str) -> Result<Turn, LiveError> {
        let Some(table) = engine.tables.results.get(self.table) else {
            return Err(LiveError::internal("no table for results"));
        };
        let if_busy = if self.refuse_running {
            IfBusy::Return
        } else {
            IfBusy::Wait
        };
        let (ticket, seat) = match table.claim(engine.platform.now(), key, if_busy) {
            Ok(Claimed::Turn(turn)) => return Ok(turn),
            Ok(Claimed::Wait(ticket, seat)) => (ticket, seat),
            Ok(Claimed::Busy) => {
                engine.counters.conflicts.add();
                let text = "A call with this idempotency key is running";
                return Err(LiveError::new(code::CONFLICT, text));
            }
            Err(error) => {
                engine.counters.idempotency_overloads.add();
                return Err(LiveError::new(code::OVERLOADED, error.to_string()));
            }
        };
        let _place = Place {
            engine,
            table,
            ticket,
            seat: &seat,
        };
        let mut lease = engine.platform.sleep(self.config.lease);
        Ok(poll_fn(|cx| {
            loop {
                if let Poll::Ready(turn) = seat.poll(cx) {
                    return Poll::Ready(turn);
                }
                if lease.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                // The one before may have ended without a word.
                table.expire(engine.platform.now());
                lease = engine.platform.sleep(self.config.lease);
            }
        })
        .await)
    }
}

/// A result as it is kept: a value, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept(Option<RawJson>);

impl Weigh for Kept {
    fn weight(&self) -> usize {
        self.0.as_ref().map_or(0, Weigh::weight)
    }
}

/// What a caller comes to.
enum Turn {
    Run(Run),
    Done(Kept),
}

enum Claimed {
    Turn(Turn),
    Wait(Ticket, Arc<Seat<Turn>>),
    Busy,
}

/// The results of one path, and the seats of those who wait.
pub(crate) struct Results(Mutex<Inner>);

struct Inner {
    slots: Idempotency<Kept>,
    seats: Seats<Turn>,
}

impl Results {
    pub(crate) fn new(config: IdempotencyConfig) -> Self {
        Self(Mutex::new(Inner {
            slots: Idempotency::new(config),
            seats: Seats::new(),
        }))
    }

    fn claim(&self, now: Millis, key: &str, if_busy: IfBusy) -> Result<Claimed, IdempotencyError> {
        self.expire(now);
        let mut inner = self.0.lock();
        Ok(match inner.slots.claim(now, key, if_busy)? {
            Attempt::Run(run) => Claimed::Turn(Turn::Run(run)),
            Attempt::Done(kept) => Claimed::Turn(Turn::Done(kept.clone())),
            Attempt::InProgress => Claimed::Busy,
            Attempt::Wait(ticket) => Claimed::Wait(ticket, inner.seats.sit(ticket.number())),
        })
    }

    /// Drops what is over.
    fn expire(&self, now: Millis) {
        self.change(|slots, out| {
            if slots
                .next_deadline()
                .is_some_and(|deadline| deadline <= now)
            {
                slots.handle_timeout(now, out);
            }
        });
    }

    /// Changes the slots and tells those whom it concerns.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Idempotency<Kept>, &mut Vec<SlotEvent<Kept>>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let mut inner = self.0.lock();
        let changed = change(&mut inner.slots, &mut out);
        let told: Vec<Option<Waker>> = out
            .into_iter()
            .map(|event| match event {
                SlotEvent::Run { ticket, run } => inner.seats.tell(ticket.number(), Turn::Run(run)),
                SlotEvent::Done { ticket, result } => {
                    inner.seats.tell(ticket.number(), Turn::Done(result))
                }
                _ => None,
            })
            .collect();
        drop(inner);
        for waker in told.into_iter().flatten() {
            waker.wake();
        }
        changed
    }

    /// Gives a place in line up; whose turn it was already passes it on.
    fn leave(&self, now: Millis, ticket: Ticket, seat: &Seat<Turn>) {
        let left = {
            let mut inner = self.0.lock();
            let left = inner.slots.cancel(ticket);
            inner.seats.leave(ticket.number());
            left
        };
        if !left && let Some(Turn::Run(run)) = seat.take() {
            // Lost only if its lease has ended: then it is somebody else's turn anyway.
            let _ = self.change(|slots, out| slots.abandon(now, run, out));
        }
    }

    /// Keys in progress or done, and callers in line.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let inner = self.0.lock();
        (inner.slots.len(), inner.slots.waiting())
    }
}

/// A place in line that is given up when this is dropped.
struct Place<'a, S, U> {
    engine: &'a Engine<S, U>,
    table: &'a Results,
    ticket: Ticket,
    seat: &'a Seat<Turn>,
}

impl<S, U> Drop for Place<'_, S, U> {
    fn drop(&mut self) {
        let now = self.engine.platform.now();
        self.table.leave(now, self.ticket, self.seat);
    }
}

/// A run under way: without a result it makes way for the next one.
struct Running<'a, S, U> {
    engine: &'a Engine<S, U>,
    table: usize,
    run: Option<Run>,
}

impl<S, U> Running<'_, S, U> {
    fn table(&self) -> Option<&Results> {
        self.engine.tables.results.get(self.table)
    }

    /// Runs for as long as it takes without losing the slot.
    async fn renewing<T>(&self, mut work: impl Future<Output = T> + Unpin, lease: Duration) -> T {
        let mut sleep: Option<BoxFuture<()>> = None;
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(result) = core::pin::Pin::new(&mut work).poll(cx) {
                    return Poll::Ready(result);
                }
                let platform = &self.engine.platform;
                let timer = sleep.get_or_insert_with(|| platform.sleep(lease / 2));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                sleep = None;
                if let (Some(table), Some(run)) = (self.table(), &self.run) {
                    // A slot that is lost all the same changes nothing for this caller.
                    let _ = table.change(|slots, _| slots.renew(platform.now(), run));
                }
            }
        })
        .await
    }

    /// Keeps the result. One that does not fit is given to its caller all the same: what it did is
    /// done.
    fn complete(&mut self, kept: Kept) {
        let now = self.engine.platform.now();
        let run = self.run.take();
        if let (Some(table), Some(run)) = (self.table(), run)
            && table
                .change(|slots, out| slots.complete(now, run, kept, out))
                .is_err()
        {
            self.engine.counters.results_not_kept.add();
        }
    }
}

impl<S, U> Drop for Running<'_, S, U> {
    fn drop(&mut self) {
        let run = self.run.take();
        if let (Some(table), Some(run)) = (self.table(), run) {
            let now = self.engine.platform.now();
            let _ = table.change(|slots, out| slots.abandon(now, run, out));
        }
    }
}
