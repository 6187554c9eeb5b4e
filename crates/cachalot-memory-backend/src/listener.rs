//! Entries on their way out, and who is told of them.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

/// Why a value is not, or no longer, in a [`Memory`](crate::Memory); told to its
/// [`listener`](crate::MemoryBuilder::listener).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The policy dropped it to stay within the bound.
    Evicted,
    /// Time ended it: its hard expiry has come, perhaps before it was stored.
    Expired,
    /// A caller took it out: [`remove`](crate::Memory::remove), [`retain`](crate::Memory::retain),
    /// [`walk`](crate::Memory::walk).
    Removed,
    /// A newer value for its key came, be that held or turned away.
    Replaced,
    /// It is heavier than the capacity and never came in.
    Rejected,
    /// [`Memory::clear`](crate::Memory::clear).
    Cleared,
}

pub(crate) type Listener<K, T> = dyn Fn(&K, &T, Cause) + Send + Sync;

/// An entry that was taken out, or never came in.
pub(crate) struct Gone<K, T> {
    pub(crate) entry: (K, T),
    pub(crate) weight: u64,
    pub(crate) cause: Cause,
}

/// What is to be told of and dropped after all locks are released: declared before the guard. The first one
/// needs no allocation.
pub(crate) struct Garbage<'a, K, T> {
    listener: Option<&'a Listener<K, T>>,
    first: Option<Gone<K, T>>,
    more: Vec<Gone<K, T>>,
}

impl<'a, K, T> Garbage<'a, K, T> {
    #[inline]
    pub(crate) fn new(listener: Option<&'a Listener<K, T>>) -> Self {
        Self { listener, first: None, more: Vec::new() }
    }

    #[inline]
    pub(crate) fn put(&mut self, gone: Gone<K, T>) {
        if self.first.is_none() {
            self.first = Some(gone);
        } else {
            self.more.push(gone);
        }
    }

    /// As [`Garbage::put`], of an entry whose weight is nobody's business any more.
    #[inline]
    pub(crate) fn put_entry(&mut self, entry: (K, T), cause: Cause) {
        self.put(Gone { entry, weight: 0, cause });
    }

    /// Tells of everything, drops everything, and only then lets a panic of the listener go on.
    #[cold]
    fn tell(&mut self, listener: &Listener<K, T>) {
        let mut told = Ok(());
        for gone in self.first.iter().chain(&self.more) {
            told = told.and(tell(listener, gone));
        }
        drop((self.first.take(), mem::take(&mut self.more)));
        go_on(told);
    }
}

impl<K, T> Drop for Garbage<'_, K, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(listener) = self.listener {
            self.tell(listener);
        }
    }
}

/// Tells of each entry that `hand_out` hands out, and drops it, before a panic of the listener goes on.
pub(crate) fn tell_each<K, T>(
    listener: &Listener<K, T>,
    cause: Cause,
    hand_out: impl FnOnce(&mut dyn FnMut((K, T))),
) {
    let mut told = Ok(());
    hand_out(&mut |entry| {
        let before = mem::replace(&mut told, Ok(()));
        told = before.and(tell(listener, &Gone { entry, weight: 0, cause }));
    });
    go_on(told);
}

type Told = Result<(), Box<dyn Any + Send>>;

fn tell<K, T>(listener: &Listener<K, T>, gone: &Gone<K, T>) -> Told {
    catch_unwind(AssertUnwindSafe(|| listener(&gone.entry.0, &gone.entry.1, gone.cause)))
}

/// A panic beside another one would end the process.
fn go_on(told: Told) {
    if let Err(panic) = told
        && !thread::panicking()
    {
        resume_unwind(panic);
    }
}
