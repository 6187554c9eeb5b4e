//! Those who wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Landing;
use super::cell::{Cell, End};
use crate::sync::{Arc, Ordering, lock};
use crate::waits::{Reentrant, Wait};

/// A participant's share in a flight: three words. Dropping it leaves the flight, its waker included; nobody else
/// notices.
pub struct Follow<O> {
    cell: Arc<Cell<O>>,
    /// The edge of a loader that waits; hardly anyone is one.
    edge: Option<Box<Wait>>,
    /// Where its waker is kept; [`NOWHERE`] before there is one.
    place: u32,
    /// Has asked whether it may wait.
    begun: bool,
    /// Has seen the end, after which nobody counts the participants.
    landed: bool,
    /// Waits for what its own flight gives.
    insists: bool,
}

/// More followers than this do not fit into memory.
const NOWHERE: u32 = u32::MAX;

impl<O> Follow<O> {
    pub(super) fn new(cell: Arc<Cell<O>>) -> Self {
        cell.waiting.fetch_add(1, Ordering::SeqCst);
        Self { cell, edge: None, place: NOWHERE, begun: false, landed: false, insists: false }
    }

    pub(super) fn cell(&self) -> &Arc<Cell<O>> {
        &self.cell
    }
}

impl<O: Clone> Follow<O> {
    /// Waits for the end of the load.
    ///
    /// # Errors
    /// [`Reentrant`] at once, if the calling loader would wait for itself.
    ///
    /// # Dropping the future
    /// leaves the flight; the load goes on.
    pub fn wait(self) -> impl Future<Output = Result<Landing<O>, Reentrant>> {
        self.wait_or_interim(|_| false)
    }

    /// As [`wait`](Follow::wait), but done with what the leader [offers](super::Lead::offer) meanwhile, if
    /// `content` says so of it. `content` is called under the flight's lock.
    ///
    /// # Errors
    /// As [`wait`](Follow::wait).
    pub fn wait_or_interim<C>(self, content: C) -> impl Future<Output = Result<Landing<O>, Reentrant>>
    where
        C: Fn(&O) -> bool,
    {
        Waiting { follow: self, content }
    }

    /// As [`wait_or_interim`](Follow::wait_or_interim), for futures written by hand: the share is all that they
    /// need to keep. To be polled by one task, and not again once it is ready.
    ///
    /// # Errors
    /// As [`wait`](Follow::wait).
    pub fn poll_wait(
        &mut self,
        cx: &mut Context<'_>,
        content: impl Fn(&O) -> bool,
    ) -> Poll<Result<Landing<O>, Reentrant>> {
        if !self.begun {
            self.edge = Wait::begin(self.cell.id)?.map(Box::new);
            self.begun = true;
        }
        let ready = self.poll(cx, content);
        if ready.is_ready() {
            self.edge = None;
        }
        ready.map(Ok)
    }

    /// Makes a share that is done wait once more, for what its own flight gives, where it was served by one that
    /// [overtook](super::Flights::join_at) it, and cannot use that. Whether there is something to wait for: not
    /// if it was its own flight that landed. A flight that was given up by then is
    /// [`Abandoned`](Landing::Abandoned).
    pub fn insist(&mut self) -> bool {
        if self.insists || !self.landed || lock(&self.cell.state).end == End::Landed {
            return false;
        }
        (self.insists, self.landed, self.begun, self.place) = (true, false, false, NOWHERE);
        true
    }

    fn poll_insisting(&mut self, cx: &Context<'_>, content: impl Fn(&O) -> bool) -> Poll<Landing<O>> {
        let mut state = lock(&self.cell.state);
        if state.end == End::TooLate {
            self.landed = true;
            return Poll::Ready(state.interim.clone().map_or(Landing::Abandoned, Landing::Final));
        }
        if let Some(offer) = state.interim.as_ref().filter(|offer| content(offer)) {
            return Poll::Ready(Landing::Interim(offer.clone()));
        }
        let place = (self.place != NOWHERE).then_some(self.place);
        self.place = state.wakers.register(place, cx.waker());
        Poll::Pending
    }

    pub(super) fn poll(&mut self, cx: &Context<'_>, content: impl Fn(&O) -> bool) -> Poll<Landing<O>> {
        if self.insists {
            return self.poll_insisting(cx, content);
        }
        if let Some(landing) = self.cell.landing.get() {
            self.landed = true;
            return Poll::Ready(landing.clone());
        }
        let mut state = lock(&self.cell.state);
        // It may have landed in between, and woken those who were registered by then.
        if let Some(landing) = self.cell.landing.get() {
            self.landed = true;
            drop(state);
            return Poll::Ready(landing.clone());
        }
        if let Some(offer) = state.interim.as_ref().filter(|offer| content(offer)) {
            return Poll::Ready(Landing::Interim(offer.clone()));
        }
        let place = (self.place != NOWHERE).then_some(self.place);
        self.place = state.wakers.register(place, cx.waker());
        Poll::Pending
    }
}

impl<O> Drop for Follow<O> {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        if self.place != NOWHERE {
            let waker = lock(&self.cell.state).wakers.remove(self.place);
            drop(waker);
        }
        if self.cell.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.cell.wake_deserted();
        }
    }
}

/// Waits with a share, for the end or for what `content` takes.
struct Waiting<O, C> {
    follow: Follow<O>,
    content: C,
}

/// Nothing in it is pinned.
impl<O, C> Unpin for Waiting<O, C> {}

impl<O: Clone, C: Fn(&O) -> bool> Future for Waiting<O, C> {
    type Output = Result<Landing<O>, Reentrant>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { follow, content } = self.get_mut();
        follow.poll_wait(cx, &*content)
    }
}
