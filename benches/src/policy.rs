//! Eviction policies by the book, apart from any concurrent shell: what a hit ratio is compared with.
//!
//! Each policy decides over keys alone, in one thread, with unit weights. [`Adaptive`] is the one the memory
//! engine is after; [`belady`] is the ceiling that no policy can pass.

mod hash;
pub use hash::mix;
mod list;

mod fifo;
pub use fifo::Fifo;
mod lru;
pub use lru::Lru;
mod clock;
pub use clock::Clock;
mod sieve;
pub use sieve::Sieve;
mod s3_fifo;
pub use s3_fifo::S3Fifo;
mod arc;
pub use arc::ArcCache;
mod adaptive;
pub use adaptive::Adaptive;
mod belady;
pub use belady::belady;

/// A cache of keys that holds what it likes, up to its capacity.
pub trait Policy {
    /// Reads `key` and, on a miss, may take it in. Returns whether the key was held.
    fn access(&mut self, key: u64) -> bool;

    /// How many keys are held now; never above the capacity.
    fn held(&self) -> usize;
}

/// How many of `keys` a policy has hits on, in their order.
pub fn hits(policy: &mut dyn Policy, keys: &[u64]) -> u64 {
    keys.iter().map(|&key| u64::from(policy.access(key))).sum()
}

#[cfg(test)]
mod tests;
