//! Bytes to messages and back, and how JSON is validated.
//!
//! Masking is measured against fastwebsockets, JSON against simd-json and serde_json, in one run.

#![allow(missing_docs, reason = "written by criterion's macros")]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_core::{RawJsonRef, TopicName, TopicRules};
use millstream_wire::{
    self as wire, DecodeLimits, Decoder, Input, Role, TopicPrefix, client, frame,
};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const LIMITS: DecodeLimits = DecodeLimits {
    message_bytes_max: 1 << 20,
    empty_fragments_max: 16,
};

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for len in [64, 4_096] {
        let mut message = Vec::new();
        client::encode_text(&mut message, KEY, &"x".repeat(len));
        group.throughput(Throughput::Bytes(len as u64));
        let mut decoder = Decoder::new(Role::Server);
        group.bench_function(BenchmarkId::new("text", len), |b| {
            b.iter_batched_ref(
                || message.clone(),
                |bytes| decode_all(&mut decoder, bytes),
                BatchSize::SmallInput,
            );
        });
        // A whole read of small messages: the cost of one without the harness's own.
        let many = message.repeat(64 * 1024 / message.len());
        group.throughput(Throughput::Elements((many.len() / message.len()) as u64));
        group.bench_function(BenchmarkId::new("read of 64 KiB", len), |b| {
            b.iter_batched_ref(
                || many.clone(),
                |bytes| decode_all(&mut decoder, bytes),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn decode_all(decoder: &mut Decoder, bytes: &mut [u8]) -> usize {
    let mut input = Input::new(bytes);
    let mut events = 0;
    while let Ok(Some(event)) = decoder.next(&mut input, &LIMITS) {
        black_box(event);
        events += 1;
    }
    events
}

fn unmask(c: &mut Criterion) {
    let mut group = c.benchmark_group("unmask");
    for len in [64, 4_096, 65_536] {
        let mut bytes = vec![0x5a; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("ours", len), |b| {
            b.iter(|| frame::mask(black_box(&mut bytes), black_box(KEY), 0));
        });
        group.bench_function(BenchmarkId::new("fastwebsockets", len), |b| {
            b.iter(|| fastwebsockets::unmask(black_box(&mut bytes), black_box(KEY)));
        });
    }
    group.finish();
}

/// Each kind of message a server sees, by what recognising it takes.
const CLIENT_FRAMES: [(&str, &str); 8] = [
    (
        "app, byte 3 differs",
        r#"{"rpc":"notes/add","id":"k1","args":["hi"]}"#,
    ),
    (
        "app, unknown type",
        r#"{"type":"cursor-snapshot","topic":"board"}"#,
    ),
    ("hello", r#"{"type":"hello","caps":["batch"]}"#),
    (
        "subscribe",
        r#"{"type":"subscribe","topic":"rooms:1","ref":12}"#,
    ),
    (
        "subscribe, blanks",
        r#"{"type": "subscribe", "topic": "rooms:1", "ref": 12}"#,
    ),
    (
        "subscribe-batch",
        r#"{"type":"subscribe-batch","topics":["a","b","c","d"],"ref":3}"#,
    ),
    ("unsubscribe", r#"{"type":"unsubscribe","topic":"rooms:1"}"#),
    ("reply", r#"{"type":"reply","ref":31,"data":{"yes":true}}"#),
];

fn recognise(c: &mut Criterion) {
    let mut group = c.benchmark_group("recognise");
    for (name, text) in CLIENT_FRAMES {
        group.bench_function(name, |b| b.iter(|| wire::recognise(black_box(text))));
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode envelope");
    let topic = TopicName::parse("rooms:1", &TopicRules::SERVER).expect("valid");
    let prefix = TopicPrefix::new(&topic);
    let mut out = Vec::with_capacity(16 * 1024);
    for len in [64, 4_096] {
        let text = format!("\"{}\"", "x".repeat(len - 2));
        let data = RawJsonRef::parse_str(&text).expect("valid");
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| {
                out.clear();
                wire::encode_envelope(&mut out, &prefix, black_box("created"), data, Some(1 << 50));
                out.len()
            });
        });
    }
    group.finish();
}

/// Records such as applications send: short keys, numbers, some text.
fn records(len: usize) -> String {
    let mut text = String::from("[");
    for id in 0.. {
        let next = format!(
            r#"{{"id":{id},"name":"user {id}","online":true,"at":17{id}.25,"note":"words é\n"}}"#
        );
        if text.len() + next.len() + 2 > len && text.len() > 1 {
            break;
        }
        if id > 0 {
            text.push(',');
        }
        text.push_str(&next);
    }
    text.push(']');
    text
}

fn validate(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate json");
    for len in [100, 1_024, 16_384] {
        let text = records(len);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("ours", len), |b| {
            b.iter(|| RawJsonRef::parse(black_box(text.as_bytes())).is_ok());
        });
        group.bench_function(BenchmarkId::new("simd-json tape", len), |b| {
            // It writes into its input, so a copy belongs to its cost.
            let mut buffers = simd_json::Buffers::new(len);
            let mut copy = Vec::with_capacity(len + 64);
            b.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(text.as_bytes()));
                simd_json::to_tape_with_buffers(&mut copy, &mut buffers).is_ok()
            });
        });
        group.bench_function(BenchmarkId::new("serde_json ignored", len), |b| {
            b.iter(|| serde_json::from_str::<serde::de::IgnoredAny>(black_box(&text)).is_ok());
        });
    }
    group.finish();
}

criterion_group!(benches, decode, unmask, recognise, encode, validate);
criterion_main!(benches);
