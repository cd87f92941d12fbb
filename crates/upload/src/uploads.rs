//! The uploads of all connections of one worker.

use core::hash::BuildHasher;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use millstream_core::{ConnId, Key, Millis, RawJson, Slab};

use crate::connections::Connections;
use crate::entry::{Entry, Taken};
use crate::idle::Idle;
use crate::{Budget, Event, Failure, Header, Limits, Reply, Stats, Take, Terms, UploadError};

/// One upload among all of a table. Dead from its reply on, and never another upload's: a handler
/// that ends late cannot touch a newer upload of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UploadKey(Key);

/// A piece of an upload, as a decoder gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The number the client gave the upload.
    pub upload: u32,
    /// Number of the piece, from 0.
    pub number: u32,
    /// Whether it is the last.
    pub last: bool,
    /// Piece 0 has one, the others have none; what breaks this is dropped.
    pub header: Option<RawJson>,
    /// The bytes, a slice of the frame.
    pub payload: Bytes,
}

/// The uploads of all connections of one worker.
///
/// # Calling contract
/// Give every chunk to [`handle_chunk`](Self::handle_chunk), every cancel to
/// [`handle_cancel`](Self::handle_cancel), every close to [`handle_close`](Self::handle_close), and
/// call [`handle_timeout`](Self::handle_timeout) at [`next_deadline`](Self::next_deadline). After
/// each, do what [`poll_event`](Self::poll_event) says until it says nothing. A handler
/// [`take`](Self::take)s chunks when it can; that is what gives room back and lets a paused
/// connection be read on. Its result goes to [`finish`](Self::finish).
///
/// # Cost
/// A chunk O(1): one lookup and a push, no copy, no allocation once the queue has its size. `take`
/// O(1). Opening O(uploads of the connection); closing O(its uploads). 235 bytes for an upload, 32
/// to 64 for each chunk that waits (64 charged), 65 for a connection that ever sent one.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use millstream_core::{ConnId, Millis, RawJson};
/// use millstream_upload::{Budget, Chunk, Event, Limits, Take, Terms, Uploads};
///
/// let mut uploads = Uploads::new(Limits::default(), Arc::new(Budget::default()));
/// let (now, conn) = (Millis::ZERO, ConnId::from_u64(1));
/// let header = RawJson::parse(r#"{"rpc":"files/put","args":["a.txt"]}"#.into())?;
/// let payload = Bytes::from_static(b"hello");
/// let chunk = Chunk { upload: 7, number: 0, last: true, header: Some(header), payload };
/// uploads.handle_chunk(now, conn, chunk);
///
/// let Some(Event::Opened { key, header, .. }) = uploads.poll_event() else { panic!() };
/// assert_eq!(header.path().as_deref(), Some("files/put"));
/// uploads.accept(now, key, Terms::default())?;
/// assert_eq!(uploads.take(now, key), Take::Chunk(Bytes::from_static(b"hello")));
/// assert_eq!(uploads.take(now, key), Take::End);
/// uploads.finish(key, Ok(RawJson::parse("5".into())?));
/// let Some(Event::Reply(reply)) = uploads.poll_event() else { panic!() };
/// assert_eq!((reply.upload, reply.result.unwrap().as_str()), (7, "5"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Uploads {
    limits: Limits,
    budget: Arc<Budget>,
    hasher: DefaultHashBuilder,
    /// By connection and number.
    table: HashTable<Key>,
    entries: Slab<Entry>,
    connections: Connections,
    idle: Idle,
    events: VecDeque<Event>,
    stats: Stats,
}

/// Silent uploads ended by one call.
const TIMEOUTS_STEP: usize = 256;

impl Uploads {
    /// Without uploads. Tables of one process share a budget.
    #[must_use]
    pub fn new(limits: Limits, budget: Arc<Budget>) -> Self {
        Self {
            budget,
            hasher: DefaultHashBuilder::default(),
            table: HashTable::new(),
            entries: Slab::with_limit(limits.uploads_max),
            connections: Connections::default(),
            idle: Idle::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
            limits,
        }
    }

