//! Close frames, and what a client does about them.

use crate::Violation;
use crate::frame::{self, CONTROL_PAYLOAD_BYTES_MAX, Opcode};

/// Longest close reason, in bytes.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// Close codes by name, each with what the JavaScript client does when it sees it.
///
/// There is no code that means "come back at once" and none that carries a delay. A server that
/// accepts and then closes with a code of class [`Retry`](Reaction::Retry) is retried about every
/// three seconds for ever: to turn somebody away use a terminal code or
/// [`THROTTLE`](Self::THROTTLE).
#[derive(Clone, Copy, Debug)]
pub enum CloseCode {}

impl CloseCode {
    /// Done. The client reconnects with its normal delay.
    pub const NORMAL: u16 = 1000;
    /// The server goes away (shutdown). The client reconnects with its normal delay.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol. The client reconnects with its normal delay.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Text was not UTF-8. The client reconnects with its normal delay.
    pub const INVALID_UTF8: u16 = 1007;
    /// The client may not use this server. It stops for good.
    pub const POLICY: u16 = 1008;
    /// A message was too big. The client reconnects with its normal delay.
    pub const TOO_BIG: u16 = 1009;
    /// The server failed. The client reconnects with its normal delay.
    pub const INTERNAL: u16 = 1011;
    /// The server restarts. The client reconnects with its normal delay.
    pub const RESTART: u16 = 1012;
    /// The server is overloaded. The client reconnects with its normal delay, so prefer
    /// [`THROTTLE`](Self::THROTTLE).
    pub const TRY_LATER: u16 = 1013;
    /// Not authenticated. The client stops for good.
    pub const UNAUTHENTICATED: u16 = 4401;
    /// Not allowed. The client stops for good.
    pub const FORBIDDEN: u16 = 4403;
    /// Too many. The client comes back after 116 to 193 seconds or more.
    pub const THROTTLE: u16 = 4429;

    /// Whether a peer may put this code into a close frame.
    #[must_use]
    pub const fn may_be_sent(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// What a client does when a connection ended with this code (1006 if without a close frame).
    #[must_use]
    pub const fn reaction(code: u16) -> Reaction {
        match code {
            Self::POLICY | Self::UNAUTHENTICATED | Self::FORBIDDEN => Reaction::Terminal,
            Self::THROTTLE => Reaction::Throttle,
            _ => Reaction::Retry,
        }
    }
}

/// What a client does about a closed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Never connect again.
    Terminal,
    /// Count at least five failed attempts, then reconnect.
    Throttle,
    /// Reconnect.
    Retry,
}

/// Appends a server's close frame. A reason of more than 123 bytes is cut between characters.
///
/// # Example
/// ```
/// use millstream_wire::{CloseCode, encode_close};
///
/// let mut out = Vec::new();
/// encode_close(&mut out, CloseCode::UNAUTHENTICATED, "bye");
/// assert_eq!(out, [0x88, 5, 0x11, 0x31, b'b', b'y', b'e']);
/// ```
pub fn encode_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    debug_assert!(
        CloseCode::may_be_sent(code),
        "close code {code} must not be sent"
    );
    let reason = cut_reason(reason);
    frame::encode_header(out, Opcode::Close, true, 2 + reason.len(), None);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

pub(crate) fn cut_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)]
}

/// Reads the payload of a close frame.
pub(crate) fn decode_close(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    if payload.is_empty() {
        return Ok((None, ""));
    }
    let (code, reason) = payload
        .split_first_chunk::<2>()
        .ok_or(Violation::ClosePayload)?;
    let code = u16::from_be_bytes(*code);
    if !CloseCode::may_be_sent(code) {
        return Err(Violation::CloseCode);
    }
    let reason = core::str::from_utf8(reason).map_err(|_| Violation::InvalidUtf8)?;
    Ok((Some(code), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_cut_between_characters() {
        let mut out = Vec::new();
        encode_close(&mut out, 1000, &"é".repeat(100));
        assert_eq!(out.len(), 2 + 2 + 122);
        assert_eq!(decode_close(&out[2..]), Ok((Some(1000), &*"é".repeat(61))));
    }

    #[test]
    fn reactions() {
        for code in [1008, 4401, 4403] {
            assert_eq!(CloseCode::reaction(code), Reaction::Terminal);
        }
        assert_eq!(CloseCode::reaction(4429), Reaction::Throttle);
        for code in [1000, 1001, 1006, 1012, 3000, 4400, 4404] {
            assert_eq!(CloseCode::reaction(code), Reaction::Retry);
        }
    }
}
