//! An upload as its function sees it: a stream of bytes, and word of its end.

use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use millstream_core::ConnId;
use millstream_upload::{Failure, UploadKey};
use parking_lot::Mutex;

use crate::desk::{Desk, Recheck};
use crate::error::LiveError;

/// The bytes of an upload, in order, in the chunks the client made.
///
/// Taking a chunk is what lets a client that was told to wait go on sending: a function that is
/// slow slows its client down and fails nothing. After the end there is `None`. An upload that
/// fails, is cancelled or loses its connection gives that error, every time from then on; the
/// function's own result reaches nobody any more.
///
/// A `Stream` as well. Chunks are never empty, and slices of the messages they came in.
///
/// ```
/// use millstream_live::{Ctx, LiveError, Module, Upload};
///
/// async fn sum(_: Ctx<(), ()>, mut file: Upload) -> Result<u64, LiveError> {
///     let mut sum = 0;
///     while let Some(chunk) = file.next().await {
///         sum += chunk?.iter().map(|byte| u64::from(*byte)).sum::<u64>();
///     }
///     Ok(sum)
/// }
/// let module: Module<(), ()> = Module::new("files").upload("sum", sum);
/// # let _ = module;
/// ```
pub struct Upload {
    desk: Arc<Desk>,
    slot: Arc<Slot>,
    bytes: u64,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("id", &self.id())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Upload {
    pub(crate) fn new(desk: Arc<Desk>, slot: Arc<Slot>) -> Self {
        Self {
            desk,
            slot,
            bytes: 0,
        }
    }

    /// The number the client gave it, as eight hex digits. Another connection may have an upload
    /// of the same number.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:08x}", self.slot.number)
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next chunk; `None` after the last.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// Why the upload is over: `CANCELLED`, `DISCONNECTED`, `PAYLOAD_TOO_LARGE`,
    /// `INVALID_REQUEST` for chunks that are out of order, `TIMEOUT` after long silence, or what
    /// the guard said when it was asked again.
    pub async fn next(&mut self) -> Option<Result<Bytes, LiveError>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Resolves to the reason when the upload is over before its function; for functions that
    /// do something else than reading. Independent of this value, and of reads under way.
    #[must_use]
    pub fn cancelled(&self) -> Cancelled {
        Cancelled::new(Arc::clone(&self.slot))
    }

    fn poll_chunk(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, LiveError>>> {
        let polled = self.desk.poll_chunk(&self.slot, cx.waker());
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.bytes += chunk.len() as u64;
        }
        polled
    }
}

impl Stream for Upload {
    type Item = Result<Bytes, LiveError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_chunk(cx)
    }
}

/// Resolves when an upload is over before its function, to the reason; see [`Upload::cancelled`].
/// `CANCELLED` with the text "upload is over" when the function has returned meanwhile.
pub struct Cancelled {
    slot: Arc<Slot>,
    id: u64,
}

impl Cancelled {
    fn new(slot: Arc<Slot>) -> Self {
        let id = slot.new_watcher();
        Self { slot, id }
    }
}

impl Clone for Cancelled {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.slot))
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled")
            .field("over", &self.slot.failure().is_some())
            .finish()
    }
}

impl Future for Cancelled {
    type Output = LiveError;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LiveError> {
        self.slot.poll_over(self.id, cx.waker())
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.slot.forget_watcher(self.id);
    }
}

/// What the engine's uploads do not know of one: who waits for it, and how it ended.
pub(crate) struct Slot {
    pub(crate) key: UploadKey,
    pub(crate) conn: ConnId,
    pub(crate) number: u32,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    failure: Option<Failure>,
    reader: Option<Waker>,
    /// One for each [`Cancelled`] that was polled.
    watchers: Vec<(u64, Waker)>,
    watchers_made: u64,
    recheck: Option<Recheck>,
}

impl Slot {
    pub(crate) fn new(key: UploadKey, conn: ConnId, number: u32) -> Self {
        Self {
            key,
            conn,
            number,
            waiting: Mutex::default(),
        }
    }

    /// How to ask again whether the upload is allowed. Forgotten when it is over.
    pub(crate) fn set_recheck(&self, recheck: Recheck) {
        let mut waiting = self.waiting.lock();
        if waiting.failure.is_none() {
            waiting.recheck = Some(recheck);
        }
    }

    pub(crate) fn recheck(&self) -> Option<Recheck> {
        self.waiting.lock().recheck.clone()
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        self.waiting.lock().failure.clone()
    }

    /// The reader waits for a chunk.
    pub(crate) fn wait(&self, reader: &Waker) {
        let mut waiting = self.waiting.lock();
        match &mut waiting.reader {
            Some(waker) => waker.clone_from(reader),
            none => *none = Some(reader.clone()),
        }
    }

    /// There is a chunk.
    pub(crate) fn wake(&self) {
        let reader = self.waiting.lock().reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The upload is over. Wakes everybody.
    pub(crate) fn end(&self, failure: Failure) {
        let (reader, watchers, recheck) = {
            let mut waiting = self.waiting.lock();
            waiting.failure.get_or_insert(failure);
            let watchers = core::mem::take(&mut waiting.watchers);
            // Holds the context, which holds this.
            (waiting.reader.take(), watchers, waiting.recheck.take())
        };
        drop(recheck);
        let watchers = watchers.into_iter().map(|(_, waker)| waker);
        for waker in reader.into_iter().chain(watchers) {
            waker.wake();
        }
    }

    fn new_watcher(&self) -> u64 {
        let mut waiting = self.waiting.lock();
        waiting.watchers_made += 1;
        waiting.watchers_made
    }

    fn forget_watcher(&self, id: u64) {
        let mut waiting = self.waiting.lock();
        waiting.watchers.retain(|(other, _)| *other != id);
    }

    fn poll_over(&self, id: u64, waker: &Waker) -> Poll<LiveError> {
        let mut waiting = self.waiting.lock();
        if let Some(failure) = &waiting.failure {
            return Poll::Ready(error_of(failure));
        }
        match waiting.watchers.iter_mut().find(|(other, _)| *other == id) {
            Some((_, known)) => known.clone_from(waker),
            None => waiting.watchers.push((id, waker.clone())),
        }
        Poll::Pending
    }
}

/// A failure of the engine's as functions see it.
pub(crate) fn error_of(failure: &Failure) -> LiveError {
    LiveError::new(failure.code.clone(), failure.error.clone())
}
