//! The test harness itself: what it does for authors, and what it does not hide.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use millstream_live::testing::{Status, Testbed, assert_denied};
use millstream_live::{App, Ctx, LiveError, Module, Stream};
use parking_lot::Mutex;
use serde_json::{Value, json};

type Cx = Ctx<State, String>;

#[derive(Default)]
struct State {
    rows: Mutex<Vec<Value>>,
    log: Mutex<Vec<String>>,
}

async fn add(ctx: Cx, text: String) -> Result<usize, LiveError> {
    let id = ctx.state().rows.lock().len();
    let row = json!({"id": id, "text": text});
    ctx.state().rows.lock().push(row.clone());
    ctx.publish("rows", "created", &row)?;
    Ok(id)
}

async fn slow(ctx: Cx, millis: u64) -> Result<u64, LiveError> {
    ctx.platform().sleep(Duration::from_millis(millis)).await;
    Ok(millis)
}

fn app() -> App<State, String> {
    let rows = Stream::fixed("rows")
        .load(async |ctx: Cx| Ok(ctx.state().rows.lock().clone()))
        .on_unsubscribe(async |ctx: Cx, topic: std::sync::Arc<str>, others| {
            ctx.state()
                .log
                .lock()
                .push(format!("left {topic}, {others} others"));
        });
    let module = Module::new("demo")
        .call("add", add)
        .call("slow", slow)
        .call("panics", async |_: Cx| -> Result<(), _> {
            panic!("at the disco")
        })
        .call("background", async |ctx: Cx| {
            ctx.platform()
                .spawn(Box::pin(async { panic!("in the back") }));
            Ok(())
        })
        .stream("rows", rows);
    App::new(State::default()).module(module).build().unwrap()
}

#[test]
fn calls_streams_and_events() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let bob = t.connect("bob".to_owned());
    let list = t.subscribe(bob, "demo/rows", ());
    assert_eq!(t.value(list), json!([]));
    assert_eq!(t.call(ada, "demo/add", ["milk"]), Ok(json!(0)));
    assert_eq!(t.value(list), json!([{"id": 0, "text": "milk"}]));
    t.publish("rows", "updated", &json!({"id": 0, "text": "oat milk"}));
    assert_eq!(t.value(list), json!([{"id": 0, "text": "oat milk"}]));
    assert_eq!(t.events(list).len(), 2);
    assert_eq!(t.subscribers("rows"), 1);
    assert_eq!(
        (t.topic(list), t.status(list)),
        (Some("rows"), Status::Connected)
    );
    assert_denied(t.call(ada, "demo/none", ()), "NOT_FOUND");
}

#[test]
fn time_passes_only_when_asked() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let call = t.start(ada, "demo/slow", [500]);
    t.settle();
    assert_eq!(t.outcome(call), None);
    t.advance(Duration::from_millis(499));
    assert_eq!(t.outcome(call), None);
    t.advance(Duration::from_millis(1));
    assert_eq!(t.outcome(call), Some(&Ok(json!(500))));
    assert_eq!(t.call_as::<u64>(ada, "demo/slow", [2_000]), Ok(2_000));
    assert_eq!(t.elapsed(), Duration::from_millis(2_500));
    assert_denied(t.call(ada, "demo/slow", [40_000]), "TIMEOUT");
}
