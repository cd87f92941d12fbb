//! What is wrapped around functions that clients call: limits, locks, remembered results,
//! breakers, deadlines.

mod breaker;
mod idempotent;
mod lock;
mod rate;
mod seat;

use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;

use crate::app::Problem;
use crate::args::Args;
use crate::ctx::Ctx;
use crate::error::{LiveError, code};
use crate::handler::{BoxFuture, CallResult};
use crate::module::Scope;
use crate::user::User;

pub use breaker::Breaker;
pub(crate) use breaker::Guarded;
pub use idempotent::Idempotent;
pub(crate) use idempotent::Results;
pub use lock::Lock;
pub(crate) use lock::Locks;
pub(crate) use rate::{Limited, Plan, RateTable, charge};
pub use rate::{Rate, RateLimits};

use rate::{KeyOf, OwnRate};

/// What is wrapped around one function, outermost first. Whatever has a function can hold one:
/// [`run`](Self::run) neither knows what the function is given nor how it is started.
pub(crate) struct Policies<S, U> {
    steps: Vec<Step<S, U>>,
}

enum Step<S, U> {
    Scope(Scope<S, U>),
    Rate(OwnRate<S, U>),
    Lock(Lock<S, U>),
    Idempotent(Idempotent<S, U>),
    Breaker(Guarded<S, U>),
    Deadline(Duration),
}

/// Starts the function itself.
pub(crate) type Inner<'a> = Box<dyn FnOnce() -> BoxFuture<CallResult> + Send + 'a>;

impl<S, U> Policies<S, U> {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// Whether the function runs as it is.
    pub(crate) const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many are wrapped around it.
    pub(crate) const fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether the central limits leave the function alone.
    pub(crate) fn limited(&self) -> Limited {
        if self.steps.iter().any(|step| matches!(step, Step::Rate(_))) {
            Limited::ByItself
        } else {
            Limited::Function
        }
    }

    /// Whether the function has a time limit of its own.
    pub(crate) fn has_deadline(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step, Step::Deadline(_)))
    }
}

impl<S: Send + Sync + 'static, U: User> Policies<S, U> {
    pub(crate) fn scoped(&mut self, scope: Scope<S, U>) {
        self.steps.push(Step::Scope(scope));
    }

    pub(crate) fn rate(&mut self, rate: Rate, key: Option<KeyOf<S, U>>) {
        let table = 0;
        self.steps.push(Step::Rate(OwnRate { rate, key, table }));
    }

    pub(crate) fn lock(&mut self, lock: Lock<S, U>) {
        self.steps.push(Step::Lock(lock));
    }

    pub(crate) fn idempotent(&mut self, idempotent: Idempotent<S, U>) {
        self.steps.push(Step::Idempotent(idempotent));
    }

    pub(crate) fn breaker(&mut self, guarded: Guarded<S, U>) {
        self.steps.push(Step::Breaker(guarded));
    }

    pub(crate) fn deadline(&mut self, limit: Duration) {
        self.steps.push(Step::Deadline(limit));
    }

    /// Checks all options and notes the tables that they need.
    pub(crate) fn register(&mut self, plan: &mut Plan) -> Option<Problem> {
        self.steps.iter_mut().find_map(|step| match step {
            Step::Scope(_) => None,
            Step::Rate(own) => {
                own.table = plan.rate(own.rate);
                own.rate.problem()
            }
            Step::Lock(lock) => lock.problem(),
            Step::Idempotent(idempotent) => {
                idempotent.table = plan.results(idempotent.config());
                idempotent.problem()
            }
            Step::Breaker(guarded) => guarded.breaker.problem(),
            Step::Deadline(limit) => limit.is_zero().then_some(Problem::Deadline),
        })
    }

    /// Runs a function inside of everything.
    pub(crate) fn run<'a>(
        &'a self,
        ctx: &'a Ctx<S, U>,
        args: &'a Args,
        inner: Inner<'a>,
    ) -> Running<'a> {
        let rest = Rest {
            steps: &self.steps,
            ctx,
            args,
            inner,
        };
        rest.run()
    }
}

/// A function under way, with what is around it.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = CallResult> + Send + 'a>>;

/// What is still to come, from the point of view of a step.
struct Rest<'a, S, U> {
    steps: &'a [Step<S, U>],
    ctx: &'a Ctx<S, U>,
    args: &'a Args,
    inner: Inner<'a>,
}

