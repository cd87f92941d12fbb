//! The test harness itself: what it does for authors, and what it does not hide.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use millstream_hub::Pattern;
use millstream_live::testing::{Chaos, Settings, Status, Testbed, assert_denied};
use millstream_live::{App, Ctx, LiveError, Module, Page, Stream};
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

async fn pages(ctx: Cx) -> Result<Page<Value, u64>, LiveError> {
    let at = ctx.cursor().and_then(|cursor| cursor.as_u64()).unwrap_or(0);
    Ok(Page {
        data: vec![json!({"id": at})],
        has_more: at < 2,
        cursor: Some(at + 1),
    })
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
        .stream("pages", Stream::fixed("pages").load(pages))
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

#[test]
fn a_stream_keeps_its_value_for_a_while_without_readers() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let list = t.subscribe(ada, "demo/rows", ());
    t.unsubscribe(list);
    assert_eq!((t.subscribers("rows"), t.status(list)), (0, Status::Idle));
    assert_eq!(*t.state().log.lock(), ["left rows, 0 others"]);
    t.call(ada, "demo/add", ["milk"]).unwrap();
    assert_eq!(t.value(list), json!([]), "nobody listens");
    t.resubscribe(list);
    assert_eq!(t.value(list)[0]["text"], "milk");
    t.unsubscribe(list);
    t.advance(Duration::from_secs(60));
    assert_eq!(t.try_value(list), None);
    t.resubscribe(list);
    assert_eq!(t.value(list)[0]["text"], "milk");
}

#[test]
fn a_restart_loses_connections_and_keeps_the_state() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let list = t.subscribe(ada, "demo/rows", ());
    t.call(ada, "demo/add", ["milk"]).unwrap();
    let call = t.start(ada, "demo/slow", [500]);
    t.settle();
    t.restart();
    assert!(!t.is_connected(ada));
    assert_eq!(
        t.outcome(call).unwrap().as_ref().unwrap_err().code,
        "DISCONNECTED"
    );
    assert_eq!((t.subscribers("rows"), t.tasks()), (0, 0));
    assert_eq!(t.value(list)[0]["text"], "milk", "the old value is shown");
    t.reconnect(ada);
    assert_eq!((t.subscribers("rows"), t.replies(list)), (1, 2));
}

/// The client asks for the topics first, leaves them, and then asks for the streams.
#[test]
fn a_stream_shows_no_error_while_its_client_comes_back() {
    for workers in [1, 2] {
        let settings = Settings {
            workers,
            // Then time does not pass by itself.
            chaos: Chaos {
                shuffle: true,
                ..Chaos::NONE
            },
            ..Settings::default()
        };
        let mut t = Testbed::with(app(), settings);
        let ada = t.connect("ada".to_owned());
        let streams = t.subscribe_all(
            ada,
            &[("demo/rows", json!(null)), ("demo/pages", json!(null))],
        );
        t.settle();
        t.restart();
        t.reconnect(ada);
        assert!(
            streams
                .iter()
                .all(|stream| t.status(*stream) == Status::Reconnecting)
        );
        for _ in 0..150 {
            t.advance(Duration::from_millis(1));
            for stream in &streams {
                assert_eq!(t.error(*stream), None);
                assert_ne!(t.status(*stream), Status::Error);
            }
        }
        assert!(
            streams
                .iter()
                .all(|stream| t.status(*stream) == Status::Connected)
        );
        t.advance(Duration::from_secs(10));
        let answers = |kind: &str| t.frames(ada).filter(|frame| frame.contains(kind)).count();
        assert_eq!(answers("subscribe-denied"), 0);
        assert_eq!(
            answers(r#""type":"subscribed""#),
            6,
            "at first, in the batch, and again"
        );
    }
}

#[test]
fn batches_and_the_errors_behind_them() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let calls = [
        ("demo/add", json!(["a"])),
        ("demo/add", json!([1])),
        ("demo/add", json!(["b"])),
    ];
    let outcomes = t.batch_in_order(ada, &calls);
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(json!(0)), &Ok(json!(1))));
    let refused = assert_denied(outcomes[1].clone(), "VALIDATION");
    assert_eq!(refused.issues[0].path, ["0"]);
    assert_eq!(
        t.frames(ada)
            .filter(|frame| frame.contains("__batch"))
            .count(),
        1
    );
    let streams = t.subscribe_all(ada, &[("demo/rows", json!(null)), ("demo/none", json!([]))]);
    assert_eq!(t.value(streams[0]).as_array().unwrap().len(), 2);
    assert_eq!(t.error(streams[1]).unwrap().code, "NOT_FOUND");
    assert_eq!(t.try_value(streams[1]), None);
}

