//! Output a socket did not take: references to shared bytes, with the rules for slow readers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use millstream_core::TopicId;

use crate::policy::Overflow;
use crate::stats::Tally;
use crate::topics::Topic;

/// Unsent output of one connection, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    queue: VecDeque<Piece>,
    bytes: usize,
    /// Topics of which something was dropped behind their last mark.
    gaps: BTreeMap<TopicId, Arc<Topic>>,
}

/// A run of complete frames of one source, of which the first may be partly sent.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    frames: u32,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// Frames with events of several topics. Not taken apart once they wait.
    Group(Audience),
    /// What is never dropped: control, replies, a frame that is partly on the wire.
    Kept,
    /// The client is told to reload this topic.
    Mark(TopicId),
    /// A run of one topic's frames.
    Topic(TopicId),
}

/// The topics of a frame made for a group of connections, with their numbers of events.
pub(crate) type Audience = Arc<[(Arc<Topic>, u32)]>;

impl Piece {
    fn concerns(&self, topic: TopicId) -> bool {
        match &self.what {
            What::Group(topics) => topics.iter().any(|(other, _)| other.id() == topic),
            What::Kept => false,
            What::Mark(other) | What::Topic(other) => *other == topic,
        }
    }
}

/// Bounds of one connection's backlog.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) pieces: usize,
    pub(crate) control_bytes: usize,
    pub(crate) coalesce_keys: usize,
    pub(crate) coalesce_bytes: usize,
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It waits.
    Yes,
    /// It was dropped; the topic has a gap.
    Dropped,
    /// The connection is too slow to be kept.
    TooSlow,
}

