//! Topic names that nobody should be able to use are refused, one by one.

mod common;

use common::start;
use common::ws::Ws;
use millstream_core::RawJsonRef;
use millstream_server::{Context, Hooks, Message, PublishOptions};

/// Puts everyone into a topic of its own, and publishes there when somebody speaks.
struct System;

impl Hooks for System {
    fn open(&self, cx: &mut Context<'_>) {
        assert!(cx.subscribe_unchecked("__system"));
    }

    fn message(&self, cx: &mut Context<'_>, _: Message<'_>) {
        cx.publish(
            "__system",
            "said",
            RawJsonRef::NULL,
            PublishOptions::default(),
        )
        .expect("published");
    }
}

#[tokio::test]
async fn impossible_names_are_invalid() {
    let server = start((), |_| ()).await;
    let mut ws = Ws::connect(server.address).await;
    let long = "x".repeat(257);
    let escapes = [
        r"a\u0000b",
        r"a\nb",
        r"a\u001bb",
        r"a\u007f",
        r"a\u0085",
        r"a\u202eb",
        r"a\u2066b",
        r"a\u200bb",
        r"a\ufeffb",
        r#"a\"b"#,
        r"a\\b",
        r"\ud800",
        r"\u00e4",
        "ä",
        "\u{202e}a",
        "",
        "__system",
        "__",
        r"\u005f_system",
        &long,
    ];
    for name in escapes {
        ws.say(&format!(
            r#"{{"type":"subscribe","topic":"{name}","ref":1}}"#
        ))
        .await;
        let text = ws.text().await;
        let due = r#","ref":1,"reason":"INVALID_TOPIC"}"#;
        assert!(
            text.starts_with(r#"{"type":"subscribe-denied","#),
            "{name}: {text}"
        );
        assert!(text.ends_with(due), "{name}: {text}");
    }
    let list = escapes.map(|name| format!("\"{name}\"")).join(",");
    let batch = format!(r#"{{"type":"subscribe-batch","topics":[{list},"good",7],"ref":2}}"#);
    ws.say(&batch).await;
    let mut denied = 0;
    loop {
        let text = ws.text().await;
        if text == r#"{"type":"subscribed","topic":"good","ref":2}"# {
            break;
        }
        assert!(text.ends_with(r#""reason":"INVALID_TOPIC"}"#), "{text}");
        denied += 1;
    }
    assert_eq!(denied, escapes.len() + 1);
    let longest = "y".repeat(256);
    ws.subscribe(&longest).await;
}

#[tokio::test]
async fn a_client_cannot_leave_what_the_server_put_it_in() {
    let server = start(System, |_| ()).await;
    let mut ws = Ws::connect(server.address).await;
    ws.say(r#"{"type":"unsubscribe","topic":"__system"}"#).await;
    ws.say("hello").await;
    let text = ws.text().await;
    assert!(
        text.starts_with(r#"{"topic":"__system","event":"said","data":null,"seq":"#),
        "{text}"
    );
}
