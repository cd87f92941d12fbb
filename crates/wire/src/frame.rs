//! WebSocket frame headers and masking (RFC 6455, section 5).

use crate::Violation;

/// Longest header: two bytes, an eight-byte length and a mask.
pub const HEADER_BYTES_MAX: usize = 14;

/// Longest payload of a control frame.
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message that is under way.
    Continuation = 0x0,
    /// A text message begins.
    Text = 0x1,
    /// A binary message begins.
    Binary = 0x2,
    /// The peer closes.
    Close = 0x8,
    /// The peer asks for a pong.
    Ping = 0x9,
    /// Answer to a ping, or unasked for.
    Pong = 0xA,
}

impl Opcode {
    /// Close, ping and pong.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }
}

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub opcode: Opcode,
    /// Whether it ends its message.
    pub fin: bool,
    /// The key its payload is masked with.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload that follow the header.
    pub payload_len: u64,
}

/// Reads a header; gives it and its length, or `None` if more bytes are needed.
///
/// Which side may mask, what may follow what and size limits are the [`Decoder`](crate::Decoder)'s
/// business.
///
/// # Errors
/// [`Violation`] as soon as the bytes at hand show one.
///
/// # Example
/// ```
/// use millstream_wire::frame::{Opcode, decode_header};
///
/// let (header, len) = decode_header(&[0x81, 0x05, b'h', b'e', b'l', b'l', b'o'])?.unwrap();
/// assert_eq!((header.opcode, header.payload_len, len), (Opcode::Text, 5, 2));
/// assert_eq!(decode_header(&[0x81])?, None);
/// # Ok::<(), millstream_wire::Violation>(())
/// ```
#[inline]
pub fn decode_header(bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
    let Some(first) = bytes.first().copied() else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(Violation::ReservedBits);
    }
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(Violation::ReservedOpcode)?;
    let fin = first & 0x80 != 0;
    if opcode.is_control() && !fin {
        return Err(Violation::ControlFragmented);
    }
    let Some(second) = bytes.get(1).copied() else {
        return Ok(None);
    };
    let short = second & 0x7f;
    if opcode.is_control() && usize::from(short) > CONTROL_PAYLOAD_BYTES_MAX {
        return Err(Violation::ControlTooLong);
    }
    let rest = bytes.get(2..).unwrap_or_default();
    let (payload_len, rest, len) = match short {
        126 => {
            let Some((long, rest)) = rest.split_first_chunk::<2>() else {
                return Ok(None);
            };
            (u64::from(u16::from_be_bytes(*long)), rest, 4)
        }
        127 => {
            let Some((long, rest)) = rest.split_first_chunk::<8>() else {
                return Ok(None);
            };
            (u64::from_be_bytes(*long), rest, 10)
        }
        _ => (u64::from(short), rest, 2),
    };
    let shortest = match short {
        126 => payload_len >= 126,
        127 => payload_len > 0xffff && payload_len >> 63 == 0,
        _ => true,
    };
    if !shortest {
        return Err(Violation::Length);
    }
    if second & 0x80 == 0 {
        return Ok(Some((
            Header {
                opcode,
                fin,
                mask: None,
                payload_len,
            },
            len,
        )));
    }
    let Some(key) = rest.first_chunk::<4>() else {
        return Ok(None);
    };
    Ok(Some((
        Header {
            opcode,
            fin,
            mask: Some(*key),
            payload_len,
        },
        len + 4,
    )))
}

/// Appends a header.
///
/// With a mask the payload appended after it must be masked with [`mask`].
#[inline]
pub fn encode_header(
    out: &mut Vec<u8>,
    opcode: Opcode,
    fin: bool,
    payload_len: usize,
    mask: Option<[u8; 4]>,
) {
    let first = opcode as u8 | u8::from(fin) << 7;
    let masked = u8::from(mask.is_some()) << 7;
    if payload_len < 126 {
        out.extend_from_slice(&[first, masked | payload_len as u8]);
    } else if let Ok(len) = u16::try_from(payload_len) {
        let [high, low] = len.to_be_bytes();
        out.extend_from_slice(&[first, masked | 126, high, low]);
    } else {
        out.extend_from_slice(&[first, masked | 127]);
        out.extend_from_slice(&(payload_len as u64).to_be_bytes());
    }
    if let Some(key) = mask {
        out.extend_from_slice(&key);
    }
}

