//! How often somebody may call.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use millstream_core::Millis;
use millstream_ratelimit::{LimitKey, Limiter, Limits, TwoWindow};
use parking_lot::Mutex;

use crate::app::Problem;
use crate::ctx::Ctx;
use crate::error::{LiveError, code};
use crate::user::User;

/// So many calls of one caller within a window of time.
///
/// The calls of the last window are estimated: those of the present one, and those of the one
/// before by the share of it that still reaches into the last window. A call is refused while the
/// estimate is at or above the points, and refused calls do not count. `retryAfter` of the refusal
/// is the rest of the present window in milliseconds.
///
/// # Cost
/// At most 86 bytes for each caller that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    points: u32,
    window: Duration,
    callers_max: usize,
}

impl Rate {
    /// So many points for each window; both above zero.
    #[must_use]
    pub const fn new(points: u32, window: Duration) -> Self {
        const CALLERS_MAX: usize = 100_000;
        Self {
            points,
            window,
            callers_max: CALLERS_MAX,
        }
    }

    /// Callers whose calls are counted at once, for each path. Default 100,000. One more takes the
    /// place of somebody whose window is over, or who has not called lately: that one has all
    /// points again, and nobody is locked out.
    #[must_use]
    pub const fn callers_max(mut self, limit: usize) -> Self {
        self.callers_max = limit;
        self
    }

    pub(super) fn problem(self) -> Option<Problem> {
        self.policy()
            .is_none_or(|_| self.callers_max == 0)
            .then_some(Problem::Rate)
    }

    fn policy(self) -> Option<TwoWindow> {
        TwoWindow::new(self.points, self.window.as_secs_f64() * 1_000.0).ok()
    }
}

/// The counters of one rate.
pub(crate) struct RateTable(Option<Mutex<Limiter<TwoWindow>>>);

impl RateTable {
    /// A rate that makes no sense never gets here.
    pub(crate) fn new(rate: Rate) -> Self {
        let limits = Limits {
            counters_max: rate.callers_max,
            ..Limits::default()
        };
        Self(
            rate.policy()
                .map(|policy| Mutex::new(Limiter::new(policy, limits))),
        )
    }

    /// Milliseconds to wait, if it is too much.
    fn take(&self, key: LimitKey, now: Millis) -> Option<u64> {
        let decision = self.0.as_ref()?.lock().consume(key, now, 1.0).ok()?;
        (!decision.allowed).then_some(decision.reset_ms as u64)
    }

    /// Callers that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |limiter| limiter.lock().len())
    }
}

/// Counts a call of this caller in one of the application's tables.
///
/// # Errors
/// `RATE_LIMITED` with `retryAfter`.
pub(crate) fn charge<S, U: User>(
    ctx: &Ctx<S, U>,
    table: usize,
    key: Option<LimitKey>,
) -> Result<(), LiveError> {
    let engine = ctx.engine();
    let Some(table) = engine.tables.rates.get(table) else {
        return Ok(());
    };
    let key = key.unwrap_or_else(|| ctx.limit_key());
    match table.take(key, engine.platform.now()) {
        None => Ok(()),
        Some(millis) => {
            engine.counters.rate_limited.add();
            let error = LiveError::new(code::RATE_LIMITED, "Too many requests");
            Err(error.with_retry_after(millis))
        }
    }
}

pub(super) type KeyOf<S, U> = Arc<dyn Fn(&Ctx<S, U>) -> Option<String> + Send + Sync>;

/// The limit of one function.
pub(super) struct OwnRate<S, U> {
    pub(super) rate: Rate,
    pub(super) key: Option<KeyOf<S, U>>,
    pub(super) table: usize,
}

impl<S, U: User> OwnRate<S, U> {
    pub(super) fn charge(&self, ctx: &Ctx<S, U>) -> Result<(), LiveError> {
        let key = self.key.as_ref().and_then(|key| key(ctx));
        let key = key.map(|key| {
            ctx.engine()
                .keys
                .under(OWN_KEY, ctx.engine().keys.text(&key))
        });
        charge(ctx, self.table, key)
    }
}

/// Keys of an application's own making never meet those of users and connections.
const OWN_KEY: u64 = 1;

