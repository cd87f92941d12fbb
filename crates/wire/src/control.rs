//! Frames that a client sends to the transport itself, told apart from application messages.

use millstream_core::{DEPTH_MAX, JsonStr, RawJsonRef};

/// Control frames are shorter than this, save the two kinds named at [`recognise`].
pub const CONTROL_FRAME_BYTES: usize = 8192;

/// A control frame from a client.
#[derive(Clone, Copy, Debug)]
pub enum ClientFrame<'a> {
    /// What the client can read; replaces what an earlier one said. Never answered.
    Hello {
        /// The capabilities known here. [`hello_capabilities`] gives all names.
        caps: Caps,
    },
    /// The client was here before.
    Resume {
        /// The id its last connection was welcomed with; anything, not trustworthy.
        session_id: JsonStr<'a>,
        /// An object from topic to last seen number; may also be an array, which holds nothing.
        last_seen: RawJsonRef<'a>,
    },
    /// The client wants one topic.
    Subscribe {
        /// The topic; not checked yet.
        topic: JsonStr<'a>,
        /// Answer only if there is one.
        reference: Option<Ref<'a>>,
    },
    /// The client wants several topics.
    SubscribeBatch {
        /// An array of anything.
        topics: RawJsonRef<'a>,
        /// Answer only if there is one.
        reference: Option<Ref<'a>>,
    },
    /// The client no longer wants a topic. Never answered.
    Unsubscribe {
        /// The topic; not checked yet.
        topic: JsonStr<'a>,
    },
    /// Answer to a request of the server.
    Reply {
        /// The reference of the request.
        reference: Ref<'a>,
        /// What the client's handler said.
        outcome: ReplyOutcome<'a>,
    },
}

/// What a client's request handler said.
#[derive(Clone, Copy, Debug)]
pub enum ReplyOutcome<'a> {
    /// It returned this, or nothing at all.
    Ok(Option<RawJsonRef<'a>>),
    /// It failed with this message.
    Err(JsonStr<'a>),
}

/// A reference: a JSON number or string, kept as it stood in the frame so that it can be echoed.
#[derive(Clone, Copy, Debug)]
pub struct Ref<'a>(RawJsonRef<'a>);

impl<'a> Ref<'a> {
    /// A number or a string is usable, anything else counts as no reference.
    #[must_use]
    pub fn new(json: RawJsonRef<'a>) -> Option<Self> {
        (json.is_number() || json.is_string()).then_some(Self(json))
    }

    /// The bytes to echo.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0.as_bytes()
    }

    /// The JSON value.
    #[must_use]
    pub const fn as_json(&self) -> RawJsonRef<'a> {
        self.0
    }

    /// The number, if it is one (not a string) and exactly a non-negative integer.
    ///
    /// `1.0` and `1e0` are 1, as for JavaScript; above 2^53 only plain digits are taken.
    #[must_use]
    pub fn as_u64_exact(&self) -> Option<u64> {
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        if let Some(plain) = self.0.as_u64() {
            return Some(plain);
        }
        let number = self.0.as_f64()?;
        let exact = (0.0..=EXACT_MAX).contains(&number) && number.fract() == 0.0;
        exact.then_some(number as u64)
    }
}

/// What a client said it can read. Unknown names are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps(u8);

impl Caps {
    /// No capabilities: what a connection has before its first hello.
    pub const NONE: Self = Self(0);

    /// The client reads batch frames.
    pub const BATCH: Self = Self(1);

    /// Whether the client reads batch frames.
    #[must_use]
    pub const fn has_batch(self) -> bool {
        self.0 & Self::BATCH.0 != 0
    }

    fn from_names(names: RawJsonRef<'_>) -> Self {
        let batch = string_elements(names).any(|name| name.eq_str("batch"));
        if batch { Self::BATCH } else { Self::NONE }
    }
}

