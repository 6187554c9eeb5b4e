//! Who is interrupted by whom, and where.

use std::fmt;

use cachalot::Tags;

use super::run::NEW;
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
        )
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

    /// Which one `value` is.
    pub(super) fn version_of(self, value: &str) -> u64 {
        if self.is_versioned() { 1 + u64::from(value == NEW) } else { 0 }
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
