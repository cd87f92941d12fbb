//! What the host has to do.

use bytes::Bytes;
use millstream_core::{ConnId, RawJson, write_json_str};

use crate::{Failure, Header, UploadKey};

/// Something for the host to do, in order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// An upload begins. Look its function up, check what is to be checked, and
    /// [`accept`](crate::Uploads::accept) or [`refuse`](crate::Uploads::refuse) it, now or later.
    Opened {
        /// Its name from now on.
        key: UploadKey,
        /// Who sends it.
        conn: ConnId,
        /// The number the client gave it.
        upload: u32,
        /// What it is for; it has a path.
        header: Header,
    },
    /// There is something to [`take`](crate::Uploads::take) after [`Take::Wait`].
    Readable {
        /// The upload.
        key: UploadKey,
    },
    /// Ask again whether this is still allowed and say so with
    /// [`reauthorized`](crate::Uploads::reauthorized). Chunks go on coming meanwhile.
    Reauthorize {
        /// The upload.
        key: UploadKey,
    },
    /// The upload is over before its handler: cancel it. What it still gives back is ignored.
    Aborted {
        /// The upload; nothing is to be had under this name any more.
        key: UploadKey,
        /// Why, for the handler.
        failure: Failure,
        /// Where in the whole the handler has got to: what it took is everything before.
        taken: u64,
    },
    /// Send this.
    Reply(Reply),
    /// Stop reading from the connection: a handler has enough to do. Calls on the connection wait
    /// as well, which is what a client that sends faster than it is served has to expect.
    PauseReading {
        /// The connection.
        conn: ConnId,
    },
    /// Read on.
    ResumeReading {
        /// The connection.
        conn: ConnId,
    },
}

/// What became of an upload: exactly one for each opening, unless the connection closes.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// To whom.
    pub conn: ConnId,
    /// The number the client gave the upload.
    pub upload: u32,
    /// The result.
    pub result: Result<RawJson, Failure>,
    /// The largest frame the server takes, on the first reply of a connection.
    pub frame_bytes_max: Option<u32>,
    /// Where to go on, on a failure and if the client said an `offset`.
    pub continue_at: Option<u64>,
}

impl Reply {
    /// Appends the text frame's JSON.
    ///
    /// ```
    /// use millstream_core::{ConnId, RawJson};
    /// use millstream_upload::Reply;
    ///
    /// let reply = Reply {
    ///     conn: ConnId::from_u64(1),
    ///     upload: 10,
    ///     result: Ok(RawJson::NULL),
    ///     frame_bytes_max: Some(65_536),
    ///     continue_at: None,
    /// };
    /// let mut out = Vec::new();
    /// reply.write(&mut out);
    /// let data = r#"{"ok":true,"data":null,"__cap":65536}"#;
    /// assert_eq!(
    ///     String::from_utf8(out).unwrap(),
    ///     format!(r#"{{"topic":"__upload","event":"0000000a","data":{data}}}"#),
    /// );
    /// ```
    pub fn write(&self, out: &mut Vec<u8>) {
        let event = format!("{:08x}", self.upload);
        out.extend_from_slice(b"{\"topic\":\"__upload\",\"event\":\"");
        out.extend_from_slice(event.as_bytes());
        out.extend_from_slice(b"\",\"data\":{\"ok\":");
        match &self.result {
            Ok(data) => {
                out.extend_from_slice(b"true,\"data\":");
                out.extend_from_slice(data.as_bytes());
            }
            Err(failure) => {
                out.extend_from_slice(b"false,\"code\":");
                write_json_str(out, &failure.code);
                out.extend_from_slice(b",\"error\":");
                write_json_str(out, &failure.error);
            }
        }
        if let Some(bytes) = self.frame_bytes_max {
            out.extend_from_slice(format!(",\"__cap\":{bytes}").as_bytes());
        }
        if let Some(at) = self.continue_at {
            out.extend_from_slice(format!(",\"offset\":{at}").as_bytes());
        }
        out.extend_from_slice(b"}}");
    }
}

/// The next step of a handler's reading.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Take {
    /// The next bytes, never empty: a slice of the frame they came in.
    Chunk(Bytes),
    /// Nothing yet; an [`Event::Readable`] will follow.
    Wait,
    /// That was all.
    End,
    /// The upload is over: it failed, was cancelled, or was finished before.
    Gone,
}
