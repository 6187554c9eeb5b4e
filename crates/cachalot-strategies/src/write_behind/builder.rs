//! How a write-behind is built.

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachalot_core::codec::{Codec, MsgPack};
use cachalot_core::{CacheKey, Error, ErrorKind, Result, Source, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::WriteBehind;
use super::admission::Admission;
use super::inner::{Inner, Permanent};
use super::journal::{BestEffort, FileJournal, Journal};
use super::journaled::{Encode, JournaledBuilder};
use super::queue::Queue;
use super::rules::{Order, Overflow, Rules};
use crate::cache::Cache;
use crate::read_through::ReadThrough;

/// Builds a [`WriteBehind`].
#[must_use = "nothing is built yet"]
pub struct WriteBehindBuilder<K, V, S, D>
where
    D: Source<K, V>,
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) reads: ReadThrough<K, V, S, D>,
    pub(super) rules: Rules<K, V>,
    overflow: Overflow,
    source_timeout: Duration,
    permanent: Option<Permanent<D::Error>>,
}

impl<K, V, S, D> WriteBehindBuilder<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    pub(super) fn new(cache: Cache<K, V, S>, source: D) -> Self {
        Self {
            reads: ReadThrough::new(cache, source),
            rules: Rules::default(),
            overflow: Overflow::default(),
            source_timeout: Duration::from_secs(30),
            permanent: None,
        }
    }

    /// How long a write waits at most before it is sent, with all that has come since. Default: 5 s.
    pub fn flush_every(mut self, period: Duration) -> Self {
        self.rules.flush_every = period;
        self
    }

    /// How many writes the source is given in one call; as soon as so many keys wait, they are sent. Default: 100.
    pub fn batch(mut self, size: usize) -> Self {
        self.rules.batch = size;
        self
    }

    /// How many calls of the source may be under way, each with other keys. Default: 1; in global order always 1.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.rules.concurrency = calls;
        self
    }

    /// Which writes keep their order. Default: those of one key.
    pub fn order(mut self, order: Order) -> Self {
        self.rules.order = order;
        self
    }

    /// Values are deltas, which add up: `merge(older, newer)` makes one of two. A read gives the source's value merged
    /// with what waits, a write adds to it, a deletion ends both.
    ///
    /// The source is given merged deltas, not new values: its [`apply`](Source::apply) must add them, and should do so
    /// only once, by their [`sequence`](cachalot_core::Write::sequence). One whose `apply` is the default, as that of
    /// [`FnSource`](cachalot_core::FnSource) is, stores a delta as if it were the value: what was there is lost. A key that has no value takes a delta as it is.
    ///
    /// `merge` must be quick and must not call back: it runs under a lock. If it panics, the two stay
    /// apart; at a read that is an error of kind [`Panicked`](ErrorKind::Panicked).
    pub fn merge(mut self, merge: impl Fn(&V, &V) -> V + Send + Sync + 'static) -> Self {
        self.rules.merge = Some(Arc::new(merge));
        self
    }

    /// How many writes may wait, dead letters included. Default: 10,000. One that coalesces takes no place.
    pub fn max_entries(mut self, most: usize) -> Self {
        self.rules.max_entries = most;
        self
    }

    /// How many bytes may wait, dead letters included, as `weigh` counts them: a key and its value, or its deletion.
    /// Default: not bounded.
    pub fn max_bytes(
        mut self,
        most: u64,
        weigh: impl Fn(&K, Option<&V>) -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.rules.max_bytes = Some(most);
        self.rules.weigher = Some(Arc::new(weigh));
        self
    }

    /// What becomes of a write for which there is no room. Default: it waits for a second.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// From when on a call of the source that does not answer gives its place to another. It is waited for all the
    /// same: what it does at last must not come after what is newer. Default: 30 s.
    pub fn source_timeout(mut self, timeout: Duration) -> Self {
        self.source_timeout = timeout;
        self
    }

    /// The bound of the first pause after a failure, which doubles with each, and the bound of every one. A pause is
    /// drawn evenly below its bound. Default: 100 ms and 30 s.
    ///
    /// Source: "Exponential Backoff And Jitter" (full jitter), AWS Architecture Blog, 2015.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.rules.pauses = (first, longest);
        self
    }

    /// How often a write that stands alone is tried before it is a dead letter; not before the source has taken
    /// something else since it first failed, since then it is not the source that is down. Default: 10.
    pub fn max_attempts(mut self, most: u32) -> Self {
        self.rules.max_attempts = most;
        self
    }

    /// After which errors trying again does not help: the write is a dead letter at once, as soon as it stands alone.
    /// Default: none.
    pub fn permanent(mut self, is_permanent: impl Fn(&D::Error) -> bool + Send + Sync + 'static) -> Self {
        self.permanent = Some(Arc::new(is_permanent));
        self
    }

    /// Keeps the writes in files until the source has them: what was acknowledged survives the process, and comes back
    /// when the folder is opened again.
    ///
    /// Values are written as MessagePack, keys in their [byte form](CacheKey), which must be readable again
    /// ([`read_key`](CacheKey::read_key)).
    pub fn journal(self, journal: FileJournal) -> JournaledBuilder<K, V, S, D>
    where
        K: CacheKey,
        V: Serialize + DeserializeOwned,
    {
        self.journal_with(journal, MsgPack)
    }

    /// As [`journal`](WriteBehindBuilder::journal), with another form of the values.
    pub fn journal_with(self, journal: FileJournal, codec: impl Codec<V>) -> JournaledBuilder<K, V, S, D>
    where
        K: CacheKey,
    {
        JournaledBuilder::new(self, journal, Arc::new(codec))
    }

    /// A write-behind that keeps its writes in memory alone: what waits when the process dies is lost.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): a bound, a size or a period is zero.
    pub fn build(self) -> Result<WriteBehind<K, V, S, D>> {
        let (journal, recovered) = BestEffort::open(&self.reads.cache().engine.entropy);
        self.build_over(Kept {
            journal,
            encode: None,
            writer: recovered.writer,
            next: recovered.next_sequence,
            recovered: 0,
            torn_bytes: 0,
        })
    }

    pub(super) fn build_over(self, kept: Kept<K, V>) -> Result<WriteBehind<K, V, S, D>> {
        self.check()?;
        let Self { reads, rules, overflow, source_timeout, permanent } = self;
        let Kept { journal, encode, writer, next, recovered, torn_bytes } = kept;
        let rules = Arc::new(rules);
        Ok(WriteBehind::over(Inner {
            queue: Mutex::new(Queue::new(rules.clone(), next)),
            rules,
            reads,
            wake: Notify::new(),
            room: Notify::new(),
            landed: Notify::new(),
            admission: Admission::default(),
            overflow,
            source_timeout,
            permanent,
            journal,
            encode,
            writer,
            recovered,
            torn_bytes,
        }))
    }

    pub(super) fn check(&self) -> Result<()> {
        let Rules { flush_every, batch, concurrency, max_entries, max_bytes, max_attempts, pauses, .. } =
            &self.rules;
        let zero = [
            (flush_every.is_zero(), "flush_every"),
            (*batch == 0, "batch"),
            (*concurrency == 0, "concurrency"),
            (*max_entries == 0, "max_entries"),
            (*max_bytes == Some(0), "max_bytes"),
            (*max_attempts == 0, "max_attempts"),
            (pauses.0.is_zero() || pauses.1 < pauses.0, "backoff"),
            (self.source_timeout.is_zero(), "source_timeout"),
        ];
        match zero.into_iter().find(|(is_wrong, _)| *is_wrong) {
            None => Ok(()),
            Some((_, name)) => {
                let detail = format!("{name} must be above zero, and no pause longer than the longest");
                Err(Error::new(ErrorKind::Config, "build write-behind").detail(detail))
            }
        }
    }
}

/// What keeps the writes.
pub(super) struct Kept<K, V> {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) encode: Option<Encode<K, V>>,
    pub(super) writer: u128,
    /// The sequence of the next write.
    pub(super) next: u64,
    pub(super) recovered: u64,
    pub(super) torn_bytes: u64,
}

impl<K, V, S, D> fmt::Debug for WriteBehindBuilder<K, V, S, D>
where
    D: Source<K, V>,
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehindBuilder").field("overflow", &self.overflow).finish_non_exhaustive()
    }
}
