//! Figures of a write-behind.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use cachalot_core::{Source, Store};

use super::WriteBehind;

/// Figures of a write-behind since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteBehindStats {
    /// Writes that wait for the source or are on their way, now.
    pub depth: usize,
    /// What counts against the bound of entries, now: those, dead letters, and what the journal does not have yet.
    pub entries: usize,
    /// What counts against the bound of bytes, now. Zero without a weigher.
    pub bytes: u64,
    /// How long the oldest of them has waited.
    pub oldest_age: Duration,
    /// Calls that the source has taken.
    pub batches: u64,
    /// Writes that the source has taken: of each key, what had become one.
    pub flushed: u64,
    /// Writes that became one with another before they were sent.
    pub coalesced: u64,
    /// Calls that tried something again.
    pub retries: u64,
    /// Dead letters, now.
    pub dead_letters: usize,
    /// Writes that the journal brought back from before the start, dead letters included.
    pub recovered: u64,
    /// So many bytes at the end of the journal were not whole when it was opened, and were passed over. Some are normal
    /// after a crash: what was being written. Many mean that the disk has damaged what stood before.
    pub torn_bytes: u64,
}

/// What a [`WriteBehind::shutdown`](crate::WriteBehind::shutdown) had to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unflushed<K> {
    /// The keys whose writes the source does not have, oldest first.
    pub keys: Vec<K>,
    /// How many writes these are.
    pub writes: usize,
    /// How many dead letters nobody has replayed or discarded.
    pub dead_letters: usize,
    /// Whether a journal has them all, so that they come back when it is opened again.
    pub is_kept: bool,
    /// Why the journal could not be closed, if that was come to. Who opens the folder again may find writes that the
    /// source has already.
    pub journal: Option<String>,
}

impl<K> fmt::Display for Unflushed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, writes, dead_letters, is_kept, journal } = self;
        let kept = if *is_kept { "the journal keeps them" } else { "they end with the process" };
        write!(f, "{writes} writes of {} keys and {dead_letters} dead letters are left; {kept}", keys.len())?;
        match journal {
            Some(reason) => write!(f, "; the journal: {reason}"),
            None => Ok(()),
        }
    }
}

impl<K: fmt::Debug> std::error::Error for Unflushed<K> {}

impl<K, V, S, D> WriteBehind<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// Figures since it was built.
    pub fn stats(&self) -> WriteBehindStats {
        let now = self.inner().now();
        let queue = self.inner().lock();
        let (entries, bytes) = queue.load();
        WriteBehindStats {
            depth: queue.waiting(),
            entries,
            bytes,
            oldest_age: queue.oldest_age(now),
            batches: queue.counts.batches,
            flushed: queue.counts.flushed,
            coalesced: queue.counts.coalesced,
            retries: queue.counts.retries,
            dead_letters: queue.dead_count(),
            recovered: self.inner().recovered,
            torn_bytes: self.inner().torn_bytes,
        }
    }
}
