//! The test harness itself: what it does for authors, and what it does not hide.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use bytes::Bytes;
use millstream_hub::Pattern;
use millstream_live::testing::{Chaos, Settings, Status, Testbed, assert_denied};
use millstream_live::{
    App, BinaryCall, Call, Ctx, LiveError, Lock, Module, Page, Rate, Stream, Upload, UploadCall,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

type Cx = Ctx<State, String>;

#[derive(Default)]
struct State {
    rows: Mutex<Vec<Value>>,
    log: Mutex<Vec<String>>,
}

async fn add(ctx: Cx, text: String) -> Result<usize, LiveError> {
    let id = ctx.state().rows.lock().len();
    let row = json!({"id": id, "text": text});
    ctx.state().rows.lock().push(row.clone());
    ctx.publish("rows", "created", &row)?;
    Ok(id)
}

async fn slow(ctx: Cx, millis: u64) -> Result<u64, LiveError> {
    ctx.platform().sleep(Duration::from_millis(millis)).await;
    Ok(millis)
}

async fn pages(ctx: Cx) -> Result<Page<Value, u64>, LiveError> {
    let at = ctx.cursor().and_then(|cursor| cursor.as_u64()).unwrap_or(0);
    Ok(Page {
        data: vec![json!({"id": at})],
        has_more: at < 2,
        cursor: Some(at + 1),
    })
}

fn app() -> App<State, String> {
    let rows = Stream::fixed("rows")
        .load(async |ctx: Cx| Ok(ctx.state().rows.lock().clone()))
        .on_unsubscribe(async |ctx: Cx, topic: std::sync::Arc<str>, others| {
            ctx.state()
                .log
                .lock()
                .push(format!("left {topic}, {others} others"));
        });
    let module = Module::new("demo")
        .call("add", add)
        .call("slow", slow)
        .call("panics", async |_: Cx| -> Result<(), _> {
            panic!("at the disco")
        })
        .call("background", async |ctx: Cx| {
            ctx.platform()
                .spawn(Box::pin(async { panic!("in the back") }));
            Ok(())
        })
        .stream("pages", Stream::fixed("pages").load(pages))
        .stream("rows", rows);
    App::new(State::default()).module(module).build().unwrap()
}

#[test]
fn calls_streams_and_events() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let bob = t.connect("bob".to_owned());
    let list = t.subscribe(bob, "demo/rows", ());
    assert_eq!(t.value(list), json!([]));
    assert_eq!(t.call(ada, "demo/add", ["milk"]), Ok(json!(0)));
    assert_eq!(t.value(list), json!([{"id": 0, "text": "milk"}]));
    t.publish("rows", "updated", &json!({"id": 0, "text": "oat milk"}));
    assert_eq!(t.value(list), json!([{"id": 0, "text": "oat milk"}]));
    assert_eq!(t.events(list).len(), 2);
    assert_eq!(t.subscribers("rows"), 1);
    assert_eq!(
        (t.topic(list), t.status(list)),
        (Some("rows"), Status::Connected)
    );
    assert_denied(t.call(ada, "demo/none", ()), "NOT_FOUND");
}

#[test]
fn time_passes_only_when_asked() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let call = t.start(ada, "demo/slow", [500]);
    t.settle();
    assert_eq!(t.outcome(call), None);
    t.advance(Duration::from_millis(499));
    assert_eq!(t.outcome(call), None);
    t.advance(Duration::from_millis(1));
    assert_eq!(t.outcome(call), Some(&Ok(json!(500))));
    assert_eq!(t.call_as::<u64>(ada, "demo/slow", [2_000]), Ok(2_000));
    assert_eq!(t.elapsed(), Duration::from_millis(2_500));
    assert_denied(t.call(ada, "demo/slow", [40_000]), "TIMEOUT");
}

