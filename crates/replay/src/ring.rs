//! One topic: its number and its last frames.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits::{ENTRY_COST, RingLimits};
use crate::position::NUMBER_MAX;
use crate::{Outcome, PushError, Read};

/// The number of one topic and its last frames, of which the newest has that number and each one
/// before it one less.
///
/// This is the part to use where topics have their own locks and tables: number, push and hand
/// over under the topic's lock. [`Replay`](crate::Replay) is many of them with common budgets.
///
/// # Cost
/// `push` O(1) amortised for frames of one size: it drops at most as many frames as fit into the
/// bytes it adds, and one more. `since` O(1): numbers have no holes, so a position is an index.
/// 64 bytes, and 32 for each slot; the slots grow by doubling from 4, never above the limit, and
/// shrink when three quarters are unused. A frame keeps alive whatever its [`Bytes`] are part of.
///
/// # Example
/// ```
/// use bytes::Bytes;
/// use millstream_replay::{Outcome, Read, Ring, RingLimits};
///
/// let mut ring = Ring::new(RingLimits { entries_max: 2, ..Default::default() }, 0);
/// for text in ["a", "b", "c"] {
///     ring.push(Bytes::from(text))?;
/// }
/// assert_eq!(ring.since(1), Outcome::Complete);
/// assert_eq!(ring.since(0), Outcome::Gap { resumes_at: 2 });
/// assert_eq!(ring.since(9), Outcome::Ahead { head: 3 });
///
/// let mut next = 3; // the first number after the position
/// assert_eq!(ring.read(&mut next), Read::Frame { number: 3, frame: &Bytes::from("c") });
/// assert_eq!(ring.read(&mut next), Read::End { head: 3 });
/// # Ok::<(), millstream_replay::PushError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ring {
    head: u64,
    frames: VecDeque<Bytes>,
    /// Bytes of the frames, each with [`ENTRY_COST`].
    bytes: usize,
    limits: RingLimits,
}

/// What a push did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The frame's number.
    pub number: u64,
    /// Whether it was kept. Not if it is larger than everything the topic may keep.
    pub kept: bool,
    /// Frames dropped because the topic was full by count.
    pub evicted_by_entries: u32,
    /// Frames dropped because the topic was full by bytes.
    pub evicted_by_bytes: u32,
}

const SLOTS_MIN: usize = 4;
/// Below this many slots nothing is given back.
const SLOTS_SHRINK: usize = 64;

impl Ring {
    /// An empty ring that goes on after the number `head`.
    #[must_use]
    pub const fn new(limits: RingLimits, head: u64) -> Self {
        Self {
            head,
            frames: VecDeque::new(),
            bytes: 0,
            limits,
        }
    }

    /// The number given out last.
    #[must_use]
    pub const fn head(&self) -> u64 {
        self.head
    }

