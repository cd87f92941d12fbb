//! Several streams of one connection on one topic, of which some go and some come.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::Random;
use millstream_live::testing::{ClientId, Settings, Status, StreamId, Testbed};
use millstream_live::{App, Ctx, LiveError, Module, Stream};
use parking_lot::Mutex;
use serde_json::json;

/// How many subscriptions have begun and ended, and what is there to be loaded.
#[derive(Default)]
struct Log(Mutex<(u32, u32)>, Mutex<Vec<u64>>);

type Cx = Ctx<Log, ()>;
type Bed = Testbed<Log, ()>;

/// Streams of one topic whose first value takes so many milliseconds, and fails on demand.
fn app() -> App<Log, ()> {
    let slow = async |ctx: Cx, ms: u64, fails: Option<bool>| {
        ctx.platform().sleep(Duration::from_millis(ms)).await;
        if fails == Some(true) {
            return Err(LiveError::new("GONE", "gone"));
        }
        let rows = ctx.state().1.lock();
        Ok::<_, LiveError>(
            rows.iter()
                .map(|id| json!({ "id": id }))
                .collect::<Vec<_>>(),
        )
    };
    let stream = Stream::fixed("t")
        .load(slow)
        .on_subscribe(async |ctx: Cx, _| ctx.state().0.lock().0 += 1)
        .on_unsubscribe(async |ctx: Cx, _: Arc<str>, _| ctx.state().0.lock().1 += 1);
    let module = Module::new("m").stream("slow", stream);
    App::new(Log::default()).module(module).build().unwrap()
}

/// A client with a stream that is there and one that takes 600 ms, of which 100 ms are over.
fn rig(fails: bool) -> (Bed, ClientId, StreamId, StreamId) {
    let mut t = Testbed::new(app());
    let ada = t.connect(());
    let quick = t.subscribe(ada, "m/slow", [0]);
    assert_eq!(t.status(quick), Status::Connected);
    let slow = t.subscribe(ada, "m/slow", (600, fails));
    pass(&mut t, 100);
    (t, ada, quick, slow)
}

fn pass(t: &mut Bed, ms: u64) {
    t.advance(Duration::from_millis(ms));
}

fn publish(t: &mut Bed, id: u64) {
    t.publish("t", "created", &json!({ "id": id }));
}

