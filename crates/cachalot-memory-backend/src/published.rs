//! The table of a shard, as readers find it while it is replaced.

use crate::readers::{Readers, Visit};
use crate::set::{Hold, Owner};
use crate::sync::atomic::{AtomicPtr, Ordering};

/// Owns a `P`. Readers visit it without a lock; its owner may put another one in its place.
pub(crate) struct Published<P> {
    present: AtomicPtr<P>,
}

// SAFETY: it owns a `P` as a box does, and hands out shared references to it on several threads.
unsafe impl<P: Send + Sync> Sync for Published<P> {}
// SAFETY: as above.
unsafe impl<P: Send> Send for Published<P> {}

impl<P> Published<P> {
    pub(crate) fn new(first: P) -> Self {
        Self { present: AtomicPtr::new(Box::into_raw(Box::new(first))) }
    }

    /// For a visitor of the shard whose number `replace` is told.
    #[inline]
    pub(crate) fn visited<'a>(&'a self, _visit: &'a Visit<'_>) -> &'a P {
        // SAFETY: the pointer is to a box that is freed only after everyone has left who said before reading
        // the pointer that they visit this shard.
        unsafe { &*self.present.load(Ordering::Acquire) }
    }

    /// For the owner, together with the right to change what it finds.
    #[inline]
    pub(crate) fn held<'a>(&'a self, owner: &'a Owner) -> (&'a P, &'a Hold) {
        // SAFETY: the box is replaced by an exclusive borrower of the owner only.
        (unsafe { &*self.present.load(Ordering::Acquire) }, &owner.hold)
    }

    /// As [`Published::held`].
    #[inline]
    pub(crate) fn held_mut<'a>(&'a self, owner: &'a mut Owner) -> (&'a P, &'a mut Hold) {
        // SAFETY: the box is replaced by an exclusive borrower of the whole owner only, and the hold is but a
        // part of it.
        (unsafe { &*self.present.load(Ordering::Acquire) }, &mut owner.hold)
    }

    /// Puts `next` in its place and gives the old one back when its visitors have left.
    pub(crate) fn replace(&self, _owner: &mut Owner, readers: &Readers, shard: usize, next: P) -> Box<P> {
        let old = self.present.swap(Box::into_raw(Box::new(next)), Ordering::AcqRel);
        readers.wait_for_visitors(shard);
        // SAFETY: the pointer came from a box, is published no longer, and nobody looks at it any more:
        // visitors have left, and the owner is here.
        unsafe { Box::from_raw(old) }
    }
}

impl<P> Drop for Published<P> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a box, and nobody borrows this any more.
        drop(unsafe { Box::from_raw(self.present.load(Ordering::Relaxed)) });
    }
}
