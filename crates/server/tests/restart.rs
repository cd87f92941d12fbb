//! The end of a process, orderly and not, as its clients see it.

mod common;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::process::ready;
use common::ws::{Frame, Ws, close_frame};

const DRAIN: &[&str] = &[
    "--drain-spread",
    "500ms",
    "--drain-deadline",
    "10s",
    "--upgrade-rate-limit",
    "0",
];

fn serve(listen: &str, more: &[&str]) -> (Child, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command
        .args(["--listen", listen, "--workers", "2"])
        .args(more)
        .stderr(Stdio::null());
    let (child, _, address) = ready(&mut command, "http");
    (child, address.parse().expect("address"))
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.expect("kill").success());
}

/// Publishes over HTTP; gives the number.
async fn publish(address: SocketAddr) -> u64 {
    let body = r#"{"topic":"t","event":"e","data":1}"#;
    let head = format!(
        "POST /api/publish HTTP/1.1\nHost: localhost\nContent-Type: application/json\n\
         Content-Length: {}",
        body.len()
    );
    let reply = common::ask_with(address, &head, body.as_bytes()).await;
    let value: serde_json::Value = serde_json::from_str(&reply.body).expect("json");
    value["seq"]
        .as_u64()
        .unwrap_or_else(|| panic!("{}", reply.body))
}

fn event(seq: u64) -> Frame {
    Frame::Text(format!(
        r#"{{"topic":"t","event":"e","data":1,"seq":{seq}}}"#
    ))
}

#[tokio::test]
async fn sigterm_closes_everyone_with_1001_in_time() {
    let (mut child, address) = serve("127.0.0.1:0", DRAIN);
    let mut all = Vec::new();
    for _ in 0..40 {
        all.push(Ws::connect(address).await);
    }
    let begun = Instant::now();
    signal(&child, "TERM");
    for ws in &mut all {
        assert!(matches!(ws.next().await, Frame::Close(Some(1001), _)));
        ws.bytes(&close_frame(1001)).await;
        assert_eq!(ws.next().await, Frame::End);
    }
    let status = tokio::task::spawn_blocking(move || child.wait())
        .await
        .expect("ends");
    assert_eq!(status.expect("ends").code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn after_kill_9_numbers_go_on_above_and_a_returning_client_is_told_to_reload() {
    let (mut child, address) = serve("127.0.0.1:0", &[]);
    let mut ws = Ws::connect(address).await;
    ws.subscribe("t").await;
    let mut old = 0;
    for _ in 0..10 {
        old = publish(address).await;
        assert_eq!(ws.next().await, event(old));
    }
    signal(&child, "KILL");
    child.wait().expect("ends");
    assert_eq!(ws.end().await, None);
    let (mut child, address) = serve(&address.to_string(), &[]);
    let mut back = Ws::connect(address).await;
    back.say(&format!(
        r#"{{"type":"resume","sessionId":"x","lastSeenSeqs":{{"t":{old}}}}}"#
    ))
    .await;
    assert_eq!(back.text().await, r#"{"type":"resumed"}"#);
    back.subscribe("t").await;
    let mark = r#"{"topic":"t","event":"end","data":{"reqId":0,"truncated":true}}"#;
    assert_eq!(back.text().await, mark);
    let new = publish(address).await;
    assert!(new > old, "{new} is not above {old}");
    assert_eq!(back.next().await, event(new));
    // Where the topic is now, there is nothing to reload.
    let mut current = Ws::connect(address).await;
    current
        .say(&format!(
            r#"{{"type":"resume","sessionId":"x","lastSeenSeqs":{{"t":{new}}}}}"#
        ))
        .await;
    assert_eq!(current.text().await, r#"{"type":"resumed"}"#);
    current.subscribe("t").await;
    assert_eq!(current.soon().await, None);
    child.kill().expect("ends");
    child.wait().expect("ends");
}
