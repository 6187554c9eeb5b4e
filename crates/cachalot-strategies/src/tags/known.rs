//! Tokens that this process has read, for the loads to come. An older one is only more cautious.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cachalot_core::{TagToken, Timestamp};

/// How often it is said of everything's token, which is known here, that it is in use.
const KEEP_EVERYTHING: Duration = Duration::from_secs(24 * 3600);

/// The epoch of all tags.
#[derive(Debug, Default)]
pub(crate) struct Epoch(Mutex<KnownEpoch>);

#[derive(Debug, Default)]
struct KnownEpoch {
    token: Option<TagToken>,
    was_read: bool,
    /// Whether a loader has set a tag: without one it is read once, and not again.
    is_used: bool,
}

impl Epoch {
    /// Forgets it: it has changed.
    pub(crate) fn forget(&self) {
        self.lock().token = None;
    }

    pub(super) fn known(&self) -> Option<TagToken> {
        self.lock().token
    }

    pub(super) fn is_wanted(&self) -> bool {
        let known = self.lock();
        known.token.is_none() && (known.is_used || !known.was_read)
    }

    pub(super) fn learn(&self, token: TagToken) {
        let mut known = self.lock();
        (known.token, known.was_read) = (Some(token), true);
    }

    /// A loader has set a tag.
    pub(super) fn wake(&self) {
        self.lock().is_used = true;
    }

    fn lock(&self) -> MutexGuard<'_, KnownEpoch> {
        lock(&self.0)
    }
}

/// What the tag stands at that all entries of a clearable cache have.
#[derive(Debug, Default)]
pub(crate) struct Everything(Mutex<KnownEverything>);

#[derive(Debug, Default)]
struct KnownEverything {
    token: Option<TagToken>,
    /// When its life was renewed last.
    pinned_at: Option<Timestamp>,
}

impl Everything {
    /// Forgets it: it has changed, or is lost.
    pub(crate) fn forget(&self) {
        lock(&self.0).token = None;
    }

    pub(super) fn known(&self) -> Option<TagToken> {
        lock(&self.0).token
    }

    /// Whether it is not known, or its life is to be renewed.
    pub(super) fn is_wanted(&self, now: Timestamp) -> bool {
        let known = lock(&self.0);
        known.token.is_none() || known.pinned_at.is_none_or(|at| now.since(at) >= KEEP_EVERYTHING)
    }

    pub(super) fn learn(&self, token: TagToken) {
        lock(&self.0).token = Some(token);
    }

    pub(super) fn pinned(&self, token: TagToken, now: Timestamp) {
        *lock(&self.0) = KnownEverything { token: Some(token), pinned_at: Some(now) };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
