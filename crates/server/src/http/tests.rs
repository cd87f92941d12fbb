//! What crosses the door to the workers, against a gateway that echoes on the raw socket.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use millstream_core::RawJson;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::handover::{Accepted, Gateway, PublishError, Published, Socket};
use crate::hooks::{Admission, Answer, HookError, Hooks, UpgradeRequest};
use crate::server::{Server, Stopped};

/// Sends back the user data as text, the early bytes, then everything it reads.
#[derive(Default)]
struct Echo {
    open: AtomicUsize,
    draining: AtomicBool,
    stopped: AtomicBool,
    not_ready: AtomicBool,
    publish_error: Mutex<Option<PublishError>>,
    published: Mutex<Vec<String>>,
}

impl Gateway for Arc<Echo> {
    fn hand_over(&self, accepted: Accepted) {
        self.open.fetch_add(1, Ordering::SeqCst);
        let echo = Self::clone(self);
        std::thread::spawn(move || {
            let _ = echo_until_closed(accepted);
            echo.open.fetch_sub(1, Ordering::SeqCst);
        });
    }

    fn connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn publish(&self, topic: &str, event: &str, data: RawJson) -> Result<Published, PublishError> {
        if let Some(error) = self.publish_error.lock().clone() {
            return Err(error);
        }
        self.published
            .lock()
            .push(format!("{topic} {event} {}", data.as_str()));
        Ok(Published {
            delivered: true,
            seq: Some(7),
        })
    }

    fn is_ready(&self) -> bool {
        !self.not_ready.load(Ordering::SeqCst)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn metrics(&self, registry: &mut Registry) {
        let gauge: prometheus_client::metrics::gauge::Gauge = Default::default();
        registry.register("of_the_gateway", "A test", gauge);
    }
}

fn echo_until_closed(accepted: Accepted) -> io::Result<()> {
    let name = accepted
        .peer
        .user
        .get::<String>()
        .cloned()
        .unwrap_or_default();
    let mut first = name.into_bytes();
    first.extend_from_slice(&accepted.early);
    match accepted.socket {
        Socket::Plain(mut socket) => {
            assert!(socket.nodelay()?, "TCP_NODELAY is set");
            let mut probe = [0];
            let wait = socket.peek(&mut probe);
            assert!(
                !matches!(wait, Err(error) if error.kind() != io::ErrorKind::WouldBlock),
                "non-blocking"
            );
            socket.set_nonblocking(false)?;
            echo(&mut socket, &first)
        }
        Socket::Tls(mut socket, mut session) => {
            socket.set_nonblocking(false)?;
            echo(&mut rustls::Stream::new(&mut *session, &mut socket), &first)
        }
    }
}

fn echo(stream: &mut (impl Read + Write), first: &[u8]) -> io::Result<()> {
    stream.write_all(first)?;
    let mut buffer = [0; 1_024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(buffer.get(..count).unwrap_or_default())?,
        }
    }
}

struct App;

impl Hooks for App {
    fn has_upgrade(&self) -> bool {
        true
    }

    fn upgrade(&self, request: UpgradeRequest) -> Answer<Result<Admission, HookError>> {
        let name = request
            .query("user")
            .map(|user| user.into_owned())
            .unwrap_or_default();
        Ok(Admission::user(name)).into()
    }
}

async fn start(
    change: impl FnOnce(&mut Config),
) -> (
    Arc<Echo>,
    std::net::SocketAddr,
    crate::Stopper,
    JoinHandle<Stopped>,
) {
    let mut config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        upgrade_rate_limit: 0,
        drain_deadline: Duration::from_secs(5),
        drain_spread: Duration::ZERO,
        ..Config::default()
    };
    change(&mut config);
    let echo = Arc::new(Echo::default());
    let gateway = Arc::new(Arc::clone(&echo));
    let builder = Server::builder(App).config(config).signals(false);
    let server = builder.bind_with(|_, _| Ok(gateway)).await.expect("starts");
    let (address, stopper) = (server.local_addr(), server.stopper());
    let task = tokio::spawn(async move { server.run().await.expect("ends in order") });
    (echo, address, stopper, task)
}

fn upgrade(target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a response"));
    }
    String::from_utf8(head).expect("text")
}

async fn expect(stream: &mut (impl AsyncReadExt + Unpin), wanted: &[u8]) {
    let mut got = vec![0; wanted.len()];
    stream.read_exact(&mut got).await.expect("bytes");
    assert_eq!(
        String::from_utf8_lossy(&got),
        String::from_utf8_lossy(wanted)
    );
}

async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come true in 5 s");
}

