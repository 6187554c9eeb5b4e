//! Who is interrupted by whom, and where.

use std::fmt;

use cachalot::Tags;

use super::run::{NEW, OLD};
use super::{AT_ONCE, Builder, HOUR};
use crate::L1;

/// Who is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Loads a key that no tier knows.
    ColdLoad,
    /// The same, with others waiting for that load.
    JoinedLoad,
    /// Serves a stale value of memory and refreshes it behind.
    Refresh,
    /// Serves a stale value of the shared tier and refreshes it behind.
    RefreshBelow,
    /// Loads because the value in the shared tier is too old to be served.
    StaleBelow,
    /// Loads because the value in the shared tier has another schema, and is refused by its nonce.
    RefusedBelow,
    /// Loads over a stale value, and fails.
    FailingLoad,
    /// Copies from the shared tier to memory by `get`.
    CopyByGet,
    /// Copies from the shared tier to memory by `get_or_load`.
    CopyByLoad,
    /// Loads over a stale value of memory, which its caller is served when it has waited for long enough.
    LeftLoad,
    /// The same over a stale value of the shared tier.
    LeftLoadBelow,
    /// Serves a fresh value of memory and refreshes it behind.
    EarlyRefresh,
    /// Serves a fresh value of the shared tier and refreshes it behind.
    EarlyRefreshBelow,
    /// Loads many keys that no tier knows.
    BatchLoad,
    /// Loads many keys because their values in the shared tier are too old to be served.
    BatchOverStale,
    /// Copies many keys from the shared tier to memory.
    BatchCopy,
    /// The same by a call that would load them.
    BatchCopyByLoad,
    /// Writes a key through that no tier knows.
    WriteCold,
    /// Writes a key through that all tiers know.
    WriteWarm,
    /// Deletes a key through that all tiers know, and keeps that it is absent.
    Delete,
    /// Writes many keys through.
    WriteMany,
    /// Gives the source a write that was collected, of a key that all tiers know.
    Flush,
    /// Gives the source a deletion that was collected.
    FlushDelete,
}

impl Victim {
    /// Whether there must be a shared tier to bring it about.
    pub fn needs_a_shared_tier(self) -> bool {
        !matches!(
            self,
            Self::ColdLoad
                | Self::JoinedLoad
                | Self::Refresh
                | Self::FailingLoad
                | Self::LeftLoad
                | Self::EarlyRefresh
                | Self::BatchLoad
        ) && !self.writes()
    }

    /// Whether it changes the source.
    pub fn writes(self) -> bool {
        self.writes_through() || matches!(self, Self::Flush | Self::FlushDelete)
    }

    /// Whether it holds the key meanwhile.
    pub(super) fn writes_through(self) -> bool {
        matches!(self, Self::WriteCold | Self::WriteWarm | Self::Delete | Self::WriteMany)
    }

    /// Whether it changes the source to what is newer than what the invalidation is about, where there are versions.
    pub(super) fn writes_the_newest(self) -> bool {
        matches!(self, Self::WriteCold | Self::Delete)
    }

    /// Whether it needs what memory has.
    pub(super) fn finds_in_memory(self) -> bool {
        matches!(self, Self::Refresh | Self::FailingLoad | Self::LeftLoad | Self::EarlyRefresh)
    }

    /// The settings of a cache in which it comes about.
    pub(super) fn settle<S: L1>(self, builder: Builder<S>) -> Builder<S> {
        match self {
            Self::Refresh | Self::RefreshBelow => builder.stale_while_revalidate(HOUR),
            Self::LeftLoad | Self::LeftLoadBelow => builder.soft_timeout(AT_ONCE),
            // Almost at once; only one, lest those who check begin another.
            Self::EarlyRefresh | Self::EarlyRefreshBelow => builder.early_refresh(1e-7).refresh_budget(1, 1),
            // Who stands in the source for a while is not a source that has no answer.
            Self::Delete => builder.hold_term(HOUR).negative_ttl(HOUR),
            victim if victim.writes_through() => builder.hold_term(HOUR),
            _ => builder,
        }
    }
}

/// Who acts meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidator {
    /// `remove`
    Remove,
    /// `expire`
    Expire,
    /// `insert` of the new value
    Insert,
    /// `remove_many`
    RemoveMany,
    /// `insert_many` of the new value, and one of another key
    InsertMany,
    /// `remove_tag` of one that the loader decides
    DecidedTag,
    /// `remove_tag` of one that each call declares
    DeclaredTag,
    /// `expire_tag` of one that the loader decides
    ExpiredTag,
    /// `remove_pattern` that matches the key among others
    Pattern,
    /// `clear`
    Clear,
    /// `remove_older` than the version of the new value
    RemoveOlder,
    /// `insert` of the new value as its version
    InsertNewer,
}

