//! Clients that are slow, endless or huge before they are a WebSocket.

mod common;

use std::time::{Duration, Instant};

use common::{ask, start, try_receive, upgrade};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const HEALTH: &str = "GET /healthz HTTP/1.1\nHost: localhost";

#[tokio::test]
async fn a_trickled_upgrade_is_cut_after_the_header_timeout() {
    let server = start((), |config| {
        config.header_read_timeout = Duration::from_millis(400)
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    let begun = Instant::now();
    stream
        .write_all(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n")
        .await
        .expect("writes");
    let mut cut = false;
    while !cut && begun.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cut = stream.write_all(b"X-A: b\r\n").await.is_err();
    }
    assert!(cut, "each byte bought more time");
    assert_eq!(ask(server.address, HEALTH).await.status, 200);
}

#[tokio::test]
async fn silent_connections_make_room_for_others() {
    let server = start((), |config| {
        config.http_connections_max = 4;
        config.header_read_timeout = Duration::from_millis(300);
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(
            TcpStream::connect(server.address)
                .await
                .expect("the kernel takes it"),
        );
    }
    assert_eq!(ask(server.address, HEALTH).await.status, 200);
}

#[tokio::test]
async fn a_huge_head_is_431_and_not_buffered() {
    let server = start((), |_| ()).await;
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Big: ")
        .await
        .expect("writes");
    let (mut reader, mut writer) = stream.into_split();
    let flood = tokio::spawn(async move {
        let chunk = [b'x'; 64 * 1_024];
        for sent in 0..160 {
            if writer.write_all(&chunk).await.is_err() {
                return sent;
            }
        }
        160
    });
    let reply = try_receive(&mut reader).await;
    // A reset may overtake the response; that it is refused early is what counts.
    assert!(reply.is_none_or(|reply| reply.status == 431));
    drop(reader);
    assert!(flood.await.expect("ends") < 160, "all 10 MB were read");
    assert_eq!(ask(server.address, HEALTH).await.status, 200);
}

#[tokio::test]
async fn heads_up_to_the_limit_are_fine_and_beyond_are_431() {
    let server = start((), |_| ()).await;
    let with_cookie = |bytes: usize| format!("{HEALTH}\nCookie: a={}", "x".repeat(bytes));
    assert_eq!(ask(server.address, &with_cookie(15_000)).await.status, 200);
    assert_eq!(ask(server.address, &with_cookie(17_000)).await.status, 431);
}

#[tokio::test]
async fn many_headers_are_refused() {
    let server = start((), |_| ()).await;
    let many: String = (0..500).map(|n| format!("\nX-{n}: y")).collect();
    assert_eq!(
        ask(server.address, &format!("{HEALTH}{many}")).await.status,
        431
    );
}

#[tokio::test]
async fn a_body_that_never_comes_does_not_stay() {
    let server = start((), |config| {
        config.header_read_timeout = Duration::from_millis(300)
    })
    .await;
    let head = "POST /api/publish HTTP/1.1\nHost: localhost\nContent-Type: application/json\n\
                Content-Length: 100";
    assert_eq!(ask(server.address, head).await.status, 408);
}

#[tokio::test]
async fn an_old_connection_is_ended_however_busy_it_is() {
    let server = start((), |config| {
        config.http_connection_age_max = Duration::from_millis(500);
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    let begun = Instant::now();
    let mut answered = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        if stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .is_err()
        {
            break;
        }
        match try_receive(&mut stream).await {
            Some(_) => answered += 1,
            None => break,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        answered > 2 && begun.elapsed() < Duration::from_secs(3),
        "{answered}"
    );
}

#[tokio::test]
async fn garbage_is_400() {
    let server = start((), |_| ()).await;
    for garbage in [
        "\x16\x03\x01\x02",
        "GET",
        "GET / HTTP/9.9",
        "G@T / HTTP/1.1\nHost: x",
    ] {
        let mut stream = TcpStream::connect(server.address).await.expect("connects");
        stream
            .write_all(garbage.replace('\n', "\r\n").as_bytes())
            .await
            .expect("writes");
        stream.write_all(b"\r\n\r\n").await.expect("writes");
        let reply = try_receive(&mut stream).await;
        assert!(reply.is_none_or(|reply| reply.status == 400), "{garbage:?}");
    }
    assert_eq!(
        ask(server.address, &upgrade("/nowhere", "")).await.status,
        404
    );
}
