//! Code around every call: layers, and the way on.

use core::fmt;
use std::sync::Arc;

use millstream_core::RawJson;

use crate::ctx::Ctx;
use crate::error::LiveError;
use crate::handler::BoxFuture;
use crate::subscribe::StreamReply;
use crate::user::User;

/// What a call came to, before it is made into a reply.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome {
    /// The function gave a value, or nothing at all.
    Value(Option<RawJson>),
    /// A subscription and its first value.
    Stream(StreamReply),
}

pub(crate) type Layer<S, U> =
    Arc<dyn Fn(Ctx<S, U>, Next<S, U>) -> BoxFuture<Result<Outcome, LiveError>> + Send + Sync>;

/// The innermost part: guard, hooks and the function itself.
pub(crate) type Core<S, U> =
    Box<dyn FnOnce(Ctx<S, U>) -> BoxFuture<Result<Outcome, LiveError>> + Send>;

/// The rest of the way, from a layer's point of view. Can be gone once: [`run`](Self::run)
/// consumes it, so running the function twice by mistake does not compile.
pub struct Next<S, U> {
    layers: Arc<[Layer<S, U>]>,
    at: usize,
    core: Core<S, U>,
}

impl<S, U> fmt::Debug for Next<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static, U: User> Next<S, U> {
    pub(crate) fn new(layers: Arc<[Layer<S, U>]>, core: Core<S, U>) -> Self {
        Self {
            layers,
            at: 0,
            core,
        }
    }

    /// Goes on to the next layer, or to the guard and the function.
    ///
    /// # Errors
    /// Whatever stopped it there.
    pub fn run(mut self, ctx: Ctx<S, U>) -> BoxFuture<Result<Outcome, LiveError>> {
        match self.layers.get(self.at).cloned() {
            None => (self.core)(ctx),
            Some(layer) => {
                self.at += 1;
                layer(ctx, self)
            }
        }
    }
}
