//! `POST /api/publish`: who may, what is refused and how that is said.

mod common;

use common::{Reply, Running, ask, ask_with, start};
use millstream_server::{ApiKeys, Hooks};
use serde_json::Value;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const GOOD: &str = r#"{"topic":"chat","event":"said","data":{"n":1e400}}"#;

async fn post(server: &Running, more: &str, body: &str) -> Reply {
    let head = format!(
        "POST /api/publish HTTP/1.1\nHost: localhost\nContent-Length: {}\n{more}",
        body.len()
    );
    ask_with(server.address, &head, body.as_bytes()).await
}

async fn post_json(server: &Running, body: &str) -> Reply {
    post(server, "Content-Type: application/json", body).await
}

fn code(reply: &Reply) -> String {
    let body: Value = serde_json::from_str(&reply.body).expect("json");
    assert!(
        body["error"]["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    body["error"]["code"].as_str().expect("code").to_owned()
}

#[tokio::test]
async fn a_loopback_server_publishes_without_a_key() {
    let server = start((), |_| ()).await;
    let reply = post(
        &server,
        "Content-Type: application/json; charset=utf-8",
        GOOD,
    )
    .await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let receipt: Value = serde_json::from_str(&reply.body).expect("json");
    assert!(
        receipt["delivered"].is_boolean() && receipt["seq"].is_u64(),
        "{receipt}"
    );
    let without_data = post_json(&server, r#"{"topic":"chat","event":"said"}"#).await;
    assert_eq!(without_data.status, 200);
}

#[tokio::test]
async fn bad_input_gets_a_precise_4xx() {
    let server = start((), |config| config.message_bytes_max = 1_024).await;
    let long = "t".repeat(257);
    let deep = format!(
        r#"{{"topic":"t","event":"e","data":{}1{}}}"#,
        "[".repeat(70),
        "]".repeat(70)
    );
    let with_topic = |topic: &str| format!(r#"{{"topic":"{topic}","event":"e","data":1}}"#);
    for (body, status, want) in [
        ("", 400, "bad_json"),
        ("{", 400, "bad_json"),
        ("not json", 400, "bad_json"),
        (r#"{"topic":"t","event":"e","data":tru}"#, 400, "bad_json"),
        (r#"{"topic":"t","event":"e","data":1} x"#, 400, "bad_json"),
        ("[]", 400, "bad_request"),
        (r#"{"event":"e","data":1}"#, 400, "bad_request"),
        (r#"{"topic":"t","data":1}"#, 400, "bad_request"),
        (r#"{"topic":5,"event":"e"}"#, 400, "bad_request"),
        (
            r#"{"topic":"t","event":"e","data":1,"more":2}"#,
            400,
            "bad_request",
        ),
        (
            r#"{"topic":"t","topic":"u","event":"e"}"#,
            400,
            "bad_request",
        ),
        (r#"{"topic":"t","event":"a\"b"}"#, 400, "bad_event"),
        (r#"{"topic":"t","event":""}"#, 400, "bad_event"),
        (&with_topic(""), 400, "bad_topic"),
        (&with_topic(&long), 400, "bad_topic"),
        (&with_topic(r"a\u0001b"), 400, "bad_topic"),
        (&with_topic(r"a\\b"), 400, "bad_topic"),
        (&with_topic(r"a\u202eb"), 400, "bad_topic"),
        (&with_topic("__realtime"), 403, "system_topic"),
        (&deep, 400, "bad_data"),
        (
            &format!(r#"{{"topic":"{}"}}"#, "x".repeat(2_000)),
            413,
            "too_large",
        ),
    ] {
        let reply = post_json(&server, body).await;
        assert_eq!(
            (reply.status, code(&reply).as_str()),
            (status, want),
            "{body}: {}",
            reply.body
        );
    }
    let bytes = b"{\"topic\":\"\xff\",\"event\":\"e\"}";
    let head = format!(
        "POST /api/publish HTTP/1.1\nHost: localhost\nContent-Type: application/json\n\
         Content-Length: {}",
        bytes.len()
    );
    assert_eq!(
        code(&ask_with(server.address, &head, bytes).await),
        "bad_json"
    );
}

#[tokio::test]
async fn method_and_content_type_are_checked() {
    let server = start((), |_| ()).await;
    let get = ask(server.address, "GET /api/publish HTTP/1.1\nHost: localhost").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert_eq!(code(&get), "method_not_allowed");
    for more in [
        "",
        "Content-Type: text/plain",
        "Content-Type: application/jsonp",
    ] {
        let reply = post(&server, more, GOOD).await;
        assert_eq!(
            (reply.status, code(&reply).as_str()),
            (415, "unsupported_media_type")
        );
    }
}

#[tokio::test]
async fn a_configured_key_is_required() {
    let server = start((), |config| {
        config.api_keys = ApiKeys::new(["another-key-another-key", KEY]);
    })
    .await;
    let json = "Content-Type: application/json\nAuthorization:";
    for bad in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic 0123",
        &format!("Bearer {KEY}x"),
    ] {
        let reply = post(&server, &format!("{json} {bad}"), GOOD).await;
        assert_eq!(
            (reply.status, code(&reply).as_str()),
            (401, "unauthorized"),
            "{bad}"
        );
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
    for good in [format!("Bearer {KEY}"), format!("bearer {KEY}")] {
        assert_eq!(
            post(&server, &format!("{json} {good}"), GOOD).await.status,
            200,
            "{good}"
        );
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_not_publish() {
    let server = start((), |_| ()).await;
    let json = "Content-Type: application/json\n";
    for more in [
        "Origin: http://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
    ] {
        let reply = post(&server, &format!("{json}{more}"), GOOD).await;
        assert_eq!(
            (reply.status, code(&reply).as_str()),
            (403, "origin_not_allowed"),
            "{more}"
        );
    }
    let own = format!("{json}Origin: http://localhost\nSec-Fetch-Site: same-origin");
    assert_eq!(post(&server, &own, GOOD).await.status, 200);
}

/// An application that authenticates pins the host itself, yet keyless publishing must not follow.
struct Authenticating;

impl Hooks for Authenticating {
    fn has_upgrade(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_rebound_name_may_not_publish_without_a_key() {
    for server in [start((), |_| ()).await, start(Authenticating, |_| ()).await] {
        let head = format!(
            "POST /api/publish HTTP/1.1\nHost: evil.example\nOrigin: http://evil.example\n\
             Content-Type: application/json\nContent-Length: {}",
            GOOD.len()
        );
        assert_eq!(
            ask_with(server.address, &head, GOOD.as_bytes())
                .await
                .status,
            403
        );
    }
}

#[tokio::test]
async fn an_open_server_without_keys_does_not_publish() {
    let server = start((), |config| {
        config.listen = ([0, 0, 0, 0], 0).into();
        config.unsafe_same_origin_without_host_pin = true;
    })
    .await;
    let address = ([127, 0, 0, 1], server.address.port()).into();
    let head = format!(
        "POST /api/publish HTTP/1.1\nHost: localhost\nContent-Type: application/json\n\
         Content-Length: {}",
        GOOD.len()
    );
    let reply = ask_with(address, &head, GOOD.as_bytes()).await;
    assert_eq!(
        (reply.status, code(&reply).as_str()),
        (403, "not_configured")
    );
    let page = ask(address, "GET / HTTP/1.1\nHost: localhost").await;
    assert_eq!(page.status, 404, "no playground either");
}
