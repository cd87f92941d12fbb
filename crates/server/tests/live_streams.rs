//! Streams over real sockets: nothing is lost between the subscription and the first value.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::ws::Ws;
use common::{Running, start};
use millstream_live::{App, Ctx, LiveError, Module, Stream};
use millstream_server::with_live;
use parking_lot::Mutex;

/// Shorter than it is by default, and longer than clients take to ask for their streams.
const PARKED_HOLD: Duration = Duration::from_millis(500);

/// Lines of a log, and whether the loader fails.
#[derive(Debug, Default)]
struct State {
    log: Mutex<Vec<String>>,
    broken: Mutex<bool>,
}

type Cx = Ctx<Arc<State>, ()>;

async fn rows(ctx: Cx, room: String, ms: u64) -> Result<Vec<String>, LiveError> {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    if *ctx.state().broken.lock() {
        return Err(LiveError::new("LOAD_FAILED", "the loader failed"));
    }
    Ok(vec![format!("loaded {room}")])
}

async fn serve(state: &Arc<State>, workers: u32) -> Running {
    let stream = Stream::by(|room: String| format!("room:{room}"))
        .load(rows)
        .on_subscribe(async |ctx: Cx, topic| ctx.state().log.lock().push(format!("on {topic}")))
        .on_unsubscribe(async |ctx: Cx, topic, remaining| {
            ctx.state()
                .log
                .lock()
                .push(format!("off {topic} {remaining}"));
        });
    let module = Module::new("st")
        .stream("room", stream)
        .stream(
            "same",
            Stream::by(|room: String| format!("room:{room}")).load(rows),
        )
        .call("say", async |ctx: Cx, room: String, n: u32| {
            ctx.publish(&format!("room:{room}"), "created", &n)
                .map(drop)
        });
    let app = App::new(Arc::clone(state))
        .module(module)
        .build()
        .expect("valid");
    start(with_live(app, ()), |config| {
        config.workers = workers;
        config.limits.parked_hold = PARKED_HOLD;
    })
    .await
}

