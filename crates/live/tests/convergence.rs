//! Whatever happens on the way, in the end every client shows what the server holds.
//!
//! Each seed is a run of its own: a few clients on one or two workers subscribe, leave, lose their
//! connections, stop reading and change what the server holds, while the server is restarted now
//! and then. When everything is quiet again:
//!
//! - `crud`, `presence`, `cursor`: the client has exactly the server's items, each once and in its
//!   newest form (the order is not part of it: a removal moves the last item into the hole);
//! - `set`: the same value;
//! - `latest`: the newest entries without a hole, in the order in which they happened, if of an
//!   entry that came twice the later place counts. An entry comes twice when it happened between
//!   the subscription and the end of the loader: the reply has it, and it is delivered behind the
//!   reply, since the server cannot know what the loader saw. No entry is lost by that, except
//!   that copies take room under `max`;
//! - streams whose value the server keeps: what a client shows is what the server holds, in the
//!   same order; for those that replay as well, the same items. An entry may have come twice into
//!   the value itself, when it happened while the first value was loaded;
//! - every stream that a client reads is a subscription of the server, nothing else is, and every
//!   hook that ran at a subscription's begin has run at its end.
//!
//! The server holds events back until the reply, but only if the connection does not hear the topic
//! yet, or waits for the reply to another request. So a second stream of one client on a topic that
//! the first one hears already misses what happens between its request and the reply, and so does a
//! stream that is left before its reply and read again behind it. One client has one stream per
//! topic here, and the runs with hasty clients, who do not wait, are compared after a reconnect
//! only.
//!
//! The seed decides for each kind of stream who holds the value, the application's state or the
//! server, and how many events its topics keep for clients that come back: none, or so few that
//! some of them have missed more. Changes are published one by one, several in a batch, and by
//! several calls of one frame.
//!
//! `MILLSTREAM_SEEDS=5000` runs so many seeds, `MILLSTREAM_SEED=17` that one alone.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::{Random, SeededRandom};
use millstream_hub::{Limits, Pattern};
use millstream_live::testing::{Chaos, ClientId, Reported, Settings, Status, StreamId, Testbed};
use millstream_live::{App, BatchEvent, Ctx, LiveError, Merge, Module, Stream};
use parking_lot::Mutex;
use serde_json::{Value, json};

type Cx = Ctx<Db, String>;
type Bed = Testbed<Db, String>;

/// Rooms of which every stream has its own topic and data.
const ROOMS: u64 = 2;
/// Entries that a `latest` stream shows.
const MAX: usize = 20;
/// Items of the keyed strategies have keys below this.
const KEYS: u64 = 6;
const KINDS: [&str; 5] = ["crud", "latest", "set", "presence", "cursor"];

/// What survives a restart.
struct Db {
    rows: Mutex<BTreeMap<(String, u64), Content>>,
    random: Mutex<SeededRandom>,
    /// Every change has a number of its own.
    changes: AtomicU64,
    /// Hooks that ran at the begin of a subscription and not at its end.
    open: AtomicI64,
    /// How often a loader fails, in percent.
    failing: AtomicU64,
}

#[derive(Debug, Clone, Default)]
struct Content {
    items: BTreeMap<u64, Value>,
    log: Vec<Value>,
    single: Value,
}

impl Content {
    fn load(&self, kind: &str) -> Value {
        match kind {
            "set" => self.single.clone(),
            "latest" => json!(self.log[self.log.len().saturating_sub(MAX)..]),
            _ => json!(self.items.values().collect::<Vec<_>>()),
        }
    }
}

impl Db {
    fn below(&self, n: u64) -> u64 {
        self.random.lock().below(n)
    }

    fn content(&self, kind: &str, room: u64) -> Content {
        let rows = self.rows.lock();
        rows.get(&(kind.to_owned(), room))
            .cloned()
            .unwrap_or_default()
    }
}

/// One change: where, which item, and whether it goes.
type Change = (String, u64, u64, bool);

