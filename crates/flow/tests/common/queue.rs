//! The queue.

use millstream_flow::{Outcome, Queue, QueueError, QueueLimits, Ticket, Watch};

use super::{Input, Load, UNITS_MAX, load, name, tight};

#[derive(Default)]
struct Model {
    lanes: Vec<Lane>,
    /// Started or ready to, in the order in which that came about.
    ready: Vec<(Ticket, Load, u32)>,
    running: Vec<(Ticket, u32)>,
    watches: Vec<(Watch, Vec<u32>, bool)>,
    drained: Vec<Watch>,
    born: u32,
}

struct Lane {
    id: u32,
    key: &'static str,
    waiting: Vec<(Ticket, Load)>,
    running: usize,
}

impl Model {
    fn lane(&self, key: &str) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.key == key)
    }

    fn bytes(&self) -> usize {
        let weight = |load: &Load| usize::from(load.weight);
        let keys: usize = self.lanes.iter().map(|lane| lane.key.len()).sum();
        let waiting = self.lanes.iter().flat_map(|lane| &lane.waiting);
        let waiting: usize = waiting.map(|(_, load)| weight(load)).sum();
        keys + waiting
            + self
                .ready
                .iter()
                .map(|(_, load, _)| weight(load))
                .sum::<usize>()
    }

    fn len(&self) -> usize {
        self.lanes
            .iter()
            .map(|lane| lane.waiting.len() + lane.running)
            .sum()
    }

    fn dispatch(&mut self, id: u32, concurrency: usize) {
        let at = self
            .lanes
            .iter()
            .position(|lane| lane.id == id)
            .expect("a lane");
        let lane = &mut self.lanes[at];
        while lane.running < concurrency && !lane.waiting.is_empty() {
            let (ticket, load) = lane.waiting.remove(0);
            lane.running += 1;
            self.ready.push((ticket, load, id));
        }
        if lane.running == 0 && lane.waiting.is_empty() {
            self.lanes.remove(at);
            for (_, lanes, _) in &mut self.watches {
                lanes.retain(|other| *other != id);
            }
            // Watches of the key, then watches of everything.
            for all in [false, true] {
                let done = |(_, lanes, of_all): &(Watch, Vec<u32>, bool)| {
                    lanes.is_empty() && *of_all == all
                };
                let released = self.watches.iter().filter(|watch| done(watch));
                self.drained.extend(released.map(|(watch, ..)| *watch));
                self.watches.retain(|watch| !done(watch));
            }
        }
    }

    fn end(&mut self, id: u32, concurrency: usize) {
        let lane = self
            .lanes
            .iter_mut()
            .find(|lane| lane.id == id)
            .expect("a lane");
        lane.running -= 1;
        self.dispatch(id, concurrency);
    }
}

fn limits(input: &mut Input<'_>) -> QueueLimits {
    QueueLimits {
        concurrency: input.option(4),
        waiting_max: tight(input, 3),
        tasks_max: tight(input, 6),
        keys_max: tight(input, 3),
        key_units_max: UNITS_MAX,
        bytes_max: tight(input, 40),
        watches_max: tight(input, 3),
    }
}

fn refuses(model: &Model, limits: &QueueLimits, key: &str, value: Load) -> Option<&'static str> {
    if key.encode_utf16().count() > UNITS_MAX {
        return Some("key");
    }
    let lane = model.lane(key).map(|at| &model.lanes[at]);
    let busy = lane.is_some_and(|lane| lane.running >= limits.concurrency.max(1));
    if busy && lane.is_some_and(|lane| lane.waiting.len() >= limits.waiting_max) {
        return Some("lane");
    }
    if lane.is_none() && model.lanes.len() >= limits.keys_max {
        return Some("keys");
    }
    if model.len() >= limits.tasks_max {
        return Some("tasks");
    }
    let bytes = usize::from(value.weight) + if lane.is_none() { key.len() } else { 0 };
    (model.bytes() + bytes > limits.bytes_max).then_some("room")
}

fn code(error: QueueError) -> &'static str {
    match error {
        QueueError::Key(_) => "key",
        QueueError::LaneFull { .. } => "lane",
        QueueError::KeysFull { .. } => "keys",
        QueueError::TasksFull { .. } => "tasks",
        _ => "room",
    }
}

fn push(
    queue: &mut Queue<Load>,
    model: &mut Model,
    limits: &QueueLimits,
    key: &'static str,
    value: Load,
) {
    let refused = refuses(model, limits, key, value);
    match queue.push(key, value) {
        Err(back) => {
            assert_eq!((back.task, Some(code(back.error))), (value, refused));
        }
        Ok(ticket) => {
            assert_eq!(refused, None);
            let at = model.lane(key).unwrap_or_else(|| {
                model.born += 1;
                let lane = Lane {
                    id: model.born,
                    key,
                    waiting: Vec::new(),
                    running: 0,
                };
                model.lanes.push(lane);
                model.lanes.len() - 1
            });
            model.lanes[at].waiting.push((ticket, value));
            let id = model.lanes[at].id;
            model.dispatch(id, limits.concurrency.max(1));
        }
    }
}

