//! Output a socket did not take: references to shared bytes, with the rules for slow readers.

use std::collections::VecDeque;
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
    /// Topics of which something was dropped since the last mark.
    pub(crate) gaps: Vec<Arc<Topic>>,
}

/// A run of complete frames of one source, of which the first may be partly sent.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    pub(crate) frames: u32,
    /// The topic; `None` for what is never dropped (control, replies, a frame that is partly
    /// on the wire).
    pub(crate) topic: Option<TopicId>,
}

/// Bounds of one connection's backlog.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) pieces: usize,
    pub(crate) control_bytes: usize,
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
        self.push(Piece {
            bytes,
            frames: 0,
            topic: None,
        });
        Admitted::Yes
    }

    /// Adds the rest of a frame or run that is partly on the wire.
    pub(crate) fn push_started(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.push(Piece {
                bytes,
                frames: 0,
                topic: None,
            });
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
        let overflow = topic.policy().overflow;
        let len = bytes.len();
        if !self.has_room(len, bounds) {
            match overflow {
                Overflow::Disconnect => return Admitted::TooSlow,
                Overflow::DropNewest => {}
                Overflow::DropOldest => {
                    while !self.has_room(len, bounds) {
                        let Some(lost) = self.remove_oldest(topic.id()) else {
                            break;
                        };
                        tally.dropped_oldest += u64::from(lost);
                        self.mark_gap(topic);
                    }
                }
                Overflow::Coalesce => {
                    while let Some(lost) = self.remove_oldest(topic.id()) {
                        tally.dropped_coalesced += u64::from(lost);
                        self.mark_gap(topic);
                    }
                }
            }
        }
        if self.has_room(len, bounds) {
            tally.delivered += u64::from(frames);
            self.push_gap_mark(topic, tally);
            self.push(Piece {
                bytes,
                frames,
                topic: Some(topic.id()),
            });
            return Admitted::Yes;
        }
        let counter = match overflow {
            Overflow::Coalesce => &mut tally.dropped_coalesced,
            Overflow::DropOldest => &mut tally.dropped_oldest,
            Overflow::DropNewest | Overflow::Disconnect => &mut tally.dropped_newest,
        };
        *counter += u64::from(frames);
        self.mark_gap(topic);
        Admitted::Dropped
    }

    /// Tells the client of a topic's gap before anything newer of that topic.
    fn push_gap_mark(&mut self, topic: &Arc<Topic>, tally: &mut Tally) {
        if let Some(at) = self.gaps.iter().position(|gap| gap.id() == topic.id()) {
            let topic = self.gaps.swap_remove(at);
            self.push(Piece {
                bytes: gap_mark(&topic),
                frames: 0,
                topic: None,
            });
            tally.gap_marks += 1;
        }
    }

    /// Tells the client of all gaps: nothing newer came before everything was sent.
    pub(crate) fn push_all_gap_marks(&mut self, tally: &mut Tally) {
        for topic in core::mem::take(&mut self.gaps) {
            self.push(Piece {
                bytes: gap_mark(&topic),
                frames: 0,
                topic: None,
            });
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
                front.topic = None;
                break;
            }
            count -= front.bytes.len();
            self.queue.pop_front();
        }
    }

    fn has_room(&self, bytes: usize, bounds: Bounds) -> bool {
        self.queue.is_empty()
            || (self.bytes + bytes <= bounds.bytes && self.queue.len() < bounds.pieces)
    }

    fn push(&mut self, piece: Piece) {
        self.bytes += piece.bytes.len();
        self.queue.push_back(piece);
    }

    /// Removes the oldest waiting piece of a topic; gives the number of its frames. O(pieces).
    fn remove_oldest(&mut self, topic: TopicId) -> Option<u32> {
        let at = self
            .queue
            .iter()
            .position(|piece| piece.topic == Some(topic))?;
        let piece = self.queue.remove(at)?;
        self.bytes -= piece.bytes.len();
        Some(piece.frames)
    }

    fn mark_gap(&mut self, topic: &Arc<Topic>) {
        if !self.gaps.iter().any(|gap| gap.id() == topic.id()) {
            self.gaps.push(Arc::clone(topic));
        }
    }
}

/// The frame that tells a client to reload what it has of a topic.
pub(crate) fn gap_mark(topic: &Topic) -> Bytes {
    let mut frame = Vec::new();
    millstream_wire::encode_gap_mark(&mut frame, topic.prefix());
    frame.into()
}
