//! Which configuration of the policy is in force, and who shows the traffic to those who choose it.

use std::collections::VecDeque;
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
    /// What came while the chooser was busy, in order.
    waiting: Mutex<VecDeque<u64>>,
    any_waits: AtomicBool,
}

struct Watch {
    chooser: Chooser,
    /// Samples since something was evicted.
    quiet: u64,
}

/// So many samples wait at most, and so many of them one caller shows.
const WAITING: usize = 1024;
const AT_ONCE: usize = 32;

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
            waiting: Mutex::default(),
            any_waits: AtomicBool::new(false),
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
        let waiting =
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).capacity() * size_of::<u64>();
        waiting + watch.as_ref().map_or(0, |watch| watch.chooser.bytes())
    }

    /// For the one who has the chooser.
    fn leave(&self, hash: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING {
            waiting.push_back(hash);
            self.any_waits.store(true, Ordering::Relaxed);
        }
    }

    /// The first of those that wait.
    fn waiting_ones(&self) -> Vec<u64> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let some = waiting.len().min(AT_ONCE);
        let first = waiting.drain(..some).collect();
        self.any_waits.store(!waiting.is_empty(), Ordering::Relaxed);
        first
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
        let mut watch = match self.chooser.try_lock() {
            Ok(watch) => watch,
            Err(TryLockError::Poisoned(watch)) => watch.into_inner(),
            Err(TryLockError::WouldBlock) => return self.leave(hash),
        };
        let Some(Watch { chooser, quiet }) = &mut *watch else { return };
        let mut show = |hash| {
            if let Some(config) = chooser.observe(hash) {
                self.config.store(config, Ordering::Relaxed);
            }
        };
        if self.any_waits.load(Ordering::Relaxed) {
            self.waiting_ones().into_iter().for_each(&mut show);
        }
        show(hash);
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
    fn a_sample_that_finds_the_chooser_busy_is_shown_later() {
        let tuner = Tuner::new();
        tuner.evicted(100);
        {
            let _busy = tuner.chooser.lock().unwrap();
            (0..2000).for_each(|_| tuner.observe(0));
            assert_eq!(tuner.waiting.lock().unwrap().len(), WAITING);
        }
        for shows in 1..=WAITING / AT_ONCE {
            tuner.observe(0);
            assert_eq!(tuner.waiting.lock().unwrap().len(), WAITING - shows * AT_ONCE);
        }
        let watch = tuner.chooser.lock().unwrap();
        assert_eq!(watch.as_ref().map(|watch| watch.chooser.sampled()), Some(WAITING + WAITING / AT_ONCE));
    }

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
