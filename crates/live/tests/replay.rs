//! Streams that replay: what a client that comes back gets, and what registration refuses.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/frames.rs"]
#[allow(dead_code, reason = "every test uses another part of it")]
mod frames;

use millstream_core::RawJson;
use millstream_hub::PublishOptions;
use millstream_live::testing::{Settings, Testbed};
use millstream_live::{App, Ctx, LiveError, Merge, Module, Problem, Stream};
use serde_json::{Value, json};

type Cx = Ctx<(), String>;
type OurStream = Stream<(), String>;

async fn load(_: Cx, _room: String) -> Result<Vec<&'static str>, LiveError> {
    Ok(vec!["all"])
}

fn room() -> OurStream {
    Stream::by(|room: String| format!("room:{room}")).load(load)
}

async fn say(ctx: Cx, room: String, text: Value) -> Result<Option<u64>, LiveError> {
    Ok(ctx.publish(&format!("room:{room}"), "said", &text)?.seq)
}

async fn say_volatile(ctx: Cx, room: String, text: Value) -> Result<Option<u64>, LiveError> {
    let text = RawJson::from_serialize(&text)?;
    let options = PublishOptions {
        volatile: true,
        ..PublishOptions::default()
    };
    let published = ctx.publish_raw(&format!("room:{room}"), "said", text.get(), options)?;
    Ok(published.seq)
}

type Bed = Testbed<(), String>;

/// An application and ada. Topics number their events from 1.
fn bed(stream: OurStream) -> Bed {
    let module = Module::new("m")
        .stream("room", stream)
        .call("say", say)
        .call("sayVolatile", say_volatile);
    let app = App::new(()).module(module).build().unwrap();
    let settings = Settings {
        boot_unix_ms: 0,
        message_bytes_max: 1_000_000,
        ..Settings::default()
    };
    let mut bed = Testbed::with(app, settings);
    bed.connect("ada".to_owned());
    bed
}

fn say_in(bed: &mut Bed, text: Value) -> Value {
    bed.call(bed.client(0), "m/say", json!(["a", text]))
        .unwrap()
}

