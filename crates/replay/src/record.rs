//! The frames of the original's replay protocol: `__replay:<topic>`, `msg` and `end`.

use bytes::Bytes;
use millstream_core::{RawJsonRef, write_json_str};

/// Encodes an event once, as the members `"seq":N,"event":E,"data":D`: what a ring keeps when it
/// answers clients of the original, and all that is shared between the answers to them.
///
/// # Example
/// ```
/// use millstream_core::RawJsonRef;
/// use millstream_replay::{encode_record, write_end, write_msg};
///
/// let data = RawJsonRef::parse_str(r#"{"id":1}"#)?;
/// let record = encode_record(7, "created", data);
/// let mut out = Vec::new();
/// write_msg(&mut out, "chat", Some(RawJsonRef::parse_str("42")?), &record);
/// let data = r#"{"reqId":42,"seq":7,"event":"created","data":{"id":1}}"#;
/// assert_eq!(
///     String::from_utf8(out).unwrap(),
///     format!(r#"{{"topic":"__replay:chat","event":"msg","data":{data}}}"#),
/// );
/// let mut out = Vec::new();
/// write_end(&mut out, "chat", None, true);
/// assert_eq!(
///     String::from_utf8(out).unwrap(),
///     r#"{"topic":"__replay:chat","event":"end","data":{"truncated":true}}"#,
/// );
/// # Ok::<(), millstream_core::JsonError>(())
/// ```
#[must_use]
pub fn encode_record(number: u64, event: &str, data: RawJsonRef<'_>) -> Bytes {
    let data = data.as_str();
    let mut out = Vec::with_capacity(event.len() + data.len() + 48);
    out.extend_from_slice(b"\"seq\":");
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(b",\"event\":");
    write_json_str(&mut out, event);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data.as_bytes());
    Bytes::from(out)
}

/// Appends the text frame that carries one record to one client. `request_id` is echoed unless it
/// is absent or null.
pub fn write_msg(
    out: &mut Vec<u8>,
    topic: &str,
    request_id: Option<RawJsonRef<'_>>,
    record: &[u8],
) {
    write_head(out, topic, "msg");
    out.push(b'{');
    if write_request_id(out, request_id) {
        out.push(b',');
    }
    out.extend_from_slice(record);
    out.extend_from_slice(b"}}");
}

/// Appends the text frame that ends an answer: exactly one for each request, and the last frame.
pub fn write_end(
    out: &mut Vec<u8>,
    topic: &str,
    request_id: Option<RawJsonRef<'_>>,
    truncated: bool,
) {
    write_head(out, topic, "end");
    let start = out.len();
    out.push(b'{');
    let echoed = write_request_id(out, request_id);
    if truncated {
        let mark: &[u8] = if echoed {
            b",\"truncated\":true"
        } else {
            b"\"truncated\":true"
        };
        out.extend_from_slice(mark);
    }
    out.push(b'}');
    if !echoed && !truncated {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
    out.push(b'}');
}

fn write_head(out: &mut Vec<u8>, topic: &str, event: &str) {
    out.extend_from_slice(b"{\"topic\":");
    let quote = out.len();
    write_json_str(out, topic);
    out.splice(quote..=quote, *b"\"__replay:");
    out.extend_from_slice(b",\"event\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"data\":");
}

fn write_request_id(out: &mut Vec<u8>, request_id: Option<RawJsonRef<'_>>) -> bool {
    let Some(request_id) = request_id.filter(|id| !id.is_null()) else {
        return false;
    };
    out.extend_from_slice(b"\"reqId\":");
    out.extend_from_slice(request_id.as_str().as_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(topic: &str, id: Option<&str>, truncated: bool) -> String {
        let mut out = Vec::new();
        let id = id.map(|id| RawJsonRef::parse_str(id).unwrap());
        write_end(&mut out, topic, id, truncated);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_end_says_what_it_has_to_and_no_more() {
        let head = r#"{"topic":"__replay:t","event":"end","data":"#;
        assert_eq!(end("t", None, false), format!("{head}null}}"));
        assert_eq!(end("t", Some("null"), false), format!("{head}null}}"));
        assert_eq!(
            end("t", Some("0"), false),
            format!("{head}{{\"reqId\":0}}}}")
        );
        assert_eq!(
            end("t", Some("\"\""), true),
            format!("{head}{{\"reqId\":\"\",\"truncated\":true}}}}")
        );
    }

    #[test]
    fn a_name_with_quotes_stays_a_name() {
        let text = end("a\"b\n", None, false);
        assert!(
            text.starts_with(r#"{"topic":"__replay:a\"b\n","event""#),
            "{text}"
        );
        assert!(RawJsonRef::parse_str(&text).is_ok());
    }
}