    /// A chunk has come.
    pub fn handle_chunk(&mut self, now: Millis, conn: ConnId, chunk: Chunk) {
        match chunk.header {
            Some(header) if chunk.number == 0 => {
                let header = Header::new(header);
                self.open(conn, chunk.upload, header, chunk.last, chunk.payload);
            }
            None if chunk.number > 0 => self.push(now, conn, chunk),
            _ => self.stats.dropped += 1,
        }
    }

    /// The client gives an upload up.
    pub fn handle_cancel(&mut self, conn: ConnId, upload: u32) {
        match self.find(conn, upload) {
            Some(key) => self.fail(key, UploadError::Cancelled),
            None => self.stats.dropped += 1,
        }
    }

    /// The connection is gone: its handlers are aborted, and nobody gets a reply.
    pub fn handle_close(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.close(conn) else {
            return;
        };
        for key in connection.uploads {
            let Some(entry) = self.remove(key) else {
                continue;
            };
            self.stats.count(UploadError::Disconnected);
            self.abort(key, &entry, UploadError::Disconnected.into());
        }
    }

    /// Takes an upload that was [opened](Event::Opened) on.
    ///
    /// # Errors
    /// What its chunks or its neighbours break of the terms; it has failed with that, and the reply
    /// is among the events. [`UploadError::Over`] if it was over before.
    pub fn accept(&mut self, now: Millis, key: UploadKey, terms: Terms) -> Result<(), UploadError> {
        let key = key.0;
        let Some(entry) = self.entries.get(key).filter(|entry| entry.terms.is_none()) else {
            return Err(UploadError::Over);
        };
        if let Err(error) = self.check(key, entry, &terms) {
            self.fail(key, error);
            return Err(error);
        }
        if let Some(entry) = self.entries.get_mut(key) {
            entry.start(terms, &self.budget);
        }
        self.settle(now, key);
        Ok(())
    }

    /// Fails an upload that was opened, because its function is unknown or not for this client.
    /// Whether it was still there.
    pub fn refuse(&mut self, key: UploadKey, failure: Failure) -> bool {
        self.finish(key, Err(failure))
    }

    /// The handler's next bytes. After [`Take::Wait`] an [`Event::Readable`] tells when to call
    /// again.
    pub fn take(&mut self, now: Millis, key: UploadKey) -> Take {
        let Some(entry) = self.entries.get_mut(key.0) else {
            return Take::Gone;
        };
        if let Some(chunk) = entry.pop(&self.budget) {
            if !entry.has_something() || entry.blocking {
                self.settle(now, key.0);
            }
            return Take::Chunk(chunk);
        }
        if entry.has_ended() {
            return Take::End;
        }
        entry.asleep = true;
        Take::Wait
    }

    /// The handler is done, whether it took everything or not. Whether the upload was still there;
    /// if not, nothing happens.
    pub fn finish(&mut self, key: UploadKey, result: Result<RawJson, Failure>) -> bool {
        let Some(entry) = self.remove(key.0) else {
            return false;
        };
        match result {
            Ok(_) => self.stats.finished += 1,
            Err(_) => self.stats.failed_by_application += 1,
        }
        self.reply(&entry, result);
        true
    }

    /// The answer to [`Event::Reauthorize`]; a failure ends the upload. Whether it was still there.
    pub fn reauthorized(&mut self, key: UploadKey, result: Result<(), Failure>) -> bool {
        let Some(entry) = self.entries.get_mut(key.0) else {
            return false;
        };
        entry.checking = false;
        if let Err(failure) = result
            && let Some(entry) = self.remove(key.0)
        {
            self.stats.failed_by_application += 1;
            self.reply(&entry, Err(failure.clone()));
            self.abort(key.0, &entry, failure);
        }
        true
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let (_, since) = self.idle.first(&self.entries)?;
        Some(since + self.limits.idle_after)
    }

    /// Ends uploads that have been silent for too long, up to 256 with one call.
    pub fn handle_timeout(&mut self, now: Millis) {
        let after = self.limits.idle_after;
        for _ in 0..TIMEOUTS_STEP {
            let due = self.idle.first(&self.entries);
            let Some((key, _)) = due.filter(|(_, since)| *since + after <= now) else {
                return;
            };
            let conn = self.entries.get(key).map(|entry| entry.conn);
            if conn.is_some_and(|conn| self.is_paused(conn)) {
                // Nothing is read from this client for another upload's sake: not its fault.
                self.idle.remove(&mut self.entries, key);
                self.idle.push(&mut self.entries, key, now);
            } else {
                self.fail(key, UploadError::Idle { after });
            }
        }
    }

