//! One client that subscribes without end is answered, bounded, and alone in what it pays.

mod common;

use common::start;
use common::ws::{Frame, TEXT, Ws, frame};
use millstream_core::TopicName;
use millstream_server::{Answer, Context, HookError, Hooks, Verdict};

/// Never decides.
struct Silent;

impl Hooks for Silent {
    fn subscribe(
        &self,
        _: &mut Context<'_>,
        topic: &TopicName,
    ) -> Answer<Result<Verdict, HookError>> {
        if &**topic == "quick" {
            return Ok(Verdict::Allow).into();
        }
        Answer::later(std::future::pending())
    }
}

fn subscribes(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|n| {
            let text = format!(r#"{{"type":"subscribe","topic":"t:{n}","ref":{n}}}"#);
            frame(TEXT, text.as_bytes())
        })
        .collect()
}

fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .expect("field")
        .parse()
        .expect("number");
    pages * 4
}

#[tokio::test]
async fn ten_thousand_in_a_row_are_answered_in_order() {
    let server = start((), |_| ()).await;
    let mut ws = Ws::connect(server.address).await;
    let before = resident_kib();
    ws.bytes(&subscribes(10_000)).await;
    for n in 0..10_000 {
        let due = format!(r#"{{"type":"subscribed","topic":"t:{n}","ref":{n}}}"#);
        assert_eq!(ws.text().await, due);
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1_024, "{grown} KiB for 10,000 topics");
}

#[tokio::test]
async fn the_limit_of_topics_is_said_and_kept() {
    let server = start((), |config| config.limits.subscriptions_max = 100).await;
    let mut ws = Ws::connect(server.address).await;
    ws.bytes(&subscribes(10_000)).await;
    let mut allowed = 0;
    for _ in 0..10_000 {
        let text = ws.text().await;
        if text.starts_with(r#"{"type":"subscribed""#) {
            allowed += 1;
        } else {
            assert!(text.ends_with(r#""reason":"RATE_LIMITED"}"#), "{text}");
        }
    }
    assert_eq!(allowed, 100);
}

#[tokio::test]
async fn verdicts_that_never_come_do_not_pile_up() {
    let server = start(Silent, |config| {
        config.limits.pending_topics_max = 50;
        config.open_topics = Some(vec!["*".to_owned()]);
    })
    .await;
    let mut ws = Ws::connect(server.address).await;
    ws.bytes(&subscribes(10_000)).await;
    for _ in 0..9_950 {
        let text = ws.text().await;
        assert!(text.ends_with(r#""reason":"RATE_LIMITED"}"#), "{text}");
    }
    assert_eq!(ws.soon().await, None);
    let mut other = Ws::connect(server.address).await;
    other.subscribe("quick").await;
}

#[tokio::test]
async fn a_batch_beyond_its_limit_is_cut() {
    let server = start((), |_| ()).await;
    let mut ws = Ws::connect(server.address).await;
    let list: Vec<String> = (0..300).map(|n| format!("\"b{n}\"")).collect();
    let list = list.join(",");
    ws.say(&format!(
        r#"{{"type":"subscribe-batch","topics":[{list}],"ref":"r"}}"#
    ))
    .await;
    for n in 0..256 {
        let due = format!(r#"{{"type":"subscribed","topic":"b{n}","ref":"r"}}"#);
        assert_eq!(ws.next().await, Frame::Text(due));
    }
    assert_eq!(ws.soon().await, None);
}