#[test]
fn a_stream_keeps_its_value_for_a_while_without_readers() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let list = t.subscribe(ada, "demo/rows", ());
    t.unsubscribe(list);
    assert_eq!((t.subscribers("rows"), t.status(list)), (0, Status::Idle));
    assert_eq!(*t.state().log.lock(), ["left rows, 0 others"]);
    t.call(ada, "demo/add", ["milk"]).unwrap();
    assert_eq!(t.value(list), json!([]), "nobody listens");
    t.resubscribe(list);
    assert_eq!(t.value(list)[0]["text"], "milk");
    t.unsubscribe(list);
    t.advance(Duration::from_secs(60));
    assert_eq!(t.try_value(list), None);
    t.resubscribe(list);
    assert_eq!(t.value(list)[0]["text"], "milk");
}

#[test]
fn a_restart_loses_connections_and_keeps_the_state() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let list = t.subscribe(ada, "demo/rows", ());
    t.call(ada, "demo/add", ["milk"]).unwrap();
    let call = t.start(ada, "demo/slow", [500]);
    t.settle();
    t.restart();
    assert!(!t.is_connected(ada));
    assert_eq!(
        t.outcome(call).unwrap().as_ref().unwrap_err().code,
        "DISCONNECTED"
    );
    assert_eq!((t.subscribers("rows"), t.tasks()), (0, 0));
    assert_eq!(t.value(list)[0]["text"], "milk", "the old value is shown");
    t.reconnect(ada);
    assert_eq!((t.subscribers("rows"), t.replies(list)), (1, 2));
}

/// The client asks for the topics first, leaves them, and then asks for the streams.
#[test]
fn a_stream_shows_no_error_while_its_client_comes_back() {
    for workers in [1, 2] {
        let settings = Settings {
            workers,
            // Then time does not pass by itself.
            chaos: Chaos {
                shuffle: true,
                ..Chaos::NONE
            },
            ..Settings::default()
        };
        let mut t = Testbed::with(app(), settings);
        let ada = t.connect("ada".to_owned());
        let streams = t.subscribe_all(
            ada,
            &[("demo/rows", json!(null)), ("demo/pages", json!(null))],
        );
        t.settle();
        t.restart();
        t.reconnect(ada);
        assert!(
            streams
                .iter()
                .all(|stream| t.status(*stream) == Status::Reconnecting)
        );
        for _ in 0..150 {
            t.advance(Duration::from_millis(1));
            for stream in &streams {
                assert_eq!(t.error(*stream), None);
                assert_ne!(t.status(*stream), Status::Error);
            }
        }
        assert!(
            streams
                .iter()
                .all(|stream| t.status(*stream) == Status::Connected)
        );
        t.advance(Duration::from_secs(10));
        let answers = |kind: &str| t.frames(ada).filter(|frame| frame.contains(kind)).count();
        assert_eq!(answers("subscribe-denied"), 0);
        assert_eq!(
            answers(r#""type":"subscribed""#),
            6,
            "at first, in the batch, and again"
        );
    }
}

#[test]
fn batches_and_the_errors_behind_them() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let calls = [
        ("demo/add", json!(["a"])),
        ("demo/add", json!([1])),
        ("demo/add", json!(["b"])),
    ];
    let outcomes = t.batch_in_order(ada, &calls);
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(json!(0)), &Ok(json!(1))));
    let refused = assert_denied(outcomes[1].clone(), "VALIDATION");
    assert_eq!(refused.issues[0].path, ["0"]);
    assert_eq!(
        t.frames(ada)
            .filter(|frame| frame.contains("__batch"))
            .count(),
        1
    );
    let streams = t.subscribe_all(ada, &[("demo/rows", json!(null)), ("demo/none", json!([]))]);
    assert_eq!(t.value(streams[0]).as_array().unwrap().len(), 2);
    assert_eq!(t.error(streams[1]).unwrap().code, "NOT_FOUND");
    assert_eq!(t.try_value(streams[1]), None);
}

