#![doc = include_str!("../README.md")]

mod binary;
mod call;
mod close;
mod control;
mod decoder;
mod encode;
mod prefix;
mod violation;

pub mod client;
pub mod frame;
pub mod negotiation;

pub use binary::{
    BINARY_HEADER_BYTES_MAX, BinaryCall, BinaryFault, BinaryFrame, ChunkHead, HeaderTooLong,
    UploadChunk, encode_binary_call, encode_cancel, encode_chunk, recognise_binary, split_call,
    split_control,
};
pub use call::{
    BatchEntry, CallArgs, CallBatch, CallFrame, CallRequest, is_call_path, recognise_call,
};
pub use client::{BatchMembers, Data, ServerFrame, recognise_server};
pub use close::{CLOSE_REASON_BYTES_MAX, CloseCode, Reaction, encode_close};
pub use control::{
    CONTROL_FRAME_BYTES, Caps, ClientFrame, Ref, ReplyOutcome, hello_capabilities, recognise,
};
pub use decoder::{DecodeLimits, Decoder, Event, Input, Role};
pub use encode::{
    FRAME_CODE_UNITS_MAX, encode_batch, encode_binary, encode_denied, encode_envelope,
    encode_gap_mark, encode_keepalive, encode_ping, encode_pong, encode_request, encode_resumed,
    encode_send, encode_subscribed, encode_success, encode_text, encode_welcome, envelope_fits,
    write_envelope_json,
};
pub use frame::{Header, Opcode};
pub use prefix::TopicPrefix;
pub use violation::Violation;