/// Reads a text message as a control frame; `None` means it belongs to the application.
///
/// A message is control iff it is shorter than [`CONTROL_FRAME_BYTES`], its byte 3 is `y` (as in
/// `{"type"`), it is JSON, and it has one of the shapes of [`ClientFrame`]. Otherwise, also when it
/// is malformed, it is the application's.
///
/// Two departures from the original, where clients can only gain or no client goes: messages that
/// begin with `{"type":"resume"` or `{"type":"reply"` may have any length, and one nested deeper
/// than [`DEPTH_MAX`] is the application's.
///
/// # Cost
/// Nothing for messages whose byte 3 differs. The shapes that the JavaScript client writes take one
/// pass, others (blanks, other key order, escapes) three. Never allocates.
///
/// # Example
/// ```
/// use millstream_wire::{ClientFrame, recognise};
///
/// let text = r#"{"type":"subscribe","topic":"rooms","ref":1}"#;
/// let Some(ClientFrame::Subscribe { topic, reference }) = recognise(text) else { panic!() };
/// assert_eq!(topic.raw(), r#""rooms""#);
/// assert_eq!(reference.unwrap().as_bytes(), b"1");
/// // A topic that is no string matches no shape, and an unknown type is a plugin's.
/// assert!(recognise(r#"{"type":"subscribe","topic":12}"#).is_none());
/// assert!(recognise(r#"{"type":"cursor-snapshot","topic":"board"}"#).is_none());
/// ```
#[must_use]
#[inline]
pub fn recognise(text: &str) -> Option<ClientFrame<'_>> {
    if text.as_bytes().get(3) != Some(&b'y') {
        return None;
    }
    recognise_candidate(text)
}

/// All capability names of a hello frame, known or not; `None` if `text` is not one.
#[must_use]
pub fn hello_capabilities(text: &str) -> Option<impl Iterator<Item = JsonStr<'_>>> {
    match recognise(text)? {
        ClientFrame::Hello { .. } => {
            let caps = RawJsonRef::parse_str(text).ok()?.field("caps")?;
            Some(string_elements(caps))
        }
        _ => None,
    }
}

fn string_elements(array: RawJsonRef<'_>) -> impl Iterator<Item = JsonStr<'_>> {
    array.elements().filter_map(|element| element.as_json_str())
}

fn recognise_candidate(text: &str) -> Option<ClientFrame<'_>> {
    let small = text.len() < CONTROL_FRAME_BYTES;
    if let Some(rest) = text.strip_prefix(r#"{"type":""#) {
        if !small && !rest.starts_with(r#"resume""#) && !rest.starts_with(r#"reply""#) {
            return None;
        }
        if let Some(frame) = fixed_shape(rest) {
            return Some(frame);
        }
    } else if !small {
        return None;
    }
    let frame = any_shape(RawJsonRef::parse_str(text).ok()?)?;
    // A second `type` may have made a long frame into something else.
    let may_be_long = matches!(
        frame,
        ClientFrame::Resume { .. } | ClientFrame::Reply { .. }
    );
    (small || may_be_long).then_some(frame)
}

