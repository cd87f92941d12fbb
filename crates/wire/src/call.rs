//! Calls: text frames of the application protocol, told apart from an application's own messages.

use millstream_core::{DEPTH_MAX, JsonError, JsonList, JsonStr, RawJsonRef};

/// Shorter messages are never calls.
const CALL_BYTES_MIN: usize = 10;

/// Nesting up to which the id of a refused call is looked for.
const LOOKED_AT_DEPTH: u32 = 4 * DEPTH_MAX;

/// A message that claims to be a call.
#[derive(Clone, Copy, Debug)]
pub enum CallFrame<'a> {
    /// One call, or one stream to subscribe to.
    Call(CallRequest<'a>),
    /// Several in one frame.
    Batch(CallBatch<'a>),
    /// Nested deeper than [`DEPTH_MAX`] levels; never run. It has an id, so it can be answered.
    TooDeep {
        /// The id to answer.
        id: JsonStr<'a>,
    },
}

/// One call as it stands in the frame. Nothing in it is checked beyond what is said here.
#[derive(Clone, Copy, Debug)]
pub struct CallRequest<'a> {
    /// What to call; not checked against [`is_call_path`] yet.
    pub path: JsonStr<'a>,
    /// To be echoed in the reply. Without it no reply is wanted, not even of failure.
    pub id: Option<JsonStr<'a>>,
    /// The positional arguments.
    pub args: CallArgs<'a>,
    /// Whether the client wants to subscribe: a member `stream` that is truthy.
    pub stream: bool,
    /// Handed to the function; used for paging.
    pub cursor: Option<RawJsonRef<'a>>,
    /// Names the call for idempotent functions; any JSON value, which may be refused.
    pub idempotency_key: Option<RawJsonRef<'a>>,
    /// Last number seen of a stream; any JSON value.
    pub seq: Option<RawJsonRef<'a>>,
    /// Last data version seen of a stream; any JSON value, `null` included.
    pub version: Option<RawJsonRef<'a>>,
    /// Schema version of what the client holds; any JSON value.
    pub schema_version: Option<RawJsonRef<'a>>,
}

/// The arguments of a call.
#[derive(Clone, Copy, Debug)]
pub enum CallArgs<'a> {
    /// No member `args`: no arguments.
    Absent,
    /// A list.
    List(JsonList<'a>),
    /// Something else, `null` included: to be refused.
    NotAList,
}

impl<'a> CallArgs<'a> {
    fn new(json: RawJsonRef<'a>) -> Self {
        JsonList::new(json).map_or(Self::NotAList, Self::List)
    }

    /// The arguments in order; none when there is no list.
    pub fn iter(&self) -> impl Iterator<Item = RawJsonRef<'a>> + use<'a> {
        let list = match self {
            Self::List(list) => Some(*list),
            Self::Absent | Self::NotAList => None,
        };
        list.into_iter().flat_map(|list| list.elements())
    }
}

/// Several calls in one frame, answered by one frame.
#[derive(Clone, Copy, Debug)]
pub struct CallBatch<'a> {
    entries: RawJsonRef<'a>,
    /// Whether each waits for the one before: a member `sequential` that is truthy.
    pub sequential: bool,
}

/// One entry of a [`CallBatch`].
#[derive(Clone, Copy, Debug)]
pub enum BatchEntry<'a> {
    /// A call with an id.
    Call(CallRequest<'a>),
    /// No object, or without a text for `rpc` or `id`: to be refused under this id.
    Malformed {
        /// The id, if it has one that JavaScript takes for true. Of any kind: it is only echoed.
        id: Option<RawJsonRef<'a>>,
    },
}

impl<'a> CallBatch<'a> {
    /// The entries in request order.
    pub fn entries(&self) -> impl Iterator<Item = BatchEntry<'a>> + use<'a> {
        self.entries.elements().map(|entry| {
            let members = Members::read(entry);
            match members.request() {
                Some(request) if request.id.is_some() => BatchEntry::Call(request),
                _ => BatchEntry::Malformed {
                    id: members.id.filter(|id| is_truthy(*id)),
                },
            }
        })
    }
}

