//! Who gets a 101, who gets what else, and in which order that is decided.

mod common;

use std::sync::Mutex;
use std::time::Duration;

use common::{ask, receive, send, start, upgrade};
use http::{HeaderName, HeaderValue, Response};
use millstream_server::{Admission, AllowedOrigins, Answer, HookError, Hooks, UpgradeRequest};
use tokio::net::TcpStream;

/// Does what the query says.
#[derive(Default)]
struct App {
    seen: Mutex<Vec<String>>,
}

impl Hooks for &'static App {
    fn has_upgrade(&self) -> bool {
        true
    }

    fn upgrade(&self, request: UpgradeRequest) -> Answer<Result<Admission, HookError>> {
        self.seen.lock().expect("lock").push(format!(
            "{} {} {}",
            request.url, request.remote_address, request.request_id
        ));
        assert!(request.query("panic").is_none(), "on purpose");
        Answer::later(async move {
            if let Some(ms) = request.query("slow") {
                tokio::time::sleep(Duration::from_millis(ms.parse().expect("ms"))).await;
            }
            assert!(request.query("later").is_none(), "on purpose");
            if request.query("fail").is_some() {
                return Err(HookError::new("on purpose"));
            }
            if request.query("teapot").is_some() {
                let mut response = Response::new("short".into());
                *response.status_mut() = http::StatusCode::IM_A_TEAPOT;
                return Ok(Admission::Respond(response));
            }
            if request.query("reject").is_some() {
                return Ok(Admission::Reject);
            }
            let extra = HeaderValue::from_static("yes");
            let bad = HeaderValue::from_static("nonsense");
            Ok(Admission::user(request.url)
                .header(HeaderName::from_static("x-conf"), extra)
                .header(http::header::SEC_WEBSOCKET_ACCEPT, bad))
        })
    }
}

fn app() -> &'static App {
    Box::leak(Box::default())
}

#[tokio::test]
async fn a_good_request_gets_a_real_101() {
    let server = start(app(), |_| ()).await;
    let more = "Sec-WebSocket-Protocol: alpha, beta\n\
                Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    let reply = ask(server.address, &upgrade("/ws?user=q", more)).await;
    assert_eq!(reply.status, 101);
    assert_eq!(
        reply.headers("sec-websocket-accept").collect::<Vec<_>>(),
        ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
    );
    assert_eq!(
        reply.header("upgrade").map(str::to_lowercase).as_deref(),
        Some("websocket")
    );
    assert_eq!(reply.header("sec-websocket-protocol"), Some("alpha"));
    assert_eq!(reply.header("sec-websocket-extensions"), None);
    assert_eq!(
        reply.header("x-conf"),
        Some("yes"),
        "extra headers come behind the status line"
    );
}

#[tokio::test]
async fn other_paths_and_keys_are_ordinary_http() {
    let server = start(app(), |_| ()).await;
    for target in ["/ws/", "/other", "/WS"] {
        assert_eq!(
            ask(server.address, &upgrade(target, "")).await.status,
            404,
            "{target}"
        );
    }
    let plain = "GET /ws HTTP/1.1\nHost: localhost";
    assert_eq!(ask(server.address, plain).await.status, 404);
    let short =
        format!("{plain}\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Key: short");
    assert_eq!(ask(server.address, &short).await.status, 404);
    let post = upgrade("/ws", "Content-Length: 0").replace("GET", "POST");
    let reply = ask(server.address, &post).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET")));
}

#[tokio::test]
async fn the_handshake_is_checked_as_rfc_6455_says() {
    let server = start(app(), |_| ()).await;
    let good = upgrade("/ws", "");
    let twelve = ask(server.address, &good.replace("Version: 13", "Version: 12")).await;
    assert_eq!(
        (twelve.status, twelve.header("sec-websocket-version")),
        (426, Some("13"))
    );
    for (without, status) in [
        ("Upgrade: websocket\n", 400),
        ("Connection: Upgrade\n", 400),
        ("Sec-WebSocket-Version: 13\n", 426),
    ] {
        let reply = ask(server.address, &good.replace(without, "")).await;
        assert_eq!(reply.status, status, "{without}");
    }
    assert_eq!(
        ask(server.address, &good.replace("HTTP/1.1", "HTTP/1.0"))
            .await
            .status,
        400
    );
    let listed = good.replace("Connection: Upgrade", "Connection: keep-alive, UPGRADE");
    assert_eq!(ask(server.address, &listed).await.status, 101);
}

