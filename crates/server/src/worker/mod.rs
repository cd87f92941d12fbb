//! The I/O workers: threads that own their connections and share nothing on the hot path.
//!
//! [`run`](turn::run) is the loop, [`core`] the state it works on, [`ask`] how hooks are asked,
//! [`inbox`] how other threads reach a worker, [`lend`] how a call reaches its own, [`pool`] all
//! workers together.

pub(crate) mod ask;
pub(crate) mod core;
pub(crate) mod inbox;
pub(crate) mod lend;
pub(crate) mod metrics;
mod pause;
pub(crate) mod pool;
mod settings;
pub(crate) mod socket;
pub(crate) mod turn;

use std::io;
use std::sync::Arc;

use crate::config::Config;
use crate::handover::Gateway;
use crate::hooks::Hooks;

/// Starts the workers. Called on the async runtime, which becomes theirs too.
pub(crate) fn start(
    config: &Config,
    hooks: Arc<dyn Hooks>,
    raw: bool,
) -> io::Result<Arc<dyn Gateway>> {
    // Who decides about users or topics has to open them explicitly.
    let decides = hooks.has_upgrade() || hooks.has_streams();
    let mut settings = settings::from_config(config, decides, raw);
    // A client that comes back asks for its topics before it asks for the streams.
    settings.hub.park = hooks.has_streams();
    for (pattern, events) in hooks.retention() {
        settings.policies = settings.policies.retaining(pattern, events);
    }
    Ok(pool::start(
        settings,
        hooks,
        tokio::runtime::Handle::current(),
    )?)
}
