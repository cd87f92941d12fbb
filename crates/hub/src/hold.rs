//! Holding a topic's events back from one connection until its first value has been sent.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::Key;
use smallvec::SmallVec;

use crate::Hub;
use crate::backlog::Audience;
use crate::hub::at_mut;
use crate::local::LocalTopic;
use crate::retain::{Missed, frame_number};
use crate::stats::Tally;
use crate::subs::Place;
use crate::topics::Joined;
use crate::turn::Shared;

/// Events that wait for one connection.
#[derive(Debug)]
pub(crate) struct Held {
    conn: u32,
    /// Who has asked for it and has not released it. Nobody when the connection only is not in a
    /// lane yet.
    holders: SmallVec<[u64; 2]>,
    /// The lowest number given with a release, if there was one.
    covered: Option<u64>,
    frames: VecDeque<Bytes>,
    bytes: usize,
    dropped: u32,
    /// The topic's number at the subscription.
    pub(crate) since: u64,
    /// Events up to this one of the topic were published before the connection subscribed.
    after: u64,
    /// Deliveries of the worker among which such events may still be.
    until: u64,
}

/// A connection that subscribed while events from before were still on their way to its worker.
/// They are not for it: it is let in with the first event that is, or when they all have come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newcomer {
    conn: Key,
    topic: u32,
    until: u64,
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
    /// Whether nobody asked for anything to be held back.
    fn is_newcomer(&self) -> bool {
        self.holders.is_empty()
    }

    /// False when this one has asked before.
    fn add_holder(&mut self, holder: u64) -> bool {
        let fresh = !self.holders.contains(&holder);
        if fresh {
            self.holders.push(holder);
        }
        fresh
    }

    pub(crate) fn push(&mut self, ordinal: u64, frame: Bytes, bytes_max: usize, tally: &mut Tally) {
        if ordinal <= self.after {
            return;
        }
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

impl LocalTopic {
    /// Keeps an event for those from whom events are held back; gives its bytes, 0 when there are
    /// none.
    pub(crate) fn hold_back(
        &mut self,
        ordinal: u64,
        encode: &impl Fn(&mut Vec<u8>),
        bytes_max: usize,
        tally: &mut Tally,
    ) -> usize {
        if self.held().is_empty() {
            return 0;
        }
        let mut frame = Vec::new();
        encode(&mut frame);
        let frame = Bytes::from(frame);
        for held in self.held_mut() {
            held.push(ordinal, frame.clone(), bytes_max, tally);
        }
        frame.len()
    }
}

impl Hub {
    /// Holds the events of a topic back from a connection that holds the topic, until everybody
    /// who has asked for it has released them. False when the connection does not hold the topic,
    /// or `holder` has asked already.
    ///
    /// At most `hold_bytes_max` bytes wait; see [`Released::dropped`]. Events of this turn that
    /// were published before are not affected.
    pub fn hold(&mut self, conn: Key, topic: &str, holder: u64) -> bool {
        let index = self.local_index(topic);
        index.is_some_and(|index| self.hold_for(conn, index, &[holder]))
    }

    /// The same for several holders: whoever holds events back is looked for once. True when one of
    /// them has not asked before.
    pub(crate) fn hold_for(&mut self, conn: Key, index: u32, holders: &[u64]) -> bool {
        let slot = self.conns.get(conn).and_then(|conn| conn.subs.slot(index));
        let Some(slot) = slot else {
            return false;
        };
        if slot == Place::HELD {
            let held = self.held_mut(conn, index);
            return held.is_some_and(|held| {
                let mut fresh = false;
                for holder in holders {
                    fresh |= held.add_holder(*holder);
                }
                fresh
            });
        }
        let since = self.leave_lane(conn, Place { topic: index, slot });
        if let Some(state) = at_mut(&mut self.conns, conn.index) {
            state.subs.set(index, Place::HELD);
        }
        let held = Held {
            conn: conn.index,
            holders: SmallVec::from_slice(holders),
            covered: None,
            frames: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            since,
            after: 0,
            until: 0,
        };
        self.local[index as usize].push_held(held);
        true
    }

    /// Holds events back for one more holder, if they are held back for others. Else they are on
    /// their way to somebody who has asked before, and is waiting for them.
    pub(crate) fn hold_longer(&mut self, conn: Key, topic: &str, holder: u64) {
        if let Some(index) = self.local_index(topic)
            && let Some(held) = self.held_mut(conn, index)
            && !held.is_newcomer()
        {
            held.add_holder(holder);
        }
    }

    /// Subscribes a connection that must not see what is still on its way to this worker.
    pub(crate) fn join_late(&mut self, conn: Key, index: u32, joined: &Joined) {
        let until = self.topics.handed(self.worker);
        if let Some(state) = at_mut(&mut self.conns, conn.index) {
            state.subs.set(index, Place::HELD);
        }
        self.local[index as usize].push_held(Held {
            conn: conn.index,
            holders: SmallVec::new(),
            covered: None,
            frames: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            since: joined.head,
            after: joined.ordinal,
            until,
        });
        self.newcomers.push_back(Newcomer {
            conn,
            topic: index,
            until,
        });
    }

    /// Lets those newcomers of a topic in for whom this event is the first.
    #[inline]
    pub(crate) fn admit_before(&mut self, index: u32, ordinal: u64) {
        if !self.newcomers.is_empty() {
            self.admit_newcomers(index, ordinal);
        }
    }

    #[cold]
    fn admit_newcomers(&mut self, index: u32, ordinal: u64) {
        let mut at = 0;
        while let Some(held) = self.local[index as usize].held().get(at) {
            if held.is_newcomer() && held.after < ordinal {
                // Another one takes its place in the list.
                self.let_in(index, at);
            } else {
                at += 1;
            }
        }
    }

    /// Lets newcomers in for whom nothing can come any more that is not for them.
    #[cold]
    pub(crate) fn let_newcomers_in(&mut self) {
        while let Some(first) = self.newcomers.front().copied() {
            if first.until > self.taken {
                return;
            }
            self.newcomers.pop_front();
            // Gone, let in, or somebody else by now: then it is for another entry to decide.
            let taken = self.taken;
            let waits = |held: &Held| {
                held.conn == first.conn.index && held.is_newcomer() && held.until <= taken
            };
            let local = self.local.get(first.topic as usize);
            if let Some(at) = local.and_then(|local| local.held().iter().position(waits)) {
                self.let_in(first.topic, at);
            }
        }
        self.newcomers.shrink_to(NEWCOMERS_KEPT);
    }

    /// Moves an entry of the list of those held back into a lane.
    fn let_in(&mut self, index: u32, at: usize) {
        let held = self.local[index as usize].take_held(at);
        let Some((key, conn)) = self.conns.get_at_mut(held.conn) else {
            debug_assert!(false, "a connection that closes leaves its topics");
            return;
        };
        conn.subs.remove(index);
        self.join_lane(key, index, held.since);
    }

    /// The entry of a connection that is held back.
    pub(crate) fn held_mut(&mut self, conn: Key, index: u32) -> Option<&mut Held> {
        let held = self.local[index as usize].held_mut();
        held.iter_mut().find(|held| held.conn == conn.index)
    }

    /// Ends what one holder has asked for. With the last one, delivers what was held back, behind
    /// everything sent to the connection so far, and lets new events through. `None` when others
    /// still wait, or the holder has not asked: then nothing has changed.
    pub fn release(&mut self, conn: Key, topic: &str, holder: u64) -> Option<Released> {
        self.release_after(conn, topic, holder, 0)
    }

    /// The same without events numbered up to `number`: what was sent meanwhile holds them already.
    /// Where several holders give numbers, the lowest counts.
    pub fn release_after(
        &mut self,
        conn: Key,
        topic: &str,
        holder: u64,
        number: u64,
    ) -> Option<Released> {
        let released = self.release_held(conn, topic, holder, number);
        self.answered(conn, topic, holder);
        released
    }

    fn release_held(
        &mut self,
        conn: Key,
        topic: &str,
        holder: u64,
        number: u64,
    ) -> Option<Released> {
        let index = self.local_index(topic)?;
        self.conns
            .get(conn)?
            .subs
            .slot(index)
            .filter(|slot| *slot == Place::HELD)?;
        let held = self.held_mut(conn, index)?;
        let at = held.holders.iter().position(|own| *own == holder)?;
        let number = held.covered.map_or(number, |other| other.min(number));
        if held.holders.len() > 1 {
            held.holders.swap_remove(at);
            held.covered = Some(number);
            return None;
        }
        let mut held = self.drop_held(conn, index)?;
        if number > 0 {
            held.frames
                .retain(|frame| frame_number(frame).is_none_or(|own| own > number));
        }
        let released = Released {
            frames: held.frames.len(),
            dropped: held.dropped,
        };
        if let Some(state) = at_mut(&mut self.conns, conn.index) {
            state.subs.remove(index);
        }
        self.send_kept(conn, index, held.frames);
        if held.dropped > 0 {
            self.send_gap_mark(conn, index);
        }
        if held.until > self.taken {
            // Events from before its subscription may still come.
            let joined = Joined {
                head: held.since,
                ordinal: held.after,
                missed: Missed::Nothing,
            };
            self.join_late(conn, index, &joined);
        } else {
            self.join_lane(conn, index, held.since);
        }
        Some(released)
    }

    /// Gives one connection frames of a topic that exist already.
    pub(crate) fn send_kept(
        &mut self,
        conn: Key,
        index: u32,
        frames: impl IntoIterator<Item = Bytes>,
    ) {
        let topic = Arc::clone(&self.local[index as usize].topic);
        let topics: Audience = std::iter::once((topic, 1)).collect();
        for bytes in frames {
            let stamp = self.stamp(crate::hub::Source::Group);
            self.stamp(crate::hub::Source::None);
            self.turn_bytes += bytes.len();
            self.turn_of(conn.index).shared.push(Shared {
                stamp,
                bytes,
                topics: Arc::clone(&topics),
            });
        }
    }

    /// Removes the entry of a connection that is held back.
    pub(crate) fn drop_held(&mut self, conn: Key, index: u32) -> Option<Held> {
        let local = &mut self.local[index as usize];
        let at = local
            .held()
            .iter()
            .position(|held| held.conn == conn.index)?;
        Some(local.take_held(at))
    }
}

/// Room for newcomers that is kept.
const NEWCOMERS_KEPT: usize = 64;
