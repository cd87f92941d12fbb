#![doc = include_str!("../README.md")]

mod deadline;
mod hash;
mod id;
mod json;
mod map;
mod pages;
mod random;
mod slab;
mod time;
mod topic;
mod wheel;

pub use deadline::DeadlineFifo;
pub use hash::KeyedHash;
pub use id::{ConnId, TopicId};
pub use json::{
    DEPTH_MAX, Elements, Fields, JsonError, JsonKind, JsonList, JsonStr, ListWriter, ObjectWriter,
    RawJson, RawJsonRef, write_json_str,
};
pub use map::{BoundedMap, Evict, Inserted};
pub use pages::PagedVec;
pub use random::{Random, SeededRandom, UuidText, uuid_v4};
pub use slab::{Full, Key, Slab};
pub use time::Millis;
pub use topic::{TOPIC_UNITS_MAX, TopicError, TopicName, TopicRules, check_event, is_system_topic};
pub use wheel::{TimerId, Wheel};
