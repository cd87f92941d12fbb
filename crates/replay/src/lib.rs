#![doc = include_str!("../README.md")]

mod error;
mod limits;
mod numbers;
mod position;
mod read;
mod record;
mod replay;
mod ring;
mod stats;

pub use error::PushError;
pub use limits::{ENTRY_COST, Limits, Numbers, RingLimits, TOPIC_COST};
pub use position::{InvalidPosition, NUMBER_MAX, Position, parse_number};
pub use read::{Answer, Cursor, Outcome, Read};
pub use record::{encode_record, write_end, write_msg};
pub use replay::{Replay, TopicKey};
pub use ring::{Pushed, Ring};
pub use stats::Stats;
