//! Figures of a cache.

use std::sync::atomic::{AtomicU64, Ordering};

use cachalot_core::{Event, LoadOutcome, StoreStats, Tier};

mod striped;
use striped::Striped;

/// Figures of a cache since it was built. Counters only grow; they may lag by the operations in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Reads served fresh from memory.
    pub memory_hits: u64,
    /// Reads served fresh from the shared tier.
    pub backend_hits: u64,
    /// Reads served from writes that their source has not taken yet.
    pub pending_hits: u64,
    /// Reads that found nothing in any tier; those that may load began one, unless a failure was remembered.
    pub misses: u64,
    /// Reads answered by a load that another caller had begun.
    pub coalesced: u64,
    /// Stale values served.
    pub stale_served: u64,
    /// Stale values served because the load took longer than the soft timeout.
    pub soft_timeouts: u64,
    /// Reads answered by a remembered failure, or by a stale value because of it, without a load.
    pub backed_off: u64,
    /// Refreshes that began while the value was still fresh.
    pub early_refreshes: u64,
    /// Early refreshes that were due and did not begin, since the refresh budget was spent.
    pub refreshes_refused: u64,
    /// Loads that gave a value or "absent".
    pub loads: u64,
    /// Loads that failed, by an error, a panic or a timeout, or were given up because nobody waited.
    pub load_failures: u64,
    /// Results not stored because their right had been revoked.
    pub fenced: u64,
    /// Values not stored because a newer version of their key was known.
    pub outdated: u64,
    /// Records of the shared tier that could not be used.
    pub undecodable: u64,
    /// Values that the shared tier could not be given.
    pub unstorable: u64,
    /// Failed operations of the shared tier.
    pub backend_failures: u64,
    /// Invalidations the shared tier could not take at once.
    pub deferred: u64,
    /// Times that more of them waited than are kept, and a clear took the place of all
    /// ([`deferred_limit`](crate::CacheBuilder::deferred_limit)).
    pub deferred_overflows: u64,
    /// Deferred invalidations replayed since.
    pub replayed: u64,
    /// Times that another server answered than before, or that it had started anew.
    pub fail_overs: u64,
    /// Invalidations heard from other processes.
    pub heard: u64,
    /// Times that something may have been missed on the bus, and memory was distrusted.
    pub gaps: u64,
    /// Times that the registration among the members of the fleet has ended before it was renewed.
    pub lapses: u64,
    /// Acknowledged writes that were lost: a write-behind without a journal has ended before its source had them.
    pub writes_lost: u64,
    /// Background tasks and observers that panicked.
    pub task_panics: u64,
    /// Keys whose invalidation is still to be replayed, now.
    pub pending_invalidations: u64,
    /// Messages of this cache that are still to be sent on the bus, now: subjects, not batches.
    pub pending_messages: u64,
    /// Messages with invalidations that the bus could not take and that were given up. Others notice by their
    /// numbers, which are missing, or by this cache's silence, and distrust what they have.
    pub dropped_messages: u64,
    /// Loads in progress, now.
    pub flights: u64,
    /// The memory tier's own figures.
    pub memory: StoreStats,
}

impl Stats {
    /// The share of reads served without the loader: from memory, from the shared tier, from what waits to be
    /// written, or stale. Zero
    /// before the first read.
    pub fn hit_ratio(&self) -> f64 {
        let hits = self.memory_hits + self.backend_hits + self.pending_hits + self.stale_served;
        let reads = hits + self.misses + self.coalesced;
        if reads == 0 { 0.0 } else { hits as f64 / reads as f64 }
    }
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Counters {
    memory_hits: Striped,
    backend_hits: AtomicU64,
    pending_hits: AtomicU64,
    misses: AtomicU64,
    coalesced: AtomicU64,
    stale_served: AtomicU64,
    soft_timeouts: AtomicU64,
    backed_off: AtomicU64,
    early_refreshes: AtomicU64,
    refreshes_refused: AtomicU64,
    loads: AtomicU64,
    load_failures: AtomicU64,
    fenced: AtomicU64,
    outdated: AtomicU64,
    undecodable: AtomicU64,
    unstorable: AtomicU64,
    backend_failures: AtomicU64,
    deferred: AtomicU64,
    deferred_overflows: AtomicU64,
    replayed: AtomicU64,
    fail_overs: AtomicU64,
    heard: AtomicU64,
    gaps: AtomicU64,
    lapses: AtomicU64,
    writes_lost: AtomicU64,
    task_panics: AtomicU64,
}

impl Counters {
    /// A fresh hit in memory: the one event that is counted tens of millions of times a second.
    #[inline]
    pub(crate) fn memory_hit(&self) {
        self.memory_hits.increment();
    }