#[tokio::test]
async fn same_origin_is_decided_by_scheme_host_and_port() {
    let server = start(app(), |_| ()).await;
    for (host, origin, status) in [
        ("app.example", "http://app.example", 101),
        ("app.example:80", "http://app.example", 101),
        ("app.example:8080", "http://app.example:8080", 101),
        ("APP.example", "http://app.example", 101),
        ("app.example", "http://evil.example", 403),
        ("app.example", "null", 403),
        ("app.example", "https://app.example", 403),
        ("app.example", "http://app.example:81", 403),
    ] {
        let more = format!("Host: {host}\nOrigin: {origin}");
        let reply = ask(server.address, &upgrade("/ws", &more)).await;
        assert_eq!(reply.status, status, "{more}");
        assert!(status != 403 || reply.body == "Origin not allowed");
    }
    let none = ask(server.address, &upgrade("/ws", "Host: app.example")).await;
    assert_eq!(none.status, 101, "the hook authenticates");
}

#[tokio::test]
async fn without_a_hook_pages_of_loopback_names_may_connect_and_nothing_else() {
    let server = start((), |_| ()).await;
    let port = server.address.port();
    for (more, status) in [
        (
            format!("Host: localhost:{port}\nOrigin: http://localhost:{port}"),
            101,
        ),
        (
            format!("Host: 127.0.0.1:{port}\nOrigin: http://127.0.0.1:{port}"),
            101,
        ),
        (
            format!("Host: evil.example:{port}\nOrigin: http://evil.example:{port}"),
            403,
        ),
        (format!("Host: localhost:{port}"), 403),
    ] {
        assert_eq!(
            ask(server.address, &upgrade("/ws", &more)).await.status,
            status,
            "{more}"
        );
    }
    let any = start((), |config| config.allowed_origins = AllowedOrigins::Any).await;
    assert_eq!(ask(any.address, &upgrade("/ws", "")).await.status, 101);
}

#[tokio::test]
async fn each_hook_result_has_its_status() {
    let app = app();
    let server = start(app, |config| {
        config.upgrade_timeout = Duration::from_millis(300)
    })
    .await;
    for (target, status, body) in [
        ("/ws?reject", 401, "Unauthorized"),
        ("/ws?fail", 500, "Internal Server Error"),
        ("/ws?panic", 500, "Internal Server Error"),
        ("/ws?later", 500, "Internal Server Error"),
        ("/ws?teapot", 418, "short"),
        ("/ws?slow=5000", 504, "Upgrade timed out"),
    ] {
        let reply = ask(server.address, &upgrade(target, "")).await;
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (status, body),
            "{target}"
        );
    }
    let reply = ask(server.address, &upgrade("/ws?slow=50", "")).await;
    assert_eq!(reply.status, 101, "the server is fine");
}

#[tokio::test]
async fn the_hook_sees_url_forwarded_address_and_request_id() {
    let app = app();
    let server = start(app, |config| {
        config.address_header = Some(HeaderName::from_static("x-forwarded-for"));
    })
    .await;
    let more = "X-Forwarded-For: 172.16.0.9, 192.0.2.7\nX-Request-ID:  req-1 ";
    assert_eq!(
        ask(server.address, &upgrade("/ws?a=1", more)).await.status,
        101
    );
    assert_eq!(*app.seen.lock().expect("lock"), ["/ws?a=1 192.0.2.7 req-1"]);
}

#[tokio::test]
async fn the_rate_limit_counts_before_the_origin_and_says_when_to_retry() {
    let app = app();
    let server = start(app, |config| {
        config.upgrade_rate_limit = 3;
        config.address_header = Some(HeaderName::from_static("x-forwarded-for"));
    })
    .await;
    let from = |ip: &str, more: &str| upgrade("/ws", &format!("X-Forwarded-For: {ip}\n{more}"));
    for _ in 0..3 {
        let foreign = from("192.0.2.1", "Origin: http://evil.example");
        assert_eq!(ask(server.address, &foreign).await.status, 403);
    }
    let limited = ask(server.address, &from("192.0.2.1", "")).await;
    assert_eq!(
        (limited.status, limited.body.as_str()),
        (429, "Too many upgrade requests")
    );
    let wait: u64 = limited
        .header("retry-after")
        .expect("header")
        .parse()
        .expect("seconds");
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(
        ask(server.address, &from("192.0.2.2", "")).await.status,
        101
    );
    assert_eq!(
        app.seen.lock().expect("lock").len(),
        1,
        "refused before the hook"
    );
}