#[test]
fn panics_and_unexpected_errors_are_seen_by_the_test() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    assert_denied(t.call(ada, "demo/panics", ()), "INTERNAL_ERROR");
    let errors = t.errors();
    assert_eq!((errors.len(), errors[0].path.as_str()), (1, "demo/panics"));
    assert!(errors[0].message.contains("at the disco"), "{errors:?}");
    t.call(ada, "demo/background", ()).unwrap();
    assert_eq!(t.panics(), ["in the back"]);
}

#[test]
fn pages_are_added_until_there_are_no_more() {
    let mut t = Testbed::new(app());
    let ada = t.connect("ada".to_owned());
    let pages = t.subscribe(ada, "demo/pages", ());
    assert_eq!(
        (t.value(pages), t.has_more(pages)),
        (json!([{"id": 0}]), true)
    );
    assert_eq!(t.load_more(pages), Ok(true));
    assert_eq!(t.load_more(pages), Ok(false));
    assert_eq!(t.value(pages), json!([{"id": 0}, {"id": 1}, {"id": 2}]));
    assert_eq!(t.load_more(pages), Ok(false), "nothing is asked");
}

#[test]
fn a_slow_reader_is_told_to_reload_and_does() {
    let mut settings = Settings {
        socket_bytes: 256,
        ..Settings::default()
    };
    settings.hub.backlog_bytes_max = 1_000;
    let mut t = Testbed::with(app(), settings);
    let (ada, bob) = (t.connect("ada".to_owned()), t.connect("bob".to_owned()));
    let list = t.subscribe(bob, "demo/rows", ());
    t.stop_reading(bob);
    for n in 0..50 {
        t.call(ada, "demo/add", [format!("row {n}")]).unwrap();
    }
    assert_eq!(t.value(list), json!([]));
    assert!(t.stats().dropped() > 0);
    t.start_reading(bob);
    assert_eq!(t.value(list).as_array().unwrap().len(), 50);
    assert_eq!(t.replies(list), 2, "loaded again");
}

#[test]
fn what_the_subscribe_hook_refuses_is_an_error_of_the_stream() {
    let settings = Settings {
        deny: vec![("rows".to_owned(), "KYC_PENDING".to_owned())],
        open_topics: vec![Pattern::new("free:*")],
        ..Settings::default()
    };
    let mut t = Testbed::with(app(), settings);
    let ada = t.connect("ada".to_owned());
    let list = t.subscribe(ada, "demo/rows", ());
    assert_eq!(t.error(list).unwrap().code, "KYC_PENDING");
    t.listen(ada, "free:1");
    t.listen(ada, "secret");
    assert_eq!((t.subscribers("free:1"), t.subscribers("secret")), (1, 0));
}

#[test]
fn work_of_the_server_runs_on_the_same_time() {
    let mut t = Testbed::new(app());
    let ctx = t.context();
    let woken = t.run(async move {
        ctx.platform().sleep(Duration::from_secs(90)).await;
        ctx.platform().now()
    });
    assert_eq!(woken.as_millis(), 90_000);
    assert_eq!(t.elapsed(), Duration::from_secs(90));
}

/// Two clients, two workers, and everything that can go wrong.
fn rough(seed: u64) -> Vec<String> {
    let settings = Settings {
        seed,
        workers: 2,
        chaos: Chaos::ROUGH,
        ..Settings::default()
    };
    let mut t = Testbed::with(app(), settings);
    let (ada, bob) = (t.connect("ada".to_owned()), t.connect("bob".to_owned()));
    let list = t.subscribe(bob, "demo/rows", ());
    for n in 0..20 {
        t.start(ada, "demo/add", [format!("row {n}")]);
        t.advance(Duration::from_millis(7));
        if n == 10 {
            t.disconnect(bob);
            t.reconnect(bob);
        }
    }
    t.quiesce();
    assert_eq!(t.value(list).as_array().unwrap().len(), 20);
    t.frames(bob).map(str::to_owned).collect()
}

