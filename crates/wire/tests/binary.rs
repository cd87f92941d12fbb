//! Binary frames: what is encoded comes back, and what real clients sent is encoded the same way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use millstream_core::RawJsonRef;
use millstream_wire::{
    BinaryFrame, UploadChunk, encode_binary_call, encode_cancel, encode_chunk, recognise_binary,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn encode(frame: &BinaryFrame<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match frame {
        BinaryFrame::Call(call) => encode_binary_call(&mut out, call.header, call.payload).unwrap(),
        BinaryFrame::Chunk(chunk) => encode_chunk(&mut out, chunk).unwrap(),
        BinaryFrame::Cancel { upload } => encode_cancel(&mut out, *upload),
        _ => return None,
    }
    Some(out)
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks_exact(2);
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(pair).collect()
}

#[test]
fn every_well_formed_frame_of_the_vectors_is_encoded_as_it_came() {
    let file = include_str!("../../../vectors/frames-binary.json");
    let file: Value = serde_json::from_str(file).unwrap();
    let mut same = 0;
    for entry in file["entries"].as_array().unwrap() {
        let list = |member: &str| match &entry[member] {
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        for (hex, decoded) in list("hex").iter().zip(list("decoded")) {
            let frame = bytes(hex.as_str().unwrap());
            let Some(recognised) = recognise_binary(&frame) else {
                continue;
            };
            let Some(again) = encode(&recognised) else {
                continue;
            };
            match recognised {
                // Bytes behind a cancel are ignored.
                BinaryFrame::Cancel { upload } => {
                    assert_eq!(json!(upload), decoded["streamId"]);
                    assert_eq!(again, frame[..6]);
                }
                _ => assert_eq!(again, frame, "{}", entry["name"]),
            }
            same += 1;
        }
    }
    assert!(same > 100, "{same}");
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back(
        upload in any::<u32>(),
        number in any::<u32>(),
        last in any::<bool>(),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        path in "[a-z/\\\\\"é]{0,20}",
        args in proptest::collection::vec(any::<i32>(), 0..4),
    ) {
        let header = json!({"rpc": path, "id": "x", "args": args}).to_string();
        let header = RawJsonRef::parse_str(&header).unwrap();
        let number = if number % 3 == 0 { 0 } else { number };
        let chunk = UploadChunk {
            upload,
            number,
            last,
            header: (number == 0).then_some(header),
            payload: &payload,
        };
        let mut frame = Vec::new();
        encode_chunk(&mut frame, &chunk).unwrap();
        prop_assert_eq!(recognise_binary(&frame), Some(BinaryFrame::Chunk(chunk)));

        let mut frame = Vec::new();
        encode_binary_call(&mut frame, header, &payload).unwrap();
        let Some(BinaryFrame::Call(call)) = recognise_binary(&frame) else {
            panic!("a call");
        };
        prop_assert_eq!(call.path.to_cow(), path);
        prop_assert_eq!(call.payload, &payload);
        prop_assert_eq!(call.args.unwrap().elements().count(), args.len());
    }

    #[test]
    fn no_bytes_do_harm(frame in proptest::collection::vec(0..4_u8, 0..40)) {
        if let Some(recognised) = recognise_binary(&frame) {
            let _ = encode(&recognised);
        }
    }
}
