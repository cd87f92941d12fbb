//! What the application does at each moment of a connection's life.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use millstream_core::{JsonStr, RawJson, RawJsonRef, TopicName};
use millstream_server::{
    Admission, Answer, AuthOutcome, AuthRequest, CloseInfo, Context, CookieOptions, HookError,
    Hooks, Message, Resume, SameSite, UpgradeRequest, Verdict,
};
use tokio::time::sleep;

use crate::identity::Identity;
use crate::replay;
use crate::state::Shared;

/// What is no call.
#[derive(Debug)]
pub(crate) struct Own {
    state: Shared,
}

impl Own {
    pub(crate) fn new(state: Shared) -> Self {
        Self { state }
    }
}

impl Hooks for Own {
    fn has_upgrade(&self) -> bool {
        true
    }

    fn upgrade(&self, request: UpgradeRequest) -> Answer<Result<Admission, HookError>> {
        Answer::later(async move {
            if let Some(wait) = request.query("slow") {
                sleep(milliseconds(&wait)).await;
            }
            admit(&request)
        })
    }

    fn authenticates(&self) -> bool {
        true
    }

    fn authenticate(&self, request: AuthRequest) -> Answer<Result<AuthOutcome, HookError>> {
        authenticate(request).into()
    }

    fn open(&self, cx: &mut Context<'_>) {
        if let Some(user) = user_of(cx) {
            self.state.log(&format!("open:{user}"), "open");
        }
    }

    fn message(&self, cx: &mut Context<'_>, message: Message<'_>) {
        let bytes = match message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        };
        if let Some(object) = json_object(bytes) {
            assert!(
                object.get("app").is_none_or(|app| app.get() != "\"throw\""),
                "thrown"
            );
            if let Ok(data) = RawJsonRef::parse(bytes.trim_ascii())
                && !replay::handle_message(cx, data)
            {
                cx.send("app", "json", data);
            }
        } else {
            raw(cx, bytes);
        }
    }

    fn subscribe(
        &self,
        cx: &mut Context<'_>,
        topic: &TopicName,
    ) -> Answer<Result<Verdict, HookError>> {
        self.state.log(&format!("sub:{}", &**topic), "subscribe");
        decide(self, cx, topic)
    }

    fn unsubscribe(&self, _: &mut Context<'_>, topic: &str) {
        self.state.log(&format!("sub:{topic}"), "unsubscribe");
    }

    fn resume(&self, cx: &mut Context<'_>, resume: &Resume<'_>) -> Answer<Result<(), HookError>> {
        let session = resume.session_id;
        let seqs = without_blanks(resume.last_seen.as_str());
        self.state.log(&format!("resume:{session}"), seqs);
        if self.state.flag(&format!("resume:fail:{session}")).is_some() {
            return Err(HookError::new("resume fails on purpose")).into();
        }
        let positions = positions(cx, resume.last_seen);
        let (server, conn) = (cx.handle(), cx.conn());
        let missed = move || -> Vec<String> {
            let answer = |(topic, number): &(String, RawJson)| {
                replay::answer(&server, topic, Some(number.get()), None)
            };
            positions.iter().flat_map(answer).collect()
        };
        match self.state.flag(&format!("resume:wait:{session}")) {
            None => {
                for text in missed() {
                    cx.send_text(&text);
                }
                Ok(()).into()
            }
            Some(wait) => Answer::later(async move {
                sleep(milliseconds(wait.as_str())).await;
                for text in missed() {
                    conn.send_text(text)
                        .map_err(|error| HookError::new(error.to_string()))?;
                }
                Ok(())
            }),
        }
    }

    fn close(&self, cx: &mut Context<'_>, info: &CloseInfo<'_>) {
        if let Some(user) = user_of(cx) {
            self.state
                .log(&format!("open:{user}"), format!("close {}", info.code));
        }
    }
}

/// Where a client that came back was on the topics that are replayed to it, in order. They are
/// brought up to date here, so that the server has nothing to say about them.
fn positions(cx: &mut Context<'_>, last_seen: RawJsonRef<'_>) -> Vec<(String, RawJson)> {
    let replayed = |(topic, number): (JsonStr<'_>, RawJsonRef<'_>)| {
        let topic = topic.to_cow().into_owned();
        replay::is_replayed(&topic).then(|| (topic, number.to_owned()))
    };
    let positions: Vec<_> = last_seen.fields().filter_map(replayed).collect();
    for (topic, _) in &positions {
        cx.cover(topic);
    }
    positions
}

