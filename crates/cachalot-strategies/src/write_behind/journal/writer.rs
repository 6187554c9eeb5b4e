//! The thread that owns the files of a journal.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Clock, Error, ErrorKind, Result};
use fs4::fs_std::FileExt;

use super::Recovered;
use super::books::Books;
use super::disk::{Disk, Segment, nascent, path_of};
use super::file::Fsync;
use super::format::Header;
use super::replay::{Found, replay};
use super::state::{Group, Shared};

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) fsync: Fsync,
    pub(super) segment_bytes: u64,
    pub(super) max_bytes: u64,
}

/// At each opening the count of writes leaps by this. A crash of the machine may take away writes that the source has
/// got already; were their sequences given out again, a source that compares them would take the new writes for old.
const LEAP: u64 = 1 << 32;

/// So many bytes are written without an fsync at most, notes that writes are done for the most part.
const UNSYNCED_BYTES: usize = 1024 * 1024;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Box<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) settings: Settings,
    pub(super) active: Active,
    /// Sweeps to leave out, after one that failed.
    pub(super) rest: u32,
    writer: u128,
    clock: Clock,
    /// When the bytes that are not durable yet must be.
    due: Option<Duration>,
    /// Held as long as this lives.
    _lock: File,
}

/// The segment that grows.
pub(super) struct Active {
    pub(super) number: u64,
    file: Box<dyn Segment>,
    /// Its name is durable.
    named: bool,
    /// Where the last record ends that counts.
    pub(super) len: u64,
    /// All before is durable.
    synced: u64,
    /// The bytes from there to `len`: after an fsync that failed nobody knows whether the file still has them.
    unsynced: Vec<u8>,
    /// It can neither be written nor trusted: another must take its place.
    broken: bool,
}

impl Active {
    fn is_durable(&self) -> bool {
        self.named && self.unsynced.is_empty()
    }
}

impl Writer {
    pub(super) fn open(
        folder: PathBuf,
        settings: Settings,
        mut disk: Box<dyn Disk>,
        fresh: u128,
        clock: Clock,
    ) -> Result<(Self, Recovered)> {
        make(&folder, disk.as_mut()).map_err(|error| failed("journal open", error))?;
        let lock = lock(&folder)?;
        let (books, recovered, last) = match replay(&folder)? {
            Some(Found { books, mut recovered, last }) => {
                // What is handed out again must not be lost later.
                let sync = disk.reopen(&path_of(&folder, last.segment)).and_then(|mut file| file.sync());
                sync.map_err(|error| failed("journal open", error))?;
                recovered.next_sequence = recovered.next_sequence.saturating_add(LEAP);
                (books, recovered, Some(last))
            }
            None => (Books::default(), Recovered::nothing(fresh), None),
        };
        let (number, previous_end) = last.map_or((1, 0), |last| (last.segment + 1, last.end));
        let header = Header {
            segment: number,
            previous_end,
            first: recovered.next_sequence,
            writer: recovered.writer,
        };
        let active =
            create(disk.as_mut(), &folder, header, &[]).map_err(|error| failed("journal open", error))?;
        let shared = Arc::new(Shared::new(books, recovered.next_sequence, settings.max_bytes));
        shared.lock().books.grow(number, active.len);
        let writer = recovered.writer;
        Ok((
            Self { shared, disk, folder, settings, active, rest: 0, writer, clock, due: None, _lock: lock },
            recovered,
        ))
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Works until the journal is closed or dropped, and all that was appended is written.
    pub(super) fn run(mut self) {
        // Also if this thread panics, nobody waits for ever.
        let _ending = Ending(self.shared.clone());
        self.sweep();
        loop {
            match self.next() {
                Next::Group(group) => {
                    self.commit(group);
                    self.sync_if_due();
                    self.sweep();
                }
                Next::Due => self.sync_if_due(),
                Next::Closed(group) => {
                    let result = self.last(group);
                    let shared = self.shared.clone();
                    // The folder is free before anyone hears of it.
                    drop(self);
                    shared.end(&result);
                    return;
                }
            }
        }
    }

    fn next(&mut self) -> Next {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        loop {
            if state.closing {
                return Next::Closed(state.take());
            }
            if state.gathering.pressing {
                return Next::Group(state.take());
            }
            state = match self.due.map(|due| due.saturating_sub(self.clock.monotonic())) {
                None => shared.work.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner),
                Some(Duration::ZERO) => return Next::Due,
                Some(left) => {
                    shared.work.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
            };
        }
    }

    /// Writes what has gathered, by one write and at most one fsync.
    fn commit(&mut self, group: Group) {
        let sync = group.has_cuts() || (group.has_writes() && self.settings.fsync == Fsync::Always);
        match self.write(&group.bytes, sync) {
            Ok(base) => {
                self.shared.settle(group, self.active.number, base);
                self.follow();
            }
            Err(error) => self.shared.fail(group, &failed("journal append", error)),
        }
    }

    /// Appends `bytes`: all of them, or nothing that counts. Where they begin.
    pub(super) fn write(&mut self, bytes: &[u8], sync: bool) -> io::Result<u64> {
        self.mend()?;
        let base = self.active.len;
        if let Err(error) = self.active.file.write_all(bytes) {
            self.undo();
            return Err(error);
        }
        if sync && let Err(error) = self.sync_file() {
            self.distrust();
            return Err(error);
        }
        self.active.len += bytes.len() as u64;
        if sync {
            self.synced();
        } else if !bytes.is_empty() {
            self.active.unsynced.extend_from_slice(bytes);
            self.wait_for_sync();
        }
        Ok(base)
    }

    fn wait_for_sync(&mut self) {
        if let Fsync::Every(pause) = self.settings.fsync
            && self.due.is_none()
        {
            self.due = Some(self.clock.monotonic().saturating_add(pause));
        }
    }

    fn sync_file(&mut self) -> io::Result<()> {
        if !self.active.named {
            self.disk.sync_folder(&self.folder)?;
            self.active.named = true;
        }
        self.active.file.sync()
    }

    fn synced(&mut self) {
        self.active.synced = self.active.len;
        self.active.unsynced.clear();
        self.due = None;
    }

    fn sync_if_due(&mut self) {
        let due = self.due.is_some_and(|due| due <= self.clock.monotonic());
        if due || self.active.unsynced.len() >= UNSYNCED_BYTES {
            self.due = None;
            if self.sync().is_err() {
                self.wait_for_sync();
            }
        }
    }

    /// Makes all that was written durable, if need be in another segment.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.mend()?;
        if self.active.is_durable() {
            return Ok(());
        }
        let Err(error) = self.sync_file() else {
            self.synced();
            return Ok(());
        };
        self.active.broken = true;
        self.mend()?;
        if self.active.is_durable() { Ok(()) } else { Err(error) }
    }

