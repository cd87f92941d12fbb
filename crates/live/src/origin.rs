//! What the calls of one connection have in common.

use core::fmt;
use std::sync::Arc;

use crate::engine::Engine;
use crate::pipeline::Live;
use crate::platform::Caller;
use crate::user::User;

/// An application and one of its callers. Cheap to clone: a context counts one reference, to
/// something that only the calls of this connection share, instead of two, one of them to what the
/// calls of all workers share.
pub(crate) struct Origin<S, U>(Arc<Parts<S, U>>);

struct Parts<S, U> {
    live: Live<S, U>,
    caller: Caller<U>,
}

impl<S, U> Origin<S, U> {
    pub(crate) fn new(engine: Arc<Engine<S, U>>, caller: Caller<U>) -> Self {
        let live = Live { engine };
        Self(Arc::new(Parts { live, caller }))
    }

    pub(crate) fn live(&self) -> &Live<S, U> {
        &self.0.live
    }

    pub(crate) fn engine(&self) -> &Arc<Engine<S, U>> {
        &self.0.live.engine
    }

    /// Who calls.
    pub(crate) fn caller(&self) -> &Caller<U> {
        &self.0.caller
    }
}

impl<S, U> Clone for Origin<S, U> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, U: User> fmt::Debug for Origin<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(self.caller()).finish()
    }
}
