//! Replies: what the caller sees of an outcome.

use std::sync::Arc;

use compact_str::CompactString;
use millstream_core::{JsonStr, ListWriter, ObjectWriter, RawJson, RawJsonRef};
use millstream_wire::FRAME_CODE_UNITS_MAX;

use crate::error::{LiveError, code};
use crate::handler::CallResult;
use crate::layer::Outcome;

/// The topic on which replies to calls travel.
pub const REPLY_TOPIC: &str = "__rpc";
/// The event under which the replies to a batch travel.
pub const BATCH_EVENT: &str = "__batch";

/// Room that the envelope around a reply needs besides its id.
const ENVELOPE_BYTES: usize = 128;

/// An envelope for the caller alone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The topic, a system topic.
    pub topic: &'static str,
    /// The event: the call's id.
    pub event: CompactString,
    /// The payload.
    pub data: RawJson,
    /// Topics whose events are held back until this reply has been sent. The host releases them
    /// right behind it.
    pub release: Vec<Release>,
}

/// One topic that a reply releases.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Release {
    /// The topic.
    pub topic: Arc<str>,
    /// Whoever has held its events back, as [`Platform::subscribe`](crate::Platform::subscribe)
    /// was told.
    pub holder: u64,
    /// The topic's number up to which the reply has all events, which the host leaves out; 0 when
    /// it has none.
    pub covered: u64,
}

impl Reply {
    pub(crate) fn new(topic: &'static str, event: &str, data: RawJson) -> Self {
        Self {
            topic,
            event: event.into(),
            data,
            release: Vec::new(),
        }
    }

    pub(crate) fn to_call(id: &str, data: RawJson) -> Self {
        Self::new(REPLY_TOPIC, id, data)
    }

    pub(crate) fn releasing(mut self, topics: impl IntoIterator<Item = Release>) -> Self {
        self.release.extend(topics);
        self
    }
}

/// The success of a call that did not wait, not written yet: a host does that straight to where
/// it leaves from, see [`millstream_wire::encode_success`].
#[derive(Debug)]
pub struct Answer<'a> {
    /// Without escapes, so that it is an event's name as it stands.
    id: RawJsonRef<'a>,
    data: Option<RawJson>,
}

impl<'a> Answer<'a> {
    /// `None` where a reply has more to say than that, or another event than the id as it stands.
    pub(crate) fn new(id: JsonStr<'a>, data: Option<RawJson>) -> Result<Self, Option<RawJson>> {
        let json = id.as_json();
        let bytes = data.as_ref().map_or(0, |data| data.as_bytes().len());
        if id.plain().is_some() && reply_bytes(json, bytes) <= FRAME_CODE_UNITS_MAX {
            Ok(Self { id: json, data })
        } else {
            Err(data)
        }
    }

    /// The id of the call as it stood there: a text without escapes.
    #[must_use]
    pub fn id(&self) -> RawJsonRef<'a> {
        self.id
    }

    /// What the function gave; `None` when it gave no value.
    #[must_use]
    pub fn data(&self) -> Option<RawJsonRef<'_>> {
        self.data.as_ref().map(RawJson::get)
    }

    /// The same as a reply like any other.
    #[must_use]
    pub fn into_reply(self) -> Reply {
        let name = self.id.as_str().trim_matches('"');
        Reply::to_call(name, value_payload(self.id, self.data.as_ref()))
    }
}

/// Bytes that a reply takes at most: the id stands in the envelope twice.
fn reply_bytes(id: RawJsonRef<'_>, data_bytes: usize) -> usize {
    data_bytes + 2 * id.as_bytes().len() + ENVELOPE_BYTES
}

/// The payload for one call. A success that a client would not read because of its size becomes a
/// failure that it does read.
pub(crate) fn payload(id: RawJsonRef<'_>, result: &Result<Outcome, LiveError>) -> RawJson {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => return failure(id, error),
    };
    let bytes = match outcome {
        Outcome::Value(data) => data.as_ref().map_or(0, |data| data.as_bytes().len()),
        Outcome::Stream(stream) => stream.bytes(),
    };
    let total = reply_bytes(id, bytes);
    if total > FRAME_CODE_UNITS_MAX {
        return failure(id, &too_large(total));
    }
    match outcome {
        Outcome::Value(data) => value_payload(id, data.as_ref()),
        Outcome::Stream(stream) => {
            let mut object = ObjectWriter::with_capacity(total);
            object.raw("id", id).raw("ok", RawJsonRef::TRUE);
            stream.write(&mut object);
            object.finish()
        }
    }
}

