//! How expired entries leave without being asked for.

use std::hash::Hash;

use crate::memory::Memory;
use crate::policy::WAYS;
use crate::shard::Writing;
use crate::sync::atomic::Ordering;

/// What a call of [`Memory::reap`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reaped {
    /// How many expired entries it collected.
    pub collected: usize,
    /// Whether there is more to look at in this round.
    pub more: bool,
}

impl<K: Hash + Eq, T> Memory<K, T> {
    /// Looks at the next 1,024 slots and collects the expired entries among them.
    ///
    /// Not needed for the bound, nor for what is served: writes collect too, each a little, all slots while a
    /// fourteenth as many entries are written. It is for a memory that is hardly written to and whose expired
    /// entries should go all the same. Call it from any timer or thread, until there is no `more`, which ends
    /// a round over all slots; writes take part in that round. What has expired before a round begins has left
    /// when it ends, or, if the first round began midway, the next one.
    ///
    /// A few microseconds, besides what leaves; a single look in a memory where nothing ever had an end. The
    /// lock of a shard is held for at most that long.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::mpsc::{RecvTimeoutError, channel};
    /// use std::thread;
    /// use std::time::Duration;
    /// use cachalot_memory_backend::Memory;
    ///
    /// let sessions: Arc<Memory<u64, String>> = Arc::new(Memory::entries(10_000).build()?);
    /// let (stop, stopped) = channel::<()>();
    /// let reaper = thread::spawn({
    ///     let sessions = sessions.clone();
    ///     move || {
    ///         while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
    ///             while sessions.reap().more {}
    ///         }
    ///     }
    /// });
    /// // ... and when the sessions are no longer needed:
    /// drop(stop);
    /// reaper.join().unwrap();
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    pub fn reap(&self) -> Reaped {
        self.sweep(REAP_STEPS)
    }

    /// A write's part: a bounded look every few writes, shard after shard.
    #[cold]
    pub(crate) fn pay(&self) {
        if self.budget.is_over() {
            // Who lowered the bound is still at it, or could not end it for a panic.
            self.shrink();
        }
        self.sweep(PAY_STEPS);
    }

    fn sweep(&self, mut steps: usize) -> Reaped {
        let mut reaped = Reaped::default();
        if !self.any_timed.load(Ordering::Relaxed) {
            return reaped;
        }
        let now = self.clock.coarse();
        let mut garbage = self.garbage();
        while steps > 0 {
            let at = self.hands.sweep_at.load(Ordering::Relaxed);
            let mut shard = self.write(at);
            let done = shard.sweep(now, &mut steps, &mut garbage, |weight| {
                self.budget.release(weight);
                reaped.collected += 1;
            });
            let next = at.wrapping_add(usize::from(done));
            self.hands.sweep_at.store(next, Ordering::Relaxed);
            reaped.more = !done || next % self.shard_count() != 0;
            if !reaped.more {
                break;
            }
        }
        reaped
    }
}

/// Whether a write to this shard is one that pays.
pub(crate) fn is_due<K, T>(shard: &mut Writing<'_, K, T>) -> bool {
    shard.counts().inserts.is_multiple_of(PAY_EVERY)
}

/// Every so many writes one look at so many cells: sixteen a write, so all cells are seen while a fourteenth
/// as many entries are written.
const PAY_EVERY: u64 = 8;
const PAY_STEPS: usize = 4 * WAYS;

const REAP_STEPS: usize = 32 * WAYS;
