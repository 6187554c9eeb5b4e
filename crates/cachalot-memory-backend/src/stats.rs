//! Figures for people and metrics.

/// Figures of a [`Memory`](crate::Memory), as [`Memory::stats`](crate::Memory::stats) gives them. Always on;
/// they count from its making and may lag behind by the operations in progress.
///
/// Counting is cheap: reads are counted by each thread for itself, in a place that only it writes, and summed
/// when asked for; the rest is counted under locks that are held anyway.
///
/// Every value stored is still held or was counted once when it left: at rest,
/// `inserts == entries + evicted + expired + removed + replaced`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Entries held, expired ones not yet collected included.
    pub entries: u64,
    /// Their weight.
    pub weight: u64,
    /// The bound on the weight.
    pub capacity: u64,
    /// Reads that were served.
    pub hits: u64,
    /// Reads that were not.
    pub misses: u64,
    /// Values stored, new and replaced.
    pub inserts: u64,
    /// Entries the policy dropped to stay within the bound.
    pub evicted: u64,
    /// Entries that time ended, counted when they are collected.
    pub expired: u64,
    /// Entries that callers took out, by `remove`, `retain`, a walk, or `clear`.
    pub removed: u64,
    /// Values that made way for a newer one under their key, also if that was then too heavy.
    pub replaced: u64,
    /// Values too heavy to hold, which never came in.
    pub rejected: u64,
    /// Commits whose right had been revoked.
    pub revoked: u64,
}
