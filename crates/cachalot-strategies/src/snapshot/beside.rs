//! A file that is written beside its place, and what is left of those whose process died meanwhile.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cachalot_core::Entropy;
use fs4::fs_std::FileExt;

/// Gone if it was not put in its place. It is locked until then, so that nobody takes it for left behind.
pub(super) struct Beside {
    path: PathBuf,
    file: File,
}

impl Beside {
    /// An empty file beside `place`, after what others have left there is removed.
    pub(super) fn create(place: &Path, entropy: &Entropy) -> io::Result<Self> {
        // Nothing that is written depends on it.
        let _ = remove_left_behind(place);
        loop {
            let number = u128::from_le_bytes(entropy.draw_128());
            let path = place.with_file_name(name_of(place, number));
            let file = create(&path)?;
            // Before it was locked somebody may have taken it for left behind.
            if matches!(FileExt::try_lock_exclusive(&file), Ok(false)) || !path.exists() {
                continue;
            }
            return Ok(Self { path, file });
        }
    }

    /// To write to.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Puts it where `place` is.
    pub(super) fn put(self, place: &Path) -> io::Result<()> {
        fs::rename(&self.path, place)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Not there: it was put in its place.
        let _ = fs::remove_file(&self.path);
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

fn name_of(place: &Path, number: u128) -> OsString {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{number:032x}.tmp"));
    name
}

/// Removes what processes have left beside `place` that were killed before they could put it there: what nobody holds a
/// lock of. A lock ends with its process.
fn remove_left_behind(place: &Path) -> io::Result<()> {
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
    for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        if is_beside(place, &entry.file_name()) && entry.file_type()?.is_file() {
            let file = File::options().write(true).open(entry.path())?;
            // Removed while it is locked: its writer, if there is one, sees that it is gone.
            if matches!(FileExt::try_lock_exclusive(&file), Ok(true)) {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// Whether a file of this name was written to be put at `place`.
fn is_beside(place: &Path, name: &std::ffi::OsStr) -> bool {
    let (Some(place), Some(name)) = (place.file_name().and_then(|name| name.to_str()), name.to_str()) else {
        return false;
    };
    let number = name.strip_prefix(place).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".tmp"));
    number.is_some_and(|number| number.len() == 32 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_by_the_next_snapshot_and_what_is_being_written_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("users.snapshot");
        let left = |name: &str| folder.path().join(format!("{name}.{:032x}.tmp", 7));
        let number = "0".repeat(31);
        let others = [left("orders.snapshot"), folder.path().join(format!("users.snapshot.{number}.tmp"))];
        fs::write(left("users.snapshot"), "half of it").unwrap();
        others.iter().for_each(|other| fs::write(other, "of somebody else").unwrap());
        let entropy = Entropy::seeded(1);
        let first = Beside::create(&place, &entropy).unwrap();
        assert!(!left("users.snapshot").exists());
        assert!(others.iter().all(|other| other.exists()));

        let second = Beside::create(&place, &entropy).unwrap();
        assert!(first.path.exists() && second.path.exists() && first.path != second.path);
        first.put(&place).unwrap();
        drop(second);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "the snapshot, and the others");
    }
}
