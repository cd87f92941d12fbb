//! Holding a topic's events back from one connection until its first value has been sent.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_core::Key;

use crate::Hub;
use crate::hub::at_mut;
use crate::stats::Tally;
use crate::subs::Place;
use crate::turn::Shared;

/// Events that wait for one connection.
#[derive(Debug)]
pub(crate) struct Held {
    conn: u32,
    frames: VecDeque<Bytes>,
    bytes: usize,
    dropped: u32,
}

/// What became of the events that were held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// Events that follow now, in order.
    pub frames: usize,
    /// Events that did not fit `hold_bytes_max` and are lost; the client has been told to reload.
    pub dropped: u32,
}

impl Held {
    pub(crate) fn push(&mut self, frame: Bytes, bytes_max: usize, tally: &mut Tally) {
        if self.dropped > 0 || self.bytes + frame.len() > bytes_max {
            // Nothing after a hole: what follows would only look complete.
            self.dropped += 1;
            tally.dropped_held += 1;
            return;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }
}

impl Hub {
    /// Holds the events of a topic back from a connection that holds the topic. False when it
    /// does not, or when they are held back already.
    ///
    /// At most `hold_bytes_max` bytes wait; see [`Released::dropped`]. Events of this turn that
    /// were published before are not affected.
    pub fn hold(&mut self, conn: Key, topic: &str) -> bool {
        let Some(index) = self.local_index(topic) else {
            return false;
        };
        let slot = self.conns.get(conn).and_then(|conn| conn.subs.slot(index));
        let Some(slot) = slot.filter(|slot| *slot != Place::HELD) else {
            return false;
        };
        self.leave_lane(conn, Place { topic: index, slot });
        if let Some(state) = at_mut(&mut self.conns, conn.index) {
            state.subs.set(index, Place::HELD);
        }
        let held = Held {
            conn: conn.index,
            frames: VecDeque::new(),
            bytes: 0,
            dropped: 0,
        };
        self.local[index as usize].held.push(held);
        true
    }

    /// Delivers what was held back, behind everything sent to the connection so far, and lets
    /// new events through. `None` when nothing was held back.
    pub fn release(&mut self, conn: Key, topic: &str) -> Option<Released> {
        let index = self.local_index(topic)?;
        self.conns
            .get(conn)?
            .subs
            .slot(index)
            .filter(|slot| *slot == Place::HELD)?;
        let held = self.drop_held(conn, index)?;
        let released = Released {
            frames: held.frames.len(),
            dropped: held.dropped,
        };
        if let Some(state) = at_mut(&mut self.conns, conn.index) {
            state.subs.remove(index);
        }
        for bytes in held.frames {
            let stamp = self.stamp(crate::hub::Source::Group);
            self.stamp(crate::hub::Source::None);
            self.turn_of(conn.index).shared.push(Shared {
                stamp,
                bytes,
                frames: 1,
            });
        }
        if held.dropped > 0 {
            self.send_gap_mark(conn, index);
        }
        self.join_lane(conn, index);
        Some(released)
    }

    /// Removes the entry of a connection that is held back.
    pub(crate) fn drop_held(&mut self, conn: Key, index: u32) -> Option<Held> {
        let held = &mut self.local[index as usize].held;
        let at = held.iter().position(|held| held.conn == conn.index)?;
        Some(held.swap_remove(at))
    }
}
