//! Connections from which nothing is read for a while, because what they sent is not used up.
//!
//! A pause is a flag on the connection, looked at before anything is read and after every message.
//! Nothing changes at the poller: an event for a paused connection is ignored, and when reading
//! goes on the socket is read to its end, whatever events there were. The bytes of the read buffer
//! that were not looked at when the pause began are kept aside, and come first afterwards.
//!
//! While it lasts, the client's TCP sends into a window that closes. Its pings and pongs wait as
//! well, so silence says nothing: instead the worker sends pings, and the kernel ends the
//! connection when the peer's kernel acknowledges nothing for as long as `idle_timeout`. A peer
//! that says that it ends is read to that end, pause or not: nobody waits for it any more, and
//! what it sent before is handled.

use std::mem;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_core::Key;

use crate::worker::core::{Core, Link, State};

/// A connection's pause, or that there is none.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    on: bool,
    /// The peer has ended its side: nothing is to be paused any more.
    ended: bool,
    /// The kernel was told for how long a silent peer is alive.
    guarded: bool,
    kept: Option<Box<Kept>>,
}

/// Bytes that were read and not looked at.
#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    from: usize,
}

impl Link {
    /// Whether nothing is to be read or handled now.
    pub(crate) fn is_paused(&self) -> bool {
        self.pause.on && !self.pause.ended && self.state == State::Open
    }

    /// Bytes kept aside.
    pub(crate) fn kept_bytes(&self) -> usize {
        let kept = self.pause.kept.as_ref();
        kept.map_or(0, |kept| kept.bytes.len())
    }
}

impl Core {
    /// Reads nothing more from a connection until [`read_on`](Self::read_on).
    pub(crate) fn pause_reading(&mut self, key: Key) {
        if let Some(link) = self.links.of(key)
            && !link.pause.on
        {
            link.pause.on = true;
            self.shared.read_pauses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads from a connection again, beginning with what was kept aside. It happens in the next
    /// turn, because this may be called while a hook runs.
    pub(crate) fn read_on(&mut self, key: Key) {
        let second = self.links.second;
        let Some(link) = self.links.of(key).filter(|link| link.pause.on) else {
            return;
        };
        link.pause.on = false;
        // It could not be heard.
        link.heard_at = second;
        link.pinged = false;
        if mem::take(&mut link.pause.guarded) {
            link.io.give_up_after(None);
        }
        self.unfinished.push(key);
    }

    /// The peer has ended its side, in order or not. What it sent before is read, pause or not.
    pub(crate) fn peer_ended(&mut self, key: Key) {
        if let Some(link) = self.links.of(key) {
            link.pause.ended = true;
        }
    }

    /// Whether the rest of a buffer can wait. Beyond the limit it is handled in spite of the pause,
    /// which the limits of uploads allow for.
    pub(crate) fn can_wait(&self, rest: usize) -> bool {
        self.kept_bytes.saturating_add(rest) <= self.shared.settings.paused_bytes_max
    }

    /// Keeps aside what was read and has to wait.
    pub(crate) fn keep(&mut self, key: Key, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        if let Some(link) = self.links.of(key) {
            debug_assert!(link.pause.kept.is_none(), "nothing is read past what waits");
            let bytes = rest.to_vec();
            link.pause.kept = Some(Box::new(Kept { bytes, from: 0 }));
            self.kept_bytes += rest.len();
        }
    }

    /// Handles what was kept aside; false when some of it still has to wait.
    pub(crate) fn feed_kept(&mut self, key: Key) -> bool {
        let Some(link) = self.links.of(key) else {
            return false;
        };
        let Some(mut kept) = link.pause.kept.take() else {
            return true;
        };
        let total = kept.bytes.len();
        self.kept_bytes -= total;
        let rest = match kept.bytes.get_mut(kept.from..) {
            Some(bytes) => self.feed(key, bytes),
            None => 0,
        };
        if rest == 0 {
            return true;
        }
        kept.from = total - rest;
        if let Some(link) = self.links.of(key) {
            link.pause.kept = Some(kept);
            self.kept_bytes += total;
        }
        false
    }

    /// Looks after a paused connection that was silent for its whole `idle_timeout`, of which the
    /// pause is the reason.
    pub(crate) fn probe_paused(&mut self, key: Key, idle_secs: u32) {
        let second = self.links.second;
        let Some(link) = self.links.of(key) else {
            return;
        };
        link.heard_at = second;
        if !mem::replace(&mut link.pause.guarded, true) {
            let limit = Duration::from_secs(idle_secs.into());
            link.io.give_up_after(Some(limit));
        }
        self.hub.ping(key);
    }
}
