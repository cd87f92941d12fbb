//! Stops calling what fails again and again.

use core::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use millstream_flow::{BreakerConfig, BreakerState, BreakerStats, Permit};
use parking_lot::Mutex;

use crate::app::Problem;
use crate::args::ArgCursor;
use crate::ctx::Ctx;
use crate::error::{LiveError, code};
use crate::handler::{AnyHandler, BoxFuture, CallResult};
use crate::platform::Platform;
use crate::policy::Rest;
use crate::user::User;

/// A circuit breaker, shared by everything that depends on the same thing: clones are one breaker.
///
/// After so many failures in a row calls are not tried any more but answered with the fallback, or
/// with `SERVICE_UNAVAILABLE`. After the cool-down one call is let through: its success heals, its
/// failure breaks again. An error that is the caller's own fault ([`counts`](Self::counts)) is
/// neither; a panic is a failure, and a call that is given up half-way says nothing.
///
/// ```
/// use millstream_live::{Breaker, BreakerConfig, Call, Ctx, LiveError};
///
/// async fn quote(_: Ctx<(), ()>, symbol: String) -> Result<f64, LiveError> {
///     Err(LiveError::new("DEPENDENCY", symbol))
/// }
/// let exchange = Breaker::new(BreakerConfig { failures: 3, ..BreakerConfig::default() });
/// let call: Call<(), ()> = Call::new(quote).breaker(&exchange);
/// # let _ = call;
/// ```
#[derive(Clone)]
pub struct Breaker(Arc<Shared>);

struct Shared {
    engine: Mutex<millstream_flow::Breaker>,
    config: BreakerConfig,
    listener: Option<Listener>,
}

type Listener = Box<dyn Fn(BreakerState) + Send + Sync>;

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Breaker {
    /// A healthy one.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self::with_listener(config, None)
    }

    /// A healthy one that tells of every change of its state, in the call that caused it. A
    /// listener that panics costs nobody anything.
    #[must_use]
    pub fn observed(
        config: BreakerConfig,
        listener: impl Fn(BreakerState) + Send + Sync + 'static,
    ) -> Self {
        Self::with_listener(config, Some(Box::new(listener)))
    }

    fn with_listener(config: BreakerConfig, listener: Option<Listener>) -> Self {
        Self(Arc::new(Shared {
            engine: Mutex::new(millstream_flow::Breaker::new(config)),
            config,
            listener,
        }))
    }

    /// What it thinks now.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.0.engine.lock().state()
    }

    /// Healthy again, whatever it was.
    pub fn reset(&self) {
        self.change(millstream_flow::Breaker::reset);
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> BreakerStats {
        self.0.engine.lock().stats()
    }

    /// Whether an error counts as a failure: all do but those that tell a caller of its own
    /// mistake, of its lack of rights, or of a limit.
    #[must_use]
    pub fn counts(error: &LiveError) -> bool {
        const CALLERS_OWN: [&str; 11] = [
            code::CONFLICT,
            code::CONNECTION_CLOSED,
            code::FORBIDDEN,
            code::INVALID_ARG,
            code::INVALID_REQUEST,
            code::INVALID_TOPIC,
            code::LOCK_TIMEOUT,
            code::NOT_FOUND,
            code::RATE_LIMITED,
            code::UNAUTHENTICATED,
            code::VALIDATION,
        ];
        !CALLERS_OWN.contains(&error.code())
    }

    pub(crate) fn problem(&self) -> Option<Problem> {
        (self.0.config.failures == 0).then_some(Problem::Breaker)
    }

    fn change<T>(&self, change: impl FnOnce(&mut millstream_flow::Breaker) -> T) -> T {
        let (changed, before, after) = {
            let mut engine = self.0.engine.lock();
            let before = engine.state();
            let changed = change(&mut engine);
            (changed, before, engine.state())
        };
        if before != after
            && let Some(listener) = &self.0.listener
        {
            // Also called while a panic unwinds: a second one would end the process.
            let told = AssertUnwindSafe(|| listener(after));
            let _ = std::panic::catch_unwind(told);
        }
        changed
    }

    fn attempt(&self, platform: &Arc<dyn Platform>) -> Option<Attempt> {
        let now = platform.now();
        let permit = self.change(|engine| engine.try_acquire(now))?;
        Some(Attempt {
            breaker: self.clone(),
            platform: Arc::clone(platform),
            permit: Some(permit),
        })
    }
}

/// An attempt under way. Dropped without an outcome it says nothing, unless by a panic.
struct Attempt {
    breaker: Breaker,
    platform: Arc<dyn Platform>,
    permit: Option<Permit>,
}

impl Attempt {
    fn settle(mut self, error: Option<&LiveError>) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let now = self.platform.now();
        self.breaker.change(|engine| match error {
            None => engine.success(permit),
            Some(error) if Breaker::counts(error) => engine.failure(now, permit),
            Some(_) => engine.release(now, permit),
        });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let now = self.platform.now();
        self.breaker.change(|engine| {
            if std::thread::panicking() {
                engine.failure(now, permit);
            } else {
                engine.release(now, permit);
            }
        });
    }
}

/// A breaker around a function, and what is given while it is open.
pub(crate) struct Guarded<S, U> {
    pub(crate) breaker: Breaker,
    pub(crate) fallback: Option<AnyHandler<S, U>>,
}

impl<S: Send + Sync + 'static, U: User> Guarded<S, U> {
    pub(super) async fn around(&self, rest: Rest<'_, S, U>) -> CallResult {
        let Some(attempt) = self.breaker.attempt(rest.ctx.platform()) else {
            return self
                .instead(rest.ctx.clone(), &mut rest.args.cursor())?
                .await;
        };
        let result = rest.run().await;
        attempt.settle(result.as_ref().err());
        result
    }

    /// What is given while the breaker is open.
    fn instead(
        &self,
        ctx: Ctx<S, U>,
        args: &mut ArgCursor<'_>,
    ) -> Result<BoxFuture<CallResult>, LiveError> {
        ctx.engine().counters.breaker_refusals.add();
        if let Some(fallback) = &self.fallback {
            return fallback(ctx, args);
        }
        let error = LiveError::new(code::SERVICE_UNAVAILABLE, "Service unavailable");
        let now = ctx.platform().now();
        let retry = self.breaker.0.engine.lock().retry_ms(now);
        Err(match retry {
            Some(millis) => error.with_retry_after(millis),
            None => error,
        })
    }

    /// The breaker around a loader, wherever that is run.
    pub(crate) fn wrap(self, loader: AnyHandler<S, U>) -> AnyHandler<S, U> {
        Arc::new(move |ctx, args: &mut ArgCursor<'_>| {
            let Some(attempt) = self.breaker.attempt(ctx.platform()) else {
                return self.instead(ctx, args);
            };
            match loader(ctx, args) {
                Ok(running) => Ok(Box::pin(async move {
                    let result = running.await;
                    attempt.settle(result.as_ref().err());
                    result
                })),
                Err(error) => {
                    attempt.settle(Some(&error));
                    Err(error)
                }
            }
        })
    }
}