/// Limits for all functions that have none of their own.
///
/// For a path in this order: exempt; the function's own limit; the rule for the path; the default.
/// Every path counts for itself. Checked after the guard and the hook before, right before the
/// function; callers are told apart by the user's id, those without one by their connection.
/// Subscriptions are counted by [`subscriptions`](Self::subscriptions) or a rule for their path
/// only.
///
/// ```
/// use core::time::Duration;
/// use millstream_live::{App, Ctx, Module, Rate, RateLimits};
///
/// let second = Duration::from_secs(1);
/// let limits = RateLimits::new()
///     .default_rate(Rate::new(100, second))
///     .rule("chat/say", Rate::new(5, second))
///     .exempt("chat/ping");
/// let chat = Module::new("chat")
///     .call("say", async |_: Ctx<(), ()>| Ok(()))
///     .call("ping", async |_: Ctx<(), ()>| Ok(()));
/// assert!(App::<(), ()>::new(()).module(chat).rate_limits(limits.clone()).build().is_ok());
/// // A rule for nobody is a mistake.
/// assert!(App::<(), ()>::new(()).rate_limits(limits).build().is_err());
/// ```
#[derive(Clone, Default)]
pub struct RateLimits {
    default: Option<Rate>,
    rules: HashMap<String, Rate>,
    exempt: HashSet<String>,
    subscriptions: Option<Rate>,
}

impl fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimits")
            .field("default", &self.default)
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

impl RateLimits {
    /// No limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The limit of every call and upload that nothing else is said about.
    #[must_use]
    pub fn default_rate(mut self, rate: Rate) -> Self {
        self.default = Some(rate);
        self
    }

    /// The limit of one path. Without effect on a call that has a limit of its own.
    #[must_use]
    pub fn rule(mut self, path: impl Into<String>, rate: Rate) -> Self {
        self.rules.insert(path.into(), rate);
        self
    }

    /// No limit for this path, unless it has one of its own.
    #[must_use]
    pub fn exempt(mut self, path: impl Into<String>) -> Self {
        self.exempt.insert(path.into());
        self
    }

    /// The limit of subscriptions, of all streams together that have no rule.
    #[must_use]
    pub fn subscriptions(mut self, rate: Rate) -> Self {
        self.subscriptions = Some(rate);
        self
    }

    /// What is wrong, and with which path.
    pub(crate) fn problems<'a>(
        &'a self,
        known: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = (&'a str, Problem)> {
        let general = [
            ("rate_limits.default", self.default),
            ("rate_limits.subscriptions", self.subscriptions),
        ];
        let general = general
            .into_iter()
            .filter_map(|(name, rate)| Some((name, rate?.problem()?)));
        let rules = self
            .rules
            .iter()
            .filter_map(|(path, rate)| Some((path.as_str(), rate.problem()?)));
        let unknown = self
            .rules
            .keys()
            .chain(&self.exempt)
            .filter(move |path| !known(path))
            .map(|path| (path.as_str(), Problem::UnknownPath));
        general.chain(rules).chain(unknown)
    }

    /// The table in which calls of a path are counted, made if need be.
    pub(crate) fn resolve(&self, path: &str, of: Limited, plan: &mut Plan) -> Option<usize> {
        if of == Limited::ByItself || self.exempt.contains(path) {
            return None;
        }
        if let Some(rate) = self.rules.get(path) {
            return Some(plan.rate(*rate));
        }
        match of {
            Limited::Stream => {
                let rate = self.subscriptions?;
                let shared = plan.subscriptions;
                let table = shared.unwrap_or_else(|| plan.rate(rate));
                plan.subscriptions = Some(table);
                Some(table)
            }
            _ => self.default.map(|rate| plan.rate(rate)),
        }
    }
}

/// What a central limit is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limited {
    /// A function with a limit of its own.
    ByItself,
    /// Any other function.
    Function,
    /// A stream.
    Stream,
}

/// The tables that an application needs, found out while it is built.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) rates: Vec<Rate>,
    pub(crate) results: Vec<millstream_flow::IdempotencyConfig>,
    subscriptions: Option<usize>,
}

impl Plan {
    pub(super) fn rate(&mut self, rate: Rate) -> usize {
        self.rates.push(rate);
        self.rates.len() - 1
    }

    pub(super) fn results(&mut self, config: millstream_flow::IdempotencyConfig) -> usize {
        self.results.push(config);
        self.results.len() - 1
    }
}
