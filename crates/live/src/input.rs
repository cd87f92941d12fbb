//! What a call carries besides its arguments: bytes, or a stream of them.

use core::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;

use crate::args::{Arg, ArgCursor};
use crate::ctx::Ctx;
use crate::error::LiveError;
use crate::handler::{AnyHandler, BoxFuture, CallResult, encode};
use crate::upload::Upload;
use crate::user::User;

/// What a call carries besides its arguments. It travels with the context, so that whatever wraps
/// a call wraps one with bytes just the same.
#[derive(Debug, Default)]
pub(crate) enum Input {
    #[default]
    Nothing,
    Bytes(Bytes),
    /// Taken out when the function starts.
    Upload(Mutex<Option<Upload>>),
}

/// An async function that takes something besides its arguments: `I` is `Bytes` for
/// [`Module::binary`](crate::Module::binary) and [`Upload`] for
/// [`Module::upload`](crate::Module::upload).
///
/// Implemented for `async fn(Ctx<S, U>, I, A, B, ..) -> Result<T, LiveError>` with up to seven
/// parameters behind `I`. `P` only tells the numbers of parameters apart; it is inferred.
pub trait InputHandler<S, U, I, P>: Send + Sync + 'static {
    /// Reads the parameters and starts the function.
    ///
    /// # Errors
    /// `VALIDATION` when the arguments are not what the function takes; it has not started then.
    fn start(
        &self,
        ctx: Ctx<S, U>,
        input: I,
        args: &mut ArgCursor<'_>,
    ) -> Result<BoxFuture<CallResult>, LiveError>;
}

macro_rules! input_handler {
    ($($parameter:ident),*) => {
        #[allow(
            non_snake_case,
            unused_mut,
            unused_variables,
            reason = "one body for every number of parameters"
        )]
        impl<S, U, I, F, Fut, T, $($parameter),*> InputHandler<S, U, I, ($($parameter,)*)> for F
        where
            U: User,
            F: Fn(Ctx<S, U>, I, $($parameter),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<T, LiveError>> + Send + 'static,
            T: Serialize + 'static,
            $($parameter: Arg),*
        {
            fn start(
                &self,
                ctx: Ctx<S, U>,
                input: I,
                args: &mut ArgCursor<'_>,
            ) -> Result<BoxFuture<CallResult>, LiveError> {
                $(let $parameter = $parameter::from_args(args)?;)*
                let running = self(ctx, input, $($parameter),*);
                Ok(Box::pin(async move { running.await.and_then(encode) }))
            }
        }
    };
}

input_handler!();
input_handler!(A);
input_handler!(A, B);
input_handler!(A, B, C);
input_handler!(A, B, C, D);
input_handler!(A, B, C, D, E);
input_handler!(A, B, C, D, E, G);
input_handler!(A, B, C, D, E, G, H);

/// A function of bytes as a call that finds them in its context.
pub(crate) fn erase_bytes<S: 'static, U: User, P: 'static>(
    handler: impl InputHandler<S, U, Bytes, P>,
) -> AnyHandler<S, U> {
    Arc::new(move |ctx: Ctx<S, U>, args: &mut ArgCursor<'_>| {
        let bytes = ctx.payload().cloned();
        let bytes = bytes.ok_or_else(|| LiveError::internal("called without bytes"))?;
        handler.start(ctx, bytes, args)
    })
}

/// The same for an upload, which is there once.
pub(crate) fn erase_upload<S: 'static, U: User, P: 'static>(
    handler: impl InputHandler<S, U, Upload, P>,
) -> AnyHandler<S, U> {
    Arc::new(move |ctx: Ctx<S, U>, args: &mut ArgCursor<'_>| {
        let upload = ctx.take_upload();
        let upload = upload.ok_or_else(|| LiveError::internal("the upload was taken before"))?;
        handler.start(ctx, upload, args)
    })
}
