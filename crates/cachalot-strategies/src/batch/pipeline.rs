//! Many operations under way at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs all of `work`, at most `at_once` at a time, in the calling task; results in their order. A backend
/// that shares its connection sends them together.
///
/// Whenever one of those that run is woken, all of them are polled: for a window, that is cheaper than a waker
/// for each.
pub(crate) async fn pipelined<F: Future>(
    at_once: usize,
    work: impl IntoIterator<Item = F>,
) -> Vec<F::Output> {
    let mut waiting = work.into_iter();
    let mut results = Vec::new();
    let mut running = Vec::new();
    poll_fn(|cx| {
        running.retain_mut(|run: &mut Running<F>| run.is_pending(cx, &mut results));
        while running.len() < at_once {
            let Some(next) = waiting.next() else { break };
            let mut run = Running { place: results.len(), future: Box::pin(next) };
            results.push(None);
            if run.is_pending(cx, &mut results) {
                running.push(run);
            }
        }
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

struct Running<F> {
    place: usize,
    future: Pin<Box<F>>,
}

impl<F: Future> Running<F> {
    fn is_pending(&mut self, cx: &mut Context<'_>, results: &mut [Option<F::Output>]) -> bool {
        match self.future.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(output) => {
                results[self.place] = Some(output);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn results_keep_their_order_and_no_more_than_allowed_run_at_once() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let work = (0..100u64).map(|n| {
            let (running, most) = (&running, &most);
            async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                tokio::time::sleep(Duration::from_millis(100 - n)).await;
                running.set(running.get() - 1);
                n
            }
        });
        assert_eq!(pipelined(7, work).await, (0..100).collect::<Vec<_>>());
        assert_eq!(most.get(), 7);
    }

    #[tokio::test]
    async fn nothing_to_do_is_done_at_once() {
        assert!(pipelined(7, std::iter::empty::<std::future::Ready<u8>>()).await.is_empty());
    }
}
