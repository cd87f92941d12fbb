//! Shaping what a loader gave, before anybody sees it.

use core::cmp::Ordering;
use core::fmt;
use core::future::Future;
use std::sync::Arc;

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use hashbrown::HashMap;
use millstream_core::{ListWriter, ObjectWriter, RawJson, RawJsonRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ctx::Ctx;
use crate::error::LiveError;
use crate::handler::BoxFuture;
use crate::user::User;

/// The direction of a [`Pipe::sort`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there are two")]
pub enum Order {
    /// Small ones first.
    Ascending,
    /// Large ones first.
    Descending,
}

/// Steps that a loaded list goes through, in the order in which they were added. What is no list
/// goes through as it is; of a page it is the list inside.
///
/// Events are not touched: an item that was filtered out may still arrive as one.
///
/// ```
/// use millstream_live::{LiveError, Order, Pipe};
/// use serde_json::{Value, json};
///
/// let best: Pipe<(), ()> = Pipe::new()
///     .filter(async |_, item: Value| Ok(item["hidden"] != true))
///     .sort("rank", Order::Descending)
///     .limit(3)
///     .join("author", async |_, id: String| Ok(json!({"name": id.to_uppercase()})), "by");
/// # let _ = best;
/// ```
pub struct Pipe<S, U>(Vec<Step<S, U>>);

enum Step<S, U> {
    Filter(Ask<S, U, bool>),
    Sort(String, Order),
    Limit(usize),
    Join {
        field: String,
        find: Ask<S, U, RawJson>,
        name: String,
    },
}

type Ask<S, U, T> =
    Arc<dyn Fn(Ctx<S, U>, &RawJson) -> BoxFuture<Result<T, LiveError>> + Send + Sync>;

impl<S, U> fmt::Debug for Pipe<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("steps", &self.0.len())
            .finish()
    }
}

impl<S, U> Default for Pipe<S, U> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Questions of one step that wait at the same time.
const CONCURRENT_MAX: usize = 16;

impl<S: Send + Sync + 'static, U: User> Pipe<S, U> {
    /// No steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the items that the predicate accepts. At most 16 wait at a time.
    #[must_use]
    pub fn filter<T: DeserializeOwned, Fut>(
        mut self,
        accepts: impl Fn(Ctx<S, U>, T) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = Result<bool, LiveError>> + Send + 'static,
    {
        self.0.push(Step::Filter(ask(move |ctx, item| {
            accepts(ctx, item).boxed()
        })));
        self
    }

    /// Sorts by a field; items that are equal there keep their order. Numbers come before
    /// booleans, those before texts (by code point), those before everything else, which is all
    /// equal; descending the other way round.
    #[must_use]
    pub fn sort(mut self, field: impl Into<String>, order: Order) -> Self {
        self.0.push(Step::Sort(field.into(), order));
        self
    }

    /// Keeps the first `count` items.
    #[must_use]
    pub fn limit(mut self, count: usize) -> Self {
        self.0.push(Step::Limit(count));
        self
    }

    /// Looks up what each item's `field` stands for and adds it to the item as `name`, in place
    /// of what has that name. Equal values are looked up once; at most 16 wait at a time. Items
    /// without the field stay as they are.
    #[must_use]
    pub fn join<T: DeserializeOwned, R: Serialize, Fut>(
        mut self,
        field: impl Into<String>,
        find: impl Fn(Ctx<S, U>, T) -> Fut + Send + Sync + 'static,
        name: impl Into<String>,
    ) -> Self
    where
        Fut: Future<Output = Result<R, LiveError>> + Send + 'static,
    {
        let find = ask(move |ctx, value| {
            let found = find(ctx, value);
            async move { Ok(RawJson::from_serialize(&found.await?)?) }.boxed()
        });
        self.0.push(Step::Join {
            field: field.into(),
            find,
            name: name.into(),
        });
        self
    }

    /// Appends the steps of another.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Runs all steps over a list.
    pub(crate) async fn run(&self, ctx: &Ctx<S, U>, data: RawJson) -> Result<RawJson, LiveError> {
        if !data.get().is_array() {
            return Ok(data);
        }
        let mut items: Vec<RawJson> = data.get().elements().map(|item| item.to_owned()).collect();
        for step in &self.0 {
            items = step.run(ctx, items).await?;
        }
        let mut list = ListWriter::new();
        for item in &items {
            list.push(item.get());
        }
        Ok(list.finish())
    }
}

