//! Async functions of any parameters, seen as one kind of thing.

use core::any::Any;
use core::future::Future;
use core::pin::Pin;
use std::sync::Arc;

use millstream_core::RawJson;
use serde::Serialize;

use crate::args::{Arg, ArgCursor};
use crate::ctx::Ctx;
use crate::error::LiveError;
use crate::user::User;

/// A future that owns everything it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a call gives: a value, or nothing at all (which is not `null`).
pub type CallResult = Result<Option<RawJson>, LiveError>;

/// An async function that clients can call.
///
/// Implemented for `async fn(Ctx<S, U>, A, B, ..) -> Result<T, LiveError>` with up to eight
/// parameters of any type that serde reads and any result that serde writes. `P` only tells
/// the numbers of parameters apart; it is inferred.
pub trait Handler<S, U, P>: Send + Sync + 'static {
    /// Reads the parameters and starts the function.
    ///
    /// # Errors
    /// `VALIDATION` when the arguments are not what the function takes; it has not started then.
    fn start(
        &self,
        ctx: Ctx<S, U>,
        args: &mut ArgCursor<'_>,
    ) -> Result<BoxFuture<CallResult>, LiveError>;
}

macro_rules! handler {
    ($($parameter:ident),*) => {
        #[allow(
            non_snake_case,
            unused_mut,
            unused_variables,
            reason = "one body for every number of parameters"
        )]
        impl<S, U, F, Fut, T, $($parameter),*> Handler<S, U, ($($parameter,)*)> for F
        where
            U: User,
            F: Fn(Ctx<S, U>, $($parameter),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<T, LiveError>> + Send + 'static,
            T: Serialize + 'static,
            $($parameter: Arg),*
        {
            fn start(
                &self,
                ctx: Ctx<S, U>,
                args: &mut ArgCursor<'_>,
            ) -> Result<BoxFuture<CallResult>, LiveError> {
                $(let $parameter = $parameter::from_args(args)?;)*
                let running = self(ctx, $($parameter),*);
                Ok(Box::pin(async move { running.await.and_then(encode) }))
            }
        }
    };
}

handler!();
handler!(A);
handler!(A, B);
handler!(A, B, C);
handler!(A, B, C, D);
handler!(A, B, C, D, E);
handler!(A, B, C, D, E, G);
handler!(A, B, C, D, E, G, H);
handler!(A, B, C, D, E, G, H, I);

/// A result as JSON. `()` is no value; ready JSON is passed on, not written again.
pub(crate) fn encode<T: Serialize + 'static>(value: T) -> CallResult {
    let mut value = Some(value);
    let any: &mut dyn Any = &mut value;
    if any.is::<Option<()>>() {
        return Ok(None);
    }
    if let Some(ready) = any.downcast_mut::<Option<RawJson>>() {
        return Ok(ready.take());
    }
    if let Some(Some(truth)) = any.downcast_ref::<Option<bool>>() {
        return Ok(Some(if *truth {
            RawJson::TRUE
        } else {
            RawJson::FALSE
        }));
    }
    value
        .map(|value| Ok(RawJson::from_serialize(&value)?))
        .transpose()
}

/// A [`Handler`] without its parameters' types.
pub(crate) type AnyHandler<S, U> = Arc<
    dyn Fn(Ctx<S, U>, &mut ArgCursor<'_>) -> Result<BoxFuture<CallResult>, LiveError> + Send + Sync,
>;

pub(crate) fn erase<S: 'static, U: User, P: 'static>(
    handler: impl Handler<S, U, P>,
) -> AnyHandler<S, U> {
    Arc::new(move |ctx, args: &mut ArgCursor<'_>| handler.start(ctx, args))
}
