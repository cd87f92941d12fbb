//! What a stream holds at first, without a connection: for pages that are rendered on a server.

use core::any::Any;
use core::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use millstream_core::{ObjectWriter, RawJson, is_system_topic};

use crate::app::Entry;
use crate::args::Args;
use crate::ctx::{Brought, Ctx, CtxPath};
use crate::error::{LiveError, code};
use crate::handler::{BoxFuture, CallResult};
use crate::layer::{Next, Outcome};
use crate::module::Kind;
use crate::origin::Origin;
use crate::pipeline::{Live, ask_guard, panic_text};
use crate::platform::{Caller, Client};
use crate::stream::Stream;
use crate::user::User;

/// What to load, and for whom.
#[derive(Debug, Clone)]
#[allow(
    clippy::exhaustive_structs,
    reason = "made by applications, member by member"
)]
pub struct Load<U> {
    /// The stream.
    pub path: String,
    /// Its arguments.
    pub args: Args,
    /// Where the page begins, for streams of pages.
    pub cursor: Option<RawJson>,
    /// Whose page it is; `None` for a visitor whom nobody knows. Guards and access predicates ask.
    pub user: Option<U>,
}

/// A user without a connection.
struct Viewer<U>(Option<U>);

impl<U: User> Client<U> for Viewer<U> {
    fn user(&self) -> Option<&U> {
        self.0.as_ref()
    }

    fn remote_address(&self) -> String {
        String::new()
    }

    fn request_id(&self) -> String {
        String::new()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<S: Send + Sync + 'static, U: User> Live<S, U> {
    /// Loads what a stream holds at first: layers, guard, arguments, gates (closed: `null`),
    /// access, loader, shape. A page comes whole, as `{data, hasMore, cursor}`; a stream without a
    /// loader gives what the server keeps of it, or nothing.
    ///
    /// Nothing is subscribed, so no hook of a subscription runs, and neither do the hook before,
    /// classes of service and rate limits. The stream's observer hears of a loader's error.
    ///
    /// ```
    /// # use core::{pin::pin, task::{Context, Poll, Waker}};
    /// use millstream_live::{App, Args, Ctx, Live, Load, LiveError, Module, Stream};
    ///
    /// async fn rows(ctx: Ctx<(), String>) -> Result<Vec<String>, LiveError> {
    ///     Ok(vec![format!("hello, {}", ctx.require_user()?)])
    /// }
    /// # fn render(live: &Live<(), String>) {
    /// let load = Load {
    ///     path: "demo/rows".to_owned(),
    ///     args: Args::NONE,
    ///     cursor: None,
    ///     user: Some("ada".to_owned()),
    /// };
    /// let rows = live.load(load); // a future of `["hello, ada"]`
    /// # drop(rows);
    /// # }
    /// ```
    pub fn load(&self, load: Load<U>) -> BoxFuture<CallResult> {
        let engine = Arc::clone(&self.engine);
        let refused = |code: &'static str, text: &'static str| -> BoxFuture<CallResult> {
            Box::pin(ready(Err(LiveError::new(code, text))))
        };
        let Some(entry) = engine.app.entry(&load.path).cloned() else {
            return refused(code::NOT_FOUND, "Not found");
        };
        if !matches!(&*entry.kind, Kind::Stream(_)) {
            return refused(code::INVALID_REQUEST, "Only streams are loaded");
        }
        let caller = Caller {
            conn: None,
            client: Arc::new(Viewer(load.user)),
        };
        let layers = Arc::clone(&engine.app.layers);
        let brought = load.cursor.map(|cursor| {
            Box::new(Brought {
                cursor: Some(cursor),
                ..Brought::default()
            })
        });
        let origin = Origin::new(engine, caller);
        let ctx = Ctx::new(origin, CtxPath::Called(entry.number), brought);
        Box::pin(async move {
            let core = Box::new(move |ctx| -> BoxFuture<_> {
                Box::pin(async move {
                    let value = entry.load(ctx, load.args).await?;
                    Ok(Outcome::Value(value))
                })
            });
            let told = ctx.clone();
            let running = AssertUnwindSafe(async { Next::new(layers, core).run(ctx).await });
            let outcome = running.catch_unwind().await.unwrap_or_else(|panic| {
                let text = panic_text(&*panic);
                Err(LiveError::internal(format!("panicked: {text}")))
            });
            match outcome {
                Ok(Outcome::Value(value)) => Ok(value),
                Ok(Outcome::Stream(stream)) => Ok(stream.data),
                Err(error) => {
                    if !error.is_typed() {
                        told.report(&error);
                    }
                    Err(error)
                }
            }
        })
    }
}

impl<S: Send + Sync + 'static, U: User> Entry<S, U> {
    async fn load(&self, ctx: Ctx<S, U>, args: Args) -> CallResult {
        ask_guard(&self.guard, &ctx).await?;
        match &*self.kind {
            Kind::Stream(stream) => stream.load_value(ctx, args).await,
            _ => Ok(None),
        }
    }
}

impl<S: Send + Sync + 'static, U: User> Stream<S, U> {
    async fn load_value(&self, ctx: Ctx<S, U>, args: Args) -> CallResult {
        let Some((args, topic)) = self.admit(&ctx, args).await? else {
            return Ok(Some(RawJson::NULL));
        };
        let loaded = self.value(&ctx, &args, &topic).await;
        if let Err(error) = &loaded {
            let _ = self.observe(&ctx, &topic, error);
        }
        loaded
    }

    async fn value(&self, ctx: &Ctx<S, U>, args: &Args, topic: &Arc<str>) -> CallResult {
        if self.is_channel() {
            return Ok(Some(self.empty_value()));
        }
        let Some(loader) = &self.loader else {
            let (value, _) = ctx.engine().held_value(topic).await?;
            return Ok(Some(value));
        };
        let (data, page) = self.loaded(loader, ctx, args).await?;
        if page.is_empty() {
            return Ok(data);
        }
        let mut object = ObjectWriter::new();
        object.raw(
            "data",
            data.as_ref()
                .map_or(millstream_core::RawJsonRef::NULL, RawJson::get),
        );
        for (name, value) in &page {
            object.raw(name, value.get());
        }
        Ok(Some(object.finish()))
    }

    /// Arguments, gates, topic, access: all that may refuse before anything has happened. `None`
    /// when a gate is closed.
    pub(crate) async fn admit(
        &self,
        ctx: &Ctx<S, U>,
        args: Args,
    ) -> Result<Option<(Args, Arc<str>)>, LiveError> {
        let args = match &self.args {
            Some(check) => check(args)?,
            None => args,
        };
        for gate in &self.gates {
            if !gate(ctx.clone(), args.clone()).await? {
                return Ok(None);
            }
        }
        let topic: Arc<str> = (self.topic)(ctx, &args)?.into();
        if is_system_topic(&topic) {
            let text = "Reserved topic prefix";
            return Err(LiveError::new(code::INVALID_REQUEST, text));
        }
        for predicate in &self.access {
            if !predicate(ctx.clone(), args.clone()).await? {
                return Err(ctx.denied());
            }
        }
        Ok(Some((args, topic)))
    }
}