/// The shapes exactly as the JavaScript client writes them, behind `{"type":"`.
///
/// `None` only means that it is not exactly so; [`any_shape`] decides then.
fn fixed_shape(rest: &str) -> Option<ClientFrame<'_>> {
    // The first letters tell the kinds apart: one comparison instead of six.
    match rest.as_bytes().first()? {
        b's' => {
            let rest = rest.strip_prefix("subscribe")?;
            if let Some(rest) = rest.strip_prefix(r#"","topic":"#) {
                let (topic, rest) = JsonStr::scan(rest)?;
                return Some(ClientFrame::Subscribe {
                    topic,
                    reference: fixed_reference(rest)?,
                });
            }
            let (topics, rest) = scan_member(rest.strip_prefix(r#"-batch","topics":"#)?)?;
            let reference = fixed_reference(rest)?;
            topics
                .is_array()
                .then_some(ClientFrame::SubscribeBatch { topics, reference })
        }
        b'u' => {
            let (topic, rest) = JsonStr::scan(rest.strip_prefix(r#"unsubscribe","topic":"#)?)?;
            (rest == "}").then_some(ClientFrame::Unsubscribe { topic })
        }
        b'h' => (rest == r#"hello","caps":["batch"]}"#)
            .then_some(ClientFrame::Hello { caps: Caps::BATCH }),
        b'r' => fixed_reply(rest).or_else(|| fixed_resume(rest)),
        _ => None,
    }
}

fn fixed_reply(rest: &str) -> Option<ClientFrame<'_>> {
    let (reference, rest) = scan_member(rest.strip_prefix(r#"reply","ref":"#)?)?;
    let reference = Ref::new(reference)?;
    let outcome = if rest == "}" {
        ReplyOutcome::Ok(None)
    } else if let Some(rest) = rest.strip_prefix(r#","data":"#) {
        let (data, rest) = scan_member(rest)?;
        if rest != "}" {
            return None;
        }
        ReplyOutcome::Ok(Some(data))
    } else {
        let (error, rest) = JsonStr::scan(rest.strip_prefix(r#","error":"#)?)?;
        if rest != "}" {
            return None;
        }
        ReplyOutcome::Err(error)
    };
    Some(ClientFrame::Reply { reference, outcome })
}

fn fixed_resume(rest: &str) -> Option<ClientFrame<'_>> {
    let (session_id, rest) = JsonStr::scan(rest.strip_prefix(r#"resume","sessionId":"#)?)?;
    let (last_seen, rest) = scan_member(rest.strip_prefix(r#","lastSeenSeqs":"#)?)?;
    let fits = rest == "}" && (last_seen.is_object() || last_seen.is_array());
    fits.then_some(ClientFrame::Resume {
        session_id,
        last_seen,
    })
}

/// `}` or `,"ref":…}`; the outer `None` if it is neither.
fn fixed_reference(rest: &str) -> Option<Option<Ref<'_>>> {
    if rest == "}" {
        return Some(None);
    }
    let (reference, rest) = scan_member(rest.strip_prefix(r#","ref":"#)?)?;
    (rest == "}").then(|| Ref::new(reference))
}

/// A value inside the frame's own object, so that the depth limit holds for the whole frame.
fn scan_member(text: &str) -> Option<(RawJsonRef<'_>, &str)> {
    RawJsonRef::scan_with_depth(text, DEPTH_MAX - 1)
}

/// The fields that any control frame has; of duplicates the last one, as in `JSON.parse`.
#[derive(Default)]
struct Members<'a> {
    kind: Option<RawJsonRef<'a>>,
    topic: Option<RawJsonRef<'a>>,
    topics: Option<RawJsonRef<'a>>,
    reference: Option<RawJsonRef<'a>>,
    caps: Option<RawJsonRef<'a>>,
    session_id: Option<RawJsonRef<'a>>,
    last_seen: Option<RawJsonRef<'a>>,
    data: Option<RawJsonRef<'a>>,
    error: Option<RawJsonRef<'a>>,
}

fn any_shape(frame: RawJsonRef<'_>) -> Option<ClientFrame<'_>> {
    const NAMES: [&str; 9] = [
        "type",
        "topic",
        "topics",
        "ref",
        "caps",
        "sessionId",
        "lastSeenSeqs",
        "data",
        "error",
    ];
    let mut members = Members::default();
    for (key, value) in frame.fields() {
        let member = match one_of(key, &NAMES) {
            Some("type") => &mut members.kind,
            Some("topic") => &mut members.topic,
            Some("topics") => &mut members.topics,
            Some("ref") => &mut members.reference,
            Some("caps") => &mut members.caps,
            Some("sessionId") => &mut members.session_id,
            Some("lastSeenSeqs") => &mut members.last_seen,
            Some("data") => &mut members.data,
            Some("error") => &mut members.error,
            _ => continue,
        };
        *member = Some(value);
    }
    shape(&members)
}

fn shape<'a>(members: &Members<'a>) -> Option<ClientFrame<'a>> {
    const KINDS: [&str; 6] = [
        "hello",
        "resume",
        "subscribe",
        "subscribe-batch",
        "unsubscribe",
        "reply",
    ];
    let reference = members.reference.and_then(Ref::new);
    let topic = || members.topic?.as_json_str();
    match one_of(members.kind?.as_json_str()?, &KINDS)? {
        "hello" => {
            let names = members.caps.filter(RawJsonRef::is_array)?;
            Some(ClientFrame::Hello {
                caps: Caps::from_names(names),
            })
        }
        "resume" => {
            let session_id = members.session_id?.as_json_str()?;
            let last_seen = members
                .last_seen
                .filter(|map| map.is_object() || map.is_array())?;
            Some(ClientFrame::Resume {
                session_id,
                last_seen,
            })
        }
        "subscribe" => Some(ClientFrame::Subscribe {
            topic: topic()?,
            reference,
        }),
        "subscribe-batch" => {
            let topics = members.topics.filter(RawJsonRef::is_array)?;
            Some(ClientFrame::SubscribeBatch { topics, reference })
        }
        "unsubscribe" => Some(ClientFrame::Unsubscribe { topic: topic()? }),
        "reply" => {
            let outcome = match members.error.and_then(|error| error.as_json_str()) {
                Some(error) => ReplyOutcome::Err(error),
                None => ReplyOutcome::Ok(members.data),
            };
            Some(ClientFrame::Reply {
                reference: reference?,
                outcome,
            })
        }
        _ => None,
    }
}

/// The word that a token means, if it is one of `words`; looks at all of them only if there are
/// escapes, which nobody writes.
pub(crate) fn one_of<'a>(token: JsonStr<'a>, words: &[&'static str]) -> Option<&'a str> {
    token
        .plain()
        .or_else(|| words.iter().copied().find(|word| token.eq_str(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic_of(text: &str) -> Option<&str> {
        match recognise(text)? {
            ClientFrame::Subscribe { topic, .. } => topic.plain(),
            _ => None,
        }
    }

    #[test]
    fn blanks_order_escapes_and_duplicates() {
        assert_eq!(
            topic_of(r#"{"type" : "subscribe" , "topic" : "a" } "#),
            Some("a")
        );
        assert_eq!(
            topic_of(r#"{"typ\u0065":"subscribe","topic":"a"}"#),
            Some("a")
        );
        assert_eq!(
            topic_of(r#"{"type":"sub\u0073cribe","topic":"a"}"#),
            Some("a")
        );
        assert_eq!(
            topic_of(r#"{"type":"subscribe","ref":1,"topic":"a"}"#),
            Some("a")
        );
        assert_eq!(
            topic_of(r#"{"type":"subscribe","topic":"a","topic":"b"}"#),
            Some("b")
        );
        assert_eq!(
            topic_of(r#"{"type":"subscribe","topic":"a","topic":1}"#),
            None
        );
        assert_eq!(
            topic_of(r#"{"type":"hello","topic":"a","type":"subscribe"}"#),
            Some("a")
        );
        // Byte 3 decides, not the first key.
        assert_eq!(
            topic_of(r#"{ "y":1,"type":"subscribe","topic":"a"}"#),
            Some("a")
        );
        assert_eq!(topic_of(r#"{"\u0074ype":"subscribe","topic":"a"}"#), None);
    }

    #[test]
    fn long_frames() {
        let pad = "x".repeat(CONTROL_FRAME_BYTES);
        assert_eq!(
            topic_of(&format!(r#"{{"type":"subscribe","topic":"{pad}"}}"#)),
            None
        );
        let resume = format!(r#"{{"type":"resume","sessionId":"{pad}","lastSeenSeqs":{{}}}}"#);
        assert!(matches!(
            recognise(&resume),
            Some(ClientFrame::Resume { .. })
        ));
        let reply = format!(r#"{{"type":"reply","ref":1,"data":"{pad}"}}"#);
        assert!(matches!(recognise(&reply), Some(ClientFrame::Reply { .. })));
        let spaced = format!(r#"{{"type": "reply","ref":1,"data":"{pad}"}}"#);
        assert!(recognise(&spaced).is_none());
        let last_wins = format!(r#"{{"type":"reply","type":"subscribe","topic":"a","x":"{pad}"}}"#);
        assert_eq!(topic_of(&last_wins), None);
    }

    #[test]
    fn depth_is_the_same_on_both_paths() {
        for (nest, want) in [(63, true), (64, false)] {
            let data = "[".repeat(nest) + &"]".repeat(nest);
            for frame in [
                format!(r#"{{"type":"reply","ref":1,"data":{data}}}"#),
                format!(r#"{{"type":"reply","ref":1,"data":{data} }}"#),
            ] {
                assert_eq!(recognise(&frame).is_some(), want, "{nest}");
            }
        }
    }

    #[test]
    fn references() {
        let exact = |raw| {
            Ref::new(RawJsonRef::parse_str(raw).unwrap())
                .unwrap()
                .as_u64_exact()
        };
        assert_eq!(exact("1"), Some(1));
        assert_eq!(exact("18446744073709551615"), Some(u64::MAX));
        assert_eq!(exact("1.0"), Some(1));
        assert_eq!(exact("1e2"), Some(100));
        assert_eq!(exact("-0"), Some(0));
        for raw in ["\"1\"", "-1", "1.5", "1e300", "1e400"] {
            assert_eq!(exact(raw), None, "{raw}");
        }
        assert!(Ref::new(RawJsonRef::NULL).is_none());
    }
}
