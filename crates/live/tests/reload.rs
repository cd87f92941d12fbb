//! Streams that are loaded again: clocks, triggers, failures, ends.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_live::testing::{ClientId, StreamId, Testbed};
use millstream_live::{App, Builder, Ctx, Limits, Live, LiveError, Module, Page, Stream};
use parking_lot::Mutex;
use serde_json::{Value, json};

#[derive(Default)]
struct State {
    loads: AtomicU64,
    fails: Mutex<Option<&'static str>>,
    /// How long the loader waits.
    slow: AtomicU64,
    log: Mutex<Vec<String>>,
}

type Cx = Ctx<State, String>;

async fn load(ctx: Cx, name: String) -> Result<Value, LiveError> {
    let n = ctx.state().loads.fetch_add(1, Ordering::Relaxed) + 1;
    let slow = ctx.state().slow.load(Ordering::Relaxed);
    if slow > 0 {
        ctx.platform().sleep(Duration::from_millis(slow)).await;
    }
    let fails = *ctx.state().fails.lock();
    match fails {
        Some("panic") => panic!("on purpose"),
        Some(code) => Err(LiveError::new(code, "")),
        None => Ok(json!([{"name": name, "n": n, "by": ctx.user(), "secret": true}])),
    }
}

fn observed(stream: Stream<State, String>) -> Stream<State, String> {
    stream.on_error(|ctx: &Cx, topic, error| {
        let line = format!("{topic} {}", error.code());
        ctx.state().log.lock().push(line);
    })
}

fn app(limits: Limits) -> Builder<State, String> {
    let by = |prefix: &'static str| Stream::by(move |name: String| format!("{prefix}:{name}"));
    let page = async |ctx: Cx, name: String| {
        let data = vec![load(ctx, name).await?[0].clone()];
        Ok(Page {
            data,
            has_more: true,
            cursor: Some(1),
        })
    };
    let shape = |mut row: Value| {
        row.as_object_mut().unwrap().remove("secret");
        Ok(row)
    };
    let module = Module::new("m")
        .stream(
            "stale",
            observed(by("stale").load(load)).stale_after(SECOND),
        )
        .stream(
            "page",
            by("page")
                .topics("page:*")
                .load(page)
                .transform(shape)
                .stale_after(SECOND),
        )
        .stream(
            "inval",
            observed(by("inval").load(load)).invalidate_on(["src:*", "inval:*", "one"]),
        );
    App::new(State::default()).module(module).limits(limits)
}

const SECOND: Duration = Duration::from_secs(1);

struct Rig {
    bed: Testbed<State, String>,
    live: Live<State, String>,
    clients: HashMap<u32, ClientId>,
}

impl Rig {
    fn new() -> Self {
        Self::with(app(Limits::default()))
    }

    fn with(app: Builder<State, String>) -> Self {
        let bed = Testbed::new(app.build().unwrap());
        Self {
            live: bed.live(),
            bed,
            clients: HashMap::new(),
        }
    }

    fn subscribe(&mut self, number: u32, path: &str, name: &str) -> StreamId {
        let connect = || self.bed.connect(format!("user{number}"));
        let client = *self.clients.entry(number).or_insert_with(connect);
        self.bed.subscribe(client, path, [name])
    }

    fn close(&mut self, number: u32) {
        self.bed.disconnect(self.clients.remove(&number).unwrap());
    }

    fn publish(&mut self, topic: &str, event: &str) {
        self.bed.publish(topic, event, &1);
    }

    fn advance(&mut self, millis: u64) {
        self.bed.advance(Duration::from_millis(millis));
    }

    /// Data of the `refreshed` events since the last time.
    fn refreshed(&mut self) -> Vec<Value> {
        let published = self.bed.published();
        let refreshed = published.iter().filter(|one| one.event == "refreshed");
        refreshed.map(|one| one.value()).collect()
    }

    fn state(&self) -> &State {
        self.live.app().state()
    }

    fn loads(&self) -> u64 {
        self.state().loads.load(Ordering::Relaxed)
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.state().log.lock())
    }
}

