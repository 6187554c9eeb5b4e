//! How many callers have come and wait.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

/// Awaits `read`, and counts it in `waiting` once it has been polled: then it has joined its flight.
pub async fn counted<F: Future>(waiting: &AtomicUsize, read: F) -> F::Output {
    let mut read = pin!(read);
    let polled = poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
    waiting.fetch_add(1, Ordering::SeqCst);
    match polled {
        Poll::Ready(output) => output,
        Poll::Pending => read.await,
    }
}