fn subscribe(id: &str, name: &str, ms: u64) -> String {
    format!(r#"{{"rpc":"st/{name}","id":"{id}","args":["a",{ms}],"stream":true}}"#)
}

async fn say(ws: &mut Ws, n: u32) {
    ws.say(&format!(
        r#"{{"rpc":"st/say","id":"s{n}","args":["a",{n}]}}"#
    ))
    .await;
    assert!(ws.text().await.contains(r#""ok":true"#));
}

const FIRST: &str = r#""ok":true,"data":["loaded a"],"topic":"room:a","merge":"crud","key":"id""#;

#[tokio::test]
async fn events_during_a_slow_load_follow_its_reply_in_order() {
    for workers in [1, 2] {
        let server = serve(&Arc::default(), workers).await;
        let (mut reader, mut writer) = (
            Ws::connect(server.address).await,
            Ws::connect(server.address).await,
        );
        reader.say(&subscribe("r", "room", 300)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        for n in 1..=5 {
            say(&mut writer, n).await;
        }
        let reply = reader.text().await;
        assert!(reply.contains(FIRST), "{reply}");
        for n in 1..=5 {
            let event = reader.text().await;
            assert!(
                event.contains(&format!(r#""event":"created","data":{n}"#)),
                "{event}"
            );
        }
        say(&mut writer, 6).await;
        assert!(reader.text().await.contains(r#""data":6"#));
    }
}

#[tokio::test]
async fn a_second_stream_on_the_topic_does_not_silence_the_first() {
    let server = serve(&Arc::default(), 1).await;
    let (mut reader, mut writer) = (
        Ws::connect(server.address).await,
        Ws::connect(server.address).await,
    );
    reader.say(&subscribe("1", "room", 0)).await;
    assert!(reader.text().await.contains(FIRST));
    reader.say(&subscribe("2", "same", 300)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    say(&mut writer, 1).await;
    assert!(
        reader.text().await.contains(r#""data":1"#),
        "before the second reply"
    );
    assert!(reader.text().await.contains(FIRST));
}

/// What a page does that leaves a stream before its first value has come, and comes back to it: the
/// client reads the second reply alone.
#[tokio::test]
async fn events_wait_for_the_last_of_several_requests() {
    for workers in [1, 2] {
        for leaves in [false, true] {
            let server = serve(&Arc::default(), workers).await;
            let (mut reader, mut writer) = (
                Ws::connect(server.address).await,
                Ws::connect(server.address).await,
            );
            reader.say(&subscribe("1", "room", 150)).await;
            if leaves {
                let frame = r#"{"type":"unsubscribe","topic":"room:a"}"#;
                reader.say(frame).await;
            }
            reader.say(&subscribe("2", "room", 450)).await;
            assert!(reader.text().await.contains(r#""event":"1""#));
            say(&mut writer, 1).await;
            assert!(reader.text().await.contains(r#""event":"2""#), "{leaves}");
            assert!(reader.text().await.contains(r#""data":1"#));
            say(&mut writer, 2).await;
            assert!(reader.text().await.contains(r#""data":2"#));
        }
    }
}

#[tokio::test]
async fn a_request_that_fails_holds_nothing_back_for_others() {
    let state = Arc::<State>::default();
    let server = serve(&state, 1).await;
    let (mut reader, mut writer) = (
        Ws::connect(server.address).await,
        Ws::connect(server.address).await,
    );
    reader.say(&subscribe("1", "room", 100)).await;
    reader.say(&subscribe("2", "same", 300)).await;
    assert!(reader.text().await.contains(FIRST));
    *state.broken.lock() = true;
    say(&mut writer, 1).await;
    let mut seen = [reader.text().await, reader.text().await];
    seen.sort();
    assert!(seen[0].contains("LOAD_FAILED"), "{seen:?}");
    assert!(seen[1].contains(r#""data":1"#), "{seen:?}");
    say(&mut writer, 2).await;
    assert!(reader.text().await.contains(r#""data":2"#));
    // Nobody is told of one without an id, and its events come all the same.
    *state.broken.lock() = false;
    let mut quiet = Ws::connect(server.address).await;
    let frame = r#"{"rpc":"st/room","args":["a",100],"stream":true}"#;
    quiet.say(frame).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    say(&mut writer, 3).await;
    assert!(quiet.text().await.contains(r#""data":3"#));
    say(&mut writer, 4).await;
    assert!(quiet.text().await.contains(r#""data":4"#));
}

#[tokio::test]
async fn control_frames_reach_only_topics_that_a_stream_has_opened() {
    let server = serve(&Arc::default(), 1).await;
    let mut ws = Ws::connect(server.address).await;
    let frame = r#"{"type":"subscribe","topic":"room:a","ref":1}"#;
    ws.say(frame).await;
    // A stream may be about to open it.
    assert_eq!(ws.soon().await, None);
    assert!(ws.text().await.contains("FORBIDDEN"));
    ws.say(&subscribe("r", "room", 0)).await;
    assert!(ws.text().await.contains(FIRST));
    ws.say(frame).await;
    assert!(ws.text().await.contains(r#""type":"subscribed""#));
}

/// What svelte-realtime sends when it has reconnected: all topics that its streams had, and a
/// little later for each stream that it leaves the topic, the request and, behind the reply, a
/// subscribe. A denial of any of these would be shown as the stream's error.
#[tokio::test]
async fn a_client_that_comes_back_is_refused_nothing() {
    for workers in [1, 2] {
        let server = serve(&Arc::default(), workers).await;
        let (mut reader, mut writer) = (
            Ws::connect(server.address).await,
            Ws::connect(server.address).await,
        );
        reader.say(r#"{"type":"hello","caps":["batch"]}"#).await;
        reader
            .say(r#"{"type":"resume","sessionId":"before","lastSeenSeqs":{"room:a":3}}"#)
            .await;
        reader
            .say(r#"{"type":"subscribe-batch","topics":["room:a","room:b"],"ref":1}"#)
            .await;
        assert_eq!(reader.text().await, r#"{"type":"resumed"}"#);
        let mut frames = Vec::new();
        for (reference, room) in [(2, "a"), (3, "b")] {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let request =
                format!(r#"{{"rpc":"st/room","id":"{room}","args":["{room}",10],"stream":true}}"#);
            let topic = format!("room:{room}");
            reader
                .say(&format!(r#"{{"type":"unsubscribe","topic":"{topic}"}}"#))
                .await;
            reader.say(&request).await;
            loop {
                let frame = reader.text().await;
                let replied = frame.contains(r#""ok":true"#);
                frames.push(frame);
                if replied {
                    break;
                }
            }
            let again = format!(r#"{{"type":"subscribe","topic":"{topic}","ref":{reference}}}"#);
            reader.say(&again).await;
            frames.push(reader.text().await);
        }
        tokio::time::sleep(PARKED_HOLD).await;
        say(&mut writer, 1).await;
        frames.push(reader.text().await);
        assert!(frames[frames.len() - 1].contains(r#""event":"created","data":1"#));
        let about = |text: &str| frames.iter().filter(|frame| frame.contains(text)).count();
        assert_eq!(about("subscribe-denied"), 0, "{frames:#?}");
        assert_eq!(about(r#""type":"subscribed""#), 4, "{frames:#?}");
        assert_eq!(about(r#""topic":"room:b","ref":1"#), 1, "{frames:#?}");
        // Nothing is kept of room:a, so that whoever still listens to it has to load it again.
        assert_eq!(about("truncated"), 1, "{frames:#?}");
    }
}

#[tokio::test]
async fn a_failed_load_leaves_nothing_behind() {
    let state = Arc::new(State::default());
    let server = serve(&state, 1).await;
    let (mut reader, mut writer) = (
        Ws::connect(server.address).await,
        Ws::connect(server.address).await,
    );
    *state.broken.lock() = true;
    reader.say(&subscribe("1", "room", 0)).await;
    assert!(reader.text().await.contains("LOAD_FAILED"));
    say(&mut writer, 1).await;
    *state.broken.lock() = false;
    reader.say(&subscribe("2", "room", 0)).await;
    assert!(
        reader.text().await.contains(FIRST),
        "no event of the failed time came first"
    );
    say(&mut writer, 2).await;
    assert!(reader.text().await.contains(r#""data":2"#));
    assert_eq!(
        *state.log.lock(),
        ["on room:a", "off room:a 0", "on room:a"]
    );
}

#[tokio::test]
async fn every_subscription_ends_once_however_it_ends() {
    let state = Arc::new(State::default());
    let server = serve(&state, 1).await;
    let (mut first, mut second) = (
        Ws::connect(server.address).await,
        Ws::connect(server.address).await,
    );
    for ws in [&mut first, &mut second] {
        ws.say(&subscribe("r", "room", 0)).await;
        assert!(ws.text().await.contains(FIRST));
    }
    first
        .say(r#"{"type":"unsubscribe","topic":"room:a"}"#)
        .await;
    first.say(&subscribe("r", "room", 0)).await;
    assert!(first.text().await.contains(FIRST));
    drop(first);
    drop(second);
    let expected = [
        "on room:a",
        "on room:a",
        "off room:a 1",
        "on room:a",
        "off room:a 1",
        "off room:a 0",
    ];
    for _ in 0..200 {
        if state.log.lock().len() == expected.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*state.log.lock(), expected);
}
