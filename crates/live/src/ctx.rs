//! What a handler can see and do.

use core::any::{Any, TypeId};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use millstream_core::{ConnId, RawJson, RawJsonRef};
use millstream_hub::{PublishOptions, Published};
use parking_lot::Mutex;
use serde::Serialize;

use crate::closing::Closed;
use crate::engine::Engine;
use crate::error::{LiveError, code};
use crate::input::Input;
use crate::origin::Origin;
use crate::platform::{Client, Platform};
use crate::publish::{BatchEvent, Outgoing};
use crate::upload::Upload;
use crate::user::User;

/// The context of one call: the application's state, who is calling, and the verbs.
///
/// `S` is the application's state, `U` the identity that the upgrade hook produced. Cheap to
/// clone, and usable from any thread and for as long as the handler likes; what it does after the
/// connection has closed reaches nobody there.
// Counted without weak references, which nothing here needs: an atomic operation less per call.
pub struct Ctx<S, U>(triomphe::Arc<Inner<S, U>>);

struct Inner<S, U> {
    origin: Origin<S, U>,
    path: CtxPath,
    /// Most calls bring nothing.
    brought: Option<Box<Brought>>,
    /// Nor do most leave anything.
    left: Mutex<Option<Box<Left>>>,
    /// The call's number among those that were asked for theirs; 0 before that.
    number: AtomicU64,
}

/// What a context is for.
pub(crate) enum CtxPath {
    /// A call of a path, by the path's number in the application: counting references to what all
    /// calls of a path share would make workers wait for each other.
    Called(u32),
    /// Work that no client asked for.
    Work(Arc<str>),
}

/// What a call came with besides its arguments.
#[derive(Default)]
pub(crate) struct Brought {
    pub(crate) cursor: Option<RawJson>,
    pub(crate) idempotency_key: Option<RawJson>,
    pub(crate) input: Input,
}

/// What a call leaves for what runs later in it.
#[derive(Default)]
struct Left {
    values: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    /// The subscription this call has made, until its outcome is known.
    grant: Option<Grant>,
}

/// A subscription that may have to be taken back.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) id: u64,
    pub(crate) topic: Arc<str>,
}

static GRANTS: AtomicU64 = AtomicU64::new(1);
static NUMBERS: AtomicU64 = AtomicU64::new(1);

impl<S, U> Clone for Ctx<S, U> {
    fn clone(&self) -> Self {
        Self(triomphe::Arc::clone(&self.0))
    }
}

impl<S, U: User> fmt::Debug for Ctx<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx")
            .field("path", &self.path())
            .field("caller", self.0.origin.caller())
            .finish_non_exhaustive()
    }
}

impl<S, U: User> Ctx<S, U> {
    #[inline]
    pub(crate) fn new(origin: Origin<S, U>, path: CtxPath, brought: Option<Box<Brought>>) -> Self {
        Self(triomphe::Arc::new(Inner {
            origin,
            path,
            brought,
            left: Mutex::new(None),
            number: AtomicU64::new(0),
        }))
    }

    /// The context of a call, in the memory of an earlier one of the same caller if `spare` has it.
    /// There it stays for the next.
    #[inline]
    pub(crate) fn reusing(
        spare: &mut Option<Self>,
        origin: &Origin<S, U>,
        path: CtxPath,
        brought: Option<Box<Brought>>,
    ) -> Self {
        if let Some(ctx) = spare
            && let Some(inner) = ctx.alone()
        {
            inner.path = path;
            inner.brought = brought;
            *inner.number.get_mut() = 0;
            return ctx.clone();
        }
        let ctx = Self::new(origin.clone(), path, brought);
        spare.insert(ctx).clone()
    }

    /// Drops what a finished call has brought and left. False when somebody still has the context.
    #[inline]
    pub(crate) fn clear(&mut self) -> bool {
        let Some(inner) = self.alone() else {
            return false;
        };
        // Nearly always there is nothing to drop, and to see that takes no call.
        if inner.brought.is_some() {
            inner.brought = None;
        }
        if inner.left.get_mut().is_some() {
            *inner.left.get_mut() = None;
        }
        true
    }

    /// Makes it another caller's. False when somebody still has it.
    pub(crate) fn move_to(&mut self, origin: &Origin<S, U>) -> bool {
        let Some(inner) = self.alone() else {
            return false;
        };
        inner.origin = origin.clone();
        true
    }

    #[inline]
    fn alone(&mut self) -> Option<&mut Inner<S, U>> {
        triomphe::Arc::get_mut(&mut self.0)
    }

