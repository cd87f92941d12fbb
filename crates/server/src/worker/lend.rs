//! Lending a worker's hub to the call that it polls.
//!
//! A function has handles that work from any thread, so what it publishes would go through the
//! worker's own inbox: encoded into a frame of its own, queued, taken out again at once. While the
//! worker polls a function it lends its hub to its thread, and handles that find it there publish
//! straight into this turn's batches.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use millstream_core::Millis;
use millstream_hub::{Hub, Topics};

use crate::worker::core::Core;

/// A hub in the hands of whatever runs on this thread.
struct Lent {
    hub: Box<Hub>,
    now: Millis,
}

thread_local! {
    static LENT: RefCell<Option<Lent>> = const { RefCell::new(None) };
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
            let hub = mem::replace(&mut core.hub, stand_in);
            let now = core.now;
            LENT.with_borrow_mut(|lent| *lent = Some(Lent { hub, now }));
        }
        Self(core)
    }
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        if let Some(lent) = LENT.take() {
            self.0.stand_in = Some(mem::replace(&mut self.0.hub, lent.hub));
        }
    }
}

/// Gives `work` the hub that is lent to this thread, and its time, if it is one of these topics and
/// has room in this turn. Without room events have to queue, where there is a limit.
pub(crate) fn with_lent<R>(
    topics: &Arc<Topics>,
    work: impl FnOnce(Option<(&mut Hub, Millis)>) -> R,
) -> R {
    LENT.with(|lent| match lent.try_borrow_mut() {
        Ok(mut lent) => work(
            lent.as_mut()
                .filter(|lent| Arc::ptr_eq(lent.hub.topics(), topics) && !lent.hub.wants_flush())
                .map(|lent| (&mut *lent.hub, lent.now)),
        ),
        // Something that a publish calls publishes itself.
        Err(_) => work(None),
    })
}
