//! A place to wait: somebody sits, somebody else says what came.

use core::task::{Context, Poll, Waker};
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Where one waiter hears, once, what it has waited for.
pub(crate) struct Seat<T>(Mutex<Told<T>>);

enum Told<T> {
    Nothing(Option<Waker>),
    This(T),
    Taken,
}

impl<T> Seat<T> {
    /// What was told. Ready once.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<T> {
        let mut told = self.0.lock();
        match core::mem::replace(&mut *told, Told::Taken) {
            Told::This(value) => Poll::Ready(value),
            Told::Taken => Poll::Pending,
            Told::Nothing(_) => {
                *told = Told::Nothing(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    /// What was told and not heard, for one that goes away.
    pub(crate) fn take(&self) -> Option<T> {
        match core::mem::replace(&mut *self.0.lock(), Told::Taken) {
            Told::This(value) => Some(value),
            _ => None,
        }
    }

    fn tell(&self, value: T) -> Option<Waker> {
        match core::mem::replace(&mut *self.0.lock(), Told::This(value)) {
            Told::Nothing(waker) => waker,
            _ => None,
        }
    }
}

/// The seats of all who wait, by the number of their ticket.
pub(crate) struct Seats<T>(HashMap<u64, Arc<Seat<T>>>);

impl<T> Seats<T> {
    pub(crate) fn new() -> Self {
        Self(HashMap::new())
    }

    /// A seat for somebody who has got in line.
    pub(crate) fn sit(&mut self, ticket: u64) -> Arc<Seat<T>> {
        let seat = Arc::new(Seat(Mutex::new(Told::Nothing(None))));
        self.0.insert(ticket, Arc::clone(&seat));
        seat
    }

    /// Tells one who waits. To be woken once no lock is held.
    pub(crate) fn tell(&mut self, ticket: u64, value: T) -> Option<Waker> {
        self.0.remove(&ticket)?.tell(value)
    }

    /// Forgets one who has left the line.
    pub(crate) fn leave(&mut self, ticket: u64) {
        self.0.remove(&ticket);
    }
}
