//! The functions the frames call, and the loop around them.

use core::num::NonZeroU64;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{ConnId, Millis, RawJson};
use millstream_upload::{
    Budget, Chunk, Event, Failure, Limits, Reply, Take, Terms, UploadKey, Uploads,
};
use millstream_wire::{BinaryCall, BinaryFrame, encode_chunk, recognise_binary};
use serde_json::{Value, json};

use super::describe::hex;

const CONN: ConnId = ConnId::from_u64(1);
const FRAME_BYTES_MAX: u32 = 65_536;
const SLOW_MS: u64 = 40;
const PUT_BYTES_MAX: usize = 8;

/// One connection to a server that has the functions of the vectors.
pub(crate) struct Server {
    uploads: Uploads,
    now: u64,
    handlers: Vec<Handler>,
    /// Frames that are not read while a handler has enough to do.
    unread: VecDeque<Bytes>,
    permission_revoked: bool,
    replies: Vec<Value>,
}

/// An upload's function at work.
struct Handler {
    key: UploadKey,
    path: String,
    args: Value,
    upload: u32,
    bytes: usize,
    reads_from: u64,
}

impl Server {
    pub(crate) fn new(announced: bool) -> Self {
        let limits = Limits {
            frame_bytes_max: Some(FRAME_BYTES_MAX),
            ..Limits::default()
        };
        let mut server = Self {
            uploads: Uploads::new(limits, Arc::new(Budget::default())),
            now: 0,
            handlers: Vec::new(),
            unread: VecDeque::new(),
            permission_revoked: false,
            replies: Vec::new(),
        };
        if announced {
            let header = br#"{"rpc":"files/early"}"#;
            let header = millstream_core::RawJsonRef::parse(header).expect("JSON");
            let mut frame = Vec::new();
            let chunk = millstream_wire::UploadChunk {
                upload: 0,
                number: 0,
                last: true,
                header: Some(header),
                payload: b"",
            };
            encode_chunk(&mut frame, &chunk).expect("a short header");
            server.receive(frame.into());
            server.wait(1);
            server.replies.clear();
        }
        server
    }

    /// A frame arrives. Nothing but the taking in happens before the turn ends.
    pub(crate) fn receive(&mut self, frame: Bytes) {
        if self.uploads.is_paused(CONN) || !self.unread.is_empty() {
            self.unread.push_back(frame);
            return;
        }
        let now = Millis::from_millis(self.now);
        match recognise_binary(&frame) {
            Some(BinaryFrame::Call(call)) => self.call(&call),
            Some(BinaryFrame::Chunk(chunk)) => {
                let header = chunk.header.map(|header| {
                    let shared = frame.slice_ref(header.as_str().as_bytes());
                    RawJson::parse(shared).expect("checked by the decoder")
                });
                let chunk = Chunk {
                    upload: chunk.upload,
                    number: chunk.number,
                    last: chunk.last,
                    header,
                    payload: frame.slice_ref(chunk.payload),
                };
                self.uploads.handle_chunk(now, CONN, chunk);
            }
            Some(BinaryFrame::Cancel { upload }) => self.uploads.handle_cancel(CONN, upload),
            _ => {}
        }
    }

    /// Ends the turn and lets time pass.
    pub(crate) fn wait(&mut self, ms: u64) {
        let until = self.now + ms;
        self.turn();
        loop {
            let wakes = self.handlers.iter().map(|handler| handler.reads_from);
            let deadline = self.uploads.next_deadline().map(Millis::as_millis);
            let next = wakes.chain(deadline).filter(|at| *at > self.now).min();
            let Some(at) = next.filter(|at| *at <= until) else {
                break;
            };
            self.now = at;
            self.uploads.handle_timeout(Millis::from_millis(at));
            self.turn();
        }
        self.now = until;
        self.turn();
    }

    pub(crate) fn close(&mut self) {
        self.uploads.handle_close(CONN);
        self.turn();
    }

    pub(crate) fn toggle_permission(&mut self) {
        self.permission_revoked = !self.permission_revoked;
    }

    pub(crate) fn into_replies(self) -> Vec<Value> {
        self.replies
    }

