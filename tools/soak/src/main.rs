//! Soak: thousands of connections on a running server, each on one topic, while events are
//! published over HTTP. One in a hundred stops reading; halfway through, half of all connections
//! are cut and come back at once. In the end every frame has to be accounted for.
//!
//! What is demanded:
//!
//! - a connection that reads sees every number of its topic from its subscribe to the end;
//! - one that was cut sees every number again from its resubscribe on, and has been told to reload
//!   if it missed any in between;
//! - whatever a stalled one did not get stands in a counter of `/metrics`, and it was told;
//! - the server's memory is flat from the first third to the last, and what stalled readers may
//!   hold is bounded.
#![allow(
    clippy::print_stdout,
    reason = "a command-line program speaks through standard output"
)]

mod client;
mod conn;
mod frames;
mod http;
mod judge;
mod process;
mod publisher;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::client::Clients;
use crate::judge::Judge;
use crate::publisher::{Board, Plan};

/// A load with a verdict.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// The server, such as 127.0.0.1:3000.
    #[arg(long, value_name = "ADDR:PORT")]
    address: SocketAddr,
    /// Its process, for memory and the limit of open files.
    #[arg(long, value_name = "PID")]
    server_pid: u32,
    /// Connections, all told.
    #[arg(long, value_name = "N", default_value = "9000")]
    connections: usize,
    /// How long to publish. Not longer than the server's idle timeout, or it ends the stalled
    /// readers, which answer no pings.
    #[arg(long, value_name = "N", default_value = "60")]
    #[arg(value_parser = clap::value_parser!(u64).range(5..=80))]
    seconds: u64,
    /// Ordinary topics; the stalled readers share one more.
    #[arg(long, value_name = "N", default_value = "90")]
    topics: usize,
    /// Events a second over all ordinary topics.
    #[arg(long, value_name = "N", default_value = "300")]
    rate: u32,
    /// Events a second on the topic of the stalled readers, 12 KiB each.
    #[arg(long, value_name = "N", default_value = "40")]
    hot_rate: u32,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("the soak could not be run: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let files = arguments.connections as u64 + 1_000;
    process::raise_file_limit(std::process::id(), files)?;
    process::raise_file_limit(arguments.server_pid, files)?;

    let stalled = arguments.connections / 100;
    let board = Arc::new(Board::new(arguments.topics + 1));
    publisher::number_every_topic(arguments.address, &board)?;
    let drops_before = http::drops(arguments.address)?;

    let mut clients = Clients::new(arguments.address, arguments.connections, stalled, &board)?;
    let opening = Instant::now();
    clients.open_all(Duration::from_secs(120))?;
    println!(
        "{} connections open in {:.1?}",
        arguments.connections,
        opening.elapsed()
    );
    clients.stall();

    let mut judge = Judge::new(arguments.server_pid, stalled)?;
    let length = Duration::from_secs(arguments.seconds);
    let plan = Plan {
        rate: arguments.rate,
        hot_rate: arguments.hot_rate,
        length,
    };
    let publisher = {
        let (address, board) = (arguments.address, Arc::clone(&board));
        thread::spawn(move || publisher::run(address, &board, &plan).map_err(|e| e.to_string()))
    };
    let started = Instant::now();
    let mut stormed = false;
    while !publisher.is_finished() {
        clients.turn(Duration::from_millis(50))?;
        judge.sample(started.elapsed())?;
        if !stormed && started.elapsed() > length / 2 {
            stormed = true;
            let cut = clients.storm();
            println!("cut {cut} connections; they come back at once");
        }
    }
    let published = publisher.join().map_err(|_| "the publisher panicked")??;
    println!("published {published} events in {:.1?}", started.elapsed());

    // Everyone back, then everything still on its way, then what stalled readers left unread.
    clients.open_all(Duration::from_secs(60))?;
    clients.settle(&board, Duration::from_secs(20))?;
    judge.sample_end(length)?;
    clients.unstall()?;
    clients.drain(Duration::from_secs(2), Duration::from_secs(30))?;
    let drops = http::drops(arguments.address)? - drops_before;
    Ok(judge.verdict(&clients, &board, drops, length))
}
