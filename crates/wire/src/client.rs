//! The client's half: what a server sends, recognised; what a client sends, encoded.
//!
//! Encoders append one masked frame. The mask key must be fresh and unpredictable for each frame
//! (RFC 6455, 5.3), so it is passed in.

use millstream_core::{DEPTH_MAX, JsonStr, RawJsonRef, write_json_str};

use crate::close::cut_reason;
use crate::control::one_of;
use crate::encode::FRAME_CODE_UNITS_MAX;
use crate::frame::{self, CONTROL_PAYLOAD_BYTES_MAX, Opcode};
use crate::{Ref, ReplyOutcome};

/// Most topics in one subscribe-batch frame of a client.
pub const BATCH_TOPICS_MAX: usize = 200;

/// Most bytes of a subscribe-batch frame of a client, by the client's own reckoning.
pub const BATCH_BYTES_MAX: usize = 8_000;

/// What that reckoning counts for the frame without topics.
const BATCH_PRELUDE_BYTES: usize = 50;

/// How much deeper than its data a batch frame is nested: frame, list, envelope.
const FRAME_DEPTH: u32 = 3;

/// A frame from a server.
#[derive(Clone, Debug)]
pub enum ServerFrame<'a> {
    /// An event.
    Data(Data<'a>),
    /// Several events, to be taken in order.
    Batch(BatchMembers<'a>),
    /// The first frame: the id to resume with.
    Welcome {
        /// The id.
        session_id: JsonStr<'a>,
    },
    /// Answer to a resume.
    Resumed,
    /// A subscription was made.
    Subscribed {
        /// Its topic.
        topic: JsonStr<'a>,
        /// The reference of the request; any JSON.
        reference: Option<RawJsonRef<'a>>,
    },
    /// A subscription was refused.
    Denied {
        /// Its topic.
        topic: JsonStr<'a>,
        /// The reference of the request; any JSON.
        reference: Option<RawJsonRef<'a>>,
        /// Why.
        reason: JsonStr<'a>,
    },
    /// The server asks; answer with [`encode_reply`] and the same reference.
    Request {
        /// The reference to answer with.
        reference: Ref<'a>,
        /// What is asked.
        event: JsonStr<'a>,
        /// With what.
        data: Option<RawJsonRef<'a>>,
    },
}

/// An event as it stood in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// The topic. A string from any correct server.
    pub topic: RawJsonRef<'a>,
    /// The event. A string from any correct server.
    pub event: RawJsonRef<'a>,
    /// The payload, if there is one.
    pub data: Option<RawJsonRef<'a>>,
    /// The number, if there is one and it is a number.
    pub seq: Option<RawJsonRef<'a>>,
}

/// The events of a batch frame; members that are none are skipped.
#[derive(Clone, Debug)]
pub struct BatchMembers<'a>(millstream_core::Elements<'a>);

impl<'a> Iterator for BatchMembers<'a> {
    type Item = Data<'a>;

    fn next(&mut self) -> Option<Data<'a>> {
        self.0.find_map(|member| {
            let members = Members::of(member);
            let topic = members.topic.filter(RawJsonRef::is_string)?;
            members.data(topic)
        })
    }
}

/// Reads a text message from a server; `None` means it is to be ignored.
///
/// First match wins, in the order of [`ServerFrame`]: a frame with `topic` and `event` is data
/// whatever its `type` says. Every message, also an ignored one, shows that the server lives.
///
/// # Example
/// ```
/// use millstream_wire::client::{ServerFrame, recognise_server};
///
/// let text = r#"{"topic":"rooms","event":"tick","data":3,"seq":7}"#;
/// let Some(ServerFrame::Data(data)) = recognise_server(text) else { panic!() };
/// assert_eq!(data.topic.as_str(), r#""rooms""#);
/// assert_eq!(data.seq.unwrap().as_u64(), Some(7));
/// assert!(recognise_server(r#"{"type":"keepalive"}"#).is_none());
/// ```
#[must_use]
pub fn recognise_server(text: &str) -> Option<ServerFrame<'_>> {
    if text.len() > FRAME_CODE_UNITS_MAX && text.encode_utf16().count() > FRAME_CODE_UNITS_MAX {
        return None;
    }
    let json = RawJsonRef::parse_str_with_depth(text, DEPTH_MAX + FRAME_DEPTH).ok()?;
    let members = Members::of(json);
    if let Some(topic) = members.topic.filter(is_truthy)
        && let Some(data) = members.data(topic)
    {
        return Some(ServerFrame::Data(data));
    }
    members.control()
}

