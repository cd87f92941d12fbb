//! Streams from which a client that comes back gets less than everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{ListWriter, RawJson, RawJsonRef};
use millstream_live::{LiveError, Module};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{OurStream, over};
use crate::ctl::{Cx, Json, data};
use crate::identity::Identity;
use crate::state::Shared;

/// Events that a replayed topic keeps.
const EVENTS: u32 = 10;
/// Versions that changes can be told from.
const VERSIONS: u64 = 5;
/// Entries of a durable list, rows and removed rows: nothing more is taken beyond that.
const ENTRIES_MAX: usize = 100_000;

type OurModule = Module<Shared, Identity>;

pub(super) fn add(module: OurModule) -> OurModule {
    let module = module
        .stream("replay", over("replay").topics("replay:*").replay(EVENTS))
        .stream("replog", replog());
    twoways(bridge(durable(delta(module))))
}

fn replog() -> OurStream {
    over("replog")
        .topics("replog:*")
        .merge(millstream_live::Merge::Latest)
        .max(50)
        .replay(EVENTS)
}

/// Rows and the version of each one's last change.
#[derive(Debug)]
struct Board {
    version: u64,
    rows: BTreeMap<String, u64>,
    removed: BTreeMap<String, u64>,
}

impl Board {
    fn row(id: &str, version: u64) -> Value {
        json!({"id": id, "v": version})
    }

    fn rows(&self) -> Vec<Value> {
        let rows = self.rows.iter();
        rows.map(|(id, version)| Self::row(id, *version)).collect()
    }

    /// What has changed after a version, if that is still known.
    fn since(&self, since: u64) -> Option<Vec<Value>> {
        if since > self.version || since + VERSIONS < self.version {
            return None;
        }
        let changed = self.rows.iter().filter(|(_, version)| **version > since);
        let removed = self.removed.iter().filter(|(_, version)| **version > since);
        let changed = changed.map(|(id, version)| Self::row(id, *version));
        let removed = removed.map(|(id, _)| json!({"id": id, "_deleted": true}));
        Some(changed.chain(removed).collect())
    }
}

fn delta(module: OurModule) -> OurModule {
    let board = Arc::new(Mutex::new(Board {
        version: 1,
        rows: [("a".to_owned(), 1), ("b".to_owned(), 1)].into(),
        removed: BTreeMap::new(),
    }));
    let (loaded, current, changes) = (Arc::clone(&board), Arc::clone(&board), Arc::clone(&board));
    let stream = OurStream::fixed("delta:main")
        .load(move |_: Cx| {
            let rows = loaded.lock().rows();
            async move { Ok(rows) }
        })
        .delta(
            move |_, _| {
                let version = current.lock().version;
                async move { Ok(RawJson::from_serialize(&version)?) }
            },
            move |_, _, since| {
                let since = since.get().as_u64();
                let rows = since.and_then(|since| changes.lock().since(since));
                async move { Ok(rows.as_ref().map(RawJson::from_serialize).transpose()?) }
            },
        );
    let (put, dropped) = (Arc::clone(&board), board);
    module
        .stream("delta", stream)
        .call("deltaPut", move |ctx: Cx, id: String| {
            let done = delta_put(&ctx, &mut put.lock(), id);
            async move { done }
        })
        .call("deltaDrop", move |ctx: Cx, id: String| {
            let done = delta_drop(&ctx, &mut dropped.lock(), id);
            async move { done }
        })
}

fn delta_put(ctx: &Cx, board: &mut Board, id: String) -> Result<u64, LiveError> {
    room_for(board.rows.len())?;
    board.version += 1;
    let version = board.version;
    let row = Board::row(&id, version);
    board.removed.remove(&id);
    let event = match board.rows.insert(id, version) {
        None => "created",
        Some(_) => "updated",
    };
    ctx.publish("delta:main", event, &row)?;
    Ok(version)
}

