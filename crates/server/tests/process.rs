//! The binary as a supervisor sees it: one ready line, an orderly end on SIGTERM.

mod common;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::process::ready;

fn start(arguments: &[&str]) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command
        .args(["--listen", "127.0.0.1:0", "--workers", "1"])
        .args(arguments)
        .stderr(Stdio::null());
    ready(&mut command, "http")
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.expect("kill").success());
}

#[test]
fn it_prints_one_line_serves_and_ends_on_sigterm() {
    let (mut child, mut out, address) = start(&[]);
    let mut stream = TcpStream::connect(&address).expect("connects");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("timeout");
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("ask");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("reply");
    assert!(
        reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\nOK"),
        "{reply}"
    );
    signal(&child, "TERM");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("rest");
    assert_eq!(rest, "", "one line and no more");
}

#[test]
fn a_second_signal_forces_the_end() {
    let (mut child, _out, _) = start(&["--shutdown-delay", "60s"]);
    signal(&child, "INT");
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        child.try_wait().expect("state").is_none(),
        "still in its shutdown delay"
    );
    signal(&child, "INT");
    assert_eq!(child.wait().expect("ends").code(), Some(1));
}
