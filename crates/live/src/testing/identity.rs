//! Who is behind a connection under test.

use std::any::Any;
use std::sync::Arc;

use crate::platform::Client;

/// Facts of a connection: a user, at a documentation address.
pub(super) struct Identity<U> {
    pub(super) user: Option<U>,
    pub(super) number: usize,
}

impl<U: Send + Sync + 'static> Client<U> for Identity<U> {
    fn user(&self) -> Option<&U> {
        self.user.as_ref()
    }

    fn remote_address(&self) -> String {
        "192.0.2.1".to_owned()
    }

    fn request_id(&self) -> String {
        format!("request-{}", self.number)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
