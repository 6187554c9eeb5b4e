//! Who waits for whom: finds runs that would wait for themselves.

use super::sync::{Arc, AtomicBool, Ordering, Running, ThreadKey, WAITING, lock};

/// One run of a caller's closure: whose it is, and whether it is over.
#[derive(Debug)]
pub(crate) struct Run {
    by: ThreadKey,
    over: AtomicBool,
}

/// Waiting would never end: the awaited run waits, directly or through others, for the one that asks.
#[derive(Debug)]
pub(crate) struct Reentrant;

impl Run {
    /// A run of this thread.
    pub(crate) fn new() -> Self {
        Self { by: ThreadKey::current(), over: AtomicBool::new(false) }
    }

    /// Whether it is in progress further up in this thread.
    pub(crate) fn is_own(&self) -> bool {
        self.by == ThreadKey::current() && !self.is_over()
    }

    /// Before anybody learns of its end, and before its thread waits for anything else.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// While it lives, this thread waits for the end of a run, in the midst of its own.
#[derive(Debug)]
pub(crate) struct Wait {
    by: ThreadKey,
}

impl Wait {
    /// Notes that this thread waits for `on`. Outside of a run there is nothing to note: nobody waits for
    /// this thread.
    pub(crate) fn begin(on: &Arc<Run>) -> Result<Option<Self>, Reentrant> {
        if on.is_own() {
            return Err(Reentrant);
        }
        if !Running::is_any() {
            return Ok(None);
        }
        let by = ThreadKey::current();
        let mut waiting = lock(&WAITING);
        // A wait is added only if it closes no circle, so the walk ends.
        let mut next = Some(on);
        while let Some(run) = next.filter(|run| !run.is_over()) {
            if run.by == by {
                return Err(Reentrant);
            }
            next = waiting.get(&run.by);
        }
        waiting.insert(by, on.clone());
        Ok(Some(Self { by }))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        lock(&WAITING).remove(&self.by);
    }
}
