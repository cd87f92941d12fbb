//! How much more two workers deliver than one, with two cores to themselves.
//!
//! A load generator would need a core of its own, so the readers here do nothing while events are
//! delivered: their sockets have room for a wave, and are emptied between waves. Delivered events
//! per second are those of the hub's own counter, from the publish to the last write.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_core::RawJsonRef;
use millstream_server::{Config, Context, Handle, Hooks, PublishOptions, Server};

/// Every connection holds the topic from the start.
struct Everyone;

impl Hooks for Everyone {
    fn has_upgrade(&self) -> bool {
        true
    }

    fn open(&self, cx: &mut Context<'_>) {
        assert!(cx.subscribe_unchecked("room"), "the first topic");
    }
}

const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Everything that is waiting in a socket is thrown away.
fn empty(socket: &mut TcpStream) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(count) = socket.read(&mut buffer) {
        if count == 0 {
            return;
        }
    }
}

fn connect(address: SocketAddr, readers: usize) -> Vec<TcpStream> {
    let mut sockets = Vec::with_capacity(readers);
    for _ in 0..readers {
        let mut socket = TcpStream::connect(address).expect("connects");
        socket.write_all(REQUEST.as_bytes()).expect("writes");
        socket.set_nonblocking(true).expect("non-blocking");
        sockets.push(socket);
    }
    sockets
}

/// Waits without using a core.
fn until(handle: &Handle, delivered: u64) {
    let began = Instant::now();
    while handle.stats().delivered.load(Ordering::Relaxed) < delivered {
        assert!(began.elapsed() < Duration::from_secs(20), "events got lost");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Events delivered per second, the median of the waves.
fn measure(workers: u32, readers: usize, waves: usize) -> f64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut config = Config::default();
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.workers = workers;
    config.upgrade_rate_limit = 0;
    let server = runtime
        .block_on(
            Server::builder(Everyone)
                .config(config)
                .signals(false)
                .bind(),
        )
        .expect("binds");
    let (address, handle, stopper) = (server.local_addr(), server.handle(), server.stopper());
    let running = runtime.spawn(server.run());
    let mut sockets = connect(address, readers);
    while handle.subscribers("room") < readers as u64 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let data = RawJsonRef::parse(br#"{"id":1,"text":"a payload of sixty-four bytes, or so"}"#)
        .expect("valid");
    let mut rates = Vec::with_capacity(waves);
    let mut delivered = handle.stats().delivered.load(Ordering::Relaxed);
    for _ in 0..waves {
        sockets.iter_mut().for_each(empty);
        std::thread::sleep(Duration::from_millis(20));
        let began = Instant::now();
        handle
            .publish("room", "created", data, PublishOptions::default())
            .expect("published");
        delivered += readers as u64;
        until(&handle, delivered);
        rates.push(readers as f64 / began.elapsed().as_secs_f64());
    }
    drop(sockets);
    stopper.stop();
    stopper.stop();
    runtime
        .block_on(running)
        .expect("ends")
        .expect("ends in order");
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[expect(clippy::print_stdout, reason = "the result of a benchmark")]
fn main() {
    let smoke = std::env::args().any(|argument| argument == "--test");
    let (readers, waves, rounds) = if smoke { (200, 3, 1) } else { (4_000, 40, 5) };
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let one = measure(1, readers, waves);
        let two = measure(2, readers, waves);
        ratios.push(two / one);
        println!(
            "round {round}: one worker {one:.0}/s, two {two:.0}/s, ratio {:.2}",
            two / one
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "median ratio of {rounds} rounds: {:.2}",
        ratios[ratios.len() / 2]
    );
}
