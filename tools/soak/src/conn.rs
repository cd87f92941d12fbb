//! One connection: from the TCP connect over upgrade and subscribe to counting what arrives.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::frames;
use crate::publisher::Board;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Upgrading,
    Subscribing,
    Live,
    /// Ended by us or the server.
    Gone,
}

/// One simulated client, across its connections.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) stream: Option<TcpStream>,
    pub(crate) phase: Phase,
    pub(crate) topic: usize,
    pub(crate) seen: Seen,
    /// Bytes of an incomplete response head or frame.
    tail: Vec<u8>,
    session: Option<String>,
    pub(crate) fault: Option<String>,
}

/// What a client saw of its topic.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Frames with a number.
    pub(crate) frames: u64,
    /// The last number seen, or the number before the first that can come.
    pub(crate) last: u64,
    /// Numbers that were skipped while connected.
    pub(crate) holes: u64,
    /// Numbers that were skipped over a reconnect.
    pub(crate) missed: u64,
    /// Whether the next number is the first after a reconnect.
    returning: bool,
    /// Times it was told to reload the topic.
    pub(crate) told: u64,
    /// Numbers that came twice or backwards.
    pub(crate) disorder: u64,
}

impl Seen {
    fn number(&mut self, number: u64) {
        self.frames += 1;
        if number <= self.last {
            self.disorder += 1;
            return;
        }
        let skipped = number - self.last - 1;
        if self.returning {
            self.missed += skipped;
            self.returning = false;
        } else {
            self.holes += skipped;
        }
        self.last = number;
    }
}

impl Conn {
    pub(crate) fn new(topic: usize, first: u64) -> Self {
        Self {
            stream: None,
            phase: Phase::Gone,
            topic,
            seen: Seen {
                last: first,
                ..Seen::default()
            },
            tail: Vec::new(),
            session: None,
            fault: None,
        }
    }

    pub(crate) fn connect(&mut self, address: SocketAddr) -> io::Result<()> {
        self.stream = Some(TcpStream::connect(address)?);
        self.phase = Phase::Connecting;
        self.tail.clear();
        Ok(())
    }

    /// Ends the TCP connection, without a word.
    pub(crate) fn cut(&mut self) {
        self.stream = None;
        self.phase = Phase::Gone;
        self.seen.returning = true;
    }

    pub(crate) fn fail(&mut self, why: impl Into<String>) {
        self.fault.get_or_insert_with(|| why.into());
        self.stream = None;
        self.phase = Phase::Gone;
    }

    /// The socket can be written to for the first time: it is connected, or it failed.
    pub(crate) fn handle_writable(&mut self, address: SocketAddr) {
        if self.phase != Phase::Connecting {
            return;
        }
        let Some(stream) = &self.stream else { return };
        match stream.take_error() {
            Ok(None) if stream.peer_addr().is_ok() => {}
            Ok(None) => return,
            Ok(Some(error)) | Err(error) => return self.fail(format!("connect: {error}")),
        }
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.write(request.as_bytes());
        if self.phase == Phase::Connecting {
            self.phase = Phase::Upgrading;
        }
    }

    /// Reads until the socket has no more, or a fair share is done; true if more may wait.
    pub(crate) fn handle_readable(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..READS_PER_TURN {
            let Some(stream) = &mut self.stream else {
                return false;
            };
            match stream.read(buffer) {
                Ok(0) => self.fail("the server closed the connection"),
                Ok(length) => self.take(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.fail(format!("read: {error}")),
            }
        }
        self.stream.is_some()
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.tail);
        all.extend_from_slice(bytes);
        let mut at = 0;
        if matches!(self.phase, Phase::Upgrading) {
            let Some(end) = all.windows(4).position(|window| window == b"\r\n\r\n") else {
                self.tail = all;
                return;
            };
            if !all.starts_with(b"HTTP/1.1 101") {
                let line = String::from_utf8_lossy(&all[..end]);
                let line = line.lines().next().unwrap_or_default().to_owned();
                return self.fail(format!("upgrade: {line}"));
            }
            at = end + 4;
            self.subscribe();
        }
        while let Some((frame, taken)) = all.get(at..).and_then(frames::next) {
            at += taken;
            match frame.opcode {
                1 => self.text(frame.payload),
                9 => {
                    let mut answer = Vec::new();
                    frames::pong(&mut answer, frame.payload);
                    self.write(&answer);
                }
                8 => self.fail(format!(
                    "closed: {:?}",
                    String::from_utf8_lossy(frame.payload)
                )),
                _ => {}
            }
        }
        all.drain(..at);
        // Thousands of these: give the memory of a large frame back.
        if all.is_empty() {
            all = Vec::new();
        }
        self.tail = all;
    }

    /// The opening burst: hello, resume when coming back, subscribe.
    fn subscribe(&mut self) {
        let topic = Board::name(self.topic);
        let mut burst = Vec::new();
        frames::text(&mut burst, r#"{"type":"hello","caps":["batch"]}"#);
        if let Some(session) = &self.session {
            let mut resume = String::new();
            // Writing into a text does not fail.
            let _ = write!(
                resume,
                r#"{{"type":"resume","sessionId":"{session}","lastSeenSeqs":{{"{topic}":{}}}}}"#,
                self.seen.last
            );
            frames::text(&mut burst, &resume);
        }
        let subscribe = format!(r#"{{"type":"subscribe","topic":"{topic}","ref":1}}"#);
        frames::text(&mut burst, &subscribe);
        self.write(&burst);
        if self.phase == Phase::Upgrading {
            self.phase = Phase::Subscribing;
        }
    }

    fn text(&mut self, payload: &[u8]) {
        if let Some(number) = frames::number(payload) {
            self.seen.number(number);
        } else if contains(payload, br#""truncated":true"#) {
            self.seen.told += 1;
        } else if payload.starts_with(br#"{"type":"subscribed""#) {
            self.phase = Phase::Live;
        } else if payload.starts_with(br#"{"type":"subscribe-denied""#) {
            self.fail(String::from_utf8_lossy(payload));
        } else if payload.starts_with(br#"{"type":"welcome""#) {
            let text = String::from_utf8_lossy(payload);
            self.session = text.split('"').nth(7).map(str::to_owned);
        }
    }

    /// What is written is small and the socket fresh, so it goes out whole.
    fn write(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        match stream.write(bytes) {
            Ok(length) if length == bytes.len() => {}
            Ok(length) => self.fail(format!("wrote {length} of {} bytes", bytes.len())),
            Err(error) => self.fail(format!("write: {error}")),
        }
    }
}

const READS_PER_TURN: usize = 8;

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_misses_are_told_apart() {
        let mut seen = Seen {
            last: 10,
            ..Seen::default()
        };
        for number in [11, 12, 14] {
            seen.number(number);
        }
        assert_eq!((seen.frames, seen.holes, seen.missed), (3, 1, 0));
        seen.returning = true;
        seen.number(20);
        seen.number(21);
        assert_eq!((seen.frames, seen.holes, seen.missed), (5, 1, 5));
        seen.number(21);
        assert_eq!(seen.disorder, 1);
    }
}
