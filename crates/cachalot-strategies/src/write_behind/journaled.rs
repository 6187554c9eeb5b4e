//! A write-behind over a journal: writes in bytes, and what comes back when it is opened.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use cachalot_core::codec::Codec;
use cachalot_core::{CacheKey, Error, ErrorKind, Result, Source, Store};

use super::WriteBehind;
use super::bounds::{Key, Value};
use super::builder::{Kept, WriteBehindBuilder};
use super::inner::Inner;
use super::journal::{FileJournal, Logged, Recovered};
use super::queue::Entering;

/// Turns a write into the bytes of its key and its value.
pub(super) type Encode<K, V> = Arc<dyn Fn(&K, Option<&V>) -> Result<(Bytes, Option<Bytes>)> + Send + Sync>;

/// Opens a [`WriteBehind`] over a journal, made by [`WriteBehindBuilder::journal`].
#[must_use = "nothing is opened yet"]
pub struct JournaledBuilder<K, V, S, D>
where
    D: Source<K, V>,
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    builder: WriteBehindBuilder<K, V, S, D>,
    journal: FileJournal,
    codec: Arc<dyn Codec<V>>,
    read_key: fn(&[u8]) -> Option<K>,
    write_key: fn(&K) -> Vec<u8>,
}

impl<K, V, S, D> JournaledBuilder<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    pub(super) fn new(
        builder: WriteBehindBuilder<K, V, S, D>,
        journal: FileJournal,
        codec: Arc<dyn Codec<V>>,
    ) -> Self
    where
        K: CacheKey,
    {
        Self { builder, journal, codec, read_key: K::read_key, write_key: K::to_key_bytes }
    }

    /// Opens the journal, and queues what it still owes: that is sent at once. Bounds do not apply to it; new writes
    /// wait until there is room again.
    ///
    /// A write that the source has taken just before a crash may be sent again, with the same
    /// [`writer`](cachalot_core::Write::writer) and [`sequence`](cachalot_core::Write::sequence).
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): a bound, a size or a period is zero. [`Decode`](ErrorKind::Decode): the journal is
    /// damaged, or holds keys or values of another type; nothing of it is lost by that. Whatever else the folder has to
    /// say.
    pub async fn open(self) -> Result<WriteBehind<K, V, S, D>> {
        self.builder.check()?;
        let Self { builder, journal, codec, read_key, write_key } = self;
        let engine = builder.reads.cache().engine.clone();
        let (journal, recovered) = journal.open(&engine.entropy, &engine.clock).await?;
        let read = |write: &Logged| decode(write, &*codec, read_key);
        let writes: Vec<_> = recovered.writes.iter().map(&read).collect::<Result<_>>()?;
        let dead: Vec<_> = recovered.dead.iter().map(|dead| read(&dead.write)).collect::<Result<_>>()?;
        let encode: Encode<K, V> =
            Arc::new(move |key, value| encode(key, value, &*codec, read_key, write_key));
        let kept = Kept {
            journal,
            encode: Some(encode),
            writer: recovered.writer,
            next: recovered.next_sequence,
            recovered: (writes.len() + dead.len()) as u64,
            torn_bytes: recovered.torn_bytes,
        };
        let opened = builder.build_over(kept)?;
        opened.inner().recover(&recovered, writes, dead);
        Ok(opened)
    }
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Inner<K, V, S, D> {
    fn recover(
        self: &Arc<Self>,
        recovered: &Recovered,
        writes: Vec<(K, Option<V>)>,
        dead: Vec<(K, Option<V>)>,
    ) {
        let now = self.now();
        let letters = self.letters(&recovered.dead, dead);
        let mut queue = self.lock();
        letters.into_iter().for_each(|(id, dead)| queue.restore_dead(id, dead));
        let mut cuts = recovered.cuts.iter().peekable();
        for (logged, (key, value)) in recovered.writes.iter().zip(writes) {
            while let Some(cut) = cuts.next_if(|cut| **cut < logged.sequence) {
                // Without deltas there is nothing that must stay apart.
                if self.is_of_deltas() {
                    queue.part(cut + 1);
                }
            }
            let weight = self.rules.weigh(&key, value.as_ref()).unwrap_or(0);
            let entering = Entering { key, entry: self.entry(value), weight, waiter: None, replays: None };
            queue.admit(entering, logged.sequence, now);
        }
        // The last of them may have been sent: what comes from now on stays apart from it.
        if self.is_of_deltas() {
            cuts.for_each(|cut| queue.part(cut + 1));
        }
        queue.hurry();
        self.note(&mut queue);
        let is_idle = queue.is_idle();
        drop(queue);
        if !is_idle {
            self.start();
        }
    }
}

fn encode<K: Eq, V: 'static>(
    key: &K,
    value: Option<&V>,
    codec: &dyn Codec<V>,
    read_key: fn(&[u8]) -> Option<K>,
    write_key: fn(&K) -> Vec<u8>,
) -> Result<(Bytes, Option<Bytes>)> {
    let bytes = write_key(key);
    // Better refused now than not to be read after a crash.
    if read_key(&bytes).as_ref() != Some(key) {
        let detail = "keys of this type cannot be read back from their bytes: CacheKey::read_key";
        return Err(Error::new(ErrorKind::Config, "journal").detail(detail).key(&bytes));
    }
    let encode = |value| {
        let mut out = Vec::new();
        codec.encode(value, &mut out).map(|()| Bytes::from(out))
    };
    Ok((bytes.into(), value.map(encode).transpose()?))
}

fn decode<K, V: 'static>(
    write: &Logged,
    codec: &dyn Codec<V>,
    read_key: fn(&[u8]) -> Option<K>,
) -> Result<(K, Option<V>)> {
    let key = read_key(&write.key).ok_or_else(|| {
        let detail = "the journal holds a key of another type";
        Error::new(ErrorKind::Decode, "journal open").detail(detail).key(&write.key)
    })?;
    let value = write.value.as_ref().map(|bytes| codec.decode(bytes)).transpose()?;
    Ok((key, value))
}

impl<K, V, S, D> fmt::Debug for JournaledBuilder<K, V, S, D>
where
    D: Source<K, V>,
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournaledBuilder").field("journal", &self.journal).finish_non_exhaustive()
    }
}
