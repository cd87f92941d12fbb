//! The close handshake in both directions, late data, and peers that just vanish.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::start;
use common::ws::{CLOSE, Frame, TEXT, Ws, close_frame, frame};
use millstream_server::{CloseInfo, Context, Hooks, Message};
use parking_lot::Mutex;

#[derive(Clone, Default)]
struct App {
    messages: Arc<AtomicUsize>,
    ends: Arc<Mutex<Vec<(u16, String)>>>,
}

impl Hooks for App {
    fn message(&self, cx: &mut Context<'_>, message: Message<'_>) {
        self.messages.fetch_add(1, Ordering::SeqCst);
        if message == Message::Text("bye") {
            cx.close(4_100, "as you wish");
        }
    }

    fn close(&self, _: &mut Context<'_>, info: &CloseInfo<'_>) {
        self.ends.lock().push((info.code, info.reason.to_owned()));
    }
}

#[tokio::test]
async fn a_clients_close_is_answered_with_its_code() {
    let app = App::default();
    let server = start(app.clone(), |_| ()).await;
    for (payload, answer, told) in [
        (&[][..], None, 1005),
        (&4_001_u16.to_be_bytes()[..], Some(4_001), 4_001),
        (&[0x03, 0xE8, b'o', b'k'][..], Some(1_000), 1_000),
    ] {
        let mut ws = Ws::connect(server.address).await;
        let mut bytes = frame(CLOSE, payload);
        // Data behind a close frame counts for nothing.
        bytes.extend(frame(TEXT, b"late"));
        bytes.extend(frame(CLOSE, &4_999_u16.to_be_bytes()));
        ws.bytes(&bytes).await;
        assert!(matches!(ws.next().await, Frame::Close(code, _) if code == answer));
        assert_eq!(ws.next().await, Frame::End);
        common::until(async || app.ends.lock().len() == 1).await;
        assert_eq!(app.ends.lock().pop().expect("one").0, told);
    }
    assert_eq!(app.messages.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_servers_close_waits_for_its_answer() {
    let app = App::default();
    let server = start(app.clone(), |_| ()).await;
    let mut ws = Ws::connect(server.address).await;
    ws.say("bye").await;
    assert_eq!(
        ws.next().await,
        Frame::Close(Some(4_100), "as you wish".to_owned())
    );
    ws.say("too late").await;
    ws.say(r#"{"type":"subscribe","topic":"late","ref":1}"#)
        .await;
    assert_eq!(ws.soon().await, None, "nothing follows a close frame");
    assert!(app.ends.lock().is_empty(), "the client may take its time");
    let begun = Instant::now();
    ws.bytes(&close_frame(4_100)).await;
    assert_eq!(ws.next().await, Frame::End);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(*app.ends.lock(), [(4_100, "as you wish".to_owned())]);
    assert_eq!(app.messages.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_client_that_never_answers_a_close_is_cut() {
    let app = App::default();
    let server = start(app.clone(), |_| ()).await;
    let mut ws = Ws::connect(server.address).await;
    ws.say("bye").await;
    assert!(matches!(ws.next().await, Frame::Close(Some(4_100), _)));
    let begun = Instant::now();
    assert_eq!(ws.next().await, Frame::End);
    assert!(begun.elapsed() > Duration::from_secs(3) && begun.elapsed() < Duration::from_secs(9));
}

#[tokio::test]
async fn the_end_of_a_large_upload_is_noticed() {
    let app = App::default();
    let server = start(app.clone(), |config| {
        config.message_bytes_max = 4 * 1_024 * 1_024
    })
    .await;
    // More than is read at once, and the end behind it in the same breath.
    for size in [256 * 1_024, 300_000, 1_048_576] {
        let mut ws = Ws::connect(server.address).await;
        ws.bytes(&frame(TEXT, &vec![b'a'; size])).await;
        tokio::io::AsyncWriteExt::shutdown(&mut ws.stream)
            .await
            .expect("half-closed");
        assert_eq!(ws.next().await, Frame::End, "{size}");
    }
    common::until(async || app.ends.lock().len() == 3).await;
    assert!(app.ends.lock().iter().all(|(code, _)| *code == 1006));
}

#[tokio::test]
async fn a_silent_peer_is_asked_and_then_dropped() {
    let app = App::default();
    let server = start(app.clone(), |config| {
        config.idle_timeout = Duration::from_secs(8);
        config.keepalive_after = Duration::ZERO;
        config.heartbeat = false;
    })
    .await;
    let begun = Instant::now();
    let mut silent = Ws::connect(server.address).await;
    let mut alive = Ws::connect(server.address).await;
    assert_eq!(silent.next().await, Frame::Ping(Vec::new()));
    assert_eq!(alive.next().await, Frame::Ping(Vec::new()));
    alive.bytes(&frame(10, b"")).await;
    assert_eq!(silent.next().await, Frame::End);
    assert!(
        begun.elapsed() >= Duration::from_secs(7),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(app.ends.lock().pop().map(|(code, _)| code), Some(1006));
    // The next ping is due for the other one, which is still served.
    assert_eq!(alive.next().await, Frame::Ping(Vec::new()));
    alive.subscribe("still").await;
}
