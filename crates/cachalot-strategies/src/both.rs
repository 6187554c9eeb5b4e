//! Two things at once.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Waits for both. They make progress together; what both send may travel together.
pub(crate) async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_is, mut b_is) = (None, None);
    poll_fn(|cx| {
        if a_is.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(cx)
        {
            a_is = Some(output);
        }
        if b_is.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(cx)
        {
            b_is = Some(output);
        }
        match (a_is.take(), b_is.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (a_is, b_is) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
