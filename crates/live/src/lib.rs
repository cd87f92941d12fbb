#![doc = include_str!("../README.md")]

pub mod access;
mod admission;
mod app;
mod args;
mod binary;
mod call;
mod calls;
mod closing;
mod ctx;
mod desk;
mod engine;
mod error;
mod frames;
mod glob;
mod handler;
mod held;
mod identity;
mod input;
mod layer;
mod load;
mod module;
mod origin;
mod owners;
mod pipe;
mod pipeline;
mod platform;
mod policy;
mod publish;
mod reply;
mod rules;
mod shaping;
mod skip;
mod stats;
mod stream;
mod subscribe;
#[cfg(feature = "testing")]
pub mod testing;
mod upload;
mod user;
mod warning;
mod watch;

pub use admission::Admission;
pub use app::{App, Builder, Limits, Problem, RegistrationError, RegistrationErrors};
pub use args::{Arg, ArgCursor, Args, Rest, Valid};
pub use binary::{BinaryCall, UploadCall};
pub use call::Call;
pub use calls::{Begun, Calls};
pub use closing::Closed;
pub use ctx::Ctx;
pub use error::{Issue, LiveError, code};
pub use handler::{BoxFuture, CallResult, Handler};
pub use input::InputHandler;
pub use layer::{Next, Outcome};
pub use load::Load;
pub use millstream_flow::{BreakerConfig, BreakerState, BreakerStats};
pub use millstream_hub::{Reason, Snapshot};
pub use module::Module;
pub use pipe::{Order, Pipe};
pub use pipeline::{Handled, Live};
pub use platform::{Caller, Client, Platform};
pub use policy::{Breaker, Idempotent, Lock, Rate, RateLimits};
pub use publish::{BatchEvent, Publisher};
pub use reply::{Answer, BATCH_EVENT, REPLY_TOPIC, Release, Reply};
pub use stats::{LiveGauges, LiveStats};
pub use stream::{Merge, Page, Stream};
pub use subscribe::StreamReply;
pub use upload::{Cancelled, Upload};
pub use user::User;

pub use millstream_upload::{
    BudgetLimits as UploadBudget, Limits as UploadLimits, Stats as UploadStats,
};
pub use warning::Warning;
