//! Uploads, as svelte-realtime sends them: cut into equal messages, the first of which has the
//! header.

use millstream_core::{ObjectWriter, RawJson, RawJsonRef};
use millstream_wire::{UploadChunk, encode_cancel, encode_chunk};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Client, Waiting};
use super::outcome::{CallError, Outcome, read_reply};
use super::testbed::{CallId, ClientId, Testbed, arguments};
use crate::user::User;

/// Where replies to uploads arrive.
pub(super) const UPLOAD_TOPIC: &str = "__upload";
/// Bytes of a message before the server has said how many it takes.
const FRAME_BYTES: usize = 12_288;
/// Bytes of a message besides header and payload.
const OVERHEAD_BYTES: usize = 12;

/// An upload of a client that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId {
    client: ClientId,
    nth: usize,
    call: CallId,
}

impl From<UploadId> for CallId {
    fn from(upload: UploadId) -> Self {
        upload.call
    }
}

/// What a client knows of its uploads.
pub(super) struct Uploads {
    /// What the test says of the size of messages.
    frame_bytes: Option<usize>,
    /// What the server has said of it.
    frame_bytes_max: Option<usize>,
    started: Vec<Started>,
}

struct Started {
    header: RawJson,
    /// Messages so far.
    sent: u32,
}

impl Uploads {
    pub(super) fn new(frame_bytes: Option<usize>) -> Self {
        Self {
            frame_bytes,
            frame_bytes_max: None,
            started: Vec::new(),
        }
    }

    /// Bytes of payload that fit a message.
    fn payload(&self, header: &RawJson) -> usize {
        let told = self.frame_bytes_max;
        let frame = self.frame_bytes.or(told).unwrap_or(FRAME_BYTES);
        let frame = frame.min(told.unwrap_or(usize::MAX));
        let used = OVERHEAD_BYTES + header.as_bytes().len();
        frame.saturating_sub(used).max(1)
    }
}

/// Numbers count from 1.
fn number(nth: usize) -> u32 {
    u32::try_from(nth + 1).expect("fewer uploads")
}

/// The name under which a client waits for the reply.
fn name(number: u32) -> String {
    format!("{number:08x}")
}

impl<U> Client<U> {
    fn start_upload(&mut self, path: &str, args: RawJsonRef<'_>) -> (usize, usize) {
        let mut header = ObjectWriter::new();
        header.text("rpc", path).raw("args", args);
        let header = header.finish();
        let nth = self.uploads.started.len();
        self.uploads.started.push(Started { header, sent: 0 });
        (nth, self.await_reply(name(number(nth))))
    }

    fn send_chunk(&mut self, nth: usize, payload: &[u8], last: bool) {
        let upload = &mut self.uploads.started[nth];
        let header = (upload.sent == 0).then_some(upload.header.get());
        let chunk = UploadChunk {
            upload: number(nth),
            number: upload.sent,
            last,
            header,
            payload,
        };
        let mut frame = Vec::new();
        encode_chunk(&mut frame, &chunk).expect("a header below 64 KiB");
        upload.sent += 1;
        self.send_binary(&frame);
    }

    /// Tells the server, and fails the upload if it has no reply.
    fn cancel_upload(&mut self, nth: usize) {
        let mut frame = Vec::new();
        encode_cancel(&mut frame, number(nth));
        self.send_binary(&frame);
        if let Some(Waiting::Call(call)) = self.waiting.remove(&name(number(nth))) {
            self.calls[call] = Some(Err(CallError::cancelled()));
        }
    }

    pub(super) fn upload_reply(&mut self, number: &str, payload: &RawJson) {
        let told = payload.get().field("__cap").and_then(|cap| cap.as_u64());
        if let Some(bytes) = told.and_then(|bytes| usize::try_from(bytes).ok()) {
            self.uploads.frame_bytes_max = Some(bytes);
        }
        if let Some(Waiting::Call(call)) = self.waiting.remove(number) {
            self.calls[call] = Some(read_reply(payload));
        }
    }
}

