//! A WebSocket client that does as it is told, well or badly.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{PATIENCE, send, try_receive, upgrade};

/// What the server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Binary(Vec<u8>),
    Close(Option<u16>, String),
    /// The connection is over.
    End,
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Text(String),
}

pub(crate) struct Ws<S = TcpStream> {
    pub(crate) stream: S,
}

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;

impl Ws {
    /// Connects, upgrades and takes the welcome.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("connects")).await
    }

    /// The same with a receive buffer so small that it is soon full.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("socket");
        socket.set_recv_buffer_size(4_096).expect("buffer");
        Self::over(socket.connect(address).await.expect("connects")).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Ws<S> {
    pub(crate) async fn over(stream: S) -> Self {
        Self::over_at(stream, "/ws").await
    }

    /// The same with a query.
    pub(crate) async fn over_at(stream: S, target: &str) -> Self {
        let mut ws = Self::raw_at(stream, target).await;
        let welcome = ws.text().await;
        assert!(welcome.starts_with(r#"{"type":"welcome","#), "{welcome}");
        ws
    }

    /// Upgrades and reads nothing more.
    pub(crate) async fn raw(stream: S) -> Self {
        Self::raw_at(stream, "/ws").await
    }

    async fn raw_at(mut stream: S, target: &str) -> Self {
        let origin = "Origin: http://localhost";
        send(&mut stream, &upgrade(target, origin), b"").await;
        let reply = try_receive(&mut stream).await.expect("a response");
        assert_eq!(reply.status, 101, "{reply:?}");
        Self { stream }
    }

    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        let wrote = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        wrote.expect("in time").expect("writes");
        self.stream.flush().await.expect("flushes");
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.bytes(&frame(TEXT, text.as_bytes())).await;
    }

    /// The next frame; the end of the connection in whatever way is one, too.
    pub(crate) async fn next(&mut self) -> Frame {
        timeout(PATIENCE, self.read())
            .await
            .expect("in time")
            .unwrap_or(Frame::End)
    }

    /// The next frame, if there is one soon.
    pub(crate) async fn soon(&mut self) -> Option<Frame> {
        let read = timeout(Duration::from_millis(300), self.read())
            .await
            .ok()?;
        Some(read.unwrap_or(Frame::End))
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Frame::Text(text) => text,
            other => panic!("{other:?} instead of a text"),
        }
    }

    /// Reads to the end; gives the code of the close frame if there was one.
    pub(crate) async fn end(&mut self) -> Option<u16> {
        let mut code = None;
        loop {
            match self.next().await {
                Frame::Close(found, _) => code = found,
                Frame::End => return code,
                _ => {}
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, topic: &str) {
        self.say(&format!(
            r#"{{"type":"subscribe","topic":"{topic}","ref":1}}"#
        ))
        .await;
        let due = format!(r#"{{"type":"subscribed","topic":"{topic}","ref":1}}"#);
        assert_eq!(self.text().await, due);
    }

    async fn read(&mut self) -> std::io::Result<Frame> {
        let first = self.stream.read_u8().await?;
        let second = self.stream.read_u8().await?;
        assert_eq!(
            (first & 0xF0, second & 0x80),
            (0x80, 0),
            "whole, plain, unmasked frames"
        );
        let length = match second {
            126 => u64::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).expect("fits")];
        self.stream.read_exact(&mut payload).await?;
        Ok(match first & 0x0F {
            1 => Frame::Text(String::from_utf8(payload).expect("text")),
            2 => Frame::Binary(payload),
            8 => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                let reason = payload.get(2..).unwrap_or_default();
                Frame::Close(code, String::from_utf8(reason.to_vec()).expect("text"))
            }
            9 => Frame::Ping(payload),
            10 => Frame::Pong(payload),
            other => panic!("opcode {other}"),
        })
    }
}

/// A whole masked frame.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    part(0x80 | opcode, payload)
}

/// A masked frame with a first byte of one's own.
pub(crate) fn part(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut bytes = head(first, payload.len(), true);
    bytes.extend_from_slice(&mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

/// First byte and length, without a mask or payload behind them.
pub(crate) fn head(first: u8, length: usize, masked: bool) -> Vec<u8> {
    let mut bytes = vec![first];
    let bit = if masked { 0x80 } else { 0 };
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => bytes.push(bit | short),
        (_, Ok(medium)) => {
            bytes.push(bit | 126);
            bytes.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            bytes.push(bit | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes
}

pub(crate) fn close_frame(code: u16) -> Vec<u8> {
    frame(CLOSE, &code.to_be_bytes())
}
