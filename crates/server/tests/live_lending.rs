//! What a call publishes while its own worker polls it: order, bounds, panics, other servers.

mod common;

use std::sync::OnceLock;

use common::ws::Ws;
use common::{Running, start};
use millstream_live::{App, Ctx, LiveError, Module, Publisher, Stream};
use millstream_server::{ServerCtx, with_live};
use serde_json::{Value, json};

/// Another server in this process.
#[derive(Default)]
struct State {
    other: OnceLock<Publisher>,
}

type Cx = Ctx<State, ()>;

async fn flood(ctx: Cx, count: u64, bytes: usize) -> Result<u64, LiveError> {
    let pad = "x".repeat(bytes);
    for n in 0..count {
        ctx.publish("rows", "row", &json!({"n": n, "pad": pad}))?;
    }
    Ok(count)
}

/// Everything a call can do to its own connection, in turns.
async fn alternate(ctx: Cx) -> Result<(), LiveError> {
    let connection = ctx.connection().expect("a connection");
    for n in [0, 2, 4] {
        ctx.publish("rows", "row", &json!({ "n": n }))?;
        let data = millstream_core::RawJson::from_serialize(&json!({ "n": n + 1 }))?;
        connection.send("direct", "row", data).expect("room");
    }
    Ok(())
}

async fn fail(ctx: Cx) -> Result<(), LiveError> {
    ctx.publish("rows", "row", &json!({"n": 0}))?;
    panic!("as the test wants it");
}

async fn elsewhere(ctx: Cx) -> Result<bool, LiveError> {
    let other = ctx.state().other.get().expect("the other server");
    Ok(other
        .publish("rows", "row", &json!({"n": "there"}))?
        .delivered)
}

async fn serve(workers: u32, other: Option<Publisher>) -> (Running, Publisher) {
    let module = Module::new("t")
        .stream(
            "rows",
            Stream::fixed("rows").load(async |_: Cx| Ok(json!([]))),
        )
        .call("flood", flood)
        .call("alternate", alternate)
        .call("fail", fail)
        .call("elsewhere", elsewhere);
    let state = State::default();
    if let Some(other) = other {
        assert!(state.other.set(other).is_ok());
    }
    let app = App::new(state).module(module).build().expect("valid");
    let hooks = with_live(app, ());
    let publisher = hooks.publisher();
    let server = start(hooks, |config| {
        config.workers = workers;
        config.limits.turn_bytes_max = 64 * 1024;
    });
    (server.await, publisher)
}

async fn call(ws: &mut Ws, path: &str, args: Value) {
    let stream = path == "rows";
    ws.say(&format!(
        r#"{{"rpc":"t/{path}","id":"{path}","args":{args},"stream":{stream}}}"#
    ))
    .await;
}

async fn frame(ws: &mut Ws) -> Value {
    serde_json::from_str(&ws.text().await).expect("JSON")
}

/// Frames up to the reply of a call: the numbers of the events, and the reply.
async fn until_reply(ws: &mut Ws, path: &str) -> (Vec<Value>, Value) {
    let mut seen = Vec::new();
    loop {
        let frame = frame(ws).await;
        match (frame["topic"].as_str(), frame["event"].as_str()) {
            (Some("__rpc"), Some(event)) if event == path => return (seen, frame["data"].clone()),
            (Some("rows" | "direct"), _) => seen.push(frame["data"]["n"].clone()),
            _ => {}
        }
    }
}

async fn reader(server: &Running) -> Ws {
    let mut ws = Ws::connect(server.address).await;
    call(&mut ws, "rows", json!([])).await;
    until_reply(&mut ws, "rows").await;
    ws
}

fn numbers(count: u64) -> Vec<Value> {
    (0..count).map(Value::from).collect()
}

#[tokio::test]
async fn more_than_a_turn_holds_arrives_in_order_and_in_front_of_the_reply() {
    for workers in [1, 2] {
        let (server, _) = serve(workers, None).await;
        let (mut caller, mut other) = (reader(&server).await, reader(&server).await);
        for _ in 0..3 {
            call(&mut caller, "flood", json!([1_000, 300])).await;
            let (seen, reply) = until_reply(&mut caller, "flood").await;
            assert_eq!(
                (reply["data"].as_u64(), seen),
                (Some(1_000), numbers(1_000))
            );
            for n in 0..1_000 {
                assert_eq!(frame(&mut other).await["data"]["n"], n);
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_publishes_without_end_is_refused_not_kept() {
    let (server, _) = serve(1, None).await;
    let _reader = reader(&server).await;
    let mut caller = Ws::connect(server.address).await;
    call(&mut caller, "flood", json!([1_000_000, 10_000])).await;
    let (_, reply) = until_reply(&mut caller, "flood").await;
    assert_eq!(reply["code"], "OVERLOADED", "{reply}");
    call(&mut caller, "flood", json!([0, 0])).await;
    let (_, reply) = until_reply(&mut caller, "flood").await;
    assert_eq!(reply["ok"], true, "it goes on: {reply}");
}

#[tokio::test]
async fn publishes_and_sends_keep_their_order() {
    for workers in [1, 2] {
        let (server, _) = serve(workers, None).await;
        let mut ws = reader(&server).await;
        for _ in 0..20 {
            call(&mut ws, "alternate", json!([])).await;
            assert_eq!(until_reply(&mut ws, "alternate").await.0, numbers(6));
        }
    }
}

#[tokio::test]
async fn a_call_that_panics_gives_the_hub_back() {
    let (server, _) = serve(1, None).await;
    let mut ws = reader(&server).await;
    for _ in 0..3 {
        call(&mut ws, "fail", json!([])).await;
        let (seen, reply) = until_reply(&mut ws, "fail").await;
        assert_eq!(
            (seen, &reply["code"]),
            (numbers(1), &json!("INTERNAL_ERROR"))
        );
    }
    call(&mut ws, "flood", json!([3, 1])).await;
    assert_eq!(until_reply(&mut ws, "flood").await.0, numbers(3));
}

#[tokio::test]
async fn what_is_published_on_another_server_goes_there() {
    let (there, publisher) = serve(1, None).await;
    let (here, _) = serve(1, Some(publisher)).await;
    let (mut reader_there, mut caller) = (reader(&there).await, reader(&here).await);
    call(&mut caller, "elsewhere", json!([])).await;
    let (seen, reply) = until_reply(&mut caller, "elsewhere").await;
    assert_eq!((seen, &reply["data"]), (vec![], &json!(true)));
    assert_eq!(frame(&mut reader_there).await["data"]["n"], "there");
}
