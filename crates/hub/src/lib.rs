#![doc = include_str!("../README.md")]

mod asked;
mod backlog;
mod coalesce;
mod drain;
mod event;
mod fan;
mod flush;
mod gate;
mod hold;
mod hub;
mod limits;
mod listeners;
mod local;
mod parked;
mod policy;
mod pressure;
mod publish;
mod requests;
mod resume;
mod retain;
mod stats;
mod subs;
mod topics;
mod turn;

pub use drain::DrainPlan;
pub use event::{CloseSummary, Event};
pub use fan::Sent;
pub use flush::{Backlogged, Sink, Wrote};
pub use gate::{Ticket, Verdict, reason};
pub use hold::Released;
pub use hub::{Hub, HubConfig};
pub use limits::Limits;
pub use millstream_replay::Outcome;
pub use policy::{Overflow, Pattern, PolicyTable, TopicPolicy};
pub use pressure::{Load, Pressure, PressureConfig, Reason, Snapshot, TopPublisher};
pub use publish::{
    BatchMember, Delivery, Inboxes, Member, PublishError, PublishOptions, Published, Publisher,
    RawPayload,
};
pub use requests::RequestError;
pub use resume::Receipt;
pub use retain::{History, Retained};
pub use stats::Stats;
pub use topics::{OpenError, Topic, TopicRate, Topics};
