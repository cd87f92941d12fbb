//! The stream pipeline: from the guard to the first value.

use core::future::ready;
use std::sync::Arc;

use millstream_core::{ObjectWriter, RawJson, RawJsonRef};
use millstream_hub::History;
use millstream_wire::FRAME_CODE_UNITS_MAX;

use crate::args::Args;
use crate::ctx::Ctx;
use crate::error::{LiveError, code};
use crate::handler::{AnyHandler, BoxFuture};
use crate::layer::Outcome;
use crate::owners::{Ending, Owner};
use crate::stream::{Merge, Stream, UnsubscribeHook, apply};
use crate::user::User;

/// What a client said of the data that it holds.
#[derive(Default)]
pub(crate) struct Resume {
    /// The last number it saw, if that was a number.
    pub(crate) seq: Option<f64>,
    pub(crate) version: Option<RawJson>,
    pub(crate) schema_version: Option<f64>,
}

/// A stream's answer, ready to be written.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamReply {
    /// The topic; absent behind a closed gate.
    pub topic: Option<Arc<str>>,
    /// The value, the changes, or what was missed. Absent when the loader gave nothing.
    pub data: Option<RawJson>,
    /// The other members, in order.
    members: Vec<(&'static str, RawJson)>,
    /// `data` is every event up to this number that the client did not have.
    pub(crate) covered: Option<u64>,
    /// Whoever holds events back until this reply has been sent; nobody when nothing was
    /// subscribed for it.
    pub(crate) holder: Option<u64>,
}

impl StreamReply {
    fn gated() -> Self {
        Self {
            topic: None,
            data: Some(RawJson::NULL),
            members: vec![("gated", RawJsonRef::TRUE.to_owned())],
            covered: None,
            holder: None,
        }
    }

    fn new<S: Send + Sync + 'static, U: User>(
        stream: &Stream<S, U>,
        topic: Arc<str>,
        data: Option<RawJson>,
    ) -> Self {
        let text = |text: &str| RawJson::from_serialize(text).unwrap_or(RawJson::NULL);
        let mut members = vec![("merge", text(stream.merge.as_str()))];
        if let Some(key) = stream.key_field() {
            members.push(("key", text(key)));
        }
        if let Some(prepend) = stream.prepend
            && !stream.is_channel()
        {
            members.push(("prepend", flag(prepend)));
        }
        if let Some(max) = stream.max {
            members.push(("max", number(u64::from(max))));
        }
        Self {
            topic: Some(topic),
            data,
            members,
            covered: None,
            holder: None,
        }
    }

    fn with(mut self, name: &'static str, value: RawJson) -> Self {
        self.members.push((name, value));
        self
    }

    /// Bytes that the reply will have, at most a few too many.
    pub(crate) fn bytes(&self) -> usize {
        let members: usize = self
            .members
            .iter()
            .map(|(name, value)| name.len() + value.as_bytes().len() + 4)
            .sum();
        let data = self.data.as_ref().map_or(0, |data| data.as_bytes().len());
        // A topic of 256 units, every one escaped.
        data + members + 2_048
    }

    pub(crate) fn write(&self, object: &mut ObjectWriter) {
        if let Some(data) = &self.data {
            object.raw("data", data.get());
        }
        if let Some(topic) = &self.topic {
            object.text("topic", topic);
        }
        for (name, value) in &self.members {
            object.raw(name, value.get());
        }
    }
}

fn flag(value: bool) -> RawJson {
    let json = if value {
        RawJsonRef::TRUE
    } else {
        RawJsonRef::FALSE
    };
    json.to_owned()
}

fn number(value: u64) -> RawJson {
    RawJson::from_serialize(&value).unwrap_or(RawJson::NULL)
}

/// The hook that a subscription's end runs, with the context it began in.
struct Leave<S, U> {
    ctx: Ctx<S, U>,
    hook: Option<UnsubscribeHook<S, U>>,
    watched: bool,
}

impl<S: Send + Sync + 'static, U: User> Ending for Leave<S, U> {
    fn ended(&self, topic: Arc<str>, remaining: u64) -> BoxFuture<()> {
        if self.watched && remaining == 0 {
            let engine = self.ctx.engine();
            engine.watches.disarm(engine, self.ctx.path(), &topic);
        }
        match &self.hook {
            Some(hook) => hook(self.ctx.clone(), topic, remaining),
            None => Box::pin(ready(())),
        }
    }
}