/// The fields of any server frame; of duplicates the last one, as in `JSON.parse`.
#[derive(Default)]
struct Members<'a> {
    kind: Option<RawJsonRef<'a>>,
    topic: Option<RawJsonRef<'a>>,
    event: Option<RawJsonRef<'a>>,
    data: Option<RawJsonRef<'a>>,
    seq: Option<RawJsonRef<'a>>,
    events: Option<RawJsonRef<'a>>,
    session_id: Option<RawJsonRef<'a>>,
    reference: Option<RawJsonRef<'a>>,
    reason: Option<RawJsonRef<'a>>,
}

impl<'a> Members<'a> {
    fn of(json: RawJsonRef<'a>) -> Self {
        const NAMES: [&str; 9] = [
            "type",
            "topic",
            "event",
            "data",
            "seq",
            "events",
            "sessionId",
            "ref",
            "reason",
        ];
        let mut members = Self::default();
        for (key, value) in json.fields() {
            let member = match one_of(key, &NAMES) {
                Some("type") => &mut members.kind,
                Some("topic") => &mut members.topic,
                Some("event") => &mut members.event,
                Some("data") => &mut members.data,
                Some("seq") => &mut members.seq,
                Some("events") => &mut members.events,
                Some("sessionId") => &mut members.session_id,
                Some("ref") => &mut members.reference,
                Some("reason") => &mut members.reason,
                _ => continue,
            };
            *member = Some(value);
        }
        members
    }

    fn data(&self, topic: RawJsonRef<'a>) -> Option<Data<'a>> {
        let seq = self.seq.filter(RawJsonRef::is_number);
        Some(Data {
            topic,
            event: self.event?,
            data: self.data,
            seq,
        })
    }

    fn control(&self) -> Option<ServerFrame<'a>> {
        const KINDS: [&str; 6] = [
            "batch",
            "welcome",
            "resumed",
            "subscribed",
            "subscribe-denied",
            "request",
        ];
        let text = |member: Option<RawJsonRef<'a>>| member?.as_json_str();
        let reference = self.reference;
        match one_of(text(self.kind)?, &KINDS)? {
            "batch" => {
                let events = self.events.filter(RawJsonRef::is_array)?;
                Some(ServerFrame::Batch(BatchMembers(events.elements())))
            }
            "welcome" => Some(ServerFrame::Welcome {
                session_id: text(self.session_id)?,
            }),
            "resumed" => Some(ServerFrame::Resumed),
            "subscribed" => Some(ServerFrame::Subscribed {
                topic: text(self.topic)?,
                reference,
            }),
            "subscribe-denied" => {
                let (topic, reason) = (text(self.topic)?, text(self.reason)?);
                Some(ServerFrame::Denied {
                    topic,
                    reference,
                    reason,
                })
            }
            "request" => {
                let (reference, event) = (Ref::new(reference?)?, text(self.event)?);
                Some(ServerFrame::Request {
                    reference,
                    event,
                    data: self.data,
                })
            }
            _ => None,
        }
    }
}

/// What JavaScript takes for true.
fn is_truthy(json: &RawJsonRef<'_>) -> bool {
    match json.as_str() {
        "null" | "false" | "\"\"" => false,
        _ => json.as_f64() != Some(0.0),
    }
}

