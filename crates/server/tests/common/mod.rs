//! A server on a free port, and requests written by hand.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod process;
pub(crate) mod ws;

use std::net::SocketAddr;
use std::time::Duration;

use millstream_server::{Config, Hooks, Server, Stopper};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stopper: Stopper,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a server with settings that do not get in a test's way.
pub(crate) async fn start(hooks: impl Hooks, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::default();
    config.listen = ([127, 0, 0, 1], 0).into();
    config.workers = 1;
    config.upgrade_rate_limit = 0;
    config.drain_spread = Duration::ZERO;
    change(&mut config);
    let bound = Server::builder(hooks)
        .config(config)
        .signals(false)
        .bind()
        .await;
    let server = bound.expect("starts");
    let (address, stopper) = (server.local_addr(), server.stopper());
    let task = tokio::spawn(async move {
        server.run().await.expect("ends in order");
    });
    Running {
        address,
        stopper,
        task,
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.head.lines().skip(1).filter_map(move |line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One request on a connection of its own. Lines are separated by `\n`; the blank line is added.
pub(crate) async fn ask(address: SocketAddr, head: &str) -> Reply {
    ask_with(address, head, b"").await
}

pub(crate) async fn ask_with(address: SocketAddr, head: &str, body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    send(&mut stream, head, body).await;
    receive(&mut stream).await
}

pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), head: &str, body: &[u8]) {
    let mut bytes = head.trim().replace('\n', "\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).await.expect("writes");
}

pub(crate) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Reply {
    try_receive(stream).await.expect("a response")
}

/// The response, or nothing when the server closes without one.
pub(crate) async fn try_receive(stream: &mut (impl AsyncRead + Unpin)) -> Option<Reply> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8())
            .await
            .expect("in time")
            .ok()?;
        head.push(byte);
    }
    let head = String::from_utf8(head).expect("text");
    let status = head.split(' ').nth(1)?.parse().expect("status");
    let mut reply = Reply {
        status,
        head,
        body: String::new(),
    };
    if let Some(length) = reply
        .header("content-length")
        .map(|text| text.parse().expect("length"))
    {
        let mut body = vec![0; length];
        timeout(PATIENCE, stream.read_exact(&mut body))
            .await
            .expect("in time")
            .expect("body");
        reply.body = String::from_utf8(body).expect("text");
    }
    Some(reply)
}

/// The usual upgrade request with more header lines.
pub(crate) fn upgrade(target: &str, more: &str) -> String {
    let host = if more.to_ascii_lowercase().contains("host:") {
        ""
    } else {
        "Host: localhost\n"
    };
    format!(
        "GET {target} HTTP/1.1\n{host}Upgrade: websocket\nConnection: Upgrade\n\
         Sec-WebSocket-Key: {KEY}\nSec-WebSocket-Version: 13\n{more}"
    )
}

/// Waits until something holds.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "it never happened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The value of a metric without labels.
pub(crate) async fn metric(address: SocketAddr, name: &str) -> u64 {
    let reply = ask(address, "GET /metrics HTTP/1.1\nHost: localhost").await;
    let line = reply
        .body
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {}", reply.body))
        .parse()
        .expect("number")
}
