//! One call with what is wrapped around it.

use core::fmt;
use core::future::ready;

use crate::app::App;
use crate::args::{ArgCursor, Args};
use crate::ctx::Ctx;
use crate::error::LiveError;
use crate::handler::{AnyHandler, BoxFuture, CallResult, Handler, erase};
use crate::layer::Outcome;
use crate::policy::{Policies, policy_methods, within};
use crate::user::User;

/// One call with its options.
///
/// ```
/// use core::time::Duration;
/// use millstream_live::{Call, Ctx, LiveError, Lock, Rate, access};
///
/// async fn close(_: Ctx<(), String>, ticket: u64) -> Result<bool, LiveError> {
///     Ok(ticket > 0)
/// }
/// let call: Call<(), String> = Call::new(close)
///     .scoped(access::owner())
///     .rate_limit(Rate::new(10, Duration::from_secs(60)))
///     .lock(Lock::by(|ticket: u64| format!("ticket:{ticket}")))
///     .deadline(Duration::from_secs(5));
/// # let _ = call;
/// ```
pub struct Call<S, U> {
    handler: AnyHandler<S, U>,
    pub(crate) policies: Policies<S, U>,
}

impl<S, U> fmt::Debug for Call<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("policies", &self.policies.len())
            .finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static, U: User> Call<S, U> {
    /// A call without options.
    pub fn new<P: 'static>(handler: impl Handler<S, U, P>) -> Self {
        Self::erased(erase(handler))
    }

    /// The same for a function whose parameters are hidden already.
    pub(crate) fn erased(handler: AnyHandler<S, U>) -> Self {
        Self {
            handler,
            policies: Policies::new(),
        }
    }

    /// Whether nothing is around the function.
    pub(crate) fn is_plain(&self, app: &App<S, U>) -> bool {
        self.policies.is_empty() && app.limits.call_deadline.is_none()
    }

    /// The function alone.
    pub(crate) fn start(
        &self,
        ctx: Ctx<S, U>,
        args: &mut ArgCursor<'_>,
    ) -> Result<BoxFuture<CallResult>, LiveError> {
        (self.handler)(ctx, args)
    }

    /// The function, inside of what is wrapped around it.
    pub(crate) async fn run(&self, ctx: Ctx<S, U>, args: Args) -> Result<Outcome, LiveError> {
        if self.is_plain(&ctx.engine().app) {
            return self
                .start(ctx, &mut args.cursor())?
                .await
                .map(Outcome::Value);
        }
        let general = ctx.engine().app.limits.call_deadline;
        // An upload takes as long as its client does; silence has a limit of its own.
        let general = general.filter(|_| !self.policies.has_deadline() && !ctx.is_upload());
        let start = || {
            let started = self.start(ctx.clone(), &mut args.cursor());
            started.unwrap_or_else(|error| Box::pin(ready(Err(error))))
        };
        let running = self.policies.run(&ctx, &args, Box::new(start));
        let result = match general {
            Some(limit) => within(&ctx, limit, running).await,
            None => running.await,
        };
        result.map(Outcome::Value)
    }
}

policy_methods!(Call);
