//! One turn after the other: wait, read what is ready, do what others ask, keep time, flush.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_core::{Key, Millis};
use millstream_hub::{DrainPlan, Receipt};
use millstream_wire::{DecodeLimits, Decoder, Event as Frame, Input, Role};
use mio::{Events, Poll, Token};

use crate::hooks::Message;
use crate::worker::core::{Core, Ending, State};
use crate::worker::inbox::{Inbox, Task};

/// Bytes read from one connection before the others get their turn.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Readiness events taken per turn.
const EVENTS_MAX: usize = 1_024;
/// Tasks taken from the inbox per turn; the rest comes in the next.
const TASKS_MAX: usize = 8_192;
/// How often quiet connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// A full sweep takes this many steps.
const SWEEP_STEPS: usize = 4;
/// A turn that takes longer is worth a warning: a hook blocks the thread, or one core is too few.
const SLOW_TURN: Duration = Duration::from_millis(200);
/// The token of the waker; no slab index gets there.
pub(crate) const WAKE: Token = Token(usize::MAX);

/// Runs a worker until it is told to stop. The only place that waits.
pub(crate) fn run(mut core: Core, mut poll: Poll) {
    let shared = Arc::clone(&core.shared);
    let _runtime = shared.runtime.enter();
    let worker = core.hub.worker();
    let Some(inbox) = shared.inboxes.get(worker) else {
        return;
    };
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut buffer = vec![0; READ_BYTES_MAX];
    while !core.stopping {
        inbox.rearm();
        let busy = !core.unfinished.is_empty() || !inbox.is_empty() || !core.postponed.is_empty();
        let wait = if busy {
            Some(Duration::ZERO)
        } else {
            core.next_wait()
        };
        if let Err(error) = poll.poll(&mut events, wait)
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, worker, "epoll failed; the worker stops");
            break;
        }
        inbox.awake();
        let began = Instant::now();
        core.set_time(shared.clock_at(began));
        for event in &events {
            if event.token() == WAKE {
                continue;
            }
            let Some(key) = core.links.get(event.token().0).map(|link| link.key) else {
                continue;
            };
            if event.is_writable() {
                core.writable(key);
            }
            if event.is_read_closed() || event.is_error() {
                core.peer_ended(key);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                core.readable(key, &mut buffer, event.is_read_closed());
            }
        }
        for key in mem::take(&mut core.unfinished) {
            // To the very end: the event that said that there is one may be long past.
            core.readable(key, &mut buffer, true);
        }
        core.take_tasks(inbox);
        core.keep_time();
        core.finish_turn();
        core.report(began);
    }
    core.shut_down();
}

/// What came out of one read.
#[derive(Default)]
struct Received {
    messages: u64,
    bytes: u64,
    /// The connection is closing: its messages are not handled any more.
    closing: bool,
}

