//! A journal in a folder of files.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cachalot_core::{Clock, Entropy, Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::disk::{Disk, Real};
use super::state::Shared;
use super::writer::{Settings, Writer};
use super::{Journal, Recovered};

/// When the bytes of a [`FileJournal`] are forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fsync {
    /// Before a write is acknowledged. Neither the end of the process nor that of the machine loses an acknowledged
    /// write. Writes that come together share one fsync.
    Always,
    /// So much later at most; a write is acknowledged once the operating system has it. The end of the process,
    /// `kill -9` included, loses nothing; the end of the machine, or of its power, loses what was acknowledged
    /// within that time. Above zero.
    Every(Duration),
}

/// A journal in a folder: what was acknowledged is still owed after a crash. Append-only segments of records with
/// CRC-32C each; docs/journal.md describes every byte.
///
/// One process at a time has a folder; a second one gets an error of kind [`Conflict`](ErrorKind::Conflict). The
/// lock ends with the process. A thread of its own does all I/O; writes that come while it works are written, and
/// forced to the disk, together.
///
/// A write that cannot be written fails, alone or with those that were written together with it, and is not replayed
/// either. When the folder is full ([`max_bytes`](Self::max_bytes), or the disk is) that is an error of kind
/// [`Unavailable`](ErrorKind::Unavailable) that says `journal full`; it passes once the source has taken older writes.
///
/// The last segment is read up to the first record that is not whole, as a crash leaves one; what comes behind it is
/// passed over, and counted in [`torn_bytes`](crate::WriteBehindStats::torn_bytes). Damage in any segment before, or in a
/// header, is an error of kind [`Decode`](ErrorKind::Decode) that names the file and the byte; nothing is changed then.
#[derive(Clone, Debug)]
#[must_use]
pub struct FileJournal {
    folder: PathBuf,
    settings: Settings,
    max_bytes: u64,
}

const MIB: u64 = 1024 * 1024;

impl FileJournal {
    /// A journal in this folder, which is created if it is not there.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        let settings = Settings { fsync: Fsync::Always, segment_bytes: 16 * MIB, max_bytes: 0 };
        Self { folder: folder.into(), settings, max_bytes: 1024 * MIB }
    }

    /// When bytes are forced to the disk. Default: [`Fsync::Always`].
    pub fn fsync(mut self, fsync: Fsync) -> Self {
        self.settings.fsync = fsync;
        self
    }

    /// From how many bytes on a segment is followed by the next. Default 16 MiB; at most an eighth of
    /// [`max_bytes`](Self::max_bytes) is used. A segment goes when the source has all that is in it and in those before;
    /// a few writes that stay owed for long, as dead letters do, are written anew so that it can.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.settings.segment_bytes = bytes;
        self
    }

    /// How much the folder may hold. Default 1 GiB. Notes that writes are done go beyond, by some bytes each: they are
    /// what makes room.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Opens the folder, and reads what is owed. All I/O happens in the journal's thread.
    pub(crate) async fn open(
        self,
        entropy: &Entropy,
        clock: &Clock,
    ) -> Result<(Arc<dyn Journal>, Recovered)> {
        self.open_on(Box::new(Real), entropy, clock).await
    }

    pub(super) async fn open_on(
        mut self,
        disk: Box<dyn Disk>,
        entropy: &Entropy,
        clock: &Clock,
    ) -> Result<(Arc<dyn Journal>, Recovered)> {
        if self.settings.fsync == Fsync::Every(Duration::ZERO) {
            return Err(
                Error::new(ErrorKind::Config, "journal open").detail("Fsync::Every needs more than no time")
            );
        }
        self.settings.max_bytes = self.max_bytes;
        self.settings.segment_bytes = self.settings.segment_bytes.min(self.max_bytes / 8);
        let fresh = u128::from_le_bytes(entropy.draw_128());
        let clock = clock.clone();
        let (tell, told) = oneshot::channel();
        let work = move || match Writer::open(self.folder, self.settings, disk, fresh, clock) {
            Ok((writer, recovered)) => {
                let log = Log { shared: writer.shared() };
                // If nobody waits any more the log is dropped, and with it ends the writer.
                let _ = tell.send(Ok((log, recovered)));
                writer.run();
            }
            Err(error) => drop(tell.send(Err(error))),
        };
        let thread = std::thread::Builder::new().name("cachalot-journal".to_owned()).spawn(work);
        thread.map_err(|error| Error::new(ErrorKind::Unavailable, "journal open").caused_by(error))?;
        let ended = || Error::new(ErrorKind::Panicked, "journal open");
        let (log, recovered) = told.await.map_err(|_| ended())??;
        Ok((Arc::new(log), recovered))
    }
}

/// What the owner of the journal holds. The writer ends, with all that was appended written, when it is dropped.
struct Log {
    shared: Arc<Shared>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileJournal").finish_non_exhaustive()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

#[async_trait]
impl Journal for Log {
    fn append(&self, key: Bytes, value: Option<Bytes>) -> u64 {
        self.shared.append(&key, value.as_ref())
    }

    async fn durable(&self, sequence: u64) -> Result<()> {
        self.shared.durable(sequence).await
    }

    async fn cut(&self, through: u64) -> Result<()> {
        self.shared.cut(through).await
    }

    fn done(&self, sequences: &[u64]) {
        self.shared.done(sequences);
    }

    fn dead(&self, sequences: &[u64], attempts: u32, reason: &str) {
        self.shared.dead(sequences, attempts, reason);
    }

    async fn close(&self) -> Result<()> {
        self.shared.close().await
    }
}