    fn input(&self) -> Option<&Input> {
        Some(&self.0.brought.as_ref()?.input)
    }

    /// What all contexts of the application share.
    pub(crate) fn engine(&self) -> &Arc<Engine<S, U>> {
        self.0.origin.engine()
    }

    /// Tells this call from all others that are running.
    pub(crate) fn number(&self) -> u64 {
        triomphe::Arc::as_ptr(&self.0).addr() as u64
    }

    /// Notes that the call has subscribed its connection; gives the subscription's id.
    pub(crate) fn grant(&self, topic: &Arc<str>) -> u64 {
        let id = GRANTS.fetch_add(1, Ordering::Relaxed);
        let topic = Arc::clone(topic);
        self.0.left.lock().get_or_insert_default().grant = Some(Grant { id, topic });
        id
    }

    /// Ends the holding back of events that the call's subscription has begun.
    pub(crate) fn release(&self, topic: &str, holder: u64) {
        if let Some(conn) = self.conn() {
            self.platform().release(conn, topic, holder);
        }
    }

    /// The subscription that the call has made.
    pub(crate) fn take_grant(&self) -> Option<Grant> {
        self.0.left.lock().as_mut()?.grant.take()
    }

    /// Tells the application of an error that the client does not hear of. A hook that panics must
    /// not cost the caller its reply.
    pub(crate) fn report(&self, error: &LiveError) {
        if let Some(hook) = &self.0.origin.engine().app.on_error {
            let told = AssertUnwindSafe(|| hook(self, error));
            // The panic's own message went to standard error already.
            let _ = std::panic::catch_unwind(told);
        }
    }

