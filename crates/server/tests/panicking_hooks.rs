//! A hook that panics hurts nobody but whoever it was called for.

mod common;

use common::start;
use common::ws::{Frame, Ws, close_frame};
use millstream_core::TopicName;
use millstream_server::{
    Answer, CloseInfo, Context, HookError, Hooks, Message, Resume, UpgradeRequest, Verdict,
};

struct Clumsy;

impl Clumsy {
    fn stumble(on: bool) {
        assert!(!on, "this hook panics on purpose");
    }
}

impl Hooks for Clumsy {
    fn upgrade(
        &self,
        request: UpgradeRequest,
    ) -> Answer<Result<millstream_server::Admission, HookError>> {
        let clumsy = request.headers.contains_key("x-clumsy");
        Ok(millstream_server::Admission::user(clumsy)).into()
    }

    fn has_upgrade(&self) -> bool {
        true
    }

    fn open(&self, cx: &mut Context<'_>) {
        Self::stumble(cx.user::<bool>() == Some(&true));
    }

    fn message(&self, cx: &mut Context<'_>, message: Message<'_>) {
        let Message::Text(text) = message else {
            panic!("binary")
        };
        cx.send_text(text);
        Self::stumble(text == "panic");
    }

    fn subscribe(
        &self,
        _: &mut Context<'_>,
        topic: &TopicName,
    ) -> Answer<Result<Verdict, HookError>> {
        Self::stumble(&**topic == "panic");
        let later = &**topic == "panic-later";
        Answer::later(async move {
            if later {
                tokio::task::yield_now().await;
            }
            Self::stumble(later);
            Ok(Verdict::Allow)
        })
    }

    fn unsubscribe(&self, _: &mut Context<'_>, _: &str) {
        Self::stumble(true);
    }

    fn resume(&self, _: &mut Context<'_>, _: &Resume<'_>) -> Answer<Result<(), HookError>> {
        panic!("on purpose");
    }

    fn close(&self, _: &mut Context<'_>, info: &CloseInfo<'_>) {
        Self::stumble(info.code == 4_001);
    }
}

async fn echoes(ws: &mut Ws, text: &str) {
    ws.say(text).await;
    assert_eq!(ws.next().await, Frame::Text(text.to_owned()));
}

#[tokio::test]
async fn each_of_them_leaves_everyone_else_alone() {
    let server = start(Clumsy, |config| {
        config.open_topics = Some(vec!["*".to_owned()])
    })
    .await;
    let mut other = Ws::connect(server.address).await;
    let mut ws = Ws::connect(server.address).await;

    ws.say("panic").await;
    // What the hook did before it panicked has happened.
    assert_eq!(ws.next().await, Frame::Text("panic".to_owned()));
    echoes(&mut ws, "still").await;
    echoes(&mut other, "message").await;

    for topic in ["panic", "panic-later"] {
        ws.say(&format!(
            r#"{{"type":"subscribe","topic":"{topic}","ref":1}}"#
        ))
        .await;
        let text = ws.text().await;
        assert!(
            text.ends_with(r#""ref":1,"reason":"INTERNAL_ERROR"}"#),
            "{text}"
        );
        echoes(&mut other, "subscribe").await;
    }

    ws.subscribe("good").await;
    ws.say(r#"{"type":"unsubscribe","topic":"good"}"#).await;
    echoes(&mut ws, "unsubscribed").await;

    ws.say(r#"{"type":"resume","sessionId":"s","lastSeenSeqs":{}}"#)
        .await;
    assert_eq!(ws.text().await, r#"{"type":"resumed"}"#);

    ws.bytes(&close_frame(4_001)).await;
    assert_eq!(ws.end().await, Some(4_001));
    echoes(&mut other, "close").await;

    let mut stream = tokio::net::TcpStream::connect(server.address)
        .await
        .expect("connects");
    let more = "Origin: http://localhost\nX-Clumsy: 1";
    common::send(&mut stream, &common::upgrade("/ws", more), b"").await;
    assert_eq!(
        common::try_receive(&mut stream)
            .await
            .expect("a response")
            .status,
        101
    );
    let mut clumsy = Ws { stream };
    assert!(clumsy.text().await.contains("welcome"));
    echoes(&mut clumsy, "its connection goes on").await;
    echoes(&mut other, "open").await;
    assert_eq!(
        common::metric(server.address, "millstream_hook_panics_total").await,
        6
    );
}
