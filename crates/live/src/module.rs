//! Modules: names, what they stand for, and who may use them.

use core::future::Future;
use core::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::args::Args;
use crate::binary::{BinaryCall, UploadCall};
use crate::call::Call;
use crate::ctx::Ctx;
use crate::error::LiveError;
use crate::handler::Handler;
use crate::input::InputHandler;
use crate::stream::Stream;
use crate::upload::Upload;
use crate::user::User;

pub(crate) type Check<S, U> = Arc<
    dyn Fn(Ctx<S, U>) -> Pin<Box<dyn Future<Output = Result<(), LiveError>> + Send>> + Send + Sync,
>;

pub(crate) type Scope<S, U> = Arc<
    dyn Fn(Ctx<S, U>, Args) -> Pin<Box<dyn Future<Output = Result<bool, LiveError>> + Send>>
        + Send
        + Sync,
>;

/// A module: a path prefix, its guard, and what it offers.
///
/// ```
/// use millstream_live::{Ctx, LiveError, Module};
///
/// async fn add(_: Ctx<(), ()>, a: f64, b: f64) -> Result<f64, LiveError> {
///     Ok(a + b)
/// }
/// let module: Module<(), ()> = Module::new("math").call("add", add);
/// # let _ = module;
/// ```
pub struct Module<S, U> {
    pub(crate) path: String,
    pub(crate) guard: Vec<Check<S, U>>,
    pub(crate) entries: Vec<(String, Kind<S, U>)>,
}

/// What a path stands for.
pub(crate) enum Kind<S, U> {
    Binary(Box<BinaryCall<S, U>>),
    Call(Call<S, U>),
    Stream(Box<Stream<S, U>>),
    Upload(Box<UploadCall<S, U>>),
}

impl<S, U> core::fmt::Debug for Module<S, U> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Module")
            .field("path", &self.path)
            .field("guard_parts", &self.guard.len())
            .field("entries", &self.entries.len())
            .finish()
    }
}

impl<S: Send + Sync + 'static, U: User> Module<S, U> {
    /// An empty module. Its path is checked when the application is built.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            guard: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Adds a part to the guard. Parts run in order before everything in the module; the first
    /// that fails stops. A typed error is what the client sees; any other becomes `FORBIDDEN`, or
    /// `UNAUTHENTICATED` for a caller nobody knows.
    #[must_use]
    pub fn guard<Fut>(mut self, part: impl Fn(Ctx<S, U>) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = Result<(), LiveError>> + Send + 'static,
    {
        self.guard.push(Arc::new(move |ctx| Box::pin(part(ctx))));
        self
    }

    /// The guard that asks for a known user.
    #[must_use]
    pub fn authenticated(self) -> Self {
        self.guard(|ctx| async move { ctx.require_user().map(drop) })
    }

    /// Adds a call without options.
    #[must_use]
    pub fn call<P: 'static>(self, name: impl Into<String>, handler: impl Handler<S, U, P>) -> Self {
        self.call_with(name, Call::new(handler))
    }

    /// Adds a call with options.
    #[must_use]
    pub fn call_with(mut self, name: impl Into<String>, call: Call<S, U>) -> Self {
        self.entries.push((name.into(), Kind::Call(call)));
        self
    }

    /// Adds a call whose first argument is raw bytes, without options.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use millstream_live::{Ctx, LiveError, Module};
    ///
    /// async fn size(_: Ctx<(), ()>, image: Bytes, name: String) -> Result<usize, LiveError> {
    ///     Ok(image.len() + name.len())
    /// }
    /// let module: Module<(), ()> = Module::new("images").binary("size", size);
    /// # let _ = module;
    /// ```
    #[must_use]
    pub fn binary<P: 'static>(
        self,
        name: impl Into<String>,
        handler: impl InputHandler<S, U, Bytes, P>,
    ) -> Self {
        self.binary_with(name, BinaryCall::new(handler))
    }

    /// Adds a call whose first argument is raw bytes.
    #[must_use]
    pub fn binary_with(mut self, name: impl Into<String>, call: BinaryCall<S, U>) -> Self {
        self.entries
            .push((name.into(), Kind::Binary(Box::new(call))));
        self
    }

    /// Adds a function that takes an upload, without options; see [`Upload`].
    #[must_use]
    pub fn upload<P: 'static>(
        self,
        name: impl Into<String>,
        handler: impl InputHandler<S, U, Upload, P>,
    ) -> Self {
        self.upload_with(name, UploadCall::new(handler))
    }

    /// Adds a function that takes an upload.
    #[must_use]
    pub fn upload_with(mut self, name: impl Into<String>, upload: UploadCall<S, U>) -> Self {
        self.entries
            .push((name.into(), Kind::Upload(Box::new(upload))));
        self
    }

    /// Adds a stream or channel.
    #[must_use]
    pub fn stream(mut self, name: impl Into<String>, stream: Stream<S, U>) -> Self {
        self.entries
            .push((name.into(), Kind::Stream(Box::new(stream))));
        self
    }
}