#[test]
fn a_seed_decides_everything() {
    assert_eq!(rough(1), rough(1));
    assert_ne!(rough(1), rough(2));
}

/// The sizes of the chunks.
async fn sizes(ctx: Cx, mut file: Upload) -> Result<Vec<usize>, LiveError> {
    let mut sizes = Vec::new();
    while let Some(chunk) = file.next().await {
        match chunk {
            Ok(chunk) => sizes.push(chunk.len()),
            Err(error) => {
                ctx.state().log.lock().push(error.code().to_owned());
                return Err(error);
            }
        }
    }
    Ok(sizes)
}

/// Takes a chunk every 10 ms.
async fn slowly(ctx: Cx, mut file: Upload) -> Result<Vec<u8>, LiveError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = file.next().await {
        bytes.extend_from_slice(&chunk?);
        ctx.state()
            .log
            .lock()
            .push(format!("{} bytes", bytes.len()));
        ctx.platform().sleep(Duration::from_millis(10)).await;
    }
    Ok(bytes)
}

fn files() -> App<State, String> {
    let slowly = UploadCall::new(slowly).buffered_chunks(4);
    let module = Module::new("files")
        .upload("sizes", sizes)
        .upload_with("slowly", slowly)
        .call("add", add)
        .binary_with(
            "measure",
            BinaryCall::new(async |_: Cx, bytes: Bytes, unit: String| {
                Ok(format!("{} {unit}", bytes.len()))
            })
            .max_size(1_000),
        );
    App::new(State::default()).module(module).build().unwrap()
}

#[test]
fn calls_with_bytes() {
    let mut t = Testbed::new(files());
    let ada = t.connect("ada".to_owned());
    assert_eq!(
        t.call_binary(ada, "files/measure", ["bytes"], &[0; 1_000]),
        Ok(json!("1000 bytes"))
    );
    let refused = t.call_binary(ada, "files/measure", ["bytes"], &[0; 1_001]);
    assert_denied(refused, "PAYLOAD_TOO_LARGE");
    assert_denied(
        t.call_binary(ada, "files/add", ["x"], b"x"),
        "INVALID_REQUEST",
    );
    let started = t.start_binary(ada, "files/measure", ["bytes"], b"");
    t.disconnect(ada);
    assert_denied(t.wait(started), "DISCONNECTED");
}

#[test]
fn uploads_are_cut_as_the_client_cuts_them() {
    let mut t = Testbed::new(files());
    let ada = t.connect("ada".to_owned());
    let header = r#"{"rpc":"files/sizes","args":[]}"#.len();
    let rest = |total: usize, frame: usize| {
        let first = frame - 12 - header;
        json!([first, total - first])
    };
    // Nothing was said of the size before the first reply.
    let first = t.upload(ada, "files/sizes", (), &[7; 20_000]);
    assert_eq!(first, Ok(rest(20_000, 12_288)));
    let second = t.upload(ada, "files/sizes", (), &[7; 100_000]);
    assert_eq!(second, Ok(rest(100_000, 65_536)));
    assert_eq!(
        t.upload_as::<Vec<usize>>(ada, "files/sizes", (), b""),
        Ok(vec![])
    );
    assert_denied(t.upload(ada, "files/none", (), b"x"), "NOT_FOUND");
    assert_denied(t.upload(ada, "files/add", (), b"x"), "INVALID_REQUEST");

    let settings = Settings {
        upload_frame_bytes: Some(1_000),
        ..Settings::default()
    };
    let mut t = Testbed::with(files(), settings);
    let ada = t.connect("ada".to_owned());
    let small = t.upload(ada, "files/sizes", (), &[7; 1_500]);
    assert_eq!(small, Ok(rest(1_500, 1_000)));
}

