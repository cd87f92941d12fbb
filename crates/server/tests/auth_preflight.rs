//! The auth preflight: guard, methods, limits, hook results, cookies and cross-origin use.

mod common;

use std::time::Duration;

use common::{ask, ask_with, send, start};
use http::{HeaderValue, Response, StatusCode};
use millstream_server::{
    AllowedOrigins, Answer, AuthOutcome, AuthRequest, CookieOptions, HookError, Hooks, SameSite,
};
use tokio::net::TcpStream;

struct App;

impl Hooks for App {
    fn authenticates(&self) -> bool {
        true
    }

    fn authenticate(&self, mut request: AuthRequest) -> Answer<Result<AuthOutcome, HookError>> {
        Answer::later(async move {
            let options = CookieOptions::new()
                .path("/")
                .max_age(Duration::from_secs(60))
                .http_only()
                .same_site(SameSite::Strict);
            request
                .cookies
                .set("conf_session", "a b", &options)
                .expect("a good cookie");
            match request.query("mode").as_deref() {
                Some("deny") => Ok(AuthOutcome::Reject),
                Some("fail") => Err(HookError::new("on purpose")),
                Some("panic") => panic!("on purpose"),
                Some("slow") => std::future::pending().await,
                Some("teapot") => {
                    let mut response = Response::new("short and stout".into());
                    *response.status_mut() = StatusCode::IM_A_TEAPOT;
                    let headers = response.headers_mut();
                    headers.insert("x-conf", HeaderValue::from_static("yes"));
                    headers.insert("set-cookie", HeaderValue::from_static("own=1"));
                    Ok(AuthOutcome::Respond {
                        response,
                        cookies: request.cookies,
                    })
                }
                _ => Ok(AuthOutcome::Accept {
                    cookies: request.cookies,
                }),
            }
        })
    }
}

fn post(query: &str, more: &str) -> String {
    format!("POST /__ws/auth{query} HTTP/1.1\nHost: app.example\nContent-Length: 0\n{more}")
}

const OURS: &str = "X-Requested-With: svelte-adapter-uws";

fn open(config: &mut millstream_server::Config) {
    config.unsafe_same_origin_without_host_pin = true;
    config.upgrade_timeout = Duration::from_millis(300);
}

#[tokio::test]
async fn success_is_204_with_the_cookie_line() {
    let server = start(App, open).await;
    let reply = ask(server.address, &post("", OURS)).await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    assert_eq!(
        reply.header("set-cookie"),
        Some("conf_session=a%20b; Path=/; Max-Age=60; HttpOnly; SameSite=Strict")
    );
}

#[tokio::test]
async fn the_guard_wants_a_custom_header_or_the_own_origin() {
    let server = start(App, open).await;
    for (more, status) in [
        ("X-Requested-With: xmlhttprequest", 204),
        (OURS, 204),
        ("Sec-Fetch-Site: Same-Origin", 204),
        ("Origin: http://app.example", 204),
        ("", 403),
        ("X-Requested-With: something", 403),
        ("Sec-Fetch-Site: same-site", 403),
        ("Origin: http://evil.example", 403),
    ] {
        let reply = ask(server.address, &post("", more)).await;
        assert_eq!(reply.status, status, "{more}");
        assert!(status != 403 || reply.body == "Origin not allowed");
    }
    let trusting = start(App, |config| {
        open(config);
        config.auth_require_origin = false;
    })
    .await;
    assert_eq!(ask(trusting.address, &post("", "")).await.status, 204);
}

#[tokio::test]
async fn other_methods_are_405_and_an_absent_hook_is_404() {
    let server = start(App, open).await;
    for method in ["GET", "PUT", "OPTIONS", "DELETE"] {
        let reply = ask(server.address, &post("", OURS).replacen("POST", method, 1)).await;
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, Some("POST")),
            "{method}"
        );
        assert_eq!(reply.body, "Method Not Allowed");
    }
    let without = start((), |_| ()).await;
    assert_eq!(ask(without.address, &post("", OURS)).await.status, 404);
}

