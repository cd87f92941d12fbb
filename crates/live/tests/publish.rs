//! One pipeline: every surface does every step.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/stage.rs"]
#[allow(dead_code, reason = "every test uses another part of it")]
mod stage;

use std::sync::Arc;

use millstream_core::RawJson;
use millstream_hub::PublishOptions;
use millstream_live::{
    App, BatchEvent, Ctx, Live, LiveError, Merge, Module, Problem, Stream, Warning,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use stage::{Sent, World, frame, on};

type Log = Arc<Mutex<Vec<String>>>;
type Cx = Ctx<Log, String>;

async fn publish(ctx: Cx, topic: String, event: String, data: RawJson) -> Result<bool, LiveError> {
    let options = PublishOptions::default();
    Ok(ctx
        .publish_raw(&topic, &event, data.get(), options)?
        .delivered)
}

async fn typed(ctx: Cx, topic: String, event: String, data: Value) -> Result<bool, LiveError> {
    Ok(ctx.publish(&topic, &event, &data)?.delivered)
}

async fn batch(ctx: Cx, topic: String, event: String, data: RawJson) -> Result<bool, LiveError> {
    let one = BatchEvent::raw(&topic, &event, data);
    Ok(ctx.publish_batch(&[one])?[0].delivered)
}

fn shape(mut row: Value) -> Result<Value, LiveError> {
    if row["poison"] == true {
        return Err(LiveError::new("POISONED", "poisoned"));
    }
    row.as_object_mut().unwrap().remove("secret");
    Ok(row)
}

fn on_prefix(prefix: &'static str) -> Stream<Log, String> {
    Stream::by(move |name: String| format!("{prefix}:{name}")).topics(&format!("{prefix}:*"))
}

fn app() -> App<Log, String> {
    let empty = async |_: Cx, _: String| Ok(json!([]));
    let module = Module::new("m")
        .call("publish", publish)
        .call("typed", typed)
        .call("batch", batch)
        .stream("shaped", on_prefix("shaped").load(empty).transform(shape))
        .stream(
            "watched",
            on_prefix("watched")
                .load(empty)
                .transform(shape)
                .on_error(|ctx: &Cx, topic, error| {
                    let user = ctx.user().cloned();
                    let line = format!("{topic} {} {user:?}", error.code());
                    ctx.state().lock().push(line);
                }),
        )
        .stream("volatile", on_prefix("volatile").load(empty).volatile())
        .stream(
            "newest",
            on_prefix("newest")
                .load(empty)
                .transform(shape)
                .coalesce_by(|row: Value| row["secret"].as_str().map(str::to_owned)),
        )
        .stream("held", on_prefix("held").held())
        .stream(
            "reloaded",
            Stream::fixed("reloaded")
                .load(async |_: Cx| Ok(json!([1])))
                .invalidate_on(["source:*"]),
        );
    App::new(Log::default())
        .module(module)
        .on_warning(|log, warning| log.lock().push(warning.to_string()))
        .build()
        .unwrap()
}

/// A way to publish: code of the error, or whether it was delivered.
type Surface = fn(&Arc<World>, &Live<Log, String>, &str, &str, &Value) -> Result<bool, String>;

fn by_call(
    name: &str,
    world: &Arc<World>,
    live: &Live<Log, String>,
    args: &Value,
) -> Result<bool, String> {
    let message = frame(&format!("m/{name}"), args, false);
    let reply = world
        .ask(live, &on(9, Some("ada".to_owned())), &message)
        .unwrap();
    match reply["ok"].as_bool() {
        Some(true) => Ok(reply["data"] == true),
        _ => Err(reply["code"].as_str().unwrap().to_owned()),
    }
}

fn code<T>(result: Result<T, LiveError>) -> Result<T, String> {
    result.map_err(|error| error.code().to_owned())
}

const SURFACES: [(&str, Surface); 6] = [
    ("ctx.publish", |world, live, topic, event, data| {
        by_call("typed", world, live, &json!([topic, event, data]))
    }),
    ("ctx.publish_raw", |world, live, topic, event, data| {
        by_call("publish", world, live, &json!([topic, event, data]))
    }),
    ("ctx.publish_batch", |world, live, topic, event, data| {
        by_call("batch", world, live, &json!([topic, event, data]))
    }),
    ("Publisher::publish", |_, live, topic, event, data| {
        code(live.publisher().publish(topic, event, data)).map(|done| done.delivered)
    }),
    ("Publisher::publish_raw", |_, live, topic, event, data| {
        let data = RawJson::from_serialize(data).unwrap();
        let options = PublishOptions::default();
        let done = live
            .publisher()
            .publish_raw(topic, event, data.get(), options);
        code(done).map(|done| done.delivered)
    }),
    ("Publisher::publish_batch", |_, live, topic, event, data| {
        let one = BatchEvent::new(topic, event, data).unwrap();
        code(live.publisher().publish_batch(&[one])).map(|done| done[0].delivered)
    }),
];

fn subscribe(world: &Arc<World>, live: &Live<Log, String>, path: &str, args: &Value) -> Value {
    let message = frame(path, args, true);
    let reply = world.ask(live, &on(1, None), &message).unwrap();
    assert_eq!(reply["ok"], true, "{reply}");
    reply
}

fn only(world: &World) -> Sent {
    let mut sent = world.take();
    assert_eq!(sent.len(), 1, "{sent:?}");
    sent.pop().unwrap()
}

/// A surface of an application of its own.
struct Bench {
    name: &'static str,
    surface: Surface,
    world: Arc<World>,
    live: Live<Log, String>,
}

impl Bench {
    fn each(check: fn(&Self)) {
        for (name, surface) in SURFACES {
            let (world, live) = World::with(app());
            check(&Self {
                name,
                surface,
                world,
                live,
            });
        }
    }

    fn publish(&self, topic: &str, event: &str, data: &Value) -> Result<bool, String> {
        (self.surface)(&self.world, &self.live, topic, event, data)
    }

    fn subscribe(&self, path: &str, args: &Value) -> Value {
        subscribe(&self.world, &self.live, path, args)
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.live.app().state().lock())
    }
}