impl Invalidator {
    /// Whether what it leaves may be served when a load fails.
    pub(super) fn leaves_a_fallback(self) -> bool {
        matches!(self, Self::Expire | Self::ExpiredTag)
    }

    /// Whether all that is stored has a version.
    pub(super) fn is_versioned(self) -> bool {
        matches!(self, Self::RemoveOlder | Self::InsertNewer)
    }

    /// The version of the new value.
    pub(super) fn version_of_new(self) -> u64 {
        if self.is_versioned() { VERSION_OF_NEW } else { 0 }
    }

    /// Whether it brings the new value.
    pub(super) fn inserts(self) -> bool {
        matches!(self, Self::Insert | Self::InsertMany | Self::InsertNewer)
    }

    /// Until which of its boundaries the shared tier does not know of it, if it brings the new value without saying
    /// which version that is.
    pub(super) fn comes_unknown_until(self) -> usize {
        match self {
            Self::Insert => 1,
            // The other key's four may all come first.
            Self::InsertMany => 5,
            _ => 0,
        }
    }

    /// The settings of a cache in which it can act.
    pub(super) fn settle<S: L1>(self, builder: Builder<S>) -> Builder<S> {
        if self.is_versioned() { builder.versioned() } else { builder }
    }

    /// Whether the loader gives what it loads a tag.
    pub(super) fn decides(self) -> bool {
        matches!(self, Self::DecidedTag | Self::ExpiredTag)
    }

    /// The tags that calls declare.
    pub(super) fn declared(self) -> Tags {
        match self {
            Self::DeclaredTag => Tags::new([TAG]).unwrap(),
            _ => Tags::NONE,
        }
    }
}

/// Later than the old one, and than one of a write before it.
const VERSION_OF_NEW: u64 = 3;

/// The tag of what is loaded, where there is one.
pub(super) const TAG: &str = "tag";

/// Where the invalidator is, as seen from the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the same process.
    Here,
    /// In another process over the same shared tier.
    Elsewhere,
    /// In another process that tells it over a bus.
    OnABus,
}

/// Whether anybody reads while the victim still stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Only when all have ended.
    After,
    /// Also between the end of the invalidation and the victim's going on.
    Between,
    /// Another process loads: it begins when the invalidation has ended, and holds its lease until the
    /// victim has ended.
    Loading,
}

impl Probe {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::After, Self::Between, Self::Loading];
}

/// What is interleaved with what: a part of a cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Who is interrupted.
    pub victim: Victim,
    /// Who acts meanwhile.
    pub invalidator: Invalidator,
    /// Where.
    pub place: Place,
}

impl Cell {
    /// Which version `value` is, if that matters.
    pub(super) fn version_of(self, value: &str) -> u64 {
        match value {
            _ if !self.invalidator.is_versioned() => 0,
            OLD => 1,
            NEW => VERSION_OF_NEW,
            _ => self.version_of_write(),
        }
    }

    /// Which version the victim brings.
    pub(super) fn version_of_write(self) -> u64 {
        match self.invalidator.is_versioned() {
            false => 0,
            true if self.victim.writes_the_newest() => VERSION_OF_NEW + 1,
            true => VERSION_OF_NEW - 1,
        }
    }

    /// Whether an insert waits for the victim to end, since writers of a key take turns in a process.
    pub(super) fn takes_turns(self) -> bool {
        self.victim.writes_through() && self.invalidator.inserts() && self.place == Place::Here
    }
}

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The victim stands when the invalidator begins; the victim goes on first.
    VictimFirst,
    /// The invalidator stands when the victim begins; the invalidator goes on first.
    InvalidatorFirst,
}

/// At which steps the two are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The victim stops at this boundary.
    pub victim: usize,
    /// The invalidator stops at this one. `None`: it goes to its end.
    pub invalidator: Option<usize>,
    /// Who begins, and who goes on first when both stand.
    pub order: Order,
    /// Who reads meanwhile.
    pub probe: Probe,
}

/// Whether both came to the boundaries they were to stop at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// The victim did.
    pub victim: bool,
    /// The invalidator did, or was not to stop.
    pub invalidator: bool,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} x {:?} {:?}", self.invalidator, self.victim, self.place)
    }
}