impl<S: Send + Sync + 'static, U: User> Stream<S, U> {
    /// Everything behind the guard and the hook before.
    pub(crate) async fn subscribe(
        &self,
        ctx: Ctx<S, U>,
        args: Args,
        resume: Resume,
    ) -> Result<Outcome, LiveError> {
        let Some((args, topic)) = self.admit(&ctx, args).await? else {
            return Ok(Outcome::Stream(StreamReply::gated()));
        };
        if ctx.cursor().is_some_and(|cursor| !cursor.is_null())
            && let (Some(conn), Some(loader)) = (ctx.conn(), &self.loader)
            && ctx.engine().owners.holds(conn, &topic)
        {
            // The next page of a stream that is subscribed to already.
            let loaded = self.page(loader, &ctx, &args, &topic).await;
            if let Err(error) = &loaded {
                let _ = self.observe(&ctx, &topic, error);
            }
            return loaded.map(Outcome::Stream);
        }
        if let Some(class) = &self.class
            && ctx.shed(class)?
        {
            ctx.engine().counters.shed.add();
            return Err(LiveError::new(
                code::OVERLOADED,
                format!("Stream class '{class}' shed under pressure"),
            ));
        }
        let holder = self.join(&ctx, &topic).await?;
        if let Some(hook) = &self.on_subscribe {
            hook(ctx.clone(), Arc::clone(&topic)).await;
        }
        let loaded = self.first_value(&ctx, &args, &topic, resume).await;
        match &loaded {
            Ok(_) if self.is_watched() => {
                let engine = ctx.engine();
                engine.watches.arm(engine, ctx.path(), &topic, &args);
            }
            Ok(_) => {}
            Err(error) => drop(self.observe(&ctx, &topic, error)),
        }
        let mut reply = loaded?;
        reply.holder = Some(holder);
        Ok(Outcome::Stream(reply))
    }

    /// Notes the subscription and makes it, in this order: a connection that closes in between
    /// is found either here or there. Gives the number under which events are held back.
    async fn join(&self, ctx: &Ctx<S, U>, topic: &Arc<str>) -> Result<u64, LiveError> {
        let Some(conn) = ctx.conn() else {
            return Err(refusal(code::CONNECTION_CLOSED));
        };
        let id = ctx.grant(topic);
        let owner = Owner {
            id,
            topic: Arc::clone(topic),
            ending: None,
        };
        let engine = ctx.engine();
        let owners_max = engine.app.limits.subscriptions_max;
        if !engine.owners.add(conn, owner, owners_max) {
            return Err(LiveError::new(code::RATE_LIMITED, "Too many subscriptions"));
        }
        if let Err(reason) = ctx.platform().subscribe(conn, topic, id).await {
            // Nothing was subscribed, so nothing has to be taken back.
            ctx.take_grant();
            engine.owners.take(conn, id);
            return Err(refusal(&reason));
        }
        let (hook, watched) = (self.on_unsubscribe.clone(), self.is_watched());
        let ending = (hook.is_some() || watched).then(|| {
            let ctx = ctx.clone();
            let leave = Leave { ctx, hook, watched };
            Arc::new(leave) as Arc<dyn Ending>
        });
        // An unsubscribe that was handled before this subscription has ended what it found here: it
        // was about something else.
        let topic = Arc::clone(topic);
        engine.owners.put(conn, Owner { id, topic, ending });
        if ctx.is_closed() {
            // What the close has found to end did not include this.
            engine.owners.take(conn, id);
            return Err(refusal(code::CONNECTION_CLOSED));
        }
        Ok(id)
    }

    async fn first_value(
        &self,
        ctx: &Ctx<S, U>,
        args: &Args,
        topic: &Arc<str>,
        resume: Resume,
    ) -> Result<StreamReply, LiveError> {
        let reply = |data| StreamReply::new(self, Arc::clone(topic), data);
        if self.is_channel() {
            return Ok(reply(Some(self.empty_value())).with("channel", flag(true)));
        }
        if let Some(missed) = self.kept(ctx, topic, &resume) {
            let mut reply = reply(Some(missed.to_list())).with("replay", flag(true));
            reply.covered = Some(missed.position);
            return Ok(reply.with("seq", number(missed.position)));
        }
        // Before anything is read: a change in between is then seen twice rather than never.
        let position = self.position(ctx, topic);
        if let Some(events) = self.missed(ctx, args, &resume).await {
            let last = events.get().elements().last();
            let seq = last
                .and_then(|event| event.field("seq"))
                .map(|seq| seq.to_owned())
                .or(position);
            let mut reply = reply(Some(events)).with("replay", flag(true));
            if let Some(seq) = seq {
                reply = reply.with("seq", seq);
            }
            return Ok(reply);
        }
        let version = self.current_version(ctx, args).await;
        if let Some(version) = &version
            && let Some(since) = &resume.version
            && let Some(changes) = self.changes(ctx, args, version, since).await
        {
            let (name, data) = match changes {
                Changes::None => ("unchanged", RawJson::EMPTY_LIST),
                Changes::Some(changes) => ("delta", changes),
            };
            let reply = reply(Some(data)).with(name, flag(true));
            return Ok(reply.with("version", version.clone()));
        }
        let mut reply = match &self.loader {
            Some(loader) => {
                let (data, page) = self.loaded(loader, ctx, args).await?;
                let data = data.map(|data| self.migrated(data, &resume)).transpose()?;
                let mut reply = reply(data);
                reply.members.extend(page);
                if let Some(seq) = position {
                    reply = reply.with("seq", seq);
                }
                reply
            }
            None => self.held_reply(ctx, topic, &resume).await?,
        };
        if let Some(version) = version {
            reply = reply.with("version", version);
        }
        if let Some(schema) = &self.schema {
            reply = reply.with("schemaVersion", number(u64::from(schema.version)));
        }
        if resume.seq.is_some() {
            reply = reply.with("replay", flag(false));
        }
        Ok(reply)
    }

    /// What the loader gives, shaped, and what it says of pages.
    pub(crate) async fn loaded(
        &self,
        loader: &AnyHandler<S, U>,
        ctx: &Ctx<S, U>,
        args: &Args,
    ) -> Result<(Option<RawJson>, Vec<(&'static str, RawJson)>), LiveError> {
        let loaded = loader(ctx.clone(), &mut args.cursor())?.await?;
        let (data, page) = split_page(loaded);
        let data = match data {
            Some(data) => Some(self.transformed(self.piped(ctx, data).await?)?),
            None => None,
        };
        Ok((data, page.collect()))
    }

    /// A further page: it is read, and nothing else happens.
    async fn page(
        &self,
        loader: &AnyHandler<S, U>,
        ctx: &Ctx<S, U>,
        args: &Args,
        topic: &Arc<str>,
    ) -> Result<StreamReply, LiveError> {
        let (data, page) = self.loaded(loader, ctx, args).await?;
        let mut reply = StreamReply::new(self, Arc::clone(topic), data);
        reply.members.extend(page);
        Ok(reply)
    }

    async fn current_version(&self, ctx: &Ctx<S, U>, args: &Args) -> Option<RawJson> {
        let delta = self.delta.as_ref()?;
        match (delta.version)(ctx.clone(), args.clone()).await {
            Ok(version) => Some(version),
            Err(error) => {
                ctx.report(&error);
                None
            }
        }
    }

    /// The topic's number, if the stream replays.
    fn position(&self, ctx: &Ctx<S, U>, topic: &str) -> Option<RawJson> {
        self.replay?;
        ctx.platform().position(topic).map(number)
    }

    /// Events after the client's number that the topic has kept, if they are all there.
    fn kept(&self, ctx: &Ctx<S, U>, topic: &str, resume: &Resume) -> Option<History> {
        self.replay?;
        // Clients go on counting only with replies, so they ask for events that they have. Keyed
        // values bear that, a list of the newest does not.
        if self.merge == Merge::Latest {
            return None;
        }
        let since = whole(resume.seq?)?;
        let history = ctx.platform().since(topic, since)?;
        let fits = history.bytes() <= REPLAY_BYTES_MAX;
        (history.is_complete() && fits).then_some(history)
    }

    /// Events after the client's number from the durable place.
    async fn missed(&self, ctx: &Ctx<S, U>, args: &Args, resume: &Resume) -> Option<RawJson> {
        let find = self.from_seq.as_ref()?;
        let since = resume.seq.filter(|seq| *seq >= 0.0)?;
        match find(ctx.clone(), args.clone(), since as u64).await {
            Ok(events) => events.filter(|events| events.get().is_array()),
            Err(error) => {
                ctx.report(&error);
                None
            }
        }
    }

    async fn changes(
        &self,
        ctx: &Ctx<S, U>,
        args: &Args,
        version: &RawJson,
        since: &RawJson,
    ) -> Option<Changes> {
        if same_version(version.get(), since.get()) {
            return Some(Changes::None);
        }
        let delta = self.delta.as_ref()?;
        match (delta.diff)(ctx.clone(), args.clone(), since.clone()).await {
            Ok(changes) => changes
                .filter(|changes| !changes.get().is_null())
                .map(Changes::Some),
            Err(error) => {
                ctx.report(&error);
                None
            }
        }
    }

    /// The value that the server keeps, with the number of the last event in it: events up to it
    /// are left out of what was held back.
    async fn held_reply(
        &self,
        ctx: &Ctx<S, U>,
        topic: &Arc<str>,
        resume: &Resume,
    ) -> Result<StreamReply, LiveError> {
        let (value, seq) = ctx.engine().held_value(topic).await?;
        let value = self.migrated(value, resume)?;
        let mut reply = StreamReply::new(self, Arc::clone(topic), Some(value));
        if let Some(seq) = seq {
            reply = reply.with("seq", number(seq));
            reply.covered = Some(seq);
        }
        Ok(reply)
    }

    /// The steps to the version the client holds.
    fn migrated(&self, mut data: RawJson, resume: &Resume) -> Result<RawJson, LiveError> {
        let Some(schema) = &self.schema else {
            return Ok(data);
        };
        let Some(from) = resume.schema_version else {
            return Ok(data);
        };
        for (step, migrate) in schema.steps.range(..schema.version) {
            if f64::from(*step) >= from {
                data = apply(migrate, data.get())?;
            }
        }
        Ok(data)
    }
}