    /// What to do next, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether a handler of this connection has enough to do.
    #[must_use]
    pub fn is_paused(&self, conn: ConnId) -> bool {
        self.connections.get(conn).is_some_and(|c| c.is_paused())
    }

    /// Where in the whole the upload has got to: what the client has sent and what its handler has
    /// taken.
    #[must_use]
    pub fn progress(&self, key: UploadKey) -> Option<(u64, u64)> {
        let entry = self.entries.get(key.0)?;
        Some((entry.received, entry.taken))
    }

    /// Uploads opened and not over.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Connections that are remembered because they sent an upload and have not closed.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The limits given at construction.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What was counted.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    fn open(&mut self, conn: ConnId, number: u32, header: Header, last: bool, payload: Bytes) {
        let mut entry = Entry::new(conn, number, header.offset());
        if let Err(error) = self.admit(&mut entry, &header, last, payload) {
            entry.release(&self.budget);
            self.stats.count(error);
            self.reply(&entry, Err(error.into()));
            return;
        }
        let Ok(key) = self.entries.insert(entry) else {
            unreachable!("there was room a moment ago");
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        let rehash = |key: &Key| {
            let entry = entries.get(*key);
            entry.map_or(0, |entry| hasher.hash_one((entry.conn, entry.number)))
        };
        let hash = hasher.hash_one((conn, number));
        self.table.insert_unique(hash, key, rehash);
        self.connections.entry(conn).uploads.push(key);
        self.stats.opened += 1;
        self.events.push_back(Event::Opened {
            key: UploadKey(key),
            conn,
            upload: number,
            header,
        });
    }

    /// Whether an upload may begin, and if so its first chunk.
    fn admit(
        &mut self,
        entry: &mut Entry,
        header: &Header,
        last: bool,
        payload: Bytes,
    ) -> Result<(), UploadError> {
        if self.find(entry.conn, entry.number).is_some() {
            return Err(UploadError::NumberInUse);
        }
        let uploads = self
            .connections
            .get(entry.conn)
            .map_or(0, |c| c.uploads.len());
        if uploads >= self.limits.per_connection_max {
            return Err(UploadError::TooManyOnConnection);
        }
        if self.entries.is_full() {
            return Err(UploadError::TooMany);
        }
        if header.path().is_none() {
            return Err(UploadError::MissingPath);
        }
        let bytes = payload.len() as u64;
        entry.push(0, last, payload, &self.limits, &self.budget)?;
        self.stats.chunks += 1;
        self.stats.bytes += bytes;
        Ok(())
    }

    fn push(&mut self, now: Millis, conn: ConnId, chunk: Chunk) {
        let key = self.find(conn, chunk.upload);
        let Some((key, entry)) = key.and_then(|key| Some((key, self.entries.get_mut(key)?))) else {
            self.stats.dropped += 1;
            return;
        };
        let bytes = chunk.payload.len() as u64;
        let (number, last) = (chunk.number, chunk.last);
        match entry.push(number, last, chunk.payload, &self.limits, &self.budget) {
            Ok(Taken::Kept) => {
                self.stats.chunks += 1;
                self.stats.bytes += bytes;
            }
            Ok(Taken::Discarded) => {
                self.stats.dropped += 1;
                return;
            }
            Err(error) => return self.fail(key, error),
        }
        if entry.begin_check() {
            self.stats.reauthorized += 1;
            let key = UploadKey(key);
            self.events.push_back(Event::Reauthorize { key });
        }
        self.settle(now, key);
    }

