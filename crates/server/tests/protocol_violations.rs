//! Clients that break the WebSocket protocol are closed with the right code, and nobody else
//! notices.

mod common;

use common::ws::{BINARY, CLOSE, Frame, PING, TEXT, Ws, frame, head, part};
use common::{Running, send, start, try_receive, upgrade};
use tokio::net::TcpStream;

/// Sends bytes on a connection of their own; gives the close code, if there is a close.
async fn closes(server: &Running, bytes: &[u8]) -> Option<u16> {
    let mut ws = Ws::connect(server.address).await;
    ws.bytes(bytes).await;
    // What follows a violation has no meaning any more.
    ws.bytes(&frame(
        TEXT,
        br#"{"type":"subscribe","topic":"late","ref":9}"#,
    ))
    .await;
    let code = match ws.soon().await? {
        Frame::Close(code, _) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(ws.soon().await, None, "nothing follows a close frame");
    code
}

async fn check(cases: &[(&str, Vec<u8>, u16)]) {
    let server = start((), |config| config.message_bytes_max = 1_000).await;
    let mut bystander = Ws::connect(server.address).await;
    for (name, bytes, code) in cases {
        assert_eq!(closes(&server, bytes).await, Some(*code), "{name}");
    }
    bystander.subscribe("still").await;
}

#[tokio::test]
async fn what_is_too_long_is_1009() {
    let halves = [part(0x01, &[b'a'; 600]), part(0x80, &[b'a'; 600])].concat();
    let many: Vec<u8> = (0..40)
        .flat_map(|n| part(u8::from(n == 0), &[b'a'; 50]))
        .collect();
    check(&[
        ("a frame over the limit", frame(TEXT, &[b'a'; 1_001]), 1009),
        ("its header alone", head(0x82, 1_001, true), 1009),
        (
            "a length near 2^63",
            [head(0x82, usize::MAX >> 1, true), vec![0; 4]].concat(),
            1009,
        ),
        ("two fragments over the limit", halves, 1009),
        ("many fragments over the limit", many, 1009),
    ])
    .await;
}

#[tokio::test]
async fn text_that_is_not_utf8_is_1007() {
    let split = [part(0x01, &[0xE2, 0x82]), part(0x80, &[0x28])].concat();
    check(&[
        ("a stray byte", frame(TEXT, &[b'a', 0xFF]), 1007),
        ("a surrogate", frame(TEXT, &[0xED, 0xA0, 0x80]), 1007),
        ("a cut character", frame(TEXT, &[0xE2, 0x82]), 1007),
        ("a wrong second fragment", split, 1007),
        (
            "a close reason",
            frame(CLOSE, &[0x03, 0xE8, 0xC0, 0x80]),
            1007,
        ),
    ])
    .await;
}

#[tokio::test]
async fn frames_out_of_order_or_shape_are_1002() {
    let unmasked = [head(0x81, 5, false), b"hello".to_vec()].concat();
    let interrupted = [part(0x01, b"a"), frame(TEXT, b"b")].concat();
    check(&[
        ("without a mask", unmasked, 1002),
        (
            "RSV1 although compression was not agreed on",
            part(0xC1, b"x"),
            1002,
        ),
        ("RSV2", part(0xA1, b"x"), 1002),
        ("RSV3", part(0x91, b"x"), 1002),
        ("a reserved opcode", frame(3, b""), 1002),
        ("a reserved control opcode", frame(11, b""), 1002),
        ("a continuation of nothing", part(0x80, b"x"), 1002),
        ("a new message inside another", interrupted, 1002),
        ("a fragmented ping", part(PING, b"x"), 1002),
        ("a long ping", frame(PING, &[0; 126]), 1002),
        ("a close of one byte", frame(CLOSE, &[3]), 1002),
        (
            "a close code nobody may send",
            frame(CLOSE, &1005_u16.to_be_bytes()),
            1002,
        ),
    ])
    .await;
}

#[tokio::test]
async fn endless_empty_fragments_are_refused() {
    let server = start((), |_| ()).await;
    let mut ws = Ws::connect(server.address).await;
    let mut bytes = part(0x01, b"a");
    for _ in 0..100_000 {
        bytes.extend(part(0x00, b""));
    }
    // The end may come while this is still being written.
    let _ = tokio::io::AsyncWriteExt::write_all(&mut ws.stream, &bytes).await;
    let code = loop {
        match ws.next().await {
            Frame::Close(code, _) => break code,
            Frame::End => panic!("without a close frame"),
            _ => {}
        }
    };
    assert!(matches!(code, Some(1002 | 1008 | 1009)), "{code:?}");
}

#[tokio::test]
async fn compression_is_declined_and_a_bomb_is_not_inflated() {
    let server = start((), |_| ()).await;
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits; server_max_window_bits=99",
        "permessage-deflate; =;;;, x-webkit-deflate-frame",
    ] {
        let mut stream = TcpStream::connect(server.address).await.expect("connects");
        let more = format!("Origin: http://localhost\nSec-WebSocket-Extensions: {offer}");
        send(&mut stream, &upgrade("/ws", &more), b"").await;
        let reply = try_receive(&mut stream).await.expect("a response");
        assert_eq!(reply.status, 101, "{offer}");
        assert_eq!(reply.header("sec-websocket-extensions"), None, "{offer}");
        let mut ws = Ws { stream };
        assert!(ws.text().await.contains("welcome"));
        // The beginning of a bomb: a deflate stream of zeros.
        ws.bytes(&part(0x80 | 0x40 | BINARY, &[0xEC, 0xC1, 0x01, 0x01]))
            .await;
        assert!(
            matches!(ws.next().await, Frame::Close(Some(1002), _)),
            "{offer}"
        );
    }
}
