//! Writing memory down.

use std::fs::{self, File};
use std::hash::Hash;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cachalot_core::codec::MsgPack;
use cachalot_core::envelope;
use cachalot_core::{CacheKey, Codec, Entry, ErrorKind, Freshness, Result, SnapshotStore, StoreCursor};
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    let beside = Beside::of(&file.path, u128::from_le_bytes(engine.entropy.draw_128()));
    let written = write(engine, file, &beside.0);
    let put = written.and_then(|snapshot| {
        fs::rename(&beside.0, &file.path)?;
        sync_folder(&file.path)?;
        Ok(snapshot)
    });
    put.map_err(|error| failed("snapshot", &file.path, error))
}

/// A file that is gone if it was not put in its place.
struct Beside(PathBuf);

impl Beside {
    fn of(path: &Path, number: u128) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number:032x}.tmp"));
        Self(name.into())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Not there: it was put in its place.
        let _ = fs::remove_file(&self.0);
    }
}

/// Nobody else on the machine may read what it holds.
fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// What a crash of the machine must not undo is the new name too.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn write<K, V, S>(engine: &Engine<K, V, S>, file: &SnapshotFile, path: &Path) -> io::Result<Snapshot>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: SnapshotStore<K, V>,
{
    let name = engine.namespace.as_str().to_owned();
    let header = Header { name, schema: file.schema, written_at: engine.clock.now() };
    let mut writer = Writer::new(BufWriter::new(create(path)?), &header)?;
    let mut skipped = 0;
    let mut from = Some(StoreCursor::START);
    while let Some(cursor) = from {
        // Nothing but this is done under the lock.
        let mut part = Vec::new();
        from = engine.store.see(cursor, |key, _| part.push(key.clone()));
        for key in part {
            let record = record(engine, &key, file.schema);
            let is_written = record.map_or(Ok(false), |record| writer.put(&record))?;
            skipped += u64::from(!is_written);
        }
    }
    let (out, entries, bytes) = writer.finish()?;
    out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    Ok(Snapshot { entries, skipped, bytes })
}

/// What is written of `key`. `None`: it is gone or invalidated meanwhile, or has no bytes.
fn record<K, V, S>(engine: &Engine<K, V, S>, key: &K, schema: u32) -> Option<Record>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: SnapshotStore<K, V>,
{
    let hit = engine.look(key).filter(|hit| hit.freshness != Freshness::Invalidated)?;
    let entry: &Arc<Entry<V>> = &hit.entry;
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
