//! Which mistake is made, thread by thread.

use std::cell::Cell;

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// A deliberate mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

mutants! {
    /// An invalidation leaves the flight of its key open for those who come later.
    LeavesFlightsOpen,
    /// Memory is filled whatever was invalidated since the read below began.
    FillsMemoryUnfenced,
    /// A copy by `get` takes its fence when it has read the shared tier, not before.
    FencesACopyLate,
    /// A flight takes its fence when it has read the shared tier, not before.
    FencesAFlightLate,
    /// An insert takes its fence when the shared tier has stored, not before.
    FencesAnInsertLate,
    /// A write-through takes no hold before it writes to the source.
    WritesThroughUnheld,
    /// A write-through takes its fence when the source has taken the write, not before.
    FencesAWriteThroughLate,
    /// A write-through that nobody knows the outcome of is not followed by a removal.
    ForgetsTheUnknown,
    /// What is put back from a snapshot is fenced when it is put back, not from the call on.
    FencesARestoreLate,
    /// What is put back from a snapshot counts as come into being when it is put back, not at the call.
    StampsARestoreLate,
    /// What is put back from a snapshot takes the place of what was loaded meanwhile.
    RestoresOverALoad,
    /// A removal forgets in memory first, then in the shared tier.
    ForgetsMemoryFirst,
    /// An insert or an invalidation runs in its caller's future, and ends with it.
    DropsInsteadOfDetaching,
    /// A removal that the shared tier has not taken is reported as done.
    ReportsDeferredAsDone,
    /// An invalidation that the shared tier has not taken is not replayed.
    ForgetsTheDeferred,
    /// An invalidation beyond the bound of what is kept for a replay is dropped.
    DropsBeyondTheBound,
    /// Reads go to the shared tier although an invalidation of the key has yet to be replayed there.
    TrustsWhatIsPending,
    /// An expired value is served while it is refreshed.
    RevalidatesTheExpired,
    /// An expiration reaches the shared tier and not memory.
    ExpiresBelowOnly,
    /// An insert lets older loads commit after it.
    InsertsAsAReader,
    /// Memory keeps copies for as long as the shared tier does.
    KeepsCopiesTooLong,
    /// A copy by `get_many` takes its fences when it has read the shared tier, not before.
    FencesCopiesLate,
    /// A flight of a batch takes its fence when it has read the shared tier, not before.
    FencesABatchLate,
    /// What the answer of a loader of many lacks is taken for absent.
    TakesTheUnansweredForAbsent,
    /// A removal of many leaves the flights of its keys open for those who come later.
    LeavesFlightsOpenToMany,
    /// A removal of many forgets in memory first, then in the shared tier.
    ForgetsManyFirst,
    /// A batch that fails does not give its leases back.
    KeepsTheLeasesOfAFailedBatch,
    /// A batch that nobody waits for is cancelled and does not give its leases back.
    KeepsTheLeasesOfADesertedBatch,
    /// A load that nobody waits for is cancelled and does not give its lease back.
    KeepsTheLeaseOfTheDeserted,
    /// A load that was overtaken because it seemed to hang is stored all the same.
    StoresWhatWasOvertaken,
    /// A failure is remembered although its key was invalidated since.
    RemembersFailuresOfTheRemoved,
    /// An early refresh is content with the value that it is to replace.
    RefreshesByWhatIsThere,
    /// The tokens of each process are the same ones in the same order, as if they were counters.
    CountsTokens,
    /// Who asked after a tag was removed is served by a load that began before.
    JoinsAcrossATag,
    /// What the shared tier has is taken without asking what its tags stand at there.
    TrustsTagsUnread,
    /// A tag without a token counts as one that nobody removed.
    TakesNoTokenForGood,
    /// The tokens of tags that a loader decides are taken as they stand after the load.
    IgnoresTheEpoch,
    /// After a load, the epoch is read before the tokens, not after.
    ReadsTheEpochFirst,
    /// A tag's removal changes the tag's token before the epoch.
    RotatesTheEpochLast,
    /// A removal of a key leaves what depends on it in the shared tier.
    LeavesDependants,
    /// A removal of a key ends what depends on it before the key itself.
    EndsDependantsFirst,
    /// Others are told of a removal before the shared tier has taken it.
    AnnouncesFirst,
    /// Others are not told when a deferred invalidation has been replayed.
    SkipsTheSecondMessage,
    /// What another process has yet to invalidate is read in the shared tier.
    TrustsWhatOthersHavePending,
    /// After a fail-over, nothing is invalidated again.
    TrustsAfterFailOver,
    /// A gap on the bus changes nothing.
    IgnoresGaps,
    /// A gap on the bus leaves flights as they are.
    KeepsFlightsInAGap,
    /// Memory is used before the bus has confirmed the subscription.
    TrustsBeforeSubscribed,
    /// A message drops what memory holds, and leaves what is in flight.
    HearsWithoutVoiding,
    /// A tag's removal ends at the shared tier: memory goes on serving.
    RemovesTagsBelowOnly,
    /// What a publisher said before it was heard of first counts as heard.
    TakesFirstContactForGood,
    /// A publisher that falls silent is forgotten, and nothing else.
    TrustsTheSilent,
    /// Values that another era stored are read like any other.
    TrustsValuesOfAnotherEra,
    /// A lease that was granted in one era stores in the next.
    KeepsLeasesAcrossEras,
    /// Tags stand at the same tokens in every era.
    KeepsTagsAcrossEras,
    /// A sweep of a cluster takes it that no slot has moved.
    SweepsAClusterOnce,
    /// What somebody says on the bus who follows no contract is not heard.
    IgnoresForeigners,
    /// Where values do not say which tags they have, the removal of a tag leaves in memory what was read.
    KeepsTheUntagged,
    /// A cache counts its own registration from the answer on, not from when it asked.
    LeasesItselfFromTheReply,
    /// Who is to confirm an invalidation is read before it is done.
    ReadsTheMembersFirst,
    /// A lapse of the own registration leaves flights as they are.
    KeepsFlightsInALapse,
    /// Memory is used before the cache is registered, for what was filled until then too.
    TrustsBeforeEnrolled,
    /// A message is acknowledged before what it names is given up.
    AcksBeforeItVoids,
    /// An insert looks at the floor of its key's versions before its hold, and not again under it.
    SkipsTheCheckUnderTheHold,
    /// A load stores its version although a newer one is known.
    StoresAnOutdatedLoad,
    /// A read that prolongs a life prolongs whatever has taken the place of what it hit.
    TouchesASuccessor,
    /// What a read has prolonged goes back to memory whatever was invalidated meanwhile.
    ProlongsUnfenced,
    /// A removal of what is older than a version leaves no floor against what is yet to come.
    LeavesNoTombstone,
    /// A write-behind leaves in the tiers what was there before its flush.
    FlushesWithoutRemoving,
    /// After a flush, reads look at the tiers before these have given up what they had.
    DropsTheOverlayBeforeTheRemove,
    /// A write is acknowledged before the journal has it.
    AcknowledgesBeforeTheJournal,
    /// A write is sent while an older one of its key is at the source.
    OvertakesTheWriteInFlight,
    /// A write becomes one with another from before a barrier.
    CoalescesAcrossABarrier,
    /// What the source has not taken is forgotten.
    DropsTheWritesOfAFailedFlush,
    /// A removal is acknowledged that one of the servers it concerns has not taken.
    TakesAPartForTheWhole,
    /// A removal goes to the server that is read, and to no other that may hold the key.
    RemovesFromOneOwner,
    /// One token of a tag is sent to several servers.
    SendsOneTokenToAll,
}

thread_local! {
    static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Whether `mutant` is the one this thread runs under.
pub fn is_active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Does `work` under `mutant`, on this thread; not what `work` does on others. `None`: without a mistake.
pub fn under<R>(mutant: Option<Mutant>, work: impl FnOnce() -> R) -> R {
    let _before = Before(ACTIVE.replace(mutant));
    work()
}

/// Puts back what was active before, also after a panic.
struct Before(Option<Mutant>);

impl Drop for Before {
    fn drop(&mut self) {
        ACTIVE.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_is_active_in_its_work_only() {
        let mutant = Some(Mutant::CountsTokens);
        assert!(under(mutant, || crate::mutant!(CountsTokens) && !crate::mutant!(FencesACopyLate)));
        assert!(!crate::mutant!(CountsTokens));
        assert!(std::panic::catch_unwind(|| under(mutant, || panic!("on purpose"))).is_err());
        assert!(!crate::mutant!(CountsTokens));
    }
}