/// Appends what the JavaScript client says first.
pub fn encode_hello(out: &mut Vec<u8>, mask: [u8; 4]) {
    text_frame(out, mask, |text| {
        text.extend_from_slice(br#"{"type":"hello","caps":["batch"]}"#)
    });
}

/// Appends a resume: the id of the previous connection and the highest number seen per topic.
pub fn encode_resume<'a>(
    out: &mut Vec<u8>,
    mask: [u8; 4],
    session_id: &str,
    last_seen: impl Iterator<Item = (&'a str, u64)>,
) {
    text_frame(out, mask, |text| {
        text.extend_from_slice(br#"{"type":"resume","sessionId":"#);
        write_json_str(text, session_id);
        text.extend_from_slice(br#","lastSeenSeqs":{"#);
        for (at, (topic, seq)) in last_seen.enumerate() {
            if at > 0 {
                text.push(b',');
            }
            write_json_str(text, topic);
            text.push(b':');
            write_number(text, seq);
        }
        text.extend_from_slice(b"}}");
    });
}

/// Appends a subscription to one topic; answered only if there is a reference.
pub fn encode_subscribe(out: &mut Vec<u8>, mask: [u8; 4], topic: &str, reference: Option<u64>) {
    text_frame(out, mask, |text| {
        text.extend_from_slice(br#"{"type":"subscribe","topic":"#);
        write_json_str(text, topic);
        finish_with_reference(text, reference);
    });
}

/// Appends a subscription to several topics: at most those of one of the [`batches`].
pub fn encode_subscribe_batch<'a>(
    out: &mut Vec<u8>,
    mask: [u8; 4],
    topics: impl Iterator<Item = &'a str>,
    reference: Option<u64>,
) {
    text_frame(out, mask, |text| {
        text.extend_from_slice(br#"{"type":"subscribe-batch","topics":["#);
        for (at, topic) in topics.enumerate() {
            if at > 0 {
                text.push(b',');
            }
            write_json_str(text, topic);
        }
        text.push(b']');
        finish_with_reference(text, reference);
    });
}

/// Cuts a list of topics into what fits one subscribe-batch frame each: at most
/// [`BATCH_TOPICS_MAX`] topics and [`BATCH_BYTES_MAX`] bytes. A longer topic goes alone.
///
/// # Example
/// ```
/// use millstream_wire::client::batches;
///
/// let topics: Vec<String> = (0..450).map(|n| format!("t{n}")).collect();
/// let sizes: Vec<usize> = batches(&topics).map(<[String]>::len).collect();
/// assert_eq!(sizes, [200, 200, 50]);
/// ```
pub fn batches<T: AsRef<str>>(topics: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = topics;
    core::iter::from_fn(move || {
        let mut bytes = BATCH_PRELUDE_BYTES;
        let fits = |topic: &T| {
            let mut json = Vec::new();
            write_json_str(&mut json, topic.as_ref());
            bytes += json.len() + 1;
            bytes <= BATCH_BYTES_MAX
        };
        let count = rest
            .iter()
            .take(BATCH_TOPICS_MAX)
            .map(fits)
            .take_while(|fits| *fits)
            .count();
        let (batch, others) = rest.split_at_checked(count.max(1))?;
        rest = others;
        Some(batch)
    })
}

/// Appends the end of a subscription.
pub fn encode_unsubscribe(out: &mut Vec<u8>, mask: [u8; 4], topic: &str) {
    text_frame(out, mask, |text| {
        text.extend_from_slice(br#"{"type":"unsubscribe","topic":"#);
        write_json_str(text, topic);
        text.push(b'}');
    });
}

/// Appends the answer to a request of the server.
pub fn encode_reply(
    out: &mut Vec<u8>,
    mask: [u8; 4],
    reference: Ref<'_>,
    outcome: &ReplyOutcome<'_>,
) {
    text_frame(out, mask, |text| {
        text.extend_from_slice(br#"{"type":"reply","ref":"#);
        text.extend_from_slice(reference.as_bytes());
        match outcome {
            ReplyOutcome::Ok(None) => {}
            ReplyOutcome::Ok(Some(data)) => {
                text.extend_from_slice(br#","data":"#);
                text.extend_from_slice(data.as_bytes());
            }
            ReplyOutcome::Err(error) => {
                text.extend_from_slice(br#","error":"#);
                text.extend_from_slice(error.raw().as_bytes());
            }
        }
        text.push(b'}');
    });
}

/// Appends an application's text message.
pub fn encode_text(out: &mut Vec<u8>, mask: [u8; 4], text: &str) {
    masked_frame(out, Opcode::Text, mask, text.as_bytes());
}

/// Appends an application's binary message.
pub fn encode_binary(out: &mut Vec<u8>, mask: [u8; 4], payload: &[u8]) {
    masked_frame(out, Opcode::Binary, mask, payload);
}

/// Appends a ping; payload above 125 bytes is cut off.
pub fn encode_ping(out: &mut Vec<u8>, mask: [u8; 4], payload: &[u8]) {
    let len = payload.len().min(CONTROL_PAYLOAD_BYTES_MAX);
    masked_frame(
        out,
        Opcode::Ping,
        mask,
        payload.get(..len).unwrap_or_default(),
    );
}

/// Appends the answer to a ping; payload above 125 bytes, which no ping has, is cut off.
pub fn encode_pong(out: &mut Vec<u8>, mask: [u8; 4], payload: &[u8]) {
    let len = payload.len().min(CONTROL_PAYLOAD_BYTES_MAX);
    masked_frame(
        out,
        Opcode::Pong,
        mask,
        payload.get(..len).unwrap_or_default(),
    );
}

/// Appends a close frame; without a code the server sees 1005, as from the JavaScript client.
pub fn encode_close(out: &mut Vec<u8>, mask: [u8; 4], close: Option<(u16, &str)>) {
    let mut payload = Vec::new();
    if let Some((code, reason)) = close {
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(cut_reason(reason).as_bytes());
    }
    masked_frame(out, Opcode::Close, mask, &payload);
}

/// Appends one masked frame of any kind.
fn masked_frame(out: &mut Vec<u8>, opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    frame::encode_header(out, opcode, true, payload.len(), Some(mask));
    let start = out.len();
    out.extend_from_slice(payload);
    frame::mask(&mut out[start..], mask, 0);
}

fn text_frame(out: &mut Vec<u8>, mask: [u8; 4], write: impl FnOnce(&mut Vec<u8>)) {
    let mut text = Vec::new();
    write(&mut text);
    masked_frame(out, Opcode::Text, mask, &text);
}

fn finish_with_reference(text: &mut Vec<u8>, reference: Option<u64>) {
    if let Some(reference) = reference {
        text.extend_from_slice(br#","ref":"#);
        write_number(text, reference);
    }
    text.push(b'}');
}

fn write_number(text: &mut Vec<u8>, number: u64) {
    text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientFrame, recognise};

    const MASK: [u8; 4] = [9, 8, 7, 6];

    fn payload(encode: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        encode(&mut out);
        let (header, len) = frame::decode_header(&out).unwrap().unwrap();
        assert_eq!(header.payload_len as usize, out.len() - len);
        let mut payload = out.split_off(len);
        frame::mask(&mut payload, header.mask.unwrap(), 0);
        String::from_utf8(payload).unwrap()
    }

    #[test]
    fn the_server_recognises_what_the_client_says() {
        let hello = payload(|out| encode_hello(out, MASK));
        assert!(matches!(recognise(&hello), Some(ClientFrame::Hello { caps }) if caps.has_batch()));
        let resume =
            payload(|out| encode_resume(out, MASK, "s", [("a", 1), ("b\"", 2)].into_iter()));
        assert_eq!(
            resume,
            r#"{"type":"resume","sessionId":"s","lastSeenSeqs":{"a":1,"b\"":2}}"#
        );
        assert!(matches!(
            recognise(&resume),
            Some(ClientFrame::Resume { .. })
        ));
        let one = payload(|out| encode_subscribe(out, MASK, "a", Some(2)));
        assert_eq!(one, r#"{"type":"subscribe","topic":"a","ref":2}"#);
        let topics = ["a", "b"].into_iter();
        let batch = payload(|out| encode_subscribe_batch(out, MASK, topics, None));
        assert_eq!(batch, r#"{"type":"subscribe-batch","topics":["a","b"]}"#);
        let end = payload(|out| encode_unsubscribe(out, MASK, "a"));
        assert_eq!(end, r#"{"type":"unsubscribe","topic":"a"}"#);
        for text in [one, batch, end] {
            assert!(recognise(&text).is_some(), "{text}");
        }
    }

    #[test]
    fn replies() {
        let reference = Ref::new(RawJsonRef::parse_str("\"r1\"").unwrap()).unwrap();
        let reply = |outcome| payload(|out| encode_reply(out, MASK, reference, &outcome));
        assert_eq!(
            reply(ReplyOutcome::Ok(None)),
            r#"{"type":"reply","ref":"r1"}"#
        );
        assert_eq!(
            reply(ReplyOutcome::Ok(Some(RawJsonRef::NULL))),
            r#"{"type":"reply","ref":"r1","data":null}"#
        );
        let error = JsonStr::scan("\"no\"").unwrap().0;
        assert_eq!(
            reply(ReplyOutcome::Err(error)),
            r#"{"type":"reply","ref":"r1","error":"no"}"#
        );
    }

    #[test]
    fn batches_are_cut_as_by_the_javascript_client() {
        // 450 short and 60 long topics, then one that fits no frame.
        let mut topics: Vec<String> = (0..5).map(|_| "k".repeat(3_000)).collect();
        topics.push("k".repeat(9_000));
        topics.push("x".into());
        let sizes: Vec<usize> = batches(&topics).map(<[String]>::len).collect();
        assert_eq!(sizes, [2, 2, 1, 1, 1]);
        assert_eq!(batches(&[] as &[String]).count(), 0);
    }

    #[test]
    fn truth() {
        for falsy in ["null", "false", "0", "-0", "0.0", "0e9", "1e-400", "\"\""] {
            assert!(
                !is_truthy(&RawJsonRef::parse_str(falsy).unwrap()),
                "{falsy}"
            );
        }
        for truthy in ["true", "1", "[]", "{}", "\"0\"", "1e400"] {
            assert!(
                is_truthy(&RawJsonRef::parse_str(truthy).unwrap()),
                "{truthy}"
            );
        }
    }

    #[test]
    fn too_long_for_a_client() {
        let frame =
            |fill: &str, count| format!("{{\"topic\":\"a\",\"event\":\"{}\"}}", fill.repeat(count));
        let fixed = frame("", 0).len();
        assert!(recognise_server(&frame("a", FRAME_CODE_UNITS_MAX - fixed)).is_some());
        assert!(recognise_server(&frame("a", FRAME_CODE_UNITS_MAX - fixed + 1)).is_none());
        assert!(recognise_server(&frame("é", FRAME_CODE_UNITS_MAX - fixed)).is_some());
    }
}
