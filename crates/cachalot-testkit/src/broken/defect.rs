//! What can be wrong with a backend.

macro_rules! defects {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// What is wrong with a [`BrokenBackend`](super::BrokenBackend).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Defect {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Defect {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

defects! {
    /// Says it has no leases, and has some.
    DeniesItsLeases,
    /// Says that every record is brand-new.
    NeverGrowsOlder,
    /// Shows every record under one and the same nonce.
    ShowsNoNonce,
    /// Shows a lease alone as an empty value.
    ShowsALeaseAsAValue,
    /// Marks every hit as invalidated.
    MarksEveryHit,
    /// Hands out an empty stale value where none was.
    InventsAStaleValue,
    /// Takes an empty payload for none.
    TakesEmptyForAbsent,
    /// Keeps at most 64 KiB of a payload.
    CutsPayloads,
    /// Ends keys at their first zero byte.
    CutsKeys,
    /// Answers a read of many keys in another order.
    ReordersAMultiGet,
    /// Answers a key that was asked for twice only once.
    AnswersARepeatedKeyOnce,
    /// Answers once where no key was asked for.
    AnswersNoKeys,
    /// Gives wrong answers after a caller has left in the middle of a read.
    NeverRecoversFromADrop,
    /// Says it removed something where nothing was.
    AlwaysRemovesSomething,
    /// Answers a key that was removed twice only once.
    RemovesARepeatedKeyOnce,
    /// Removes the value and lets the lease stand.
    RemovesWithoutRevoking,
    /// Removes nothing where no value is stored, leases included.
    RemovesOnlyWhatIsStored,
    /// Removes a writer's hold instead of poisoning it.
    RemovesAHold,
    /// Lets a writer's hold stand as it is.
    RemovesBesideAHold,
    /// Removes only the first of many keys.
    StopsAMultiRemoveAtTheFirst,
    /// Sweeps the value and lets the lease stand.
    SweepsWithoutRevoking,
    /// Sweeps values only, not leases alone.
    SweepsOnlyWhatIsStored,
    /// Sweeps a writer's hold away instead of poisoning it.
    SweepsHoldsAway,
    /// Lets a writer's hold stand as it is in a sweep.
    SweepsBesideAHold,
    /// Sweeps `usersAbc` with `users`.
    SweepsNeighbouringNamespaces,
    /// Sweeps whatever begins as the pattern does.
    SweepsAllThatBeginsAlike,
    /// Sweeps no key that is not text.
    SweepsTextOnly,
    /// Ends a sweep after its first part.
    StopsASweepAtTheFirstPart,
    /// Takes a part without a match for the end of a sweep.
    StopsASweepWhereNothingMatches,
    /// Leaves the last key of each part of a sweep out.
    ForgetsTheLastOfAPart,
    /// Begins a sweep anew when it is done.
    NeverEndsASweep,
    /// Goes on sweeping what matches, also what comes later.
    SweepsForEver,
    /// Says that a sweep removed nothing.
    CountsNoSweptKeys,
    /// Expires without marking the value, so that it still is a hit.
    ExpiresWithoutAMark,
    /// Expires and lets the lease stand.
    ExpiresWithoutRevoking,
    /// Gives an expired value `keep` to live, also if it had less.
    ExpiresForLonger,
    /// Keeps an expired value until its own end.
    ForgetsKeep,
    /// Prolongs whatever is under the key.
    TouchesAnything,
    /// Shortens a life too.
    TouchesForLess,
    /// Counts the age from the touch on.
    TouchesToRejuvenate,
    /// Answers a hit to a caller that has refused that value.
    IgnoresRefusal,
    /// Gives the lease to everybody who asks.
    GrantsTwoLeases,
    /// Gives leases while a writer holds.
    GrantsLeasesUnderAHold,
    /// Hands out no stale value to who is busy.
    BusyWithoutStale,
    /// Hands out no stale value with the lease.
    LeasesWithoutStale,
    /// Lets the lease end when the value beside it does.
    LetsTheLeaseDieWithTheValue,
    /// Drops the old value when its reload begins.
    DropsTheValueOnALease,
    /// Gives leases no deadline.
    LeasesWithoutEnd,
    /// Stores by any token while a lease is outstanding.
    IgnoresTheToken,
    /// Stores by a token that was good once, while another's lease is outstanding.
    AcceptsAnEarlierToken,
    /// Stores over any value that nobody reloads.
    StoresOverAnyValue,
    /// Says of an absent record that another has the right.
    CallsAbsentLost,
    /// Stores where no record is.
    StoresOnAbsent,
    /// Stores for ever.
    LosesTheTtl,
    /// Counts a time to live in 31 bits; what is longer ends at once.
    OverflowsAfterTwentyFourDays,
    /// Leaves a replaced value's time to live as it was.
    KeepsTheOldTtl,
    /// Leaves a replaced value's mark as it was.
    KeepsTheOldMark,
    /// Stores by a token that was good once, over a value that nobody reloads.
    AcceptsASpentToken,
    /// Refuses a put after the lease's deadline.
    RefusesALatePut,
    /// Stores for a second what was to be stored for no time.
    StoresForNoTime,
    /// Keeps the right of a put that stores nothing.
    KeepsTheRightOfAnEmptyPut,
    /// Says it released a lease and does not.
    ReleasesInWordsOnly,
    /// Says it released a lease where none was.
    AlwaysReleasesSomething,
    /// Releases a lease by any token.
    ReleasesByAnyToken,
    /// Drops the old value when its reload is given up.
    DropsTheValueOnRelease,
    /// Releases a writer's hold too.
    ReleasesAHold,
    /// Lets the old value be read while a writer holds.
    HoldsBesideTheValue,
    /// Gives holds no deadline.
    HoldsWithoutEnd,
    /// Leaves the first of two holds good.
    OverlapsWithoutPoison,
    /// Gives the hold to the second of two writers.
    PassesTheHoldOn,
    /// Ends a poisoned hold at the second writer's deadline.
    PoisonsUntilTheSecondDeadline,
    /// Stores by any token while a writer holds.
    IgnoresTheWritersToken,
    /// Stores by a hold whose deadline has passed.
    StoresAfterTheHold,
    /// Leaves the record as it is when a writer comes too late.
    SparesTheRecordOfALateWriter,
    /// Answers tags in another order.
    ReordersTags,
    /// Answers with a token of its own where a tag has none.
    InventsATag,
    /// Puts a new token where a tag has one.
    PinsOverAToken,
    /// Keeps tags for ever.
    PinsForEver,
    /// Acknowledges the removal of a tag and changes nothing.
    RotatesNothing,
    /// Leaves a tag without a token when it is to be rotated.
    RotatesOnlyWhatIsThere,
    /// Counts the life of a tag in 31 bits; what is longer ends at once.
    PinsForTwentyFourDays,
    /// Gives an expired tag the life of a new one.
    ShortensAnExpiredTag,
    /// Changes both halves of an expired tag.
    ExpiresATagAsARemoval,
    /// Changes one half of a removed tag.
    RemovesATagAsAnExpiry,
    /// Keeps members on their lists for ever.
    StrikesOffNobody,
    /// Strikes members off when half of their term is over.
    StrikesOffTooEarly,
    /// Counts a term in 31 bits; what is longer ends at once.
    EnrollsForTwentyFourDays,
    /// Acknowledges a renewal and does nothing.
    RenewsNobody,
    /// Gives a member the shorter of two terms, if it came last.
    ShortensATerm,
    /// Strikes all others off when somebody comes.
    EnrollsOneAlone,
    /// Says of everybody who comes that it was listed.
    TakesAnybodyForListed,
    /// Says of nobody who comes that it was listed.
    TakesNobodyForListed,
    /// Gives a registry another number when somebody renews.
    RenumbersRegistries,
    /// Counts a registry's age from the last enrolment on.
    BeginsRegistriesAnew,
    /// Says that every registry is as old as time.
    ClaimsAllAges,
    /// Acknowledges that somebody leaves and does nothing.
    LeavesInWordsOnly,
    /// Says that somebody has left who was not there.
    AlwaysLeaves,
    /// Strikes all off when one leaves.
    DismissesAll,
    /// Lists 64 members at most.
    ListsSomeMembers,
    /// Lists members without their names.
    ForgetsNames,
    /// Keeps all members on one list, of whichever cache they are.
    MixesRegistries,
    /// Sweeps the members with the records.
    SweepsMembersAway,
    /// Sets a floor to whatever version comes, also a lower one.
    LowersAFloor,
    /// Compares versions as numbers of 53 bits.
    ComparesVersionsAsDoubles,
    /// Compares versions as numbers with a sign.
    ComparesVersionsSigned,
    /// Answers the floor that stands after a raise, not before.
    AnswersTheFloorThatStands,
    /// Gives a floor the life of the last raise, also a shorter one.
    CutsTheLifeOfAFloor,
    /// Lets a floor that is raised end when it would have ended.
    ProlongsNoFloor,
    /// Prolongs no floor that is not raised.
    ProlongsOnlyARaisedFloor,
    /// Keeps floors for ever.
    KeepsFloorsForEver,
    /// Has one floor for all keys.
    SharesOneFloor,
    /// Counts the life of a floor in 31 bits; what is longer ends at once.
    OverflowsAFloorsLife,
    /// Takes a version of 0 for one.
    RaisesByReading,
    /// Sweeps floors away with their keys.
    SweepsFloors,
}