impl Received {
    fn count(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

impl Core {
    fn set_time(&mut self, now: Millis) {
        self.now = now;
        self.links.second = u32::try_from(now.as_millis() / 1_000).unwrap_or(u32::MAX);
        self.hub.set_now(now);
    }

    /// Reads a connection until it has no more or has had its share.
    fn readable(&mut self, key: Key, buffer: &mut [u8], ended: bool) {
        let mut budget = READ_BYTES_MAX;
        loop {
            let Some(link) = self.links.of(key).filter(|link| !link.is_paused()) else {
                return;
            };
            if link.kept_bytes() > 0 {
                if !self.feed_kept(key) {
                    return;
                }
                continue;
            }
            let read = match link.io.read(buffer) {
                Ok(0) => {
                    self.gone(key, "connection lost");
                    return;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.gone(key, "connection lost");
                    return;
                }
            };
            let Some(bytes) = buffer.get_mut(..read) else {
                return;
            };
            self.feed_or_keep(key, bytes);
            let tls = self.links.peek(key).is_some_and(|link| link.io.is_tls());
            budget = budget.saturating_sub(read);
            // A short read means that the socket is empty and will say so when it is not.
            if read < buffer.len() && !ended && !tls {
                return;
            }
            if budget == 0 {
                self.unfinished.push(key);
                return;
            }
        }
    }

    /// The peer has gone without, or after, a close frame.
    fn gone(&mut self, key: Key, reason: &str) {
        let Some(link) = self.links.of(key) else {
            return;
        };
        let ending = match &link.state {
            State::Closing { ending, .. } => ending.clone(),
            State::Open => Ending::new(1006, reason),
        };
        self.ending.push((key, ending));
    }

    /// Decodes and handles the messages in `bytes`, and keeps aside what has to wait.
    pub(crate) fn feed_or_keep(&mut self, key: Key, bytes: &mut [u8]) {
        let rest = self.feed(key, bytes);
        let from = bytes.len().saturating_sub(rest);
        self.keep(key, bytes.get(from..).unwrap_or_default());
    }

    /// Decodes and handles the messages in `bytes`; gives how many bytes at their end were not
    /// looked at because reading was paused.
    pub(crate) fn feed(&mut self, key: Key, bytes: &mut [u8]) -> usize {
        let second = self.links.second;
        let Some(link) = self.links.of(key).filter(|link| !link.deaf) else {
            return 0;
        };
        link.heard_at = second;
        link.pinged = false;
        let mut received = Received {
            closing: link.state != State::Open,
            ..Received::default()
        };
        let mut decoder = mem::replace(&mut link.decoder, Decoder::new(Role::Server));
        let rest = self.decode(key, &mut decoder, &mut Input::new(bytes), &mut received);
        self.hub
            .count_received(key, received.messages, received.bytes);
        if let Some(link) = self.links.of(key) {
            link.decoder = decoder;
        }
        rest
    }

    fn decode(
        &mut self,
        key: Key,
        decoder: &mut Decoder,
        input: &mut Input<'_>,
        received: &mut Received,
    ) -> usize {
        let limits = DecodeLimits {
            message_bytes_max: self.shared.settings.message_bytes_max,
            ..DecodeLimits::default()
        };
        loop {
            match decoder.next(input, &limits) {
                Ok(Some(frame)) => self.handle(key, &frame, received),
                Ok(None) => return 0,
                Err(violation) => {
                    if let Some(link) = self.links.of(key) {
                        link.deaf = true;
                    }
                    self.shared.violations.fetch_add(1, Ordering::Relaxed);
                    self.say_close(key, violation.close_code(), &violation.to_string());
                    return 0;
                }
            }
            // Whatever was handled may have changed what becomes of the rest.
            let Some(link) = self.links.peek(key).filter(|link| !link.deaf) else {
                return 0;
            };
            received.closing = link.state != State::Open;
            if link.is_paused() && self.can_wait(input.remaining()) {
                return input.remaining();
            }
        }
    }

    /// Handles one message.
    fn handle(&mut self, key: Key, frame: &Frame<'_>, received: &mut Received) {
        match frame {
            Frame::Close { code, reason } => {
                self.closed_by_peer(key, *code, reason);
                return;
            }
            _ if received.closing => {}
            Frame::Text(text) => {
                received.count(text.len());
                if !self.shared.settings.raw && self.hub.receive(key, text) == Receipt::Control {
                    self.pump();
                } else {
                    self.with_hook(key, "message", |hooks, cx| {
                        hooks.message(cx, Message::Text(text));
                    });
                }
            }
            Frame::Binary(bytes) => {
                received.count(bytes.len());
                self.with_hook(key, "message", |hooks, cx| {
                    hooks.message(cx, Message::Binary(bytes));
                });
            }
            Frame::Ping(payload) => self.hub.pong(key, payload),
            Frame::Pong(_) => {}
        }
        // Hooks may have ended subscriptions.
        self.pump();
        if self.hub.wants_flush() {
            self.flush();
        }
    }

    /// The peer's close frame: answers it, or takes it as the answer to ours.
    fn closed_by_peer(&mut self, key: Key, code: Option<u16>, reason: &str) {
        let Some(link) = self.links.of(key) else {
            return;
        };
        link.deaf = true;
        let ending = match &link.state {
            State::Closing { ending, .. } => ending.clone(),
            State::Open => Ending::new(code.unwrap_or(1005), reason),
        };
        self.hub.say_close(key, code.unwrap_or(1005), "");
        self.ending.push((key, ending));
    }

    /// Does what other threads asked for.
    fn take_tasks(&mut self, inbox: &Inbox) {
        for _ in 0..TASKS_MAX {
            let Some(task) = self.postponed.pop_front().or_else(|| inbox.pop()) else {
                return;
            };
            match task {
                Task::Accept(accepted) => self.accept(*accepted),
                Task::Deliver(delivery) => self.hub.deliver(&delivery),
                Task::Drain => {
                    let keys: Vec<Key> = self.links.iter().map(|link| link.key).collect();
                    let spread = self.shared.settings.drain_spread;
                    self.drain = Some(DrainPlan::new(keys, self.now, spread));
                }
                Task::Output(work) | Task::Run(work) => self.run_task(work),
                Task::Resumed(key) => self.hub.resumed(key),
                Task::Settle(ticket, verdicts) => {
                    self.hub.settle(ticket, verdicts);
                    self.pump();
                }
                Task::Stop => self.stopping = true,
            }
            if self.hub.wants_flush() {
                self.flush();
            }
        }
    }

    /// Fires what is due.
    fn keep_time(&mut self) {
        if self.hub.next_deadline().is_some_and(|at| at <= self.now) {
            self.hub.handle_timeout(self.now);
            self.pump();
        }
        if let Some(mut plan) = self.drain.take() {
            let due: Vec<Key> = plan.due(self.now).collect();
            for key in due {
                self.say_close(key, 1001, "server shutting down");
            }
            if plan.remaining() > 0 {
                self.drain = Some(plan);
            }
        }
        if self.now >= self.sweep_due {
            self.sweep_due = self.now.saturating_add(SWEEP_EVERY);
            self.sweep();
        }
    }

    /// Looks at a part of all connections: who is silent, who has to hear something.
    fn sweep(&mut self) {
        let total = self.links.len();
        let step = total.div_ceil(SWEEP_STEPS).max(1);
        let from = self.sweep_at as usize;
        let to = (from + step).min(total);
        self.sweep_at = if to >= total {
            0
        } else {
            u32::try_from(to).unwrap_or(0)
        };
        for index in from..to {
            self.look_at(index);
        }
    }

    fn look_at(&mut self, index: usize) {
        let second = self.links.second;
        let settings = &self.shared.settings;
        let (idle, keepalive) = (settings.idle_secs, settings.keepalive_secs);
        let Some(link) = self.links.get(index) else {
            return;
        };
        let key = link.key;
        let silent = second.saturating_sub(link.heard_at);
        if let State::Closing { ending, until } = &link.state {
            if second >= *until {
                let ending = ending.clone();
                self.ending.push((key, ending));
            }
            return;
        }
        if idle > 0 && silent >= idle && link.is_paused() {
            self.probe_paused(key, idle);
            return;
        }
        if idle > 0 && silent >= idle {
            self.shared.idle_closed.fetch_add(1, Ordering::Relaxed);
            self.ending
                .push((key, Ending::new(1006, "no sign of life")));
            return;
        }
        if keepalive > 0 && second.saturating_sub(link.spoken_at) >= keepalive {
            // Once per interval, also for a socket that takes nothing.
            link.spoken_at = second;
            self.hub.keepalive(key);
        }
        if idle > 0 && silent >= idle - ping_margin(idle) && !link.pinged {
            link.pinged = true;
            self.hub.ping(key);
        }
    }

    /// Writes the turn's output and ends the connections that are over, in this order and until
    /// neither leads to more: writing finds readers that are too slow, close hooks publish.
    fn finish_turn(&mut self) {
        loop {
            self.flush();
            self.pump();
            if self.ending.is_empty() && !self.hub.has_output() {
                return;
            }
            for (key, ending) in mem::take(&mut self.ending) {
                self.end(key, &ending);
            }
        }
    }

    fn report(&self, began: Instant) {
        if let Some(gauges) = self.shared.gauges.get(usize::from(self.hub.worker())) {
            gauges
                .subscriptions
                .store(self.hub.subscriptions(), Ordering::Relaxed);
            gauges
                .backlog_bytes
                .store(self.hub.backlog_bytes(), Ordering::Relaxed);
            gauges.kept_bytes.store(self.kept_bytes, Ordering::Relaxed);
        }
        let took = began.elapsed();
        self.shared.turns.observe(took.as_secs_f64());
        if took > SLOW_TURN {
            self.shared.slow_turns.fetch_add(1, Ordering::Relaxed);
            let worker = self.hub.worker();
            tracing::warn!(
                worker,
                ?took,
                "a turn took long: does a hook block the thread, or is it too much output?"
            );
        }
    }

    /// The process ends: whoever is still here is told.
    fn shut_down(&mut self) {
        let keys: Vec<Key> = self.links.iter().map(|link| link.key).collect();
        for key in &keys {
            self.say_close(*key, 1001, "server shutting down");
        }
        self.flush();
        for key in keys {
            self.end(key, &Ending::new(1001, "server shutting down"));
        }
    }
}

/// How long before the idle limit a ping is sent: doubling from 4 s while it stays well within.
pub(crate) fn ping_margin(idle: u32) -> u32 {
    let mut margin = 4;
    while margin < 16 && idle.saturating_sub(2 * margin) >= 2 * margin {
        margin *= 2;
    }
    margin.min(idle / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ping_leaves_time_for_an_answer() {
        assert_eq!(ping_margin(120), 16);
        assert_eq!(ping_margin(12), 4);
        assert_eq!(ping_margin(8), 4);
        assert_eq!(ping_margin(40), 16);
    }
}
