//! All connections on one thread and one poll.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::conn::{Conn, Phase};
use crate::publisher::Board;

/// Connections on their way to `Live` at a time.
const OPENING_MAX: usize = 200;

/// Everybody.
pub(crate) struct Clients {
    address: SocketAddr,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    conns: Vec<Conn>,
    /// The first this many stop reading.
    stalled: usize,
    /// Indices that want to be connected.
    waiting: Vec<usize>,
    opening: usize,
    /// Connections that had more to read than one turn allows.
    unfinished: Vec<usize>,
}

impl Clients {
    pub(crate) fn new(
        address: SocketAddr,
        count: usize,
        stalled: usize,
        board: &Board,
    ) -> io::Result<Self> {
        let ordinary = board.hot().max(1);
        let conns = (0..count)
            .map(|index| {
                let topic = if index < stalled {
                    board.hot()
                } else {
                    index % ordinary
                };
                Conn::new(topic, board.first(topic))
            })
            .collect();
        Ok(Self {
            address,
            poll: Poll::new()?,
            events: Events::with_capacity(4_096),
            buffer: vec![0; 256 * 1_024],
            conns,
            stalled,
            waiting: (0..count).rev().collect(),
            opening: 0,
            unfinished: Vec::new(),
        })
    }

    pub(crate) fn stalled(&self) -> &[Conn] {
        &self.conns[..self.stalled]
    }

    pub(crate) fn reading(&self) -> &[Conn] {
        &self.conns[self.stalled..]
    }

    /// Turns until nobody is waiting or opening any more.
    ///
    /// # Errors
    /// When that takes longer than `limit`, or the first fault that a connection met.
    pub(crate) fn open_all(&mut self, limit: Duration) -> Result<(), Box<dyn Error>> {
        let started = Instant::now();
        while !self.waiting.is_empty() || self.opening > 0 {
            self.turn(Duration::from_millis(50))?;
            if started.elapsed() > limit {
                let left = self.waiting.len() + self.opening;
                return Err(format!("{left} connections were not open after {limit:?}").into());
            }
        }
        match self.conns.iter().find_map(|conn| conn.fault.as_ref()) {
            None => Ok(()),
            Some(fault) => Err(fault.clone().into()),
        }
    }

    /// Connects some of those that wait, and reads what is there.
    ///
    /// # Errors
    /// When the poll fails.
    pub(crate) fn turn(&mut self, wait: Duration) -> io::Result<()> {
        while self.opening < OPENING_MAX
            && let Some(index) = self.waiting.pop()
        {
            self.connect(index);
        }
        let wait = if self.unfinished.is_empty() {
            wait
        } else {
            Duration::ZERO
        };
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, Some(wait));
        if polled.is_ok() {
            let mut ready: Vec<usize> = std::mem::take(&mut self.unfinished);
            for event in &events {
                let index = event.token().0;
                if event.is_writable() {
                    self.conns[index].handle_writable(self.address);
                }
                if event.is_readable() {
                    ready.push(index);
                }
            }
            ready.sort_unstable();
            ready.dedup();
            for index in ready {
                self.read(index);
            }
            self.opening = self
                .conns
                .iter()
                .filter(|conn| is_opening(conn.phase))
                .count();
        }
        self.events = events;
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }

    fn connect(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        if let Err(error) = conn.connect(self.address) {
            return conn.fail(format!("connect: {error}"));
        }
        self.opening += 1;
        self.register(index, Interest::READABLE | Interest::WRITABLE);
    }

    fn register(&mut self, index: usize, interest: Interest) {
        let conn = &mut self.conns[index];
        if let Some(stream) = &mut conn.stream
            && let Err(error) = self
                .poll
                .registry()
                .register(stream, Token(index), interest)
        {
            conn.fail(format!("register: {error}"));
        }
    }

    fn read(&mut self, index: usize) {
        if self.conns[index].handle_readable(&mut self.buffer) {
            self.unfinished.push(index);
        }
    }

    /// The first one in a hundred reads no more.
    pub(crate) fn stall(&mut self) {
        let registry = self.poll.registry();
        for conn in &mut self.conns[..self.stalled] {
            if let Some(stream) = &mut conn.stream
                && let Err(error) = registry.deregister(stream)
            {
                conn.fail(format!("deregister: {error}"));
            }
        }
    }

    /// The stalled ones read again.
    ///
    /// # Errors
    /// When one of them was closed meanwhile, which the default policy does not do.
    pub(crate) fn unstall(&mut self) -> Result<(), Box<dyn Error>> {
        for index in 0..self.stalled {
            self.register(index, Interest::READABLE);
        }
        match self.stalled().iter().find_map(|conn| conn.fault.as_ref()) {
            None => Ok(()),
            Some(fault) => Err(format!("a stalled reader: {fault}").into()),
        }
    }

    /// Cuts half of those that read; they reconnect as fast as they can. How many.
    pub(crate) fn storm(&mut self) -> usize {
        let cut: Vec<usize> = (self.stalled..self.conns.len())
            .filter(|&index| index % 2 == 0 && self.conns[index].phase == Phase::Live)
            .collect();
        for &index in &cut {
            self.conns[index].cut();
        }
        self.waiting.extend(&cut);
        cut.len()
    }

    /// Turns until all that read have seen the last number of their topic.
    ///
    /// # Errors
    /// When the poll fails. Whoever has not got that far is found by the verdict.
    pub(crate) fn settle(&mut self, board: &Board, limit: Duration) -> io::Result<()> {
        let started = Instant::now();
        let behind = |conn: &Conn| conn.seen.last < board.head(conn.topic);
        while self.reading().iter().any(behind) && started.elapsed() < limit {
            self.turn(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Turns until nothing more arrives for `quiet`.
    ///
    /// # Errors
    /// When the poll fails.
    pub(crate) fn drain(&mut self, quiet: Duration, limit: Duration) -> io::Result<()> {
        let started = Instant::now();
        let count = |all: &Self| -> u64 { all.stalled().iter().map(|c| c.seen.frames).sum() };
        let (mut before, mut since) = (count(self), Instant::now());
        while since.elapsed() < quiet && started.elapsed() < limit {
            self.turn(Duration::from_millis(50))?;
            let now = count(self);
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
        Ok(())
    }
}

fn is_opening(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Connecting | Phase::Upgrading | Phase::Subscribing
    )
}