#[tokio::test]
async fn admission_slots_run_out_and_come_back_on_every_path() {
    let server = start(app(), |config| config.upgrade_concurrent_max = 2).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.expect("connects");
        send(&mut stream, &upgrade("/ws?slow=400", ""), b"").await;
        waiting.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    let full = ask(server.address, &upgrade("/ws", "")).await;
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    assert_eq!(full.body, "Server is at upgrade capacity, please retry");
    for stream in &mut waiting {
        assert_eq!(receive(stream).await.status, 101);
    }
    for target in ["/ws?reject", "/ws?fail", "/ws?panic", "/ws?later"].repeat(3) {
        assert_ne!(
            ask(server.address, &upgrade(target, "")).await.status,
            503,
            "{target}"
        );
    }
    // Clients that hang up give their slot back as well.
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.expect("connects");
        send(&mut stream, &upgrade("/ws?slow=5000", ""), b"").await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ask(server.address, &upgrade("/ws", "")).await.status, 101);
}

#[tokio::test]
async fn health_readiness_metrics_and_unknown_paths() {
    let server = start(app(), |_| ()).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\nHost: localhost");
    let health = ask(server.address, &get("/healthz")).await;
    assert_eq!((health.status, health.body.as_str()), (200, "OK"));
    assert_eq!(health.header("content-type"), None);
    assert_eq!(ask(server.address, &get("/readyz")).await.status, 200);
    assert_eq!(ask(server.address, &get("/nothing")).await.status, 404);
    let post = "POST /healthz HTTP/1.1\nHost: localhost\nContent-Length: 0";
    let refused = ask(server.address, post).await;
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD"))
    );
    let metrics = ask(server.address, &get("/metrics")).await;
    assert!(
        metrics
            .body
            .contains("millstream_http_requests_total{class=\"2xx\"} 2\n")
    );
    assert!(metrics.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_playground_runs_its_own_script_and_no_other() {
    let server = start((), |_| ()).await;
    let page = ask(server.address, "GET / HTTP/1.1\nHost: localhost").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").expect("policy");
    let (_, rest) = policy.split_once("script-src 'nonce-").expect("nonce");
    let (nonce, _) = rest.split_once('\'').expect("nonce");
    assert!(page.body.contains(&format!("<script nonce=\"{nonce}\">")));
    assert!(!page.body.contains("{{"), "every placeholder is filled in");
    assert!(!page.body.contains("http://") && !page.body.contains("https://"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let off = start((), |config| config.playground = Some(false)).await;
    assert_eq!(
        ask(off.address, "GET / HTTP/1.1\nHost: localhost")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_drained_server_is_gone() {
    let server = start(app(), |config| {
        config.shutdown_delay = Duration::from_millis(300)
    })
    .await;
    server.stopper.stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ready = ask(server.address, "GET /readyz HTTP/1.1\nHost: localhost").await;
    assert_eq!((ready.status, ready.body.as_str()), (503, "draining"));
    assert_eq!(
        ask(server.address, &upgrade("/ws", "")).await.status,
        101,
        "still accepting"
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn every_metric_the_documentation_names_is_there() {
    let server = start(app(), |_| ()).await;
    let exposed = ask(server.address, "GET /metrics HTTP/1.1\nHost: localhost")
        .await
        .body;
    let mut named = 0;
    for knob in millstream_server::Config::knobs() {
        let in_code = knob.metric.split('`').skip(1).step_by(2);
        for metric in in_code.filter(|metric| metric.starts_with("millstream_")) {
            let found = exposed.lines().any(|line| {
                line.strip_prefix(metric)
                    .is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
            });
            assert!(found, "{metric} of {}", knob.name);
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}
