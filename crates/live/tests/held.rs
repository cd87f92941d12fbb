//! Values the server keeps, against a model that folds everything anew.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/frames.rs"]
#[allow(dead_code, reason = "every test uses another part of it")]
mod frames;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::RawJson;
use millstream_live::testing::{ClientId, PublishedEvent, Settings, Testbed};
use millstream_live::{App, Ctx, Limits, Live, LiveError, Merge, Module, Publisher, Stream};
use millstream_merge as merge;
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Default)]
struct State {
    seeds: AtomicU64,
    fails: AtomicBool,
    slow: AtomicU64,
}

type Cx = Ctx<State, ()>;

async fn seed(ctx: Cx, topic: Arc<str>) -> Result<Value, LiveError> {
    ctx.state().seeds.fetch_add(1, Ordering::Relaxed);
    let slow = ctx.state().slow.load(Ordering::Relaxed);
    ctx.platform().sleep(Duration::from_millis(slow)).await;
    if ctx.state().fails.load(Ordering::Relaxed) {
        return Err(LiveError::new("NO_SEED", ""));
    }
    Ok(json!([{"id": "seed", "of": &*topic}]))
}

const MERGES: [Merge; 5] = [
    Merge::Crud,
    Merge::Latest,
    Merge::Set,
    Merge::Presence,
    Merge::Cursor,
];

fn app(limits: Limits) -> App<State, ()> {
    let mut module = Module::new("m");
    for merge in MERGES {
        let name = merge.as_str();
        module = module
            .stream(name, Stream::fixed(name).merge(merge).held())
            .stream(
                format!("{name}3"),
                Stream::fixed(format!("{name}3"))
                    .merge(merge)
                    .prepend(true)
                    .max(3)
                    .held(),
            );
    }
    let by = |prefix: &'static str| {
        Stream::by(move |name: String| format!("{prefix}:{name}")).topics(&format!("{prefix}:*"))
    };
    let module = module
        .stream("rows", by("rows").held())
        .stream("seeded", by("seeded").held().seed(seed))
        .stream(
            "seededLatest",
            by("lines").merge(Merge::Latest).held().seed(seed),
        )
        .stream(
            "idle",
            by("idle")
                .held()
                .seed(seed)
                .drop_idle_after(Duration::from_secs(1)),
        )
        .stream(
            "shaped",
            by("shaped").held().seed(seed).transform(|mut row: Value| {
                row["shaped"] = json!(row["shaped"].as_u64().unwrap_or(0) + 1);
                Ok(row)
            }),
        );
    App::new(State::default())
        .module(module)
        .limits(limits)
        .build()
        .unwrap()
}

struct Rig {
    bed: Testbed<State, ()>,
    live: Live<State, ()>,
    publisher: Publisher,
    client: ClientId,
}

impl Rig {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    /// Topics number their events from 1.
    fn with(limits: Limits) -> Self {
        let settings = Settings {
            boot_unix_ms: 0,
            ..Settings::default()
        };
        let mut bed = Testbed::with(app(limits), settings);
        let client = bed.connect_unknown();
        let live = bed.live();
        let publisher = live.publisher();
        Self {
            bed,
            live,
            publisher,
            client,
        }
    }

    fn subscribe(&mut self, path: &str, args: &Value) -> Value {
        frames::subscribe(&mut self.bed, self.client, path, args)
    }

    fn data(&mut self, path: &str, name: &str) -> Value {
        let reply = self.subscribe(path, &json!([name]));
        assert_eq!(reply["ok"], true, "{reply}");
        reply["data"].clone()
    }

    fn publish(&mut self, topic: &str, event: &str, data: &Value) -> Result<(), String> {
        let published = self.publisher.publish(topic, event, data);
        self.bed.settle();
        published.map(drop).map_err(|error| error.code().to_owned())
    }

    fn advance(&mut self, millis: u64) {
        self.bed.advance(Duration::from_millis(millis));
    }
}

