//! Asking the application and bringing its answers back to the worker.
//!
//! An answer that has to wait is polled once here. Most are finished then, and their effect
//! leaves with this turn's output; the others move to the runtime and come back as a task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use millstream_core::{Key, RawJson, TopicName};
use millstream_hub::{Event, Ticket, Verdict};

use crate::hooks::{Answer, HookError, Resume};
use crate::worker::core::{Core, Ending};
use crate::worker::inbox::Task;

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Decision = Result<Verdict, HookError>;

/// Polls an answer once.
pub(crate) fn try_now<T>(answer: Answer<T>) -> Result<T, Later<T>> {
    match answer {
        Answer::Now(value) => Ok(value),
        Answer::Later(mut future) => {
            // The runtime is entered, and it polls again at once: no wake-up is lost.
            let mut cx = TaskContext::from_waker(Waker::noop());
            let first = std::panic::AssertUnwindSafe(|| future.as_mut().poll(&mut cx));
            match std::panic::catch_unwind(first) {
                Ok(Poll::Ready(value)) => Ok(value),
                Ok(Poll::Pending) => Err(future),
                // Polling a panicked future again panics again, on the runtime, which reports it.
                Err(_) => Err(future),
            }
        }
    }
}

/// What a hook's answer means for a subscription.
pub(crate) fn verdict(decision: Option<Decision>) -> Verdict {
    match decision {
        Some(Ok(verdict)) => verdict,
        Some(Err(error)) => {
            tracing::warn!(%error, "a subscribe hook failed; the topic is denied");
            Verdict::FAILED
        }
        None => Verdict::FAILED,
    }
}

impl Core {
    /// Does what the hub asks for until it asks for nothing.
    #[inline]
    pub(crate) fn pump(&mut self) {
        while let Some(event) = self.hub.poll_event() {
            self.take_event(event);
        }
    }

    #[inline(never)]
    fn take_event(&mut self, event: Event) {
        match event {
            Event::Ask {
                ticket,
                topics,
                batch,
            } => self.ask(ticket, &topics, batch),
            Event::Close { conn, code, reason } => {
                self.ending.push((conn, Ending::new(code, reason)));
            }
            Event::Replied { token, result } => {
                if let Some(waiting) = self.replies.remove(&token) {
                    // Nobody waits any more: the caller gave up.
                    let _ = waiting.send(result);
                }
            }
            Event::Resume {
                conn,
                session,
                last_seen,
            } => {
                self.ask_resume(conn, &session, &last_seen);
            }
            Event::Subscribed { token, result } => {
                if let Some(waiting) = self.decisions.remove(&token) {
                    let _ = waiting.send(result);
                }
            }
            Event::Unsubscribed { conn, topic } => {
                self.with_hook(conn, "unsubscribe", |hooks, cx| {
                    hooks.unsubscribe(cx, &topic)
                });
            }
            _ => {}
        }
    }

    fn ask(&mut self, ticket: Ticket, topics: &[TopicName], batch: bool) {
        let key = ticket.conn();
        let whole = self.with_hook(key, "subscribe_batch", |hooks, cx| {
            hooks.subscribe_batch(cx, topics)
        });
        match whole {
            None => self
                .hub
                .settle(ticket, topics.iter().map(|_| Verdict::FAILED)),
            Some(Some(answer)) => self.await_all(ticket, topics.len(), answer),
            Some(None) if topics.is_empty() => self.hub.settle(ticket, []),
            Some(None) => {
                let _ = batch;
                self.ask_each(ticket, topics);
            }
        }
    }

    /// The answer to a whole batch.
    fn await_all(
        &mut self,
        ticket: Ticket,
        count: usize,
        answer: Answer<Result<Vec<Verdict>, HookError>>,
    ) {
        let fill = move |decided: Option<Result<Vec<Verdict>, HookError>>| match decided {
            Some(Ok(mut verdicts)) => {
                verdicts.resize(count, Verdict::FAILED);
                verdicts
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "a batch hook failed; all its topics are denied");
                vec![Verdict::FAILED; count]
            }
            None => vec![Verdict::FAILED; count],
        };
        match try_now(answer) {
            Ok(decided) => self.hub.settle(ticket, fill(Some(decided))),
            Err(later) => {
                let home = self.home();
                let task = self.shared.runtime.spawn(later);
                self.shared.runtime.spawn(async move {
                    home(Task::Settle(ticket, fill(task.await.ok())));
                });
            }
        }
    }

    /// One question per topic, all at once.
    fn ask_each(&mut self, ticket: Ticket, topics: &[TopicName]) {
        let key = ticket.conn();
        let mut answers: Vec<Result<Verdict, Later<Decision>>> = Vec::with_capacity(topics.len());
        for topic in topics {
            let answer = self.with_hook(key, "subscribe", |hooks, cx| hooks.subscribe(cx, topic));
            answers.push(match answer.map(try_now) {
                None => Ok(Verdict::FAILED),
                Some(Ok(decision)) => Ok(verdict(Some(decision))),
                Some(Err(later)) => Err(later),
            });
        }
        if answers.iter().all(Result::is_ok) {
            self.hub
                .settle(ticket, answers.into_iter().filter_map(Result::ok));
            return;
        }
        let home = self.home();
        let runtime = self.shared.runtime.clone();
        let tasks: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.map_err(|later| runtime.spawn(later)))
            .collect();
        self.shared.runtime.spawn(async move {
            let mut verdicts = Vec::with_capacity(tasks.len());
            for task in tasks {
                verdicts.push(match task {
                    Ok(decided) => decided,
                    Err(task) => verdict(task.await.ok()),
                });
            }
            home(Task::Settle(ticket, verdicts));
        });
    }

    fn ask_resume(&mut self, key: Key, session: &str, last_seen: &RawJson) {
        let resume = Resume::new(session, last_seen.get());
        let answer = self.with_hook(key, "resume", |hooks, cx| hooks.resume(cx, &resume));
        let later = match answer.map(try_now) {
            Some(Err(later)) => later,
            Some(Ok(result)) => {
                log_resume(result);
                self.hub.resumed(key);
                return;
            }
            None => {
                self.hub.resumed(key);
                return;
            }
        };
        let home = self.home();
        let task = self.shared.runtime.spawn(later);
        self.shared.runtime.spawn(async move {
            if let Ok(result) = task.await {
                log_resume(result);
            }
            home(Task::Resumed(key));
        });
    }

    /// The way back to this worker from another thread.
    pub(crate) fn home(&self) -> impl Fn(Task) + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        let worker = self.hub.worker();
        move |task| {
            if let Some(inbox) = shared.inboxes.get(worker) {
                inbox.push(task);
            }
        }
    }
}

fn log_resume(result: Result<(), HookError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "a resume hook failed; the client is told `resumed` all the same");
    }
}