fn admit(request: &UpgradeRequest) -> Result<Admission, HookError> {
    if request.query("reject").is_some() {
        return Ok(Admission::Reject);
    }
    if request.query("fail").is_some() {
        return Err(HookError::new("the upgrade hook fails on purpose"));
    }
    let nothing = request.query("nothing").is_some();
    let admission = Admission::user(Identity::of(request, nothing));
    match request.query("header").filter(|_| !nothing) {
        None => Ok(admission),
        Some(text) => {
            let value = HeaderValue::from_str(&text)
                .map_err(|_| HookError::new("the text is no header value"))?;
            Ok(admission.header(HeaderName::from_static("x-conf"), value))
        }
    }
}

fn authenticate(mut request: AuthRequest) -> Result<AuthOutcome, HookError> {
    match request.query("mode").as_deref() {
        Some("deny") => return Ok(AuthOutcome::Reject),
        Some("fail") => return Err(HookError::new("the auth hook fails on purpose")),
        Some("teapot") => {
            let mut response = Response::new(Bytes::from_static(b"short and stout"));
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            response
                .headers_mut()
                .insert("x-conf", HeaderValue::from_static("yes"));
            return Ok(AuthOutcome::Respond {
                response,
                cookies: request.cookies,
            });
        }
        _ => {}
    }
    let options = CookieOptions::new()
        .path("/")
        .max_age(Duration::from_secs(60))
        .http_only()
        .same_site(SameSite::Strict);
    request
        .cookies
        .set("conf_session", "a b", &options)
        .map_err(|error| HookError::new(error.to_string()))?;
    Ok(AuthOutcome::Accept {
        cookies: request.cookies,
    })
}

/// The subscribe hook's table, by the text before the first colon.
fn decide(own: &Own, cx: &Context<'_>, topic: &TopicName) -> Answer<Result<Verdict, HookError>> {
    let mut parts = topic.split(':');
    let (first, second) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let deny = |reason: &str| Verdict::Deny(reason.to_owned().into());
    let identity = cx.user::<Identity>();
    let verdict = match first {
        "denied" => deny("FORBIDDEN"),
        "reason" => deny(second),
        "emptyreason" => deny(""),
        "throws" => panic!("the subscribe hook crashes on purpose"),
        "slow" => return after(milliseconds(second), Verdict::Allow),
        "slowdeny" => return after(milliseconds(second), deny("FORBIDDEN")),
        "login" if identity.is_none_or(|identity| identity.id.is_none()) => deny("UNAUTHENTICATED"),
        "flip" if own.state.flag(&format!("deny:{}", &**topic)).is_some() => deny("FORBIDDEN"),
        "kyc" if identity.and_then(Identity::role) != Some("verified") => deny("KYC_PENDING"),
        _ => Verdict::Allow,
    };
    Ok(verdict).into()
}

fn after(wait: Duration, verdict: Verdict) -> Answer<Result<Verdict, HookError>> {
    Answer::later(async move {
        sleep(wait).await;
        Ok(verdict)
    })
}

fn user_of(cx: &Context<'_>) -> Option<String> {
    cx.user::<Identity>()?.id.clone()
}

/// Whole milliseconds as a text; anything else is no time at all. At most a minute.
fn milliseconds(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap_or(0).min(60_000))
}

type Object<'a> = std::collections::HashMap<&'a str, &'a serde_json::value::RawValue>;

/// The members of a JSON object whose names need no unescaping, or nothing if it is none.
fn json_object(bytes: &[u8]) -> Option<Object<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    if !text.trim_start().starts_with('{') {
        return None;
    }
    match serde_json::from_str(text) {
        Ok(object) => Some(object),
        // Escaped names cannot be borrowed; such an object is still one, without `app`.
        Err(_) => serde_json::from_str::<serde::de::IgnoredAny>(text)
            .ok()
            .map(|_| Object::new()),
    }
}

fn raw(cx: &mut Context<'_>, bytes: &[u8]) {
    let head: String = bytes
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let data = format!(r#"{{"bytes":{},"head":"{head}"}}"#, bytes.len());
    if let Ok(data) = RawJsonRef::parse(data.as_bytes()) {
        cx.send("app", "raw", data);
    }
}

/// A JSON text without the white space between its tokens.
fn without_blanks(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|&c| {
            let keep = in_string || !c.is_ascii_whitespace();
            in_string = if in_string {
                c != '"' || escaped
            } else {
                c == '"'
            };
            escaped = in_string && c == '\\' && !escaped;
            keep
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_go_between_tokens_only() {
        assert_eq!(
            without_blanks("{ \"a b\" : [1, \"\\\" x\"] }\n"),
            "{\"a b\":[1,\"\\\" x\"]}"
        );
        assert_eq!(without_blanks("{\"\\\\\" : 1}"), "{\"\\\\\":1}");
    }

    #[test]
    fn objects_are_told_from_other_json() {
        assert!(json_object(b" {\"a\":1}").is_some());
        assert!(json_object(b"{\"\\u0061\":1}").is_some());
        for other in [&b"[1]"[..], b"1", b"{broken", b"", b"\xff"] {
            assert!(json_object(other).is_none());
        }
    }
}
