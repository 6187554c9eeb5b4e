//! Writing memory down.

use std::fs::File;
use std::hash::Hash;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use cachalot_core::codec::MsgPack;
use cachalot_core::envelope;
use cachalot_core::{CacheKey, Codec, Entry, ErrorKind, Freshness, Result, SnapshotStore, StoreCursor};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::beside::Beside;
use super::format::{Header, Record, Writer};
use super::{Snapshot, SnapshotFile, failed};
use crate::engine::Engine;
use crate::shared::caught;

/// Writes all that memory holds to a file beside its place, and puts it there when it is whole.
pub(super) fn save<K, V, S>(engine: &Engine<K, V, S>, file: &SnapshotFile) -> Result<Snapshot>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: SnapshotStore<K, V>,
{
    put(engine, file).map_err(|error| failed("snapshot", &file.path, error))
}

fn put<K, V, S>(engine: &Engine<K, V, S>, file: &SnapshotFile) -> io::Result<Snapshot>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: SnapshotStore<K, V>,
{
    let beside = Beside::create(&file.path, &engine.entropy)?;
    let snapshot = write(engine, file, beside.file())?;
    beside.put(&file.path)?;
    sync_folder(&file.path)?;
    Ok(snapshot)
}

/// What a crash of the machine must not undo is the new name too.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn write<K, V, S>(engine: &Engine<K, V, S>, file: &SnapshotFile, to: &File) -> io::Result<Snapshot>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: SnapshotStore<K, V>,
{
    let name = engine.namespace.as_str().to_owned();
    let header = Header { name, schema: file.schema, written_at: engine.clock.now() };
    let mut writer = Writer::new(BufWriter::new(to), &header)?;
    let mut skipped = 0;
    let mut from = Some(StoreCursor::START);
    while let Some(cursor) = from {
        // Nothing but this is done under the lock.
        let mut part = Vec::new();
        from = engine.store.see(cursor, |key, entry, freshness| {
            part.push((key.clone(), entry.clone(), freshness));
        });
        for (key, entry, freshness) in part {
            let is_good =
                engine.standing(&entry.stamp, freshness).is_some_and(|it| it != Freshness::Invalidated);
            let record = is_good.then(|| record(engine, &key, &entry, file.schema)).flatten();
            let is_written = record.map_or(Ok(false), |record| writer.put(&record))?;
            skipped += u64::from(!is_written);
        }
    }
    let (mut out, entries, bytes) = writer.finish()?;
    out.flush()?;
    to.sync_all()?;
    Ok(Snapshot { entries, skipped, bytes })
}

/// What is written of `key`. `None`: it has no bytes.
fn record<K, V, S>(engine: &Engine<K, V, S>, key: &K, entry: &Entry<V>, schema: u32) -> Option<Record>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: SnapshotStore<K, V>,
{
    let bytes = key.to_key_bytes();
    let header = envelope::Header {
        codec: Codec::<V>::id(&MsgPack),
        schema,
        negative: entry.value.is_none(),
        fresh_for: entry.meta.fresh_for(),
        kept_for: entry.meta.kept_for(),
        compute_time: entry.meta.compute_time(),
        version: entry.stamp.version,
    };
    let name = engine.namespace.key(key);
    let envelope =
        caught(ErrorKind::Encode, || envelope::encode(&name, header, &[], entry.value.as_ref(), &MsgPack));
    Some(Record {
        age: engine.clock.now().since(entry.meta.created_at()),
        tags: entry.stamp.tags.as_deref().unwrap_or_default().to_vec(),
        key: bytes,
        envelope: envelope.ok()?.to_vec(),
    })
}
