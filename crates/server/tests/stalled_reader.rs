//! A reader that stops reading during a flood is skipped, bounded and told; others get it all.

mod common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::ws::{Frame, Ws};
use common::{start, until};
use millstream_core::RawJsonRef;
use millstream_server::{Context, Handle, Hooks, PublishOptions};

const EVENTS: usize = 4_000;
const MARK: &str = r#"{"topic":"flood","event":"end","data":{"reqId":0,"truncated":true}}"#;

#[derive(Clone, Default)]
struct App(Arc<OnceLock<Handle>>);

impl Hooks for App {
    fn open(&self, cx: &mut Context<'_>) {
        self.0.get_or_init(|| cx.handle());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_skipped_and_told_while_others_get_everything() {
    let app = App::default();
    let server = start(app.clone(), |config| {
        config.workers = 2;
        config.backpressure_bytes_max = 128 * 1_024;
    })
    .await;
    let mut stalled = Ws::connect_narrow(server.address).await;
    let mut eager = Vec::new();
    stalled.subscribe("flood").await;
    for _ in 0..3 {
        let mut ws = Ws::connect(server.address).await;
        ws.subscribe("flood").await;
        eager.push(ws);
    }
    let handle = app.0.get().expect("opened").clone();
    let data = format!("\"{}\"", "x".repeat(4_000));
    let data = RawJsonRef::parse(data.as_bytes()).expect("json");
    let mut first = None;
    for n in 0..EVENTS {
        let published = handle.publish("flood", "e", data, PublishOptions::default());
        let seq = published.expect("taken").seq.expect("numbered");
        let due = first.get_or_insert(seq);
        assert_eq!(seq, *due + n as u64);
        let tail = format!("\"seq\":{seq}}}");
        for ws in &mut eager {
            let text = ws.text().await;
            assert!(text.ends_with(&tail), "{}", &text[text.len() - 40..]);
        }
    }
    // The stalled one's worker may still be at the last events, which the readers of the other
    // worker have got already.
    let stats = handle.stats();
    let mut dropped = stats.dropped_newest.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = stats.dropped_newest.load(Ordering::Relaxed);
        if now == dropped {
            break;
        }
        dropped = now;
    }
    assert!(dropped > 100, "{dropped} dropped");
    assert_eq!(stats.dropped(), dropped);
    // It reads again: everything it gets is in order, and it is told what it missed.
    let mut last = first.expect("published") - 1;
    let (mut got, mut marked) = (0, false);
    while got + dropped < EVENTS as u64 || !marked {
        let text = stalled.text().await;
        if text == MARK {
            marked = true;
            continue;
        }
        let (_, seq) = text.rsplit_once(":").expect("a number");
        let seq: u64 = seq.trim_end_matches('}').parse().expect("a number");
        assert!(
            seq == last + 1 || marked,
            "a silent gap between {last} and {seq}"
        );
        last = seq;
        got += 1;
    }
    let published = handle.publish("flood", "e", RawJsonRef::NULL, PublishOptions::default());
    let seq = published.expect("taken").seq.expect("numbered");
    let due = format!(r#"{{"topic":"flood","event":"e","data":null,"seq":{seq}}}"#);
    assert_eq!(stalled.next().await, Frame::Text(due));
}

#[tokio::test]
async fn a_topic_may_ask_for_the_end_instead() {
    let app = App::default();
    let server = start(app.clone(), |config| {
        config.backpressure_bytes_max = 64 * 1_024;
        config.disconnect_topics = Some(vec!["flood".to_owned()]);
    })
    .await;
    let mut ws = Ws::connect_narrow(server.address).await;
    ws.subscribe("flood").await;
    let handle = app.0.get().expect("opened").clone();
    let data = format!("\"{}\"", "x".repeat(60_000));
    let data = RawJsonRef::parse(data.as_bytes()).expect("json");
    // Nothing else happens on this server: the end must not wait for something that does.
    until(async || {
        let _ = handle.publish("flood", "e", data, PublishOptions::default());
        handle.connections() == 0
    })
    .await;
    assert_eq!(handle.stats().slow_closed.load(Ordering::Relaxed), 1);
}
