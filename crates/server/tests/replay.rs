//! Clients that lose their connection and come back, over real sockets and on two workers.

mod common;

use common::ws::Ws;
use common::{Running, ask_with, metric, start, until};
use millstream_live::{App, Ctx, LiveError, Module, Stream};
use millstream_server::{Config, with_live};
use serde_json::{Value, json};

type Cx = Ctx<(), ()>;

async fn rows(_: Cx, room: String) -> Result<Vec<String>, LiveError> {
    Ok(vec![format!("loaded {room}")])
}

async fn say(ctx: Cx, room: String, n: u64) -> Result<Option<u64>, LiveError> {
    Ok(ctx.publish(&format!("room:{room}"), "said", &n)?.seq)
}

/// The same from a thread of the runtime.
async fn say_later(ctx: Cx, room: String, n: u64) -> Result<Option<u64>, LiveError> {
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    say(ctx, room, n).await
}

async fn serve(change: impl FnOnce(&mut Config)) -> Running {
    let stream = Stream::by(|room: String| format!("room:{room}"))
        .topics("room:*")
        .replay(1_000)
        .load(rows);
    let module = Module::new("st")
        .stream("room", stream)
        .call("say", say)
        .call("sayLater", say_later)
        .call("position", async |ctx: Cx, topic: String| {
            Ok(ctx.platform().position(&topic))
        });
    let app = App::new(()).module(module).retain("open:*", 1_000);
    let app = app.build().expect("valid");
    start(with_live(app, ()), |config| {
        config.workers = 2;
        config.open_topics = Some(vec!["*".to_owned()]);
        change(config);
    })
    .await
}

async fn call(ws: &mut Ws, path: &str, args: Value, more: &str) -> Value {
    ws.say(&format!(
        r#"{{"rpc":"{path}","id":"1","args":{args}{more}}}"#
    ))
    .await;
    loop {
        let frame: Value = serde_json::from_str(&ws.text().await).expect("json");
        if frame["topic"] == "__rpc" {
            assert_eq!(frame["data"]["ok"], true, "{frame}");
            return frame["data"].clone();
        }
    }
}

/// Publishes in one of three ways; gives the event's number.
async fn publish(server: &Running, writer: &mut Ws, room: &str, n: u64) -> u64 {
    let seq = match n % 3 {
        0 => {
            let topic = format!("room:{room}");
            let body = json!({"topic": topic, "event": "said", "data": n}).to_string();
            let head = format!(
                "POST /api/publish HTTP/1.1\nHost: localhost\nContent-Type: application/json\n\
                 Content-Length: {}",
                body.len()
            );
            let reply = ask_with(server.address, &head, body.as_bytes()).await;
            serde_json::from_str::<Value>(&reply.body).expect("json")["seq"].clone()
        }
        1 => call(writer, "st/say", json!([room, n]), "").await["data"].clone(),
        _ => call(writer, "st/sayLater", json!([room, n]), "").await["data"].clone(),
    };
    seq.as_u64().expect("a number")
}

fn resume(topic: &str, seq: u64) -> String {
    format!(r#"{{"type":"resume","sessionId":"s","lastSeenSeqs":{{"{topic}":{seq}}}}}"#)
}

#[tokio::test]
async fn who_reconnects_while_others_publish_loses_nothing() {
    const EVENTS: u64 = 300;
    let server = serve(|_| {}).await;
    let mut writer = Ws::connect(server.address).await;
    let first = publish(&server, &mut writer, "a", 1).await;
    let address = server.address;
    let reader = tokio::spawn(async move {
        let (mut seen, mut reconnects) = (first, 0);
        while seen < first + EVENTS {
            let mut ws = Ws::connect(address).await;
            reconnects += 1;
            ws.say(&resume("room:a", seen)).await;
            ws.say(r#"{"type":"subscribe","topic":"room:a","ref":1}"#)
                .await;
            assert!(ws.text().await.contains("resumed"));
            assert!(ws.text().await.contains("subscribed"));
            // A few more each time, then the connection is cut.
            for _ in 0..reconnects % 7 + 1 {
                if seen == first + EVENTS {
                    break;
                }
                let event: Value = serde_json::from_str(&ws.text().await).expect("json");
                assert_eq!(event["seq"], seen + 1, "{event}");
                assert_eq!(event["data"], seen + 2 - first);
                seen += 1;
            }
        }
        reconnects
    });
    for n in 2..=EVENTS + 1 {
        let seq = publish(&server, &mut writer, "a", n).await;
        assert_eq!(seq, first + n - 1);
    }
    assert!(reader.await.expect("loses nothing") > 40);
}

#[tokio::test]
async fn a_stream_gives_what_was_missed_and_the_gap_is_told() {
    let server = serve(|_| {}).await;
    let mut writer = Ws::connect(server.address).await;
    let first = call(&mut writer, "st/position", json!(["room:a"]), "").await["data"]
        .as_u64()
        .expect("a number");
    for n in 1..=1_002 {
        call(&mut writer, "st/say", json!(["a", n]), "").await;
    }
    let mut ws = Ws::connect(server.address).await;
    let subscribe = |seq: u64| format!(r#","stream":true,"seq":{seq}"#);
    let reply = call(&mut ws, "st/room", json!(["a"]), &subscribe(first + 1_000)).await;
    let event = |n: u64| json!({"event": "said", "data": n, "seq": first + n});
    assert_eq!(reply["data"], json!([event(1_001), event(1_002)]));
    assert_eq!(
        (&reply["replay"], &reply["seq"]),
        (&json!(true), &json!(first + 1_002))
    );
    let reply = call(&mut ws, "st/room", json!(["a"]), &subscribe(first)).await;
    assert_eq!(
        (&reply["replay"], &reply["data"]),
        (&json!(false), &json!(["loaded a"]))
    );

    // By control frame as well: too far back, and from before a restart.
    for seq in [first, first + 5_000] {
        let mut ws = Ws::connect(server.address).await;
        ws.say(&resume("room:a", seq)).await;
        assert!(ws.text().await.contains("resumed"));
        ws.subscribe("room:a").await;
        assert!(ws.text().await.contains(r#""truncated":true"#));
    }
    // Counted once the turn is over.
    until(async || metric(server.address, "millstream_hub_gap_marks_total").await == 2).await;
}

#[tokio::test]
async fn the_budget_evicts_what_was_written_to_least_recently() {
    let server = serve(|config| config.limits.retained_bytes_max = 16_000).await;
    let mut writer = Ws::connect(server.address).await;
    let quiet = publish(&server, &mut writer, "quiet", 1).await;
    let mut last = 0;
    for n in 0..600 {
        last = publish(&server, &mut writer, &format!("r{}", n % 20), 1).await;
    }
    assert!(metric(server.address, "millstream_hub_retained_evicted_total").await > 0);
    let bytes = metric(server.address, "millstream_retained_bytes").await;
    assert!((10_000..=16_000).contains(&bytes), "{bytes}");
    let mut ws = Ws::connect(server.address).await;
    let more = format!(r#","stream":true,"seq":{}"#, quiet - 1);
    let reply = call(&mut ws, "st/room", json!(["quiet"]), &more).await;
    assert_eq!(
        (&reply["replay"], &reply["seq"]),
        (&json!(false), &json!(quiet))
    );
    let more = format!(r#","stream":true,"seq":{}"#, last - 1);
    let reply = call(&mut ws, "st/room", json!(["r19"]), &more).await;
    assert_eq!(
        (&reply["replay"], &reply["data"][0]["seq"]),
        (&json!(true), &json!(last))
    );
}