/// The usual payload, in a buffer of exactly its size: such a buffer is shared without another
/// allocation.
fn value_payload(id: RawJsonRef<'_>, data: Option<&RawJson>) -> RawJson {
    const ID: &str = r#"{"id":"#;
    const OK: &str = r#","ok":true"#;
    const DATA: &str = r#","data":"#;
    let fixed = ID.len() + id.as_str().len() + OK.len() + 1;
    let member = data.map_or(0, |data| DATA.len() + data.as_str().len());
    let mut text = String::with_capacity(fixed + member);
    text.push_str(ID);
    text.push_str(id.as_str());
    text.push_str(OK);
    if let Some(data) = data {
        text.push_str(DATA);
        text.push_str(data.as_str());
    }
    text.push('}');
    RawJson::trust(text)
}

/// The payload for a binary call: that of a call without the id, which clients take from the
/// event. `id_bytes` is its length there.
pub(crate) fn binary_payload(id_bytes: usize, result: &Result<Outcome, LiveError>) -> RawJson {
    let bytes = match result {
        Ok(Outcome::Value(Some(data))) => data.as_bytes().len(),
        Ok(Outcome::Stream(stream)) => stream.bytes(),
        _ => 0,
    };
    let total = bytes + id_bytes + ENVELOPE_BYTES;
    let mut object = ObjectWriter::with_capacity(total.min(FRAME_CODE_UNITS_MAX));
    match result {
        Err(error) => write_failure(&mut object, error),
        Ok(_) if total > FRAME_CODE_UNITS_MAX => write_failure(&mut object, &too_large(total)),
        Ok(outcome) => {
            object.raw("ok", RawJsonRef::TRUE);
            match outcome {
                Outcome::Value(None) => {}
                Outcome::Value(Some(data)) => drop(object.raw("data", data.get())),
                Outcome::Stream(stream) => stream.write(&mut object),
            }
        }
    }
    object.finish()
}

/// The payload for an upload: the same, and what else the client is told.
pub(crate) fn upload_payload(
    result: &CallResult,
    frame_bytes_max: Option<u32>,
    continue_at: Option<u64>,
) -> RawJson {
    let bytes = match result {
        Ok(Some(data)) => data.as_bytes().len(),
        _ => 0,
    };
    let total = bytes + ENVELOPE_BYTES;
    let mut object = ObjectWriter::with_capacity(total.min(FRAME_CODE_UNITS_MAX));
    match result {
        Err(error) => write_failure(&mut object, error),
        Ok(_) if total > FRAME_CODE_UNITS_MAX => write_failure(&mut object, &too_large(total)),
        Ok(data) => {
            object.raw("ok", RawJsonRef::TRUE);
            if let Some(data) = data {
                object.raw("data", data.get());
            }
        }
    }
    if let Some(bytes) = frame_bytes_max {
        object.number("__cap", bytes.into());
    }
    if let Some(at) = continue_at {
        object.number("offset", at);
    }
    object.finish()
}

fn too_large(bytes: usize) -> LiveError {
    LiveError::new(
        code::PAYLOAD_TOO_LARGE,
        format!("the reply of {bytes} bytes is over the limit of {FRAME_CODE_UNITS_MAX}"),
    )
}

pub(crate) fn failure(id: RawJsonRef<'_>, error: &LiveError) -> RawJson {
    let mut object = ObjectWriter::with_capacity(ENVELOPE_BYTES);
    object.raw("id", id);
    write_failure(&mut object, error);
    object.finish()
}

/// The members of a failure: `ok`, `code`, `error`, and those that the error has.
pub(crate) fn write_failure(object: &mut ObjectWriter, error: &LiveError) {
    object
        .raw("ok", RawJsonRef::FALSE)
        .text("code", error.code())
        .text("error", error.message());
    if !error.issues().is_empty()
        && let Ok(issues) = RawJson::from_serialize(error.issues())
    {
        object.raw("issues", issues.get());
    }
    if let Some(millis) = error.retry_after_ms() {
        object.number("retryAfter", millis);
    }
    if let Some(details) = error.details() {
        object.raw("details", details.get());
    }
}

