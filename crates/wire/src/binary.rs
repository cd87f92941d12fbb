//! Binary frames of the application protocol: calls with a payload, and uploads in chunks.
//!
//! A client sends them as WebSocket messages (the opcode does not matter, the bytes do); a server
//! never does. Numbers are big-endian.
//!
//! | first byte | what | then |
//! |---|---|---|
//! | `00` | a call | header length (2, not 0), header, payload |
//! | `01` | a chunk | flags (1), upload (4), number (4), then as a call if flagged, else payload |
//! | `02` | a control frame | type (1), upload (4); type `10` cancels |
//!
//! A call's header is `{"rpc", "id", "args"?}`, an upload's `{"rpc", "args"?}`.
//!
//! Everything is borrowed from the frame; nothing is copied or allocated.

use millstream_core::{JsonStr, RawJsonRef};

/// Longest header of a call or an upload.
pub const BINARY_HEADER_BYTES_MAX: usize = u16::MAX as usize;

/// Shorter messages belong to the application.
const FRAME_BYTES_MIN: usize = 4;
const CALL: u8 = 0;
const CHUNK: u8 = 1;
const CONTROL: u8 = 2;
const CHUNK_HEAD_BYTES: usize = 10;
const CONTROL_BYTES: usize = 6;
const CONTROL_CANCEL: u8 = 0x10;
const FLAG_HEADER: u8 = 1;
const FLAG_LAST: u8 = 2;
const FLAGS_RESERVED: u8 = !(FLAG_HEADER | FLAG_LAST);

/// What a binary message is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum BinaryFrame<'a> {
    /// A call with a payload.
    Call(BinaryCall<'a>),
    /// A piece of an upload.
    Chunk(UploadChunk<'a>),
    /// The client gives an upload up.
    Cancel {
        /// The number the client gave the upload.
        upload: u32,
    },
    /// A frame of this protocol that is to be dropped without an answer.
    Dropped(BinaryFault),
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BinaryFault {
    /// Too few bytes for its fixed part.
    #[error("frame of {bytes} bytes is too short")]
    TooShort {
        /// Length of the frame.
        bytes: usize,
    },
    /// Flag bits without a meaning.
    #[error("reserved flag bits {bits:#04x}")]
    ReservedFlags {
        /// The reserved bits.
        bits: u8,
    },
    /// Chunk 0 has no header, or a later one has.
    #[error("header where there must be none, or none where there must be one")]
    HeaderMisplaced,
    /// A header of length 0.
    #[error("empty header")]
    HeaderEmpty,
    /// The header is longer than what follows.
    #[error("header of {header} bytes runs past the end")]
    HeaderPastEnd {
        /// Its announced length.
        header: usize,
    },
    /// The header is not JSON.
    #[error("header is not json")]
    HeaderNotJson,
    /// A control frame of a type without a meaning.
    #[error("unknown control type {kind:#04x}")]
    UnknownControl {
        /// The type.
        kind: u8,
    },
}

/// A call with a payload. Equal to another with the same header, as it is written, and payload.
#[derive(Clone, Copy, Debug)]
pub struct BinaryCall<'a> {
    /// The whole header.
    pub header: RawJsonRef<'a>,
    /// Which function.
    pub path: JsonStr<'a>,
    /// The caller's name for this call, opaque.
    pub id: JsonStr<'a>,
    /// The further arguments as they came, whatever they are; `None` when absent.
    pub args: Option<RawJsonRef<'a>>,
    /// The bytes.
    pub payload: &'a [u8],
}

/// A piece of an upload whose form is in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UploadChunk<'a> {
    /// The number the client gave the upload.
    pub upload: u32,
    /// Number of the piece, from 0.
    pub number: u32,
    /// Whether it is the last.
    pub last: bool,
    /// Piece 0 has one, the others have none. Any JSON.
    pub header: Option<RawJsonRef<'a>>,
    /// The bytes.
    pub payload: &'a [u8],
}

