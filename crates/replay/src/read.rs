//! Answers to "everything after n", and reading them piece by piece.

use bytes::Bytes;

use crate::TopicKey;

/// What the numbers say about a reader's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Everything after the position is here, which may be nothing. Send it and go live.
    Complete,
    /// The first that is needed is gone. What follows from `resumes_at` on is here, but the
    /// reader has to load its state again, or take events that may be missing from another store.
    Gap {
        /// Number of the oldest event that is kept, or of the next one if none is.
        resumes_at: u64,
    },
    /// The position is above the topic's last number: it is from another history. Load again.
    Ahead {
        /// The topic's last number.
        head: u64,
    },
    /// The position is from another epoch. Load again.
    OtherEpoch {
        /// The present epoch.
        current: u64,
    },
}

/// What became of a request for everything after a position.
#[derive(Debug)]
pub struct Answer {
    /// Whether something is missing.
    pub outcome: Outcome,
    /// The topic's last number now.
    pub head: u64,
    /// Reads what is kept after the position; `None` when the topic has no ring.
    pub cursor: Option<Cursor>,
}

/// A place to go on reading from, for as long as the socket takes it.
///
/// A cursor holds no frames. It follows the topic: frames that are pushed while it is being read
/// are read too, in order and once, so nothing has to be held back for its reader. When
/// [`Replay::read`](crate::Replay::read) says [`Read::End`], the reader has everything and can be
/// made a live subscriber under the same lock, without a hole and without a duplicate.
#[derive(Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) topic: TopicKey,
    pub(crate) next: u64,
    pub(crate) last: u64,
}

impl Cursor {
    /// Ends the reading after this number, instead of following the topic.
    #[must_use]
    pub fn until(self, last: u64) -> Self {
        Self { last, ..self }
    }

    /// The number that will be read next.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next
    }
}

/// One step of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Read<'a> {
    /// The next event.
    Frame {
        /// Its number.
        number: u64,
        /// The frame as it was pushed.
        frame: &'a Bytes,
    },
    /// There is nothing more; `head` is the topic's last number.
    End {
        /// The topic's last number.
        head: u64,
    },
    /// What came next was evicted while the reader was slow. Tell it; reading on gives the frames
    /// from `resumes_at`.
    Gap {
        /// Number of the frame that will be read next.
        resumes_at: u64,
    },
    /// The topic was evicted or cleared. Tell the reader to load again.
    Gone,
}