fn row() -> Value {
    json!({"id": 1, "secret": "s"})
}

fn refused(code: &str) -> Result<bool, String> {
    Err(code.to_owned())
}

#[test]
fn every_surface_refuses_system_topics_and_publishes_what_is_not_declared_as_it_is() {
    Bench::each(|bench| {
        let name = bench.name;
        assert_eq!(
            bench.publish("__x", "e", &row()),
            refused("INVALID_TOPIC"),
            "{name}"
        );
        assert!(bench.world.take().is_empty(), "{name}");
        assert_eq!(bench.publish("plain", "e", &row()), Ok(false), "{name}");
        let sent = only(&bench.world);
        assert_eq!((sent.data, sent.seq), (row(), Some(1)), "{name}");
    });
}

#[test]
fn every_surface_shapes_data_without_subscribers_and_tells_of_errors() {
    Bench::each(|bench| {
        let name = bench.name;
        assert_eq!(
            bench.publish("shaped:a", "created", &row()),
            Ok(false),
            "{name}"
        );
        assert_eq!(only(&bench.world).data, json!({"id": 1}), "{name}");
        // The publisher hears of errors that nobody observes; the observer of others.
        let poison = json!({"poison": true});
        let result = bench.publish("shaped:a", "created", &poison);
        assert_eq!(result, refused("POISONED"), "{name}");
        assert_eq!(
            bench.publish("watched:a", "created", &poison),
            Ok(false),
            "{name}"
        );
        assert!(bench.world.take().is_empty(), "{name}");
        let user = if name.starts_with("ctx") {
            r#"Some("ada")"#
        } else {
            "None"
        };
        assert_eq!(
            bench.log(),
            [format!("watched:a POISONED {user}")],
            "{name}"
        );
    });
}

