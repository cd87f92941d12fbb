//! One upload.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_core::ConnId;

use crate::idle::Place;
use crate::limits::{CHUNK_COST, Limits, Terms};
use crate::{Budget, UploadError};

/// One upload, from its first chunk to its reply.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) conn: ConnId,
    pub(crate) number: u32,
    /// Number of the chunk that has to come next; above 2^32 none can.
    expected: u64,
    /// Where in the whole the client has got to, and the handler.
    pub(crate) received: u64,
    pub(crate) taken: u64,
    /// What the client said in its header.
    pub(crate) offset: Option<u64>,
    /// `taken` is what the host has, not only what the client says.
    pub(crate) confirmed: bool,
    queue: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// `None` until the upload is accepted.
    pub(crate) terms: Option<Terms>,
    starting_chunks: u32,
    starting_bytes: usize,
    /// `received` when the last check began.
    checked_at: u64,
    pub(crate) checking: bool,
    /// The last chunk is here.
    ended: bool,
    /// The handler was told to wait.
    pub(crate) asleep: bool,
    /// Counted among those for which its connection's reading is paused.
    pub(crate) blocking: bool,
    pub(crate) idle: Place,
}

/// What a chunk did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Kept,
    /// It came after the last one.
    Discarded,
}

impl Entry {
    pub(crate) fn new(conn: ConnId, number: u32, offset: Option<u64>) -> Self {
        let start = offset.unwrap_or(0);
        Self {
            conn,
            number,
            expected: 0,
            received: start,
            taken: start,
            offset,
            confirmed: false,
            queue: VecDeque::new(),
            waiting_bytes: 0,
            terms: None,
            starting_chunks: 0,
            starting_bytes: 0,
            checked_at: 0,
            checking: false,
            ended: false,
            asleep: false,
            blocking: false,
            idle: Place::default(),
        }
    }

    /// Takes a chunk in: its order, then its size, then the room for it.
    pub(crate) fn push(
        &mut self,
        number: u32,
        last: bool,
        payload: Bytes,
        limits: &Limits,
        budget: &Budget,
    ) -> Result<Taken, UploadError> {
        if u64::from(number) != self.expected {
            return Err(UploadError::OutOfOrder {
                expected: self.expected,
                got: number,
            });
        }
        self.expected += 1;
        self.received = self.received.saturating_add(payload.len() as u64);
        match self.terms {
            Some(terms) if self.received > terms.size_max => return Err(UploadError::TooLarge),
            Some(_) => {}
            None => self.push_starting(payload.len(), limits, budget)?,
        }
        if self.ended {
            return Ok(Taken::Discarded);
        }
        self.ended = last;
        if payload.is_empty() {
            return Ok(Taken::Kept);
        }
        let cost = payload.len() + CHUNK_COST;
        if let Some(terms) = self.terms {
            let chunks_max = terms
                .waiting_chunks_max
                .saturating_add(limits.overrun_chunks_max);
            let bytes = self.waiting_bytes + cost;
            // One chunk is always taken: it may be larger than all that may wait.
            let full = self.queue.len() >= chunks_max.max(1) || bytes > limits.waiting_bytes_max;
            if full && !self.queue.is_empty() {
                return Err(UploadError::Backpressure);
            }
        }
        if !budget.take_waiting(cost) {
            return Err(UploadError::Overloaded);
        }
        self.waiting_bytes += cost;
        self.queue.push_back(payload);
        Ok(Taken::Kept)
    }

    fn push_starting(
        &mut self,
        bytes: usize,
        limits: &Limits,
        budget: &Budget,
    ) -> Result<(), UploadError> {
        if self.starting_bytes.saturating_add(bytes) > limits.starting_bytes_max {
            return Err(UploadError::TooLargeForStart);
        }
        if self.starting_chunks >= limits.starting_chunks_max {
            return Err(UploadError::StartQueueFull);
        }
        if !budget.take_starting(bytes) {
            return Err(UploadError::Overloaded);
        }
        self.starting_bytes += bytes;
        self.starting_chunks += 1;
        Ok(())
    }

    /// The upload runs from now on; a place among the running was taken for it.
    pub(crate) fn start(&mut self, terms: Terms, budget: &Budget) {
        budget.give_starting(self.starting_bytes);
        self.starting_bytes = 0;
        self.checked_at = self.received;
        self.confirmed = true;
        self.terms = Some(terms);
    }

    pub(crate) fn pop(&mut self, budget: &Budget) -> Option<Bytes> {
        let chunk = self.queue.pop_front()?;
        let cost = chunk.len() + CHUNK_COST;
        budget.give_waiting(cost);
        self.waiting_bytes -= cost;
        self.taken = self.taken.saturating_add(chunk.len() as u64);
        Some(chunk)
    }

    /// Gives back everything it holds of the budget.
    pub(crate) fn release(&mut self, budget: &Budget) {
        budget.give_waiting(self.waiting_bytes);
        budget.give_starting(self.starting_bytes);
        if self.terms.is_some() {
            budget.give_running();
        }
        (self.waiting_bytes, self.starting_bytes) = (0, 0);
        self.terms = None;
    }

    /// Whether reading should pause for it. It goes on when half is taken, so that a handler that
    /// just keeps up does not switch it with every chunk.
    pub(crate) fn should_block(&self, limits: &Limits) -> bool {
        let Some(terms) = self.terms.filter(|_| !self.ended && !self.queue.is_empty()) else {
            return false;
        };
        let (mut chunks, mut bytes) = (terms.waiting_chunks_max, limits.waiting_bytes_max / 2);
        if self.blocking {
            (chunks, bytes) = (chunks / 2 + 1, bytes / 2 + 1);
        }
        self.queue.len() >= chunks.max(1) || self.waiting_bytes >= bytes
    }

    /// Whether a check is due; it counts as begun.
    pub(crate) fn begin_check(&mut self) -> bool {
        let every = self.terms.and_then(|terms| terms.reauthorize_every);
        let Some(every) = every.filter(|_| !self.checking) else {
            return false;
        };
        if self.received - self.checked_at < every.get() {
            return false;
        }
        self.checked_at = self.received;
        self.checking = true;
        true
    }

    pub(crate) fn has_something(&self) -> bool {
        !self.queue.is_empty() || self.ended
    }

    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether it is the client's turn.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.terms.is_some() && !self.has_something()
    }
}
