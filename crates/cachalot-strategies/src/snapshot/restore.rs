//! Putting back what was written down.

use std::fs::{self, File};
use std::hash::Hash;
use std::io::{self, BufReader, ErrorKind as IoKind};
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::codec::MsgPack;
use cachalot_core::envelope;
use cachalot_core::{
    CacheKey, Codec, Commit, Entry, ErrorKind, Meta, Result, SnapshotStore, Stamp, Timestamp, mutant,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::format::{Foreign, Header, Next, Reader, Record};
use super::save::sync_folder;
use super::{Refused, Restored, SnapshotFile, blocking, failed};
use crate::engine::Engine;
use crate::shared::caught;

/// How many records are read before they are put back, and how many keys are asked for at once.
const PART: usize = 256;
/// Of a part with long records, how many bytes.
const PART_BYTES: usize = 1 << 20;

type Records = Reader<BufReader<File>>;

/// A part of a file.
struct Part {
    records: Vec<Record>,
    damaged: u64,
    /// What came last: `None`, there is more.
    is_whole: Option<bool>,
}

/// What of an entry could be made.
enum Made<V> {
    Entry(Entry<V>),
    Expired,
    Unreadable,
}

/// The moment at which a restore was called: what is invalidated since ends what it puts back.
struct Moment<M> {
    mark: M,
    count: u64,
}

pub(super) fn restore<K, V, S>(
    engine: Arc<Engine<K, V, S>>,
    file: SnapshotFile,
) -> impl Future<Output = Result<Restored>> + Send
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: SnapshotStore<K, V>,
{
    let moment = Moment { count: engine.seen.count(), mark: engine.store.mark() };
    async move {
        if engine.fleet.is_some() && engine.shared.is_none() {
            return Ok(refused(Refused::Blind));
        }
        let (now, name) = (engine.clock.now(), engine.namespace.as_str().to_owned());
        let (schema, path) = (file.schema, file.path.clone());
        let opened = blocking("restore", move || {
            open(&file, &name, now).map_err(|error| failed("restore", &file.path, error))
        });
        let (mut reader, header) = match opened.await? {
            Ok(opened) => opened,
            Err(why) => return Ok(refused(why)),
        };
        let elapsed = now.since(header.written_at);
        let mut restored = Restored::default();
        loop {
            let path = path.clone();
            let read = move || {
                let part = next_part(&mut reader).map_err(|error| failed("restore", &path, error))?;
                Ok((reader, part))
            };
            let part;
            (reader, part) = blocking("restore", read).await?;
            restored.unreadable += part.damaged;
            match engine.shared.is_some() {
                true => engine.warm(part.records, &mut restored).await,
                false => engine.put_back(part.records, (schema, elapsed), &moment, &mut restored),
            }
            if let Some(is_whole) = part.is_whole {
                restored.is_complete = is_whole;
                return Ok(restored);
            }
            // Others get their turn.
            tokio::task::yield_now().await;
        }
    }
}

fn refused(why: Refused) -> Restored {
    Restored { refused: Some(why), ..Restored::default() }
}

/// Opens a file that is this cache's, and takes it away.
fn open(file: &SnapshotFile, name: &str, now: Timestamp) -> io::Result<Result<(Records, Header), Refused>> {
    let opened = match File::open(&file.path) {
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Err(Refused::NoFile)),
        opened => opened?,
    };
    let (reader, header) = match Reader::open(BufReader::new(opened))? {
        Ok(opened) => opened,
        Err(Foreign::NoSnapshot) => return Ok(Err(Refused::NoSnapshot)),
        Err(Foreign::Version) => return Ok(Err(Refused::Version)),
    };
    let why = if header.name != name {
        Some(Refused::Name)
    } else if header.schema != file.schema {
        Some(Refused::Schema)
    } else if now.since(header.written_at) > file.max_age {
        Some(Refused::TooOld)
    } else {
        None
    };
    if let Some(why) = why {
        return Ok(Err(why));
    }
    if !file.is_kept {
        fs::remove_file(&file.path)?;
        // Nor does a power loss bring it back.
        sync_folder(&file.path)?;
    }
    Ok(Ok((reader, header)))
}