/// Whether a message is a call. `None`: it belongs to the application.
///
/// The first member has to begin with `r` or `b` right behind the brace, as the JavaScript client
/// writes it; of repeated members the last one counts. Cost: one pass.
///
/// ```
/// use millstream_wire::{CallFrame, recognise_call};
///
/// let frame = r#"{"rpc":"chat/send","id":"k1","args":["hello"]}"#;
/// let Some(CallFrame::Call(call)) = recognise_call(frame) else { panic!("it is one") };
/// assert_eq!(call.path.to_cow(), "chat/send");
/// assert_eq!(call.args.iter().count(), 1);
/// assert!(recognise_call(r#"{"app":"own message"}"#).is_none());
/// ```
#[must_use]
pub fn recognise_call(message: &str) -> Option<CallFrame<'_>> {
    if let Some(call) = usual(message) {
        return Some(CallFrame::Call(call));
    }
    let bytes = message.as_bytes();
    if bytes.len() < CALL_BYTES_MIN || bytes[0] != b'{' || !matches!(bytes[2], b'r' | b'b') {
        return None;
    }
    unusual(message)
}

/// Any message, read member by member. Apart from [`recognise_call`], so that the usual call has
/// the registers for itself.
#[inline(never)]
fn unusual(message: &str) -> Option<CallFrame<'_>> {
    let mut members = Members::default();
    match RawJsonRef::parse_fields(message, DEPTH_MAX, |name, value| members.note(name, value)) {
        Ok(()) => claim(&members),
        Err(JsonError::TooDeep { .. }) => {
            let json = RawJsonRef::parse_str_with_depth(message, LOOKED_AT_DEPTH).ok()?;
            let members = Members::read(json);
            members.request()?;
            let id = members.id?.as_json_str()?;
            Some(CallFrame::TooDeep { id })
        }
        Err(_) => None,
    }
}

/// The call of three members as clients write it: in this order and without blanks. Nearly all are
/// like that, and need no names compared. All others are read member by member.
#[inline]
fn usual(message: &str) -> Option<CallRequest<'_>> {
    // Ends like a list in an object: most others show here that they are others.
    let rest = message.strip_prefix(r#"{"rpc":"#)?;
    if !rest.ends_with("]}") {
        return None;
    }
    let (path, rest) = JsonStr::scan(rest)?;
    let (id, rest) = JsonStr::scan(rest.strip_prefix(r#","id":"#)?)?;
    let (list, rest) = JsonList::scan(rest.strip_prefix(r#","args":"#)?, DEPTH_MAX - 1)?;
    (rest == "}").then_some(CallRequest {
        path,
        id: Some(id),
        args: CallArgs::List(list),
        stream: false,
        cursor: None,
        idempotency_key: None,
        seq: None,
        version: None,
        schema_version: None,
    })
}

fn claim<'a>(members: &Members<'a>) -> Option<CallFrame<'a>> {
    if let Some(entries) = members.batch.filter(RawJsonRef::is_array) {
        return Some(CallFrame::Batch(CallBatch {
            entries,
            sequential: members.sequential,
        }));
    }
    let request = members.request()?;
    let usable = request.id.is_some() || !request.path.eq_str("");
    usable.then_some(CallFrame::Call(request))
}

/// `module/name`: at least two segments of ASCII letters, digits, `_` and `-`.
#[must_use]
pub fn is_call_path(path: &str) -> bool {
    let segment = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        !text.is_empty() && text.bytes().all(plain)
    };
    path.contains('/') && path.split('/').all(segment)
}

/// The known members of a call or batch; of repeated ones the last.
#[derive(Default)]
struct Members<'a> {
    rpc: Option<RawJsonRef<'a>>,
    id: Option<RawJsonRef<'a>>,
    args: Option<RawJsonRef<'a>>,
    stream: bool,
    cursor: Option<RawJsonRef<'a>>,
    idempotency_key: Option<RawJsonRef<'a>>,
    seq: Option<RawJsonRef<'a>>,
    version: Option<RawJsonRef<'a>>,
    schema_version: Option<RawJsonRef<'a>>,
    batch: Option<RawJsonRef<'a>>,
    sequential: bool,
}

impl<'a> Members<'a> {
    fn read(json: RawJsonRef<'a>) -> Self {
        let mut members = Self::default();
        for (name, value) in json.fields() {
            members.note(name, value);
        }
        members
    }