fn options(merge: Merge, small: bool) -> merge::Options {
    let mut options = merge::Options::new(merge::Strategy::named(merge.as_str()));
    if small {
        options.prepend = true;
        options.max = 3;
    }
    options
}

/// Folds a start and events, as a client does.
fn fold<'a>(
    options: merge::Options,
    start: &Value,
    events: impl IntoIterator<Item = &'a PublishedEvent>,
) -> Value {
    let json = |value: &Value| RawJson::from_serialize(value).unwrap();
    let mut value = merge::Merge::new(options, merge::Limits::NONE);
    value.load(json(start)).unwrap();
    for sent in events {
        let _ = value.apply(&sent.event, sent.data.clone());
    }
    let mut out = Vec::new();
    value.write_json(&mut out);
    serde_json::from_slice(&out).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Publish(&'static str, Value),
    Subscribe,
    Busy(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let events = prop::sample::select(vec![
        "created",
        "updated",
        "deleted",
        "join",
        "leave",
        "update",
        "remove",
        "set",
        "refreshed",
        "other",
    ]);
    let data = prop_oneof![
        6 => (0..4_u8, 0..3_u8).prop_map(|(id, n)| json!({"id": id, "key": id, "n": n})),
        1 => Just(Value::Null),
        1 => (0..3_u8).prop_map(|n| json!(n)),
        1 => Just(json!([{"id": 1, "key": 1}, {"id": 1, "key": 1}, 7])),
    ];
    prop_oneof![
        8 => (events, data).prop_map(|(event, data)| Step::Publish(event, data)),
        3 => Just(Step::Subscribe),
        1 => any::<bool>().prop_map(Step::Busy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn what_is_served_is_all_events_folded(
        steps in prop::collection::vec(step(), 1..60),
        which in 0..MERGES.len(),
        small in any::<bool>(),
    ) {
        let merge = MERGES[which];
        let topic = format!("{}{}", merge.as_str(), if small { "3" } else { "" });
        let path = format!("m/{topic}");
        let empty = if merge == Merge::Set { json!(null) } else { json!([]) };
        let mut rig = Rig::new();
        let mut sent: Vec<PublishedEvent> = Vec::new();
        let mut snapshots: Vec<(Value, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Publish(event, data) => {
                    let result = rig.publish(&topic, event, &data);
                    let new = rig.bed.published();
                    prop_assert_eq!(result.is_ok(), new.len() == 1);
                    sent.extend(new);
                }
                Step::Busy(busy) => rig.bed.refuse_publishes(busy),
                Step::Subscribe => {
                    let reply = rig.subscribe(&path, &json!([]));
                    prop_assert_eq!(&reply["data"], &fold(options(merge, small), &empty, &sent));
                    let last = sent.last().and_then(|sent| sent.seq);
                    prop_assert_eq!(reply["seq"].as_u64(), last);
                    snapshots.push((reply["data"].clone(), last.unwrap_or(0)));
                }
            }
        }
        let end = fold(options(merge, small), &empty, &sent);
        for (value, seq) in snapshots {
            let later = sent.iter().filter(|sent| sent.seq > Some(seq));
            // Whoever loads a list indexes it anew, and then duplicate keys and items without a
            // key are found differently: so say the rules of merging.
            let keyed = !matches!(merge, Merge::Set | Merge::Latest);
            if !keyed || sent.iter().all(|sent| sent.value().is_object()) {
                prop_assert_eq!(fold(options(merge, small), &value, later), end.clone());
            }
        }
        let held = rig.live.gauges();
        prop_assert!(held.held_topics <= 1 && held.held_bytes < 100_000);
    }
}

#[test]
fn null_on_a_keyed_topic_is_refused_before_anybody_sees_it() {
    let mut rig = Rig::new();
    assert_eq!(
        rig.publish("rows:a", "created", &Value::Null),
        Err("INVALID_REQUEST".to_owned())
    );
    assert!(rig.bed.published().is_empty());
}

#[test]
fn what_does_not_fit_is_refused_and_what_shrinks_is_not() {
    let mut limits = Limits::default();
    limits.held_bytes_max = 100;
    limits.held_entries_max = 3;
    limits.held_topics_max = 2;
    let mut rig = Rig::with(limits);
    let row = |id: u32, pad: usize| json!({"id": id, "pad": "x".repeat(pad)});
    let too_large = Err("PAYLOAD_TOO_LARGE".to_owned());
    assert_eq!(rig.publish("rows:a", "created", &row(1, 200)), too_large);
    for id in 1..=3 {
        rig.publish("rows:a", "created", &row(id, 10)).unwrap();
    }
    assert_eq!(
        rig.publish("rows:a", "created", &row(4, 1)),
        too_large,
        "entries"
    );
    assert_eq!(
        rig.publish("rows:a", "updated", &row(1, 60)),
        too_large,
        "bytes"
    );
    assert_eq!(
        rig.bed.published().len(),
        3,
        "nobody has seen what was refused"
    );
    rig.publish("rows:a", "updated", &row(1, 0)).unwrap();
    rig.publish("rows:a", "deleted", &row(2, 300)).unwrap();
    assert_eq!(rig.data("m/rows", "a"), json!([row(1, 0), row(3, 10)]));
    rig.publish("rows:b", "created", &row(1, 1)).unwrap();
    let overloaded = Err("OVERLOADED".to_owned());
    assert_eq!(rig.publish("rows:c", "created", &row(1, 1)), overloaded);
    let reply = rig.subscribe("m/rows", &json!(["c"]));
    assert_eq!(reply["code"], "OVERLOADED");
}

#[test]
fn all_values_together_are_bounded_and_counted() {
    let mut limits = Limits::default();
    limits.held_total_bytes_max = 4_000;
    let mut rig = Rig::with(limits);
    let row = |id: usize| json!({"id": id, "pad": "x".repeat(100)});
    let mut published = 0;
    while rig.publish("rows:a", "created", &row(published)).is_ok() {
        published += 1;
    }
    assert!((10..30).contains(&published), "{published}");
    let full = rig.live.gauges().held_bytes;
    assert!(full <= 4_000 && full > 3_700, "{full}");
    // A refusal by the engine gives back what was reserved.
    rig.publish("rows:a", "deleted", &row(0)).unwrap();
    rig.bed.refuse_publishes(true);
    for _ in 0..10 {
        assert!(rig.publish("rows:a", "created", &row(published)).is_err());
    }
    rig.bed.refuse_publishes(false);
    rig.publish("rows:a", "created", &row(published)).unwrap();
    // One more digit at most.
    let again = rig.live.gauges().held_bytes;
    assert!(again.abs_diff(full) <= 1, "{again} {full}");
}

#[test]
fn a_seed_runs_once_and_events_that_come_meanwhile_follow_it() {
    let mut rig = Rig::new();
    rig.live.app().state().slow.store(100, Ordering::Relaxed);
    let members = frames::subscription(&json!(["a"]));
    let waiting: Vec<String> = (0..3)
        .map(|_| frames::start(&mut rig.bed, rig.client, "m/seededLatest", &members))
        .collect();
    rig.advance(50);
    rig.publish("lines:a", "said", &json!(1)).unwrap();
    rig.publish("lines:a", "said", &json!(2)).unwrap();
    assert_eq!(rig.bed.published().len(), 2, "delivered at once");
    rig.advance(200);
    for id in waiting {
        let reply = frames::reply(&rig.bed, rig.client, &id).unwrap();
        assert_eq!(
            reply["data"],
            json!([{"id": "seed", "of": "lines:a"}, 1, 2])
        );
        assert_eq!(reply["seq"], 2);
    }
    assert_eq!(rig.live.app().state().seeds.load(Ordering::Relaxed), 1);
    // Without subscribers the publish has the topic seeded.
    rig.publish("lines:b", "said", &json!(3)).unwrap();
    rig.advance(200);
    assert_eq!(rig.live.app().state().seeds.load(Ordering::Relaxed), 2);
    assert_eq!(rig.data("m/seededLatest", "b")[1], 3);
    assert_eq!(rig.live.app().state().seeds.load(Ordering::Relaxed), 2);
}

#[test]
fn a_seed_that_fails_is_tried_again_and_loses_no_event() {
    let mut rig = Rig::new();
    rig.live.app().state().fails.store(true, Ordering::Relaxed);
    let reply = rig.subscribe("m/seeded", &json!(["a"]));
    assert_eq!(reply["code"], "NO_SEED");
    rig.publish("seeded:a", "created", &json!({"id": 1}))
        .unwrap();
    rig.bed.settle();
    rig.live.app().state().fails.store(false, Ordering::Relaxed);
    let seed = json!({"id": "seed", "of": "seeded:a"});
    assert_eq!(rig.data("m/seeded", "a"), json!([seed, {"id": 1}]));
}

#[test]
fn who_gives_up_while_seeding_leaves_it_to_the_next() {
    let mut rig = Rig::new();
    rig.live.app().state().slow.store(100, Ordering::Relaxed);
    let other = rig.bed.connect_unknown();
    let given_up = rig.bed.subscribe(other, "m/seeded", ["a"]);
    rig.bed.drop_call(given_up);
    let next = rig.bed.subscribe(rig.client, "m/seeded", ["a"]);
    rig.advance(110);
    assert_eq!(rig.bed.value(next)[0]["id"], "seed");
    assert_eq!(rig.bed.try_value(given_up), None);
}

#[test]
fn early_events_without_room_are_made_good_by_the_whole_value() {
    let mut limits = Limits::default();
    limits.held_entries_max = 2;
    let mut rig = Rig::with(limits);
    rig.live.app().state().slow.store(100, Ordering::Relaxed);
    for id in 1..=2 {
        rig.publish("seeded:a", "created", &json!({ "id": id }))
            .unwrap();
    }
    assert!(
        rig.publish("seeded:a", "created", &json!({"id": 3}))
            .is_err()
    );
    rig.advance(200);
    let sent = rig.bed.published();
    let value = json!([{"id": "seed", "of": "seeded:a"}, {"id": 1}]);
    assert_eq!(
        (&*sent[2].event, sent[2].value()),
        ("refreshed", value.clone())
    );
    let reply = rig.subscribe("m/seeded", &json!(["a"]));
    assert_eq!(
        (&reply["data"], reply["seq"].as_u64()),
        (&value, sent[2].seq)
    );
}

#[test]
fn values_are_shaped_once() {
    let mut rig = Rig::new();
    rig.publish("shaped:a", "created", &json!({"id": 1}))
        .unwrap();
    let rows = rig.data("m/shaped", "a");
    assert_eq!(
        (&rows[0]["shaped"], &rows[1]["shaped"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(rows, rig.data("m/shaped", "a"));
}

#[test]
fn idle_values_are_dropped_only_where_that_is_declared() {
    let mut rig = Rig::new();
    for topic in ["idle:a", "idle:b", "rows:a"] {
        rig.publish(topic, "created", &json!({"id": 1})).unwrap();
    }
    assert_eq!(rig.data("m/idle", "b").as_array().unwrap().len(), 2);
    let with_three = rig.live.gauges();
    assert_eq!(with_three.held_topics, 3);
    rig.advance(2_010);
    assert_eq!(
        rig.live.gauges().held_topics,
        2,
        "one has a subscriber, one is kept"
    );
    assert_eq!(
        rig.data("m/idle", "a").as_array().unwrap().len(),
        1,
        "seeded anew"
    );
    rig.bed.disconnect(rig.client);
    rig.advance(3_000);
    let left = rig.live.gauges();
    assert_eq!((left.held_topics, rig.bed.tasks()), (1, 0));
    assert!(left.held_bytes < with_three.held_bytes);
    rig.publish("idle:a", "created", &json!({"id": 1})).unwrap();
    rig.advance(3_000);
    assert_eq!(rig.live.gauges().held_topics, 1, "and the task comes back");
}
