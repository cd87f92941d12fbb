//! Who wants to know that a connection is over.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};
use millstream_core::ConnId;
use parking_lot::Mutex;

use crate::engine::Engine;
use crate::platform::Caller;

/// Futures that wait for the end of a connection. Bounded by the futures that exist, which the
/// limit of messages in flight bounds.
pub(crate) struct Closings {
    shards: Box<[Shard]>,
    hasher: DefaultHashBuilder,
}

/// Of each connection, whom to wake, by the number of the future.
type Shard = Mutex<Waiting>;

#[derive(Default)]
struct Waiting {
    numbers: u64,
    conns: HashMap<ConnId, HashMap<u64, Waker>>,
}

const SHARDS: usize = 16;

impl Closings {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    fn shard(&self, conn: ConnId) -> &Shard {
        let hash = usize::try_from(self.hasher.hash_one(conn) >> 40).unwrap_or(0);
        &self.shards[hash % self.shards.len()]
    }

    /// Remembers whom to wake, under a new number.
    fn listen(&self, conn: ConnId, waker: Waker) -> u64 {
        let mut shard = self.shard(conn).lock();
        shard.numbers += 1;
        let number = shard.numbers;
        shard.conns.entry(conn).or_default().insert(number, waker);
        number
    }

    /// Remembers another waker. False if the connection has been closed since.
    fn listen_again(&self, conn: ConnId, number: u64, waker: &Waker) -> bool {
        let mut shard = self.shard(conn).lock();
        let wakers = shard.conns.get_mut(&conn);
        match wakers.and_then(|wakers| wakers.get_mut(&number)) {
            Some(place) => {
                place.clone_from(waker);
                true
            }
            None => false,
        }
    }

    fn forget(&self, conn: ConnId, number: u64) {
        let mut shard = self.shard(conn).lock();
        if let Some(wakers) = shard.conns.get_mut(&conn) {
            wakers.remove(&number);
            if wakers.is_empty() {
                shard.conns.remove(&conn);
            }
        }
    }

    /// Wakes everybody.
    pub(crate) fn close(&self, conn: ConnId) {
        let wakers = self.shard(conn).lock().conns.remove(&conn);
        for waker in wakers.into_iter().flatten() {
            waker.1.wake();
        }
    }

    /// Futures that wait, of all connections.
    pub(crate) fn len(&self) -> usize {
        let all = self.shards.iter().map(|shard| {
            let shard = shard.lock();
            shard.conns.values().map(HashMap::len).sum::<usize>()
        });
        all.sum()
    }
}

/// Resolves when the connection of a call is over; made by [`Ctx::closed`](crate::Ctx::closed).
#[must_use = "a future does nothing unless it is polled"]
pub struct Closed<S, U> {
    engine: Arc<Engine<S, U>>,
    caller: Caller<U>,
    number: Option<u64>,
}

impl<S, U> fmt::Debug for Closed<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed")
            .field("conn", &self.caller.conn)
            .finish_non_exhaustive()
    }
}

impl<S, U> Closed<S, U> {
    pub(crate) fn new(engine: Arc<Engine<S, U>>, caller: Caller<U>) -> Self {
        Self {
            engine,
            caller,
            number: None,
        }
    }
}

impl<S, U: 'static> Future for Closed<S, U> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(conn) = self.caller.conn else {
            return Poll::Pending;
        };
        let closings = &self.engine.closings;
        match self.number {
            Some(number) if !closings.listen_again(conn, number, cx.waker()) => {
                return Poll::Ready(());
            }
            Some(_) => {}
            None => self.number = Some(closings.listen(conn, cx.waker().clone())),
        }
        // Asked last: a connection that closes in between either says so here or wakes.
        if self.caller.client.is_closed() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<S, U> Drop for Closed<S, U> {
    fn drop(&mut self) {
        if let (Some(conn), Some(number)) = (self.caller.conn, self.number) {
            self.engine.closings.forget(conn, number);
        }
    }
}