    /// Whether an upload keeps the terms so far; takes a place among the running if so.
    fn check(&self, key: Key, entry: &Entry, terms: &Terms) -> Result<(), UploadError> {
        let offset = entry.offset.unwrap_or(0);
        if offset != terms.continue_from {
            let at = terms.continue_from;
            return Err(UploadError::WrongOffset { at, offset });
        }
        let before = self
            .connections
            .get(entry.conn)
            .map_or(0, |c| c.before(key));
        if before >= terms.per_connection_max {
            return Err(UploadError::TooManyOnConnection);
        }
        if entry.received > terms.size_max {
            return Err(UploadError::TooLarge);
        }
        if !self.budget.take_running(terms.total_max) {
            return Err(UploadError::TooMany);
        }
        Ok(())
    }

    /// After a change of what waits: wakes the handler, pauses or resumes reading, and notes whose
    /// turn it is.
    fn settle(&mut self, now: Millis, key: Key) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.asleep && entry.has_something() {
            entry.asleep = false;
            let key = UploadKey(key);
            self.events.push_back(Event::Readable { key });
        }
        let block = entry.should_block(&self.limits);
        if block != entry.blocking {
            entry.blocking = block;
            let conn = entry.conn;
            self.block(conn, block);
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        match (entry.waits_for_client(), entry.idle.is_waiting()) {
            (true, _) => {
                self.idle.remove(&mut self.entries, key);
                self.idle.push(&mut self.entries, key, now);
            }
            (false, true) => self.idle.remove(&mut self.entries, key),
            (false, false) => {}
        }
    }

    /// One upload more or less wants reading to pause.
    fn block(&mut self, conn: ConnId, on: bool) {
        if !self.connections.entry(conn).block(on) {
            return;
        }
        if on {
            self.stats.pauses += 1;
            self.events.push_back(Event::PauseReading { conn });
        } else {
            self.events.push_back(Event::ResumeReading { conn });
        }
    }

    #[inline]
    fn find(&self, conn: ConnId, number: u32) -> Option<Key> {
        let hash = self.hasher.hash_one((conn, number));
        let is_it = |key: &Key| {
            let entry = self.entries.get(*key);
            entry.is_some_and(|entry| entry.conn == conn && entry.number == number)
        };
        self.table.find(hash, is_it).copied()
    }

    /// Ends an upload for a reason of the engine's.
    #[cold]
    fn fail(&mut self, key: Key, error: UploadError) {
        let Some(mut entry) = self.remove(key) else {
            return;
        };
        if let UploadError::WrongOffset { at, .. } = error {
            (entry.taken, entry.confirmed) = (at, true);
        }
        self.stats.count(error);
        self.reply(&entry, Err(error.into()));
        self.abort(key, &entry, error.into());
    }

    /// Takes an upload out and gives back all it holds.
    fn remove(&mut self, key: Key) -> Option<Entry> {
        self.idle.remove(&mut self.entries, key);
        let entry = self.entries.get(key)?;
        let hash = self.hasher.hash_one((entry.conn, entry.number));
        if let Ok(found) = self.table.find_entry(hash, |other| *other == key) {
            found.remove();
        }
        let mut entry = self.entries.remove(key)?;
        entry.release(&self.budget);
        // After a close there is no connection any more, and none must come back.
        if self.connections.get(entry.conn).is_some() {
            self.connections.entry(entry.conn).remove(key);
            if entry.blocking {
                self.block(entry.conn, false);
            }
        }
        Some(entry)
    }

    fn reply(&mut self, entry: &Entry, result: Result<RawJson, Failure>) {
        let limit = self.limits.frame_bytes_max;
        let asked = entry.confirmed && entry.offset.is_some();
        let first = limit.is_some() && self.connections.entry(entry.conn).announce();
        self.events.push_back(Event::Reply(Reply {
            conn: entry.conn,
            upload: entry.number,
            frame_bytes_max: limit.filter(|_| first),
            continue_at: (asked && result.is_err()).then_some(entry.taken),
            result,
        }));
    }

    fn abort(&mut self, key: Key, entry: &Entry, failure: Failure) {
        self.events.push_back(Event::Aborted {
            key: UploadKey(key),
            failure,
            taken: entry.taken,
        });
    }
}

impl Drop for Uploads {
    /// Gives back what the uploads hold of the shared budget.
    fn drop(&mut self) {
        for (_, entry) in self.entries.iter_mut() {
            entry.release(&self.budget);
        }
    }
}
