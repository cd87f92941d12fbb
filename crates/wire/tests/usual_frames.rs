//! A masked text message that lies in the input as one frame takes a way of its own: whatever it
//! is, what comes out has to be what comes out when the bytes arrive one by one.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use millstream_wire::{DecodeLimits, Decoder, Event, Input, Role, Violation, frame};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a decoder makes of the pieces: texts, and the violation if there is one.
fn decode<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    role: Role,
    bytes_max: usize,
) -> (Vec<String>, Option<Violation>) {
    let limits = DecodeLimits {
        message_bytes_max: bytes_max,
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::new(role);
    let mut seen = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = Input::new(&mut piece);
        loop {
            match decoder.next(&mut input, &limits) {
                Ok(Some(Event::Text(text))) => seen.push(text.to_owned()),
                Ok(Some(event)) => seen.push(format!("{event:?}")),
                Ok(None) => break,
                Err(violation) => return (seen, Some(violation)),
            }
        }
    }
    (seen, None)
}

fn check(bytes: &[u8], bytes_max: usize) -> (Vec<String>, Option<Violation>) {
    for role in [Role::Client, Role::Server] {
        let whole = decode([bytes].into_iter(), role, bytes_max);
        assert_eq!(whole, decode(bytes.chunks(1), role, bytes_max), "{role:?}");
        for cut in [1, 2, 3, 5, 6, 7, 8, 9, bytes.len() - 1] {
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let halves = decode([head, tail].into_iter(), role, bytes_max);
            assert_eq!(whole, halves, "{role:?} cut at {cut}");
        }
    }
    decode([bytes].into_iter(), Role::Server, bytes_max)
}

/// A frame with a first byte and a length of the given size of one's own.
fn frame(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&[first], length, &KEY, payload].concat();
    let at = bytes.len() - payload.len();
    frame::mask(&mut bytes[at..], KEY, 0);
    bytes
}

fn text(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode_header(
        &mut bytes,
        frame::Opcode::Text,
        true,
        payload.len(),
        Some(KEY),
    );
    let at = bytes.len();
    bytes.extend_from_slice(payload);
    frame::mask(&mut bytes[at..], KEY, 0);
    bytes
}

#[test]
fn every_length() {
    for len in (0..300).chain([0xfffe, 0xffff, 0x1_0000]) {
        let payload: String = ('a'..='z').cycle().take(len).collect();
        let bytes = text(payload.as_bytes());
        let twice = [&bytes[..], &bytes].concat();
        let (seen, violation) = check(&twice, 1 << 20);
        assert_eq!(violation, None);
        assert_eq!(seen, [payload.clone(), payload], "{len}");
    }
}

#[test]
fn limits_hold() {
    for len in [0, 1, 100, 125, 126, 127, 200] {
        let bytes = text(&b"x".repeat(len));
        assert_eq!(check(&bytes, len).1, None);
        if len > 0 {
            let (seen, violation) = check(&bytes, len - 1);
            assert_eq!((seen.len(), violation), (0, Some(Violation::MessageTooBig)));
        }
    }
}

#[test]
fn what_is_not_utf8_is_found_at_every_place() {
    for len in [1, 7, 8, 9, 16, 31, 63, 64, 65, 125, 126, 130] {
        for place in 0..len {
            let mut payload = b"x".repeat(len);
            payload[place] = 0xc3;
            assert_eq!(
                check(&text(&payload), 1_000).1,
                Some(Violation::InvalidUtf8),
                "{place} of {len}"
            );
            if place + 1 < len {
                payload[place + 1] = 0xa9;
                let want = String::from_utf8(payload.clone()).unwrap();
                assert_eq!(check(&text(&payload), 1_000), (vec![want], None));
            }
        }
    }
}

#[test]
fn what_is_unusual_is_seen() {
    let whole = text(b"hello");
    for (bytes, want) in [
        // Lengths that are not the shortest.
        (frame(0x81, &[0xfe, 0, 5], b"hello"), Violation::Length),
        (
            frame(0x81, &[0xff, 0, 0, 0, 0, 0, 0, 0, 5], b"hello"),
            Violation::Length,
        ),
        (frame(0xc1, &[0x85], b"hello"), Violation::ReservedBits),
        (frame(0x83, &[0x85], b"hello"), Violation::ReservedOpcode),
        (
            frame(0x80, &[0x85], b"hello"),
            Violation::UnexpectedContinuation,
        ),
        (b"\x81\x05hello".to_vec(), Violation::Unmasked),
        // Within a fragmented message, and just behind one that is whole.
        (
            [&frame(0x01, &[0x81], b"h")[..], &whole].concat(),
            Violation::ExpectedContinuation,
        ),
        (
            [&whole[..], &frame(0x80, &[0x80], b"")].concat(),
            Violation::UnexpectedContinuation,
        ),
    ] {
        assert_eq!(check(&bytes, 100).1, Some(want), "{bytes:?}");
    }
    let bytes = [
        &frame(0x01, &[0x82], "é".as_bytes())[..],
        &frame(0x80, &[0x82], "é".as_bytes()),
        &whole,
        &frame(0x01, &[0x81], b"\xc3"),
        &frame(0x89, &[0x81], b"p"),
        &frame(0x80, &[0x81], b"\xa9"),
        &whole,
    ]
    .concat();
    let (seen, violation) = check(&bytes, 100);
    assert_eq!(violation, None);
    assert_eq!(seen, ["éé", "hello", "Ping([112])", "é", "hello"]);
}
