//! Placeholder of the worker pool: it holds sockets open and knows no topics.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_core::RawJson;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::handover::{Accepted, Gateway, PublishError, Published};
use crate::hooks::Hooks;

/// Starts the workers.
///
/// # Errors
/// What the system says.
pub(crate) fn start(_config: &Config, _hooks: Arc<dyn Hooks>) -> io::Result<Arc<dyn Gateway>> {
    Ok(Arc::new(Held::default()))
}

#[derive(Default)]
struct Held {
    connections: Mutex<Vec<Accepted>>,
    draining: AtomicBool,
}

impl Gateway for Held {
    fn hand_over(&self, accepted: Accepted) {
        self.connections.lock().push(accepted);
    }

    fn connections(&self) -> usize {
        self.connections.lock().len()
    }

    fn publish(&self, _: &str, _: &str, _: RawJson) -> Result<Published, PublishError> {
        Ok(Published {
            delivered: false,
            seq: Some(1),
        })
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.connections.lock().clear();
    }

    fn stop(&self) {}

    fn metrics(&self, _: &mut Registry) {}
}