#[test]
fn uploads_piece_by_piece_and_their_endings() {
    let mut t = Testbed::new(files());
    let ada = t.connect("ada".to_owned());
    let whole = t.start_upload(ada, "files/sizes", ());
    t.send_chunk(whole, b"ab");
    t.send_chunk(whole, b"c");
    assert_eq!(t.outcome(whole), None);
    t.send_last_chunk(whole, b"");
    assert_eq!(t.outcome(whole), Some(&Ok(json!([2, 1]))));
    t.cancel(whole);
    assert_eq!(t.wait(whole), Ok(json!([2, 1])), "it was over");

    let cancelled = t.start_upload(ada, "files/sizes", ());
    t.send_chunk(cancelled, b"a");
    t.cancel(cancelled);
    assert_denied(t.wait(cancelled), "CANCELLED");
    let lost = t.start_upload(ada, "files/sizes", ());
    t.send_chunk(lost, b"a");
    t.disconnect(ada);
    assert_denied(t.wait(lost), "DISCONNECTED");
    assert_eq!(*t.state().log.lock(), ["CANCELLED", "DISCONNECTED"]);

    let offline = t.start_upload(ada, "files/sizes", ());
    assert_denied(t.wait(offline), "DISCONNECTED");
    t.reconnect(ada);
    assert_eq!(t.upload(ada, "files/sizes", (), b"abc"), Ok(json!([3])));
    assert_eq!(t.tasks(), 1, "one looks for silent uploads");
    t.advance(Duration::from_secs(300));
    assert_eq!(t.tasks(), 0);
}

#[test]
fn a_slow_function_pauses_its_client_and_nobody_else() {
    let mut t = Testbed::new(files());
    let (ada, bob) = (t.connect("ada".to_owned()), t.connect("bob".to_owned()));
    let upload = t.start_upload(ada, "files/slowly", ());
    for n in 0..20_u8 {
        t.send_chunk(upload, &[n]);
    }
    t.send_last_chunk(upload, &[20]);
    let behind = t.start(ada, "files/add", ["behind"]);
    t.settle();
    assert!(t.is_paused(ada) && !t.is_paused(bob));
    assert_eq!(t.call(bob, "files/add", ["beside"]), Ok(json!(0)));
    t.advance(Duration::from_millis(50));
    assert_eq!(t.outcome(behind), None, "it waits behind the chunks");
    let bytes: Vec<u8> = (0..=20).collect();
    assert_eq!(t.wait(upload), Ok(json!(bytes)));
    assert_eq!(t.wait(behind), Ok(json!(1)));
    assert_eq!((t.elapsed().as_millis(), t.is_paused(ada)), (210, false));
}

#[test]
fn many_chunks_in_one_read_wait_as_well() {
    let settings = Settings {
        upload_frame_bytes: Some(100),
        ..Settings::default()
    };
    let mut t = Testbed::with(files(), settings);
    let ada = t.connect("ada".to_owned());
    let bytes: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    let upload = t.upload(ada, "files/slowly", (), &bytes);
    assert_eq!(upload, Ok(json!(bytes)));
}

#[test]
fn the_end_of_a_connection_ends_its_pause() {
    let mut t = Testbed::new(files());
    let ada = t.connect("ada".to_owned());
    let upload = t.start_upload(ada, "files/slowly", ());
    for n in 0..20_u8 {
        t.send_chunk(upload, &[n]);
    }
    assert!(t.is_paused(ada));
    t.disconnect(ada);
    assert_denied(t.wait(upload), "DISCONNECTED");
    t.advance(Duration::from_secs(1));
    let last = t.state().log.lock().pop();
    assert_eq!(
        last.as_deref(),
        Some("1 bytes"),
        "what waited is not taken any more"
    );
    t.reconnect(ada);
    assert!(!t.is_paused(ada));
}