#[test]
fn every_surface_knows_volatile_and_coalesced_topics() {
    Bench::each(|bench| {
        let name = bench.name;
        bench.publish("volatile:a", "e", &row()).unwrap();
        let sent = only(&bench.world);
        assert_eq!((sent.seq, sent.volatile), (None, true), "{name}");
        // The key comes from what was given, the data from the shape.
        bench.publish("newest:a", "e", &row()).unwrap();
        let sent = only(&bench.world);
        assert_eq!(sent.key, Some(Some("s".to_owned())), "{name}");
        assert_eq!((sent.data, sent.seq), (json!({"id": 1}), None), "{name}");
        bench.publish("newest:a", "e", &json!({"id": 2})).unwrap();
        assert_eq!(only(&bench.world).key, Some(Some(String::new())), "{name}");
        let all = json!([{"id": 2, "secret": 1}]);
        bench.publish("newest:a", "refreshed", &all).unwrap();
        let sent = only(&bench.world);
        assert_eq!(
            (sent.key, sent.data),
            (Some(None), json!([{"id": 2}])),
            "{name}"
        );
    });
}

#[test]
fn every_surface_folds_into_held_values_and_invalidates() {
    Bench::each(|bench| {
        let name = bench.name;
        bench.publish("held:a", "created", &row()).unwrap();
        bench.world.take();
        let reply = bench.subscribe("m/held", &json!(["a"]));
        let seen = (&reply["data"], &reply["seq"]);
        assert_eq!(seen, (&json!([row()]), &json!(1)), "{name}");
        assert_eq!(
            bench.publish("held:a", "deleted", &row()),
            Ok(true),
            "{name}"
        );
        bench.subscribe("m/reloaded", &json!([]));
        bench.world.take();
        bench.publish("source:a", "refreshed", &row()).unwrap();
        bench.world.run();
        assert_eq!(bench.world.take().len(), 1, "{name}");
        bench.publish("source:a", "any", &row()).unwrap();
        bench.world.run();
        let sent = bench.world.take();
        let events: Vec<&str> = sent.iter().map(|sent| &*sent.event).collect();
        assert_eq!(events, ["any", "refreshed"], "{name}");
    });
}

#[test]
fn every_surface_warns_once_of_data_that_clients_take_for_a_marker() {
    Bench::each(|bench| {
        for _ in 0..2 {
            bench
                .publish("plain", "e", &json!({"reqId": 1, "id": 2}))
                .unwrap();
            bench
                .publish("plain", "e", &json!({"deep": {"reqId": 1}}))
                .unwrap();
        }
        let topic: Arc<str> = "plain".into();
        let warning = Warning::MarkerData { topic }.to_string();
        assert_eq!(bench.log(), [warning], "{}", bench.name);
        assert_eq!(bench.live.stats().warnings, 1);
    });
}

#[test]
fn publishes_of_one_task_keep_their_order_over_all_surfaces() {
    for topic in ["plain", "shaped:a", "newest:a", "volatile:a", "held:a"] {
        let (world, live) = World::with(app());
        for n in 0..60_usize {
            let (_, publish) = SURFACES[n * 7 % SURFACES.len()];
            publish(&world, &live, topic, "created", &json!({"id": n})).unwrap();
        }
        let order: Vec<u64> = world
            .take()
            .iter()
            .map(|sent| sent.data["id"].as_u64().unwrap())
            .collect();
        assert_eq!(order, (0..60).collect::<Vec<_>>(), "{topic}");
    }
}

