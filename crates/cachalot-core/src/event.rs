//! What happens inside a cache, for metrics and traces.

use std::time::Duration;

use crate::Error;

/// Where a value came from, or where something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// L1: this process.
    Memory,
    /// L2: the shared tier.
    Backend,
    /// Neither: the loader, just now.
    Loader,
    /// A write of this process that its source has not taken yet.
    Pending,
}

/// Something that happened. Borrowed: an observer that keeps it copies what it needs.
///
/// Each read ends in exactly one of [`Hit`](Event::Hit), [`Miss`](Event::Miss),
/// [`Coalesced`](Event::Coalesced) and [`StaleServed`](Event::StaleServed), unless its caller leaves before.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A read was served from a tier.
    Hit {
        /// The tier.
        tier: Tier,
    },
    /// A read found nothing in any tier: what it gave, if anything, is from a load that it began.
    Miss,
    /// A stale value was served; why is in `revalidating`.
    StaleServed {
        /// `true`: while a load runs, a refresh or one that exceeds the soft timeout. `false`: because the
        /// load failed.
        revalidating: bool,
    },
    /// A read was answered by a load that another caller had begun.
    Coalesced,
    /// A caller was served a stale value because the load took longer than the soft timeout.
    SoftTimeout,
    /// A read was answered by a failure that is still remembered, or by a stale value because of it; nothing
    /// was loaded.
    BackedOff,
    /// A refresh of a value that is still fresh began.
    EarlyRefresh,
    /// An early refresh was due and did not begin: the refresh budget is spent.
    RefreshRefused,
    /// A loader ended.
    Load {
        /// How.
        outcome: LoadOutcome,
        /// The loader's time alone.
        took: Duration,
    },
    /// A result was not stored because its right had been revoked by an invalidation or a newer holder.
    Fenced {
        /// The tier that refused.
        tier: Tier,
    },
    /// A value was not stored because a newer version of its key is known.
    Outdated,
    /// Bytes in the shared tier could not be used and count as a miss: foreign, damaged, or of another
    /// format or codec.
    Undecodable {
        /// What was wrong with them.
        error: &'a Error,
    },
    /// A value was not stored in the shared tier because it could not be encoded or is too large.
    Unstorable {
        /// Why.
        error: &'a Error,
    },
    /// An operation of the shared tier failed; the cache goes on without it.
    BackendFailed {
        /// How.
        error: &'a Error,
    },
    /// An invalidation could not reach the shared tier and waits for its replay.
    Deferred,
    /// More invalidations wait for their replay than are kept: one of everything has taken the place of all.
    DeferredOverflowed,
    /// A deferred invalidation has reached the shared tier.
    Replayed,
    /// Another server of the shared tier answers than before, or it has started anew: what was invalidated of late
    /// is invalidated again.
    FailedOver,
    /// A part of a removal by pattern, or of a clear, has been done in the shared tier.
    Swept {
        /// How many records that part removed.
        removed: u64,
    },
    /// Another process has invalidated something, and it is done here too.
    Heard,
    /// Something may have been missed on the bus: nothing that memory holds is trusted any more.
    Gap,
    /// The registration of this cache among the members of its fleet has ended before it was renewed: memory serves
    /// nothing until there is another.
    Lapsed,
    /// The source has taken what a write-behind gave it in one call.
    WritesFlushed {
        /// How many writes, each of another key.
        count: usize,
        /// The source's time alone.
        took: Duration,
    },
    /// The source has not taken what a write-behind gave it, or has not answered in time. Nothing is lost: it is tried
    /// again.
    FlushFailed {
        /// How many writes.
        count: usize,
        /// What the source said.
        reason: &'a str,
    },
    /// A write is tried no more: it is among the dead letters of its write-behind.
    WriteDead {
        /// What the source said.
        reason: &'a str,
    },
    /// Writes that were acknowledged are lost: a write-behind without a journal has ended before its source had them.
    WritesLost {
        /// How many.
        count: u64,
    },
    /// A background task of the cache panicked, or an [`Observer`]. A bug of ours, or of a `Drop` or codec of yours.
    TaskPanicked,
}

/// How a loader ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadOutcome {
    /// With a value, or with "absent".
    Ok,
    /// With its own error.
    Error,
    /// Not within the time that a load may run.
    Timeout,
    /// By a panic.
    Panicked,
    /// Not at all: nobody waited for it any more, and it was given up.
    Cancelled,
}

/// Sees every [`Event`] of a cache, on the thread where it happens. Must be quick and must not call back
/// into the cache. One that panics costs nothing but its own answer; the cache counts it as a task that panicked.
pub trait Observer: Send + Sync + 'static {
    /// Called once per event.
    fn on_event(&self, event: &Event<'_>);
}