impl<S: Send + Sync + 'static, U: User> Testbed<S, U> {
    /// Uploads bytes to a function and lets time pass until it has answered. The size of the
    /// messages is [`Settings::upload_frame_bytes`](super::Settings::upload_frame_bytes).
    ///
    /// ```
    /// use millstream_live::testing::Testbed;
    /// use millstream_live::{App, Ctx, LiveError, Module, Upload};
    /// use serde_json::json;
    ///
    /// type Cx = Ctx<(), ()>;
    ///
    /// async fn count(_: Cx, mut file: Upload, name: String) -> Result<String, LiveError> {
    ///     while let Some(chunk) = file.next().await {
    ///         chunk?;
    ///     }
    ///     Ok(format!("{name}: {}", file.bytes()))
    /// }
    /// let app = App::new(()).module(Module::new("files").upload("count", count)).build()?;
    /// let mut t = Testbed::new(app);
    /// let ada = t.connect(());
    /// let counted = t.upload(ada, "files/count", ["a.txt"], &[7; 100_000]);
    /// assert_eq!(counted, Ok(json!("a.txt: 100000")));
    ///
    /// // Piece by piece, and given up.
    /// let upload = t.start_upload(ada, "files/count", ["b.txt"]);
    /// t.send_chunk(upload, b"begun");
    /// t.cancel(upload);
    /// assert_eq!(t.wait(upload).unwrap_err().code, "CANCELLED");
    /// # Ok::<(), millstream_live::RegistrationErrors>(())
    /// ```
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn upload(
        &mut self,
        client: ClientId,
        path: &str,
        args: impl Serialize,
        bytes: &[u8],
    ) -> Outcome {
        let upload = self.start_upload(client, path, args);
        let uploads = &self.clients[client.0].uploads;
        let size = uploads.payload(&uploads.started[upload.nth].header);
        let mut chunks = bytes.chunks(size);
        let mut chunk = chunks.next().unwrap_or_default();
        // Without time passing: a client writes for as long as its connection takes it.
        for next in chunks {
            self.clients[client.0].send_chunk(upload.nth, chunk, false);
            chunk = next;
        }
        self.send_last_chunk(upload, chunk);
        self.wait(upload)
    }

    /// Uploads bytes to a function whose result is of a known type.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Panics
    /// When the result is of another type.
    pub fn upload_as<T: DeserializeOwned>(
        &mut self,
        client: ClientId,
        path: &str,
        args: impl Serialize,
        bytes: &[u8],
    ) -> Result<T, CallError> {
        let value = self.upload(client, path, args, bytes)?;
        Ok(super::calls::typed(path, value))
    }

    /// Begins an upload of which the test sends the pieces. The server hears of it with the first.
    pub fn start_upload(&mut self, client: ClientId, path: &str, args: impl Serialize) -> UploadId {
        let args = arguments(&args);
        self.note(format_args!(
            "client {} uploads to {path} {}",
            client.0,
            args.as_str()
        ));
        let (nth, call) = self.clients[client.0].start_upload(path, args.get());
        UploadId {
            client,
            nth,
            call: CallId {
                client: client.0,
                call,
            },
        }
    }

    /// Sends the next piece of an upload, as large as it is.
    pub fn send_chunk(&mut self, upload: UploadId, bytes: &[u8]) {
        self.chunk(upload, bytes, false);
    }

    /// Sends the last piece of an upload, which may be empty.
    pub fn send_last_chunk(&mut self, upload: UploadId, bytes: &[u8]) {
        self.chunk(upload, bytes, true);
    }

    fn chunk(&mut self, upload: UploadId, bytes: &[u8], last: bool) {
        let client = upload.client.0;
        self.note(format_args!(
            "client {client} sends {} bytes of an upload",
            bytes.len()
        ));
        self.clients[client].send_chunk(upload.nth, bytes, last);
        self.write(client);
        self.after();
    }

    /// Gives an upload up. Its outcome is `CANCELLED`, unless it has one.
    pub fn cancel(&mut self, upload: UploadId) {
        let client = upload.client.0;
        self.note(format_args!("client {client} cancels an upload"));
        self.clients[client].cancel_upload(upload.nth);
        self.write(client);
        self.after();
    }

    /// Whether the server reads nothing from a client, because an upload's function is behind.
    #[must_use]
    pub fn is_paused(&self, client: ClientId) -> bool {
        let conn = self.clients[client.0].conn;
        conn.is_some_and(|conn| self.host.is_reading_paused(conn))
    }
}
