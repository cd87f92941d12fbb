//! Pipes, and what channels can declare.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/frames.rs"]
#[allow(dead_code, reason = "every test uses another part of it")]
mod frames;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream_live::testing::{Behind, Testbed};
use millstream_live::{App, Ctx, Issue, LiveError, Merge, Module, Order, Page, Pipe, Stream};
use parking_lot::Mutex;
use serde_json::{Value, json};

#[derive(Default)]
struct State {
    /// Look-ups that run now, and the most that ever did.
    running: AtomicUsize,
    most: AtomicUsize,
    asked: Mutex<Vec<Value>>,
    log: Mutex<Vec<String>>,
}

type Cx = Ctx<State, String>;

async fn given(_: Cx, data: Value) -> Result<Value, LiveError> {
    Ok(data)
}

async fn find(ctx: Cx, id: Value) -> Result<Value, LiveError> {
    let state = ctx.state();
    let now = state.running.fetch_add(1, Ordering::Relaxed) + 1;
    state.most.fetch_max(now, Ordering::Relaxed);
    ctx.platform().sleep(Duration::from_millis(10)).await;
    state.running.fetch_sub(1, Ordering::Relaxed);
    state.asked.lock().push(id.clone());
    if id == "missing" {
        return Err(LiveError::new("NOBODY", ""));
    }
    Ok(json!({ "name": id }))
}

fn piped(pipe: Pipe<State, String>) -> Stream<State, String> {
    Stream::computed(|_, _| Ok("t".to_owned()))
        .load(given)
        .pipe(pipe)
}

type Bed = Testbed<State, String>;

fn bed(module: Module<State, String>) -> Bed {
    let mut bed = Testbed::new(App::new(State::default()).module(module).build().unwrap());
    bed.connect_unknown();
    bed
}

/// What the first client is given, or the code of the refusal.
fn load(bed: &mut Bed, path: &str, data: &Value) -> Value {
    let client = bed.client(0);
    let id = frames::start(bed, client, path, &frames::subscription(&json!([data])));
    bed.advance(Duration::from_secs(1));
    let reply = frames::reply(bed, client, &id).unwrap();
    match reply["ok"] == true {
        true => reply["data"].clone(),
        false => reply["code"].clone(),
    }
}

#[test]
fn steps_run_in_order_over_lists_alone() {
    let visible = || Pipe::new().filter(async |_: Cx, row: Value| Ok(row["hidden"] != true));
    let page = async |_: Cx, data: Vec<Value>| {
        Ok(Page {
            data,
            has_more: true,
            cursor: Some(1),
        })
    };
    let module = Module::new("m")
        .stream("visible", piped(visible()))
        .stream(
            "best",
            piped(visible().sort("rank", Order::Descending).limit(2)).pipe(Pipe::new().limit(1)),
        )
        .stream("none", piped(Pipe::new().limit(0)))
        .stream(
            "strict",
            piped(Pipe::new().filter(async |_: Cx, row: u64| Ok(row > 1))),
        )
        .stream(
            "page",
            Stream::computed(|_, _| Ok("p".to_owned()))
                .load(page)
                .pipe(visible()),
        );
    let mut bed = bed(module);
    let rows = json!([{"rank": 1}, {"rank": 3, "hidden": true}, {"rank": 2}, 7]);
    for (path, data, expected) in [
        ("m/visible", &rows, json!([{"rank": 1}, {"rank": 2}, 7])),
        ("m/best", &rows, json!([7])),
        (
            "m/best",
            &json!([{"rank": 1}, {"rank": 2}]),
            json!([{"rank": 2}]),
        ),
        ("m/none", &rows, json!([])),
        ("m/none", &json!({"rank": 1}), json!({"rank": 1})),
        ("m/none", &Value::Null, Value::Null),
        ("m/page", &rows, json!([{"rank": 1}, {"rank": 2}, 7])),
        ("m/strict", &json!([1, 2, 3]), json!([2, 3])),
        ("m/strict", &json!(["x"]), json!("INTERNAL_ERROR")),
    ] {
        assert_eq!(load(&mut bed, path, data), expected, "{path} {data}");
    }
}

