//! What a peer can do wrong.

/// A rule of the WebSocket protocol, or a limit, that the peer broke.
///
/// The stream cannot be read any further: send a close frame with [`close_code`](Self::close_code)
/// and drop the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A reserved header bit is set; no extension was negotiated.
    #[error("reserved header bit is set")]
    ReservedBits,
    /// The opcode has no meaning.
    #[error("opcode is reserved")]
    ReservedOpcode,
    /// A client sent a frame without a mask.
    #[error("frame from a client is not masked")]
    Unmasked,
    /// A server sent a frame with a mask.
    #[error("frame from a server is masked")]
    Masked,
    /// The length is not written in the fewest bytes, or exceeds 2^63.
    #[error("payload length is not written in the shortest form")]
    Length,
    /// A control frame with a payload of more than 125 bytes.
    #[error("control frame is over the limit of 125 bytes")]
    ControlTooLong,
    /// A control frame without the final bit.
    #[error("control frame is fragmented")]
    ControlFragmented,
    /// A continuation frame where no message has begun.
    #[error("continuation without a message")]
    UnexpectedContinuation,
    /// A new message where the last one has not ended.
    #[error("new message inside a fragmented one")]
    ExpectedContinuation,
    /// A close frame with a payload of one byte.
    #[error("close frame with half a code")]
    ClosePayload,
    /// A close code that must not be sent.
    #[error("close code is reserved")]
    CloseCode,
    /// Text or a close reason that is not UTF-8.
    #[error("text is not valid utf-8")]
    InvalidUtf8,
    /// A message longer than the limit.
    #[error("message is over the size limit")]
    MessageTooBig,
    /// More empty fragments in one message than allowed.
    #[error("message has too many empty fragments")]
    TooManyEmptyFragments,
}

impl Violation {
    /// The close code that tells the peer what it did: 1002, 1007 or 1009.
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::InvalidUtf8 => 1007,
            Self::MessageTooBig => 1009,
            _ => 1002,
        }
    }
}