#[tokio::test]
async fn the_socket_moves_with_user_data_and_early_bytes() {
    let (echo, address, ..) = start(|_| ()).await;
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let mut request = upgrade("/ws?user=ada");
    request.extend_from_slice(b" came early");
    stream.write_all(&request).await.expect("writes");
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    expect(&mut stream, b"ada came early").await;
    stream.write_all(b"later").await.expect("writes");
    expect(&mut stream, b"later").await;
    assert_eq!(echo.open.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_tls_session_moves_with_its_socket() {
    let folder = tempfile::tempdir().expect("folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).expect("writes");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("writes");
    let (_, address, ..) = start(|config| {
        config.tls_cert = Some(cert);
        config.tls_key = Some(key);
    })
    .await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls_pki_types::ServerName::try_from("localhost").expect("name");
    let stream = TcpStream::connect(address).await.expect("connects");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let mut stream = connector.connect(name, stream).await.expect("handshake");
    let mut request = upgrade("/ws?user=ada");
    request.extend_from_slice(b" came early");
    stream.write_all(&request).await.expect("writes");
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    expect(&mut stream, b"ada came early").await;
    stream.write_all(b"later").await.expect("writes");
    expect(&mut stream, b"later").await;
}

#[tokio::test]
async fn connections_are_counted_until_they_are_gone() {
    let (echo, address, ..) = start(|config| config.connections_max = 1).await;
    let mut first = TcpStream::connect(address).await.expect("connects");
    first.write_all(&upgrade("/ws")).await.expect("writes");
    assert!(head(&mut first).await.starts_with("HTTP/1.1 101 "));
    for (request, start) in [
        (upgrade("/ws"), "HTTP/1.1 503 "),
        (b"GET /readyz HTTP/1.1\r\n\r\n".to_vec(), "HTTP/1.1 503 "),
    ] {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(&request).await.expect("writes");
        assert!(head(&mut stream).await.starts_with(start));
    }
    drop(first);
    until(|| echo.open.load(Ordering::SeqCst) == 0).await;
    let mut again = TcpStream::connect(address).await.expect("connects");
    again.write_all(&upgrade("/ws")).await.expect("writes");
    assert!(head(&mut again).await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn http_permits_come_back_after_the_upgrade() {
    let (_, address, ..) = start(|config| config.http_connections_max = 2).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(&upgrade("/ws")).await.expect("writes");
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
        open.push(stream);
    }
}

async fn publish(address: std::net::SocketAddr, body: &str) -> String {
    let request = format!(
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("reply");
    reply
}

#[tokio::test]
async fn publishes_pass_their_data_untouched_and_report_the_hubs_answer() {
    let (echo, address, ..) = start(|_| ()).await;
    let body = r#"{"data":{"n":1e400,"s":"\ud800", "a" : [1,2]},"event":"a\u00e9","topic":"t"}"#;
    let reply = publish(address, body).await;
    assert!(reply.ends_with(r#"{"delivered":true,"seq":7}"#), "{reply}");
    let expected = r#"t aé {"n":1e400,"s":"\ud800", "a" : [1,2]}"#;
    assert_eq!(*echo.published.lock(), [expected]);
    let plain = r#"{"topic":"t","event":"e"}"#;
    for (error, start, code) in [
        (PublishError::Busy, "HTTP/1.1 503 ", "busy"),
        (PublishError::TooLarge, "HTTP/1.1 413 ", "too_large"),
        (PublishError::BadTopic, "HTTP/1.1 400 ", "bad_topic"),
    ] {
        *echo.publish_error.lock() = Some(error);
        let reply = publish(address, plain).await;
        assert!(reply.starts_with(start) && reply.contains(code), "{reply}");
    }
}

#[tokio::test]
async fn before_the_workers_are_ready_everything_is_503() {
    let (echo, address, ..) = start(|_| ()).await;
    echo.not_ready.store(true, Ordering::SeqCst);
    for request in [upgrade("/ws"), b"GET /readyz HTTP/1.1\r\n\r\n".to_vec()] {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(&request).await.expect("writes");
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 503 "));
    }
    let reply = publish(address, r#"{"topic":"t","event":"e"}"#).await;
    assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
}

#[tokio::test]
async fn the_gateways_metrics_are_exposed() {
    let (_, address, ..) = start(|_| ()).await;
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("writes");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("reply");
    assert!(reply.contains("millstream_of_the_gateway 0\n"), "{reply}");
}

#[tokio::test]
async fn a_drain_waits_for_connections_and_a_second_stop_does_not() {
    for (stop_twice, expected) in [(false, Stopped::Drained), (true, Stopped::Forced)] {
        let (echo, address, stopper, task) = start(|_| ()).await;
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(&upgrade("/ws")).await.expect("writes");
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
        stopper.stop();
        until(|| echo.draining.load(Ordering::SeqCst)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!task.is_finished(), "a connection is still open");
        if stop_twice {
            stopper.stop();
        } else {
            drop(stream);
        }
        assert_eq!(task.await.expect("ends"), expected);
        assert!(
            echo.stopped.load(Ordering::SeqCst),
            "the workers were ended"
        );
    }
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let (_, address, stopper, task) = start(|config| {
        config.drain_deadline = Duration::from_millis(200);
    })
    .await;
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(&upgrade("/ws")).await.expect("writes");
    head(&mut stream).await;
    stopper.stop();
    assert_eq!(task.await.expect("ends"), Stopped::DeadlinePassed);
}
