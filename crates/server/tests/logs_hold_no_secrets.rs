//! Whatever level is on: no key, cookie, query, payload or address of a client in the logs.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::process::ready;

const SECRET: &str = "s3cr3t-s3cr3t-s3cr3t";

#[test]
fn requests_full_of_secrets_leave_none_in_the_log() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command
        .args([
            "--listen",
            "127.0.0.1:0",
            "--workers",
            "1",
            "--log-filter",
            "trace",
        ])
        .args(["--address-header", "x-real-ip", "--shutdown-delay", "0"])
        .env(
            "MILLSTREAM_API_KEYS",
            format!("{SECRET}-of-the-configuration"),
        )
        .stderr(Stdio::piped());
    let (child, _, address) = ready(&mut command, "http");

    for (head, body) in REQUESTS {
        ask(&address, head, body);
    }

    let pid = child.id().to_string();
    Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .expect("kill");
    let output = child.wait_with_output().expect("ends");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("stopping"), "something was logged: {log}");
    for secret in [SECRET, "192.0.2.77", "dGhlIHNhbXBsZSBub25jZQ"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

/// Heads and bodies; `SECRET` and `HOST` are filled in.
const REQUESTS: &[(&str, &str)] = &[
    (
        "GET /ws?token=SECRET HTTP/1.1\nUpgrade: websocket\nConnection: Upgrade\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13",
        "",
    ),
    (
        "GET /ws?token=SECRET HTTP/1.1\nOrigin: http://HOST\nUpgrade: websocket\n\
      Connection: Upgrade\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\
      Sec-WebSocket-Version: 13",
        "\u{1}SECRET",
    ),
    (
        "POST /__ws/auth?token=SECRET HTTP/1.1\nContent-Length: 0",
        "",
    ),
    (
        "POST /api/publish HTTP/1.1\nContent-Type: application/json",
        "{\"topic\":\"SECRET\",\"event\":\"e\",\"data\":\"SECRET\"}",
    ),
    ("GET /SECRET HTTP/1.1", ""),
    ("SECRET SECRET SECRET", ""),
];

fn ask(address: &str, head: &str, body: &str) {
    let body = body.replace("SECRET", SECRET);
    let length = if head.contains("publish") {
        format!("Content-Length: {}\n", body.len())
    } else {
        String::new()
    };
    let head = format!(
        "{head}\nHost: HOST\nCookie: session=SECRET\nX-Real-IP: 192.0.2.77\n\
         Authorization: Bearer SECRET-of-the-configuration\n{length}"
    );
    let head = head
        .replace("SECRET", SECRET)
        .replace("HOST", address)
        .replace('\n', "\r\n");
    let mut stream = TcpStream::connect(address).expect("connects");
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("timeout");
    stream
        .write_all(format!("{head}\r\n{body}").as_bytes())
        .expect("writes");
    stream.read_exact(&mut [0; 12]).expect("an answer");
    // Until the timeout: a WebSocket stays open.
    let _ = stream.read_to_end(&mut Vec::new());
}