#[tokio::test]
async fn each_hook_result_has_its_status() {
    let server = start(App, open).await;
    for (mode, status, body) in [
        ("deny", 401, "Unauthorized"),
        ("fail", 500, "Internal Server Error"),
        ("panic", 500, "Internal Server Error"),
        ("slow", 504, "Authentication timed out"),
    ] {
        let reply = ask(server.address, &post(&format!("?mode={mode}"), OURS)).await;
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (status, body),
            "{mode}"
        );
        assert_eq!(reply.header("set-cookie"), None, "{mode}");
    }
    let teapot = ask(server.address, &post("?mode=teapot", OURS)).await;
    assert_eq!(
        (teapot.status, teapot.body.as_str()),
        (418, "short and stout")
    );
    assert_eq!(teapot.header("x-conf"), Some("yes"));
    let cookies: Vec<_> = teapot.headers("set-cookie").collect();
    assert!(cookies.len() == 2 && cookies[0] == "own=1", "{cookies:?}");
}

#[tokio::test]
async fn bodies_over_64_kib_are_413_declared_or_streamed() {
    let server = start(App, open).await;
    let head = |length: &str| {
        format!("POST /__ws/auth HTTP/1.1\nHost: app.example\n{OURS}\n{length}\nConnection: close")
    };
    let declared = ask(server.address, &head("Content-Length: 65537")).await;
    assert_eq!(
        (declared.status, declared.body.as_str()),
        (413, "Content Too Large")
    );
    let fits = ask_with(
        server.address,
        &head("Content-Length: 65536"),
        &[b'x'; 65_536],
    )
    .await;
    assert_eq!(fits.status, 204);
    let mut chunks = Vec::new();
    for _ in 0..65 {
        chunks.extend_from_slice(b"400\r\n");
        chunks.extend_from_slice(&[b'x'; 1_024]);
        chunks.extend_from_slice(b"\r\n");
    }
    let streamed = ask_with(server.address, &head("Transfer-Encoding: chunked"), &chunks).await;
    assert_eq!(streamed.status, 413);
}

#[tokio::test]
async fn overload_is_503_and_never_a_4xx() {
    let server = start(App, |config| {
        open(config);
        config.upgrade_timeout = Duration::from_secs(5);
        config.auth_concurrent_max = 1;
    })
    .await;
    let mut busy = TcpStream::connect(server.address).await.expect("connects");
    send(&mut busy, &post("?mode=slow", OURS), b"").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let reply = ask(server.address, &post("", OURS)).await;
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (503, Some("1"))
    );
    drop(busy);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ask(server.address, &post("", OURS)).await.status, 204);
}

#[tokio::test]
async fn listed_origins_may_use_it_across_origins() {
    let server = start(App, |config| {
        config.allowed_origins = AllowedOrigins::List(vec!["https://app.other".into()]);
    })
    .await;
    let ask_first = "Origin: https://app.other\nAccess-Control-Request-Method: POST\n\
                     Access-Control-Request-Headers: x-requested-with";
    let granted = ask(
        server.address,
        &post("", ask_first).replacen("POST", "OPTIONS", 1),
    )
    .await;
    assert_eq!(granted.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.other"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "POST"),
        ("vary", "Origin"),
    ] {
        assert_eq!(granted.header(name), Some(value), "{name}");
    }
    let allowed = granted
        .header("access-control-allow-headers")
        .expect("header");
    assert!(allowed.contains("x-requested-with"));
    let denied = ask(
        server.address,
        &post("?mode=deny", "Origin: https://app.other"),
    )
    .await;
    assert_eq!(denied.status, 401);
    assert_eq!(
        denied.header("access-control-allow-origin"),
        Some("https://app.other")
    );
    let foreign = post("", &ask_first.replace("app.other", "evil.example"));
    let refused = ask(server.address, &foreign.replacen("POST", "OPTIONS", 1)).await;
    assert_eq!(
        (
            refused.status,
            refused.header("access-control-allow-origin")
        ),
        (405, None)
    );
}
