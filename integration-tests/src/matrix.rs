//! Who invalidates, and what is under way meanwhile: the table of what must hold.

use crate::{Cell, Invalidator, Place, Victim};

/// Who invalidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// `remove`, of one key or of many.
    Remove,
    /// `expire`
    Expire,
    /// `insert`, of one key or of many.
    Insert,
    /// The removal of a tag.
    Tag,
    /// The removal of a pattern.
    Pattern,
    /// The removal of everything.
    Clear,
    /// The next version of a key.
    VersionBump,
    /// What another process has removed, told by the bus.
    Message,
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// A load that its caller waits for.
    ForegroundLoad,
    /// A load whose caller has been served something old.
    SoftTimeout,
    /// The refresh of a value that is still fresh.
    EarlyRefresh,
    /// The refresh of a value that is served stale meanwhile.
    StaleWhileRevalidate,
    /// A read of many keys.
    Batch,
    /// A copy from the shared tier to memory.
    Copy,
    /// A write through to the source.
    WriteThrough,
    /// The flush of a write that the source has not seen yet.
    WriteBehindFlush,
}

impl Row {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Remove,
        Self::Expire,
        Self::Insert,
        Self::Tag,
        Self::Pattern,
        Self::Clear,
        Self::VersionBump,
        Self::Message,
    ];

    /// The ways to do it; none as long as there is none.
    pub fn invalidators(self) -> &'static [Invalidator] {
        match self {
            Self::Remove => &[Invalidator::Remove, Invalidator::RemoveMany],
            Self::Expire => &[Invalidator::Expire],
            Self::Insert => &[Invalidator::Insert, Invalidator::InsertMany],
            Self::Tag => &[Invalidator::DecidedTag, Invalidator::DeclaredTag, Invalidator::ExpiredTag],
            Self::Pattern => &[Invalidator::Pattern],
            Self::Clear => &[Invalidator::Clear],
            Self::Message => &[
                Invalidator::Remove,
                Invalidator::DecidedTag,
                Invalidator::DeclaredTag,
                Invalidator::Pattern,
                Invalidator::Clear,
            ],
            Self::VersionBump => &[Invalidator::RemoveOlder, Invalidator::InsertNewer],
        }
    }

    /// Where the invalidator is, as seen from the victim.
    pub fn places(self) -> &'static [Place] {
        match self {
            Self::Message => &[Place::OnABus],
            _ => &[Place::Here, Place::Elsewhere],
        }
    }
}

impl Column {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ForegroundLoad,
        Self::SoftTimeout,
        Self::EarlyRefresh,
        Self::StaleWhileRevalidate,
        Self::Batch,
        Self::Copy,
        Self::WriteThrough,
        Self::WriteBehindFlush,
    ];

    /// The ways to do it; none as long as there is none.
    pub fn victims(self) -> &'static [Victim] {
        match self {
            Self::ForegroundLoad => &[
                Victim::ColdLoad,
                Victim::JoinedLoad,
                Victim::StaleBelow,
                Victim::RefusedBelow,
                Victim::FailingLoad,
            ],
            Self::SoftTimeout => &[Victim::LeftLoad, Victim::LeftLoadBelow],
            Self::EarlyRefresh => &[Victim::EarlyRefresh, Victim::EarlyRefreshBelow],
            Self::StaleWhileRevalidate => &[Victim::Refresh, Victim::RefreshBelow],
            Self::Batch => {
                &[Victim::BatchLoad, Victim::BatchOverStale, Victim::BatchCopy, Victim::BatchCopyByLoad]
            }
            Self::Copy => &[Victim::CopyByGet, Victim::CopyByLoad],
            Self::WriteThrough => &[Victim::WriteCold, Victim::WriteWarm, Victim::Delete, Victim::WriteMany],
            Self::WriteBehindFlush => &[Victim::Flush, Victim::FlushDelete],
        }
    }
}

/// Whether a cell of the matrix can be run: both its sides are there.
pub fn is_live(row: Row, column: Column) -> bool {
    !row.invalidators().is_empty() && !column.victims().is_empty()
}

/// All that a cell of the matrix consists of, with or without a shared tier.
pub fn cells(row: Row, column: Column, is_shared: bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    for victim in column.victims().iter().copied() {
        for invalidator in row.invalidators().iter().copied() {
            for place in row.places().iter().copied() {
                let is_there = is_shared || (place != Place::Elsewhere && !victim.needs_a_shared_tier());
                // Which loads an expired tag is about is not known before they end: who joins one that fails may be
                // served what was expired, as its docs say.
                let is_promised = (victim, invalidator) != (Victim::FailingLoad, Invalidator::ExpiredTag);
                if is_there && is_promised {
                    cells.push(Cell { victim, invalidator, place });
                }
            }
        }
    }
    cells
}
