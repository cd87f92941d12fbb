//! Frames that the server sends. Each function appends whole frames, headers included.

use std::borrow::Cow;

use millstream_core::{RawJsonRef, check_event, write_json_str};

use crate::TopicPrefix;
use crate::frame::{self, CONTROL_PAYLOAD_BYTES_MAX, Opcode};

/// Longest text message that clients read, in UTF-16 code units. Longer ones vanish in the client
/// without a trace, so they must not be sent.
pub const FRAME_CODE_UNITS_MAX: usize = 1_048_576;

/// Appends the first frame of a connection.
pub fn encode_welcome(out: &mut Vec<u8>, session_id: &str) {
    let id = inside_quotes(session_id);
    text_frame(
        out,
        &[
            br#"{"type":"welcome","sessionId":""#,
            id.as_bytes(),
            br#""}"#,
        ],
    );
}

/// Appends the answer to a resume.
pub fn encode_resumed(out: &mut Vec<u8>) {
    text_frame(out, &[br#"{"type":"resumed"}"#]);
}

/// Appends the acknowledgement of a subscription. `topic_json` and `reference` are echoed as they
/// stood in the client's frame.
pub fn encode_subscribed(out: &mut Vec<u8>, topic_json: &[u8], reference: &[u8]) {
    text_frame(
        out,
        &[
            br#"{"type":"subscribed","topic":"#,
            topic_json,
            br#","ref":"#,
            reference,
            b"}",
        ],
    );
}

/// Appends the refusal of a subscription. `topic_json` and `reference` are echoed as they stood in
/// the client's frame.
pub fn encode_denied(out: &mut Vec<u8>, topic_json: &[u8], reference: &[u8], reason: &str) {
    let reason = inside_quotes(reason);
    text_frame(
        out,
        &[
            br#"{"type":"subscribe-denied","topic":"#,
            topic_json,
            br#","ref":"#,
            reference,
            br#","reason":""#,
            reason.as_bytes(),
            br#""}"#,
        ],
    );
}

/// Appends a question to the client.
pub fn encode_request(out: &mut Vec<u8>, reference: u64, event: &str, data: RawJsonRef<'_>) {
    let (mut digits, event) = (itoa::Buffer::new(), inside_quotes(event));
    text_frame(
        out,
        &[
            br#"{"type":"request","ref":"#,
            digits.format(reference).as_bytes(),
            br#","event":""#,
            event.as_bytes(),
            br#"","data":"#,
            data.as_bytes(),
            b"}",
        ],
    );
}

/// Appends a frame that clients ignore but that proves to them that the server is alive.
pub fn encode_keepalive(out: &mut Vec<u8>) {
    text_frame(out, &[br#"{"type":"keepalive"}"#]);
}

/// Appends a text message. `text` must be UTF-8.
pub fn encode_text(out: &mut Vec<u8>, text: &[u8]) {
    debug_assert!(
        core::str::from_utf8(text).is_ok(),
        "a text message that is not utf-8"
    );
    text_frame(out, &[text]);
}

/// Appends a binary message. The JavaScript client ignores these.
pub fn encode_binary(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, Opcode::Binary, &[payload]);
}

/// Appends an empty ping.
pub fn encode_ping(out: &mut Vec<u8>) {
    write_frame(out, Opcode::Ping, &[]);
}

/// Appends the answer to a ping; payload above 125 bytes, which no ping has, is cut off.
pub fn encode_pong(out: &mut Vec<u8>, payload: &[u8]) {
    let len = payload.len().min(CONTROL_PAYLOAD_BYTES_MAX);
    write_frame(out, Opcode::Pong, &[payload.get(..len).unwrap_or_default()]);
}

/// Appends an event: `{"topic","event","data","seq"}`, the number last and only if there is one.
///
/// # Cost
/// The size is known beforehand: one reserve, no second pass, no allocation besides.
///
/// # Example
/// ```
/// use millstream_core::{RawJsonRef, TopicName, TopicRules};
/// use millstream_wire::{TopicPrefix, encode_envelope};
///
/// let rooms = TopicPrefix::new(&TopicName::parse("rooms", &TopicRules::SERVER)?);
/// let mut out = Vec::new();
/// encode_envelope(&mut out, &rooms, "tick", RawJsonRef::NULL, Some(7));
/// assert_eq!(&out[2..], br#"{"topic":"rooms","event":"tick","data":null,"seq":7}"#);
/// # Ok::<(), millstream_core::TopicError>(())
/// ```
pub fn encode_envelope(
    out: &mut Vec<u8>,
    prefix: &TopicPrefix,
    event: &str,
    data: RawJsonRef<'_>,
    seq: Option<u64>,
) {
    let begin = |out: &mut Vec<u8>, len| begin_frame(out, Opcode::Text, len);
    write_envelope(out, prefix.as_bytes(), event, data, seq, begin);
}

/// Appends an event without a frame header, as a member for [`encode_batch`].
pub fn write_envelope_json(
    out: &mut Vec<u8>,
    prefix: &TopicPrefix,
    event: &str,
    data: RawJsonRef<'_>,
    seq: Option<u64>,
) {
    write_envelope(out, prefix.as_bytes(), event, data, seq, Vec::reserve);
}

/// Appends an event without a number for a topic that has no [`TopicPrefix`] at hand.
///
/// Anything goes as a topic; what would need an escape is escaped.
pub fn encode_send(out: &mut Vec<u8>, topic: &str, event: &str, data: RawJsonRef<'_>) {
    let (topic, event) = (inside_quotes(topic), inside_quotes(event));
    text_frame(
        out,
        &[
            br#"{"topic":""#,
            topic.as_bytes(),
            br#"","event":""#,
            event.as_bytes(),
            br#"","data":"#,
            data.as_bytes(),
            b"}",
        ],
    );
}

/// Appends the reply to a call that has succeeded. `id` is a text without escapes as it stood in
/// the call, quotes included.
///
/// # Example
/// ```
/// use millstream_core::{JsonStr, RawJsonRef};
/// use millstream_wire::encode_success;
///
/// let (id, _) = JsonStr::scan(r#""k1""#).unwrap();
/// let mut out = Vec::new();
/// encode_success(&mut out, id.as_json(), Some(RawJsonRef::TRUE));
/// let text = br#"{"topic":"__rpc","event":"k1","data":{"id":"k1","ok":true,"data":true}}"#;
/// assert_eq!(&out[2..], text);
/// ```
pub fn encode_success(out: &mut Vec<u8>, id: RawJsonRef<'_>, data: Option<RawJsonRef<'_>>) {
    const EVENT: &[u8] = br#"{"topic":"__rpc","event":"#;
    const ID: &[u8] = br#","data":{"id":"#;
    const OK: &[u8] = br#","ok":true"#;
    const DATA: &[u8] = br#","data":"#;
    const END: &[u8] = b"}}";
    debug_assert!(id.is_string() && !id.as_bytes().contains(&b'\\'), "{id:?}");
    let fixed = EVENT.len() + ID.len() + OK.len() + END.len();
    let member = data.map_or(0, |data| DATA.len() + data.as_bytes().len());
    begin_frame(out, Opcode::Text, fixed + 2 * id.as_bytes().len() + member);
    // Pieces of known length are written without a call.
    out.extend_from_slice(EVENT);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(ID);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(OK);
    if let Some(data) = data {
        out.extend_from_slice(DATA);
        out.extend_from_slice(data.as_bytes());
    }
    out.extend_from_slice(END);
}

/// Whether an envelope is short enough for clients, see [`FRAME_CODE_UNITS_MAX`].
///
/// # Cost
/// O(1) unless the data is longer than a mebibyte.
#[must_use]
pub fn envelope_fits(
    prefix: &TopicPrefix,
    event: &str,
    data: RawJsonRef<'_>,
    seq: Option<u64>,
) -> bool {
    let mut digits = itoa::Buffer::new();
    let number = seq.map_or(0, |seq| br#","seq":"#.len() + digits.format(seq).len());
    let fixed = br#"","data":}"#.len() + number;
    let bytes = prefix.as_bytes().len() + event.len() + data.as_bytes().len() + fixed;
    if bytes <= FRAME_CODE_UNITS_MAX {
        return true;
    }
    // A code unit takes at most three bytes.
    if bytes > FRAME_CODE_UNITS_MAX * 3 {
        return false;
    }
    let units = |text: &str| text.encode_utf16().count();
    let total = prefix.code_units() + units(event) + units(data.as_str()) + fixed;
    total <= FRAME_CODE_UNITS_MAX
}

/// Appends one frame with several events, in order. Only for connections that said `batch`.
pub fn encode_batch<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = &'a [u8]> + Clone) {
    const HEAD: &[u8] = br#"{"type":"batch","events":["#;
    const TAIL: &[u8] = b"]}";
    let with_comma: usize = members.clone().map(|member| member.len() + 1).sum();
    let len = HEAD.len() + with_comma.saturating_sub(1) + TAIL.len();
    begin_frame(out, Opcode::Text, len);
    out.extend_from_slice(HEAD);
    for (at, member) in members.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(member);
    }
    out.extend_from_slice(TAIL);
}

/// Appends the mark that events of a topic were lost on the way to this connection.
///
/// It is an event `end` whose data says `truncated`: an unmodified svelte-realtime client answers
/// it by loading the topic anew. It carries no number.
pub fn encode_gap_mark(out: &mut Vec<u8>, prefix: &TopicPrefix) {
    text_frame(
        out,
        &[
            prefix.as_bytes(),
            br#"end","data":{"reqId":0,"truncated":true}}"#,
        ],
    );
}

/// `begin` makes room for so many bytes.
#[inline]
fn write_envelope(
    out: &mut Vec<u8>,
    prefix: &[u8],
    event: &str,
    data: RawJsonRef<'_>,
    seq: Option<u64>,
    begin: impl FnOnce(&mut Vec<u8>, usize),
) {
    const DATA: &[u8] = br#"","data":"#;
    const SEQ: &[u8] = br#","seq":"#;
    let event = inside_quotes(event);
    let mut digits = itoa::Buffer::new();
    let number = seq.map(|seq| digits.format(seq).as_bytes());
    let member = number.map_or(0, |number| SEQ.len() + number.len());
    let data = data.as_bytes();
    begin(
        out,
        prefix.len() + event.len() + DATA.len() + data.len() + member + 1,
    );
    // Pieces of known length are written without a call.
    out.extend_from_slice(prefix);
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(DATA);
    out.extend_from_slice(data);
    if let Some(number) = number {
        out.extend_from_slice(SEQ);
        out.extend_from_slice(number);
    }
    out.push(b'}');
}

/// Text to stand between quotes. Names and reasons hardly ever need an escape.
#[inline]
pub(crate) fn inside_quotes(text: &str) -> Cow<'_, str> {
    if check_event(text).is_ok() {
        return Cow::Borrowed(text);
    }
    let mut quoted = Vec::new();
    write_json_str(&mut quoted, text);
    let inner = quoted.get(1..quoted.len() - 1).unwrap_or_default();
    Cow::Owned(String::from_utf8_lossy(inner).into_owned())
}

#[inline]
fn text_frame(out: &mut Vec<u8>, parts: &[&[u8]]) {
    write_frame(out, Opcode::Text, parts);
}

#[inline]
fn write_frame(out: &mut Vec<u8>, opcode: Opcode, parts: &[&[u8]]) {
    let len = parts.iter().map(|part| part.len()).sum();
    begin_frame(out, opcode, len);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

#[inline]
fn begin_frame(out: &mut Vec<u8>, opcode: Opcode, len: usize) {
    out.reserve(frame::header_len(len) + len);
    frame::encode_header(out, opcode, true, len, None);
}

#[cfg(test)]
mod tests {
    use millstream_core::{TopicName, TopicRules};

    use super::*;

    fn prefix(topic: &str) -> TopicPrefix {
        TopicPrefix::new(&TopicName::parse(topic, &TopicRules::SERVER).unwrap())
    }

    fn payload(encode: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        encode(&mut out);
        let (header, len) = frame::decode_header(&out).unwrap().unwrap();
        assert_eq!(header.payload_len as usize, out.len() - len);
        assert!(header.fin && header.mask.is_none());
        String::from_utf8(out.split_off(len)).unwrap()
    }

    #[test]
    fn control_frames() {
        assert_eq!(
            payload(|out| encode_welcome(out, "s-1")),
            r#"{"type":"welcome","sessionId":"s-1"}"#
        );
        assert_eq!(payload(encode_resumed), r#"{"type":"resumed"}"#);
        assert_eq!(
            payload(|out| encode_subscribed(out, br#""a\u0062""#, b"1")),
            r#"{"type":"subscribed","topic":"a\u0062","ref":1}"#
        );
        assert_eq!(
            payload(|out| encode_denied(out, b"null", br#""q""#, "say \"no\"")),
            r#"{"type":"subscribe-denied","topic":null,"ref":"q","reason":"say \"no\""}"#
        );
        assert_eq!(
            payload(|out| encode_request(out, 31, "confirm", RawJsonRef::NULL)),
            r#"{"type":"request","ref":31,"event":"confirm","data":null}"#
        );
        assert_eq!(payload(encode_keepalive), r#"{"type":"keepalive"}"#);
        assert_eq!(payload(encode_ping), "");
        assert_eq!(
            payload(|out| encode_pong(out, &[b'x'; 200])),
            "x".repeat(125)
        );
    }

    #[test]
    fn envelopes() {
        let data = RawJsonRef::parse_str(r#"{"id":1}"#).unwrap();
        let rooms = prefix("rooms");
        let one = payload(|out| encode_envelope(out, &rooms, "created", data, Some(1)));
        assert_eq!(
            one,
            r#"{"topic":"rooms","event":"created","data":{"id":1},"seq":1}"#
        );
        let two = payload(|out| encode_envelope(out, &rooms, "tick", RawJsonRef::NULL, None));
        assert_eq!(two, r#"{"topic":"rooms","event":"tick","data":null}"#);
        let batch = [one.as_bytes(), two.as_bytes()];
        assert_eq!(
            payload(|out| encode_batch(out, batch.into_iter())),
            format!(r#"{{"type":"batch","events":[{one},{two}]}}"#)
        );
        assert_eq!(
            payload(|out| encode_batch(out, [].into_iter())),
            r#"{"type":"batch","events":[]}"#
        );
        assert_eq!(
            payload(|out| encode_gap_mark(out, &rooms)),
            r#"{"topic":"rooms","event":"end","data":{"reqId":0,"truncated":true}}"#
        );
        assert_eq!(
            payload(|out| encode_send(out, "__rpc", "a\"b", data)),
            r#"{"topic":"__rpc","event":"a\"b","data":{"id":1}}"#
        );
        let mut member = Vec::new();
        write_envelope_json(&mut member, &rooms, "created", data, Some(1));
        assert_eq!(member, one.as_bytes());
    }

    #[test]
    fn the_longest_envelope() {
        let topic = prefix("é");
        let overhead = r#"{"topic":"é","event":"x","data":"","seq":10}"#.encode_utf16().count();
        for (filler, units) in [("a", 1), ("é", 1), ("€", 1), ("😀", 2)] {
            let most = (FRAME_CODE_UNITS_MAX - overhead) / units;
            for (count, fits) in [(most, true), (most + 1, false)] {
                let text = format!("\"{}\"", filler.repeat(count));
                let data = RawJsonRef::parse_str(&text).unwrap();
                assert_eq!(
                    envelope_fits(&topic, "x", data, Some(10)),
                    fits,
                    "{filler} {count}"
                );
            }
        }
        let text = format!("\"{}\"", "a".repeat(4 << 20));
        let data = RawJsonRef::parse_str(&text).unwrap();
        assert!(!envelope_fits(&topic, "x", data, None));
    }
}
