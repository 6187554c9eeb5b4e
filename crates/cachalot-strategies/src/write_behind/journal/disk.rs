//! The few things that a journal asks of a file system. A seam, so that tests can let each of them fail.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Where segments lie.
pub(super) trait Disk: Send + fmt::Debug {
    /// An empty file under this name, whatever was there.
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn Segment>>;
    /// A file that is there, to go on at its end.
    fn reopen(&mut self, path: &Path) -> io::Result<Box<dyn Segment>>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Makes the names in the folder durable.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()>;
    fn read(&mut self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;
}

/// A file that grows at its end.
pub(super) trait Segment: Send + fmt::Debug {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that was written durable, the length included.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts it to `len` bytes, and goes on there.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// The machine's own.
#[derive(Debug)]
pub(super) struct Real;

impl Disk for Real {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(OpenOptions::new().write(true).create(true).truncate(true).open(path)?))
    }

    fn reopen(&mut self, path: &Path) -> io::Result<Box<dyn Segment>> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Box::new(file))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    #[cfg(unix)]
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    // Elsewhere a folder cannot be opened as a file, and names are durable by themselves.
    #[cfg(not(unix))]
    fn sync_folder(&mut self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Segment for File {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.seek(SeekFrom::Start(len))?;
        Ok(())
    }
}

const NAME_LEN: usize = 20;

/// The name of a segment: its number, such that names sort as numbers do.
pub(super) fn path_of(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:020}.log"))
}

/// Where a segment is made until its header is durable.
pub(super) fn nascent(folder: &Path) -> PathBuf {
    folder.join("nascent")
}

/// The number in the name of a segment; `None` for other files.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == NAME_LEN && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_their_numbers() {
        let path = path_of(Path::new("j"), 12);
        assert_eq!(path, Path::new("j").join("00000000000000000012.log"));
        assert_eq!(number_of("00000000000000000012.log"), Some(12));
        for other in ["12.log", "lock", "nascent", "0000000000000000001x.log", "+0000000000000000012.log"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
