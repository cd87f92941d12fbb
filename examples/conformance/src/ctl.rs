//! Module `ctl`: calls with which a scenario makes the server do something and sees what it did.

mod conns;
mod memory;
mod publish;

use std::future::Future;
use std::pin::Pin;

use millstream_core::{RawJson, RawJsonRef};
use millstream_server::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::calls::{Failure, Reply};
use crate::hooks::App;
use crate::identity::Identity;

/// A reply now, or a future that gives it.
pub(crate) enum Outcome {
    Now(Reply),
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Outcome {
    fn later(work: impl Future<Output = Reply> + Send + 'static) -> Self {
        Self::Later(Box::pin(work))
    }
}

/// Runs a call by its path.
pub(crate) fn run(app: &App, cx: &mut Context<'_>, path: &str, args: Args) -> Outcome {
    let Some(name) = path.strip_prefix("ctl/") else {
        return not_found();
    };
    // Each group answers for its own names and passes on the others.
    let done = general(cx, name, &args)
        .or_else(|| memory::run(app, name, &args))
        .or_else(|| publish::run(cx, name, &args))
        .or_else(|| conns::run(app, cx, name, &args));
    match done {
        None => not_found(),
        Some(Ok(outcome)) => outcome,
        Some(Err(failure)) => Outcome::Now(Err(failure)),
    }
}

/// `None` when the name belongs to another group; `Err` when an argument does not fit.
type Handled = Option<Result<Outcome, Failure>>;

fn not_found() -> Outcome {
    Outcome::Now(Err(Failure::new("NOT_FOUND", "Not found")))
}

fn general(cx: &Context<'_>, name: &str, args: &Args) -> Handled {
    Some(match name {
        "ping" => now("pong"),
        "info" => {
            #[derive(Serialize)]
            struct Info {
                app: &'static str,
                revision: u32,
                #[serde(rename = "impl")]
                implementation: &'static str,
            }
            let implementation = concat!("millstream ", env!("CARGO_PKG_VERSION"));
            now(Info {
                app: "conformance",
                revision: 1,
                implementation,
            })
        }
        "whoami" => match cx.user::<Identity>() {
            Some(identity) => now(identity),
            None => Err(Failure::internal()),
        },
        "big" => args.count(0).and_then(|n| now("x".repeat(n))),
        "raise" => args
            .text(0)
            .and_then(|code| Err(Failure::new(&code, args.text(1)?))),
        _ => return None,
    })
}

/// A reply that is ready.
fn now(value: impl Serialize) -> Result<Outcome, Failure> {
    Ok(Outcome::Now(encode(value)))
}

fn encode(value: impl Serialize) -> Reply {
    serde_json::to_string(&value)
        .map(Some)
        .map_err(|_| Failure::internal())
}

/// A payload that was part of a frame, or was made here.
fn json(text: &str) -> Result<RawJsonRef<'_>, Failure> {
    RawJsonRef::parse(text.as_bytes())
        .map_err(|error| Failure::new("INVALID_REQUEST", error.to_string()))
}

fn owned_json(text: &str) -> Result<RawJson, Failure> {
    json(text).map(|json| json.to_owned())
}

/// Positional arguments. An absent one counts as null.
pub(crate) struct Args(Vec<Box<RawValue>>);

impl From<Vec<Box<RawValue>>> for Args {
    fn from(list: Vec<Box<RawValue>>) -> Self {
        Self(list)
    }
}

impl Args {
    /// The argument's JSON text.
    fn raw(&self, at: usize) -> &str {
        self.0.get(at).map_or("null", |value| value.get())
    }

    fn parse<T: DeserializeOwned>(&self, at: usize) -> Result<T, Failure> {
        serde_json::from_str(self.raw(at)).map_err(|error| {
            Failure::new("INVALID_REQUEST", format!("argument {}: {error}", at + 1))
        })
    }

    fn text(&self, at: usize) -> Result<String, Failure> {
        self.parse(at)
    }

    /// A size or a number of repetitions, at most ten million.
    fn count(&self, at: usize) -> Result<usize, Failure> {
        self.parse::<usize>(at).map(|count| count.min(10_000_000))
    }
}
