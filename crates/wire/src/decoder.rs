//! Messages out of a byte stream.

use core::mem;

use crate::Violation;
use crate::close::decode_close;
use crate::frame::{self, HEADER_BYTES_MAX, Header, Opcode};

/// Which side of the connection decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Frames come from a client and must be masked.
    Server,
    /// Frames come from a server and must not be masked.
    Client,
}

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// Answer with a pong of the same payload.
    Ping(&'a [u8]),
    /// Answer to a ping, or unasked for.
    Pong(&'a [u8]),
    /// The peer closes. Answer with a close frame and read no further.
    Close {
        /// The code, if there was one.
        code: Option<u16>,
        /// The reason, possibly empty.
        reason: &'a str,
    },
}

/// How much a peer may make the decoder hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Longest message in bytes, all fragments together. Default 16 KiB.
    ///
    /// Worst case: as many bytes per connection with a message under way. A longer one is
    /// [`Violation::MessageTooBig`] as soon as a header announces it.
    pub message_bytes_max: usize,
    /// Most empty fragments within one message. Default 16.
    ///
    /// They cost no memory but time; more are [`Violation::TooManyEmptyFragments`].
    pub empty_fragments_max: u32,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 * 1024,
            empty_fragments_max: 16,
        }
    }
}

/// Bytes that arrived, consumed from the front by [`Decoder::next`].
///
/// Payloads are unmasked in place, so the buffer is changed.
#[derive(Debug)]
pub struct Input<'b> {
    rest: &'b mut [u8],
}

impl<'b> Input<'b> {
    /// Wraps a buffer of bytes that arrived.
    #[must_use]
    pub const fn new(bytes: &'b mut [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not consumed yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn take(&mut self, len: usize) -> &'b mut [u8] {
        let (head, tail) = mem::take(&mut self.rest).split_at_mut(len);
        self.rest = tail;
        head
    }

    /// Takes the next frame, unmasked, if it is a whole text message of a client and all of it is
    /// here: nearly all are. Where this gives nothing, nothing was taken, nor was anything found
    /// to be wrong.
    #[inline]
    fn take_text(&mut self, bytes_max: usize) -> Option<&'b mut [u8]> {
        const FINAL_TEXT: u8 = 0x80 | Opcode::Text as u8;
        let (head, len) = match *self.rest {
            [FINAL_TEXT, short @ 0x80..0xfe, ..] => (6, usize::from(short & 0x7f)),
            [FINAL_TEXT, 0xfe, high, low, ..] => (8, usize::from(u16::from_be_bytes([high, low]))),
            _ => return None,
        };
        let shortest = head == 6 || len >= 126;
        if !shortest || len > bytes_max || self.rest.len() < head + len {
            return None;
        }
        let (head, payload) = self.take(head + len).split_at_mut(head);
        frame::mask(payload, *head.last_chunk()?, 0);
        Some(payload)
    }
}

/// Turns a byte stream, in whatever pieces it arrives, into messages.
///
/// Whole messages are slices of the input, unmasked in place: no copy, no allocation. Only what is
/// incomplete when the input ends is kept, on the heap, until it is complete; an idle decoder is 16
/// bytes. Text is checked as it arrives, so bad UTF-8 fails without waiting for the end.
///
/// After an error or [`Event::Close`] do not call it again.
///
/// # Cost
/// Linear in the input, however it is split. Heap: the unfinished message, at most
/// `2 x message_bytes_max`, and a box of about 100 bytes.
///
/// # Example
/// ```
/// use millstream_wire::{DecodeLimits, Decoder, Event, Input, Role};
///
/// let mut decoder = Decoder::new(Role::Client);
/// let limits = DecodeLimits::default();
/// let mut texts = Vec::new();
/// // One message and a half, then the rest.
/// for mut piece in [b"\x81\x02hi\x81\x05wor".to_vec(), b"ld".to_vec()] {
///     let mut input = Input::new(&mut piece);
///     while let Some(event) = decoder.next(&mut input, &limits)? {
///         if let Event::Text(text) = event {
///             texts.push(text.to_owned());
///         }
///     }
/// }
/// assert_eq!(texts, ["hi", "world"]);
/// # Ok::<(), millstream_wire::Violation>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    role: Role,
}

const _: () = assert!(size_of::<Decoder>() <= 16);