/// The payload for a batch, from those of its entries. Entries for which there is no room any
/// more become failures, so that every caller hears of its own.
pub(crate) fn batch_payload<'a>(
    entries: impl IntoIterator<Item = (RawJsonRef<'a>, RawJson)>,
) -> RawJson {
    let mut list = ListWriter::new();
    let entries: Vec<_> = entries.into_iter().collect();
    // What the failures of all that follow would need at least.
    let mut reserve: usize = entries.iter().map(|(id, _)| failure_bytes(*id)).sum();
    for (id, payload) in &entries {
        reserve -= failure_bytes(*id);
        let total = list.len() + payload.as_bytes().len() + reserve + ENVELOPE_BYTES;
        if total > FRAME_CODE_UNITS_MAX {
            list.push(failure(*id, &too_large(total)).get());
        } else {
            list.push(payload.get());
        }
    }
    let mut object = ObjectWriter::with_capacity(list.len() + 16);
    object.raw("batch", list.finish().get());
    object.finish()
}

/// An upper bound of a [`too_large`] failure.
fn failure_bytes(id: RawJsonRef<'_>) -> usize {
    id.as_bytes().len() + 160
}

#[cfg(test)]
mod tests {
    use millstream_wire::encode_success;

    use super::*;
    use crate::error::Issue;

    fn id(json: &str) -> RawJsonRef<'_> {
        RawJsonRef::parse_str(json).unwrap()
    }

    fn value(text: &str) -> Result<Outcome, LiveError> {
        Ok(Outcome::Value(Some(
            RawJson::parse(text.to_owned().into()).unwrap(),
        )))
    }

    #[test]
    fn payloads_have_exactly_their_members() {
        let id = id(r#""k\u0031""#);
        assert_eq!(
            payload(id, &Ok(Outcome::Value(None))).as_str(),
            r#"{"id":"k\u0031","ok":true}"#
        );
        assert_eq!(
            payload(id, &value("null")).as_str(),
            r#"{"id":"k\u0031","ok":true,"data":null}"#
        );
        let error = LiveError::new("BAD", "no")
            .with_issues(vec![Issue::new(["a", "0"], "m")])
            .with_retry_after(5);
        assert_eq!(
            payload(id, &Err(error)).as_str(),
            concat!(
                r#"{"id":"k\u0031","ok":false,"code":"BAD","error":"no","#,
                r#""issues":[{"path":["a","0"],"message":"m"}],"retryAfter":5}"#
            )
        );
    }

    #[test]
    fn an_answer_says_the_same_as_its_reply() {
        for (id, data) in [
            (r#""k1""#, Some(RawJson::TRUE)),
            (r#""""#, None),
            (r#""é""#, Some(RawJson::EMPTY_LIST)),
        ] {
            let (id, _) = JsonStr::scan(id).unwrap();
            let answer = Answer::new(id, data.clone()).unwrap();
            let mut frame = Vec::new();
            encode_success(&mut frame, answer.id(), answer.data());
            let envelope = RawJson::parse(frame.split_off(2).into()).unwrap();
            let reply = answer.into_reply();
            let envelope = envelope.get();
            let event = envelope.field("event").unwrap().as_json_str().unwrap();
            assert!(event.eq_str(&reply.event), "{envelope:?}");
            assert_eq!(envelope.field("data"), Some(reply.data.get()));
            assert_eq!(reply.data, payload(id.as_json(), &Ok(Outcome::Value(data))));
        }
        let (escaped, _) = JsonStr::scan(r#""\u0031""#).unwrap();
        assert!(Answer::new(escaped, None).is_err());
        let (id, _) = JsonStr::scan(r#""k""#).unwrap();
        let big = RawJson::trust(format!("\"{}\"", "x".repeat(FRAME_CODE_UNITS_MAX)));
        assert!(Answer::new(id, Some(big)).is_err());
    }

    #[test]
    fn what_a_client_would_not_read_becomes_a_failure() {
        let big = format!("\"{}\"", "x".repeat(FRAME_CODE_UNITS_MAX));
        let reply = payload(id(r#""k""#), &value(&big));
        assert!(
            reply.as_str().contains(code::PAYLOAD_TOO_LARGE),
            "{}",
            reply.as_bytes().len()
        );
    }

    #[test]
    fn a_batch_never_outgrows_what_clients_read() {
        let ids: Vec<String> = (0..50).map(|n| format!("\"{n}\"")).collect();
        let part = format!("\"{}\"", "x".repeat(FRAME_CODE_UNITS_MAX / 20));
        let batch = batch_payload(
            ids.iter()
                .map(|one| (id(one), payload(id(one), &value(&part)))),
        );
        assert!(batch.as_bytes().len() + ENVELOPE_BYTES <= FRAME_CODE_UNITS_MAX);
        let list = batch.get().field("batch").unwrap();
        assert_eq!(list.elements().count(), 50);
        let refused = list
            .elements()
            .filter(|one| one.field("code").is_some())
            .count();
        assert!((30..35).contains(&refused), "{refused}");
    }
}