/// Length of the header of an unmasked frame.
#[must_use]
pub const fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..126 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Masks or unmasks `payload` in place; `offset` is how many bytes of the same frame came before.
///
/// # Example
/// ```
/// let mut payload = *b"hello";
/// millstream_wire::frame::mask(&mut payload, [1, 2, 3, 4], 0);
/// // The same in two pieces gives the same.
/// millstream_wire::frame::mask(&mut payload[..3], [1, 2, 3, 4], 0);
/// millstream_wire::frame::mask(&mut payload[3..], [1, 2, 3, 4], 3);
/// assert_eq!(&payload, b"hello");
/// ```
#[inline]
pub fn mask(payload: &mut [u8], key: [u8; 4], offset: usize) {
    let key = u32::from_le_bytes(key);
    let wide = spread(key, offset);
    let end = offset.wrapping_add(payload.len());
    // What whole blocks leave over is masked together with bytes before it that a block has
    // masked already, so it is looked at first and written last.
    if let Some(mut last) = payload.last_chunk::<BLOCK>().copied() {
        mask_block(&mut last, spread(key, end));
        // Blocks of a fixed size become vector code; no unsafe needed.
        for block in payload.as_chunks_mut::<BLOCK>().0 {
            mask_block(block, wide);
        }
        if let Some(place) = payload.last_chunk_mut() {
            *place = last;
        }
    } else if let Some(last) = payload.last_chunk::<8>() {
        let last = (u64::from_le_bytes(*last) ^ spread(key, end)).to_le_bytes();
        if let Some(first) = payload.first_chunk_mut::<8>() {
            *first = (u64::from_le_bytes(*first) ^ wide).to_le_bytes();
        }
        if let Some(place) = payload.last_chunk_mut() {
            *place = last;
        }
    } else {
        for (byte, key) in payload.iter_mut().zip(wide.to_le_bytes()) {
            *byte ^= key;
        }
    }
}

/// Bytes masked at once; eight or a multiple of it.
const BLOCK: usize = 16;

#[inline]
fn mask_block(block: &mut [u8; BLOCK], wide: u64) {
    for lane in block.as_chunks_mut::<8>().0 {
        *lane = (u64::from_le_bytes(*lane) ^ wide).to_le_bytes();
    }
}

/// The mask of eight bytes that come `offset` bytes into a frame, or any multiple of four later.
#[inline]
const fn spread(key: u32, offset: usize) -> u64 {
    let word = key.rotate_right(8 * (offset % 4) as u32) as u64;
    word << 32 | word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back() {
        for len in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, 1 << 40] {
            for key in [None, Some([1, 2, 3, 4])] {
                for fin in [false, true] {
                    let mut bytes = Vec::new();
                    encode_header(&mut bytes, Opcode::Binary, fin, len, key);
                    let want = header_len(len) + key.map_or(0, |key| key.len());
                    assert_eq!(bytes.len(), want);
                    for cut in 0..bytes.len() {
                        assert_eq!(decode_header(&bytes[..cut]), Ok(None));
                    }
                    let header = Header {
                        opcode: Opcode::Binary,
                        fin,
                        mask: key,
                        payload_len: len as u64,
                    };
                    assert_eq!(decode_header(&bytes), Ok(Some((header, want))));
                }
            }
        }
    }

    #[test]
    fn lengths_must_be_shortest() {
        for bytes in [
            &[0x82, 126, 0, 125][..],
            &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(decode_header(bytes), Err(Violation::Length), "{bytes:?}");
        }
    }

    #[test]
    fn masking_equals_the_definition() {
        let key = [0x11, 0x22, 0x44, 0x88];
        for len in 0..200 {
            for offset in 0..8 {
                let mut bytes: Vec<u8> = (0..len as u8).collect();
                mask(&mut bytes, key, offset);
                for (at, byte) in bytes.iter().enumerate() {
                    assert_eq!(
                        *byte,
                        at as u8 ^ key[(at + offset) % 4],
                        "{len} {offset} {at}"
                    );
                }
            }
        }
    }
}