fn delta_drop(ctx: &Cx, board: &mut Board, id: String) -> Result<u64, LiveError> {
    room_for(board.removed.len())?;
    board.version += 1;
    board.rows.remove(&id);
    ctx.publish("delta:main", "deleted", &json!({ "id": id }))?;
    board.removed.insert(id, board.version);
    Ok(board.version)
}

fn room_for(entries: usize) -> Result<(), LiveError> {
    if entries < ENTRIES_MAX {
        Ok(())
    } else {
        Err(LiveError::new("FULL", "there is no room for more"))
    }
}

/// Events as a database would keep them.
#[derive(Debug, Clone, Default)]
struct Durable(Arc<Mutex<Vec<(u64, RawJson)>>>);

impl Durable {
    fn rows(&self) -> RawJson {
        let mut list = ListWriter::new();
        for (_, data) in &*self.0.lock() {
            list.push(data.get());
        }
        list.finish()
    }

    fn since(&self, topic: &str, since: u64) -> RawJson {
        let mut list = ListWriter::new();
        let created = RawJsonRef::trust(r#""created""#);
        for (seq, data) in self.0.lock().iter().filter(|(seq, _)| *seq > since) {
            let mut event = millstream_core::ObjectWriter::new();
            event
                .number("seq", *seq)
                .text("topic", topic)
                .raw("event", created)
                .raw("data", data.get());
            list.push(event.finish().get());
        }
        list.finish()
    }

    /// A stream on it. A flag of that name switches the way back off.
    fn stream(&self, topic: &'static str, flag: &'static str) -> OurStream {
        let (loaded, events) = (self.clone(), self.clone());
        OurStream::fixed(topic)
            .load(move |_: Cx| {
                let rows = loaded.rows();
                async move { Ok(rows) }
            })
            .from_seq(move |ctx: Cx, _, since| {
                let set = ctx.state().flag(flag);
                let found = match set.as_ref().map(RawJson::as_str) {
                    Some(r#""off""#) => Ok(None),
                    Some(r#""broken""#) => Err(LiveError::internal("broken on purpose")),
                    _ => Ok(Some(events.since(topic, since))),
                };
                async move { found }
            })
    }
}

fn durable(module: OurModule) -> OurModule {
    let list = Durable::default();
    let stream = list.stream("durable:main", "durable");
    module
        .stream("durableFeed", stream)
        .call("durablePut", move |_: Cx, json: Json| {
            let list = list.clone();
            async move {
                let mut list = list.0.lock();
                room_for(list.len())?;
                let seq = list.len() as u64 + 1;
                list.push((seq, data(json)));
                Ok(seq)
            }
        })
}

fn bridge(module: OurModule) -> OurModule {
    let list = Durable::default();
    let stream = list.stream("bridge:main", "bridge").replay(EVENTS);
    module
        .stream("bridge", stream)
        .call("bridgePut", move |ctx: Cx, json: Json| {
            let list = list.clone();
            async move {
                let mut list = list.0.lock();
                room_for(list.len())?;
                let json = data(json);
                let published =
                    ctx.publish_raw("bridge:main", "created", json.get(), Default::default())?;
                let seq = published.seq.unwrap_or_default();
                list.push((seq, json));
                Ok(seq)
            }
        })
}

fn twoways(module: OurModule) -> OurModule {
    let list = Durable::default();
    let loaded = list.clone();
    let stream = OurStream::fixed("twoways:main")
        .load(move |_: Cx| {
            let rows = loaded.rows();
            async move { Ok(rows) }
        })
        .delta(
            async |_, _| Ok(RawJson::from_serialize("constant")?),
            async |_, _, _| Ok(None),
        )
        .replay(EVENTS);
    module
        .stream("twoways", stream)
        .call("twowaysPut", move |ctx: Cx, json: Json| {
            let list = list.clone();
            async move {
                let mut list = list.0.lock();
                room_for(list.len())?;
                let json = data(json);
                list.push((0, json.clone()));
                ctx.publish_raw("twoways:main", "created", json.get(), Default::default())?;
                Ok(true)
            }
        })
}