#[test]
fn silence_reloads_as_nobody_with_the_topics_arguments_until_the_last_one_leaves() {
    let mut rig = Rig::new();
    let stream = rig.subscribe(1, "m/stale", "a");
    assert_eq!(rig.bed.value(stream)[0]["by"], "user1");
    rig.subscribe(2, "m/stale", "a");
    rig.advance(990);
    assert!(rig.refreshed().is_empty());
    rig.advance(20);
    let data = json!([{"name": "a", "n": 3, "by": null, "secret": true}]);
    assert_eq!(rig.refreshed(), [data]);
    rig.close(1);
    rig.advance(1_000);
    assert_eq!(rig.refreshed().len(), 1);
    assert_eq!(rig.live.gauges().watched_topics, 1);
    rig.close(2);
    assert_eq!(rig.live.gauges().watched_topics, 0);
    rig.advance(5_000);
    assert_eq!((rig.refreshed().len(), rig.loads()), (0, 4));
    assert_eq!(rig.bed.tasks(), 0, "the timer has ended");
    // And again from the start.
    rig.subscribe(3, "m/stale", "a");
    rig.advance(1_010);
    assert_eq!(rig.refreshed().len(), 1);
}

#[test]
fn one_timer_serves_all_topics_and_leaves_nothing_behind() {
    let mut rig = Rig::new();
    for n in 0..200 {
        rig.subscribe(n, "m/stale", &n.to_string());
    }
    assert_eq!(
        (rig.live.gauges().watched_topics, rig.bed.spawned()),
        (200, 1)
    );
    // A client that comes and goes piles nothing up.
    for _ in 0..1_000 {
        rig.close(0);
        rig.subscribe(0, "m/stale", "0");
    }
    rig.advance(1_010);
    assert_eq!(rig.refreshed().len(), 200);
    rig.advance(1_000);
    assert_eq!(rig.refreshed().len(), 200);
    for n in 0..200 {
        rig.close(n);
    }
    rig.advance(2_000);
    assert_eq!(rig.bed.tasks(), 0);
}

#[test]
fn any_event_starts_the_clock_again() {
    let mut rig = Rig::new();
    rig.subscribe(1, "m/stale", "a");
    for _ in 0..6 {
        rig.advance(700);
        rig.publish("stale:a", "updated");
    }
    assert!(rig.refreshed().is_empty());
    rig.advance(990);
    assert!(rig.refreshed().is_empty());
    rig.advance(20);
    assert_eq!(rig.refreshed().len(), 1);
}

#[test]
fn of_a_page_the_list_is_published_and_shaped_once() {
    let mut rig = Rig::new();
    let page = rig.subscribe(1, "m/page", "a");
    assert!(rig.bed.has_more(page));
    rig.advance(1_010);
    assert_eq!(
        rig.refreshed(),
        [json!([{"name": "a", "n": 2, "by": null}])]
    );
}

#[test]
fn a_failed_reload_is_observed_and_tried_again() {
    let mut rig = Rig::new();
    rig.subscribe(1, "m/stale", "a");
    for (fails, code) in [("GONE", "GONE"), ("panic", "INTERNAL_ERROR")] {
        *rig.state().fails.lock() = Some(fails);
        rig.advance(1_010);
        assert_eq!(rig.log(), [format!("stale:a {code}")]);
    }
    assert!(rig.refreshed().is_empty());
    *rig.state().fails.lock() = None;
    rig.advance(1_010);
    assert_eq!(rig.refreshed().len(), 1);
    // Nobody takes the event: the same.
    rig.bed.refuse_publishes(true);
    rig.advance(1_010);
    assert_eq!(rig.log(), ["stale:a OVERLOADED"]);
    rig.bed.refuse_publishes(false);
    rig.advance(1_010);
    assert_eq!(rig.refreshed().len(), 1);
}

#[test]
fn a_loader_that_does_not_end_counts_as_failed_and_never_runs_twice() {
    let mut limits = Limits::default();
    limits.reload_timeout = Duration::from_secs(5);
    let mut rig = Rig::with(app(limits));
    rig.subscribe(1, "m/stale", "a");
    rig.state().slow.store(1_000_000, Ordering::Relaxed);
    rig.advance(5_900);
    assert_eq!((rig.loads(), rig.log().len()), (2, 0));
    rig.advance(120);
    assert_eq!(rig.log(), ["stale:a TIMEOUT"]);
    rig.close(1);
    rig.advance(10_000);
    assert_eq!(rig.bed.tasks(), 0);
}

