//! Calls over real sockets: answered in this turn or later, behind what they published.

mod common;

use std::time::Duration;

use common::ws::Ws;
use common::{Running, start};
use millstream_live::{App, Ctx, Limits, LiveError, Module};
use millstream_server::with_live;
use millstream_server::{Admission, Answer, Context, HookError, Hooks, Message, UpgradeRequest};

type Cx = Ctx<(), String>;

/// Everybody is Ada; what is no call is echoed.
struct Own;

impl Hooks for Own {
    fn has_upgrade(&self) -> bool {
        true
    }

    fn upgrade(&self, _: UpgradeRequest) -> Answer<Result<Admission, HookError>> {
        Ok(Admission::user("ada".to_owned())).into()
    }

    fn message(&self, cx: &mut Context<'_>, message: Message<'_>) {
        if let Message::Text(text) = message {
            cx.send_text(text);
        }
    }
}

async fn order(ctx: Cx, topic: String, late: bool) -> Result<&'static str, LiveError> {
    for n in 1..=3 {
        ctx.publish(&topic, "step", &n)?;
        if late {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok("done")
}

async fn serve(workers: u32) -> Running {
    let module = Module::new("rpc")
        .call("who", async |ctx: Cx| Ok(ctx.require_user()?.clone()))
        .call("slow", async |_: Cx, ms: u64| {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(ms)
        })
        .call("panics", async |_: Cx| -> Result<(), _> {
            panic!("secret")
        })
        .call("order", order);
    let mut limits = Limits::default();
    limits.messages_in_flight_max = 3;
    let app = App::<(), String>::new(())
        .module(module)
        .limits(limits)
        .build()
        .expect("valid");
    start(with_live(app, Own), |config| {
        config.workers = workers;
        config.open_topics = Some(vec!["*".to_owned()]);
    })
    .await
}

fn call(path: &str, id: &str, args: &str) -> String {
    format!(r#"{{"rpc":"rpc/{path}","id":"{id}","args":{args}}}"#)
}

fn reply(id: &str, rest: &str) -> String {
    format!(r#"{{"topic":"__rpc","event":"{id}","data":{{"id":"{id}",{rest}}}}}"#)
}

#[tokio::test]
async fn calls_are_answered_and_everything_else_goes_to_the_hooks() {
    let server = serve(1).await;
    let mut ws = Ws::connect(server.address).await;
    ws.say(&call("who", "1", "[]")).await;
    assert_eq!(ws.text().await, reply("1", r#""ok":true,"data":"ada""#));
    ws.say(r#"{"own":"message"}"#).await;
    assert_eq!(ws.text().await, r#"{"own":"message"}"#);
    ws.say(&call("nowhere", "2", "[]")).await;
    assert_eq!(
        ws.text().await,
        reply("2", r#""ok":false,"code":"NOT_FOUND","error":"Not found""#)
    );
}

#[tokio::test]
async fn a_slow_call_keeps_nobody_waiting() {
    let server = serve(1).await;
    let mut ws = Ws::connect(server.address).await;
    ws.say(&call("slow", "late", "[200]")).await;
    ws.say(&call("who", "quick", "[]")).await;
    assert_eq!(ws.text().await, reply("quick", r#""ok":true,"data":"ada""#));
    assert_eq!(ws.text().await, reply("late", r#""ok":true,"data":200"#));
}

#[tokio::test]
async fn a_panic_is_answered_without_its_text() {
    let server = serve(1).await;
    let mut ws = Ws::connect(server.address).await;
    ws.say(&call("panics", "p", "[]")).await;
    let text = ws.text().await;
    assert!(
        text.contains("INTERNAL_ERROR") && !text.contains("secret"),
        "{text}"
    );
    ws.say(&call("who", "1", "[]")).await;
    assert!(ws.text().await.contains("ada"));
}

#[tokio::test]
async fn what_a_call_published_arrives_before_its_reply() {
    for (workers, late) in [(1, false), (1, true), (2, false), (2, true)] {
        let server = serve(workers).await;
        let mut ws = Ws::connect(server.address).await;
        ws.say(r#"{"type":"subscribe","topic":"room","ref":1}"#)
            .await;
        assert!(ws.text().await.contains("subscribed"));
        ws.say(&call("order", "o", &format!(r#"["room",{late}]"#)))
            .await;
        for n in 1..=3 {
            let event = ws.text().await;
            assert!(
                event.contains(&format!(r#""event":"step","data":{n}"#)),
                "{event}"
            );
        }
        assert_eq!(ws.text().await, reply("o", r#""ok":true,"data":"done""#));
    }
}

#[tokio::test]
async fn a_connection_cannot_pile_up_calls_that_wait() {
    let server = serve(1).await;
    let mut ws = Ws::connect(server.address).await;
    for n in 0..3 {
        ws.say(&call("slow", &format!("s{n}"), "[300]")).await;
    }
    ws.say(&call("who", "more", "[]")).await;
    let refused = ws.text().await;
    assert!(
        refused.contains("OVERLOADED") && refused.contains(r#""id":"more""#),
        "{refused}"
    );
    let batch = r#"{"batch":[{"rpc":"rpc/who","id":"b1"},{"id":7}]}"#;
    ws.say(batch).await;
    let refused = ws.text().await;
    assert_eq!(refused.matches("OVERLOADED").count(), 2, "{refused}");
    for n in 0..3 {
        let done = ws.text().await;
        assert!(
            done.contains(&format!(r#""id":"s{n}","ok":true"#)),
            "{done}"
        );
    }
    ws.say(&call("who", "again", "[]")).await;
    assert!(ws.text().await.contains("ada"));
}