/// Changes something; the topic, event and data of the change. `None` when nothing was there to
/// be removed.
fn apply(db: &Db, (kind, room, key, remove): &Change) -> Option<(String, &'static str, Value)> {
    let n = db.changes.fetch_add(1, Ordering::Relaxed);
    let mut rows = db.rows.lock();
    let content = rows.entry((kind.clone(), *room)).or_default();
    let (key_field, added, changed, removed) = match kind.as_str() {
        "crud" => ("id", "created", "updated", "deleted"),
        "presence" => ("key", "join", "join", "leave"),
        _ => ("key", "update", "update", "remove"),
    };
    let item = json!({key_field: key, "change": n});
    let (event, data) = match kind.as_str() {
        "set" => {
            content.single = json!({"change": n});
            ("set", content.single.clone())
        }
        "latest" => {
            content.log.push(json!({"change": n}));
            ("said", json!({"change": n}))
        }
        _ if *remove => (removed, content.items.remove(key)?),
        _ => match content.items.insert(*key, item.clone()) {
            Some(_) => (changed, item),
            None => (added, item),
        },
    };
    Some((format!("{kind}:{room}"), event, data))
}

/// Changes something and publishes the change, without waiting in between.
async fn change(ctx: Cx, kind: String, room: u64, key: u64, remove: bool) -> Result<(), LiveError> {
    pause(&ctx).await;
    if let Some((topic, event, data)) = apply(ctx.state(), &(kind, room, key, remove)) {
        ctx.publish(&topic, event, &data)?;
    }
    Ok(())
}

/// Changes several things and publishes all changes at once.
async fn change_all(ctx: Cx, changes: Vec<Change>) -> Result<(), LiveError> {
    pause(&ctx).await;
    let changes = changes.iter().filter_map(|one| apply(ctx.state(), one));
    let changes: Vec<_> = changes.collect();
    let events = changes
        .iter()
        .map(|(topic, event, data)| BatchEvent::new(topic, event, data))
        .collect::<Result<Vec<_>, _>>()?;
    ctx.publish_batch(&events).map(drop)
}

/// Waits a little, or not at all.
async fn pause(ctx: &Cx) {
    let millis = match ctx.state().below(4) {
        0 => ctx.state().below(50),
        _ => 0,
    };
    if millis > 0 {
        ctx.platform().sleep(Duration::from_millis(millis)).await;
    }
}

/// How a kind of stream is declared.
#[derive(Debug, Clone, Copy)]
struct Declared {
    /// The server keeps the value.
    held: bool,
    /// Events that a topic keeps.
    replay: Option<u32>,
    /// Values that nobody uses go.
    dropped: bool,
}

impl Declared {
    fn by(seed: u64) -> [Self; 5] {
        let mut random = SeededRandom::new(seed ^ 0xdec1);
        KINDS.map(|_| {
            let held = random.below(2) == 0;
            Self {
                held,
                replay: [None, None, Some(2), Some(5), Some(30)][random.below(5) as usize],
                dropped: held && random.below(3) == 0,
            }
        })
    }
}

/// What the application holds of a topic, or that it cannot say now.
async fn load(ctx: Cx, kind: &'static str, room: u64) -> Result<Value, LiveError> {
    pause(&ctx).await;
    if ctx.state().below(100) < ctx.state().failing.load(Ordering::Relaxed) {
        return Err(LiveError::new("BUSY", "try again"));
    }
    let loaded = ctx.state().content(kind, room).load(kind);
    pause(&ctx).await;
    Ok(loaded)
}

fn stream(kind: &'static str, merge: Merge, declared: Declared) -> Stream<Db, String> {
    let mut stream = Stream::by(move |room: u64| format!("{kind}:{room}"))
        .topics(&format!("{kind}:*"))
        .merge(merge)
        .on_subscribe(async |ctx: Cx, _| {
            ctx.state().open.fetch_add(1, Ordering::Relaxed);
        })
        .on_unsubscribe(async |ctx: Cx, _, _| {
            ctx.state().open.fetch_sub(1, Ordering::Relaxed);
        });
    if declared.held {
        stream = stream.seed(move |ctx: Cx, topic| {
            let room = topic.rsplit(':').next().unwrap().parse().unwrap();
            load(ctx, kind, room)
        });
    } else {
        stream = stream.load(move |ctx: Cx, room: u64| load(ctx, kind, room));
    }
    if declared.dropped {
        stream = stream.drop_idle_after(Duration::from_millis(100));
    }
    if let Some(events) = declared.replay {
        stream = stream.replay(events);
    }
    if kind == "latest" {
        stream.max(u32::try_from(MAX).unwrap())
    } else {
        stream
    }
}

