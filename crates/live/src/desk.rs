//! All uploads of a process: the engine's tables, who waits for them, and what goes out.

use core::task::{Poll, Waker};
use core::time::Duration;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use hashbrown::HashMap;
use millstream_core::{ConnId, Millis, RawJson};
use millstream_upload::{
    Budget, Chunk, Event, Failure, Header, Limits, Take, Terms, UploadError, UploadKey, Uploads,
};
use parking_lot::Mutex;

use crate::error::{LiveError, code};
use crate::handler::{BoxFuture, CallResult};
use crate::platform::Platform;
use crate::reply::{Reply, upload_payload};
use crate::upload::{Slot, error_of};

/// Asks a guard again.
pub(crate) type Recheck = Arc<dyn Fn() -> BoxFuture<Result<(), LiveError>> + Send + Sync>;

/// Where replies to uploads travel.
const UPLOAD_TOPIC: &str = "__upload";

/// Tables, by the worker of the connection: no two workers ever wait for each other, and a function
/// that takes a chunk waits at most for one step of its connection's worker.
const TABLES: usize = 32;

/// The uploads of a process.
pub(crate) struct Desk {
    tables: Box<[Mutex<Table>]>,
    platform: Arc<dyn Platform>,
}

struct Table {
    uploads: Uploads,
    slots: HashMap<UploadKey, Arc<Slot>>,
    /// Somebody looks for silent uploads.
    watched: bool,
}

/// What follows from a change, beside what was told to the platform already.
#[derive(Default)]
struct Effects {
    opened: Option<(Arc<Slot>, Header)>,
    rechecks: Vec<Arc<Slot>>,
}

/// Shortest sleep between looks for silent uploads.
const WATCH_EVERY_MIN: Duration = Duration::from_millis(1);

impl Desk {
    pub(crate) fn new(limits: Limits, budget: Budget, platform: Arc<dyn Platform>) -> Self {
        let budget = Arc::new(budget);
        let limits = Limits {
            frame_bytes_max: limits
                .frame_bytes_max
                .or_else(|| platform.frame_bytes_max()),
            ..limits
        };
        let table = || Table {
            uploads: Uploads::new(limits, Arc::clone(&budget)),
            slots: HashMap::new(),
            watched: false,
        };
        Self {
            tables: (0..TABLES).map(|_| Mutex::new(table())).collect(),
            platform,
        }
    }

    fn table(&self, conn: ConnId) -> &Mutex<Table> {
        &self.tables[usize::from(conn.worker()) % TABLES]
    }

    /// Changes a table and does what follows.
    ///
    /// The platform hears of replies and of reading under the lock: that is what keeps a pause and
    /// the end of it in order. It neither waits nor comes back here; see [`Platform`].
    fn change<R>(
        self: &Arc<Self>,
        conn: ConnId,
        own: Option<&CallResult>,
        work: impl FnOnce(&mut Uploads, Millis) -> R,
    ) -> (R, Effects) {
        let now = self.platform.now();
        let mut table = self.table(conn).lock();
        let done = work(&mut table.uploads, now);
        let mut effects = self.settle(&mut table, own);
        drop(table);
        for slot in effects.rechecks.drain(..) {
            self.recheck(slot);
        }
        (done, effects)
    }

    fn settle(&self, table: &mut Table, own: Option<&CallResult>) -> Effects {
        let mut effects = Effects::default();
        while let Some(event) = table.uploads.poll_event() {
            match event {
                Event::Opened {
                    key,
                    conn,
                    upload,
                    header,
                } => {
                    let slot = Arc::new(Slot::new(key, conn, upload));
                    table.slots.insert(key, Arc::clone(&slot));
                    effects.opened = Some((slot, header));
                }
                Event::Readable { key } => {
                    if let Some(slot) = table.slots.get(&key) {
                        slot.wake();
                    }
                }
                Event::Reauthorize { key } => {
                    effects.rechecks.extend(table.slots.get(&key).cloned());
                }
                Event::Aborted { key, failure, .. } => {
                    if let Some(slot) = table.slots.remove(&key) {
                        slot.end(failure);
                    }
                }
                Event::Reply(reply) => {
                    let failed = reply.result.map_err(|failure| error_of(&failure)).map(Some);
                    let result = own.unwrap_or(&failed);
                    let data = upload_payload(result, reply.frame_bytes_max, reply.continue_at);
                    let event = format!("{:08x}", reply.upload);
                    let reply_to = reply.conn;
                    self.platform
                        .reply(reply_to, Reply::new(UPLOAD_TOPIC, &event, data));
                }
                Event::PauseReading { conn } => self.platform.set_reading(conn, false),
                Event::ResumeReading { conn } => self.platform.set_reading(conn, true),
                _ => {}
            }
        }
        effects
    }

    /// The first chunk of an upload: its place and its header, unless it was refused at once.
    pub(crate) fn open(
        self: &Arc<Self>,
        conn: ConnId,
        chunk: Chunk,
    ) -> Option<(Arc<Slot>, Header)> {
        let (_, effects) = self.change(conn, None, |uploads, now| {
            uploads.handle_chunk(now, conn, chunk);
        });
        if effects.opened.is_some() {
            self.watch(conn);
        }
        effects.opened
    }

    /// A further chunk.
    pub(crate) fn push(self: &Arc<Self>, conn: ConnId, chunk: Chunk) {
        self.change(conn, None, |uploads, now| {
            uploads.handle_chunk(now, conn, chunk);
        });
    }