fn cancel(queue: &mut Queue<Load>, model: &mut Model, ticket: Ticket, concurrency: usize) {
    let got = queue.cancel(ticket);
    let mut want = None;
    for lane in &mut model.lanes {
        if let Some(at) = lane.waiting.iter().position(|(other, _)| *other == ticket) {
            want = Some(lane.waiting.remove(at).1);
        }
    }
    if let Some(at) = model.ready.iter().position(|(other, ..)| *other == ticket) {
        let (_, value, id) = model.ready.remove(at);
        want = Some(value);
        model.end(id, concurrency);
    }
    assert_eq!(got, want);
}

fn watch(queue: &mut Queue<Load>, model: &mut Model, key: Option<&str>, watches_max: usize) {
    let lanes: Vec<u32> = match key {
        Some(key) => model
            .lane(key)
            .map(|at| model.lanes[at].id)
            .into_iter()
            .collect(),
        None => model.lanes.iter().map(|lane| lane.id).collect(),
    };
    let got = match key {
        Some(key) => queue.watch(key),
        None => queue.watch_all(),
    };
    if lanes.is_empty() {
        assert_eq!(got, Ok(None));
    } else if model.watches.len() + model.drained.len() >= watches_max {
        assert_eq!(got, Err(QueueError::WatchesFull { watches_max }));
    } else {
        let watch = got.expect("room").expect("tasks");
        model.watches.push((watch, lanes, key.is_none()));
    }
}

#[allow(clippy::too_many_lines, reason = "one arm for each operation")]
pub(super) fn run(input: &mut Input<'_>) {
    let limits = limits(input);
    let concurrency = limits.concurrency.max(1);
    let mut queue = Queue::new(limits.clone());
    let mut model = Model::default();
    let (mut numbers, mut seen, mut watches) = (0, Vec::new(), Vec::new());
    while let Some(op) = input.below(12) {
        match op {
            0..=3 => {
                let Some(key) = name(input) else { break };
                let Some(value) = load(input, &mut numbers) else {
                    break;
                };
                push(&mut queue, &mut model, &limits, key, value);
                let waiting = model.lanes.iter().flat_map(|lane| &lane.waiting);
                let tickets = waiting.map(|(ticket, _)| *ticket);
                seen.extend(
                    tickets
                        .chain(model.ready.iter().map(|(ticket, ..)| *ticket))
                        .last(),
                );
            }
            4 | 5 => {
                let want = (!model.ready.is_empty()).then(|| model.ready.remove(0));
                assert_eq!(
                    queue.poll_ready(),
                    want.map(|(ticket, load, _)| (ticket, load))
                );
                model
                    .running
                    .extend(want.map(|(ticket, _, id)| (ticket, id)));
            }
            6 | 7 if !model.running.is_empty() => {
                let (ticket, id) = model.running.remove(input.option(8) % model.running.len());
                assert!(queue.complete(ticket, Outcome::Done));
                assert!(!queue.complete(ticket, Outcome::Done), "twice");
                model.end(id, concurrency);
            }
            8 if !seen.is_empty() => {
                let ticket = seen[input.option(255) % seen.len()];
                cancel(&mut queue, &mut model, ticket, concurrency);
            }
            9 => {
                let Some(key) = name(input) else { break };
                let mut out = Vec::new();
                let mut want = Vec::new();
                let all = input.option(3) == 0;
                for lane in &mut model.lanes {
                    if all || lane.key == key {
                        want.append(&mut lane.waiting);
                    }
                }
                if all {
                    queue.clear_all(&mut out)
                } else {
                    queue.clear(key, &mut out)
                }
                assert_eq!(out, want);
            }
            10 => {
                let Some(key) = name(input) else { break };
                let key = (input.option(3) > 0).then_some(key);
                watch(&mut queue, &mut model, key, limits.watches_max);
                watches.extend(model.watches.last().map(|(watch, ..)| *watch));
            }
            11 if !watches.is_empty() => {
                let watch = watches[input.option(255) % watches.len()];
                let there = model.watches.iter().any(|(other, ..)| *other == watch);
                assert_eq!(queue.cancel_watch(watch), there);
                model.watches.retain(|(other, ..)| *other != watch);
            }
            _ => {
                let want = (!model.drained.is_empty()).then(|| model.drained.remove(0));
                assert_eq!(queue.poll_drained(), want);
            }
        }
        check(&queue, &model, concurrency);
    }
    finish(&mut queue);
}

fn check(queue: &Queue<Load>, model: &Model, concurrency: usize) {
    assert_eq!(
        (queue.len(), queue.keys()),
        (model.len(), model.lanes.len())
    );
    assert_eq!(queue.bytes(), model.bytes());
    for lane in &model.lanes {
        assert_eq!(queue.len_of(lane.key), lane.waiting.len() + lane.running);
        assert!(lane.running <= concurrency);
    }
}

/// Whatever was admitted and not cancelled can be run to its end.
fn finish(queue: &mut Queue<Load>) {
    let mut out = Vec::new();
    queue.clear_all(&mut out);
    let started = queue.stats().started;
    let ended = queue.stats().done;
    let running = (started - ended) as usize;
    while queue.poll_ready().is_some() {}
    assert!(queue.len() >= running);
}
