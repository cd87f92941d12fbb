//! Uploads over real sockets: who sends faster than a function takes is slowed down, by TCP alone.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::ws::{BINARY, Frame, PING, Ws, frame};
use common::{Running, metric, start, until};
use millstream_live::{App, Ctx, Limits, LiveError, Module, Upload, UploadCall};
use millstream_server::{Config, ServerCtx, with_live};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::sleep;

const CHUNK: usize = 60_000;

#[derive(Debug, Default)]
struct State {
    taken: AtomicU64,
    running: AtomicUsize,
    /// Whether the function that waits for it may begin.
    open: AtomicBool,
    ends: Mutex<Vec<String>>,
}

type Shared = Arc<State>;
type Cx = Ctx<Shared, String>;
type Receive = UploadCall<Shared, String>;

/// Takes a chunk, then waits for so many microseconds.
async fn slow(ctx: Cx, mut upload: Upload, micros: u64) -> Result<u64, LiveError> {
    let state = Arc::clone(ctx.state());
    state.running.fetch_add(1, Ordering::Relaxed);
    while let Some(chunk) = upload.next().await {
        match chunk {
            Ok(chunk) => state.taken.fetch_add(chunk.len() as u64, Ordering::Relaxed),
            Err(error) => {
                state.ends.lock().push(error.code().to_owned());
                return Err(error);
            }
        };
        if micros > 0 {
            sleep(Duration::from_micros(micros)).await;
        }
    }
    Ok(upload.bytes())
}

/// Takes nothing before it may.
async fn late(ctx: Cx, upload: Upload, micros: u64) -> Result<u64, LiveError> {
    while !ctx.state().open.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(5)).await;
    }
    slow(ctx, upload, micros).await
}

/// Takes nothing; hears of the end.
async fn stuck(ctx: Cx, upload: Upload) -> Result<(), LiveError> {
    ctx.state().running.fetch_add(1, Ordering::Relaxed);
    let error = upload.cancelled().await;
    ctx.state().ends.lock().push(error.code().to_owned());
    Err(error)
}

async fn serve(change: impl FnOnce(&mut Config)) -> (Running, Shared) {
    let module = Module::new("up")
        .call("ping", async |_: Cx| Ok("pong"))
        .binary("size", async |_: Cx, bytes: bytes::Bytes| Ok(bytes.len()))
        .upload_with("slow", Receive::new(slow))
        .upload_with("late", Receive::new(late))
        .upload_with("narrow", Receive::new(slow).buffered_chunks(4))
        .upload_with("small", Receive::new(slow).max_size(10))
        .upload_with("stuck", Receive::new(stuck).buffered_chunks(4))
        .upload_with(
            "closes",
            Receive::new(async |ctx: Cx, upload: Upload| {
                sleep(Duration::from_millis(100)).await;
                if let Some(conn) = ctx.connection() {
                    conn.close(4_000, "enough");
                }
                Err::<(), _>(upload.cancelled().await)
            })
            .buffered_chunks(4),
        );
    let mut limits = Limits::default();
    limits.messages_in_flight_max = 8;
    let state = Shared::default();
    let app = App::new(Arc::clone(&state)).module(module).limits(limits);
    let server = start(with_live(app.build().expect("valid"), ()), |config| {
        config.message_bytes_max = 65_536;
        change(config);
    })
    .await;
    (server, state)
}

/// A chunk as one masked frame.
fn chunk(upload: u32, number: u32, last: bool, header: &str, payload: &[u8]) -> Vec<u8> {
    let flags = u8::from(number == 0) | u8::from(last) << 1;
    let mut message = vec![1, flags];
    message.extend_from_slice(&upload.to_be_bytes());
    message.extend_from_slice(&number.to_be_bytes());
    if number == 0 {
        let length = u16::try_from(header.len()).expect("short");
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(header.as_bytes());
    }
    message.extend_from_slice(payload);
    frame(BINARY, &message)
}

