//! What an application should hear of although nothing has failed.

use core::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};

use hashbrown::HashSet;
use memchr::memmem;
use millstream_core::RawJsonRef;
use parking_lot::Mutex;

use crate::engine::Engine;

/// Something that works, but not as its author expects.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// An event's data has a member `reqId`: clients take such events for markers of the
    /// protocol and do not apply them. Told once per topic, for the first 1,000 topics.
    MarkerData {
        /// Where it was published.
        topic: Arc<str>,
    },
    /// `watched_topics_max` topics are watched already, so this one is not loaded again when it
    /// is stale or invalidated.
    NotWatched {
        /// The topic.
        topic: Arc<str>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MarkerData { topic } => {
                write!(f, "data on {topic:?} has a member reqId: clients ignore it")
            }
            Self::NotWatched { topic } => {
                write!(f, "{topic:?} is not watched: watched_topics_max is reached")
            }
        }
    }
}

/// Which warnings were given.
#[derive(Default)]
pub(crate) struct Warnings {
    told: Mutex<HashSet<Arc<str>>>,
}

/// Prepared once: that costs more than a search in a short event.
static MARKER: LazyLock<memmem::Finder<'_>> = LazyLock::new(|| memmem::Finder::new(b"\"reqId\""));

/// Topics that are remembered, so that each is told of once.
const TOLD_MAX: usize = 1_000;

impl Warnings {
    /// Looks for data that clients would take for something else. One search in the bytes.
    pub(crate) fn check(&self, topic: &str, data: RawJsonRef<'_>) -> Option<Warning> {
        let suspicious = data.is_object()
            // Few events have this letter at all, and one byte is found with less ado.
            && memchr::memchr(b'q', data.as_bytes()).is_some()
            && MARKER.find(data.as_bytes()).is_some()
            && data.field("reqId").is_some();
        if !suspicious {
            return None;
        }
        let topic: Arc<str> = topic.into();
        let mut told = self.told.lock();
        let new = told.len() < TOLD_MAX && told.insert(Arc::clone(&topic));
        new.then_some(Warning::MarkerData { topic })
    }
}

impl<S, U> Engine<S, U> {
    /// Tells the application. A hook that panics costs nobody else.
    pub(crate) fn warn(&self, warning: &Warning) {
        self.counters.warnings.add();
        if let Some(hook) = &self.app.on_warning {
            let told = AssertUnwindSafe(|| hook(&self.app.state, warning));
            let _ = std::panic::catch_unwind(told);
        }
    }
}