fn next_part(reader: &mut Records) -> io::Result<Part> {
    let mut part = Part { records: Vec::new(), damaged: 0, is_whole: None };
    let mut bytes = 0;
    while part.records.len() < PART && bytes < PART_BYTES && part.is_whole.is_none() {
        match reader.next()? {
            Next::Record(record) => {
                bytes += record.envelope.len() + record.key.len();
                part.records.push(record);
            }
            Next::Damaged => part.damaged += 1,
            Next::End => part.is_whole = Some(true),
            Next::Torn => part.is_whole = Some(false),
        }
    }
    Ok(part)
}

impl<K, V, S> Engine<K, V, S>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: SnapshotStore<K, V>,
{
    /// Reads the keys from the shared tier: whatever was missed, what it has now is good.
    async fn warm(&self, records: Vec<Record>, restored: &mut Restored) {
        let count = records.len();
        let keys: Vec<K> = records.iter().filter_map(|record| read_key(&record.key)).collect();
        restored.unreadable += (count - keys.len()) as u64;
        let missing: Vec<&K> = keys.iter().filter(|key| self.look(*key).is_none()).collect();
        let found = self.copy_many(&missing).await.into_iter().flatten().count();
        restored.entries += found as u64;
        restored.skipped += (keys.len() - found) as u64;
    }

    fn put_back(
        &self,
        records: Vec<Record>,
        (schema, elapsed): (u32, Duration),
        moment: &Moment<S::Mark>,
        restored: &mut Restored,
    ) {
        for record in records {
            let Some(key) = read_key::<K>(&record.key) else {
                restored.unreadable += 1;
                continue;
            };
            match self.entry_of(&key, &record, (schema, elapsed), moment.count) {
                Made::Expired => restored.expired += 1,
                Made::Unreadable => restored.unreadable += 1,
                Made::Entry(entry) => match self.put_one_back(key, entry, &moment.mark) {
                    true => restored.entries += 1,
                    false => restored.skipped += 1,
                },
            }
        }
    }

    fn entry_of(&self, key: &K, record: &Record, (schema, elapsed): (u32, Duration), began: u64) -> Made<V> {
        let codec = MsgPack;
        let Ok(opened) = envelope::open(&self.namespace.key(key), &record.envelope) else {
            return Made::Unreadable;
        };
        let header = opened.header;
        if header.codec != Codec::<V>::id(&codec) || header.schema != schema {
            return Made::Unreadable;
        }
        let now = self.clock.now();
        let age = record.age.saturating_add(elapsed);
        let (fresh_for, kept_for) = self.restored_lives(&header);
        if age >= kept_for && kept_for != Duration::MAX {
            return Made::Expired;
        }
        let value = match header.negative {
            true => Ok(None),
            false => caught(ErrorKind::Decode, || codec.decode(opened.value).map(Some)),
        };
        let Ok(value): Result<Option<V>> = value else { return Made::Unreadable };
        let meta = Meta::new(now.back(age), fresh_for, kept_for, header.compute_time);
        let tags = (!record.tags.is_empty()).then(|| record.tags.as_slice().into());
        let at = if mutant!(StampsARestoreLate) { self.seen.count() } else { began };
        let stamp = Stamp { at, tags, version: header.version };
        Made::Entry(Entry { value, meta: self.in_memory(meta, now), stamp })
    }

    /// Whether nothing newer is there, nothing has ended it since, and there is room.
    fn put_one_back(&self, key: K, entry: Entry<V>, mark: &S::Mark) -> bool {
        if self.floor_here(&key) > entry.stamp.version {
            return false;
        }
        if mutant!(FencesARestoreLate) {
            return self.store.restore(&self.store.mark(), key, Arc::new(entry)) == Commit::Stored;
        }
        if mutant!(RestoresOverALoad) {
            return self.store.commit(self.store.begin(&key), key, Arc::new(entry)) == Commit::Stored;
        }
        self.store.restore(mark, key, Arc::new(entry)) == Commit::Stored
    }
}

/// The key of these bytes, if it comes back from them.
fn read_key<K: CacheKey>(bytes: &[u8]) -> Option<K> {
    let key = K::read_key(bytes)?;
    (key.to_key_bytes() == bytes).then_some(key)
}