fn app(seed: u64) -> App<Db, String> {
    let merges = [
        Merge::Crud,
        Merge::Latest,
        Merge::Set,
        Merge::Presence,
        Merge::Cursor,
    ];
    let mut module = Module::new("db")
        .call("change", change)
        .call("changeAll", change_all);
    for ((kind, merge), declared) in KINDS.into_iter().zip(merges).zip(Declared::by(seed)) {
        module = module.stream(kind, stream(kind, merge, declared));
    }
    let db = Db {
        rows: Mutex::default(),
        random: Mutex::new(SeededRandom::new(seed ^ 0xdb)),
        changes: AtomicU64::new(1),
        open: AtomicI64::new(0),
        failing: AtomicU64::new(seed % 3 * 5),
    };
    App::new(db).module(module).build().unwrap()
}

/// What the test knows of a client.
struct Actor {
    client: ClientId,
    streams: BTreeMap<(&'static str, u64), StreamId>,
    reading: bool,
}

struct Run {
    t: Bed,
    declared: [Declared; 5],
    /// Streams are given up and asked for again while a request is under way.
    hasty: bool,
    actors: Vec<Actor>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = SeededRandom::new(seed);
        let settings = Settings {
            seed,
            workers: if random.below(2) == 0 { 1 } else { 2 },
            chaos: if random.below(4) == 0 {
                Chaos::NONE
            } else {
                Chaos::ROUGH
            },
            // So small that slow readers lose events.
            socket_bytes: [600, 4_096, 65_536][random.below(3) as usize],
            hub: Limits {
                backlog_bytes_max: [300, 4_096][random.below(2) as usize],
                control_bytes_max: 65_536,
                hold_bytes_max: [150, 65_536][random.below(2) as usize],
                retained_bytes_max: [1_000, 65_536][random.below(2) as usize],
                ..Limits::default()
            },
            hand_over: random.below(2) == 0,
            // Then a client hears its topics again before it has asked for the streams.
            open_topics: if random.below(2) == 0 {
                vec![Pattern::new("*")]
            } else {
                Vec::new()
            },
            ..Settings::default()
        };
        let hasty = random.below(4) == 0;
        let mut t = Testbed::with(app(seed), settings);
        let actors = (0..3 + random.below(6))
            .map(|n| Actor {
                client: t.connect(format!("user {n}")),
                streams: BTreeMap::new(),
                reading: true,
            })
            .collect();
        Self {
            t,
            declared: Declared::by(seed),
            hasty,
            actors,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.t.random().below(n)
    }

    fn act(&mut self) {
        let nth = self.below(self.actors.len() as u64) as usize;
        let client = self.actors[nth].client;
        let place = (KINDS[self.below(5) as usize], self.below(ROOMS));
        match self.below(100) {
            0..=29 => {
                let change = self.change();
                self.t.start(client, "db/change", change);
            }
            30..=39 => {
                let changes: Vec<Change> = (0..=self.below(6)).map(|_| self.change()).collect();
                self.t.start(client, "db/changeAll", [changes]);
            }
            40..=44 => {
                let call = |one: Change| ("db/change", json!(one));
                let calls: Vec<_> = (0..=self.below(3)).map(|_| call(self.change())).collect();
                if self.below(2) == 0 {
                    self.t.start_batch(client, &calls);
                } else {
                    self.t.start_batch_in_order(client, &calls);
                }
            }
            45..=59 => match self.actors[nth].streams.get(&place) {
                None => {
                    let path = format!("db/{}", place.0);
                    let stream = self.t.subscribe(client, &path, [place.1]);
                    self.actors[nth].streams.insert(place, stream);
                }
                Some(stream) if self.t.status(*stream) == Status::Idle => {
                    self.t.resubscribe(*stream);
                }
                Some(stream) if self.hasty || !self.t.is_waiting(*stream) => {
                    self.t.unsubscribe(*stream);
                }
                Some(_) => {}
            },
            60..=64 => {
                let mut streams = self.actors[nth].streams.values();
                if self.hasty || !streams.any(|stream| self.t.is_waiting(*stream)) {
                    self.t.switch_tab(client);
                }
            }
            65..=70 if self.t.is_connected(client) => self.t.disconnect(client),
            65..=74 => self.reconnect(nth),
            75..=79 => {
                self.actors[nth].reading = !self.actors[nth].reading;
                if self.actors[nth].reading {
                    self.t.start_reading(client);
                } else {
                    self.t.stop_reading(client);
                }
            }
            80 => self.restart(),
            81..=94 => {
                let millis = self.below(60);
                self.t.advance(Duration::from_millis(millis));
            }
            _ => self.t.settle(),
        }
    }

