//! Tasks in order, so many at a time per key.

use std::collections::VecDeque;

use crate::arena::{Arena, Ends};
use crate::keyed::Keyed;
use crate::name::{KeyError, check_length};
use crate::ticket::Ticket;
use crate::weigh::Weigh;

/// Bounds of a [`Queue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Tasks of one key that run at the same time. Default 1, at least 1.
    pub concurrency: usize,
    /// Tasks of one key that wait. Default 1,000,000. Further ones are refused.
    pub waiting_max: usize,
    /// Tasks that wait or run, of all keys. Default 1,000,000. Further ones are refused.
    pub tasks_max: usize,
    /// Keys with a task. Default 1,000,000. Tasks of further keys are refused.
    pub keys_max: usize,
    /// Length of a key in UTF-16 units. Default 256. Longer ones are refused.
    pub key_units_max: usize,
    /// Bytes of all keys and of all tasks that have not started. Default 256 MiB. Tasks that do
    /// not fit are refused.
    pub bytes_max: usize,
    /// Watches at once. Default 100,000. Further ones are refused.
    pub watches_max: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            concurrency: 1,
            waiting_max: 1_000_000,
            tasks_max: 1_000_000,
            keys_max: 1_000_000,
            key_units_max: 256,
            bytes_max: 256 << 20,
            watches_max: 100_000,
        }
    }
}

/// Why a task or a watch was refused. Counter: `refused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Too many tasks of this key wait: its tasks take longer than they take to arrive.
    #[error("{waiting_max} tasks of this key wait already")]
    LaneFull {
        /// The limit.
        waiting_max: usize,
    },
    /// Too many tasks altogether.
    #[error("{tasks_max} tasks wait or run already")]
    TasksFull {
        /// The limit.
        tasks_max: usize,
    },
    /// Too many keys.
    #[error("{keys_max} keys have tasks already")]
    KeysFull {
        /// The limit.
        keys_max: usize,
    },
    /// The byte budget.
    #[error("task of {bytes} bytes does not fit into what is left of {bytes_max}")]
    NoRoom {
        /// Task and, where it is new, key.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Too many watches.
    #[error("{watches_max} watches exist already")]
    WatchesFull {
        /// The limit.
        watches_max: usize,
    },
}

/// A task that was refused, given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused<T> {
    /// What was to be queued.
    pub task: T,
    /// Why it was not.
    pub error: QueueError,
}

/// How a task ended. It concerns nobody but whoever queued it; the queue only counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a task succeeds or fails")]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// It failed.
    Failed,
}

/// Counters of a [`Queue`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Tasks admitted.
    pub pushed: u64,
    /// Tasks handed out to be run.
    pub started: u64,
    /// Tasks that succeeded.
    pub done: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Tasks cancelled or cleared before they started.
    pub cancelled: u64,
    /// Tasks and watches refused.
    pub refused: u64,
}

/// Tasks per key, started in the order in which they were pushed.
///
/// The queue runs nothing. The host pushes; starts what [`poll_ready`](Self::poll_ready) gives,
/// until `None`; reports each end with [`complete`](Self::complete); and asks
/// [`poll_drained`](Self::poll_drained) which watched keys have become idle. A key without tasks
/// takes no memory. There are no deadlines.
///
/// # Cost
/// All methods O(1), `clear` and `clear_all` O(tasks cleared), `complete` plus the watches it
/// releases. 32 bytes and the size of the task for each task; 56 bytes, the text and 5 to 10 bytes
/// of index for each key. Memory is reused, not given back.
///
/// # Example
/// ```
/// use millstream_flow::{Outcome, Queue, QueueLimits};
///
/// let mut queue = Queue::new(QueueLimits::default());
/// let first = queue.push("order:7", "reserve").unwrap();
/// let second = queue.push("order:7", "charge").unwrap();
///
/// assert_eq!(queue.poll_ready(), Some((first, "reserve")));
/// assert_eq!(queue.poll_ready(), None); // one at a time
/// assert!(queue.complete(first, Outcome::Done));
/// assert_eq!(queue.poll_ready(), Some((second, "charge")));
/// ```
#[derive(Clone, Debug)]
pub struct Queue<T> {
    lanes: Keyed<Box<str>, Lane, 1>,
    /// Lanes in the order in which they came to be, so also by number.
    lane_order: Ends,
    tasks: Arena<Task<T>, 1>,
    /// Tasks to be started: counted as running, not handed out yet.
    ready: Ends,
    watches: Arena<Watcher, 1>,
    /// Watches of all lanes below a number, in order of that number.
    watches_all: Ends,
    drained: VecDeque<Watch>,
    numbers: u64,
    bytes: usize,
    limits: QueueLimits,
    stats: QueueStats,
}