/// Recognises a binary frame. `None`: the message belongs to the application.
///
/// # Cost
/// A few comparisons, and one pass over a header.
///
/// # Example
/// ```
/// use millstream_wire::{BinaryFrame, UploadChunk, encode_chunk, recognise_binary};
///
/// let chunk = UploadChunk { upload: 7, number: 1, last: true, header: None, payload: b"end" };
/// let mut frame = Vec::new();
/// encode_chunk(&mut frame, &chunk)?;
/// assert_eq!(frame, b"\x01\x02\0\0\0\x07\0\0\0\x01end");
/// assert_eq!(recognise_binary(&frame), Some(BinaryFrame::Chunk(chunk)));
/// assert_eq!(recognise_binary(b"\x03 something of your own"), None);
/// # Ok::<(), millstream_wire::HeaderTooLong>(())
/// ```
#[must_use]
pub fn recognise_binary(frame: &[u8]) -> Option<BinaryFrame<'_>> {
    if frame.len() < FRAME_BYTES_MIN {
        return None;
    }
    match frame[0] {
        CALL => BinaryCall::parse(frame).map(BinaryFrame::Call),
        CHUNK => Some(match UploadChunk::parse(frame) {
            Ok(chunk) => BinaryFrame::Chunk(chunk),
            Err(fault) => BinaryFrame::Dropped(fault),
        }),
        CONTROL => Some(match split_control(frame) {
            Some((CONTROL_CANCEL, upload)) => BinaryFrame::Cancel { upload },
            Some((kind, _)) => BinaryFrame::Dropped(BinaryFault::UnknownControl { kind }),
            None => BinaryFrame::Dropped(BinaryFault::TooShort { bytes: frame.len() }),
        }),
        _ => None,
    }
}

impl PartialEq for BinaryCall<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.header == other.header && self.payload == other.payload
    }
}

impl<'a> BinaryCall<'a> {
    fn parse(frame: &'a [u8]) -> Option<Self> {
        let (header, payload) = split_call(frame).ok()?;
        let header = RawJsonRef::parse(header).ok()?;
        Some(Self {
            header,
            path: header.field("rpc")?.as_json_str()?,
            id: header.field("id")?.as_json_str()?,
            args: header.field("args"),
            payload,
        })
    }
}

impl<'a> UploadChunk<'a> {
    fn parse(frame: &'a [u8]) -> Result<Self, BinaryFault> {
        let head = ChunkHead::split(frame)?;
        if head.reserved_flags() != 0 {
            let bits = head.reserved_flags();
            return Err(BinaryFault::ReservedFlags { bits });
        }
        if head.has_header() != (head.number == 0) {
            return Err(BinaryFault::HeaderMisplaced);
        }
        let (header, payload) = head.body()?;
        let header = match header {
            Some([]) => return Err(BinaryFault::HeaderEmpty),
            Some(header) => {
                Some(RawJsonRef::parse(header).map_err(|_| BinaryFault::HeaderNotJson)?)
            }
            None => None,
        };
        Ok(Self {
            upload: head.upload,
            number: head.number,
            last: head.is_last(),
            header,
            payload,
        })
    }
}

/// Splits a call's frame, first byte included, into header and payload without looking at either.
///
/// # Errors
/// [`BinaryFault::TooShort`], [`BinaryFault::HeaderPastEnd`]. An empty header is none.
pub fn split_call(frame: &[u8]) -> Result<(&[u8], &[u8]), BinaryFault> {
    let bytes = frame.len();
    let rest = frame.get(1..).ok_or(BinaryFault::TooShort { bytes })?;
    split_header(rest, bytes)
}

/// The type and the upload of a control frame; `None` if it is too short. Bytes behind are ignored.
#[must_use]
pub fn split_control(frame: &[u8]) -> Option<(u8, u32)> {
    let [_, kind, a, b, c, d] = *frame.first_chunk::<CONTROL_BYTES>()?;
    Some((kind, u32::from_be_bytes([a, b, c, d])))
}

/// The fixed part of a chunk's frame as it stands there, in order or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHead<'a> {
    /// All flag bits.
    pub flags: u8,
    /// The number the client gave the upload.
    pub upload: u32,
    /// Number of the piece.
    pub number: u32,
    rest: &'a [u8],
}