    fn note(&mut self, name: JsonStr<'a>, value: RawJsonRef<'a>) {
        match name.plain() {
            Some(plain) => self.set(plain, value),
            None => self.set(&name.to_cow(), value),
        }
    }

    #[inline]
    fn set(&mut self, name: &str, value: RawJsonRef<'a>) {
        match name {
            "rpc" => self.rpc = Some(value),
            "id" => self.id = Some(value),
            "args" => self.args = Some(value),
            "stream" => self.stream = is_truthy(value),
            "cursor" => self.cursor = Some(value),
            "idempotencyKey" => self.idempotency_key = Some(value),
            "seq" => self.seq = Some(value),
            "version" => self.version = Some(value),
            "schemaVersion" => self.schema_version = Some(value),
            "batch" => self.batch = Some(value),
            "sequential" => self.sequential = is_truthy(value),
            _ => {}
        }
    }

    /// A request if `rpc` is a text, and `id` too unless it is absent.
    fn request(&self) -> Option<CallRequest<'a>> {
        let id = match self.id {
            None => None,
            Some(id) => Some(id.as_json_str()?),
        };
        Some(CallRequest {
            path: self.rpc?.as_json_str()?,
            id,
            args: self.args.map_or(CallArgs::Absent, CallArgs::new),
            stream: self.stream,
            cursor: self.cursor,
            idempotency_key: self.idempotency_key,
            seq: self.seq,
            version: self.version,
            schema_version: self.schema_version,
        })
    }
}