    fn turn(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(event) = self.uploads.poll_event() {
                quiet = false;
                self.perform(event);
            }
            for index in 0..self.handlers.len() {
                quiet &= !self.run(index);
            }
            self.handlers
                .retain(|handler| self.uploads.progress(handler.key).is_some());
            while !self.uploads.is_paused(CONN)
                && let Some(frame) = self.unread.pop_front()
            {
                quiet = false;
                let rest = core::mem::take(&mut self.unread);
                self.receive(frame);
                self.unread.extend(rest);
            }
            if quiet {
                return;
            }
        }
    }

    fn perform(&mut self, event: Event) {
        match event {
            Event::Opened {
                key,
                upload,
                header,
                ..
            } => {
                let path = header.path().unwrap_or_default().into_owned();
                let args = header.args().map_or_else(|| json!([]), |args| value(&args));
                self.start(key, upload, path, args);
            }
            Event::Reauthorize { key } => {
                let verdict = self.guard();
                self.uploads.reauthorized(key, verdict);
            }
            Event::Reply(reply) => self.note(&reply),
            _ => {}
        }
    }

    fn start(&mut self, key: UploadKey, upload: u32, path: String, args: Value) {
        let terms = match upload_terms(&path) {
            Ok(terms) => terms,
            Err(failure) => {
                self.uploads.refuse(key, failure);
                return;
            }
        };
        let now = Millis::from_millis(self.now);
        if self.uploads.accept(now, key, terms).is_err() {
            return;
        }
        if path == "members/up"
            && let Err(failure) = self.guard()
        {
            self.uploads.refuse(key, failure);
            return;
        }
        let waits = if path == "files/slow" { SLOW_MS } else { 0 };
        self.handlers.push(Handler {
            key,
            path,
            args,
            upload,
            bytes: 0,
            reads_from: self.now + waits,
        });
    }

    /// Lets a function go on as far as it can. Whether it did anything.
    fn run(&mut self, index: usize) -> bool {
        let now = Millis::from_millis(self.now);
        let handler = &mut self.handlers[index];
        let result = match handler.path.as_str() {
            "files/early" => Ok(json!("early")),
            "files/upFail" => Err(Failure::new("NOPE", "no")),
            "files/upCrash" => Err(crash()),
            _ if handler.reads_from > self.now => return false,
            path => {
                let mut moved = false;
                loop {
                    match self.uploads.take(now, handler.key) {
                        Take::Chunk(chunk) => handler.bytes += chunk.len(),
                        Take::End => break,
                        _ => return moved,
                    }
                    moved = true;
                }
                match path {
                    "files/up" => Ok(json!({
                        "bytes": handler.bytes,
                        "args": handler.args,
                        "id": format!("{:08x}", handler.upload),
                    })),
                    _ => Ok(json!(handler.bytes)),
                }
            }
        };
        let result = result.map(|value| RawJson::parse(value.to_string().into()).expect("JSON"));
        self.uploads.finish(handler.key, result)
    }

    fn guard(&self) -> Result<(), Failure> {
        match self.permission_revoked {
            true => Err(Failure::new("FORBIDDEN", "revoked")),
            false => Ok(()),
        }
    }

    fn note(&mut self, reply: &Reply) {
        let mut out = Vec::new();
        reply.write(&mut out);
        self.replies
            .push(serde_json::from_slice(&out).expect("JSON"));
    }

    fn call(&mut self, call: &BinaryCall<'_>) {
        let id = call.id.to_cow();
        let data = match binary_result(call) {
            Ok(data) => json!({"ok": true, "data": data}),
            Err(failure) => {
                json!({"ok": false, "code": failure.code, "error": failure.error})
            }
        };
        self.replies
            .push(json!({"topic": "__rpc", "event": id, "data": data}));
    }
}

fn binary_result(call: &BinaryCall<'_>) -> Result<Value, Failure> {
    let path = call.path.to_cow();
    check_path(&path)?;
    let mut args = vec![json!(hex(call.payload))];
    if let Some(list) = call.args {
        if !list.is_array() {
            return Err(Failure::new("INVALID_REQUEST", "args must be an array"));
        }
        args.extend(list.elements().map(|arg| value(&arg.to_owned())));
    }
    match &*path {
        "files/put" | "files/fail" | "files/crash" => {}
        path if is_function(path) => {
            return Err(Failure::new("INVALID_REQUEST", "Not a binary endpoint"));
        }
        _ => return Err(Failure::new("NOT_FOUND", "Not found")),
    }
    if call.payload.len() > PUT_BYTES_MAX {
        let text = "Binary payload exceeds size limit";
        return Err(Failure::new("PAYLOAD_TOO_LARGE", text));
    }
    match &*path {
        "files/fail" => Err(Failure::new("BAD", "no")),
        "files/crash" => Err(crash()),
        _ => Ok(Value::Array(args)),
    }
}

fn upload_terms(path: &str) -> Result<Terms, Failure> {
    check_path(path)?;
    let terms = Terms::default();
    match path {
        "files/up" => Ok(Terms {
            size_max: 20,
            per_connection_max: 2,
            waiting_chunks_max: 3,
            ..terms
        }),
        "files/slow" => Ok(Terms {
            waiting_chunks_max: 3,
            ..terms
        }),
        "members/up" => Ok(Terms {
            reauthorize_every: NonZeroU64::new(4),
            ..terms
        }),
        "files/early" | "files/upFail" | "files/upCrash" => Ok(terms),
        path if is_function(path) => Err(Failure::new("INVALID_REQUEST", "Not an upload endpoint")),
        _ => Err(Failure::new("NOT_FOUND", "Not found")),
    }
}

/// Segments of letters, digits, `_` and `-`, at least two.
fn check_path(path: &str) -> Result<(), Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let valid = |segment: &str| !segment.is_empty() && segment.bytes().all(plain);
    if path.contains('/') && path.split('/').all(valid) {
        Ok(())
    } else {
        Err(Failure::new("INVALID_REQUEST", "Invalid path"))
    }
}

fn is_function(path: &str) -> bool {
    let files = [
        "put", "fail", "crash", "text", "up", "slow", "early", "upFail", "upCrash",
    ];
    path == "members/up"
        || path
            .strip_prefix("files/")
            .is_some_and(|f| files.contains(&f))
}

fn crash() -> Failure {
    Failure::new("INTERNAL_ERROR", "Internal server error")
}

fn value(json: &RawJson) -> Value {
    serde_json::from_slice(json.as_bytes()).expect("JSON")
}
