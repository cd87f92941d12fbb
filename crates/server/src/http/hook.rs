//! Calling an application's hook so that whatever it does stays its own problem.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::hooks::{Answer, HookError};

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the hook failed: {0}")]
    Failed(HookError),
    #[error("the hook panicked")]
    Panicked,
    #[error("the hook took too long")]
    TimedOut,
}

/// Calls a hook and waits for its answer, at most `limit` (zero: for ever).
pub(crate) async fn ask<T>(
    limit: Duration,
    call: impl FnOnce() -> Answer<Result<T, HookError>>,
) -> Result<T, Failure> {
    // A panicked hook is never called again with the same state, hence the assertion is fine.
    let answer = catch_unwind(AssertUnwindSafe(call)).map_err(|_| Failure::Panicked)?;
    let outcome = match answer {
        Answer::Now(outcome) => Ok(outcome),
        Answer::Later(future) if limit.is_zero() => quiet(future).await,
        Answer::Later(future) => match tokio::time::timeout(limit, quiet(future)).await {
            Ok(outcome) => outcome,
            Err(_) => return Err(Failure::TimedOut),
        },
    };
    outcome?.map_err(Failure::Failed)
}

/// Awaits a future; a panic in it becomes an error.
async fn quiet<T>(mut future: Pin<Box<dyn Future<Output = T> + Send>>) -> Result<T, Failure> {
    poll_fn(
        move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Failure::Panicked)),
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test(flavor = "current_thread")]
    async fn every_way_to_fail_is_told_apart() {
        assert_eq!(ask(LIMIT, || Ok(1).into()).await, Ok(1));
        assert_eq!(ask(LIMIT, || Answer::later(async { Ok(2) })).await, Ok(2));
        let error = HookError::new("no database");
        let failed = Err(Failure::Failed(error.clone()));
        assert_eq!(ask::<()>(LIMIT, || Err(error).into()).await, failed);
        assert_eq!(
            ask::<()>(LIMIT, || panic!("sync")).await,
            Err(Failure::Panicked)
        );
        let later = || Answer::later(async { panic!("async") });
        assert_eq!(ask::<()>(LIMIT, later).await, Err(Failure::Panicked));
        let never = || Answer::later(std::future::pending());
        assert_eq!(ask::<()>(LIMIT, never).await, Err(Failure::TimedOut));
    }
}