#[test]
fn what_comes_during_a_reload_leads_to_one_more() {
    let mut rig = Rig::new();
    rig.subscribe(1, "m/inval", "a");
    rig.subscribe(2, "m/inval", "b");
    rig.publish("src:x:y", "any");
    assert_eq!(rig.refreshed().len(), 2, "every topic of the stream");
    rig.close(2);
    rig.state().slow.store(100, Ordering::Relaxed);
    for topic in ["one", "src:x", "src:y"] {
        rig.publish(topic, "any");
        rig.advance(20);
    }
    assert_eq!(rig.loads(), 5);
    rig.advance(300);
    assert_eq!((rig.refreshed().len(), rig.loads()), (2, 6));
    // What does not match, and reloads themselves.
    for (topic, event) in [("src:", "any"), ("xsrc:a", "any"), ("one2", "any")] {
        rig.publish(topic, event);
    }
    rig.publish("one", "refreshed");
    rig.advance(300);
    assert_eq!(rig.loads(), 6);
    // Its own topic, without a loop.
    rig.publish("inval:a", "updated");
    rig.advance(1_000);
    assert_eq!(rig.loads(), 7);
}

#[test]
fn who_leaves_during_a_reload_hears_nothing_of_it() {
    let mut rig = Rig::new();
    rig.subscribe(1, "m/inval", "a");
    rig.state().slow.store(100, Ordering::Relaxed);
    rig.publish("one", "any");
    rig.publish("one", "any");
    rig.close(1);
    rig.advance(500);
    assert_eq!((rig.refreshed().len(), rig.loads()), (0, 2));
    assert_eq!(rig.bed.tasks(), 0);
}

#[test]
fn reloads_at_a_time_and_watched_topics_are_bounded() {
    let mut limits = Limits::default();
    limits.reloads_max = 3;
    limits.watched_topics_max = 10;
    let mut rig = Rig::with(app(limits));
    for n in 0..12 {
        rig.subscribe(n, "m/inval", &n.to_string());
    }
    let watched = rig.live.gauges().watched_topics;
    assert_eq!((watched, rig.live.stats().warnings), (10, 2));
    rig.state().slow.store(100, Ordering::Relaxed);
    rig.publish("one", "any");
    assert_eq!((rig.loads(), rig.bed.tasks()), (15, 3));
    rig.advance(110);
    assert_eq!(rig.loads(), 18);
    rig.advance(1_000);
    assert_eq!((rig.loads(), rig.refreshed().len()), (22, 10));
    assert_eq!(rig.live.stats().reloads, 10);
    // A place is free again.
    rig.close(0);
    rig.state().slow.store(0, Ordering::Relaxed);
    rig.subscribe(20, "m/inval", "new");
    assert_eq!(rig.live.gauges().watched_topics, 10);
    assert_eq!(rig.live.stats().warnings, 2);
}

#[test]
fn a_subscription_that_fails_is_not_watched() {
    let mut rig = Rig::new();
    *rig.state().fails.lock() = Some("GONE");
    let stream = rig.subscribe(1, "m/stale", "a");
    assert_eq!(rig.bed.error(stream).unwrap().code, "GONE");
    assert_eq!((rig.live.gauges().watched_topics, rig.bed.tasks()), (0, 0));
    assert_eq!(rig.log(), ["stale:a GONE"]);
}

#[test]
fn who_leaves_before_the_first_answer_leaves_nothing_watched() {
    let told = app(Limits::default()).layer(|ctx: Cx, next| async move {
        let outcome = next.run(ctx.clone()).await;
        let line = format!("{} {}", ctx.path(), outcome.is_ok());
        ctx.state().log.lock().push(line);
        outcome
    });
    let mut rig = Rig::with(told);
    for path in ["m/stale", "m/inval"] {
        rig.state().slow.store(100, Ordering::Relaxed);
        rig.subscribe(1, path, "a");
        rig.advance(50);
        assert_eq!(rig.log(), [""; 0]);
        rig.close(1);
        rig.advance(100);
        assert_eq!(rig.log(), [format!("{path} true")], "nobody reads it");
        assert_eq!(rig.live.gauges().watched_topics, 0, "{path}");
    }
    rig.advance(2_000);
    assert_eq!(rig.bed.tasks(), 0);
}