impl<S: Send + Sync + 'static, U: User> Step<S, U> {
    async fn run(&self, ctx: &Ctx<S, U>, items: Vec<RawJson>) -> Result<Vec<RawJson>, LiveError> {
        Ok(match self {
            Self::Filter(accepts) => {
                let kept = all(ctx, accepts, &items).await?;
                let kept = items.into_iter().zip(kept);
                kept.filter_map(|(item, kept)| kept.then_some(item))
                    .collect()
            }
            Self::Sort(field, order) => {
                let mut items = items;
                items.sort_by(|a, b| {
                    let (a, b) = (a.get().field(field), b.get().field(field));
                    match order {
                        Order::Ascending => compare(a, b),
                        Order::Descending => compare(b, a),
                    }
                });
                items
            }
            Self::Limit(count) => {
                let mut items = items;
                items.truncate(*count);
                items
            }
            Self::Join { field, find, name } => {
                let mut places: HashMap<RawJson, usize> = HashMap::new();
                let mut values = Vec::new();
                let mut wanted = Vec::with_capacity(items.len());
                for item in &items {
                    let value = item.get().field(field).map(|value| value.to_owned());
                    wanted.push(value.map(|value| {
                        *places.entry(value).or_insert_with_key(|value| {
                            values.push(value.clone());
                            values.len() - 1
                        })
                    }));
                }
                let found = all(ctx, find, &values).await?;
                let joined = items.into_iter().zip(wanted);
                joined
                    .map(|(item, at)| match at.and_then(|at| found.get(at)) {
                        Some(found) => with_member(item.get(), name, found.get()),
                        None => item,
                    })
                    .collect()
            }
        })
    }
}

/// Asks for each value, some at a time; answers in order.
async fn all<S, U, T>(
    ctx: &Ctx<S, U>,
    ask: &Ask<S, U, T>,
    values: &[RawJson],
) -> Result<Vec<T>, LiveError> {
    let asked: Vec<_> = values.iter().map(|value| ask(ctx.clone(), value)).collect();
    let mut answers = stream::iter(asked).buffered(CONCURRENT_MAX);
    let mut results = Vec::with_capacity(values.len());
    while let Some(answer) = answers.next().await {
        results.push(answer?);
    }
    Ok(results)
}

/// A question about a value that is read first. Nothing runs before the future is polled.
fn ask<S: Send + Sync + 'static, U: User, T: DeserializeOwned, R: 'static>(
    ask: impl Fn(Ctx<S, U>, T) -> BoxFuture<Result<R, LiveError>> + Send + Sync + 'static,
) -> Ask<S, U, R> {
    let ask = Arc::new(ask);
    Arc::new(move |ctx, value| {
        let (ask, value) = (Arc::clone(&ask), value.clone());
        Box::pin(async move {
            let running = {
                let value: T = serde_json::from_str(value.as_str())?;
                ask(ctx, value)
            };
            running.await
        })
    })
}

/// A total order in which equal means: leave them as they are.
fn compare(a: Option<RawJsonRef<'_>>, b: Option<RawJsonRef<'_>>) -> Ordering {
    let class = |value: Option<RawJsonRef<'_>>| match value {
        Some(value) if value.is_number() => 0,
        Some(value) if value.as_bool().is_some() => 1,
        Some(value) if value.is_string() => 2,
        _ => 3,
    };
    let by_class = class(a).cmp(&class(b));
    let (Some(a), Some(b), Ordering::Equal) = (a, b, by_class) else {
        return by_class;
    };
    if let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) {
        // Equal zeros of different signs.
        return if a == b {
            Ordering::Equal
        } else {
            a.total_cmp(&b)
        };
    }
    match (a.as_bool(), b.as_bool(), a.as_json_str(), b.as_json_str()) {
        (Some(a), Some(b), ..) => a.cmp(&b),
        (.., Some(a), Some(b)) => a.to_cow().cmp(&b.to_cow()),
        _ => Ordering::Equal,
    }
}

/// An object with one member more, or with another value for it.
fn with_member(item: RawJsonRef<'_>, name: &str, value: RawJsonRef<'_>) -> RawJson {
    if !item.is_object() {
        return item.to_owned();
    }
    let mut object = ObjectWriter::with_capacity(item.as_bytes().len() + value.as_bytes().len());
    for (key, member) in item.fields() {
        if !key.eq_str(name) {
            object.raw(&key.to_cow(), member);
        }
    }
    object.raw(name, value);
    object.finish()
}