impl<'a> ChunkHead<'a> {
    /// Splits the fixed part off.
    ///
    /// # Errors
    /// [`BinaryFault::TooShort`].
    pub fn split(frame: &'a [u8]) -> Result<Self, BinaryFault> {
        let bytes = frame.len();
        let (head, rest) = frame
            .split_first_chunk::<CHUNK_HEAD_BYTES>()
            .ok_or(BinaryFault::TooShort { bytes })?;
        let [_, flags, a, b, c, d, e, f, g, h] = *head;
        Ok(Self {
            flags,
            upload: u32::from_be_bytes([a, b, c, d]),
            number: u32::from_be_bytes([e, f, g, h]),
            rest,
        })
    }

    /// Whether a header follows.
    #[must_use]
    pub const fn has_header(&self) -> bool {
        self.flags & FLAG_HEADER != 0
    }

    /// Whether it is the last piece.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.flags & FLAG_LAST != 0
    }

    /// Flag bits that have no meaning.
    #[must_use]
    pub const fn reserved_flags(&self) -> u8 {
        self.flags & FLAGS_RESERVED
    }

    /// The header if there is one, and the payload.
    ///
    /// # Errors
    /// [`BinaryFault::TooShort`] without room for the header's length,
    /// [`BinaryFault::HeaderPastEnd`].
    pub fn body(&self) -> Result<(Option<&'a [u8]>, &'a [u8]), BinaryFault> {
        if !self.has_header() {
            return Ok((None, self.rest));
        }
        let bytes = CHUNK_HEAD_BYTES + self.rest.len();
        let (header, payload) = split_header(self.rest, bytes)?;
        Ok((Some(header), payload))
    }
}

/// Splits the last part of a frame of `bytes` bytes into a header, whose length comes first, and a
/// payload.
fn split_header(rest: &[u8], bytes: usize) -> Result<(&[u8], &[u8]), BinaryFault> {
    let (length, rest) = rest
        .split_first_chunk::<2>()
        .ok_or(BinaryFault::TooShort { bytes })?;
    let header = usize::from(u16::from_be_bytes(*length));
    let split = rest.split_at_checked(header);
    split.ok_or(BinaryFault::HeaderPastEnd { header })
}

/// A header that does not fit into a frame; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header of {bytes} bytes, the limit is {BINARY_HEADER_BYTES_MAX}")]
pub struct HeaderTooLong {
    /// Its length.
    pub bytes: usize,
}

