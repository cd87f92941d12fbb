//! Ready predicates for [`Stream::access`](crate::Stream::access) and
//! [`Call::scoped`](crate::Call::scoped).
//!
//! What they ask of the user are the methods of [`User`]. A caller who is not known is refused by
//! all of them.
//!
//! ```
//! use millstream_live::{Call, Ctx, LiveError, Stream, access};
//!
//! async fn report(_: Ctx<(), String>, org: String) -> Result<String, LiveError> {
//!     Ok(org)
//! }
//! let call: Call<(), String> = Call::new(report).scoped(access::all([
//!     access::org(),
//!     access::role([("admin", access::Role::Yes)]),
//! ]));
//! let mine: Stream<(), String> =
//!     Stream::by(|user: String| format!("inbox:{user}")).access(access::user());
//! # let _ = (call, mine);
//! ```

use core::fmt;
use core::future::{Future, ready};
use std::borrow::Cow;
use std::sync::Arc;

use crate::args::Args;
use crate::ctx::Ctx;
use crate::error::LiveError;
use crate::handler::BoxFuture;
use crate::user::User;

/// Decides whether a caller may have something. An error is the call's error, never a yes.
pub type Predicate<S, U> = Box<Decide<S, U>>;

/// The function behind a [`Predicate`].
pub type Decide<S, U> = dyn Fn(Ctx<S, U>, Args) -> BoxFuture<Result<bool, LiveError>> + Send + Sync;

/// A predicate of your own, for [`any`] and [`all`].
pub fn check<S, U, Fut>(
    predicate: impl Fn(Ctx<S, U>, Args) -> Fut + Send + Sync + 'static,
) -> Predicate<S, U>
where
    Fut: Future<Output = Result<bool, LiveError>> + Send + 'static,
{
    Box::new(move |ctx, args| Box::pin(predicate(ctx, args)))
}

fn at_once<S, U: User>(
    predicate: impl Fn(&U, &Args) -> bool + Send + Sync + 'static,
) -> Predicate<S, U> {
    Box::new(move |ctx, args| {
        let yes = ctx.user().is_some_and(|user| predicate(user, &args));
        Box::pin(ready(Ok(yes)))
    })
}

/// Anybody with an id.
#[must_use]
pub fn owner<S, U: User>() -> Predicate<S, U> {
    at_once(|user: &U, _| user.id().is_some())
}

/// Anybody in a team.
#[must_use]
pub fn team<S, U: User>() -> Predicate<S, U> {
    at_once(|user: &U, _| user.team().is_some())
}

/// The user whose id is the first argument, which has to be a text.
#[must_use]
pub fn user<S, U: User>() -> Predicate<S, U> {
    at_once(|user: &U, args| first_is(args, user.id()))
}

/// The user whose id this gives.
#[must_use]
pub fn user_from<S: 'static, U: User>(
    id: impl Fn(&Ctx<S, U>, &Args) -> Option<String> + Send + Sync + 'static,
) -> Predicate<S, U> {
    computed(id, U::id)
}

/// Users of the organization that is the first argument, which has to be a text.
#[must_use]
pub fn org<S, U: User>() -> Predicate<S, U> {
    at_once(|user: &U, args| first_is(args, user.organization()))
}

/// Users of the organization that this gives.
#[must_use]
pub fn org_from<S: 'static, U: User>(
    organization: impl Fn(&Ctx<S, U>, &Args) -> Option<String> + Send + Sync + 'static,
) -> Predicate<S, U> {
    computed(organization, U::organization)
}

fn computed<S: 'static, U: User>(
    wanted: impl Fn(&Ctx<S, U>, &Args) -> Option<String> + Send + Sync + 'static,
    own: fn(&U) -> Option<Cow<'_, str>>,
) -> Predicate<S, U> {
    Box::new(move |ctx, args| {
        let own = ctx.user().and_then(own);
        let yes = own
            .zip(wanted(&ctx, &args))
            .is_some_and(|(own, wanted)| own == wanted);
        Box::pin(ready(Ok(yes)))
    })
}

fn first_is(args: &Args, text: Option<Cow<'_, str>>) -> bool {
    let first = args.get(0).and_then(|first| first.as_json_str());
    first
        .zip(text)
        .is_some_and(|(first, text)| first.eq_str(&text))
}

/// What a role may do.
pub enum Role<S, U> {
    /// Everything.
    Yes,
    /// Nothing, as a role that is not named.
    No,
    /// What the predicate accepts.
    If(Predicate<S, U>),
}

impl<S, U> fmt::Debug for Role<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "Yes",
            Self::No => "No",
            Self::If(_) => "If(..)",
        })
    }
}

/// Users by their role. Of two rules for one role the first counts.
#[must_use]
pub fn role<S: 'static, U: User, const N: usize>(
    rules: [(&str, Role<S, U>); N],
) -> Predicate<S, U> {
    let rules = rules.map(|(role, rule)| (role.to_owned(), rule));
    Box::new(move |ctx, args| {
        let role = ctx.user().and_then(User::role);
        let rule = role.and_then(|role| rules.iter().find(|rule| rule.0 == role));
        match rule {
            Some((_, Role::Yes)) => Box::pin(ready(Ok(true))),
            Some((_, Role::If(predicate))) => predicate(ctx.clone(), args),
            Some((_, Role::No)) | None => Box::pin(ready(Ok(false))),
        }
    })
}

/// Whom one of these accepts. Asked in order, until one does.
#[must_use]
pub fn any<S: Send + Sync + 'static, U: User, const N: usize>(
    predicates: [Predicate<S, U>; N],
) -> Predicate<S, U> {
    one_after_another(predicates, true)
}

/// Whom all of these accept. Asked in order, until one does not. At least one: nothing to ask
/// does not compile.
#[must_use]
pub fn all<S: Send + Sync + 'static, U: User, const N: usize>(
    predicates: [Predicate<S, U>; N],
) -> Predicate<S, U> {
    const { assert!(N > 0, "all() of nothing would let everybody through") };
    one_after_another(predicates, false)
}

/// Asks until the answer is `last`.
fn one_after_another<S: Send + Sync + 'static, U: User, const N: usize>(
    predicates: [Predicate<S, U>; N],
    last: bool,
) -> Predicate<S, U> {
    let predicates = Arc::new(predicates);
    Box::new(move |ctx, args| {
        let predicates = Arc::clone(&predicates);
        Box::pin(async move {
            for predicate in predicates.iter() {
                if predicate(ctx.clone(), args.clone()).await? == last {
                    return Ok(last);
                }
            }
            Ok(!last)
        })
    })
}
