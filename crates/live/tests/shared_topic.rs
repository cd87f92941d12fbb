//! Several streams of one connection on one topic, of which some go and some come.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use millstream_live::testing::{ClientId, Status, StreamId, Testbed};
use millstream_live::{App, Ctx, LiveError, Module, Stream};
use parking_lot::Mutex;
use serde_json::json;

/// How many subscriptions have begun and ended.
#[derive(Default)]
struct Log(Mutex<(u32, u32)>);

type Cx = Ctx<Log, ()>;
type Bed = Testbed<Log, ()>;

/// Streams of one topic whose first value takes so many milliseconds, and fails on demand.
fn app() -> App<Log, ()> {
    let slow = async |ctx: Cx, ms: u64, fails: Option<bool>| {
        ctx.platform().sleep(Duration::from_millis(ms)).await;
        if fails == Some(true) {
            return Err(LiveError::new("GONE", "gone"));
        }
        Ok::<_, LiveError>(json!([]))
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
    assert_eq!(
        t.stats()
            .left_under_way
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
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
    assert_eq!(
        t.stats()
            .doubts_ended
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
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