    pub(crate) fn cancel(self: &Arc<Self>, conn: ConnId, number: u32) {
        self.change(conn, None, |uploads, _| uploads.handle_cancel(conn, number));
    }

    pub(crate) fn close(self: &Arc<Self>, conn: ConnId) {
        self.change(conn, None, |uploads, _| uploads.handle_close(conn));
    }

    /// The function is there and has these terms. False when that is refused, or the upload over;
    /// the client has its reply then.
    pub(crate) fn accept(self: &Arc<Self>, slot: &Slot, terms: Terms) -> bool {
        let accept = |uploads: &mut Uploads, now| uploads.accept(now, slot.key, terms).is_ok();
        self.change(slot.conn, None, accept).0
    }

    /// The upload's result. Nothing happens when it was over before.
    pub(crate) fn finish(self: &Arc<Self>, slot: &Slot, result: &CallResult) {
        self.change(slot.conn, Some(result), |uploads, _| {
            let shortened = match result {
                // What the client sees is made from the result itself.
                Ok(_) => Ok(RawJson::NULL),
                Err(error) => Err(Failure::new(error.code().to_owned(), "")),
            };
            uploads.finish(slot.key, shortened);
        });
        self.table(slot.conn).lock().slots.remove(&slot.key);
        slot.end(UploadError::Over.into());
    }

    /// The next chunk for a function.
    pub(crate) fn poll_chunk(
        self: &Arc<Self>,
        slot: &Slot,
        waker: &Waker,
    ) -> Poll<Option<Result<Bytes, LiveError>>> {
        let take = |uploads: &mut Uploads, now| {
            let taken = uploads.take(now, slot.key);
            if taken == Take::Wait {
                slot.wait(waker);
            }
            taken
        };
        match self.change(slot.conn, None, take).0 {
            Take::Chunk(chunk) => Poll::Ready(Some(Ok(chunk))),
            Take::Wait => Poll::Pending,
            Take::End => Poll::Ready(None),
            _ => {
                let failure = slot.failure();
                let failure = failure.unwrap_or_else(|| UploadError::Over.into());
                Poll::Ready(Some(Err(error_of(&failure))))
            }
        }
    }

    /// Asks again, beside the transfer, whether an upload is allowed.
    fn recheck(self: &Arc<Self>, slot: Arc<Slot>) {
        let Some(recheck) = slot.recheck() else {
            // Its function has not started, so its guard has not spoken yet.
            self.rechecked(&slot, Ok(()));
            return;
        };
        let desk = Arc::clone(self);
        self.platform.spawn(Box::pin(async move {
            // Called in here: what it runs belongs to the application.
            let asked = AssertUnwindSafe(async move { recheck().await });
            let panicked = |_| Err(LiveError::internal("a guard panicked"));
            let answer = asked.catch_unwind().await.unwrap_or_else(panicked);
            desk.rechecked(&slot, answer);
        }));
    }

    fn rechecked(self: &Arc<Self>, slot: &Slot, answer: Result<(), LiveError>) {
        let answer = answer
            .map_err(|error| Failure::new(error.code().to_owned(), error.message().to_owned()));
        self.change(slot.conn, None, |uploads, _| {
            uploads.reauthorized(slot.key, answer)
        });
    }

    /// Sees to it that somebody looks for silent uploads while there are any: one task for a
    /// table, which ends with the last upload.
    fn watch(self: &Arc<Self>, conn: ConnId) {
        if core::mem::replace(&mut self.table(conn).lock().watched, true) {
            return;
        }
        let desk = Arc::clone(self);
        self.platform.spawn(Box::pin(async move {
            while let Some(wait) = desk.next_look(conn) {
                desk.platform.sleep(wait).await;
                desk.change(conn, None, |uploads, now| uploads.handle_timeout(now));
            }
        }));
    }

    /// How long until some upload may have been silent for too long; nothing when there is none.
    fn next_look(&self, conn: ConnId) -> Option<Duration> {
        let now = self.platform.now();
        let mut table = self.table(conn).lock();
        if table.uploads.is_empty() {
            table.watched = false;
            return None;
        }
        // An upload that falls silent later is not due before a whole period has passed.
        let wait = match table.uploads.next_deadline() {
            Some(at) => at.saturating_since(now),
            None => table.uploads.limits().idle_after,
        };
        Some(wait.max(WATCH_EVERY_MIN))
    }

    /// What was counted, of all tables.
    pub(crate) fn stats(&self) -> millstream_upload::Stats {
        let mut sum = millstream_upload::Stats::default();
        for table in &self.tables {
            sum += *table.lock().uploads.stats();
        }
        sum
    }

    /// Uploads that are not over.
    pub(crate) fn len(&self) -> usize {
        let tables = self.tables.iter();
        tables.map(|table| table.lock().uploads.len()).sum()
    }
}

/// Finishes an upload whose function is dropped before its end.
pub(crate) struct Unfinished {
    desk: Arc<Desk>,
    slot: Arc<Slot>,
    finished: bool,
}

impl Unfinished {
    pub(crate) fn new(desk: Arc<Desk>, slot: Arc<Slot>) -> Self {
        Self {
            desk,
            slot,
            finished: false,
        }
    }

    pub(crate) fn finish(mut self, result: &CallResult) {
        self.finished = true;
        self.desk.finish(&self.slot, result);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            let gone = LiveError::new(code::INTERNAL_ERROR, "Internal server error");
            self.desk.finish(&self.slot, &Err(gone));
        }
    }
}