/// Names one wish to hear when a key, or every key, has become idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watch(Ticket);

#[derive(Clone, Debug)]
pub(crate) struct Lane {
    number: u64,
    waiting: Ends,
    waiting_len: u32,
    running: u32,
    watches: Ends,
}

#[derive(Clone, Debug)]
pub(crate) struct Task<T> {
    number: u64,
    lane: u32,
    state: State<T>,
}

#[derive(Clone, Debug)]
pub(crate) enum State<T> {
    Waiting(T),
    Ready(T),
    Running,
}

#[derive(Clone, Copy, Debug)]
struct Watcher {
    number: u64,
    of: Watched,
}

#[derive(Clone, Copy, Debug)]
enum Watched {
    Lane(u32),
    /// All lanes with a number below this one.
    Below(u64),
}

impl<T: Weigh> Queue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            lanes: Keyed::new(),
            lane_order: Ends::EMPTY,
            tasks: Arena::new(),
            ready: Ends::EMPTY,
            watches: Arena::new(),
            watches_all: Ends::EMPTY,
            drained: VecDeque::new(),
            numbers: 0,
            bytes: 0,
            limits,
            stats: QueueStats::default(),
        }
    }

    /// Appends a task to its key's. The key may be empty.
    ///
    /// # Errors
    /// [`Refused`] with the task; nothing else happened.
    pub fn push(&mut self, key: &str, task: T) -> Result<Ticket, Refused<T>> {
        let lane = self.lanes.find(key);
        if let Err(error) = self.check(key, lane, task.weight()) {
            self.stats.refused += 1;
            return Err(Refused { task, error });
        }
        self.stats.pushed += 1;
        let number = self.next_number();
        let lane = lane.unwrap_or_else(|| self.add_lane(key));
        self.bytes += task.weight();
        let state = State::Waiting(task);
        let index = self.tasks.insert(Task {
            number,
            lane,
            state,
        });
        if let Some(at) = self.lanes.get_mut(lane) {
            at.waiting_len += 1;
            self.tasks.link(0, &mut at.waiting, index);
        }
        self.dispatch(lane);
        Ok(Ticket { index, number })
    }

    fn check(&self, key: &str, lane: Option<u32>, weight: usize) -> Result<(), QueueError> {
        let QueueLimits {
            waiting_max,
            tasks_max,
            keys_max,
            bytes_max,
            ..
        } = self.limits;
        check_length(key, self.limits.key_units_max)?;
        let lane = lane.and_then(|lane| self.lanes.get(lane));
        // A lane with room to run has nobody waiting.
        let runs = lane.is_none_or(|lane| (lane.running as usize) < self.concurrency());
        if !runs && lane.is_some_and(|lane| lane.waiting_len as usize >= waiting_max) {
            return Err(QueueError::LaneFull { waiting_max });
        }
        if lane.is_none() && self.lanes.len() >= keys_max {
            return Err(QueueError::KeysFull { keys_max });
        }
        if self.tasks.len() >= tasks_max {
            return Err(QueueError::TasksFull { tasks_max });
        }
        let bytes = weight.saturating_add(if lane.is_none() { key.len() } else { 0 });
        if self.bytes.saturating_add(bytes) > bytes_max {
            return Err(QueueError::NoRoom { bytes, bytes_max });
        }
        Ok(())
    }

    /// The next task to start, in the order in which they became ready.
    pub fn poll_ready(&mut self) -> Option<(Ticket, T)> {
        let index = self.ready.first()?;
        self.tasks.unlink(0, &mut self.ready, index);
        let at = self.tasks.get_mut(index)?;
        let number = at.number;
        let State::Ready(task) = core::mem::replace(&mut at.state, State::Running) else {
            return None;
        };
        self.bytes -= task.weight();
        self.stats.started += 1;
        Some((Ticket { index, number }, task))
    }

    /// Reports that a started task has ended, so that the next of its key becomes ready. False if
    /// the ticket names no running task: it has not started, or has ended already.
    pub fn complete(&mut self, ticket: Ticket, outcome: Outcome) -> bool {
        let Some(Task {
            state: State::Running,
            lane,
            ..
        }) = self.task(ticket)
        else {
            return false;
        };
        let lane = *lane;
        match outcome {
            Outcome::Done => self.stats.done += 1,
            Outcome::Failed => self.stats.failed += 1,
        }
        self.tasks.remove(ticket.index);
        self.end(lane);
        true
    }

    /// Takes a task out that has not been handed out to run.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        let &Task {
            lane, ref state, ..
        } = self.task(ticket)?;
        let waits = match state {
            State::Waiting(_) => true,
            State::Ready(_) => false,
            State::Running => return None,
        };
        if waits {
            let at = self.lanes.get_mut(lane)?;
            at.waiting_len -= 1;
            self.tasks.unlink(0, &mut at.waiting, ticket.index);
        } else {
            self.tasks.unlink(0, &mut self.ready, ticket.index);
        }
        let task = self.drop_task(ticket.index);
        if !waits {
            self.end(lane);
        }
        task
    }

    /// Takes out what waits for a key, in order. What runs, or is ready to, goes on.
    pub fn clear(&mut self, key: &str, out: &mut impl Extend<(Ticket, T)>) {
        if let Some(lane) = self.lanes.find(key) {
            self.clear_lane(lane, out);
        }
    }

    /// [`clear`](Self::clear) for every key, oldest key first.
    pub fn clear_all(&mut self, out: &mut impl Extend<(Ticket, T)>) {
        let mut next = self.lane_order.first();
        while let Some(lane) = next {
            self.clear_lane(lane, out);
            next = self.lanes.next(0, lane);
        }
    }

    /// Asks to hear from [`poll_drained`](Self::poll_drained) when a key has become idle; tasks
    /// pushed until then count too. `None` if it is idle now.
    ///
    /// # Errors
    /// [`QueueError::WatchesFull`].
    pub fn watch(&mut self, key: &str) -> Result<Option<Watch>, QueueError> {
        let Some(lane) = self.lanes.find(key) else {
            return Ok(None);
        };
        self.add_watch(Watched::Lane(lane)).map(Some)
    }

    /// Asks to hear when every key that has tasks now has been idle once. `None` if none has.
    ///
    /// # Errors
    /// [`QueueError::WatchesFull`].
    pub fn watch_all(&mut self) -> Result<Option<Watch>, QueueError> {
        if self.lanes.len() == 0 {
            return Ok(None);
        }
        let below = self.numbers;
        self.add_watch(Watched::Below(below)).map(Some)
    }

    /// The next watch whose wish came true; watches of one key in the order in which they were
    /// made.
    pub fn poll_drained(&mut self) -> Option<Watch> {
        self.drained.pop_front()
    }

    /// Gives a watch up. False if it came true before, whether polled or not.
    pub fn cancel_watch(&mut self, watch: Watch) -> bool {
        let Ticket { index, number } = watch.0;
        match self.watches.get(index) {
            Some(watcher) if watcher.number == number => {
                let of = watcher.of;
                self.remove_watch(index, of);
                true
            }
            _ => false,
        }
    }

    /// Tasks of a key that wait, are ready or run.
    #[must_use]
    pub fn len_of(&self, key: &str) -> usize {
        let lane = self.lanes.find(key).and_then(|lane| self.lanes.get(lane));
        lane.map_or(0, |lane| lane.waiting_len as usize + lane.running as usize)
    }

    /// Tasks of all keys that wait, are ready or run.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are no tasks.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys with tasks.
    #[must_use]
    pub const fn keys(&self) -> usize {
        self.lanes.len()
    }

    /// Bytes of keys and of tasks that have not started.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> QueueStats {
        self.stats
    }

    fn concurrency(&self) -> usize {
        self.limits.concurrency.max(1)
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn task(&self, ticket: Ticket) -> Option<&Task<T>> {
        let task = self.tasks.get(ticket.index)?;
        (task.number == ticket.number).then_some(task)
    }

    fn add_lane(&mut self, key: &str) -> u32 {
        let lane = Lane {
            number: self.numbers,
            waiting: Ends::EMPTY,
            waiting_len: 0,
            running: 0,
            watches: Ends::EMPTY,
        };
        self.bytes += key.len();
        let index = self.lanes.insert(key.into(), lane);
        self.lanes.link(0, &mut self.lane_order, index);
        index
    }

    /// Makes waiting tasks ready while there is room for them to run.
    fn dispatch(&mut self, lane: u32) {
        let concurrency = self.concurrency();
        let Some(at) = self.lanes.get_mut(lane) else {
            return;
        };
        while (at.running as usize) < concurrency
            && let Some(index) = at.waiting.first()
        {
            self.tasks.unlink(0, &mut at.waiting, index);
            at.waiting_len -= 1;
            at.running += 1;
            self.tasks.link(0, &mut self.ready, index);
            if let Some(task) = self.tasks.get_mut(index)
                && let State::Waiting(work) = core::mem::replace(&mut task.state, State::Running)
            {
                task.state = State::Ready(work);
            }
        }
    }

    /// One task less runs.
    fn end(&mut self, lane: u32) {
        if let Some(at) = self.lanes.get_mut(lane) {
            at.running -= 1;
        }
        self.dispatch(lane);
        let idle = |at: &Lane| at.running == 0 && at.waiting.is_empty();
        if self.lanes.get(lane).is_some_and(idle) {
            self.forget(lane);
        }
    }

    fn forget(&mut self, lane: u32) {
        while let Some(index) = self.lanes.get(lane).and_then(|at| at.watches.first()) {
            self.release_watch(index);
        }
        self.lanes.unlink(0, &mut self.lane_order, lane);
        if let Some((key, _)) = self.lanes.remove(lane) {
            self.bytes -= key.len();
        }
        let first = self
            .lane_order
            .first()
            .and_then(|lane| self.lanes.get(lane));
        let first = first.map_or(u64::MAX, |lane| lane.number);
        while let Some(index) = self.watches_all.first()
            && let Some(Watcher {
                of: Watched::Below(below),
                ..
            }) = self.watches.get(index)
            && *below < first
        {
            self.release_watch(index);
        }
    }

    fn clear_lane(&mut self, lane: u32, out: &mut impl Extend<(Ticket, T)>) {
        while let Some(at) = self.lanes.get_mut(lane)
            && let Some(index) = at.waiting.first()
        {
            at.waiting_len -= 1;
            self.tasks.unlink(0, &mut at.waiting, index);
            let number = self.tasks.get(index).map_or(0, |task| task.number);
            let ticket = Ticket { index, number };
            out.extend(self.drop_task(index).map(|task| (ticket, task)));
        }
    }

    fn drop_task(&mut self, index: u32) -> Option<T> {
        let (State::Waiting(task) | State::Ready(task)) = self.tasks.remove(index)?.state else {
            return None;
        };
        self.bytes -= task.weight();
        self.stats.cancelled += 1;
        Some(task)
    }

    fn add_watch(&mut self, of: Watched) -> Result<Watch, QueueError> {
        let watches_max = self.limits.watches_max;
        // Those that came true and were not polled count, so that polling cannot be put off.
        if self.watches.len() + self.drained.len() >= watches_max {
            self.stats.refused += 1;
            return Err(QueueError::WatchesFull { watches_max });
        }
        let number = self.next_number();
        let index = self.watches.insert(Watcher { number, of });
        match of {
            Watched::Below(_) => self.watches.link(0, &mut self.watches_all, index),
            Watched::Lane(lane) => {
                if let Some(at) = self.lanes.get_mut(lane) {
                    self.watches.link(0, &mut at.watches, index);
                }
            }
        }
        Ok(Watch(Ticket { index, number }))
    }

    fn release_watch(&mut self, index: u32) {
        let Some(&Watcher { number, of }) = self.watches.get(index) else {
            return;
        };
        self.remove_watch(index, of);
        self.drained.push_back(Watch(Ticket { index, number }));
    }

    fn remove_watch(&mut self, index: u32, of: Watched) {
        match of {
            Watched::Below(_) => self.watches.unlink(0, &mut self.watches_all, index),
            Watched::Lane(lane) => {
                if let Some(at) = self.lanes.get_mut(lane) {
                    self.watches.unlink(0, &mut at.watches, index);
                }
            }
        }
        self.watches.remove(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(limits: QueueLimits) -> Queue<u32> {
        Queue::new(limits)
    }

    fn ready(queue: &mut Queue<u32>) -> Vec<(Ticket, u32)> {
        core::iter::from_fn(|| queue.poll_ready()).collect()
    }

    #[test]
    fn a_cancelled_task_makes_room_for_the_next() {
        let mut queue = queue(QueueLimits::default());
        let [a, b, c] = [1, 2, 3].map(|n| queue.push("k", n).unwrap());
        assert_eq!(queue.cancel(b), Some(2));
        assert_eq!(queue.cancel(b), None);
        // Ready, but nobody has taken it.
        assert_eq!(queue.cancel(a), Some(1));
        assert_eq!(ready(&mut queue), [(c, 3)]);
        assert_eq!(queue.cancel(c), None);
        assert!(queue.complete(c, Outcome::Failed));
        assert!(!queue.complete(c, Outcome::Done));
        assert!(queue.is_empty());
        assert_eq!((queue.keys(), queue.bytes()), (0, 0));
        assert_eq!((queue.stats().cancelled, queue.stats().failed), (2, 1));
    }

    #[test]
    fn every_limit_refuses_and_gives_the_task_back() {
        let limits = QueueLimits {
            waiting_max: 1,
            tasks_max: 3,
            keys_max: 2,
            key_units_max: 3,
            ..Default::default()
        };
        let mut queue = queue(limits);
        for n in 0..2 {
            assert!(queue.push("a", n).is_ok());
        }
        let refused = queue.push("a", 2).unwrap_err();
        assert_eq!(
            (refused.task, refused.error),
            (2, QueueError::LaneFull { waiting_max: 1 })
        );
        assert!(queue.push("b", 3).is_ok());
        assert_eq!(
            queue.push("c", 4).unwrap_err().error,
            QueueError::KeysFull { keys_max: 2 }
        );
        assert_eq!(
            queue.push("b", 4).unwrap_err().error,
            QueueError::TasksFull { tasks_max: 3 }
        );
        assert!(matches!(
            queue.push("abcd", 5).unwrap_err().error,
            QueueError::Key(_)
        ));
        assert_eq!(queue.stats().refused, 4);
    }

    #[test]
    fn bytes_count_until_a_task_starts() {
        let mut queue = Queue::new(QueueLimits {
            bytes_max: 6,
            ..Default::default()
        });
        assert!(queue.push("k", "12345".to_owned()).is_ok());
        let refused = queue.push("k", "1".to_owned()).unwrap_err();
        assert_eq!(
            refused.error,
            QueueError::NoRoom {
                bytes: 1,
                bytes_max: 6
            }
        );
        assert!(queue.poll_ready().is_some());
        assert_eq!(queue.bytes(), 1);
        assert!(queue.push("k", "12345".to_owned()).is_ok());
    }

    #[test]
    fn watching_everything_means_what_is_there_now() {
        let mut queue = queue(QueueLimits {
            watches_max: 2,
            ..Default::default()
        });
        assert_eq!(queue.watch_all(), Ok(None));
        let _ = queue.push("a", 1);
        let _ = queue.push("b", 2);
        let all = queue.watch_all().unwrap().unwrap();
        let given_up = queue.watch("b").unwrap().unwrap();
        assert_eq!(
            queue.watch("b"),
            Err(QueueError::WatchesFull { watches_max: 2 })
        );
        let _ = queue.push("c", 3);
        let tasks = ready(&mut queue);
        assert!(queue.complete(tasks[0].0, Outcome::Done));
        assert_eq!(queue.poll_drained(), None);
        assert!(queue.cancel_watch(given_up));
        assert!(!queue.cancel_watch(given_up));
        // A key that comes back meanwhile is another one.
        let _ = queue.push("a", 4);
        assert!(queue.complete(tasks[1].0, Outcome::Done));
        assert_eq!(queue.poll_drained(), Some(all));
        assert_eq!(queue.poll_drained(), None);
    }
}