fn subscribe(bed: &mut Bed, seq: Option<Value>) -> Value {
    let seq = seq.map_or_else(String::new, |seq| format!(r#","seq":{seq}"#));
    let members = frames::subscription(&json!(["a"])) + &seq;
    frames::ask(bed, bed.client(0), "m/room", &members)
}

#[test]
fn what_was_published_before_anybody_came_is_replayed() {
    let mut bed = bed(room().topics("room:*").replay(3));
    for n in 1..=5 {
        assert_eq!(say_in(&mut bed, json!(n)), json!(n));
    }
    let volatile = bed.call(bed.client(0), "m/sayVolatile", json!(["a", 0]));
    assert_eq!(volatile, Ok(Value::Null));
    let event = |n| json!({"event": "said", "data": n, "seq": n});
    for (seq, data) in [
        (json!(2), Some(vec![event(3), event(4), event(5)])),
        (json!(4.0), Some(vec![event(5)])),
        (json!(5), Some(vec![])),
        // Gone, from another life, and none at all.
        (json!(1), None),
        (json!(0), None),
        (json!(6), None),
        (json!(2.5), None),
        (json!(-1), None),
        (json!(1e300), None),
    ] {
        let reply = subscribe(&mut bed, Some(seq.clone()));
        assert_eq!(reply["replay"], json!(data.is_some()), "{seq}");
        assert_eq!(
            reply["data"],
            data.map_or_else(|| json!(["all"]), Value::from)
        );
        assert_eq!(reply["seq"], 5);
    }
    let first = subscribe(&mut bed, None);
    assert_eq!((&first["seq"], first.get("replay")), (&json!(5), None));
}

#[test]
fn a_list_of_the_newest_is_always_loaded() {
    let mut bed = bed(room().topics("room:*").replay(3).merge(Merge::Latest));
    say_in(&mut bed, json!(1));
    let reply = subscribe(&mut bed, Some(json!(0)));
    let told = (&reply["replay"], &reply["data"], &reply["seq"]);
    assert_eq!(told, (&json!(false), &json!(["all"]), &json!(1)));
}

#[test]
fn events_are_kept_as_subscribers_saw_them() {
    let shape = |text: String| Ok(format!("{text}!"));
    let mut bed = bed(room().transform(shape).replay(3).topics("room:*"));
    say_in(&mut bed, json!("hello"));
    let reply = subscribe(&mut bed, Some(json!(0)));
    assert_eq!(reply["data"][0]["data"], "hello!");
}

#[test]
fn more_than_a_client_reads_is_loaded_instead() {
    let mut bed = bed(room().topics("room:*").replay(10));
    let text = "x".repeat(400_000);
    for _ in 0..2 {
        say_in(&mut bed, json!(text));
    }
    let whole = subscribe(&mut bed, Some(json!(0)));
    assert_eq!(whole["data"].as_array().unwrap().len(), 2);
    say_in(&mut bed, json!(text));
    let reply = subscribe(&mut bed, Some(json!(0)));
    assert_eq!(
        (&reply["replay"], &reply["data"]),
        (&json!(false), &json!(["all"]))
    );
}

#[test]
fn an_event_during_the_load_is_not_lost_for_the_next_time() {
    let load = async |ctx: Cx, room: String| {
        ctx.publish(&format!("room:{room}"), "said", &"meanwhile")?;
        Ok(["all"])
    };
    let stream = Stream::by(|room: String| format!("room:{room}")).load(load);
    let mut bed = bed(stream.topics("room:*").replay(3));
    let reply = subscribe(&mut bed, None);
    assert_eq!(reply["seq"], 0, "as it was before anything was read");
    let again = subscribe(&mut bed, Some(reply["seq"].clone()));
    assert_eq!(
        again["data"],
        json!([{"event": "said", "data": "meanwhile", "seq": 1}])
    );
}

#[test]
fn without_replay_there_is_no_number() {
    let mut bed = bed(room());
    say_in(&mut bed, json!(1));
    let reply = subscribe(&mut bed, Some(json!(0)));
    assert_eq!((&reply["replay"], reply.get("seq")), (&json!(false), None));
}

#[test]
fn registration_refuses_what_cannot_be() {
    let problem = |stream: OurStream| {
        let module = Module::new("m").stream("room", stream);
        let errors = App::new(()).module(module).build().unwrap_err();
        assert_eq!((errors.0.len(), &*errors.0[0].path), (1, "m/room"));
        errors.0[0].problem.clone()
    };
    assert_eq!(problem(room().replay(3)), Problem::NoTopics);
    assert_eq!(
        problem(room().topics("room:*").replay(0)),
        Problem::ReplayNothing
    );
    let volatile = room().topics("room:*").replay(3).volatile();
    assert_eq!(problem(volatile), Problem::ReplayVolatile);
}

#[test]
fn everything_that_is_declared_is_told_to_the_host() {
    let module: Module<(), String> = Module::new("m")
        .stream("room", room().topics("room:*").replay(3))
        .stream(
            "fixed",
            Stream::fixed("star*").load(async |_: Cx| Ok(())).replay(4),
        )
        .stream("plain", Stream::fixed("plain").load(async |_: Cx| Ok(())));
    let app = App::new(())
        .module(module)
        .retain("own:*", 5)
        .build()
        .unwrap();
    let kept = |topic: &str| {
        let retention = app.retention();
        let kept = retention.iter().find(|(pattern, _)| pattern.matches(topic));
        kept.map(|(_, events)| *events)
    };
    assert_eq!(
        (kept("room:1"), kept("star*"), kept("own:x")),
        (Some(3), Some(4), Some(5))
    );
    assert_eq!((kept("plain"), kept("star2")), (None, None));
}
