//! One pipeline: every surface does every step.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/frames.rs"]
#[allow(dead_code, reason = "every test uses another part of it")]
mod frames;

use std::sync::Arc;

use millstream_core::RawJson;
use millstream_hub::PublishOptions;
use millstream_live::testing::{Behind, PublishedEvent, Settings, Testbed};
use millstream_live::{App, BatchEvent, Ctx, LiveError, Merge, Module, Problem, Stream, Warning};
use parking_lot::Mutex;
use serde_json::{Value, json};

type Log = Arc<Mutex<Vec<String>>>;
type Cx = Ctx<Log, String>;
type Bed = Testbed<Log, String>;

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

/// Topics number their events from 1.
fn bed() -> Bed {
    let settings = Settings {
        boot_unix_ms: 0,
        ..Settings::default()
    };
    Testbed::with(app(), settings)
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
type Surface = fn(&mut Bed, &str, &str, &Value) -> Result<bool, String>;

/// Calls a function as the first client, who is ada.
fn by_call(bed: &mut Bed, name: &str, args: &Value) -> Result<bool, String> {
    let called = bed.call(bed.client(0), &format!("m/{name}"), args);
    called
        .map(|delivered| delivered == true)
        .map_err(|error| error.code)
}

fn code<T>(result: Result<T, LiveError>) -> Result<T, String> {
    result.map_err(|error| error.code().to_owned())
}

const SURFACES: [(&str, Surface); 6] = [
    ("ctx.publish", |bed, topic, event, data| {
        by_call(bed, "typed", &json!([topic, event, data]))
    }),
    ("ctx.publish_raw", |bed, topic, event, data| {
        by_call(bed, "publish", &json!([topic, event, data]))
    }),
    ("ctx.publish_batch", |bed, topic, event, data| {
        by_call(bed, "batch", &json!([topic, event, data]))
    }),
    ("Publisher::publish", |bed, topic, event, data| {
        let done = bed.live().publisher().publish(topic, event, data);
        code(done).map(|done| done.delivered)
    }),
    ("Publisher::publish_raw", |bed, topic, event, data| {
        let data = RawJson::from_serialize(data).unwrap();
        let options = PublishOptions::default();
        let publisher = bed.live().publisher();
        let done = publisher.publish_raw(topic, event, data.get(), options);
        code(done).map(|done| done.delivered)
    }),
    ("Publisher::publish_batch", |bed, topic, event, data| {
        let one = BatchEvent::new(topic, event, data).unwrap();
        let done = bed.live().publisher().publish_batch(&[one]);
        code(done).map(|done| done[0].delivered)
    }),
];

fn only(bed: &mut Bed) -> PublishedEvent {
    let mut published = bed.published();
    assert_eq!(published.len(), 1, "{published:?}");
    published.pop().unwrap()
}

/// A surface of an application of its own.
struct Bench {
    name: &'static str,
    surface: Surface,
    bed: Bed,
}

impl Bench {
    fn each(check: fn(&mut Self)) {
        for (name, surface) in SURFACES {
            let mut bed = bed();
            bed.connect("ada".to_owned());
            check(&mut Self { name, surface, bed });
        }
    }

    fn publish(&mut self, topic: &str, event: &str, data: &Value) -> Result<bool, String> {
        let done = (self.surface)(&mut self.bed, topic, event, data);
        self.bed.settle();
        done
    }

    fn subscribe(&mut self, path: &str, args: &Value) -> Value {
        let nobody = self.bed.connect_unknown();
        let reply = frames::subscribe(&mut self.bed, nobody, path, args);
        assert_eq!(reply["ok"], true, "{reply}");
        reply
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.bed.state().lock())
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
        assert!(bench.bed.published().is_empty(), "{name}");
        assert_eq!(bench.publish("plain", "e", &row()), Ok(false), "{name}");
        let sent = only(&mut bench.bed);
        assert_eq!((sent.value(), sent.seq), (row(), Some(1)), "{name}");
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
        assert_eq!(only(&mut bench.bed).value(), json!({"id": 1}), "{name}");
        // The publisher hears of errors that nobody observes; the observer of others.
        let poison = json!({"poison": true});
        let result = bench.publish("shaped:a", "created", &poison);
        assert_eq!(result, refused("POISONED"), "{name}");
        assert_eq!(
            bench.publish("watched:a", "created", &poison),
            Ok(false),
            "{name}"
        );
        assert!(bench.bed.published().is_empty(), "{name}");
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
        let sent = only(&mut bench.bed);
        assert_eq!((sent.seq, sent.behind), (None, Behind::Nothing), "{name}");
        // The key comes from what was given, the data from the shape.
        bench.publish("newest:a", "e", &row()).unwrap();
        let sent = only(&mut bench.bed);
        assert_eq!((sent.value(), sent.seq), (json!({"id": 1}), None), "{name}");
        assert_eq!(sent.behind, Behind::NewestOf("s".to_owned()), "{name}");
        bench.publish("newest:a", "e", &json!({"id": 2})).unwrap();
        let sent = only(&mut bench.bed);
        assert_eq!(sent.behind, Behind::NewestOf(String::new()), "{name}");
        let all = json!([{"id": 2, "secret": 1}]);
        bench.publish("newest:a", "refreshed", &all).unwrap();
        let sent = only(&mut bench.bed);
        assert_eq!(
            (sent.value(), sent.behind),
            (json!([{"id": 2}]), Behind::Newest),
            "{name}"
        );
    });
}