impl<'a, S: Send + Sync + 'static, U: User> Rest<'a, S, U> {
    fn run(mut self) -> Running<'a> {
        Box::pin(async move {
            while let Some((step, steps)) = self.steps.split_first() {
                self.steps = steps;
                match step {
                    Step::Scope(scope) => {
                        if !scope(self.ctx.clone(), self.args.clone()).await? {
                            return Err(self.ctx.denied());
                        }
                    }
                    Step::Rate(own) => own.charge(self.ctx)?,
                    Step::Lock(lock) => return lock.around(self).await,
                    Step::Idempotent(idempotent) => return idempotent.around(self).await,
                    Step::Breaker(guarded) => return guarded.around(self).await,
                    Step::Deadline(limit) => {
                        let (ctx, limit) = (self.ctx, *limit);
                        return within(ctx, limit, self.run()).await;
                    }
                }
            }
            (self.inner)().await
        })
    }
}

/// Gives up after a time: what runs is dropped where it waits. A timer is made only for what does
/// not finish at once.
///
/// # Errors
/// `TIMEOUT`.
pub(crate) async fn within<S, U: User>(
    ctx: &Ctx<S, U>,
    limit: Duration,
    mut work: Running<'_>,
) -> CallResult {
    let mut sleep: Option<BoxFuture<()>> = None;
    poll_fn(|cx| {
        if let Poll::Ready(result) = work.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        let sleep = sleep.get_or_insert_with(|| ctx.platform().sleep(limit));
        sleep.as_mut().poll(cx).map(|()| {
            ctx.engine().counters.deadlines.add();
            let text = format!("No result within {} ms", limit.as_millis());
            Err(LiveError::new(code::TIMEOUT, text))
        })
    })
    .await
}

/// Adds the methods that wrap something around a function to a type with a field `policies`.
macro_rules! policy_methods {
    ($of:ident) => {
        /// What is wrapped around the function. Wraps in the order in which these methods are
        /// called: the first is the outermost. `.lock(..).rate_limit(..)` holds the lock and then
        /// counts; `.rate_limit(..).lock(..)` counts also those who then wait.
        impl<S: Send + Sync + 'static, U: crate::user::User> $of<S, U> {
            /// Lets through only what the predicate accepts; of several all have to. Others see
            /// `FORBIDDEN`, or `UNAUTHENTICATED` when nobody knows who they are; an error of the
            /// predicate is the call's error. [`access`](crate::access) has ready ones.
            #[must_use]
            pub fn scoped<Fut>(
                mut self,
                predicate: impl Fn(crate::Ctx<S, U>, crate::Args) -> Fut + Send + Sync + 'static,
            ) -> Self
            where
                Fut: core::future::Future<Output = Result<bool, crate::LiveError>> + Send + 'static,
            {
                self.policies.scoped(std::sync::Arc::new(move |ctx, args| {
                    Box::pin(predicate(ctx, args))
                }));
                self
            }

            /// Refuses with `RATE_LIMITED` who calls too often. Callers are told apart by the
            /// user's id, those without one by their connection. The application's central limits
            /// then leave this function alone.
            #[must_use]
            pub fn rate_limit(mut self, rate: crate::Rate) -> Self {
                self.policies.rate(rate, None);
                self
            }

            /// The same for callers that are told apart by a key of your own; where it gives
            /// none, as [`rate_limit`](Self::rate_limit).
            #[must_use]
            pub fn rate_limit_by(
                mut self,
                rate: crate::Rate,
                key: impl Fn(&crate::Ctx<S, U>) -> Option<String> + Send + Sync + 'static,
            ) -> Self {
                self.policies.rate(rate, Some(std::sync::Arc::new(key)));
                self
            }

            /// One call at a time for each key.
            #[must_use]
            pub fn lock(mut self, lock: crate::Lock<S, U>) -> Self {
                self.policies.lock(lock);
                self
            }

            /// Gives a call that is repeated the first one's result.
            #[must_use]
            pub fn idempotent(mut self, idempotent: crate::Idempotent<S, U>) -> Self {
                self.policies.idempotent(idempotent);
                self
            }

            /// Refuses with `SERVICE_UNAVAILABLE` while the breaker is open.
            #[must_use]
            pub fn breaker(mut self, breaker: &crate::Breaker) -> Self {
                self.policies.breaker(crate::policy::Guarded {
                    breaker: breaker.clone(),
                    fallback: None,
                });
                self
            }

            /// Runs another function while the breaker is open. It reads the same arguments, as
            /// many of them as it likes.
            #[must_use]
            pub fn breaker_or<P: 'static>(
                mut self,
                breaker: &crate::Breaker,
                fallback: impl crate::Handler<S, U, P>,
            ) -> Self {
                self.policies.breaker(crate::policy::Guarded {
                    breaker: breaker.clone(),
                    fallback: Some(crate::handler::erase(fallback)),
                });
                self
            }

            /// Answers with `TIMEOUT` after this time. What is wrapped inside is dropped where it
            /// waits, and does not go on: what it had done until then is done.
            #[must_use]
            pub fn deadline(mut self, limit: core::time::Duration) -> Self {
                self.policies.deadline(limit);
                self
            }
        }
    };
}
pub(crate) use policy_methods;