    pub(crate) fn count(&self, event: &Event<'_>) {
        let counter = match event {
            Event::Hit { tier: Tier::Memory } => return self.memory_hit(),
            Event::Hit { tier: Tier::Pending } => &self.pending_hits,
            Event::Hit { .. } => &self.backend_hits,
            Event::WritesLost { count } => {
                self.writes_lost.fetch_add(*count, Ordering::Relaxed);
                return;
            }
            Event::Miss => &self.misses,
            Event::StaleServed { .. } => &self.stale_served,
            Event::Coalesced => &self.coalesced,
            Event::SoftTimeout => &self.soft_timeouts,
            Event::BackedOff => &self.backed_off,
            Event::EarlyRefresh => &self.early_refreshes,
            Event::RefreshRefused => &self.refreshes_refused,
            Event::Load { outcome: LoadOutcome::Ok, .. } => &self.loads,
            Event::Load { .. } => &self.load_failures,
            Event::Fenced { .. } => &self.fenced,
            Event::Outdated => &self.outdated,
            Event::Undecodable { .. } => &self.undecodable,
            Event::Unstorable { .. } => &self.unstorable,
            Event::BackendFailed { .. } => &self.backend_failures,
            Event::Deferred => &self.deferred,
            Event::DeferredOverflowed => &self.deferred_overflows,
            Event::Replayed => &self.replayed,
            Event::FailedOver => &self.fail_overs,
            Event::Heard => &self.heard,
            Event::Gap => &self.gaps,
            Event::Lapsed => &self.lapses,
            Event::TaskPanicked => &self.task_panics,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            memory_hits: self.memory_hits.sum(),
            backend_hits: read(&self.backend_hits),
            pending_hits: read(&self.pending_hits),
            misses: read(&self.misses),
            coalesced: read(&self.coalesced),
            stale_served: read(&self.stale_served),
            soft_timeouts: read(&self.soft_timeouts),
            backed_off: read(&self.backed_off),
            early_refreshes: read(&self.early_refreshes),
            refreshes_refused: read(&self.refreshes_refused),
            loads: read(&self.loads),
            load_failures: read(&self.load_failures),
            fenced: read(&self.fenced),
            outdated: read(&self.outdated),
            undecodable: read(&self.undecodable),
            unstorable: read(&self.unstorable),
            backend_failures: read(&self.backend_failures),
            deferred: read(&self.deferred),
            deferred_overflows: read(&self.deferred_overflows),
            replayed: read(&self.replayed),
            fail_overs: read(&self.fail_overs),
            heard: read(&self.heard),
            gaps: read(&self.gaps),
            lapses: read(&self.lapses),
            writes_lost: read(&self.writes_lost),
            task_panics: read(&self.task_panics),
            ..Stats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hit_ratio_counts_reads_served_without_the_loader() {
        let stats = Stats {
            memory_hits: 6,
            backend_hits: 1,
            stale_served: 1,
            misses: 1,
            coalesced: 1,
            ..Stats::default()
        };
        assert!((stats.hit_ratio() - 0.8).abs() < 1e-9);
        assert_eq!(Stats::default().hit_ratio(), 0.0);
    }
}
