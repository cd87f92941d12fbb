//! The test harness: what goes wrong on the server's side, and what it did.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use millstream_live::testing::{Behind, CallId, Settings, StreamId, Testbed, assert_denied};
use millstream_live::{
    App, BatchEvent, Call, Ctx, Idempotent, LiveError, Merge, Module, Stream, Upload,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

type Log = Mutex<Vec<String>>;
type Cx = Ctx<Log, String>;
type Bed = Testbed<Log, String>;

/// Says that it was dropped.
struct Guard(Cx, &'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.state().lock().push(self.1.to_owned());
    }
}

async fn hang(ctx: Cx, millis: u64) -> Result<u64, LiveError> {
    let _guard = Guard(ctx.clone(), "dropped");
    ctx.platform().sleep(Duration::from_millis(millis)).await;
    Ok(millis)
}

async fn receive(ctx: Cx, mut upload: Upload) -> Result<u64, LiveError> {
    let _guard = Guard(ctx, "upload dropped");
    while let Some(chunk) = upload.next().await {
        chunk?;
    }
    Ok(upload.bytes())
}

fn bed(settings: Settings) -> Bed {
    let newest = Stream::fixed("newest")
        .merge(Merge::Latest)
        .coalesce_by(|row: Value| row["k"].as_str().map(str::to_owned));
    let module = Module::new("m")
        .call("hang", hang)
        .call_with("once", Call::new(hang).idempotent(Idempotent::new()))
        .call("spawn", async |ctx: Cx| {
            ctx.platform().spawn(Box::pin(async {}));
            Ok(())
        })
        .upload("up", receive)
        .stream("newest", newest)
        .stream(
            "slow",
            Stream::fixed("slow")
                .merge(Merge::Set)
                .load(async |ctx: Cx| hang(ctx, 100).await),
        )
        .stream("plain", Stream::fixed("plain").merge(Merge::Latest));
    let app = App::new(Log::default()).module(module).build().unwrap();
    Testbed::with(app, settings)
}

fn numbers(bed: &Bed, stream: StreamId) -> Vec<u64> {
    let events = bed.events(stream);
    events
        .iter()
        .map(|(_, data)| data["n"].as_u64().unwrap())
        .collect()
}

/// Twenty events under two keys in turn, from a number on.
fn publish(bed: &mut Bed, from: u64) {
    for n in from..from + 20 {
        let key = if n % 2 == 0 { "even" } else { "odd" };
        bed.publish("newest", "e", &json!({"k": key, "n": n}));
    }
}

/// Everything up to some event, and then the newest of both keys, in the order in which the keys
/// came first. Gives how many events came one by one.
fn check_newest(got: &[u64], from: u64) -> u64 {
    let came = got.len() as u64 - 2;
    assert!(came > 0 && came < 15, "{got:?}");
    let last = from + 19;
    let mut expected: Vec<u64> = (from..from + came).collect();
    let same = (last - (from + came)).is_multiple_of(2);
    expected.extend(if same {
        [last, last - 1]
    } else {
        [last - 1, last]
    });
    assert_eq!(got, expected);
    came
}

#[test]
fn a_slow_reader_gets_the_newest_of_each_key_and_others_get_everything() {
    let mut t = bed(Settings {
        socket_bytes: 256,
        ..Settings::default()
    });
    let (ada, bob) = (t.connect("ada".to_owned()), t.connect("bob".to_owned()));
    let (all, some) = (
        t.subscribe(ada, "m/newest", ()),
        t.subscribe(bob, "m/newest", ()),
    );
    t.stop_reading(bob);
    publish(&mut t, 0);
    assert_eq!(numbers(&t, all), (0..20).collect::<Vec<_>>());
    assert_eq!(numbers(&t, some), [0_u64; 0]);
    t.start_reading(bob);
    let came = check_newest(&numbers(&t, some), 0);
    assert_eq!(t.stats().dropped(), 20 - came - 2);
    // A new beginning takes the place of all that waits of the topic, under whatever key.
    t.stop_reading(bob);
    publish(&mut t, 20);
    t.publish("newest", "refreshed", &json!([{"n": 100}]));
    t.publish("newest", "e", &json!({"k": "odd", "n": 101}));
    t.start_reading(bob);
    let events = t.events(some);
    let (last, before) = events.split_last().unwrap();
    assert_eq!(last.1["n"], 101);
    let (refreshed, before) = before.split_last().unwrap();
    assert_eq!(refreshed.0, "refreshed");
    // What had gone out before is one by one, without the newest of the keys.
    let earlier = usize::try_from(came).unwrap() + 2;
    let one_by_one: Vec<u64> = before[earlier..]
        .iter()
        .map(|(_, data)| data["n"].as_u64().unwrap())
        .collect();
    let upto = 20 + one_by_one.len() as u64;
    assert_eq!(one_by_one, (20..upto).collect::<Vec<_>>());
    assert!((21..35).contains(&upto), "{upto}");
}