    fn change(&mut self) -> Change {
        let kind = KINDS[self.below(5) as usize].to_owned();
        let remove = self.below(3) == 0;
        (kind, self.below(ROOMS), self.below(KEYS), remove)
    }

    fn reconnect(&mut self, nth: usize) {
        self.actors[nth].reading = true;
        self.t.reconnect(self.actors[nth].client);
    }

    fn restart(&mut self) {
        self.t.restart();
        // The old server's hooks died with it.
        self.t.state().open.store(0, Ordering::Relaxed);
    }

    /// Everybody comes back and everything arrives.
    fn finish(&mut self) {
        self.t.state().failing.store(0, Ordering::Relaxed);
        for nth in 0..self.actors.len() {
            self.t.start_reading(self.actors[nth].client);
            if !self.t.is_connected(self.actors[nth].client) {
                self.reconnect(nth);
            }
        }
        self.t.quiesce();
        for nth in 0..self.actors.len() {
            // A connection may have been ended as too slow when its client read again.
            if !self.t.is_connected(self.actors[nth].client) {
                self.reconnect(nth);
            }
            for stream in self.actors[nth].streams.values() {
                // A loader that failed is asked again by nobody but a new reader.
                if self.t.error(*stream).is_some() {
                    self.t.unsubscribe(*stream);
                    self.t.resubscribe(*stream);
                }
            }
        }
        self.t.quiesce();
    }

