//! One caller: it joins, and waits.

use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use cachalot_core::{Error, ErrorKind, LoadError, LoaderError};

use super::{Inner, Outcome, Share, dropped};
use crate::{Landing, Reentrant};

/// A call. Written by hand, since a thousand of them may wait at once: it keeps what it was called with and a
/// share in the flight, once.
pub(super) struct Run<'a, K, V, F> {
    pub(super) inner: &'a Arc<Inner<K, V>>,
    pub(super) key: &'a K,
    /// `None`: it runs.
    pub(super) load: Option<F>,
    pub(super) follow: Option<Share<V>>,
}

/// Nothing in it is pinned.
impl<K, V, F> Unpin for Run<'_, K, V, F> {}

impl<K, V, F, T> Future for Run<'_, K, V, F>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    F: FnOnce() -> T,
    T: Future<Output = Result<V, LoaderError>> + Send + 'static,
{
    type Output = Outcome<V>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<V>> {
        let Self { inner, key, load, follow } = self.get_mut();
        loop {
            if follow.is_none() {
                match inner.join(key, load) {
                    Ok(share) => *follow = Some(share),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let Some(share) = follow else { continue };
            let Poll::Ready(landing) = share.poll_wait(cx, Outcome::is_err) else {
                return Poll::Pending;
            };
            *follow = None;
            match landing {
                Ok(Landing::Final(outcome) | Landing::Interim(outcome)) => return Poll::Ready(outcome),
                Ok(Landing::Abandoned) if load.is_none() => return Poll::Ready(Err(dropped())),
                // Nobody loads any more: this caller does.
                Ok(Landing::Abandoned) => {}
                Err(reentrant) => return Poll::Ready(Err(would_wait_for_itself(reentrant))),
            }
        }
    }
}

#[cold]
fn would_wait_for_itself(reentrant: Reentrant) -> LoadError {
    Error::new(ErrorKind::Reentrant, "load").caused_by(reentrant).into()
}