#[test]
fn what_waits_for_a_worker_is_flushed_in_one_turn_when_it_goes_on() {
    for socket_bytes in [65_536, 256] {
        let mut t = bed(Settings {
            socket_bytes,
            ..Settings::default()
        });
        let ada = t.connect("ada".to_owned());
        let stream = t.subscribe(ada, "m/newest", ());
        t.stall(ada, Duration::from_millis(50));
        publish(&mut t, 0);
        t.advance(Duration::from_millis(49));
        assert_eq!(numbers(&t, stream), [0_u64; 0]);
        t.advance(Duration::from_millis(1));
        let got = numbers(&t, stream);
        if socket_bytes == 256 {
            // The socket takes a part of what is written at once; the rest is behind.
            check_newest(&got, 0);
        } else {
            assert_eq!(got, (0..20).collect::<Vec<_>>(), "nobody is behind");
            assert_eq!(t.stats().dropped(), 0);
        }
    }
}

#[test]
fn calls_wait_for_a_worker_that_does_nothing() {
    let mut t = bed(Settings::default());
    let ada = t.connect("ada".to_owned());
    t.stall(ada, Duration::from_millis(20));
    let call = t.start(ada, "m/hang", [0]);
    t.advance(Duration::from_millis(19));
    assert_eq!(t.outcome(call), None);
    assert_eq!(t.wait(call), Ok(json!(0)));
    assert_eq!(t.elapsed(), Duration::from_millis(20));
    t.disconnect(ada);
    t.stall(ada, Duration::from_secs(1));
    t.reconnect(ada);
    assert_eq!(t.call(ada, "m/hang", [0]), Ok(json!(0)));
}

#[test]
fn what_was_published_is_told_once_and_in_order() {
    let mut t = bed(Settings {
        boot_unix_ms: 0,
        ..Settings::default()
    });
    let publisher = t.live().publisher();
    t.publish("plain", "a", &1);
    t.publish("newest", "b", &json!({"k": "x"}));
    t.publish("newest", "refreshed", &json!([]));
    let pair = [
        BatchEvent::new("plain", "c", &2).unwrap(),
        BatchEvent::new("other", "d", &3).unwrap(),
    ];
    publisher.publish_batch(&pair).unwrap();
    let published = t.published();
    let told: Vec<_> = published
        .iter()
        .map(|one| (&*one.topic, &*one.event, one.value(), one.seq, one.together))
        .collect();
    let expected = [
        ("plain", "a", json!(1), Some(1), 1),
        ("newest", "b", json!({"k": "x"}), None, 1),
        ("newest", "refreshed", json!([]), None, 1),
        ("plain", "c", json!(2), Some(2), 2),
        ("other", "d", json!(3), Some(1), 2),
    ];
    assert_eq!(told, expected);
    let behind: Vec<_> = published.iter().map(|one| &one.behind).collect();
    let key = Behind::NewestOf("x".to_owned());
    let all = &Behind::Everything;
    assert_eq!(behind, [all, &key, &Behind::Newest, all, all]);
    assert!(t.published().is_empty());
    // Refused ones are not; a restart loses nothing of it.
    t.refuse_publishes(true);
    let refused = publisher.publish("plain", "e", &4).unwrap_err();
    assert_eq!(refused.code(), "OVERLOADED");
    let refused = publisher.publish_batch(&pair).unwrap_err();
    assert_eq!(refused.code(), "OVERLOADED");
    let refused = publisher.publish("newest", "e", &json!({})).unwrap_err();
    assert_eq!(refused.code(), "OVERLOADED");
    t.restart();
    assert_eq!(
        t.context().publish("plain", "e", &4).unwrap_err().code(),
        "OVERLOADED"
    );
    t.refuse_publishes(false);
    t.publish("plain", "f", &5);
    t.restart();
    assert_eq!(t.published()[0].value_as::<u32>(), 5);
}

