//! Figures for people and metrics.

/// Figures of a [`Memory`](crate::Memory). Always on; they count from its making and may lag behind by the
/// operations in progress.
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
    /// Entries that time ended.
    pub expired: u64,
    /// Entries too heavy to hold.
    pub rejected: u64,
    /// Commits whose right had been revoked.
    pub revoked: u64,
}
