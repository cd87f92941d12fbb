//! Messages that begin with a byte below any text: calls with bytes, and pieces of uploads.

use core::future::{Future, ready};
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::ConnId;
use millstream_upload::{Chunk, Header, Stats};
use millstream_wire::{BinaryCall as Frame, BinaryFrame, UploadChunk, is_call_path};
use parking_lot::Mutex;

use crate::app::Entry;
use crate::args::Args;
use crate::ctx::{Brought, Ctx, CtxPath};
use crate::desk::Unfinished;
use crate::error::{LiveError, code};
use crate::handler::{BoxFuture, CallResult};
use crate::input::Input;
use crate::layer::Outcome;
use crate::module::Kind;
use crate::pipeline::{Live, Request, ask_guard, execute};
use crate::platform::Caller;
use crate::reply::{Reply, binary_payload};
use crate::upload::{Slot, Upload};
use crate::user::User;

/// All was done. Takes no memory, boxed or not.
struct Done;

impl Future for Done {
    type Output = Option<Reply>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Reply>> {
        Poll::Ready(None)
    }
}

impl<S: Send + Sync + 'static, U: User> Live<S, U> {
    /// What became of the uploads so far.
    #[must_use]
    pub fn upload_stats(&self) -> Stats {
        self.engine.uploads.stats()
    }

    /// Uploads that are not over.
    #[must_use]
    pub fn uploads(&self) -> usize {
        self.engine.uploads.len()
    }

    /// Takes a binary frame. With `refused`, whatever would begin fails with that.
    pub(crate) fn binary_frame(
        &self,
        caller: &Caller<U>,
        frame: BinaryFrame<'_>,
        refused: Option<LiveError>,
    ) -> BoxFuture<Option<Reply>> {
        match (frame, caller.conn) {
            (BinaryFrame::Call(call), _) => self.binary_call(caller, &call, refused),
            (BinaryFrame::Chunk(chunk), Some(conn)) => {
                self.upload_chunk(caller, conn, &chunk, refused)
            }
            (BinaryFrame::Cancel { upload }, Some(conn)) => {
                self.engine.uploads.cancel(conn, upload);
                Box::pin(Done)
            }
            _ => Box::pin(Done),
        }
    }

    /// Everything up to the size is checked before the payload is copied.
    fn binary_call(
        &self,
        caller: &Caller<U>,
        call: &Frame<'_>,
        refused: Option<LiveError>,
    ) -> BoxFuture<Option<Reply>> {
        let checked = match refused {
            Some(error) => Err(error),
            None => self.check_binary(call),
        };
        let event = call.id.to_cow().into_owned();
        let (entry, args) = match checked {
            Ok(checked) => checked,
            Err(error) => {
                let data = binary_payload(event.len(), &Err(error));
                return Box::pin(ready(Some(Reply::to_call(&event, data))));
            }
        };
        let payload = Input::Bytes(Bytes::copy_from_slice(call.payload));
        let request = Request {
            ctx: self.context(caller.clone(), &entry, payload),
            entry,
            args,
            resume: None,
        };
        Box::pin(async move {
            let result = execute(Ok(request)).await;
            let data = binary_payload(event.len(), &result);
            Some(Reply::to_call(&event, data))
        })
    }

    fn context(&self, caller: Caller<U>, entry: &Entry<S, U>, input: Input) -> Ctx<S, U> {
        let brought = Box::new(Brought {
            input,
            ..Brought::default()
        });
        let path = CtxPath::Called(entry.number);
        Ctx::new(self.origin(caller), path, Some(brought))
    }

    fn check_binary(&self, call: &Frame<'_>) -> Result<(Arc<Entry<S, U>>, Args), LiveError> {
        let path = call.path.to_cow();
        if !is_call_path(&path) {
            return Err(invalid("Invalid path"));
        }
        let args = match call.args {
            None => Args::NONE,
            Some(list) if list.is_array() => Args::from_list(list),
            Some(_) => return Err(invalid("args must be an array")),
        };
        let entry = self.engine.app.entry(&path).ok_or_else(not_found)?;
        let Kind::Binary(binary) = &*entry.kind else {
            return Err(invalid("Not a binary endpoint"));
        };
        if call.payload.len() > binary.size_max {
            return Err(LiveError::new(
                code::PAYLOAD_TOO_LARGE,
                "Binary payload exceeds size limit",
            ));
        }
        Ok((Arc::clone(entry), args))
    }

    /// The first chunk gives a future that runs the upload's function; the others are handed over
    /// at once.
    fn upload_chunk(
        &self,
        caller: &Caller<U>,
        conn: ConnId,
        chunk: &UploadChunk<'_>,
        refused: Option<LiveError>,
    ) -> BoxFuture<Option<Reply>> {
        let desk = &self.engine.uploads;
        let owned = Chunk {
            upload: chunk.upload,
            number: chunk.number,
            last: chunk.last,
            header: chunk.header.map(|header| header.to_owned()),
            payload: Bytes::copy_from_slice(chunk.payload),
        };
        if chunk.number > 0 {
            desk.push(conn, owned);
            return Box::pin(Done);
        }
        let Some((slot, header)) = desk.open(conn, owned) else {
            return Box::pin(Done);
        };
        let upload = Unfinished::new(Arc::clone(desk), Arc::clone(&slot));
        if let Some(error) = refused {
            upload.finish(&Err(error));
            return Box::pin(Done);
        }
        let (live, caller) = (self.clone(), caller.clone());
        Box::pin(async move {
            let result = live.run_upload(caller, slot, &header).await;
            upload.finish(&result);
            None
        })
    }

    /// Looks the function up, takes the upload on its terms, and runs it.
    async fn run_upload(&self, caller: Caller<U>, slot: Arc<Slot>, header: &Header) -> CallResult {
        let path = header.path().unwrap_or_default();
        if !is_call_path(&path) {
            return Err(invalid("Invalid path"));
        }
        let entry = self.engine.app.entry(&path).ok_or_else(not_found)?;
        let Kind::Upload(function) = &*entry.kind else {
            return Err(invalid("Not an upload endpoint"));
        };
        let desk = &self.engine.uploads;
        let upload = Upload::new(Arc::clone(desk), Arc::clone(&slot));
        let ctx = self.context(caller, entry, Input::Upload(Mutex::new(Some(upload))));
        if function.terms.reauthorize_every.is_some() {
            slot.set_recheck(recheck(entry, &ctx));
        }
        if !desk.accept(&slot, function.terms) {
            // The client has its reply.
            return Ok(None);
        }
        let args = header.args();
        let args = args.map_or(Args::NONE, |list| Args::from_list(list.get()));
        let request = Request {
            ctx,
            entry: Arc::clone(entry),
            args,
            resume: None,
        };
        match execute(Ok(request)).await? {
            Outcome::Value(value) => Ok(value),
            Outcome::Stream(_) => Err(LiveError::internal("a layer made a stream of an upload")),
        }
    }
}

/// Asks the module's guard in the name of the same caller.
fn recheck<S: Send + Sync + 'static, U: User>(
    entry: &Entry<S, U>,
    ctx: &Ctx<S, U>,
) -> crate::desk::Recheck {
    let (guard, ctx) = (Arc::clone(&entry.guard), ctx.clone());
    Arc::new(move || {
        let (guard, ctx) = (Arc::clone(&guard), ctx.clone());
        Box::pin(async move {
            let answer = ask_guard(&guard, &ctx).await;
            if let Err(error) = &answer
                && !error.is_typed()
            {
                ctx.report(error);
            }
            answer
        })
    })
}

fn invalid(reason: &'static str) -> LiveError {
    LiveError::new(code::INVALID_REQUEST, reason)
}

fn not_found() -> LiveError {
    LiveError::new(code::NOT_FOUND, "Not found")
}
