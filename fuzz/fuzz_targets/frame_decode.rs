//! The frame decoder: split against whole, and against the reader of fastwebsockets.
//!
//! That reader is known to be wrong in accepting unmasked frames, control frames above 125 bytes,
//! lengths that are not shortest, fragments beyond its size limit, and a new fragmented message
//! inside another. There ours decides.
#![no_main]

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use arbitrary::Arbitrary;
use fastwebsockets::{FragmentCollector, OpCode, WebSocket};
use libfuzzer_sys::fuzz_target;
use millstream_wire::{DecodeLimits, Decoder, Event, Input, Role, Violation, frame};

#[derive(Arbitrary, Debug)]
struct Case {
    client: bool,
    pieces: Vec<Piece>,
    cuts: Vec<u16>,
    limit: u16,
}

#[derive(Arbitrary, Debug)]
enum Piece {
    /// Almost a frame: all parts of the header can be wrong.
    Frame {
        first: u8,
        masked: bool,
        key: [u8; 4],
        payload: Payload,
    },
    /// A frame as it should be.
    Good {
        kind: u8,
        fin: bool,
        key: [u8; 4],
        payload: Payload,
    },
    Raw(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Payload {
    Bytes(Vec<u8>),
    Text(String),
    Repeat(u8, u16),
    Close(u16, String),
}

impl Payload {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Text(text) => text.clone().into(),
            Self::Repeat(byte, count) => vec![*byte; usize::from(*count)],
            Self::Close(code, reason) => [&code.to_be_bytes(), reason.as_bytes()].concat(),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Vec<u8>),
}

fuzz_target!(|case: Case| {
    let bytes = assemble(&case);
    let limits = DecodeLimits {
        message_bytes_max: usize::from(case.limit),
        empty_fragments_max: 4,
    };
    let role = if case.client {
        Role::Client
    } else {
        Role::Server
    };
    let whole = run(&bytes, &[], role, &limits);
    let mut cuts: Vec<usize> = case
        .cuts
        .iter()
        .map(|cut| usize::from(*cut) % (bytes.len() + 1))
        .collect();
    cuts.sort_unstable();
    assert_eq!(run(&bytes, &cuts, role, &limits), whole);
    if bytes.len() < 2_000 {
        let every: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(run(&bytes, &every, role, &limits), whole);
    }
    compare(&bytes, role, &whole);
});

fn assemble(case: &Case) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in &case.pieces {
        let (first, key, payload) = match piece {
            Piece::Raw(bytes) => {
                out.extend_from_slice(bytes);
                continue;
            }
            Piece::Frame {
                first,
                masked,
                key,
                payload,
            } => (*first, masked.then_some(*key), payload.bytes()),
            Piece::Good {
                kind,
                fin,
                key,
                payload,
            } => {
                let opcode = [0, 1, 2, 8, 9, 10][usize::from(kind % 6)];
                let fin = *fin || opcode >= 8;
                (
                    u8::from(fin) << 7 | opcode,
                    (!case.client).then_some(*key),
                    payload.bytes(),
                )
            }
        };
        let at = out.len();
        let opcode = millstream_wire::Opcode::Text;
        frame::encode_header(&mut out, opcode, true, payload.len(), key);
        out[at] = first;
        let start = out.len();
        out.extend_from_slice(&payload);
        frame::mask(&mut out[start..], key.unwrap_or_default(), 0);
    }
    out
}

type Run = (Vec<Seen>, Option<Violation>);

fn run(bytes: &[u8], cuts: &[usize], role: Role, limits: &DecodeLimits) -> Run {
    let mut decoder = Decoder::new(role);
    let mut seen = Vec::new();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let mut piece = bytes[from..cut].to_vec();
        from = cut;
        let mut input = Input::new(&mut piece);
        loop {
            match decoder.next(&mut input, limits) {
                Ok(Some(event)) => seen.push(note(&event)),
                Ok(None) => break,
                Err(violation) => return (seen, Some(violation)),
            }
            assert!(decoder.buffered_bytes() <= limits.message_bytes_max + 125 + 14);
        }
        assert_eq!(input.remaining(), 0);
        assert!(decoder.buffered_bytes() <= limits.message_bytes_max + 125 + 14);
    }
    (seen, None)
}

fn note(event: &Event<'_>) -> Seen {
    match event {
        Event::Text(text) => Seen::Text(text.as_bytes().into()),
        Event::Binary(payload) => Seen::Binary(payload.to_vec()),
        Event::Ping(payload) => Seen::Ping(payload.to_vec()),
        Event::Pong(payload) => Seen::Pong(payload.to_vec()),
        Event::Close { code, reason } => {
            let code = code
                .map(|code| code.to_be_bytes().to_vec())
                .unwrap_or_default();
            Seen::Close([&code, reason.as_bytes()].concat())
        }
    }
}

/// Reads the same bytes with fastwebsockets, as far as ours got.
fn compare(bytes: &[u8], role: Role, (seen, violation): &Run) {
    let role = match role {
        Role::Server => fastwebsockets::Role::Server,
        Role::Client => fastwebsockets::Role::Client,
    };
    let mut socket = WebSocket::after_handshake(tokio::io::join(bytes, tokio::io::sink()), role);
    socket.set_auto_close(false);
    socket.set_auto_pong(false);
    socket.set_max_message_size(1 << 20);
    let mut socket = FragmentCollector::new(socket);
    for want in seen {
        let frame = ready(socket.read_frame()).expect("ours read one more");
        let payload = frame.payload.to_vec();
        let got = match frame.opcode {
            OpCode::Text => Seen::Text(payload),
            OpCode::Binary => Seen::Binary(payload),
            OpCode::Ping => Seen::Ping(payload),
            OpCode::Pong => Seen::Pong(payload),
            OpCode::Close => Seen::Close(payload),
            OpCode::Continuation => panic!("a continuation by itself"),
        };
        assert_eq!(got, *want);
        if matches!(want, Seen::Close(_)) {
            return; // it reads no further
        }
    }
    let theirs_is_right = match violation {
        None => true, // the bytes end here
        Some(
            Violation::ReservedBits
            | Violation::ReservedOpcode
            | Violation::ControlFragmented
            | Violation::UnexpectedContinuation,
        ) => true,
        Some(_) => false,
    };
    if theirs_is_right {
        assert!(
            ready(socket.read_frame()).is_err(),
            "fastwebsockets read one more: {violation:?}"
        );
    }
}

/// Reading from memory is never pending.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a read from memory is pending"),
    }
}