/// What is incomplete: a header, a frame, a fragmented message, or several of them.
#[derive(Debug, Default)]
struct Partial {
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// A frame of which the header is complete and the payload is not.
    frame: Option<Frame>,
    /// The kind of the message under way.
    kind: Option<Opcode>,
    /// Its payload so far.
    message: Vec<u8>,
    /// How much of it is known to be UTF-8.
    checked: usize,
    empty_fragments: u32,
    /// Payload so far of a control frame.
    control: Vec<u8>,
    /// What was handed out by the last call and can be dropped by the next.
    spent: Spent,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    header: Header,
    received: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Spent {
    #[default]
    Nothing,
    Message,
    Control,
}

/// What one step led to.
enum Step<'b> {
    /// The input is used up.
    Starved,
    /// Look again: a fragment was taken in.
    Again,
    /// A frame that is a whole message lies in the input.
    InPlace(Opcode, &'b [u8]),
    /// `Partial::message` is complete.
    Message(Opcode),
    /// `Partial::control` is complete.
    Control(Opcode),
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self {
            partial: None,
            role,
        }
    }

    /// The next event, or `None` when the input is used up (its tail is kept).
    ///
    /// # Errors
    /// [`Violation`] when the peer broke a rule or a limit.
    #[inline]
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut Input<'_>,
        limits: &DecodeLimits,
    ) -> Result<Option<Event<'a>>, Violation> {
        if self.partial.is_none()
            && self.role == Role::Server
            && let Some(payload) = input.take_text(limits.message_bytes_max)
        {
            return event(Opcode::Text, payload).map(Some);
        }
        self.next_any(input, limits)
    }

    /// [`next`](Self::next) for all kinds of frames and every way they may lie in the input. Apart
    /// from it, so that the usual frame has the registers for itself.
    #[inline(never)]
    fn next_any<'a>(
        &'a mut self,
        input: &'a mut Input<'_>,
        limits: &DecodeLimits,
    ) -> Result<Option<Event<'a>>, Violation> {
        if self.partial.is_some() {
            self.drop_spent();
        }
        loop {
            let step = match &self.partial {
                None => self.step_whole(input, limits)?,
                Some(_) => self.step_partial(input, limits)?,
            };
            return match step {
                Step::Again => continue,
                Step::Starved => Ok(None),
                Step::InPlace(opcode, payload) => event(opcode, payload).map(Some),
                Step::Message(opcode) => event(opcode, &self.hold().message).map(Some),
                Step::Control(opcode) => event(opcode, &self.hold().control).map(Some),
            };
        }
    }

    /// Bytes held because something is incomplete; 0 when idle.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let held = |partial: &Partial| match partial.spent {
            Spent::Message => usize::from(partial.header_len) + partial.control.len(),
            Spent::Control => usize::from(partial.header_len) + partial.message.len(),
            Spent::Nothing => {
                usize::from(partial.header_len) + partial.message.len() + partial.control.len()
            }
        };
        self.partial.as_deref().map_or(0, held)
    }

    /// Nothing is under way: most frames are whole messages that lie in the input.
    #[inline]
    fn step_whole<'b>(
        &mut self,
        input: &mut Input<'b>,
        limits: &DecodeLimits,
    ) -> Result<Step<'b>, Violation> {
        if input.rest.is_empty() {
            return Ok(Step::Starved);
        }
        let Some((header, header_len)) = frame::decode_header(input.rest)? else {
            return Ok(self.keep_header(input));
        };
        let payload_len = self.admit(&header, limits)?;
        input.take(header_len);
        // A continuation has been refused: nothing is under way.
        if header.fin && input.remaining() >= payload_len {
            return Ok(in_place(&header, input.take(payload_len)));
        }
        self.hold().begin(header, limits)?;
        self.hold().take_in(input)
    }

    /// Something is under way.
    fn step_partial<'b>(
        &mut self,
        input: &mut Input<'b>,
        limits: &DecodeLimits,
    ) -> Result<Step<'b>, Violation> {
        if self.hold().frame.is_some() {
            return self.hold().take_in(input);
        }
        if input.rest.is_empty() {
            return Ok(Step::Starved);
        }
        let Some(header) = self.read_header(input)? else {
            return Ok(Step::Starved);
        };
        let payload_len = self.admit(&header, limits)?;
        let whole = header.fin && header.opcode != Opcode::Continuation;
        if whole && input.remaining() >= payload_len {
            return Ok(in_place(&header, input.take(payload_len)));
        }
        self.hold().begin(header, limits)?;
        self.hold().take_in(input)
    }

    /// Reads a header that may have begun in an earlier input.
    fn read_header(&mut self, input: &mut Input<'_>) -> Result<Option<Header>, Violation> {
        let partial = self.hold();
        let had = usize::from(partial.header_len);
        let mut bytes = partial.header;
        let more = input.remaining().min(HEADER_BYTES_MAX - had);
        bytes[had..had + more].copy_from_slice(&input.rest[..more]);
        match frame::decode_header(&bytes[..had + more])? {
            Some((header, len)) => {
                partial.header_len = 0;
                input.take(len - had);
                Ok(Some(header))
            }
            None => {
                partial.header = bytes;
                partial.header_len = (had + more) as u8;
                input.take(more);
                Ok(None)
            }
        }
    }

    fn keep_header<'b>(&mut self, input: &mut Input<'b>) -> Step<'b> {
        let bytes = input.take(input.remaining());
        let partial = self.hold();
        // An incomplete header is shorter than a complete one.
        partial.header[..bytes.len()].copy_from_slice(bytes);
        partial.header_len = bytes.len() as u8;
        Step::Starved
    }

    /// Checks a header against the role, the message under way and the size limit.
    #[inline]
    fn admit(&self, header: &Header, limits: &DecodeLimits) -> Result<usize, Violation> {
        match (self.role, header.mask) {
            (Role::Server, None) => return Err(Violation::Unmasked),
            (Role::Client, Some(_)) => return Err(Violation::Masked),
            _ => {}
        }
        let len = usize::try_from(header.payload_len).map_err(|_| Violation::MessageTooBig)?;
        if header.opcode.is_control() {
            return Ok(len);
        }
        let under_way = self
            .partial
            .as_ref()
            .filter(|partial| partial.kind.is_some());
        match (under_way, header.opcode) {
            (None, Opcode::Continuation) => return Err(Violation::UnexpectedContinuation),
            (Some(_), Opcode::Text | Opcode::Binary) => {
                return Err(Violation::ExpectedContinuation);
            }
            _ => {}
        }
        let before = under_way.map_or(0, |partial| partial.message.len());
        if len > limits.message_bytes_max.saturating_sub(before) {
            return Err(Violation::MessageTooBig);
        }
        Ok(len)
    }

    fn hold(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }

    fn drop_spent(&mut self) {
        let Some(partial) = &mut self.partial else {
            return;
        };
        match mem::take(&mut partial.spent) {
            Spent::Nothing => {}
            Spent::Message => {
                partial.message = Vec::new();
                (partial.checked, partial.empty_fragments) = (0, 0);
            }
            Spent::Control => partial.control = Vec::new(),
        }
        if partial.kind.is_none() && partial.frame.is_none() && partial.header_len == 0 {
            self.partial = None;
        }
    }
}

