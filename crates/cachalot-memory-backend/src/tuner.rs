//! Which configuration of the policy is in force, and who shows the traffic to those who choose it.

use std::sync::{PoisonError, TryLockError};

use crate::policy::{CONFIGS, Chooser, Config, START};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// One for all shards. Idle while nothing is evicted: then every configuration is as good.
pub(crate) struct Tuner {
    /// Hashes with none of these bits are shown.
    mask: AtomicU64,
    config: AtomicUsize,
    /// Something was evicted since this was looked at.
    evicting: AtomicBool,
    chooser: Mutex<Option<Watch>>,
}

struct Watch {
    chooser: Chooser,
    /// Samples since something was evicted.
    quiet: u64,
}

/// A mask that shows nothing. One hash has none of its bits, and finds nobody to be shown to.
const IDLE: u64 = u64::MAX;

/// So many samples without an eviction put the tuner to rest.
const QUIET: u64 = 1 << 14;

impl Tuner {
    pub(crate) fn new() -> Self {
        Self {
            mask: AtomicU64::new(IDLE),
            config: AtomicUsize::new(START),
            evicting: AtomicBool::new(false),
            chooser: Mutex::new(None),
        }
    }

    pub(crate) fn config(&self) -> Config {
        CONFIGS[self.config.load(Ordering::Relaxed) % CONFIGS.len()]
    }

    /// An entry was evicted from a memory that has room for about `entries`.
    #[inline]
    pub(crate) fn evicted(&self, entries: usize) {
        if !self.evicting.load(Ordering::Relaxed) {
            self.evicting.store(true, Ordering::Relaxed);
        }
        if self.mask.load(Ordering::Relaxed) == IDLE {
            self.wake(entries);
        }
    }

    /// A key was read that is held, or has just come in.
    #[inline]
    pub(crate) fn observe(&self, hash: u64) {
        if self.is_sampled(hash) {
            self.show(hash);
        }
    }

    /// Whether a key that was read is to be shown.
    #[inline]
    pub(crate) fn is_sampled(&self, hash: u64) -> bool {
        hash & self.mask.load(Ordering::Relaxed) == 0
    }

    /// Goes back to rest, for instance because the capacity has changed.
    pub(crate) fn rest(&self) {
        // The lock first: a mask without a chooser would never be woken.
        let mut watch = self.chooser.lock().unwrap_or_else(PoisonError::into_inner);
        self.mask.store(IDLE, Ordering::Relaxed);
        *watch = None;
    }

    /// What it has allocated.
    pub(crate) fn bytes(&self) -> usize {
        let watch = self.chooser.lock().unwrap_or_else(PoisonError::into_inner);
        watch.as_ref().map_or(0, |watch| watch.chooser.bytes())
    }

    #[cold]
    fn wake(&self, entries: usize) {
        let mut watch = self.chooser.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.is_none() {
            let chooser = Chooser::new(entries, self.config.load(Ordering::Relaxed));
            *watch = Some(Watch { chooser, quiet: 0 });
            self.mask.store(mask(Chooser::rate(entries)), Ordering::Relaxed);
        }
    }

    /// Shows a key that is in the sample to those who choose.
    #[cold]
    pub(crate) fn show(&self, hash: u64) {
        // A sample that somebody else's keeps from being seen is one of many.
        let mut watch = match self.chooser.try_lock() {
            Ok(watch) => watch,
            Err(TryLockError::Poisoned(watch)) => watch.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let Some(Watch { chooser, quiet }) = &mut *watch else { return };
        if let Some(config) = chooser.observe(hash) {
            self.config.store(config, Ordering::Relaxed);
        }
        *quiet = if self.evicting.swap(false, Ordering::Relaxed) { 0 } else { *quiet + 1 };
        if *quiet > QUIET {
            self.mask.store(IDLE, Ordering::Relaxed);
            *watch = None;
        }
    }
}

/// One hash in `rate`, by sixteen bits that choose no shard and no set.
fn mask(rate: u64) -> u64 {
    let bits = rate - 1;
    (bits & 0xff) << 32 | (bits & 0xff00) << 48
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_shown_while_nothing_is_evicted() {
        let tuner = Tuner::new();
        tuner.observe(0);
        assert!(tuner.chooser.lock().unwrap().is_none());
        tuner.evicted(100);
        assert!(tuner.chooser.lock().unwrap().is_some());
        (0..=QUIET + 1).for_each(|_| tuner.observe(0));
        assert!(tuner.chooser.lock().unwrap().is_none(), "at rest again");
    }
}
