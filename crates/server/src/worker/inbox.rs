//! What other threads want of a worker: one queue each, in order, bounded.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam::queue::SegQueue;
use millstream_core::Key;
use millstream_hub::{Delivery, Inboxes, Ticket, Verdict};
use mio::Waker;

use crate::handover::Accepted;
use crate::worker::core::Core;

/// One thing to do for a worker.
pub(crate) enum Task {
    /// Take in a connection.
    Accept(Box<Accepted>),
    /// Add what another thread published to this turn's batches.
    Deliver(Delivery),
    /// Close all connections, a few at a time.
    Drain,
    /// Output for a connection; calls no hook.
    Output(Box<dyn FnOnce(&mut Core) + Send>),
    /// The application has answered a `resume`.
    Resumed(Key),
    /// Anything rarer.
    Run(Box<dyn FnOnce(&mut Core) + Send>),
    /// The application has decided on topics.
    Settle(Ticket, Vec<Verdict>),
    /// End.
    Stop,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept(_) => "Accept",
            Self::Deliver(_) => "Deliver",
            Self::Drain => "Drain",
            Self::Output(_) => "Output",
            Self::Resumed(_) => "Resumed",
            Self::Run(_) => "Run",
            Self::Settle(..) => "Settle",
            Self::Stop => "Stop",
        })
    }
}

/// The way to one worker.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: SegQueue<Task>,
    /// Tasks pushed and not yet taken. Counted before the push, so that an empty inbox is empty.
    waiting: AtomicUsize,
    /// Bytes of deliveries among them.
    bytes: AtomicUsize,
    /// The worker is awake, or a wake-up is on its way.
    woken: AtomicBool,
    waker: Waker,
    /// Connections the worker has or is about to get.
    pub(crate) connections: AtomicUsize,
}

/// Tasks and bytes beyond which publishes to a worker are refused with `Busy`.
pub(crate) const INBOX_TASKS_MAX: usize = 65_536;
pub(crate) const INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Inbox {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            queue: SegQueue::new(),
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            waker,
            connections: AtomicUsize::new(0),
        }
    }

    /// Adds a task and wakes the worker, once however many tasks come.
    pub(crate) fn push(&self, task: Task) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if let Task::Deliver(delivery) = &task {
            self.bytes.fetch_add(delivery.len(), Ordering::Relaxed);
        }
        self.queue.push(task);
        if !self.woken.swap(true, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a worker could not be woken");
        }
    }

    /// The next task.
    pub(crate) fn pop(&self) -> Option<Task> {
        let task = self.queue.pop()?;
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        if let Task::Deliver(delivery) = &task {
            self.bytes.fetch_sub(delivery.len(), Ordering::Relaxed);
        }
        Some(task)
    }

    /// The worker is awake and will look at the inbox before it sleeps: pushes need not wake it.
    pub(crate) fn awake(&self) {
        self.woken.store(true, Ordering::SeqCst);
    }

    /// The worker is about to sleep: the next push wakes it. It has to look whether the inbox
    /// [is empty](Self::is_empty) after this and before it sleeps.
    pub(crate) fn rearm(&self) {
        // In the one order of all such operations: a task that is pushed before this is seen by
        // the look behind it, one that is pushed after it wakes the worker.
        self.woken.swap(false, Ordering::SeqCst);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= INBOX_TASKS_MAX
            || self.bytes.load(Ordering::Relaxed) >= INBOX_BYTES_MAX
    }
}

/// The inboxes of all workers, by worker number.
#[derive(Debug, Clone)]
pub(crate) struct AllInboxes(pub(crate) Arc<[Inbox]>);

impl AllInboxes {
    pub(crate) fn get(&self, worker: u16) -> Option<&Inbox> {
        self.0.get(usize::from(worker))
    }
}

impl Inboxes for AllInboxes {
    fn push(&self, worker: u16, delivery: Delivery) {
        if let Some(inbox) = self.get(worker) {
            inbox.push(Task::Deliver(delivery));
        }
    }

    fn is_empty(&self, worker: u16) -> bool {
        self.get(worker).is_none_or(Inbox::is_empty)
    }

    fn is_full(&self, worker: u16) -> bool {
        self.get(worker).is_none_or(Inbox::is_full)
    }
}
