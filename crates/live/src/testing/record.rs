//! What an application asked of the engine below it, and whether the engine takes more.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use millstream_core::{RawJson, RawJsonRef};
use millstream_hub::{PublishError, Published};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Publishes kept until a test takes them.
const PUBLISHED_KEPT: usize = 10_000;

/// An event that left the application: shaped, numbered, on its way to whoever listens. See
/// [`Testbed::published`](super::Testbed::published).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishedEvent {
    /// Where it was published.
    pub topic: String,
    /// Its name.
    pub event: String,
    /// Its data.
    pub data: RawJson,
    /// Its number, if it took one.
    pub seq: Option<u64>,
    /// What clients that are behind get of it.
    pub behind: Behind,
    /// How many events left as one unit with it, itself included.
    pub together: usize,
}

/// What clients that are behind get of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Behind {
    /// The event, in its turn.
    Everything,
    /// Nothing: it is volatile.
    Nothing,
    /// The newest event with this key.
    NewestOf(String),
    /// This event in the place of everything that waits of its topic.
    Newest,
}

impl PublishedEvent {
    pub(super) fn new(
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        published: Published,
        behind: Behind,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            event: event.to_owned(),
            data: data.to_owned(),
            seq: published.seq,
            behind,
            together: 1,
        }
    }

    /// The data, decoded.
    #[must_use]
    pub fn value(&self) -> Value {
        super::outcome::value(&self.data)
    }

    /// The data, of a known type.
    ///
    /// # Panics
    /// When it is of another type.
    #[must_use]
    #[track_caller]
    pub fn value_as<T: DeserializeOwned>(&self) -> T {
        let read = serde_json::from_str(self.data.as_str());
        read.unwrap_or_else(|error| panic!("{} on {}: {error}", self.event, self.topic))
    }
}

/// What outlives a restart of the server.
#[derive(Debug, Default)]
pub(super) struct Record {
    published: Mutex<VecDeque<PublishedEvent>>,
    spawned: AtomicU64,
    refuses: AtomicBool,
}

impl Record {
    /// Whether publishes are taken.
    pub(super) fn admit(&self) -> Result<(), PublishError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(PublishError::Busy);
        }
        Ok(())
    }

    pub(super) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    pub(super) fn keep(&self, event: impl FnOnce() -> PublishedEvent) {
        let mut published = self.published.lock();
        if published.len() >= PUBLISHED_KEPT {
            published.pop_front();
        }
        published.push_back(event());
    }

    pub(super) fn take(&self) -> Vec<PublishedEvent> {
        core::mem::take(&mut *self.published.lock()).into()
    }

    pub(super) fn count_spawned(&self) {
        self.spawned.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn spawned(&self) -> u64 {
        self.spawned.load(Ordering::Relaxed)
    }
}
