//! Lending a worker's hub to the call that it polls.
//!
//! A function has handles that work from any thread, so what it publishes would go through the
//! worker's own inbox: encoded into a frame of its own, queued, taken out again at once. While the
//! worker polls a function it lends its hub to its thread, and handles that find it there publish
//! straight into this turn's batches.

use std::cell::Cell;
use std::mem;
use std::sync::Arc;

use millstream_hub::{Hub, Topics};

use crate::worker::core::Core;

thread_local! {
    /// The hub in the hands of whatever runs on this thread.
    static LENT: Cell<Option<Box<Hub>>> = const { Cell::new(None) };
}

impl Core {
    /// Runs `work`, which has no other way to this worker than handles, with the hub lent.
    pub(crate) fn lending<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let _returned = Returned::after(self);
        work()
    }
}

/// Gives the hub back when it is dropped, after a panic as well.
struct Returned<'a>(&'a mut Core);

impl<'a> Returned<'a> {
    fn after(core: &'a mut Core) -> Self {
        // Without a stand-in it is lent already.
        if let Some(stand_in) = core.stand_in.take() {
            LENT.set(Some(mem::replace(&mut core.hub, stand_in)));
        }
        Self(core)
    }
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        if let Some(hub) = LENT.take() {
            self.0.stand_in = Some(mem::replace(&mut self.0.hub, hub));
        }
    }
}

/// Gives `work` the hub that is lent to this thread, if it is one of these topics and has room in
/// this turn. Without room events have to queue, where there is a limit.
pub(crate) fn with_lent<R>(topics: &Arc<Topics>, work: impl FnOnce(Option<&mut Hub>) -> R) -> R {
    // Something that a publish calls, and that publishes itself, finds none.
    let mut taken = Taken(LENT.take());
    let hub = taken.0.as_deref_mut();
    work(hub.filter(|hub| Arc::ptr_eq(hub.topics(), topics) && !hub.wants_flush()))
}

/// A hub in use. It is put back when it is dropped, after a panic as well.
struct Taken(Option<Box<Hub>>);

impl Drop for Taken {
    fn drop(&mut self) {
        if self.0.is_some() {
            LENT.set(self.0.take());
        }
    }
}