    /// Number of the oldest frame that is kept, or of the next one if none is.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.head - self.frames.len() as u64 + 1
    }

    /// Frames kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether no frame is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes charged: the frames, each with [`ENTRY_COST`].
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The limits given at construction.
    #[must_use]
    pub const fn limits(&self) -> RingLimits {
        self.limits
    }

    /// Gives `frame` the next number and keeps it. An empty frame is one that has a number and
    /// that nobody wants replayed.
    ///
    /// # Errors
    /// [`PushError::NumbersExhausted`].
    pub fn push(&mut self, frame: Bytes) -> Result<Pushed, PushError> {
        if self.head >= NUMBER_MAX {
            return Err(PushError::NumbersExhausted);
        }
        self.head += 1;
        Ok(self.keep(frame))
    }

    /// Keeps `frame` under a number given outside. If numbers were left out, what was kept before
    /// them is dropped: a reader from before the hole is told that there is a gap.
    ///
    /// # Errors
    /// [`PushError::NumberNotAbove`], [`PushError::NumbersExhausted`].
    pub fn push_at(&mut self, number: u64, frame: Bytes) -> Result<Pushed, PushError> {
        self.check(number)?;
        if number != self.head + 1 {
            self.clear();
        }
        self.head = number;
        Ok(self.keep(frame))
    }

    /// What is there after `number`.
    #[must_use]
    pub fn since(&self, number: u64) -> Outcome {
        if number > self.head {
            return Outcome::Ahead { head: self.head };
        }
        let oldest = self.oldest();
        if number + 1 < oldest {
            return Outcome::Gap { resumes_at: oldest };
        }
        Outcome::Complete
    }

    /// Reads the frame with the number `next` and moves `next` on. Start with the position plus
    /// one. Never gives [`Read::Gone`].
    pub fn read(&self, next: &mut u64) -> Read<'_> {
        let oldest = self.oldest();
        if *next < oldest {
            *next = oldest;
            return Read::Gap { resumes_at: oldest };
        }
        let index = usize::try_from(*next - oldest).unwrap_or(usize::MAX);
        let Some(frame) = self.frames.get(index) else {
            return Read::End { head: self.head };
        };
        let number = *next;
        *next += 1;
        Read::Frame { number, frame }
    }

    /// The frames after `number` as far as they are kept, oldest first.
    pub fn after(&self, number: u64) -> impl ExactSizeIterator<Item = (u64, &Bytes)> {
        let oldest = self.oldest();
        let skip = number.saturating_add(1).saturating_sub(oldest);
        let skip = usize::try_from(skip).map_or(self.frames.len(), |n| n.min(self.frames.len()));
        let first = oldest + skip as u64;
        let frames = self.frames.range(skip..).enumerate();
        frames.map(move |(index, frame)| (first + index as u64, frame))
    }

    /// Drops the oldest frame.
    pub fn pop_oldest(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len() + ENTRY_COST;
        let slots = self.frames.capacity();
        if slots > SLOTS_SHRINK && self.frames.len() < slots / 4 {
            self.frames.shrink_to(slots / 2);
        }
        Some(frame)
    }

    /// Drops all frames and keeps the number. O(frames).
    pub fn clear(&mut self) {
        drop(self.take());
    }

    /// Whether a frame may have this number.
    pub(crate) fn check(&self, number: u64) -> Result<(), PushError> {
        if number <= self.head {
            let (given, head) = (number, self.head);
            return Err(PushError::NumberNotAbove { given, head });
        }
        if number > NUMBER_MAX {
            return Err(PushError::NumbersExhausted);
        }
        Ok(())
    }

    /// Takes all frames out and keeps the number.
    pub(crate) fn take(&mut self) -> VecDeque<Bytes> {
        self.bytes = 0;
        core::mem::take(&mut self.frames)
    }

    /// Keeps the frame that has the number `head`.
    fn keep(&mut self, frame: Bytes) -> Pushed {
        let cost = frame.len() + ENTRY_COST;
        let mut pushed = Pushed {
            number: self.head,
            kept: true,
            evicted_by_entries: 0,
            evicted_by_bytes: 0,
        };
        if cost > self.limits.bytes_max || self.limits.entries_max == 0 {
            // Frames before one that is not kept would answer nothing: there is a gap after them.
            pushed.kept = false;
            pushed.evicted_by_bytes = self.frames.len() as u32;
            self.clear();
            return pushed;
        }
        if self.frames.len() >= self.limits.entries_max as usize {
            self.drop_front();
            pushed.evicted_by_entries = 1;
        }
        while self.bytes + cost > self.limits.bytes_max {
            drop(self.pop_oldest());
            pushed.evicted_by_bytes += 1;
        }
        if self.frames.len() == self.frames.capacity() {
            self.grow();
        }
        self.bytes += cost;
        self.frames.push_back(frame);
        pushed
    }

    /// Drops the oldest frame to make room for one: nothing is given back.
    fn drop_front(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.len() + ENTRY_COST;
        }
    }

    /// Doubles the slots, but not above what the limit allows.
    #[cold]
    fn grow(&mut self) {
        let len = self.frames.len();
        let most = (self.limits.entries_max as usize).max(len + 1);
        let slots = (len * 2).clamp(SLOTS_MIN.min(most), most);
        self.frames.reserve_exact(slots - len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(entries_max: u32, bytes_max: usize) -> Ring {
        let limits = RingLimits {
            entries_max,
            bytes_max,
        };
        Ring::new(limits, 0)
    }

    fn frame(bytes: usize) -> Bytes {
        Bytes::from(vec![b'x'; bytes])
    }

    #[test]
    fn a_position_is_answered_by_index_at_every_boundary() {
        let mut ring = ring(3, usize::MAX);
        for _ in 0..7 {
            ring.push(frame(1)).unwrap();
        }
        assert_eq!((ring.oldest(), ring.head(), ring.len()), (5, 7, 3));
        assert_eq!(ring.since(0), Outcome::Gap { resumes_at: 5 });
        assert_eq!(ring.since(3), Outcome::Gap { resumes_at: 5 });
        assert_eq!(ring.since(4), Outcome::Complete);
        assert_eq!(ring.since(7), Outcome::Complete);
        assert_eq!(ring.since(8), Outcome::Ahead { head: 7 });
        assert_eq!(ring.since(u64::MAX), Outcome::Ahead { head: 7 });
        let numbers = |n| ring.after(n).map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!(numbers(0), [5, 6, 7]);
        assert_eq!(numbers(5), [6, 7]);
        assert!(numbers(7).is_empty() && numbers(u64::MAX).is_empty());
    }

    #[test]
    fn bytes_are_charged_with_the_slot_and_evict_the_oldest() {
        let mut ring = ring(100, 3 * (10 + ENTRY_COST));
        for _ in 0..3 {
            assert_eq!(ring.push(frame(10)).unwrap().evicted_by_bytes, 0);
        }
        assert_eq!(ring.bytes(), 3 * (10 + ENTRY_COST));
        assert_eq!(ring.push(frame(11)).unwrap().evicted_by_bytes, 2);
        assert_eq!((ring.len(), ring.oldest(), ring.head()), (2, 3, 4));
    }

    #[test]
    fn a_frame_too_large_is_numbered_and_leaves_a_gap() {
        let mut ring = ring(100, 200);
        ring.push(frame(1)).unwrap();
        let pushed = ring.push(frame(137)).unwrap();
        assert_eq!((pushed.number, pushed.kept), (2, false));
        assert_eq!((ring.len(), ring.bytes()), (0, 0));
        assert_eq!(ring.since(1), Outcome::Gap { resumes_at: 3 });
        assert_eq!(ring.since(2), Outcome::Complete);
        assert!(ring.push(frame(136)).unwrap().kept);
    }

    #[test]
    fn without_room_it_only_numbers() {
        let mut ring = ring(0, usize::MAX);
        assert!(!ring.push(Bytes::new()).unwrap().kept);
        assert_eq!(ring.since(0), Outcome::Gap { resumes_at: 2 });
        assert_eq!(ring.since(1), Outcome::Complete);
    }

    #[test]
    fn a_number_left_out_is_a_gap_and_none_goes_back() {
        let mut ring = ring(10, usize::MAX);
        ring.push_at(5, frame(1)).unwrap();
        ring.push_at(6, frame(1)).unwrap();
        assert_eq!(ring.since(4), Outcome::Complete);
        assert_eq!(
            ring.push_at(6, frame(1)),
            Err(PushError::NumberNotAbove { given: 6, head: 6 })
        );
        ring.push_at(8, frame(1)).unwrap();
        assert_eq!(ring.since(6), Outcome::Gap { resumes_at: 8 });
        assert_eq!(ring.since(7), Outcome::Complete);
        assert_eq!(ring.bytes(), 1 + ENTRY_COST);
    }

    #[test]
    fn numbers_end_below_2_to_the_53() {
        let mut ring = ring(10, usize::MAX);
        assert_eq!(
            ring.push_at(u64::MAX, frame(1)),
            Err(PushError::NumbersExhausted)
        );
        ring.push_at(NUMBER_MAX, frame(1)).unwrap();
        assert_eq!(ring.push(frame(1)), Err(PushError::NumbersExhausted));
        assert_eq!((ring.head(), ring.len()), (NUMBER_MAX, 1));
    }

    #[test]
    fn slots_double_up_to_the_limit_and_are_given_back() {
        let mut ring = ring(1_001, usize::MAX);
        let mut slots = Vec::new();
        for _ in 0..3_000 {
            ring.push(Bytes::new()).unwrap();
            if slots.last() != Some(&ring.frames.capacity()) {
                slots.push(ring.frames.capacity());
            }
        }
        assert_eq!(slots, [4, 8, 16, 32, 64, 128, 256, 512, 1_001]);
        while ring.pop_oldest().is_some() {
            assert!(ring.frames.capacity() <= (ring.len() * 4 + 4).max(SLOTS_SHRINK * 2));
        }
        assert_eq!(ring.bytes(), 0);
    }

    #[test]
    fn a_reader_that_is_overtaken_is_told() {
        let mut ring = ring(2, usize::MAX);
        ring.push(frame(1)).unwrap();
        ring.push(frame(2)).unwrap();
        let mut next = 1;
        assert!(matches!(
            ring.read(&mut next),
            Read::Frame { number: 1, .. }
        ));
        ring.push(frame(3)).unwrap();
        ring.push(frame(4)).unwrap();
        assert_eq!(ring.read(&mut next), Read::Gap { resumes_at: 3 });
        assert!(matches!(
            ring.read(&mut next),
            Read::Frame { number: 3, .. }
        ));
        assert!(matches!(
            ring.read(&mut next),
            Read::Frame { number: 4, .. }
        ));
        assert_eq!(ring.read(&mut next), Read::End { head: 4 });
        let mut beyond = u64::MAX;
        assert_eq!(ring.read(&mut beyond), Read::End { head: 4 });
    }
}
