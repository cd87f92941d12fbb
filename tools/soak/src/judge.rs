//! Adds everything up and says what does not fit.

use std::error::Error;
use std::time::Duration;

use crate::client::Clients;
use crate::conn::Conn;
use crate::process::resident_bytes;
use crate::publisher::Board;

const MIB: u64 = 1_024 * 1_024;
/// What a stalled reader may hold: the server's default backlog, as much again for what is on its
/// way, and allocator overhead.
const STALLED_BYTES_MAX: u64 = 2 * MIB;
/// Growth over the run that is taken for noise: a tenth, and this.
const GROWTH_NOISE: u64 = 16 * MIB;

/// Memory samples, and in the end the verdict.
pub(crate) struct Judge {
    pid: u32,
    stalled: u64,
    before: u64,
    samples: Vec<(Duration, u64)>,
}

impl Judge {
    pub(crate) fn new(pid: u32, stalled: usize) -> Result<Self, Box<dyn Error>> {
        let before = resident_bytes(pid)?;
        Ok(Self {
            pid,
            stalled: stalled as u64,
            before,
            samples: Vec::new(),
        })
    }

    /// Notes the server's memory, five times a second at most.
    pub(crate) fn sample(&mut self, at: Duration) -> Result<(), Box<dyn Error>> {
        let last = self.samples.last().map_or(Duration::ZERO, |(at, _)| *at);
        if at >= last + Duration::from_millis(200) {
            self.samples.push((at, resident_bytes(self.pid)?));
        }
        Ok(())
    }

    pub(crate) fn sample_end(&mut self, at: Duration) -> Result<(), Box<dyn Error>> {
        self.samples.push((at, resident_bytes(self.pid)?));
        Ok(())
    }

    /// Prints the account; true if all of it is in order.
    pub(crate) fn verdict(
        &self,
        clients: &Clients,
        board: &Board,
        drops: u64,
        length: Duration,
    ) -> bool {
        let mut good = true;
        let mut demand = |holds: bool, what: &str| {
            println!("{} {what}", if holds { "ok     " } else { "FAILED " });
            good &= holds;
        };
        self.reading(clients, board, &mut demand);
        self.stalled(clients, board, drops, &mut demand);
        self.memory(length, &mut demand);
        good
    }

    fn reading(&self, clients: &Clients, board: &Board, demand: &mut dyn FnMut(bool, &str)) {
        let all = clients.reading();
        let sum = |count: fn(&Conn) -> u64| -> u64 { all.iter().map(count).sum() };
        let frames = sum(|conn| conn.seen.frames);
        let holes = sum(|conn| conn.seen.holes);
        let disorder = sum(|conn| conn.seen.disorder);
        let behind = all
            .iter()
            .filter(|conn| conn.seen.last < board.head(conn.topic))
            .count();
        let faults: Vec<&str> = all
            .iter()
            .filter_map(|conn| conn.fault.as_deref())
            .collect();
        let silent = all
            .iter()
            .filter(|conn| conn.seen.missed > 0 && conn.seen.told == 0)
            .count();
        let missed = sum(|conn| conn.seen.missed);

        demand(
            frames > 0,
            &format!("{} readers got {frames} frames", all.len()),
        );
        demand(
            holes == 0,
            &format!("{holes} frames lost by readers that were connected"),
        );
        demand(
            disorder == 0,
            &format!("{disorder} frames twice or out of order"),
        );
        demand(
            behind == 0,
            &format!("{behind} readers that did not get the last frame"),
        );
        demand(
            silent == 0,
            &format!(
                "{silent} readers missed events while away ({missed} in all) and were not told"
            ),
        );
        let first = faults.first().copied().unwrap_or("none");
        demand(
            faults.is_empty(),
            &format!("{} connections failed: {first}", faults.len()),
        );
    }

    fn stalled(
        &self,
        clients: &Clients,
        board: &Board,
        drops: u64,
        demand: &mut dyn FnMut(bool, &str),
    ) {
        let hot = board.hot();
        let expected = (board.head(hot) - board.first(hot)) * self.stalled;
        let all = clients.stalled();
        let received: u64 = all.iter().map(|conn| conn.seen.frames).sum();
        let lost = expected.saturating_sub(received);
        let untold = all
            .iter()
            .filter(|conn| conn.seen.last < board.head(hot) || conn.seen.holes > 0)
            .filter(|conn| conn.seen.told == 0)
            .count();
        println!("stalled: {expected} frames due, {received} received, {drops} counted as dropped");
        demand(
            lost > 0 || self.stalled == 0,
            &format!("{lost} frames were withheld from stalled readers, so the limit was reached"),
        );
        demand(
            lost == drops,
            &format!("{lost} lost frames and {drops} in the counters"),
        );
        demand(
            untold == 0,
            &format!("{untold} stalled readers lost frames and were not told"),
        );
    }

    fn memory(&self, length: Duration, demand: &mut dyn FnMut(bool, &str)) {
        let early = self.median(length / 5, length * 2 / 5);
        let late = self.median(length * 4 / 5, length);
        let peak = self
            .samples
            .iter()
            .map(|(_, bytes)| *bytes)
            .max()
            .unwrap_or(0);
        let mib = |bytes: u64| bytes / MIB;
        println!(
            "resident MiB: {} idle, {} early, {} late, {} at most",
            mib(self.before),
            mib(early),
            mib(late),
            mib(peak)
        );
        demand(
            late <= early + early / 10 + GROWTH_NOISE,
            &format!(
                "memory went from {} to {} MiB over the run",
                mib(early),
                mib(late)
            ),
        );
        let bound = self.before + self.stalled * STALLED_BYTES_MAX + 64 * MIB;
        demand(
            peak <= bound,
            &format!(
                "{} MiB at most; stalled readers bound it to {}",
                mib(peak),
                mib(bound)
            ),
        );
    }

    fn median(&self, from: Duration, to: Duration) -> u64 {
        let mut within: Vec<u64> = self
            .samples
            .iter()
            .filter(|(at, _)| (from..=to).contains(at))
            .map(|(_, bytes)| *bytes)
            .collect();
        within.sort_unstable();
        within.get(within.len() / 2).copied().unwrap_or(self.before)
    }
}