#[test]
fn uploads_arrive_whole_whatever_goes_wrong() {
    for seed in 0..20 {
        let settings = Settings {
            seed,
            workers: 2,
            chaos: Chaos::ROUGH,
            upload_frame_bytes: Some(64),
            ..Settings::default()
        };
        let mut t = Testbed::with(files(), settings);
        let (ada, bob) = (t.connect("ada".to_owned()), t.connect("bob".to_owned()));
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        let cancelled = t.start_upload(bob, "files/slowly", ());
        t.send_chunk(cancelled, b"a");
        assert_eq!(t.upload(ada, "files/slowly", (), &bytes), Ok(json!(bytes)));
        t.cancel(cancelled);
        assert_denied(t.wait(cancelled), "CANCELLED");
        t.advance(Duration::from_secs(600));
        assert_eq!((t.tasks(), t.panics()), (0, vec![]), "seed {seed}");
    }
}

#[test]
fn a_call_hears_that_its_connection_has_closed() {
    let module = Module::new("m").call("wait", async |ctx: Cx| {
        assert!(!ctx.is_closed());
        ctx.closed().await;
        ctx.state()
            .log
            .lock()
            .push(format!("closed: {}", ctx.is_closed()));
        Ok(())
    });
    let app = App::new(State::default()).module(module).build().unwrap();
    let mut t = Testbed::new(app);
    let ada = t.connect("ada".to_owned());
    let call = t.start(ada, "m/wait", ());
    t.settle();
    t.disconnect(ada);
    assert_eq!(*t.state().log.lock(), ["closed: true"]);
    assert_denied(t.wait(call), "DISCONNECTED");
    t.reconnect(ada);
    let again = t.start(ada, "m/wait", ());
    t.settle();
    assert_eq!(t.outcome(again), None, "the new connection is open");
}

#[test]
fn policies_follow_the_time_of_the_test() {
    let work = async |ctx: Cx, millis: u64| {
        ctx.platform().sleep(Duration::from_millis(millis)).await;
        Ok(ctx.platform().now().as_millis())
    };
    let second = Duration::from_secs(1);
    let module = Module::new("m")
        .call_with("limited", Call::new(work).rate_limit(Rate::new(1, second)))
        .call_with(
            "locked",
            Call::new(work).lock(Lock::fixed("all").max_wait(second)),
        )
        .call_with("short", Call::new(work).deadline(second));
    let app = App::new(State::default()).module(module).build().unwrap();
    let mut t = Testbed::new(app);
    let ada = t.connect("ada".to_owned());

    assert_eq!(t.call(ada, "m/limited", [0]), Ok(json!(0)));
    let refused = assert_denied(t.call(ada, "m/limited", [0]), "RATE_LIMITED");
    let wait = refused.retry_after_ms.unwrap();
    t.advance(Duration::from_millis(wait - 1));
    assert_denied(t.call(ada, "m/limited", [0]), "RATE_LIMITED");
    // The share of the window before last is gone a moment later.
    t.advance(Duration::from_millis(2));
    assert_eq!(t.call(ada, "m/limited", [0]), Ok(json!(wait + 1)));

    let holder = t.start(ada, "m/locked", [1_500]);
    let (next, patient) = (t.start(ada, "m/locked", [0]), t.elapsed());
    t.advance(Duration::from_millis(999));
    assert_eq!(t.outcome(next), None);
    let late = t.start(ada, "m/locked", [0]);
    t.advance(Duration::from_millis(1));
    assert_denied(t.outcome(next).unwrap().clone(), "LOCK_TIMEOUT");
    let done = u64::try_from(patient.as_millis()).unwrap() + 1_500;
    assert_eq!(
        (t.wait(holder), t.wait(late)),
        (Ok(json!(done)), Ok(json!(done)))
    );

    let (before, long) = (t.elapsed(), t.start(ada, "m/short", [1_001]));
    assert_denied(t.wait(long), "TIMEOUT");
    assert_eq!(t.elapsed() - before, second);
    assert!(t.call(ada, "m/short", [999]).is_ok());
    assert_eq!(t.tasks(), 0);
}
