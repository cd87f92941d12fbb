//! Binary frames: whatever is recognised is encoded again to the same bytes, everything borrowed
//! lies in the frame, and what is said of a frame agrees with a naive reading of its bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_wire::{
    BinaryFault, BinaryFrame, encode_binary_call, encode_cancel, encode_chunk, recognise_binary,
};

fuzz_target!(|frame: &[u8]| {
    let recognised = recognise_binary(frame);
    assert_eq!(recognised.is_some(), is_claimed(frame));
    let mut again = Vec::new();
    match recognised {
        None => return,
        Some(BinaryFrame::Call(call)) => {
            encode_binary_call(&mut again, call.header, call.payload).expect("it was that long");
            lies_in(frame, call.payload);
            assert!(call.header.is_object());
            let path = call.header.field("rpc").expect("a path");
            assert!(path.as_json_str().expect("text").eq_json(&call.path));
            let id = call.header.field("id").expect("an id");
            assert!(id.as_json_str().expect("text").eq_json(&call.id));
        }
        Some(BinaryFrame::Chunk(chunk)) => {
            encode_chunk(&mut again, &chunk).expect("it was that long");
            lies_in(frame, chunk.payload);
            assert_eq!(chunk.header.is_some(), chunk.number == 0);
            assert_eq!(chunk.last, frame[1] & 2 != 0);
        }
        Some(BinaryFrame::Cancel { upload }) => {
            encode_cancel(&mut again, upload);
            assert_eq!(again, frame[..6], "bytes behind are ignored");
            return;
        }
        Some(BinaryFrame::Dropped(fault)) => {
            assert!(frame[0] == 1 || frame[0] == 2);
            let short = matches!(fault, BinaryFault::TooShort { bytes } if bytes == frame.len());
            assert_eq!(short, is_short(frame), "{fault:?}");
            return;
        }
        Some(_) => unreachable!("no other kind"),
    }
    // The header is given without white space around it, so only its length may differ.
    if again.len() == frame.len() {
        assert_eq!(again, frame);
    } else {
        assert!(again.len() < frame.len());
        assert_eq!(recognise_binary(&again), recognised);
    }
});

fn lies_in(frame: &[u8], part: &[u8]) {
    assert!(part.is_empty() || frame.as_ptr_range().contains(&part.as_ptr()));
    assert!(frame.ends_with(part));
}

/// Calls by a full reading with another parser; chunks and control frames by their first byte.
fn is_claimed(frame: &[u8]) -> bool {
    match frame {
        [_, _, _] | [_, _] | [_] | [] => false,
        [0, high, low, rest @ ..] => {
            let length = usize::from(*high) << 8 | usize::from(*low);
            let Some(header) = rest.get(..length) else {
                return false;
            };
            // The other parser stops at another depth, and refuses what has no Unicode value.
            match millstream_core::RawJsonRef::parse(header) {
                Err(_) => false,
                Ok(ours) => {
                    let text = |name: &str| ours.field(name).is_some_and(|value| value.is_string());
                    if let Ok(serde_json::Value::Object(members)) = serde_json::from_slice(header) {
                        assert_eq!(members.get("rpc").is_some_and(|v| v.is_string()), text("rpc"));
                    }
                    text("rpc") && text("id")
                }
            }
        }
        [first, ..] => *first == 1 || *first == 2,
    }
}

fn is_short(frame: &[u8]) -> bool {
    match frame {
        [1, flags, _, _, _, _, number @ ..] if number.len() >= 4 => {
            // No room for the length of a header that is announced where there may be one.
            matches!(flags, 1 | 3) && number[..4] == [0; 4] && frame.len() < 12
        }
        [1, ..] => true,
        _ => frame.len() < 6,
    }
}
