#![doc = include_str!("../README.md")]

mod app;
mod args;
mod ctx;
mod engine;
mod error;
mod handler;
mod layer;
mod module;
mod owners;
mod pipeline;
mod platform;
mod reply;
mod rules;
mod stream;
mod subscribe;
mod user;

pub use app::{App, Builder, Limits, Problem, RegistrationError, RegistrationErrors};
pub use args::{Arg, ArgCursor, Args, Rest, Valid};
pub use ctx::Ctx;
pub use error::{Issue, LiveError, code};
pub use handler::{BoxFuture, CallResult, Handler};
pub use layer::{Next, Outcome};
pub use module::{Call, Module};
pub use pipeline::{Handled, Live};
pub use platform::{Caller, Client, Platform};
pub use reply::{BATCH_EVENT, REPLY_TOPIC, Reply};
pub use stream::{Merge, Page, Stream};
pub use subscribe::StreamReply;
pub use user::User;
