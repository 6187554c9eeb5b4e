//! Runs a future that may hang or panic so that it can do neither to its caller.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// Why a guarded future gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It did not end in time and was dropped.
    Timeout,
    /// It panicked, with this message if it was text.
    Panicked(String),
}

/// Drives `future` to its end, at most for `limit` (`Duration::MAX`: without bound). It is dropped when the
/// time is over. Needs tokio's time.
///
/// # Errors
/// [`Failure`] if it panics or does not end in time.
pub async fn guard<F>(mut future: Pin<Box<F>>, limit: Duration) -> Result<F::Output, Failure>
where
    F: Future + ?Sized,
{
    let run = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(Failure::from_panic(&*panic))),
    });
    let result = match tokio::time::timeout(limit, run).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Timeout),
    };
    // A destructor that panics changes nothing of what was given.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
    result
}

impl Failure {
    /// The failure behind a caught panic.
    pub fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Self::Panicked(text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hanging_future_is_given_up() {
        let hang = Box::pin(std::future::pending::<()>());
        assert_eq!(guard(hang, Duration::from_secs(3)).await, Err(Failure::Timeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_becomes_a_failure() {
        let panic = Box::pin(async { panic!("boom {}", 7) });
        let failed: Result<(), _> = guard(panic, Duration::MAX).await;
        assert_eq!(failed, Err(Failure::Panicked("boom 7".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_while_it_is_dropped_goes_no_further() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("boom");
            }
        }
        let bomb = Bomb;
        let hang = Box::pin(async move {
            std::future::pending::<()>().await;
            drop(bomb);
        });
        assert_eq!(guard(hang, Duration::from_secs(3)).await, Err(Failure::Timeout));
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_in_time_is_handed_out() {
        assert_eq!(guard(Box::pin(async { 7 }), Duration::ZERO).await, Ok(7));
    }
}
