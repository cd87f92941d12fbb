//! How much more two workers deliver than one, with two cores to themselves.
//!
//! A load generator would need a core of its own, so the readers here do nothing while events are
//! delivered: their sockets have room for a wave, and are emptied between waves. Delivered events
//! per second are those of the hub's own counter, from the publish to the last write. Two servers
//! that share nothing show what the machine allows.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_core::RawJsonRef;
use millstream_server::{Config, Context, Handle, Hooks, PublishOptions, Server, Stopped, Stopper};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

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

/// A server with its readers.
struct Site {
    handle: Handle,
    stopper: Stopper,
    running: JoinHandle<std::io::Result<Stopped>>,
    sockets: Vec<TcpStream>,
    delivered: u64,
}

impl Site {
    fn start(runtime: &Runtime, workers: u32, readers: usize) -> Self {
        let mut config = Config::default();
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.workers = workers;
        config.upgrade_rate_limit = 0;
        let bind = Server::builder(Everyone)
            .config(config)
            .signals(false)
            .bind();
        let server = runtime.block_on(bind).expect("binds");
        let (address, handle, stopper) = (server.local_addr(), server.handle(), server.stopper());
        let running = runtime.spawn(server.run());
        let sockets = connect(address, readers);
        while handle.subscribers("room") < readers as u64 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let delivered = handle.stats().delivered.load(Ordering::Relaxed);
        Self {
            handle,
            stopper,
            running,
            sockets,
            delivered,
        }
    }

    fn publish(&mut self) {
        let data = RawJsonRef::parse(br#"{"id":1,"text":"a payload of sixty-four bytes, or so"}"#)
            .expect("valid");
        let options = PublishOptions::default();
        self.handle
            .publish("room", "created", data, options)
            .expect("published");
        self.delivered += self.sockets.len() as u64;
    }

    /// Waits without using a core.
    fn wait(&self) {
        let began = Instant::now();
        while self.handle.stats().delivered.load(Ordering::Relaxed) < self.delivered {
            assert!(began.elapsed() < Duration::from_secs(20), "events got lost");
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn stop(self, runtime: &Runtime) {
        drop(self.sockets);
        self.stopper.stop();
        self.stopper.stop();
        runtime
            .block_on(self.running)
            .expect("ends")
            .expect("ends in order");
    }
}

/// Events delivered per second by all sites together, the median of the waves.
fn measure(sites: usize, workers: u32, readers: usize, waves: usize) -> f64 {
    let runtime = Runtime::new().expect("a runtime");
    let mut sites: Vec<Site> = (0..sites)
        .map(|_| Site::start(&runtime, workers, readers / sites))
        .collect();
    let mut rates = Vec::with_capacity(waves);
    // The first wave is waited for by looking; it does not count.
    let mut likely = Duration::ZERO;
    for wave in 0..=waves {
        sites
            .iter_mut()
            .flat_map(|site| &mut site.sockets)
            .for_each(empty);
        std::thread::sleep(Duration::from_millis(20));
        let began = Instant::now();
        sites.iter_mut().for_each(Site::publish);
        // Not looking at all for most of the time it took so far.
        std::thread::sleep(likely.mul_f64(0.9));
        sites.iter().for_each(Site::wait);
        let took = began.elapsed();
        if wave == 0 {
            likely = took;
            continue;
        }
        likely = likely.min(took);
        rates.push(readers as f64 / took.as_secs_f64());
    }
    for site in sites {
        site.stop(&runtime);
    }
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "the result of a benchmark")]
fn main() {
    let smoke = std::env::args().any(|argument| argument == "--test");
    let (readers, waves, rounds) = if smoke { (200, 3, 1) } else { (4_000, 60, 7) };
    let (mut ratios, mut limits) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let one = measure(1, 1, readers, waves);
        let two = measure(1, 2, readers, waves);
        let apart = measure(2, 1, readers, waves);
        ratios.push(two / one);
        limits.push(apart / one);
        println!(
            "round {round}: one worker {one:.0}/s, two workers {two:.0}/s ({:.2}), \
             two servers that share nothing {apart:.0}/s ({:.2})",
            two / one,
            apart / one
        );
    }
    let (ratio, limit) = (median(ratios), median(limits));
    println!("medians of {rounds} rounds: {ratio:.2}; what the machine allows: {limit:.2}");
}