fn to(path: &str, args: &str) -> String {
    format!(r#"{{"rpc":"up/{path}","args":{args}}}"#)
}

async fn taken(state: &Shared, bytes: u64) {
    until(async || state.taken.load(Ordering::Relaxed) >= bytes).await;
}

async fn running(state: &Shared, count: usize) {
    until(async || state.running.load(Ordering::Relaxed) >= count).await;
}

async fn ends(state: &Shared, code: &str) {
    until(async || *state.ends.lock() == [code]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_megabytes_to_a_slow_function_arrive_and_hold_nobody_up() {
    const CHUNKS: u32 = 840;
    let (server, state) = serve(|_| {}).await;
    let address = server.address;
    let sender = tokio::spawn(async move {
        let mut ws = Ws::connect(address).await;
        let payload = vec![7; CHUNK];
        for number in 0..CHUNKS {
            let last = number == CHUNKS - 1;
            ws.bytes(&chunk(1, number, last, &to("late", "[1000]"), &payload))
                .await;
        }
        ws.text().await
    });
    let mut other = Ws::connect(address).await;
    let mut waits = Vec::new();
    let mut waiting_max = 0;
    until(async || metric(address, "millstream_read_pauses_total").await > 0).await;
    state.open.store(true, Ordering::Relaxed);
    while !sender.is_finished() {
        let began = Instant::now();
        other.say(r#"{"rpc":"up/ping","id":"p"}"#).await;
        other.text().await;
        waits.push(began.elapsed());
        let took = state.taken.load(Ordering::Relaxed);
        let came = metric(address, "millstream_upload_bytes_total").await;
        waiting_max = waiting_max.max(came.saturating_sub(took));
        sleep(Duration::from_millis(5)).await;
    }
    let reply = sender.await.expect("sends");
    let total = u64::from(CHUNKS) * CHUNK as u64;
    assert!(
        total > 50_000_000 && reply.contains(&format!(r#""data":{total}"#)),
        "{reply}"
    );
    waits.sort_unstable();
    assert!(waits.len() > 20, "{}", waits.len());
    let median = waits[waits.len() / 2];
    assert!(median < Duration::from_millis(50), "{waits:?}");
    // 64 chunks, what came while the two numbers were read, and one in the function's hands.
    assert!(
        (1..=100 * CHUNK as u64).contains(&waiting_max),
        "{waiting_max}"
    );
    assert_eq!(metric(address, "millstream_kept_bytes").await, 0);
    assert_eq!(
        metric(address, "millstream_upload_failed_backpressure_total").await,
        0
    );
}

#[tokio::test]
async fn thousands_of_tiny_chunks_in_one_read_fail_nothing() {
    const CHUNKS: u32 = 20_000;
    let (server, _) = serve(|_| {}).await;
    let mut ws = Ws::connect(server.address).await;
    let mut all = Vec::new();
    for number in 0..CHUNKS {
        let last = number == CHUNKS - 1;
        all.extend(chunk(1, number, last, &to("narrow", "[0]"), b"x"));
    }
    ws.bytes(&all).await;
    let reply = ws.text().await;
    assert!(reply.contains(r#""data":20000"#), "{reply}");
    // What waits behind an upload is handled after it, in order.
    ws.bytes(&frame(PING, b"still there")).await;
    assert_eq!(ws.next().await, Frame::Pong(b"still there".to_vec()));
}

#[tokio::test]
async fn many_uploads_of_many_connections_all_arrive() {
    let (server, _) = serve(|config| config.workers = 2).await;
    let address = server.address;
    let client = |speed: u32| async move {
        let mut ws = Ws::connect(address).await;
        let path = if speed.is_multiple_of(2) {
            "slow"
        } else {
            "narrow"
        };
        let header = to(path, &format!("[{}]", speed * 100));
        for number in 0..40 {
            // Three at a time, of one connection.
            for upload in 1..=3 {
                let payload = vec![7; 1_000 * upload as usize];
                let frame = chunk(upload, number, number == 39, &header, &payload);
                ws.bytes(&frame).await;
            }
        }
        let mut replies = Vec::new();
        for _ in 0..3 {
            replies.push(ws.text().await);
        }
        replies.sort_unstable();
        for (reply, upload) in replies.iter().zip(1..) {
            let due = format!(r#""data":{}"#, 40_000 * upload);
            assert!(reply.contains(&due), "{speed}: {reply}");
        }
    };
    let clients: Vec<_> = (0..40).map(|n| tokio::spawn(client(n % 10))).collect();
    for client in clients {
        client.await.expect("arrives");
    }
    assert_eq!(
        metric(address, "millstream_upload_finished_total").await,
        120
    );
    assert_eq!(metric(address, "millstream_kept_bytes").await, 0);
}

/// Begins an upload whose function takes nothing, and fills all there is between.
async fn stall(ws: &mut Ws<TcpStream>) {
    ws.bytes(&chunk(1, 0, false, &to("stuck", "[]"), b"")).await;
    fill(ws).await;
}

async fn fill(ws: &mut Ws<TcpStream>) {
    let payload = vec![7; CHUNK];
    for number in 1.. {
        let frame = chunk(1, number, false, "", &payload);
        let wrote = tokio::time::timeout(Duration::from_millis(300), ws.bytes(&frame)).await;
        if wrote.is_err() {
            return;
        }
        assert!(number < 1_000, "nothing holds the sender");
    }
}

#[tokio::test]
async fn a_peer_that_vanishes_while_nothing_is_read_is_noticed() {
    let (server, state) = serve(|config| config.idle_timeout = Duration::from_secs(8)).await;
    let mut ws = Ws::connect(server.address).await;
    stall(&mut ws).await;
    assert!(state.ends.lock().is_empty());
    drop(ws);
    // Its kernel answers the next ping with a reset.
    ends(&state, "DISCONNECTED").await;
}

#[tokio::test]
async fn a_peer_that_ends_in_order_while_nothing_is_read_is_noticed_at_once() {
    let (server, state) = serve(|_| {}).await;
    let mut ws = Ws::connect(server.address).await;
    for number in 0..10 {
        ws.bytes(&chunk(1, number, false, &to("stuck", "[]"), b"x"))
            .await;
    }
    until(async || metric(server.address, "millstream_read_pauses_total").await == 1).await;
    let began = Instant::now();
    drop(ws);
    ends(&state, "DISCONNECTED").await;
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_function_that_is_stuck_does_not_cost_a_client_that_lives() {
    let (server, state) = serve(|config| config.idle_timeout = Duration::from_secs(8)).await;
    let mut ws = Ws::connect(server.address).await;
    stall(&mut ws).await;
    let began = Instant::now();
    let mut pings = 0;
    while began.elapsed() < Duration::from_secs(12) {
        if let Some(Frame::Ping(_)) = ws.soon().await {
            pings += 1;
        }
    }
    assert!(state.ends.lock().is_empty(), "{:?}", state.ends.lock());
    assert!((2..=4).contains(&pings), "{pings}");
}

#[tokio::test]
async fn a_connection_from_which_nothing_is_read_can_be_closed() {
    let (server, _) = serve(|_| {}).await;
    let mut ws = Ws::connect(server.address).await;
    ws.bytes(&chunk(1, 0, false, &to("closes", "[]"), b""))
        .await;
    for number in 1..10 {
        ws.bytes(&chunk(1, number, false, "", b"x")).await;
    }
    assert!(matches!(ws.next().await, Frame::Close(Some(4_000), _)));
    // The answer is read although it stands behind what was not.
    ws.bytes(&common::ws::close_frame(4_000)).await;
    let began = Instant::now();
    ws.end().await;
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn what_goes_wrong_has_its_code() {
    let (server, state) = serve(|_| {}).await;
    let mut ws = Ws::connect(server.address).await;
    let code = |text: &str, code: &str| assert!(text.contains(code), "{text} is not {code}");
    ws.bytes(&chunk(1, 0, false, &to("slow", "[0]"), b"x"))
        .await;
    taken(&state, 1).await;
    ws.bytes(&frame(BINARY, b"\x02\x10\0\0\0\x01")).await;
    let first = ws.text().await;
    code(&first, "CANCELLED");
    code(&first, r#""__cap":65536"#);
    ends(&state, "CANCELLED").await;
    ws.bytes(&chunk(1, 0, true, &to("small", "[0]"), b"0123456789x"))
        .await;
    code(&ws.text().await, "PAYLOAD_TOO_LARGE");
    for number in 1..=4 {
        ws.bytes(&chunk(number, 0, false, &to("slow", "[0]"), b"x"))
            .await;
    }
    ws.bytes(&chunk(5, 0, false, &to("slow", "[0]"), b"x"))
        .await;
    code(&ws.text().await, "TOO_MANY_UPLOADS");
    running(&state, 5).await;
    // Whoever hears of the end and returns makes room among the messages in flight.
    for round in 0..9_u32 {
        let mut cancel = b"\x02\x10\0\0\0".to_vec();
        let number = 1 + round % 4;
        cancel.push(u8::try_from(number).expect("small"));
        ws.bytes(&frame(BINARY, &cancel)).await;
        code(&ws.text().await, "CANCELLED");
        ws.bytes(&chunk(number, 0, false, &to("slow", "[0]"), b"x"))
            .await;
    }
    let mut call = b"\0\0\x1b{\"rpc\":\"up/size\",\"id\":\"b\"} ".to_vec();
    call[2] = u8::try_from(call.len() - 3).expect("short");
    call.extend_from_slice(&[9; 60_000]);
    ws.bytes(&frame(BINARY, &call)).await;
    code(
        &ws.text().await,
        r#""event":"b","data":{"ok":true,"data":60000}"#,
    );
}

#[tokio::test]
async fn functions_that_ignore_their_end_are_counted_with_what_is_under_way() {
    let ignores = async |_: Cx, _: Upload| {
        sleep(Duration::from_secs(60)).await;
        Ok(())
    };
    let module = Module::new("up").upload_with("run", Receive::new(ignores));
    let mut limits = Limits::default();
    limits.messages_in_flight_max = 3;
    let app = App::new(Shared::default()).module(module).limits(limits);
    let server = start(with_live(app.build().expect("valid"), ()), |_| {}).await;
    let mut ws = Ws::connect(server.address).await;
    for round in 0..5 {
        ws.bytes(&chunk(1, 0, false, &to("run", "[]"), b"x")).await;
        ws.bytes(&frame(BINARY, b"\x02\x10\0\0\0\x01")).await;
        let due = if round < 3 { "CANCELLED" } else { "OVERLOADED" };
        let reply = ws.text().await;
        assert!(reply.contains(due), "{round}: {reply}");
    }
}

#[tokio::test]
async fn without_room_for_what_was_read_an_upload_fails_by_its_own_limit() {
    let (server, state) = serve(|config| {
        config.workers = 1;
        config.paused_bytes_max = 0;
    })
    .await;
    let mut ws = Ws::connect(server.address).await;
    let header = to("stuck", "[]");
    let mut burst = chunk(7, 0, false, &header, b"x");
    // More than wait while reading pauses, which is 4, and than are let in by a late pause, 1,024.
    for number in 1..1_200 {
        burst.extend_from_slice(&chunk(7, number, false, "", b"x"));
    }
    ws.bytes(&burst).await;
    let reply = loop {
        let text = ws.text().await;
        if text.contains("__upload") {
            break text;
        }
    };
    assert!(reply.contains("FLOW_BACKPRESSURE"), "{reply}");
    ends(&state, "FLOW_BACKPRESSURE").await;
}