#[test]
fn every_surface_folds_into_held_values_and_invalidates() {
    Bench::each(|bench| {
        let name = bench.name;
        bench.publish("held:a", "created", &row()).unwrap();
        drop(bench.bed.published());
        let reply = bench.subscribe("m/held", &json!(["a"]));
        let seen = (&reply["data"], &reply["seq"]);
        assert_eq!(seen, (&json!([row()]), &json!(1)), "{name}");
        assert_eq!(
            bench.publish("held:a", "deleted", &row()),
            Ok(true),
            "{name}"
        );
        bench.subscribe("m/reloaded", &json!([]));
        drop(bench.bed.published());
        bench.publish("source:a", "refreshed", &row()).unwrap();
        assert_eq!(bench.bed.published().len(), 1, "{name}");
        bench.publish("source:a", "any", &row()).unwrap();
        let sent = bench.bed.published();
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
        assert_eq!(bench.bed.live().stats().warnings, 1);
    });
}

#[test]
fn publishes_of_one_task_keep_their_order_over_all_surfaces() {
    for topic in ["plain", "shaped:a", "newest:a", "volatile:a", "held:a"] {
        let mut bed = bed();
        bed.connect("ada".to_owned());
        for n in 0..60_usize {
            let (_, publish) = SURFACES[n * 7 % SURFACES.len()];
            publish(&mut bed, topic, "created", &json!({"id": n})).unwrap();
        }
        let order: Vec<u64> = bed
            .published()
            .iter()
            .map(|sent| sent.value()["id"].as_u64().unwrap())
            .collect();
        assert_eq!(order, (0..60).collect::<Vec<_>>(), "{topic}");
    }
}

#[test]
fn a_batch_is_published_whole_or_not_at_all_and_plain_neighbours_together() {
    let mut bed = bed();
    let publisher = bed.live().publisher();
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
        assert!(bed.published().is_empty());
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
    let sent: Vec<(u64, usize)> = bed
        .published()
        .iter()
        .map(|sent| (sent.value()["id"].as_u64().unwrap(), sent.together))
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
    let mut bed = bed();
    let clone = early.clone();
    assert!(bed.live().attach(&early));
    assert!(!bed.live().attach(&clone), "it has a place");
    let anywhere: Box<dyn FnOnce() -> Option<u64> + Send> =
        Box::new(move || clone.publish("t", "e", &1).unwrap().seq);
    assert_eq!(anywhere(), Some(1));
    assert_eq!(only(&mut bed).value(), json!(1));
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
