//! What one turn of a worker produces, before it is written.
//!
//! A topic collects its events once for its whole audience in *lanes*; a connection collects
//! what is meant for it alone. Everything carries the *stamp* of the moment it was produced, so
//! that a connection that gets both sees them in that order. Neighbouring output of one source
//! shares a stamp and therefore leaves as one piece.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::backlog::Audience;

/// A topic's output of this turn.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// For connections without and with the `batch` capability.
    pub(crate) lanes: [Lane; 2],
}

/// A topic's output of this turn for one kind of connection.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    buf: Vec<u8>,
    /// `buf` after the first connection had to keep a reference to it.
    shared: Option<Bytes>,
    pub(crate) chunks: Vec<Chunk>,
    /// Keys of the chunks that have one.
    pub(crate) keys: Vec<ChunkKey>,
}

/// What an event replaces for connections that are behind.
#[derive(Debug, Clone)]
pub(crate) enum ChunkKey {
    /// Everything of its topic.
    All,
    /// What has this key.
    Same(Arc<str>),
}

/// A run of events without anything of another source between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk {
    pub(crate) stamp: u32,
    /// End of the run in the lane's bytes; it begins where the one before ended.
    pub(crate) end: u32,
    /// Events, for the counters.
    pub(crate) frames: u32,
    pub(crate) volatile: bool,
    /// Index into the lane's keys, or `Chunk::NO_KEY`. A chunk with a key is one event.
    pub(crate) key: u32,
}

impl Chunk {
    pub(crate) const NO_KEY: u32 = u32::MAX;
}

impl Lane {
    /// Appends what `encode` writes; `fresh` starts a new chunk. Gives the number of bytes.
    pub(crate) fn append(
        &mut self,
        stamp: u32,
        volatile: bool,
        frames: u32,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        debug_assert!(
            self.shared.is_none(),
            "a lane is shared only while it is flushed"
        );
        let before = self.buf.len();
        encode(&mut self.buf);
        let end = u32::try_from(self.buf.len()).unwrap_or(u32::MAX);
        match self.chunks.last_mut() {
            Some(last)
                if last.stamp == stamp
                    && last.volatile == volatile
                    && last.key == Chunk::NO_KEY =>
            {
                last.end = end;
                last.frames += frames;
            }
            _ => self.chunks.push(Chunk {
                stamp,
                end,
                frames,
                volatile,
                key: Chunk::NO_KEY,
            }),
        }
        self.buf.len() - before
    }

    /// Appends an event that replaces others for connections that are behind.
    pub(crate) fn append_keyed(
        &mut self,
        stamp: u32,
        key: ChunkKey,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let before = self.buf.len();
        encode(&mut self.buf);
        self.chunks.push(Chunk {
            stamp,
            end: u32::try_from(self.buf.len()).unwrap_or(u32::MAX),
            frames: 1,
            volatile: false,
            key: u32::try_from(self.keys.len()).unwrap_or(Chunk::NO_KEY),
        });
        self.keys.push(key);
        self.buf.len() - before
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Events in it.
    pub(crate) fn frames(&self) -> u64 {
        let frames = self.chunks.iter().map(|chunk| u64::from(chunk.frames));
        frames.sum()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.shared.as_ref().map_or(&self.buf[..], |shared| shared)
    }

    /// Bytes of a run of chunks.
    pub(crate) fn range(&self, from: usize, to: usize) -> core::ops::Range<usize> {
        let start = from
            .checked_sub(1)
            .and_then(|before| self.chunks.get(before));
        let end = to.checked_sub(1).and_then(|last| self.chunks.get(last));
        let (start, end) = (start.map_or(0, |c| c.end), end.map_or(0, |c| c.end));
        start as usize..end as usize
    }

    /// A reference to part of the bytes that outlives the turn. A short part of a long lane is
    /// copied, so that a few bytes do not keep many alive.
    pub(crate) fn keep(&mut self, range: core::ops::Range<usize>) -> Bytes {
        if range.len() <= COPY_MAX && range.len() * 2 < self.len() {
            return Bytes::copy_from_slice(self.bytes().get(range).unwrap_or_default());
        }
        let buf = &mut self.buf;
        self.shared
            .get_or_insert_with(|| Bytes::from(core::mem::take(buf)))
            .slice(range)
    }

    /// Lends the lane a buffer from the pool when it has none.
    pub(crate) fn lend(&mut self, pool: &mut Vec<Vec<u8>>) {
        if self.buf.capacity() == 0
            && let Some(buf) = pool.pop()
        {
            self.buf = buf;
        }
    }

    /// Ends the turn: empties the lane and gives its buffer back.
    pub(crate) fn finish(&mut self, pool: &mut Vec<Vec<u8>>) {
        if self.chunks.is_empty() {
            return;
        }
        self.chunks.clear();
        self.chunks.shrink_to(CHUNKS_KEPT);
        self.keys = Vec::new();
        self.shared = None;
        let mut buf = core::mem::take(&mut self.buf);
        if buf.capacity() > 0 && buf.capacity() <= POOLED_BYTES_MAX && pool.len() < POOL_MAX {
            buf.clear();
            pool.push(buf);
        }
    }
}

/// What one connection alone gets in this turn, and where it joined or left topics in it.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Slab index of the connection.
    pub(crate) conn: u32,
    pub(crate) direct: SmallVec<[Direct; 2]>,
    pub(crate) shared: Vec<Shared>,
    pub(crate) spans: Vec<Span>,
}

/// Frames for one connection, as a range of the hub's arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Direct {
    pub(crate) stamp: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A frame built once for a group of connections.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) stamp: u32,
    pub(crate) bytes: Bytes,
    pub(crate) topics: Audience,
}

impl Shared {
    pub(crate) fn frames(&self) -> u32 {
        self.topics.iter().map(|(_, frames)| frames).sum()
    }
}

/// The part of a lane a connection gets when it did not hold the topic for the whole turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Index of the topic in its hub.
    pub(crate) topic: u32,
    pub(crate) lane: u8,
    /// First chunk.
    pub(crate) from: u32,
    /// Chunk behind the last; `OPEN` while the connection holds the topic.
    pub(crate) to: u32,
}

impl Span {
    pub(crate) const OPEN: u32 = u32::MAX;
}

impl Turn {
    pub(crate) fn reset(&mut self, conn: u32) {
        self.conn = conn;
        self.direct.clear();
        self.shared.clear();
        self.spans.clear();
    }

    pub(crate) fn bytes(&self) -> usize {
        let direct: usize = self
            .direct
            .iter()
            .map(|part| (part.end - part.start) as usize)
            .sum();
        direct
            + self
                .shared
                .iter()
                .map(|part| part.bytes.len())
                .sum::<usize>()
    }
}

/// Up to this length a remainder is copied rather than kept as a reference.
const COPY_MAX: usize = 512;
/// Buffers kept for the next turn, and the largest one worth keeping.
const POOL_MAX: usize = 64;
const POOLED_BYTES_MAX: usize = 256 * 1024;
const CHUNKS_KEPT: usize = 16;