#[test]
fn panics_and_unexpected_errors_are_seen_by_the_test() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    assert_denied(t.call(ada, "demo/panics", ()), "INTERNAL_ERROR");
    let errors = t.errors();
    assert_eq!((errors.len(), errors[0].path.as_str()), (1, "demo/panics"));
    assert!(errors[0].message.contains("at the disco"), "{errors:?}");
    t.call(ada, "demo/background", ()).unwrap();
    assert_eq!(t.panics(), ["in the back"]);
}

#[test]
fn pages_are_added_until_there_are_no_more() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let pages = t.subscribe(ada, "demo/pages", ());
    assert_eq!(
        (t.value(pages), t.has_more(pages)),
        (json!([{"id": 0}]), true)
    );
    assert_eq!(t.load_more(pages), Ok(true));
    assert_eq!(t.load_more(pages), Ok(false));
    assert_eq!(t.value(pages), json!([{"id": 0}, {"id": 1}, {"id": 2}]));
    assert_eq!(t.load_more(pages), Ok(false), "nothing is asked");
}

#[test]
fn a_slow_reader_is_told_to_reload_and_does() {
    let mut settings = Settings {
        socket_bytes: 256,
        ..Settings::default()
    };
    settings.hub.backlog_bytes_max = 1_000;
    let mut t = Testbed::with(app(), settings);
    let (ada, bob) = (t.connect("ada".to_owned()), t.connect("bob".to_owned()));
    let list = t.subscribe(bob, "demo/rows", ());
    t.stop_reading(bob);
    for n in 0..50 {
        t.call(ada, "demo/add", [format!("row {n}")]).unwrap();
    }
    assert_eq!(t.value(list), json!([]));
    assert!(t.stats().dropped() > 0);
    t.start_reading(bob);
    assert_eq!(t.value(list).as_array().unwrap().len(), 50);
    assert_eq!(t.replies(list), 2, "loaded again");
}

#[test]
fn what_the_subscribe_hook_refuses_is_an_error_of_the_stream() {
    let settings = Settings {
        deny: vec![("rows".to_owned(), "KYC_PENDING".to_owned())],
        open_topics: vec![Pattern::new("free:*")],
        ..Settings::default()
    };
    let mut t = Testbed::with(app(), settings);
    let ada = t.connect("ada".to_owned());
    let list = t.subscribe(ada, "demo/rows", ());
    assert_eq!(t.error(list).unwrap().code, "KYC_PENDING");
    t.listen(ada, "free:1");
    t.listen(ada, "secret");
    assert_eq!((t.subscribers("free:1"), t.subscribers("secret")), (1, 0));
}

#[test]
fn work_of_the_server_runs_on_the_same_time() {
    let mut t = Testbed::new(app());
    let ctx = t.context();
    let woken = t.run(async move {
        ctx.platform().sleep(Duration::from_secs(90)).await;
        ctx.platform().now()
    });
    assert_eq!(woken.as_millis(), 90_000);
    assert_eq!(t.elapsed(), Duration::from_secs(90));
}

/// Two clients, two workers, and everything that can go wrong.
fn rough(seed: u64) -> Vec<String> {
    let settings = Settings {
        seed,
        workers: 2,
        chaos: Chaos::ROUGH,
        ..Settings::default()
    };
    let mut t = Testbed::with(app(), settings);
    let (ada, bob) = (t.connect("ada".to_owned()), t.connect("bob".to_owned()));
    let list = t.subscribe(bob, "demo/rows", ());
    for n in 0..20 {
        t.start(ada, "demo/add", [format!("row {n}")]);
        t.advance(Duration::from_millis(7));
        if n == 10 {
            t.disconnect(bob);
            t.reconnect(bob);
        }
    }
    t.quiesce();
    assert_eq!(t.value(list).as_array().unwrap().len(), 20);
    t.frames(bob).map(str::to_owned).collect()
}

#[test]
fn a_seed_decides_everything() {
    assert_eq!(rough(1), rough(1));
    assert_ne!(rough(1), rough(2));
}