/// A number that events can have: whole, and exact as a floating-point number.
fn whole(seq: f64) -> Option<u64> {
    const END: f64 = (1_u64 << 53) as f64;
    ((0.0..END).contains(&seq) && seq.fract() == 0.0).then_some(seq as u64)
}

/// Missed events of more bytes would not fit a frame that clients read: everything is loaded.
const REPLAY_BYTES_MAX: usize = FRAME_CODE_UNITS_MAX - 16 * 1024;

enum Changes {
    None,
    Some(RawJson),
}

/// A page is an object with both `data` and `hasMore`.
pub(crate) fn split_page(
    loaded: Option<RawJson>,
) -> (
    Option<RawJson>,
    impl Iterator<Item = (&'static str, RawJson)>,
) {
    let page = loaded.as_ref().and_then(|loaded| {
        let json = loaded.get();
        let data = json.field("data")?.to_owned();
        let more = json.field("hasMore")?.to_owned();
        let cursor = json.field("cursor").map(|cursor| cursor.to_owned());
        Some((data, more, cursor))
    });
    match page {
        None => (loaded, None.into_iter().chain(None)),
        Some((data, more, cursor)) => {
            let cursor = cursor.map(|cursor| ("cursor", cursor));
            (
                Some(data),
                Some(("hasMore", more)).into_iter().chain(cursor),
            )
        }
    }
}

/// JavaScript's strict equality: objects and lists are never equal to anything.
fn same_version(a: RawJsonRef<'_>, b: RawJsonRef<'_>) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => return a == b,
        (None, None) => {}
        _ => return false,
    }
    match (a.as_json_str(), b.as_json_str()) {
        (Some(a), Some(b)) => a.eq_json(&b),
        (None, None) => !a.is_object() && !a.is_array() && a.as_bytes() == b.as_bytes(),
        _ => false,
    }
}

/// The transport's reason as the caller sees it.
fn refusal(reason: &str) -> LiveError {
    let text = match reason {
        code::UNAUTHENTICATED => "Authentication required",
        code::CONNECTION_CLOSED => "WebSocket closed",
        _ => "Access denied",
    };
    LiveError::new(reason.to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_are_positions() {
        for (seq, position) in [
            (0.0, Some(0)),
            (7.0, Some(7)),
            (0.5, None),
            (-1.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
            (9_007_199_254_740_991.0, Some((1 << 53) - 1)),
            (9_007_199_254_740_992.0, None),
        ] {
            assert_eq!(whole(seq), position, "{seq}");
        }
    }

    #[test]
    fn versions_are_compared_strictly() {
        let json = |text: &'static str| RawJsonRef::parse_str(text).unwrap();
        for (a, b, same) in [
            ("1", "1.0", true),
            ("1", r#""1""#, false),
            (r#""a""#, r#""\u0061""#, true),
            ("null", "null", true),
            ("null", "0", false),
            ("true", "true", true),
            ("true", "false", false),
            ("{}", "{}", false),
            ("[]", "[]", false),
        ] {
            assert_eq!(same_version(json(a), json(b)), same, "{a} {b}");
        }
    }
}
