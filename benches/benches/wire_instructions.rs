//! The same as instruction counts, which do not depend on what else the machine does.

#![allow(
    unused_qualifications,
    missing_docs,
    reason = "written by gungraun's macros"
)]

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use millstream_core::{RawJson, RawJsonRef, TopicName, TopicRules};
use millstream_wire::{
    self as wire, DecodeLimits, Decoder, Input, Role, TopicPrefix, client, frame,
};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn message(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    client::encode_text(&mut bytes, KEY, &"x".repeat(len));
    bytes
}

#[library_benchmark]
#[bench::b64(args = (64), setup = message)]
#[bench::kib4(args = (4_096), setup = message)]
fn decode(bytes: Vec<u8>) -> Vec<u8> {
    let mut bytes = bytes;
    let mut decoder = Decoder::new(Role::Server);
    let mut input = Input::new(&mut bytes);
    let limits = DecodeLimits::default();
    while let Ok(Some(event)) = decoder.next(black_box(&mut input), &limits) {
        black_box(event);
    }
    bytes
}

fn zeros(len: usize) -> Vec<u8> {
    vec![0; len]
}

#[library_benchmark]
#[bench::b64(args = (64), setup = zeros)]
#[bench::kib4(args = (4_096), setup = zeros)]
#[bench::kib64(args = (65_536), setup = zeros)]
fn unmask(bytes: Vec<u8>) -> Vec<u8> {
    let mut bytes = bytes;
    frame::mask(black_box(&mut bytes), black_box(KEY), 0);
    bytes
}

#[library_benchmark]
#[bench::app(r#"{"rpc":"notes/add","id":"k1","args":["hi"]}"#)]
#[bench::subscribe(r#"{"type":"subscribe","topic":"rooms:1","ref":12}"#)]
#[bench::subscribe_blanks(r#"{"type": "subscribe", "topic": "rooms:1", "ref": 12}"#)]
#[bench::reply(r#"{"type":"reply","ref":31,"data":{"yes":true}}"#)]
#[bench::unknown(r#"{"type":"cursor-snapshot","topic":"board"}"#)]
fn recognise(text: &str) -> bool {
    black_box(wire::recognise(black_box(text))).is_some()
}

fn envelope(len: usize) -> (TopicPrefix, RawJson, Vec<u8>) {
    let topic = TopicName::parse("rooms:1", &TopicRules::SERVER).expect("valid");
    let data = RawJson::parse(format!("\"{}\"", "x".repeat(len - 2)).into()).expect("valid");
    (
        TopicPrefix::new(&topic),
        data,
        Vec::with_capacity(len + 256),
    )
}

#[library_benchmark]
#[bench::b64(args = (64), setup = envelope)]
#[bench::kib4(args = (4_096), setup = envelope)]
fn encode(parts: (TopicPrefix, RawJson, Vec<u8>)) -> (TopicPrefix, RawJson, Vec<u8>) {
    let (prefix, data, mut out) = parts;
    wire::encode_envelope(
        &mut out,
        &prefix,
        black_box("created"),
        data.get(),
        Some(1 << 50),
    );
    (prefix, data, out)
}

fn record(count: usize) -> String {
    let one = r#"{"id":1,"name":"user 1","online":true,"at":17.25,"note":"some words é\n"}"#;
    format!("[{}]", vec![one; count].join(","))
}

#[library_benchmark]
#[bench::one(args = (1), setup = record)]
#[bench::hundred(args = (100), setup = record)]
fn validate(text: String) -> String {
    black_box(RawJsonRef::parse(black_box(text.as_bytes())).is_ok());
    text
}

library_benchmark_group!(
    name = codec,
    benchmarks = [decode, unmask, recognise, encode, validate]
);
main!(library_benchmark_groups = codec);
