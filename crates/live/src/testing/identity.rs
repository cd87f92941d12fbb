//! Who is behind a connection under test.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::platform::Client;

/// Who a client is, on all its connections: a user, at a documentation address.
pub(super) struct Identity<U> {
    pub(super) user: Option<U>,
    pub(super) number: usize,
}

/// Facts of one connection.
pub(super) struct Connected<U> {
    identity: Arc<Identity<U>>,
    closed: AtomicBool,
}

impl<U> Connected<U> {
    pub(super) fn new(identity: Arc<Identity<U>>) -> Self {
        Self {
            identity,
            closed: AtomicBool::new(false),
        }
    }

    /// The connection is over.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

impl<U: Send + Sync + 'static> Client<U> for Connected<U> {
    fn user(&self) -> Option<&U> {
        self.identity.user.as_ref()
    }

    fn remote_address(&self) -> String {
        "192.0.2.1".to_owned()
    }

    fn request_id(&self) -> String {
        format!("request-{}", self.identity.number)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
