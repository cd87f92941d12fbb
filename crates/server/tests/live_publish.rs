//! Publishing from outside of calls goes through what streams declare.

mod common;

use std::time::Duration;

use common::ws::Ws;
use common::{Running, ask_with, start};
use millstream_live::{App, Ctx, LiveError, Module, Publisher, Stream};
use millstream_server::with_live;
use serde_json::{Value, json};

type Cx = Ctx<(), ()>;

async fn serve(workers: u32) -> (Running, Publisher) {
    let shape = |mut row: Value| match row["poison"].as_str() {
        Some("typed") => Err(LiveError::new("POISONED", "poisoned")),
        Some(_) => Err(LiveError::internal("a secret")),
        None => {
            row["shaped"] = json!(true);
            Ok(row)
        }
    };
    let module = Module::new("st")
        .stream("rows", Stream::fixed("rows").held().transform(shape))
        .stream(
            "newest",
            Stream::fixed("newest").coalesce_by(|row: Value| row["k"].as_str().map(str::to_owned)),
        )
        .stream(
            "stale",
            Stream::fixed("stale")
                .load(async |_: Cx| Ok(json!(["fresh"])))
                .stale_after(Duration::from_millis(50)),
        );
    let app = App::new(()).module(module).build().expect("valid");
    let hooks = with_live(app, ());
    let publisher = hooks.publisher();
    let early = publisher.publish("rows", "created", &1);
    assert_eq!(early.expect_err("no server").code(), "OVERLOADED");
    (
        start(hooks, |config| config.workers = workers).await,
        publisher,
    )
}

async fn post(server: &Running, body: &str) -> (u16, Value) {
    let head = format!(
        "POST /api/publish HTTP/1.1\nHost: localhost\nContent-Type: application/json\n\
         Content-Length: {}\n",
        body.len()
    );
    let reply = ask_with(server.address, &head, body.as_bytes()).await;
    (
        reply.status,
        serde_json::from_str(&reply.body).expect("JSON"),
    )
}

async fn subscribe(ws: &mut Ws, path: &str) -> Value {
    ws.say(&format!(
        r#"{{"rpc":"st/{path}","id":"1","args":[],"stream":true}}"#
    ))
    .await;
    loop {
        let frame: Value = serde_json::from_str(&ws.text().await).expect("JSON");
        if frame["topic"] == "__rpc" {
            return frame["data"].clone();
        }
    }
}

async fn event(ws: &mut Ws) -> Value {
    serde_json::from_str(&ws.text().await).expect("JSON")
}

#[tokio::test]
async fn publishes_by_http_and_from_tasks_are_shaped_folded_and_ordered() {
    for workers in [1, 2] {
        let (server, publisher) = serve(workers).await;
        let row = r#"{"topic":"rows","event":"created","data":{"id":1}}"#;
        assert_eq!(post(&server, row).await.0, 200);
        let mut ws = Ws::connect(server.address).await;
        let reply = subscribe(&mut ws, "rows").await;
        assert_eq!(reply["data"], json!([{"id": 1, "shaped": true}]), "{reply}");
        let first = reply["seq"].as_u64().expect("a number");
        for n in 2..50 {
            publisher
                .publish("rows", "created", &json!({"id": n}))
                .expect("published");
        }
        for n in 2..50 {
            let event = event(&mut ws).await;
            assert_eq!(
                (&event["data"]["id"], event["data"]["shaped"].as_bool()),
                (&json!(n), Some(true))
            );
            assert_eq!(event["seq"].as_u64(), Some(first + n - 1));
        }
        let mut other = Ws::connect(server.address).await;
        let reply = subscribe(&mut other, "rows").await;
        assert_eq!(reply["data"].as_array().map(Vec::len), Some(49));
        assert_eq!(reply["seq"].as_u64(), Some(first + 48));
    }
}

#[tokio::test]
async fn what_the_application_refuses_is_refused_by_http() {
    let (server, _) = serve(1).await;
    for (poison, status, code) in [("typed", 422, "refused"), ("other", 500, "failed")] {
        let body = json!({"topic": "rows", "event": "created", "data": {"poison": poison}});
        let (got, body) = post(&server, &body.to_string()).await;
        assert_eq!(
            (got, body["error"]["code"].as_str()),
            (status, Some(code)),
            "{body}"
        );
        assert!(!body.to_string().contains("secret"), "{body}");
    }
    let null = r#"{"topic":"__x","event":"created","data":1}"#;
    assert_eq!(post(&server, null).await.0, 403);
}

#[tokio::test]
async fn coalesced_events_have_no_number_and_stale_topics_are_loaded_again() {
    let (server, publisher) = serve(2).await;
    let mut ws = Ws::connect(server.address).await;
    subscribe(&mut ws, "newest").await;
    publisher
        .publish("newest", "e", &json!({"k": "a"}))
        .expect("published");
    let got = event(&mut ws).await;
    assert_eq!(
        got,
        json!({"topic": "newest", "event": "e", "data": {"k": "a"}})
    );
    subscribe(&mut ws, "stale").await;
    for _ in 0..2 {
        let got = event(&mut ws).await;
        assert_eq!(
            (&got["event"], &got["data"]),
            (&json!("refreshed"), &json!(["fresh"]))
        );
    }
}