    /// The application's state.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.0.origin.engine().app.state
    }

    /// Who is calling, if that is known.
    #[must_use]
    pub fn user(&self) -> Option<&U> {
        self.attached().filter(|user| user.is_known())
    }

    /// What the upgrade hook attached, whether or not it is a known user.
    #[must_use]
    pub fn attached(&self) -> Option<&U> {
        self.0.origin.caller().client.user()
    }

    /// The connection's facts as the host keeps them.
    #[must_use]
    pub fn client(&self) -> &Arc<dyn Client<U>> {
        &self.0.origin.caller().client
    }

    /// Who is calling.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when that is not known.
    pub fn require_user(&self) -> Result<&U, LiveError> {
        self.user()
            .ok_or_else(|| LiveError::new(code::UNAUTHENTICATED, "Authentication required"))
    }

    /// The refusal that fits the caller: `FORBIDDEN` for somebody known, else `UNAUTHENTICATED`.
    #[must_use]
    pub fn denied(&self) -> LiveError {
        match self.user() {
            Some(_) => LiveError::new(code::FORBIDDEN, "Access denied"),
            None => LiveError::new(code::UNAUTHENTICATED, "Authentication required"),
        }
    }

    /// The connection the call came from.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        self.0.origin.caller().conn
    }

    /// The address of the client.
    #[must_use]
    pub fn remote_address(&self) -> String {
        self.0.origin.caller().client.remote_address()
    }

    /// The id of the upgrade request, for logs: the same for all calls of a connection.
    #[must_use]
    pub fn request_id(&self) -> String {
        self.0.origin.caller().client.request_id()
    }

    /// An id of this call alone, for logs: that of its connection and a number. Each call of a
    /// batch has its own; clones of a context share it.
    ///
    /// # Cost
    /// Nothing for calls that do not ask.
    #[must_use]
    pub fn call_id(&self) -> String {
        let number = &self.0.number;
        if number.load(Ordering::Relaxed) == 0 {
            let fresh = NUMBERS.fetch_add(1, Ordering::Relaxed);
            // Whoever else asks at the same time may have been first.
            let _ = number.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed);
        }
        format!("{}-{}", self.request_id(), number.load(Ordering::Relaxed))
    }

    /// The path that was called.
    #[must_use]
    pub fn path(&self) -> &str {
        match &self.0.path {
            CtxPath::Called(number) => self.0.origin.engine().app.path(*number),
            CtxPath::Work(path) => path,
        }
    }

    /// The cursor of a page request.
    #[must_use]
    pub fn cursor(&self) -> Option<RawJsonRef<'_>> {
        self.0.brought.as_ref()?.cursor.as_ref().map(RawJson::get)
    }

    /// What the client sent to name the call for idempotent functions; any JSON.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<RawJsonRef<'_>> {
        let brought = self.0.brought.as_ref()?;
        brought.idempotency_key.as_ref().map(RawJson::get)
    }

    /// Whether the connection that the call came from is over. The function goes on all the same:
    /// one that takes long may look whether anybody will read its result. False for work that no
    /// client asked for.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.conn().is_some() && self.0.origin.caller().client.is_closed()
    }

    /// Resolves when the connection that the call came from is over; never for work that no client
    /// asked for. Costs nothing until it is polled.
    ///
    /// ```
    /// use millstream_live::{Ctx, LiveError};
    ///
    /// async fn watch(ctx: Ctx<(), ()>) -> Result<(), LiveError> {
    ///     ctx.closed().await;
    ///     // Nobody hears of this any more.
    ///     Ok(())
    /// }
    /// # let _ = watch;
    /// ```
    pub fn closed(&self) -> Closed<S, U> {
        Closed::new(Arc::clone(self.engine()), self.0.origin.caller().clone())
    }

    /// The bytes of a binary call, for what runs before its function.
    #[must_use]
    pub fn payload(&self) -> Option<&Bytes> {
        match self.input()? {
            Input::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Whether the call is an upload.
    pub(crate) fn is_upload(&self) -> bool {
        matches!(self.input(), Some(Input::Upload(_)))
    }

    /// The upload, for the function alone.
    pub(crate) fn take_upload(&self) -> Option<Upload> {
        match self.input()? {
            Input::Upload(upload) => upload.lock().take(),
            _ => None,
        }
    }

    /// Leaves a value for what runs later in the same call; one per type. Guards use it.
    pub fn set<T: Any + Send + Sync>(&self, value: T) {
        let mut left = self.0.left.lock();
        let values = &mut left.get_or_insert_default().values;
        values.insert(TypeId::of::<T>(), Box::new(value));
    }

    /// A copy of a value that was left by something that ran earlier in the same call.
    #[must_use]
    pub fn get<T: Any + Clone>(&self) -> Option<T> {
        let left = self.0.left.lock();
        let values = &left.as_ref()?.values;
        values.get(&TypeId::of::<T>())?.downcast_ref().cloned()
    }

    /// The engine below, with its own verbs: no stream features, system topics allowed.
    #[must_use]
    pub fn platform(&self) -> &Arc<dyn Platform> {
        &self.0.origin.engine().platform
    }
}

impl<S: Send + Sync + 'static, U: User> Ctx<S, U> {
    /// Publishes a value to all subscribers of a topic.
    ///
    /// # Errors
    /// `INVALID_TOPIC` for system topics and impossible names, `INVALID_REQUEST` for an
    /// impossible event name, `INTERNAL_ERROR` for what cannot be written as JSON,
    /// `PAYLOAD_TOO_LARGE` and `OVERLOADED` from the engine, and what the stream's own shape
    /// gives.
    pub fn publish<T: Serialize + ?Sized>(
        &self,
        topic: &str,
        event: &str,
        data: &T,
    ) -> Result<Published, LiveError> {
        let data = RawJson::from_serialize(data)?;
        self.publish_raw(topic, event, data.get(), PublishOptions::default())
    }

    /// Publishes ready JSON. Not delivered when the stream's observer has taken an error of the
    /// event's shape.
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
        self.0.origin.engine().publish(
            Some(self),
            Outgoing {
                topic,
                event,
                data,
                options,
            },
        )
    }

    /// Publishes several events in order. All are checked and shaped before the first is
    /// published: an error there means that none was. Neighbours are published as one unit, one
    /// frame for receivers that understand it; volatile events and those of coalesced and held
    /// streams are units of their own, and when such a unit is refused, those before it are out.
    ///
    /// Gives one result per event. One whose error an observer has taken is not delivered.
    ///
    /// ```
    /// # use millstream_live::{BatchEvent, Ctx, LiveError};
    /// async fn swap(ctx: Ctx<(), ()>, a: u64, b: u64) -> Result<(), LiveError> {
    ///     ctx.publish_batch(&[
    ///         BatchEvent::new("seats", "updated", &serde_json::json!({"id": a, "by": b}))?,
    ///         BatchEvent::new("seats", "updated", &serde_json::json!({"id": b, "by": a}))?,
    ///     ])?;
    ///     Ok(())
    /// }
    /// # let _ = swap;
    /// ```
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and `INVALID_REQUEST` for more neighbours than the engine's
    /// limit on members of a batch.
    pub fn publish_batch(&self, events: &[BatchEvent<'_>]) -> Result<Vec<Published>, LiveError> {
        self.0.origin.engine().publish_batch(Some(self), events)
    }
}