fn counter(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn log(t: &Bed) -> (u32, u32) {
    *t.state().0.lock()
}

#[test]
fn a_stream_under_way_outlives_the_one_that_is_left() {
    let (mut t, _, quick, slow) = rig(false);
    t.unsubscribe(quick);
    assert_eq!((t.subscribers("t"), log(&t)), (1, (2, 1)));
    publish(&mut t, 1);
    pass(&mut t, 100);
    publish(&mut t, 2);
    pass(&mut t, 500);
    publish(&mut t, 3);
    let all = json!([{"id": 1}, {"id": 2}, {"id": 3}]);
    assert_eq!(t.value(slow), all, "held back, then in order");
    // The client has asked for the topic behind the reply: it stays.
    pass(&mut t, 60_000);
    publish(&mut t, 3);
    assert_eq!((t.status(slow), t.value(slow)), (Status::Connected, all));
    assert_eq!((t.subscribers("t"), log(&t)), (1, (2, 1)));
    t.unsubscribe(slow);
    assert_eq!((t.subscribers("t"), log(&t)), (0, (2, 2)));
    assert_eq!(counter(&t.stats().left_under_way), 1);
}

#[test]
fn one_that_is_left_before_its_reply_ends_soon_after() {
    let (mut t, _, quick, slow) = rig(false);
    t.unsubscribe(quick);
    t.unsubscribe(slow);
    assert_eq!(
        (t.subscribers("t"), log(&t)),
        (1, (2, 1)),
        "it cannot be known yet"
    );
    pass(&mut t, 500 + 1_999);
    assert_eq!((t.subscribers("t"), log(&t)), (1, (2, 1)));
    pass(&mut t, 2);
    assert_eq!((t.subscribers("t"), log(&t)), (0, (2, 2)));
    assert_eq!(counter(&t.stats().doubts_ended), 1);
}

#[test]
fn one_that_fails_ends_at_once() {
    let (mut t, ada, quick, slow) = rig(true);
    t.unsubscribe(quick);
    pass(&mut t, 500);
    assert_eq!((t.status(slow), t.subscribers("t")), (Status::Error, 0));
    assert_eq!(log(&t), (2, 2));
    // Nothing is left behind that would end this one.
    let again = t.subscribe(ada, "m/slow", [0]);
    pass(&mut t, 10_000);
    publish(&mut t, 1);
    assert_eq!(t.value(again), json!([{"id": 1}]));
    assert_eq!(log(&t), (3, 2));
}

#[test]
fn one_that_fails_takes_no_other_along() {
    for left in [false, true] {
        let (mut t, ada, quick, slow) = rig(true);
        if left {
            t.unsubscribe(quick);
        }
        // Under way when the other fails, and behind it.
        let other = t.subscribe(ada, "m/slow", [1_000]);
        pass(&mut t, 500);
        assert_eq!((t.status(slow), t.subscribers("t")), (Status::Error, 1));
        pass(&mut t, 500);
        publish(&mut t, 1);
        pass(&mut t, 10_000);
        publish(&mut t, 2);
        assert_eq!(t.value(other), json!([{"id": 1}, {"id": 2}]), "{left}");
        t.unsubscribe(other);
        if !left {
            t.unsubscribe(quick);
        }
        assert_eq!((t.subscribers("t"), log(&t)), (0, (3, 3)));
    }
}

#[test]
fn whoever_comes_back_meanwhile_stays() {
    for back_after in [0, 200, 700, 2_400] {
        let (mut t, ada, quick, slow) = rig(false);
        t.unsubscribe(quick);
        t.unsubscribe(slow);
        pass(&mut t, back_after);
        let back = t.subscribe(ada, "m/slow", [300]);
        pass(&mut t, 300);
        publish(&mut t, 1);
        pass(&mut t, 10_000);
        publish(&mut t, 2);
        let seen = (t.status(back), t.value(back));
        let all = json!([{"id": 1}, {"id": 2}]);
        assert_eq!(seen, (Status::Connected, all), "back after {back_after} ms");
        t.unsubscribe(back);
        pass(&mut t, 10_000);
        assert_eq!((t.subscribers("t"), log(&t)), (0, (3, 3)), "{back_after}");
    }
}

#[test]
fn a_connection_that_closes_ends_all_of_them_once() {
    for after in [0, 400, 700] {
        let (mut t, ada, quick, slow) = rig(false);
        t.unsubscribe(quick);
        t.unsubscribe(slow);
        pass(&mut t, after);
        t.disconnect(ada);
        pass(&mut t, 10_000);
        assert_eq!((t.subscribers("t"), log(&t)), (0, (2, 2)), "{after}");
    }
}

/// What a random run has left: the streams that are there and whether each fails, and whether one
/// was left before its reply.
struct Run {
    here: Vec<(StreamId, bool)>,
    /// Who leaves before the reply says nothing of it, unless it was attached to the topic.
    unheard: bool,
}

/// Streams come, load, fail, are left and come back at random.
fn run(t: &mut Bed, clients: [ClientId; 2]) -> Run {
    let (mut here, mut left, mut unheard) = (Vec::new(), Vec::new(), false);
    for _ in 0..60 {
        let number = t.random().below(1_000);
        let any = usize::try_from(number).unwrap();
        match t.random().below(8) {
            0 | 1 => {
                let ms = number * t.random().below(3).min(1);
                let fails = t.random().below(10) == 0;
                here.push((t.subscribe(clients[any % 2], "m/slow", (ms, fails)), fails));
            }
            2 | 3 if !here.is_empty() => {
                let gone = here.swap_remove(any % here.len());
                unheard |= t.is_waiting(gone.0);
                t.unsubscribe(gone.0);
                left.push(gone);
            }
            4 if !left.is_empty() => {
                let back = left.swap_remove(any % left.len());
                t.resubscribe(back.0);
                here.push(back);
            }
            5 => {
                let id = t.state().1.lock().len() as u64;
                t.state().1.lock().push(id);
                publish(t, id);
            }
            _ => pass(t, number),
        }
    }
    pass(t, 10_000);
    Run { here, unheard }
}

/// In the end whoever is there shows everything, and whoever has left has left nothing.
#[test]
fn whatever_comes_and_goes_nothing_is_missed_and_nothing_stays() {
    let (mut outlived, mut clean) = (0, 0);
    for seed in 0..300 {
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        let mut t = Testbed::with(app(), settings);
        let clients = [t.connect(()), t.connect(())];
        let run = run(&mut t, clients);
        let all = json!(*t.state().1.lock());
        for (stream, _) in run.here.iter().filter(|(_, fails)| !fails) {
            let value = t.value(*stream);
            let mut ids: Vec<_> = value
                .as_array()
                .unwrap()
                .iter()
                .map(|row| &row["id"])
                .collect();
            ids.sort_by_key(|id| id.as_u64());
            assert_eq!(t.status(*stream), Status::Connected, "seed {seed}");
            assert_eq!(json!(ids), all, "seed {seed}");
        }
        for (stream, _) in run.here {
            t.unsubscribe(stream);
        }
        pass(&mut t, 10_000);
        let (begun, ended) = log(&t);
        if !run.unheard {
            assert_eq!((t.subscribers("t"), begun - ended), (0, 0), "seed {seed}");
            clean += 1;
        }
        assert_eq!(t.subscribers("t") == 0, begun == ended, "seed {seed}");
        for client in clients {
            t.disconnect(client);
        }
        pass(&mut t, 10_000);
        let (begun, ended) = log(&t);
        assert_eq!((t.subscribers("t"), begun - ended), (0, 0), "seed {seed}");
        outlived += counter(&t.stats().left_under_way);
    }
    assert!(outlived > 100 && clean > 10, "{outlived} {clean}");
}
