//! The few frames this program writes and reads. The server's side of the protocol is tested
//! elsewhere; here bytes are only counted, and the number at the end of an envelope is read.

/// Appends a text frame as a client has to send it.
pub(crate) fn text(out: &mut Vec<u8>, payload: &str) {
    write(out, 0x81, payload.as_bytes());
}

/// Appends the answer to a ping.
pub(crate) fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    write(out, 0x8a, payload);
}

/// The mask is fixed: its purpose is to keep browsers from writing chosen bytes into old proxies,
/// and there is neither here.
fn write(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x88];
    out.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < 126 => out.push(0x80 | length),
        (_, Ok(length)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
}

/// One frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
}

/// The next whole frame and the bytes it takes, if it is there.
pub(crate) fn next(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (length, header): (usize, usize) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (
            usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?,
            10,
        ),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(header..header.checked_add(length)?)?;
    Some((
        Frame {
            opcode: first & 0x0f,
            payload,
        },
        header + length,
    ))
}

/// The number of an envelope: `seq` is its last member.
pub(crate) fn number(envelope: &[u8]) -> Option<u64> {
    let digits = envelope.strip_suffix(b"}")?;
    let start = digits.iter().rposition(|byte| !byte.is_ascii_digit())? + 1;
    if !digits[..start].ends_with(b",\"seq\":") {
        return None;
    }
    str::from_utf8(&digits[start..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_at_their_length() {
        let mut bytes = vec![0x81, 2, b'h', b'i', 0x81, 126, 0, 200];
        assert_eq!(
            next(&bytes),
            Some((
                Frame {
                    opcode: 1,
                    payload: b"hi"
                },
                4
            ))
        );
        assert_eq!(next(&bytes[4..]), None);
        bytes.extend([b'x'; 200]);
        assert_eq!(next(&bytes[4..]).map(|(_, taken)| taken), Some(204));
        assert_eq!(next(&[0x81]), None);
        assert_eq!(next(&[]), None);
    }

    #[test]
    fn numbers_are_read_from_the_end() {
        assert_eq!(
            number(br#"{"topic":"t","event":"e","data":1,"seq":42}"#),
            Some(42)
        );
        assert_eq!(number(br#"{"topic":"t","event":"e","data":7}"#), None);
        assert_eq!(number(b"}"), None);
        assert_eq!(number(b""), None);
    }

    #[test]
    fn texts_are_masked_and_measured() {
        for (length, header) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let mut out = Vec::new();
            text(&mut out, &"x".repeat(length));
            assert_eq!(out.len(), header + length);
            assert_eq!(out[1] & 0x80, 0x80);
        }
    }
}
