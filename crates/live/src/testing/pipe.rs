//! The bytes under way between a client and a worker.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;

use millstream_core::{Key, Millis, Random, SeededRandom};
use millstream_hub::{Sink, Wrote};
use millstream_wire::{Decoder, Role};

/// One direction: bytes in the order in which they were sent, each piece with the time at which
/// it arrives.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pieces: VecDeque<(Millis, Vec<u8>)>,
    bytes: usize,
}

impl Lane {
    /// Bytes under way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a piece that arrives at `at`, but never before those in front of it.
    fn push(&mut self, at: Millis, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        match self.pieces.back_mut() {
            Some((last, piece)) if *last >= at => piece.extend_from_slice(bytes),
            _ => self.pieces.push_back((at, bytes.to_vec())),
        }
    }

    /// The next piece that has arrived.
    pub(super) fn pop(&mut self, now: Millis) -> Option<Vec<u8>> {
        if self.pieces.front()?.0 > now {
            return None;
        }
        let (_, piece) = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }

    /// Loses all but the first pieces.
    pub(super) fn truncate(&mut self, kept: usize) {
        self.pieces.truncate(kept);
        self.bytes = self.pieces.iter().map(|(_, piece)| piece.len()).sum();
    }

    pub(super) fn next_arrival(&self) -> Option<Millis> {
        self.pieces.front().map(|(at, _)| *at)
    }
}

/// A connection as TCP sees it.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) up: Lane,
    pub(super) down: Lane,
    /// Bytes that fit between the server's writes and the client's reads.
    pub(super) room: usize,
    /// The client reads.
    pub(super) reading: bool,
    /// The connection is cut; the server finds out at that time.
    pub(super) cut_at: Option<Millis>,
    /// What the server has not decoded yet.
    pub(super) decoder: Decoder,
    /// The server has said that it closes, and reads no further.
    pub(super) deaf: bool,
    /// The server reads nothing for now.
    pub(super) paused: bool,
    /// What the server has read and not looked at.
    pub(super) kept: Vec<u8>,
}

impl Pipe {
    fn new(room: usize) -> Self {
        Self {
            up: Lane::default(),
            down: Lane::default(),
            room,
            reading: true,
            cut_at: None,
            decoder: Decoder::new(Role::Server),
            deaf: false,
            paused: false,
            kept: Vec::new(),
        }
    }

    /// Whether the server has found out that the connection is cut.
    pub(super) fn has_ended(&self, now: Millis) -> bool {
        self.cut_at.is_some_and(|at| at <= now)
    }

    /// Whether nothing is to be read or handled. The end of a connection ends a pause.
    pub(super) fn is_paused(&self, now: Millis) -> bool {
        self.paused && !self.has_ended(now)
    }

    /// The next bytes for the server: what it has kept aside, then what has arrived.
    pub(super) fn read(&mut self, now: Millis) -> Option<Vec<u8>> {
        if self.is_paused(now) {
            return None;
        }
        let kept = core::mem::take(&mut self.kept);
        if kept.is_empty() {
            self.up.pop(now)
        } else {
            Some(kept)
        }
    }

    /// Whether the server has anything to read, or to notice.
    pub(super) fn has_arrived(&self, now: Millis) -> bool {
        let bytes = !self.kept.is_empty() || self.up.next_arrival().is_some_and(|at| at <= now);
        self.has_ended(now) || (bytes && !self.paused)
    }

    /// Bytes on their way to the server that it will handle without anything else happening.
    pub(super) fn is_sending(&self) -> bool {
        !self.paused && (self.up.bytes() > 0 || !self.kept.is_empty())
    }
}

/// The connections of one worker.
pub(super) struct Pipes {
    pipes: BTreeMap<u64, Pipe>,
    pub(super) now: Millis,
    /// Longest time a piece is under way.
    pub(super) latency: Duration,
    pub(super) random: SeededRandom,
}

impl Pipes {
    pub(super) fn new(latency: Duration, random: SeededRandom) -> Self {
        Self {
            pipes: BTreeMap::new(),
            now: Millis::ZERO,
            latency,
            random,
        }
    }

    pub(super) fn open(&mut self, key: Key, room: usize) {
        self.pipes.insert(key.to_u64(), Pipe::new(room));
    }

    pub(super) fn close(&mut self, key: Key) -> Option<Pipe> {
        self.pipes.remove(&key.to_u64())
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Pipe> {
        self.pipes.get_mut(&key.to_u64())
    }

    pub(super) fn is_paused(&self, key: Key) -> bool {
        let pipe = self.pipes.get(&key.to_u64());
        pipe.is_some_and(|pipe| pipe.is_paused(self.now))
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.pipes.keys().map(|key| Key::from_u64(*key)).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pipe> {
        self.pipes.values()
    }

    /// When something sent now arrives.
    pub(super) fn arrival(&mut self) -> Millis {
        let millis = u64::try_from(self.latency.as_millis()).unwrap_or(u64::MAX);
        let delay = if millis == 0 {
            0
        } else {
            self.random.below(millis.saturating_add(1))
        };
        self.now.saturating_add(Duration::from_millis(delay))
    }

    /// What a client writes.
    pub(super) fn send_up(&mut self, key: Key, bytes: &[u8]) {
        let at = self.arrival();
        if let Some(pipe) = self.get(key).filter(|pipe| pipe.cut_at.is_none()) {
            pipe.up.push(at, bytes);
        }
    }

    /// When the next thing happens by itself.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let read = self.iter().filter(|pipe| !pipe.paused);
        let ups = read.filter_map(|pipe| pipe.up.next_arrival());
        let readers = self.iter().filter(|pipe| pipe.reading);
        let downs = readers.filter_map(|pipe| pipe.down.next_arrival());
        let cuts = self.iter().filter_map(|pipe| pipe.cut_at);
        ups.chain(downs).chain(cuts).min()
    }
}

impl Sink for Pipes {
    fn send(&mut self, conn: Key, bytes: &[u8]) -> Wrote {
        let at = self.arrival();
        let Some(pipe) = self.get(conn) else {
            return Wrote::Failed;
        };
        let room = pipe.room.saturating_sub(pipe.down.bytes());
        let taken = bytes.get(..room).unwrap_or(bytes);
        if pipe.cut_at.is_none() {
            pipe.down.push(at, taken);
        }
        Wrote::Bytes(taken.len())
    }

    fn send_vectored(&mut self, conn: Key, parts: &[IoSlice<'_>]) -> Wrote {
        let mut total = 0;
        for part in parts {
            match self.send(conn, part) {
                Wrote::Bytes(count) => total += count,
                Wrote::Failed => return Wrote::Failed,
            }
            if self
                .get(conn)
                .is_some_and(|pipe| pipe.down.bytes() >= pipe.room)
            {
                break;
            }
        }
        Wrote::Bytes(total)
    }
}
