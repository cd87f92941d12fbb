//! Who publishes, and what the topics' numbers are.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Http;

/// The numbers of every topic before anybody subscribed, and now. The last topic is the one that
/// the stalled readers share.
#[derive(Debug)]
pub(crate) struct Board {
    topics: Vec<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    first: AtomicU64,
    head: AtomicU64,
}

impl Board {
    pub(crate) fn new(topics: usize) -> Self {
        Self {
            topics: (0..topics).map(|_| Numbers::default()).collect(),
        }
    }

    /// The index of the topic that the stalled readers share.
    pub(crate) fn hot(&self) -> usize {
        self.topics.len() - 1
    }

    pub(crate) fn name(topic: usize) -> String {
        format!("soak:{topic}")
    }

    /// The last number before anybody subscribed.
    pub(crate) fn first(&self, topic: usize) -> u64 {
        self.topics[topic].first.load(Ordering::Acquire)
    }

    /// The last number given.
    pub(crate) fn head(&self, topic: usize) -> u64 {
        self.topics[topic].head.load(Ordering::Acquire)
    }
}

/// What is published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rate: u32,
    pub(crate) hot_rate: u32,
    pub(crate) length: Duration,
}

/// Publishes once on every topic, so that it is known where its numbers begin.
///
/// # Errors
/// When a publish is refused.
pub(crate) fn number_every_topic(address: SocketAddr, board: &Board) -> Result<(), Box<dyn Error>> {
    let mut http = Http::new(address);
    for (topic, numbers) in board.topics.iter().enumerate() {
        let number = http.publish(&Board::name(topic), "first", "null")?;
        numbers.first.store(number, Ordering::Release);
        numbers.head.store(number, Ordering::Release);
    }
    Ok(())
}

/// Publishes after plan and gives the number of events.
///
/// # Errors
/// When a publish is refused.
pub(crate) fn run(address: SocketAddr, board: &Board, plan: &Plan) -> Result<u64, Box<dyn Error>> {
    let mut http = Http::new(address);
    let ordinary = format!("\"{}\"", "x".repeat(200));
    let large = format!("\"{}\"", "y".repeat(12 * 1_024));
    let (mut sent, mut sent_hot) = (0_u64, 0_u64);
    let started = Instant::now();
    loop {
        let elapsed = started.elapsed();
        if elapsed >= plan.length {
            return Ok(sent + sent_hot);
        }
        let due = |rate: u32| (elapsed.as_secs_f64() * f64::from(rate)) as u64;
        if sent_hot < due(plan.hot_rate) {
            publish(&mut http, board, board.hot(), &large)?;
            sent_hot += 1;
        } else if sent < due(plan.rate) && board.hot() > 0 {
            let topic = usize::try_from(sent)? % board.hot();
            publish(&mut http, board, topic, &ordinary)?;
            sent += 1;
        } else {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn publish(http: &mut Http, board: &Board, topic: usize, data: &str) -> Result<(), Box<dyn Error>> {
    let number = http.publish(&Board::name(topic), "made", data)?;
    let before = board.topics[topic].head.swap(number, Ordering::AcqRel);
    if number == before + 1 {
        Ok(())
    } else {
        Err(format!("topic {topic} went from number {before} to {number}").into())
    }
}