    /// Takes back what a failed write has left behind.
    fn undo(&mut self) {
        let taken_back = self.active.file.truncate(self.active.len).and_then(|()| self.sync_file());
        match taken_back {
            Ok(()) => self.synced(),
            Err(_) => self.distrust(),
        }
    }

    /// After a failed fsync the system may have dropped the pages, and call them clean: the next fsync would succeed
    /// without them.
    fn distrust(&mut self) {
        self.active.broken = true;
        // Should the process end before there is another segment, what failed is better not there.
        let _ = self.active.file.truncate(self.active.len);
        let _ = self.mend();
    }

    /// If the segment is broken, begins another one with all that the broken one may have lost. Its header tells where
    /// the broken one ends, and so makes void what failed there.
    fn mend(&mut self) -> io::Result<()> {
        if !self.active.broken {
            return Ok(());
        }
        let (number, end) = (self.active.number, self.active.synced);
        let rescued = std::mem::take(&mut self.active.unsynced);
        match self.begin(end, &rescued) {
            Ok(()) => {
                let books = &mut self.shared.lock().books;
                books.move_tail(number, end, self.active.number, Header::LEN as u64);
                books.shorten(number, end);
                Ok(())
            }
            Err(error) => {
                self.active.unsynced = rescued;
                Err(error)
            }
        }
    }

    /// Begins the next segment once this one is long enough. If that cannot be, this one goes on.
    pub(super) fn follow(&mut self) {
        let is_long = |writer: &Self| writer.active.len >= writer.settings.segment_bytes;
        // To make it durable may have begun another one already.
        if is_long(self) && self.sync().is_ok() && is_long(self) {
            let _ = self.begin(self.active.len, &[]);
        }
    }

    fn begin(&mut self, previous_end: u64, rescued: &[u8]) -> io::Result<()> {
        let first = self.shared.lock().next;
        let header = Header { segment: self.active.number + 1, previous_end, first, writer: self.writer };
        self.active = create(self.disk.as_mut(), &self.folder, header, rescued)?;
        self.shared.lock().books.grow(header.segment, self.active.len);
        if self.active.unsynced.is_empty() {
            self.due = None;
        }
        Ok(())
    }

    /// The last group, durable whatever the policy is.
    fn last(&mut self, group: Group) -> Result<()> {
        self.commit(group);
        self.sync().map_err(|error| failed("journal close", error))
    }
}

enum Next {
    Group(Group),
    /// Bytes must become durable.
    Due,
    Closed(Group),
}

struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(&Err(
            Error::new(ErrorKind::Closed, "journal close").detail("the journal's thread has ended")
        ));
    }
}

fn make(folder: &Path, disk: &mut dyn Disk) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    // The name of the folder is as precious as those in it.
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => disk.sync_folder(parent),
        _ => disk.sync_folder(Path::new(".")),
    }
}

/// The lock of the folder; it ends with the process, however that ends.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|error| failed("journal open", error))?;
    match FileExt::try_lock_exclusive(&file) {
        Ok(true) => Ok(file),
        Ok(false) => Err(Error::new(ErrorKind::Conflict, "journal open")
            .detail(format!("{} is in use by another process or journal", folder.display()))),
        Err(error) => Err(failed("journal open", error)),
    }
}

/// A segment comes under its name only once its header is durable, so none is ever seen without one.
fn create(disk: &mut dyn Disk, folder: &Path, header: Header, rescued: &[u8]) -> io::Result<Active> {
    let path = nascent(folder);
    let mut file = disk.create(&path)?;
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(rescued);
    file.write_all(&bytes)?;
    file.sync()?;
    disk.rename(&path, &path_of(folder, header.segment))?;
    // From here on the segment before has its end: this one is the one that grows, come what may.
    let named = disk.sync_folder(folder).is_ok();
    let len = bytes.len() as u64;
    let (synced, unsynced) = if named { (len, Vec::new()) } else { (Header::LEN as u64, rescued.to_vec()) };
    Ok(Active { number: header.segment, file, named, len, synced, unsynced, broken: false })
}

/// What the file system said, as an error of the journal.
fn failed(operation: &'static str, error: io::Error) -> Error {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let word = Error::new(ErrorKind::Unavailable, operation);
    let word =
        if full { word.detail(format!("journal full: {error}")) } else { word.detail(error.to_string()) };
    word.caused_by(error)
}