    /// How many replies gave only what was missed, and how many everything in spite of a number.
    fn replayed(&self) -> [usize; 2] {
        ["true", "false"].map(|replay| {
            let member = format!(r#""replay":{replay}"#);
            let frames = |actor: &Actor| {
                let frames = self.t.frames(actor.client);
                frames.filter(|frame| frame.contains(&member)).count()
            };
            self.actors.iter().map(frames).sum()
        })
    }

    /// Everybody reconnects, and no stream shows an error on the way.
    fn start_over(&mut self) {
        let before = self.denials();
        for nth in 0..self.actors.len() {
            self.reconnect(nth);
        }
        for _ in 0..200 {
            self.t.advance(Duration::from_millis(2));
            for actor in self.actors.iter().filter(|_| !self.hasty) {
                for (place, stream) in &actor.streams {
                    assert_eq!(self.t.error(*stream), None, "{:?} {place:?}", actor.client);
                }
            }
        }
        self.t.quiesce();
        assert!(self.denials() <= before);
    }

    /// Subscribes refused in the frames that are still known.
    fn denials(&self) -> usize {
        let frames = self
            .actors
            .iter()
            .flat_map(|actor| self.t.frames(actor.client));
        let denied = frames.filter(|frame| frame.contains("subscribe-denied"));
        denied.count()
    }

    fn check(&mut self) {
        let mut held: BTreeMap<String, u64> = BTreeMap::new();
        let mut open = 0;
        let kept = self.kept();
        for actor in &self.actors {
            for ((kind, room), stream) in &actor.streams {
                if self.t.status(*stream) == Status::Idle {
                    continue;
                }
                let what = format!("{:?} {kind}:{room}", actor.client);
                assert_eq!(self.t.error(*stream), None, "{what}");
                assert_eq!(self.t.status(*stream), Status::Connected, "{what}");
                let content = self.t.state().content(kind, *room);
                let shown = self.t.value(*stream);
                if let Some((value, exact)) = kept.get(&(*kind, *room)) {
                    let in_order = |value: &Value| match exact {
                        true => value.clone(),
                        false => sorted(value),
                    };
                    assert_eq!(in_order(&shown), in_order(value), "{what}");
                }
                if *kind == "latest" {
                    check_latest(&shown, &content.log, &what);
                } else {
                    assert_eq!(sorted(&shown), sorted(&content.load(kind)), "{what}");
                }
                *held.entry(format!("{kind}:{room}")).or_default() += 1;
                open += 1;
            }
        }
        for kind in KINDS {
            for room in 0..ROOMS {
                let topic = format!("{kind}:{room}");
                let expected = held.get(&topic).copied().unwrap_or_default();
                assert_eq!(self.t.subscribers(&topic), expected, "{topic}");
            }
        }
        assert_eq!(self.t.state().open.load(Ordering::Relaxed), open, "hooks");
        // A first value that nobody waits for is tried again by who comes next.
        let errors = self.t.errors();
        let seeds = |error: &Reported| error.message.starts_with("BUSY");
        assert!(errors.iter().all(seeds), "{errors:?}");
        assert_eq!(self.t.panics(), [""; 0]);
        // One task looks for idle values of a stream.
        let sweeps = self.declared.iter().filter(|declared| declared.dropped);
        let (tasks, sweeps) = (self.t.tasks(), sweeps.count());
        assert!(tasks <= sweeps, "{tasks} tasks, {sweeps} of them needed");
    }

    /// The values that the server keeps, as somebody gets them who comes now; and whether those
    /// who came before have them in the same order.
    fn kept(&mut self) -> BTreeMap<(&'static str, u64), (Value, bool)> {
        let mut kept = BTreeMap::new();
        let newcomer = self.t.connect("newcomer".to_owned());
        for (kind, declared) in KINDS.into_iter().zip(self.declared) {
            for room in (0..ROOMS).filter(|_| declared.held) {
                let stream = self.t.subscribe(newcomer, &format!("db/{kind}"), [room]);
                self.t.quiesce();
                let exact = declared.replay.is_none() || kind == "latest";
                kept.insert((kind, room), (self.t.value(stream), exact));
            }
        }
        self.t.disconnect(newcomer);
        self.t.quiesce();
        kept
    }
}

/// Items in a fixed order; other values as they are.
fn sorted(value: &Value) -> Value {
    let mut items = match value {
        Value::Array(items) => items.clone(),
        other => return other.clone(),
    };
    items.sort_by_key(Value::to_string);
    json!(items)
}

/// Of entries that came twice the later place counts.
fn check_latest(shown: &Value, log: &[Value], what: &str) {
    let shown = shown.as_array().unwrap();
    let mut distinct: Vec<&Value> = Vec::new();
    for entry in shown.iter().rev() {
        if !distinct.contains(&entry) {
            distinct.insert(0, entry);
        }
    }
    let copies = shown.len() - distinct.len();
    let newest: Vec<&Value> = log[log.len().saturating_sub(distinct.len())..]
        .iter()
        .collect();
    assert_eq!(distinct, newest, "{what}");
    assert!(
        distinct.len() + copies >= log.len().min(MAX),
        "{what}: {shown:?} {log:?}"
    );
}

/// Gives what [`Run::replayed`] counts.
fn run(seed: u64) -> [usize; 2] {
    let mut run = Run::new(seed);
    let steps = 40 + run.below(120);
    for _ in 0..steps {
        run.act();
    }
    run.finish();
    if !run.hasty {
        run.check();
    }
    // With new connections nothing is left of streams that were given up before their reply, of
    // which a client tells nobody.
    run.start_over();
    run.check();
    run.replayed()
}

#[allow(
    clippy::disallowed_methods,
    reason = "how many seeds is said by whoever runs the tests"
)]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn in_the_end_every_client_shows_what_the_server_holds() {
    if let Some(seed) = number("MILLSTREAM_SEED") {
        run(seed);
        return;
    }
    let mut total = [0, 0];
    for seed in 0..number("MILLSTREAM_SEEDS").unwrap_or(200) {
        let [missed, everything] = run(seed);
        total = [total[0] + missed, total[1] + everything];
    }
    // Both happen all the time, or the runs say nothing about replay.
    assert!(total.iter().all(|replies| *replies > 100), "{total:?}");
}