/// What JavaScript takes for true: not `false`, `null`, a zero or the empty text.
fn is_truthy(json: RawJsonRef<'_>) -> bool {
    if let Some(number) = json.as_f64() {
        return number != 0.0;
    }
    !matches!(json.as_bytes(), b"false" | b"null" | br#""""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(frame: &str) -> CallRequest<'_> {
        match recognise_call(frame) {
            Some(CallFrame::Call(call)) => call,
            other => panic!("{frame}: {other:?}"),
        }
    }

    #[test]
    fn a_call_keeps_its_parts_as_they_stand() {
        let call = call(
            r#"{"rpc":"a/b","id":"k\u0031","args":[1.0,"\ud800"],"stream":1,"seq":7,"version":null,
            "schemaVersion":2,"cursor":{"a":1},"idempotencyKey":"x","other":[]}"#,
        );
        assert_eq!(call.id.unwrap().raw(), r#""k\u0031""#);
        let args: Vec<_> = call.args.iter().map(|arg| arg.as_str()).collect();
        assert_eq!(args, ["1.0", r#""\ud800""#]);
        assert!(call.stream && call.version.unwrap().is_null());
        assert_eq!(call.seq.unwrap().as_u64(), Some(7));
        assert_eq!(call.schema_version.unwrap().as_u64(), Some(2));
        assert_eq!(call.cursor.unwrap().as_str(), r#"{"a":1}"#);
        assert_eq!(call.idempotency_key.unwrap().as_str(), r#""x""#);
    }

    #[test]
    fn the_usual_call_is_read_like_any_other() {
        for frame in [
            r#"{"rpc":"a/b","id":"k1","args":[]}"#,
            r#"{"rpc":"a/b","id":"k1","args":[1,{"a":[2]},"x]}",4,5,[6]]}"#,
            r#"{"rpc":"a\u002fb","id":"\ud800","args":[ null ]}"#,
            r#"{"rpc":"","id":"","args":[[]]}"#,
        ] {
            let usual = usual(frame).expect(frame);
            // A blank at the end makes it an unusual one.
            let other = format!("{frame} ");
            let other = call(&other);
            assert_eq!(usual.path.raw(), other.path.raw());
            assert_eq!(usual.id.map(|id| id.raw()), other.id.map(|id| id.raw()));
            assert!(usual.args.iter().eq(other.args.iter()), "{frame}");
        }
        for frame in [
            r#"{"rpc":"a/b","id":"k1","args":[]} "#,
            r#"{"rpc":"a/b","id":"k1","args":{"a":[]}}"#,
            r#"{"rpc":"a/b","id":"k1","args":[]]}"#,
            r#"{"rpc":"a/b","id":"k1","args":[1,]}"#,
            r#"{"rpc":"a/b","id":"k1","args":[],"args":[]}"#,
            r#"{"rpc":"a/b","id":7,"args":[]}"#,
            r#"{"rpc":"a/b","args":[]}"#,
            r#"{"rpc":"a/b","id":"k1"#,
        ] {
            assert!(usual(frame).is_none(), "{frame}");
        }
    }

    #[test]
    fn only_calls_are_claimed() {
        for frame in [
            r#"{"rpc":5,"id":"x1"}"#,
            r#"{"rpc":"a/b","id":null}"#,
            r#"{"rpc":"a/b","id":7,"args":[]}"#,
            r#"{"rpc":""}          "#,
            r#"{"id":"x1","rpc":"a/b"}"#,
            r#"{ "rpc":"a/b","id":"x1"}"#,
            r#"{"rpc":"a/b","id":"x1"}x"#,
            r#"{"rpc":"a/b","id":"x1""#,
            r#"{"batch":5,"id":"x1"}"#,
            r#"["rpc","a/b"]"#,
            r#"{"rpc":1}"#,
            "",
        ] {
            assert!(recognise_call(frame).is_none(), "{frame}");
        }
        assert!(matches!(
            call(r#"{"rpc":"","id":""}"#).args,
            CallArgs::Absent
        ));
        let frame = r#"{"rpc":"x/y","rpc":"a/b","id":"","args":null}  "#;
        assert!(call(frame).path.eq_str("a/b"));
        assert!(matches!(call(frame).args, CallArgs::NotAList));
        assert_eq!(call(frame).args.iter().count(), 0);
    }

    #[test]
    fn too_deep_calls_are_told_apart_when_they_can_be_answered() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let frame = |depth| format!(r#"{{"rpc":"a/b","id":"d","args":{}}}"#, nested(depth));
        assert!(matches!(
            recognise_call(&frame(63)),
            Some(CallFrame::Call(_))
        ));
        let deep = frame(64);
        let Some(CallFrame::TooDeep { id }) = recognise_call(&deep) else {
            panic!("refused under its id");
        };
        assert!(id.eq_str("d"));
        assert!(recognise_call(&frame(100_000)).is_none());
        let silent = format!(r#"{{"rpc":"a/b","args":{}}}"#, nested(70));
        assert!(
            recognise_call(&silent).is_none(),
            "nobody waits for an answer"
        );
    }

    #[test]
    fn batches_sort_out_their_malformed_entries() {
        let frame = r#"{"batch":[null,{"rpc":"a/b"},{"id":"only"},{"rpc":5,"id":"num"},
            {"rpc":"a/b","id":"fine"},{"rpc":"a/b","id":3}],"sequential":"","rpc":"c/d","id":"x"}"#;
        let Some(CallFrame::Batch(batch)) = recognise_call(frame) else {
            panic!("it is one");
        };
        assert!(!batch.sequential);
        let seen: Vec<String> = batch
            .entries()
            .map(|entry| match entry {
                BatchEntry::Call(call) => format!("run {}", call.id.unwrap().to_cow()),
                BatchEntry::Malformed { id } => format!("{:?}", id.map(|id| id.as_str())),
            })
            .collect();
        assert_eq!(
            seen,
            [
                "None",
                "None",
                r#"Some("\"only\"")"#,
                r#"Some("\"num\"")"#,
                "run fine",
                r#"Some("3")"#
            ]
        );
    }

    #[test]
    fn truth_is_javascripts() {
        for (json, truthy) in [
            ("true", true),
            ("1", true),
            (r#""0""#, true),
            ("[]", true),
            ("{}", true),
            ("false", false),
            ("null", false),
            ("0", false),
            ("-0.0e5", false),
            (r#""""#, false),
        ] {
            let json = RawJsonRef::parse_str(json).unwrap();
            assert_eq!(is_truthy(json), truthy, "{json:?}");
        }
    }

    #[test]
    fn paths_have_two_plain_segments() {
        for path in ["a/b", "a/b/c", "A-1/_x", "rooms/board/__action/add"] {
            assert!(is_call_path(path), "{path}");
        }
        for path in [
            "", "a", "/a", "a/", "a//b", "a/../b", "a.b/c", "a/é", "a/b\n", "a/b c",
        ] {
            assert!(!is_call_path(path), "{path}");
        }
    }
}