#[test]
fn sorting_is_stable_and_any_mixture_has_an_order() {
    let module = Module::new("m")
        .stream("up", piped(Pipe::new().sort("k", Order::Ascending)))
        .stream("down", piped(Pipe::new().sort("k", Order::Descending)));
    let mut bed = bed(module);
    let row = |id: u32, k: Value| json!({"id": id, "k": k});
    let rows = json!([
        row(1, json!("b")),
        row(2, Value::Null),
        row(3, json!(10)),
        row(4, json!(true)),
        row(5, json!([1])),
        row(6, json!(-0.0)),
        row(7, json!("a")),
        row(8, json!(9.5)),
        row(9, json!(0)),
        {"id": 10},
    ]);
    let ids = |data: Value| -> Vec<u64> {
        let rows = data.as_array().unwrap().clone();
        rows.iter().map(|row| row["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(
        ids(load(&mut bed, "m/up", &rows)),
        [6, 9, 8, 3, 4, 7, 1, 2, 5, 10]
    );
    assert_eq!(
        ids(load(&mut bed, "m/down", &rows)),
        [2, 5, 10, 1, 7, 4, 3, 8, 6, 9]
    );
    // What a sort without a total order would stumble over.
    let many: Vec<Value> = (0..2_000_u32)
        .map(|n| match n % 3 {
            0 => row(n, json!(n % 7)),
            1 => row(n, json!(format!("{}", n % 5))),
            _ => row(n, Value::Null),
        })
        .collect();
    assert_eq!(ids(load(&mut bed, "m/up", &json!(many))).len(), 2_000);
}

#[test]
fn a_join_asks_for_equal_values_once_and_for_some_at_a_time() {
    let module = Module::new("m").stream("s", piped(Pipe::new().join("by", find, "author")));
    let mut bed = bed(module);
    let mut rows: Vec<Value> = (0..100).map(|n| json!({"id": n, "by": n % 40})).collect();
    rows.push(json!({"id": 100}));
    rows.push(json!(7));
    rows.push(json!({"author": "old", "by": 1, "z": 1}));
    let data = load(&mut bed, "m/s", &json!(rows));
    assert_eq!(data[41], json!({"id": 41, "by": 1, "author": {"name": 1}}));
    assert_eq!((&data[100], &data[101]), (&json!({"id": 100}), &json!(7)));
    assert_eq!(data[102], json!({"by": 1, "z": 1, "author": {"name": 1}}));
    let state = bed.state();
    assert_eq!(state.asked.lock().len(), 40);
    assert_eq!(state.most.load(Ordering::Relaxed), 16);
    let failing = load(&mut bed, "m/s", &json!([{"by": 1}, {"by": "missing"}]));
    assert_eq!(failing, "NOBODY");
}

#[test]
fn channels_take_what_streams_take() {
    let check = |args: millstream_live::Args| match args.get(0).and_then(|arg| arg.as_u64()) {
        Some(_) => Ok(args),
        None => Err(LiveError::validation(vec![Issue::new(["0"], "a number")])),
    };
    let channel = Stream::computed(|_: &Cx, args| Ok(format!("ch:{}", args.as_json().as_str())))
        .topics("ch:*")
        .merge(Merge::Set)
        .args(check)
        .access(async |ctx: Cx, _| Ok(ctx.user().is_some()))
        .coalesce_by(|data: Value| data["k"].as_str().map(str::to_owned))
        .on_subscribe(async |ctx: Cx, topic| ctx.state().log.lock().push(format!("on {topic}")))
        .on_unsubscribe(async |ctx: Cx, topic, left| {
            ctx.state().log.lock().push(format!("off {topic} {left}"));
        });
    let volatile = Stream::fixed("v").volatile();
    let module = Module::new("m").stream("ch", channel).stream("v", volatile);
    let mut bed = bed(module);
    let ada = bed.connect("ada".to_owned());
    let nobody = bed.client(0);
    let mut ask = |client, args: Value| frames::subscribe(&mut bed, client, "m/ch", &args);
    assert_eq!(ask(ada, json!(["x"]))["code"], "VALIDATION");
    assert_eq!(ask(nobody, json!([1]))["code"], "UNAUTHENTICATED");
    let reply = ask(ada, json!([1]));
    assert_eq!(
        (&reply["channel"], &reply["data"]),
        (&json!(true), &Value::Null)
    );
    bed.publish("ch:[1]", "e", &json!({"k": "a"}));
    bed.publish("v", "e", &1);
    let published = bed.published();
    assert_eq!(published[0].behind, Behind::NewestOf("a".to_owned()));
    assert_eq!(
        (&published[1].behind, published[1].seq),
        (&Behind::Nothing, None)
    );
    bed.disconnect(ada);
    assert_eq!(*bed.state().log.lock(), ["on ch:[1]", "off ch:[1] 0"]);
}
