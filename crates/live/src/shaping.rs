//! What a stream declares about its data after it was loaded: shape, freshness, and who keeps it.

use core::future::Future;
use core::time::Duration;
use std::sync::Arc;

use millstream_core::{RawJson, RawJsonRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::Problem;
use crate::args::Args;
use crate::ctx::Ctx;
use crate::error::LiveError;
use crate::handler::encode;
use crate::pipe::Pipe;
use crate::stream::{Stream, apply};
use crate::subscribe::split_page;
use crate::user::User;

/// Reads the key by which a slow reader's events replace each other.
pub(crate) type CoalesceKey =
    Arc<dyn Fn(RawJsonRef<'_>) -> Result<Option<String>, LiveError> + Send + Sync>;

impl<S: Send + Sync + 'static, U: User> Stream<S, U> {
    /// For values of which only the newest counts: a connection that is behind gets the newest
    /// event of each key, in the place of the first that waits. Others get every event. The key
    /// is read from the data before [`transform`](Self::transform); without one all events share
    /// a place. Such events carry no number, so a client that comes back loads again; an event
    /// `refreshed` takes the place of everything that waits of its topic.
    ///
    /// A stream whose topic is computed has to name its [`topics`](Self::topics) for this. Not
    /// together with [`volatile`](Self::volatile).
    ///
    /// ```
    /// use millstream_live::Stream;
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct Quote { symbol: String }
    ///
    /// let quotes: Stream<(), ()> = Stream::by(|market: String| format!("quotes:{market}"))
    ///     .topics("quotes:*")
    ///     .coalesce_by(|quote: Quote| Some(quote.symbol));
    /// # let _ = quotes;
    /// ```
    #[must_use]
    pub fn coalesce_by<T: DeserializeOwned>(
        mut self,
        key: impl Fn(T) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.coalesce = Some(Arc::new(move |data| {
            Ok(key(serde_json::from_str(data.as_str())?))
        }));
        self
    }

    /// Runs these steps over what was loaded, before the transform; of several pipes one after
    /// the other. Events are not touched.
    #[must_use]
    pub fn pipe(mut self, pipe: Pipe<S, U>) -> Self {
        self.pipe.get_or_insert_default().extend(pipe);
        self
    }

    /// Loads the topic again when nothing was published there for so long, and publishes the
    /// result as `refreshed`; of a page the list alone. Runs as nobody ([`Ctx::user`] is none)
    /// with the arguments of the first subscriber, so the topic has to determine the data. An
    /// error goes to [`on_error`](Self::on_error), and the clock starts again.
    ///
    /// Costs one entry per topic that somebody holds, and one timer per stream.
    #[must_use]
    pub fn stale_after(mut self, silence: Duration) -> Self {
        self.stale_after = Some(silence);
        self
    }

    /// Loads the topic again, as [`stale_after`](Self::stale_after) does, whenever anything but
    /// `refreshed` is published on a topic that matches one of these patterns, in which `*`
    /// stands for one or more characters. What is published while it is being loaded leads to one
    /// more run.
    ///
    /// Costs one comparison per pattern and publish.
    #[must_use]
    pub fn invalidate_on<P: Into<String>>(mut self, topics: impl IntoIterator<Item = P>) -> Self {
        self.invalidate_on
            .extend(topics.into_iter().map(Into::into));
        // An empty list is a mistake, and told from not calling this by an empty pattern.
        if self.invalidate_on.is_empty() {
            self.invalidate_on.push(String::new());
        }
        self
    }

    /// The server keeps the value itself: every event published on the topic, on whatever way, is
    /// folded into it by the stream's [`merge`](Self::merge), and whoever subscribes gets what
    /// all events so far amount to, with the number of the last. There is no loader; see
    /// [`seed`](Self::seed) for a first value.
    ///
    /// An event for which there is no room is refused with `PAYLOAD_TOO_LARGE` (this topic) or
    /// `OVERLOADED` (all together), and neither delivered nor folded in: the publisher is the one
    /// who can do something about it, and nobody sees what the value does not hold. The limits
    /// are `held_bytes_max`, `held_entries_max`, `held_topics_max` and `held_total_bytes_max` of
    /// [`Limits`](crate::Limits). What is published by the platform's own verb is not seen.
    ///
    /// A stream whose topic is computed has to name its [`topics`](Self::topics).
    ///
    /// # Cost
    /// A publish: one copy of the data, two searches for its key, one lock per topic. A
    /// subscription: one copy of the value.
    ///
    /// ```
    /// use millstream_live::Stream;
    ///
    /// let todos: Stream<(), ()> = Stream::by(|list: String| format!("todo:{list}"))
    ///     .topics("todo:*")
    ///     .held();
    /// # let _ = todos;
    /// ```
    #[must_use]
    pub fn held(mut self) -> Self {
        self.held.get_or_insert_default();
        self
    }

    /// Where the value of a [`held`](Self::held) topic begins, given the topic: run once, as
    /// nobody, when the topic is first subscribed or published to. Events that come meanwhile
    /// are delivered at once and folded in afterwards. After an error the next one who comes
    /// tries again.
    #[must_use]
    pub fn seed<T: Serialize + 'static, Fut>(
        mut self,
        first: impl Fn(Ctx<S, U>, Arc<str>) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = Result<T, LiveError>> + Send + 'static,
    {
        let holding = self.held.get_or_insert_default();
        holding.seed = Some(Arc::new(move |ctx, topic| {
            let first = first(ctx, topic);
            Box::pin(async move { encode(first.await?) })
        }));
        self
    }

    /// Drops the value of a [`held`](Self::held) topic that has no subscribers and was not
    /// written to for so long, or up to twice as long. Without this values are kept for as long
    /// as the server runs.
    #[must_use]
    pub fn drop_idle_after(mut self, idle: Duration) -> Self {
        self.held.get_or_insert_default().drop_after = Some(idle);
        self
    }

    /// What the stream holds now, as an event `refreshed` gives it.
    pub(crate) async fn load_list(
        &self,
        ctx: &Ctx<S, U>,
        args: &Args,
    ) -> Result<RawJson, LiveError> {
        let Some(loader) = &self.loader else {
            return Ok(self.empty_value());
        };
        let loaded = loader(ctx.clone(), &mut args.cursor())?.await?;
        let (data, _) = split_page(loaded);
        // A loader that gives nothing has nothing.
        let data = data.unwrap_or_else(|| self.empty_value());
        self.piped(ctx, data).await
    }

    /// Runs the steps over what was loaded.
    pub(crate) async fn piped(&self, ctx: &Ctx<S, U>, data: RawJson) -> Result<RawJson, LiveError> {
        match &self.pipe {
            Some(pipe) => pipe.run(ctx, data).await,
            None => Ok(data),
        }
    }

    /// Shapes what was loaded or what a held value begins with.
    pub(crate) fn transformed(&self, data: RawJson) -> Result<RawJson, LiveError> {
        match &self.transform {
            Some(project) => apply(project, data.get()),
            None => Ok(data),
        }
    }

    /// Tells the stream's observer of an error; false when there is none. An observer that
    /// panics costs nobody else.
    pub(crate) fn observe(&self, ctx: &Ctx<S, U>, topic: &str, error: &LiveError) -> bool {
        let Some(observer) = &self.on_error else {
            return false;
        };
        let told = std::panic::AssertUnwindSafe(|| observer(ctx, topic, error));
        let _ = std::panic::catch_unwind(told);
        true
    }
}

impl<S, U> Stream<S, U> {
    /// Whether topics of the stream are loaded again by themselves.
    pub(crate) fn is_watched(&self) -> bool {
        self.stale_after.is_some() || !self.invalidate_on.is_empty()
    }

    /// What is wrong with these declarations.
    pub(crate) fn shaping_problem(&self) -> Option<Problem> {
        if self.coalesce.is_some() && self.volatile {
            return Some(Problem::CoalescedVolatile);
        }
        if self.coalesce.is_some() && self.replay.is_some() {
            return Some(Problem::CoalescedReplay);
        }
        if self.invalidate_on.iter().any(String::is_empty) {
            return Some(Problem::NoPattern);
        }
        let idle = self.held.as_ref().and_then(|held| held.drop_after);
        if [self.stale_after, idle].contains(&Some(Duration::ZERO)) {
            return Some(Problem::NoTime);
        }
        if self.held.is_some() && self.loader.is_some() {
            return Some(Problem::HeldLoader);
        }
        let needs_loader = self.is_watched() || self.pipe.is_some();
        (needs_loader && self.loader.is_none()).then_some(Problem::NoLoader)
    }
}