#[test]
fn only_the_last_publishes_are_kept() {
    let mut t = bed(Settings::default());
    let publisher = t.live().publisher();
    for n in 0..10_001 {
        publisher.publish("plain", "e", &n).unwrap();
    }
    let published = t.published();
    let ends = (published[0].value(), published.len());
    assert_eq!(ends, (json!(1), 10_000));
}

#[test]
fn a_call_that_waits_can_be_dropped_however_it_came() {
    type Start = fn(&mut Bed) -> CallId;
    let starts: [Start; 5] = [
        |t| t.start(t.client(0), "m/hang", [500]),
        |t| t.start_once(t.client(0), "m/once", [500], "key"),
        |t| {
            let calls = [("m/hang", json!([500])), ("m/hang", json!([0]))];
            t.start_batch(t.client(0), &calls)[1]
        },
        |t| {
            let calls = [("m/hang", json!([500])), ("m/hang", json!([0]))];
            t.start_batch_in_order(t.client(0), &calls)[0]
        },
        |t| {
            let upload = t.start_upload(t.client(0), "m/up", ());
            t.send_chunk(upload, b"a");
            upload.into()
        },
    ];
    for (nth, start) in starts.into_iter().enumerate() {
        let mut t = bed(Settings::default());
        let ada = t.connect("ada".to_owned());
        let other = t.start(ada, "m/hang", [100]);
        let call = start(&mut t);
        t.settle();
        t.state().lock().clear();
        t.drop_call(call);
        let dropped = if nth == 4 {
            "upload dropped"
        } else {
            "dropped"
        };
        assert_eq!(*t.state().lock(), [dropped], "{nth}");
        t.advance(Duration::from_secs(1));
        assert_eq!(t.outcome(other), Some(&Ok(json!(100))), "another call");
        // Of an upload the server says so: its number is free again.
        let told = t.outcome(call).map(|outcome| outcome.is_err());
        assert_eq!(told, (nth == 4).then_some(true), "{nth}");
        if nth != 4 {
            assert_denied(t.wait(call), "TIMEOUT");
            assert_eq!(t.tasks(), 0);
        }
    }
}

#[test]
fn a_subscription_that_waits_can_be_dropped() {
    let mut t = bed(Settings::default());
    let ada = t.connect("ada".to_owned());
    let stream = t.subscribe(ada, "m/slow", ());
    t.advance(Duration::from_millis(50));
    t.drop_call(stream);
    assert_eq!(*t.state().lock(), ["dropped"]);
    t.advance(Duration::from_millis(100));
    assert_eq!((t.try_value(stream), t.tasks()), (None, 0));
    t.switch_tab(ada);
    t.advance(Duration::from_millis(100));
    assert_eq!(t.value(stream), json!(100));
}

#[test]
#[should_panic(expected = "the call is not running")]
fn a_call_that_is_finished_cannot_be_dropped() {
    let mut t = bed(Settings::default());
    let ada = t.connect("ada".to_owned());
    let call = t.start(ada, "m/hang", [10]);
    t.wait(call).unwrap();
    t.drop_call(call);
}

#[test]
fn calls_with_a_key_run_once() {
    let mut t = bed(Settings::default());
    let ada = t.connect("ada".to_owned());
    assert_eq!(t.call_once(ada, "m/once", [1], "key"), Ok(json!(1)));
    assert_eq!(t.call_once(ada, "m/once", [2], "key"), Ok(json!(1)));
    assert_eq!(t.call_once(ada, "m/once", [3], "other"), Ok(json!(3)));
    assert_eq!(t.state().lock().len(), 2);
}

#[test]
fn background_work_is_counted() {
    let mut t = bed(Settings::default());
    let ada = t.connect("ada".to_owned());
    for _ in 0..3 {
        t.call(ada, "m/spawn", ()).unwrap();
    }
    t.call(ada, "m/hang", [5]).unwrap();
    assert_eq!((t.spawned(), t.tasks()), (3, 0));
}
