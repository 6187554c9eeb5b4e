//! What the process that is killed writes, so that whoever kills it knows what to expect.

/// Keys that get rising numbers.
pub const VALUES: u64 = 8;
/// Keys that get ones.
pub const SUMS: u64 = 4;
/// Tasks that add to one of those, each with one write under way at most.
pub const ADDERS: u64 = 2;
/// Each so many-th number is a deletion.
pub const DELETED: i64 = 7;

/// What a key holds after its `n`th write; before any it holds what is said of 0.
pub fn value_of(n: i64) -> Option<i64> {
    (n % DELETED != 0).then_some(n)
}
