//! What a worker does, over TLS: the session's own buffers must neither stall nor grow.

mod common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::ws::{BINARY, Frame, TEXT, Ws, close_frame, frame, part};
use common::{Running, start};
use millstream_core::RawJsonRef;
use millstream_live::{self as live, Ctx, LiveError, Module, Upload, UploadCall};
use millstream_server::{
    AllowedOrigins, Context, Handle, Hooks, Message, PublishOptions, with_live,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const MIB: usize = 1_024 * 1_024;

/// Sends back what it gets, or as many bytes as a text asks for.
#[derive(Clone, Default)]
struct App(Arc<OnceLock<Handle>>);

impl Hooks for App {
    fn open(&self, cx: &mut Context<'_>) {
        self.0.get_or_init(|| cx.handle());
    }

    fn message(&self, cx: &mut Context<'_>, message: Message<'_>) {
        match message {
            Message::Binary(bytes) => cx.send_binary(bytes),
            Message::Text(text) => cx.send_binary(&vec![7; text.parse().expect("a number")]),
        };
    }
}

async fn serve(app: &App) -> (Running, TlsConnector) {
    serve_hooks(app.clone()).await
}

async fn serve_hooks(hooks: impl Hooks) -> (Running, TlsConnector) {
    let folder = tempfile::tempdir().expect("folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).expect("writes");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("writes");
    let server = start(hooks, |config| {
        config.tls_cert = Some(cert);
        config.tls_key = Some(key);
        config.message_bytes_max = 8 * MIB;
        config.backpressure_bytes_max = 256 * 1_024;
        config.allowed_origins = AllowedOrigins::Any;
    })
    .await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, TlsConnector::from(Arc::new(client)))
}

async fn connect(server: &Running, tls: &TlsConnector, narrow: bool) -> Ws<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4().expect("socket");
    if narrow {
        socket.set_recv_buffer_size(4_096).expect("buffer");
    }
    let stream = socket.connect(server.address).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("name");
    Ws::over(tls.connect(name, stream).await.expect("handshake")).await
}

/// An upload to a function that is slower than its client: reading pauses while the session itself
/// holds bytes, and goes on without an event of the socket.
#[tokio::test]
async fn a_paused_upload_goes_on() {
    let slow = async |_: Ctx<(), ()>, mut upload: Upload| {
        while let Some(chunk) = upload.next().await {
            chunk?;
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok::<_, LiveError>(upload.bytes())
    };
    let upload = UploadCall::new(slow).buffered_chunks(4);
    let app = live::App::<(), ()>::new(()).module(Module::new("up").upload_with("run", upload));
    let (server, tls) = serve_hooks(with_live(app.build().expect("valid"), ())).await;
    let mut ws = connect(&server, &tls, false).await;
    // Sizes that end records, messages and reads everywhere.
    let mut total = 0;
    let sizes = (0..400_u32).map(|number| (number, 1 + number as usize * 7_919 % 30_000));
    let header = br#"{"rpc":"up/run"}"#;
    for (number, size) in sizes {
        let mut message = vec![1, u8::from(number == 0) | u8::from(number == 399) << 1];
        message.extend_from_slice(&[0, 0, 0, 1]);
        message.extend_from_slice(&number.to_be_bytes());
        if number == 0 {
            message.extend_from_slice(&[0, 16]);
            message.extend_from_slice(header);
        }
        message.resize(message.len() + size, 7);
        ws.bytes(&frame(BINARY, &message)).await;
        total += size;
    }
    let reply = ws.text().await;
    assert!(reply.contains(&format!(r#""data":{total}"#)), "{reply}");
}

#[tokio::test]
async fn subscribing_and_publishing_work() {
    let app = App::default();
    let (server, tls) = serve(&app).await;
    let mut ws = connect(&server, &tls, false).await;
    ws.subscribe("t").await;
    let handle = app.0.get().expect("opened");
    for n in 0..1_000 {
        let data = n.to_string();
        let data = RawJsonRef::parse(data.as_bytes()).expect("json");
        handle
            .publish("t", "e", data, PublishOptions::default())
            .expect("published");
    }
    for n in 0..1_000 {
        let text = ws.text().await;
        assert!(
            text.starts_with(&format!(r#"{{"topic":"t","event":"e","data":{n},"#)),
            "{text}"
        );
    }
    ws.bytes(&close_frame(4_001)).await;
    assert_eq!(ws.next().await, Frame::Close(Some(4_001), String::new()));
    assert_eq!(ws.next().await, Frame::End);
}

#[tokio::test]
async fn large_messages_go_through_in_both_directions() {
    let app = App::default();
    let (server, tls) = serve(&app).await;
    let mut ws = connect(&server, &tls, false).await;
    for size in [1, 16_384, 65_535, 65_536, 100_000, MIB, 3 * MIB, 7 * MIB] {
        // The client sends nothing while it waits: nothing of it wakes the worker again.
        ws.bytes(&frame(TEXT, size.to_string().as_bytes())).await;
        assert_eq!(ws.next().await, Frame::Binary(vec![7; size]), "{size}");
    }
    for size in [1, 16_384, 65_536, 300_000, 2 * MIB] {
        let payload: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        ws.bytes(&frame(BINARY, &payload)).await;
        assert_eq!(ws.next().await, Frame::Binary(payload), "{size}");
    }
    let parts = [part(BINARY, &[1; 70_000]), part(0x80, &[2; 70_000])].concat();
    ws.bytes(&parts).await;
    let whole = [vec![1; 70_000], vec![2; 70_000]].concat();
    assert_eq!(ws.next().await, Frame::Binary(whole));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_bounded_and_catches_up() {
    let app = App::default();
    let (server, tls) = serve(&app).await;
    let mut slow = connect(&server, &tls, true).await;
    slow.subscribe("flood").await;
    let mut quick = connect(&server, &tls, false).await;
    quick.subscribe("flood").await;
    let handle = app.0.get().expect("opened").clone();
    let data = format!("\"{}\"", "x".repeat(8_000));
    let data = RawJsonRef::parse(data.as_bytes()).expect("json");
    let mut last = 0;
    for _ in 0..1_500 {
        let published = handle.publish("flood", "e", data, PublishOptions::default());
        last = published.expect("taken").seq.expect("numbered");
        assert!(quick.text().await.ends_with(&format!("\"seq\":{last}}}")));
    }
    // The quick reader's frame can arrive before the slow one's is counted as dropped, in one turn.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let dropped = handle.stats().dropped();
    assert!(dropped > 10, "{dropped} dropped");
    let mut got = 0;
    let mut marked = false;
    while got + dropped < 1_500 || !marked {
        // Slowly at first, so that the socket is full more than once.
        if got < 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let text = slow.text().await;
        if text.contains(r#""truncated":true"#) {
            marked = true
        } else {
            got += 1
        }
    }
    assert_eq!(
        handle.stats().dropped_newest.load(Ordering::Relaxed),
        dropped
    );
    let published = handle.publish("flood", "e", RawJsonRef::NULL, PublishOptions::default());
    assert_eq!(published.expect("taken").seq, Some(last + 1));
    assert!(
        slow.text()
            .await
            .ends_with(&format!("\"data\":null,\"seq\":{}}}", last + 1))
    );
}