impl Partial {
    /// Notes a frame whose payload is to come.
    fn begin(&mut self, header: Header, limits: &DecodeLimits) -> Result<(), Violation> {
        if !header.opcode.is_control() {
            if header.opcode != Opcode::Continuation {
                self.kind = Some(header.opcode);
            }
            if header.payload_len == 0 && !header.fin {
                self.empty_fragments += 1;
                if self.empty_fragments > limits.empty_fragments_max {
                    return Err(Violation::TooManyEmptyFragments);
                }
            }
        }
        self.frame = Some(Frame {
            header,
            received: 0,
        });
        Ok(())
    }

    /// Takes payload of the frame under way out of the input.
    fn take_in<'b>(&mut self, input: &mut Input<'b>) -> Result<Step<'b>, Violation> {
        let Some(Frame { header, received }) = self.frame else {
            return Ok(Step::Again);
        };
        let missing = header.payload_len - received as u64;
        let len = usize::try_from(missing)
            .unwrap_or(usize::MAX)
            .min(input.remaining());
        let piece = input.take(len);
        if let Some(key) = header.mask {
            frame::mask(piece, key, received);
        }
        let complete = len as u64 == missing;
        if header.opcode.is_control() {
            self.control.extend_from_slice(piece);
        } else {
            self.message.extend_from_slice(piece);
            if self.kind == Some(Opcode::Text) {
                self.check_text()?;
            }
        }
        if !complete {
            self.frame = Some(Frame {
                header,
                received: received + len,
            });
            return Ok(Step::Starved);
        }
        self.frame = None;
        if header.opcode.is_control() {
            self.spent = Spent::Control;
            return Ok(Step::Control(header.opcode));
        }
        if !header.fin {
            return Ok(Step::Again);
        }
        self.spent = Spent::Message;
        Ok(self.kind.take().map_or(Step::Again, Step::Message))
    }

    /// Checks what text has arrived; a character may still be cut in two at the end.
    fn check_text(&mut self) -> Result<(), Violation> {
        let fresh = self.message.get(self.checked..).unwrap_or_default();
        match simdutf8::compat::from_utf8(fresh) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::InvalidUtf8),
        }
        Ok(())
    }
}

#[inline]
fn in_place<'b>(header: &Header, payload: &'b mut [u8]) -> Step<'b> {
    if let Some(key) = header.mask {
        frame::mask(payload, key, 0);
    }
    Step::InPlace(header.opcode, payload)
}

#[inline]
fn event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, Violation> {
    Ok(match opcode {
        Opcode::Text => {
            let text = simdutf8::basic::from_utf8(payload).map_err(|_| Violation::InvalidUtf8)?;
            Event::Text(text)
        }
        Opcode::Binary | Opcode::Continuation => Event::Binary(payload),
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
        Opcode::Close => {
            let (code, reason) = decode_close(payload)?;
            Event::Close { code, reason }
        }
    })
}
