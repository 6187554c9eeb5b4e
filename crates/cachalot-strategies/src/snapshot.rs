//! A cache's memory in a file: written down before a restart, and put back after it.

use std::fmt;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cachalot_core::{BoxFuture, CacheKey, Error, ErrorKind, Result, SnapshotStore};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::Cache;

mod beside;
mod format;
mod restore;
mod save;

/// Where a snapshot lies, and by what rules it is put back. A path is one by the defaults.
#[derive(Clone, Debug)]
#[must_use]
pub struct SnapshotFile {
    path: PathBuf,
    schema: u32,
    max_age: Duration,
    is_kept: bool,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Entries in the file.
    pub entries: u64,
    /// Entries in memory that are not: invalidated ones, and those that have no bytes.
    pub skipped: u64,
    /// The length of the file.
    pub bytes: u64,
}

/// What was put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Entries that are in memory again.
    pub entries: u64,
    /// Entries whose life has ended meanwhile.
    pub expired: u64,
    /// Entries whose bytes are damaged, or that this program cannot read.
    pub unreadable: u64,
    /// Entries that were not put back for another reason: memory has the key already, it was invalidated since, or memory
    /// has no room; over a shared tier, that has not got it.
    pub skipped: u64,
    /// Whether the file was read to its end as it was written. If not, it is torn, and this is what stood before the tear.
    pub is_complete: bool,
    /// Why nothing was put back.
    pub refused: Option<Refused>,
}

/// Why a file was not read. To the cache it is as if there were none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// There is no file.
    NoFile,
    /// It is no snapshot, or its header is damaged.
    NoSnapshot,
    /// It is of another version of the format.
    Version,
    /// It is another cache's.
    Name,
    /// It is of another [`schema`](SnapshotFile::schema).
    Schema,
    /// It is older than [`max_age`](SnapshotFile::max_age).
    TooOld,
    /// The cache has a bus and no shared tier: nobody could tell what was invalidated elsewhere meanwhile.
    Blind,
}

impl SnapshotFile {
    /// At `path`. Its folder must be there.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), schema: 0, max_age: Duration::MAX, is_kept: false }
    }

    /// The schema of the values; raise it when old bytes must not be read as the new type. A file of another one is
    /// [`Refused::Schema`]. Default: 0.
    pub fn schema(mut self, schema: u32) -> Self {
        self.schema = schema;
        self
    }

    /// A snapshot that was begun longer ago is [`Refused::TooOld`]: a bound on the time in which invalidations may have
    /// been missed. Default: none.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Leaves the file where it is when it has been read. Default: it is removed before its first entry is put back, so
    /// that after a later crash it does not bring back what was invalidated since.
    pub fn keep(mut self) -> Self {
        self.is_kept = true;
        self
    }
}

impl From<&str> for SnapshotFile {
    fn from(path: &str) -> Self {
        Self::at(path)
    }
}

impl From<&Path> for SnapshotFile {
    fn from(path: &Path) -> Self {
        Self::at(path)
    }
}

impl From<PathBuf> for SnapshotFile {
    fn from(path: PathBuf) -> Self {
        Self::at(path)
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: SnapshotStore<K, V>,
{
    /// Writes what memory holds to a file, to be [restored](Cache::restore) by the next process: its keys, values, times,
    /// tags and versions. Best after [`shutdown`](Cache::shutdown), when nothing can be invalidated any more.
    ///
    /// Written beside its place, synced, and put there in one step: the file is the old one or the new one, whole. What a
    /// process leaves beside it that is killed meanwhile (`<name>.<32 hex digits>.tmp`) goes with the next snapshot to
    /// that place. Reads and writes go on meanwhile; of what changes meanwhile either state may be in it. To be written
    /// down is no read: it keeps nothing in memory, and counts nowhere. Values are written by MessagePack,
    /// whatever the shared tier's codec is. The keys must come back from their bytes ([`CacheKey::read_key`]).
    ///
    /// ```
    /// # use cachalot_core::Entry;
    /// # use cachalot_memory_backend::Memory;
    /// # use cachalot_strategies::Cache;
    /// # use std::{sync::Arc, time::Duration};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let build = || {
    /// #     let builder = Cache::<u64, String, Memory<u64, Arc<Entry<String>>>>::builder("users");
    /// #     builder.memory(Memory::entries(10)).build()
    /// # };
    /// # let path = std::env::temp_dir().join(format!("cachalot-doc-{}.snapshot", std::process::id()));
    /// let cache = build()?;
    /// cache.insert(7, "Ada".to_owned()).await?;
    /// cache.shutdown(Duration::from_secs(5)).await?;
    /// cache.snapshot(&*path).await?;
    ///
    /// let cache = build()?; // in the next process
    /// let restored = cache.restore(&*path).await?;
    /// assert!(restored.is_complete);
    /// assert_eq!(cache.get_local(&7).as_deref().map(String::as_str), Some("Ada"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the file cannot be written; the old one is still there then. If only
    /// its folder could not be synced, the new one is in its place, and a power loss may bring the old one back.
    ///
    /// # Dropping the future
    /// The file is written all the same. It needs a tokio runtime that may block a thread.
    pub async fn snapshot(&self, file: impl Into<SnapshotFile>) -> Result<Snapshot> {
        let (engine, file) = (self.engine.clone(), file.into());
        blocking("snapshot", move || save::save(&engine, &file)).await
    }

    /// Puts back what a [`snapshot`](Cache::snapshot) has written, each entry with what is left of its life: by the wall
    /// clock between the two, and if that was set back, with what was left when it was written, never more.
    ///
    /// **Memory alone.** What was invalidated after the snapshot was begun, and before this was called, is not known to
    /// anyone: whoever changes the source while no process runs, must not restore, or bound the time by
    /// [`max_age`](SnapshotFile::max_age). What is invalidated from this call on ends what is put back, by key, tag,
    /// pattern or clear. What memory holds already stays.
    ///
    /// What [slides](crate::Sliding) keeps the end that it had, and is loaded anew then.
    ///
    /// **Over a shared tier** a value in a file could have been invalidated by any other process, so none is taken from
    /// there. The file only says which keys were held: they are read from the shared tier, 256 at a time, as
    /// [`get_many`](Cache::get_many) reads them, and the source is not asked.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the file cannot be read, or not be removed: then nothing is put back. A
    /// file that is of no use is no error, but [`Refused`].
    ///
    /// # Dropping the future
    /// What was put back so far stays. The file may be gone.
    pub fn restore(&self, file: impl Into<SnapshotFile>) -> BoxFuture<'static, Result<Restored>> {
        Box::pin(restore::restore(self.engine.clone(), file.into()))
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(Error::new(ErrorKind::Panicked, operation).caused_by(error)))
}

fn failed(operation: &'static str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, operation).detail(path.display().to_string()).caused_by(error)
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFile => "there is no file",
            Self::NoSnapshot => "it is no snapshot",
            Self::Version => "it is of another version of the format",
            Self::Name => "it is another cache's",
            Self::Schema => "it is of another schema",
            Self::TooOld => "it is too old",
            Self::Blind => "nobody could tell what other processes have invalidated meanwhile",
        })
    }
}
