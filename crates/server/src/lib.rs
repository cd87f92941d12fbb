#![doc = include_str!("../README.md")]

mod conn;
mod context;
mod cookies;
mod handover;
mod hooks;
mod http;
mod live;
mod logging;
mod metrics;
mod peer;
mod server;
mod worker;

pub mod cli;
pub mod config;

pub use self::config::{AllowedOrigins, ApiKeys, Config, ConfigError};
pub use self::conn::{Busy, Conn, Handle, OwnedMember};
pub use self::context::Context;
pub use self::cookies::{CookieError, CookieJar, CookieOptions, SameSite};
pub use self::hooks::{
    Admission, Answer, AuthOutcome, AuthRequest, CloseInfo, HookError, Hooks, LoadRequest, Message,
    Metric, Resume, UpgradeRequest,
};
pub use self::live::{LiveHooks, ServerCtx, with_live};
pub use self::logging::init as init_logging;
pub use self::peer::{Address, Peer, RequestId, UserData};
pub use self::server::{Builder, Server, StartError, Stopped, Stopper};
pub use millstream_hub::{
    BatchMember, History, Outcome, PublishError, PublishOptions, Published, RawPayload,
    RequestError, Retained, Sent, Snapshot, Verdict,
};

/// The project's front page: its example has to compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}