#[test]
fn a_batch_is_published_whole_or_not_at_all_and_plain_neighbours_together() {
    let (world, live) = World::with(app());
    let publisher = live.publisher();
    let row = |id: u32| json!({ "id": id });
    let event = |topic: &'static str, data: &Value| BatchEvent::new(topic, "e", data).unwrap();
    for bad in [
        event("__x", &row(1)),
        event("a\nb", &row(1)),
        event("shaped:a", &json!({"poison": true})),
        BatchEvent::new("plain", "a\"b", &row(1)).unwrap(),
    ] {
        let batch = [event("plain", &row(1)), bad, event("plain", &row(2))];
        assert!(publisher.publish_batch(&batch).is_err());
        assert!(world.take().is_empty());
    }
    assert!(publisher.publish_batch(&[]).unwrap().is_empty());
    let done = publisher
        .publish_batch(&[
            event("plain", &row(1)),
            event("shaped:a", &row(2)),
            event("watched:a", &json!({"poison": true})),
            event("held:a", &row(3)),
            event("plain", &row(4)),
            event("other", &row(5)),
        ])
        .unwrap();
    let seqs: Vec<Option<u64>> = done.iter().map(|one| one.seq).collect();
    assert_eq!(seqs, [Some(1), Some(1), None, Some(1), Some(2), Some(1)]);
    let sent: Vec<(u64, usize)> = world
        .take()
        .iter()
        .map(|sent| (sent.data["id"].as_u64().unwrap(), sent.unit))
        .collect();
    assert_eq!(sent, [(1, 2), (2, 2), (3, 1), (4, 2), (5, 2)]);
}

#[test]
fn a_publisher_can_be_made_before_there_is_an_application() {
    let early = millstream_live::Publisher::detached();
    assert_eq!(
        early.publish("t", "e", &1).unwrap_err().code(),
        "OVERLOADED"
    );
    let (world, live) = World::with(app());
    let clone = early.clone();
    assert!(live.attach(&early));
    assert!(!live.attach(&clone), "it has a place");
    let anywhere: Box<dyn FnOnce() -> Option<u64> + Send> =
        Box::new(move || clone.publish("t", "e", &1).unwrap().seq);
    assert_eq!(anywhere(), Some(1));
    assert_eq!(only(&world).data, json!(1));
}

#[test]
fn what_contradicts_itself_is_found_when_the_application_is_built() {
    let problem = |stream: Stream<(), ()>| {
        let app = App::new(()).module(Module::new("m").stream("s", stream));
        app.build().err().map(|errors| errors.0[0].problem.clone())
    };
    let fixed = || Stream::<(), ()>::fixed("t");
    let loaded = || fixed().load(async |_: Ctx<(), ()>| Ok(1));
    let key = |_: Value| None;
    let second = std::time::Duration::from_secs(1);
    let zero = std::time::Duration::ZERO;
    for (stream, expected) in [
        (
            loaded().coalesce_by(key).replay(5),
            Some(Problem::CoalescedReplay),
        ),
        (
            loaded().coalesce_by(key).volatile(),
            Some(Problem::CoalescedVolatile),
        ),
        (
            loaded().invalidate_on(Vec::<String>::new()),
            Some(Problem::NoPattern),
        ),
        (loaded().invalidate_on(["a", ""]), Some(Problem::NoPattern)),
        (loaded().stale_after(zero), Some(Problem::NoTime)),
        (fixed().held().drop_idle_after(zero), Some(Problem::NoTime)),
        (loaded().held(), Some(Problem::HeldLoader)),
        (fixed().stale_after(second), Some(Problem::NoLoader)),
        (
            fixed().pipe(millstream_live::Pipe::new()),
            Some(Problem::NoLoader),
        ),
        (
            Stream::by(|name: String| name).held(),
            Some(Problem::NoTopics),
        ),
        (
            Stream::by(|name: String| name)
                .coalesce_by(key)
                .merge(Merge::Set),
            Some(Problem::NoTopics),
        ),
        (
            loaded()
                .invalidate_on(["a"])
                .stale_after(second)
                .coalesce_by(key),
            None,
        ),
        (fixed().coalesce_by(key), None),
        (fixed().held().drop_idle_after(second).volatile(), None),
    ] {
        assert_eq!(problem(stream), expected);
    }
}