impl Backlog {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What is to be written next.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.queue.iter()
    }

    /// Adds output that is never dropped.
    pub(crate) fn push_kept(&mut self, bytes: Bytes, bounds: Bounds) -> Admitted {
        let over = self.bytes + bytes.len() > bounds.bytes + bounds.control_bytes;
        let many = self.queue.len() > bounds.pieces * 2;
        // What is already waiting may exceed the bound by one turn's output, because a backlog
        // starts with whatever the socket left of it. A newcomer may not.
        if !self.queue.is_empty() && (over || many) {
            return Admitted::TooSlow;
        }
        self.push(bytes, 0, What::Kept);
        Admitted::Yes
    }

    /// Adds the rest of a frame or run that is partly on the wire.
    pub(crate) fn push_started(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.push(bytes, 0, What::Kept);
        }
    }

    /// Adds a run of `topic`'s frames, or applies the topic's policy when there is no room.
    pub(crate) fn push_topic(
        &mut self,
        topic: &Arc<Topic>,
        bytes: Bytes,
        frames: u32,
        bounds: Bounds,
        tally: &mut Tally,
    ) -> Admitted {
        let room = Room {
            bytes: bytes.len(),
            bounds,
        };
        if !self.make_room(topic, room, tally) {
            return self.refuse([(topic, frames)], tally);
        }
        tally.delivered += u64::from(frames);
        self.push_gap_mark(topic, tally);
        self.push(bytes, frames, What::Topic(topic.id()));
        Admitted::Yes
    }

    /// Adds a frame with events of several topics, or applies their policies. It is dropped
    /// whole, and what waits already is not taken apart.
    pub(crate) fn push_group(
        &mut self,
        topics: &Audience,
        bytes: Bytes,
        bounds: Bounds,
        tally: &mut Tally,
    ) -> Admitted {
        let room = Room {
            bytes: bytes.len(),
            bounds,
        };
        if !topics
            .iter()
            .any(|(topic, _)| self.make_room(topic, room, tally))
        {
            return self.refuse(topics.iter().map(|(topic, frames)| (topic, *frames)), tally);
        }
        let mut sum = 0;
        for (topic, frames) in topics.iter() {
            sum += frames;
            self.push_gap_mark(topic, tally);
        }
        tally.delivered += u64::from(sum);
        self.push(bytes, sum, What::Group(Arc::clone(topics)));
        Admitted::Yes
    }

    /// Tells the client of gaps, some of them at a time: nothing newer came before everything
    /// was sent.
    pub(crate) fn push_gap_marks(&mut self, tally: &mut Tally) {
        let mut bytes = 0;
        while bytes < GAP_MARKS_BYTES {
            let Some((id, topic)) = self.gaps.pop_first() else {
                break;
            };
            let mark = gap_mark(&topic);
            bytes += mark.len();
            self.push(mark, 0, What::Mark(id));
            tally.gap_marks += 1;
        }
    }

    /// Takes `count` sent bytes off the front.
    pub(crate) fn sent(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while count > 0 {
            let Some(front) = self.queue.front_mut() else {
                break;
            };
            if front.bytes.len() > count {
                front.bytes.advance(count);
                // Part of it is on the wire now: it has to go out whole.
                front.what = What::Kept;
                break;
            }
            count -= front.bytes.len();
            self.queue.pop_front();
        }
    }

    fn has_room(&self, room: Room) -> bool {
        let Room { bytes, bounds } = room;
        self.queue.is_empty()
            || (self.bytes + bytes <= bounds.bytes && self.queue.len() < bounds.pieces)
    }

    /// Does for a newcomer what its topic's policy allows; false when there is still no room.
    fn make_room(&mut self, topic: &Arc<Topic>, room: Room, tally: &mut Tally) -> bool {
        match topic.policy().overflow {
            Overflow::Coalesce if !self.has_room(room) => {
                while let Some(lost) = self.remove_oldest(topic, room.bounds, tally) {
                    tally.dropped_coalesced += u64::from(lost);
                }
            }
            Overflow::DropOldest => {
                while !self.has_room(room) {
                    let Some(lost) = self.remove_oldest(topic, room.bounds, tally) else {
                        break;
                    };
                    tally.dropped_oldest += u64::from(lost);
                }
            }
            Overflow::Coalesce | Overflow::Disconnect | Overflow::DropNewest => {}
        }
        self.has_room(room)
    }

    /// Drops a newcomer, or gives the connection up when a policy says so.
    fn refuse<'a>(
        &mut self,
        topics: impl IntoIterator<Item = (&'a Arc<Topic>, u32)> + Clone,
        tally: &mut Tally,
    ) -> Admitted {
        let strict = |topic: &Topic| topic.policy().overflow == Overflow::Disconnect;
        if topics.clone().into_iter().any(|(topic, _)| strict(topic)) {
            return Admitted::TooSlow;
        }
        for (topic, frames) in topics {
            if topic.policy().volatile {
                tally.dropped_volatile += u64::from(frames);
                continue;
            }
            let counter = match topic.policy().overflow {
                Overflow::Coalesce => &mut tally.dropped_coalesced,
                Overflow::DropOldest => &mut tally.dropped_oldest,
                Overflow::DropNewest | Overflow::Disconnect => &mut tally.dropped_newest,
            };
            *counter += u64::from(frames);
            self.note_gap(topic);
        }
        Admitted::Dropped
    }

    fn push(&mut self, bytes: Bytes, frames: u32, what: What) {
        self.bytes += bytes.len();
        self.queue.push_back(Piece {
            bytes,
            frames,
            what,
        });
    }

    /// Removes the oldest waiting run of a topic and leaves a gap mark in its place; gives the
    /// number of its frames. O(pieces).
    fn remove_oldest(
        &mut self,
        topic: &Arc<Topic>,
        bounds: Bounds,
        tally: &mut Tally,
    ) -> Option<u32> {
        let id = topic.id();
        let oldest = |piece: &Piece| matches!(piece.what, What::Topic(other) if other == id);
        let at = self.queue.iter().position(oldest)?;
        let lost = self.queue.get_mut(at)?;
        let frames = lost.frames;
        self.bytes -= lost.bytes.len();
        let mark = gap_mark(topic);
        if is_marked(self.queue.range(..at), id) {
            self.queue.remove(at);
        } else if self.bytes + mark.len() <= bounds.bytes + bounds.control_bytes {
            self.bytes += mark.len();
            let mark = Piece {
                bytes: mark,
                frames: 0,
                what: What::Mark(id),
            };
            *self.queue.get_mut(at)? = mark;
            tally.gap_marks += 1;
        } else {
            self.queue.remove(at);
            self.note_gap(topic);
        }
        Some(frames)
    }

    fn note_gap(&mut self, topic: &Arc<Topic>) {
        self.gaps
            .entry(topic.id())
            .or_insert_with(|| Arc::clone(topic));
    }

    /// Tells the client of a topic's gap before anything newer of that topic.
    fn push_gap_mark(&mut self, topic: &Arc<Topic>, tally: &mut Tally) {
        let id = topic.id();
        if self.gaps.remove(&id).is_some() && !is_marked(self.queue.range(..), id) {
            self.push(gap_mark(topic), 0, What::Mark(id));
            tally.gap_marks += 1;
        }
    }
}

/// Whether the last of these pieces that has to do with a topic is its gap mark: the client
/// reloads only when it reads that, so what was dropped since is made good as well.
fn is_marked<'a>(pieces: impl DoubleEndedIterator<Item = &'a Piece>, topic: TopicId) -> bool {
    pieces
        .rev()
        .find(|piece| piece.concerns(topic))
        .is_some_and(|piece| matches!(piece.what, What::Mark(_)))
}

/// What a newcomer needs, and what there is.
#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: usize,
    bounds: Bounds,
}

/// Gap marks given to a drained connection at a time.
const GAP_MARKS_BYTES: usize = 64 * 1024;

/// The frame that tells a client to reload what it has of a topic.
pub(crate) fn gap_mark(topic: &Topic) -> Bytes {
    let mut frame = Vec::new();
    millstream_wire::encode_gap_mark(&mut frame, topic.prefix());
    frame.into()
}