/// Appends a call; `header` is `{"rpc", "id", "args"?}`.
///
/// # Errors
/// [`HeaderTooLong`].
pub fn encode_binary_call(
    out: &mut Vec<u8>,
    header: RawJsonRef<'_>,
    payload: &[u8],
) -> Result<(), HeaderTooLong> {
    let length = header_length(header)?;
    out.push(CALL);
    out.extend_from_slice(&length);
    out.extend_from_slice(header.as_str().as_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends a piece of an upload. Number 0 must have a header and no other may: a receiver drops
/// what does not hold to that.
///
/// # Errors
/// [`HeaderTooLong`].
pub fn encode_chunk(out: &mut Vec<u8>, chunk: &UploadChunk<'_>) -> Result<(), HeaderTooLong> {
    debug_assert_eq!(chunk.header.is_some(), chunk.number == 0);
    let length = chunk.header.map(header_length).transpose()?;
    let header_flag = if length.is_some() { FLAG_HEADER } else { 0 };
    let last_flag = if chunk.last { FLAG_LAST } else { 0 };
    out.extend_from_slice(&[CHUNK, header_flag | last_flag]);
    out.extend_from_slice(&chunk.upload.to_be_bytes());
    out.extend_from_slice(&chunk.number.to_be_bytes());
    if let (Some(length), Some(header)) = (length, chunk.header) {
        out.extend_from_slice(&length);
        out.extend_from_slice(header.as_str().as_bytes());
    }
    out.extend_from_slice(chunk.payload);
    Ok(())
}

/// Appends the frame that gives an upload up.
pub fn encode_cancel(out: &mut Vec<u8>, upload: u32) {
    out.extend_from_slice(&[CONTROL, CONTROL_CANCEL]);
    out.extend_from_slice(&upload.to_be_bytes());
}

fn header_length(header: RawJsonRef<'_>) -> Result<[u8; 2], HeaderTooLong> {
    let bytes = header.as_str().len();
    let length = u16::try_from(bytes).map_err(|_| HeaderTooLong { bytes })?;
    Ok(length.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> RawJsonRef<'_> {
        RawJsonRef::parse_str(text).unwrap()
    }

    fn fault(frame: &[u8]) -> BinaryFault {
        match recognise_binary(frame) {
            Some(BinaryFrame::Dropped(fault)) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn payloads_and_headers_are_slices_of_the_frame() {
        let header = json(r#"{"rpc":"a/b","id":"1","args":[1]}"#);
        let mut frame = Vec::new();
        encode_binary_call(&mut frame, header, b"payload").unwrap();
        let Some(BinaryFrame::Call(call)) = recognise_binary(&frame) else {
            panic!("a call");
        };
        assert_eq!(call.payload.as_ptr(), frame[frame.len() - 7..].as_ptr());
        assert_eq!(
            (call.path.plain(), call.id.plain()),
            (Some("a/b"), Some("1"))
        );
        assert_eq!(call.args.unwrap().as_str(), "[1]");
    }

    #[test]
    fn the_longest_header_fits_and_one_more_byte_does_not() {
        let text = format!("\"{}\"", "x".repeat(BINARY_HEADER_BYTES_MAX - 2));
        let longer = format!("\"{}\"", "x".repeat(BINARY_HEADER_BYTES_MAX - 1));
        let chunk = |header| UploadChunk {
            upload: u32::MAX,
            number: 0,
            last: false,
            header: Some(header),
            payload: b"",
        };
        let mut frame = Vec::new();
        encode_chunk(&mut frame, &chunk(json(&text))).unwrap();
        let expected = BinaryFrame::Chunk(chunk(json(&text)));
        assert_eq!(recognise_binary(&frame), Some(expected));
        let mut out = Vec::new();
        let bytes = BINARY_HEADER_BYTES_MAX + 1;
        assert_eq!(
            encode_chunk(&mut out, &chunk(json(&longer))),
            Err(HeaderTooLong { bytes })
        );
        assert_eq!(
            encode_binary_call(&mut out, json(&longer), b""),
            Err(HeaderTooLong { bytes })
        );
        assert!(out.is_empty());
    }

    #[test]
    fn faults_say_what_is_wrong() {
        assert_eq!(
            fault(b"\x01\x01\0\0\0\x01\0\0\0"),
            BinaryFault::TooShort { bytes: 9 }
        );
        assert_eq!(
            fault(b"\x01\x01\0\0\0\x01\0\0\0\0\0"),
            BinaryFault::TooShort { bytes: 11 }
        );
        assert_eq!(
            fault(b"\x01\x05\0\0\0\x01\0\0\0\0\0\x02{}"),
            BinaryFault::ReservedFlags { bits: 4 }
        );
        assert_eq!(
            fault(b"\x01\x00\0\0\0\x01\0\0\0\0"),
            BinaryFault::HeaderMisplaced
        );
        assert_eq!(
            fault(b"\x01\x01\0\0\0\x01\0\0\0\x01\0\x02{}"),
            BinaryFault::HeaderMisplaced
        );
        assert_eq!(
            fault(b"\x01\x01\0\0\0\x01\0\0\0\0\0\0"),
            BinaryFault::HeaderEmpty
        );
        assert_eq!(
            fault(b"\x01\x01\0\0\0\x01\0\0\0\0\0\x03{}"),
            BinaryFault::HeaderPastEnd { header: 3 }
        );
        assert_eq!(
            fault(b"\x01\x01\0\0\0\x01\0\0\0\0\0\x01{"),
            BinaryFault::HeaderNotJson
        );
        assert_eq!(fault(b"\x02\x10\0\0\0"), BinaryFault::TooShort { bytes: 5 });
        assert_eq!(
            fault(b"\x02\x11\0\0\0\x01"),
            BinaryFault::UnknownControl { kind: 0x11 }
        );
    }

    #[test]
    fn what_is_no_call_belongs_to_the_application() {
        for frame in [
            &b""[..],
            b"\0\0\x01",
            b"\0\0\0{}",
            b"\0\0\x02{}",
            b"\0\0\x03{}",
            b"\0\0\x04null",
            b"\0\0\x0b{\"rpc\":\"a\"}",
            b"\x03\0\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(recognise_binary(frame), None, "{frame:?}");
        }
    }
}
