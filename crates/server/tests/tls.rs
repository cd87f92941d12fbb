//! TLS by the server itself, and a certificate that is exchanged while running.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::process::ready;
use common::{receive, send, start, upgrade};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Writes a fresh certificate for `localhost` and gives its DER.
fn write_certificate(folder: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("writes");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("writes");
    made.cert.der().to_vec()
}

async fn connect(
    address: std::net::SocketAddr,
    trusted: &[u8],
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.to_vec().into()).expect("root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("name");
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

#[tokio::test]
async fn upgrades_work_over_tls_and_https_is_the_expected_scheme() {
    let folder = tempfile::tempdir().expect("folder");
    let der = write_certificate(folder.path());
    let server = start((), |config| {
        config.tls_cert = Some(folder.path().join("cert.pem"));
        config.tls_key = Some(folder.path().join("key.pem"));
    })
    .await;
    for (origin, status) in [("https://localhost", 101), ("http://localhost", 403)] {
        let connected = connect(server.address, &der, &[b"h2", b"http/1.1"]).await;
        let mut stream = connected.expect("handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        send(
            &mut stream,
            &upgrade("/ws", &format!("Origin: {origin}")),
            b"",
        )
        .await;
        assert_eq!(receive(&mut stream).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_dropped_and_harms_nobody() {
    let folder = tempfile::tempdir().expect("folder");
    let der = write_certificate(folder.path());
    let server = start((), |config| {
        config.tls_cert = Some(folder.path().join("cert.pem"));
        config.tls_key = Some(folder.path().join("key.pem"));
    })
    .await;
    let mut plain = TcpStream::connect(server.address).await.expect("connects");
    send(&mut plain, "GET /healthz HTTP/1.1\nHost: localhost", b"").await;
    assert!(common::try_receive(&mut plain).await.is_none());
    assert!(connect(server.address, &der, &[]).await.is_ok());
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_its_key_does_not_start() {
    let (one, two) = (
        tempfile::tempdir().expect("folder"),
        tempfile::tempdir().expect("folder"),
    );
    write_certificate(one.path());
    write_certificate(two.path());
    let mut config = millstream_server::Config::default();
    config.listen = ([127, 0, 0, 1], 0).into();
    config.tls_cert = Some(one.path().join("cert.pem"));
    config.tls_key = Some(two.path().join("key.pem"));
    let error = millstream_server::Server::builder(())
        .config(config)
        .bind()
        .await;
    let error = error.expect_err("refused");
    assert!(error.is_configuration(), "{error}");
}

#[test]
fn sighup_reads_the_certificate_again() {
    use std::process::{Command, Stdio};

    let folder = tempfile::tempdir().expect("folder");
    let old = write_certificate(folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command
        .args(["--listen", "127.0.0.1:0", "--workers", "1", "--tls-cert"])
        .arg(folder.path().join("cert.pem"))
        .arg("--tls-key")
        .arg(folder.path().join("key.pem"))
        .stderr(Stdio::null());
    let (mut child, _, address) = ready(&mut command, "https");
    let address = address.parse().expect("address");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("runtime").block_on(async {
        assert!(connect(address, &old, &[]).await.is_ok());
        let new = write_certificate(folder.path());
        let pid = child.id().to_string();
        Command::new("kill")
            .args(["-HUP", &pid])
            .status()
            .expect("kill");
        let mut reloaded = false;
        for _ in 0..100 {
            reloaded = connect(address, &new, &[]).await.is_ok();
            if reloaded {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(reloaded);
        assert!(connect(address, &old, &[]).await.is_err());
    });
    child.kill().expect("ends");
    child.wait().expect("ends");
}
