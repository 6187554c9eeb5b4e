//! Trace files as other projects publish them, by name: `*.lis`, `*.trace`, and corda's.

use std::fs;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};

use super::Trace;

/// The folder of trace files that the environment names in `CACHALOT_TRACES`, if it does.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os("CACHALOT_TRACES").map(PathBuf::from)
}

/// Reads every trace in the folders of `folder`, in the order of their names. Files that are no traces by
/// their name are left out.
///
/// # Errors
/// If a file cannot be read, unpacked or understood.
pub fn files(folder: &Path) -> Result<Vec<Trace>> {
    let mut traces = Vec::new();
    for group in sorted(folder)?.into_iter().filter(|path| path.is_dir()) {
        for path in sorted(&group)? {
            traces.extend(
                read(&group, &path)
                    .map_err(|error| Error::new(error.kind(), format!("{}: {error}", path.display())))?,
            );
        }
    }
    Ok(traces)
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// How the keys stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Text, four columns `start n ignore request`, for the keys from `start` to `start + n - 1`.
    Ranges,
    /// Text, a number a line; other lines count nothing.
    Lines,
    /// Big-endian `i32`.
    Words,
    /// Big-endian `i64`.
    LongWords,
}

impl Format {
    /// The format by the names of file and folder; `None` for what is no trace.
    fn of(group: &str, file: &str) -> Option<Self> {
        match group {
            _ if file.contains(".lis") => Some(Self::Ranges),
            "cache2k" if file.contains(".trace") => Some(Self::Words),
            _ if file.contains(".trace") => Some(Self::Lines),
            _ if file.starts_with("corda_trace") => Some(Self::LongWords),
            _ => None,
        }
    }

    fn keys(self, bytes: &[u8]) -> Result<Vec<u64>> {
        match self {
            Self::Ranges => ranges(text(bytes)?),
            Self::Lines => Ok(text(bytes)?.lines().filter_map(|line| line.trim().parse().ok()).collect()),
            Self::Words => Ok(words::<4>(bytes).map(|word| u64::from(u32::from_be_bytes(word))).collect()),
            Self::LongWords => Ok(words(bytes).map(u64::from_be_bytes).collect()),
        }
    }
}

fn read(group: &Path, path: &Path) -> Result<Option<Trace>> {
    let (group, file) = (name_of(group), name_of(path));
    let Some(format) = Format::of(&group, &file) else {
        return Ok(None);
    };
    let keys = format.keys(&unpack(&file, fs::read(path)?)?)?;
    let stem = file.split(['.']).next().unwrap_or_default();
    let stem = stem.split("_trace").next().unwrap_or_default();
    Ok(Some(Trace { name: format!("{group}/{stem}"), keys }))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn unpack(file: &str, packed: Vec<u8>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match file.rsplit('.').next() {
        _ if packed.starts_with(&[0x1f, 0x8b]) => {
            flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut bytes)?
        }
        Some("xz") => lzma_rust2::XzReader::new(&packed[..], true).read_to_end(&mut bytes)?,
        Some("zst") => ruzstd::decoding::StreamingDecoder::new(&packed[..])
            .map_err(|error| broken(error.to_string()))?
            .read_to_end(&mut bytes)?,
        _ => return Ok(packed),
    };
    Ok(bytes)
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| broken(error.to_string()))
}

fn ranges(text: &str) -> Result<Vec<u64>> {
    let mut keys = Vec::new();
    for line in text.lines() {
        let mut columns = line.split_ascii_whitespace().map(str::parse::<u64>);
        match (columns.next(), columns.next()) {
            (Some(Ok(start)), Some(Ok(count))) => keys.extend(start..start + count),
            (None, _) => {}
            _ => return Err(broken(format!("no range: {line:?}"))),
        }
    }
    Ok(keys)
}

fn words<const SIZE: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; SIZE]> + '_ {
    bytes.chunks_exact(SIZE).filter_map(|word| word.try_into().ok())
}

fn broken(why: String) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_columns_stands_for_its_range_of_keys() {
        assert_eq!(Format::Ranges.keys(b"10 3 0 1\n7 1 0 2\n").unwrap(), [10, 11, 12, 7]);
        assert!(Format::Ranges.keys(b"10 many 0 1\n").is_err());
    }

    #[test]
    fn stars_and_empty_lines_are_no_keys() {
        assert_eq!(Format::Lines.keys(b"*\n5\n\n  6\n*").unwrap(), [5, 6]);
    }

    #[test]
    fn words_are_big_endian() {
        assert_eq!(Format::Words.keys(&[0, 0, 1, 2, 0, 0, 0, 3]).unwrap(), [258, 3]);
        assert_eq!(Format::LongWords.keys(&[0, 0, 0, 0, 0, 0, 1, 2]).unwrap(), [258]);
    }

    #[test]
    fn names_tell_the_format() {
        assert_eq!(Format::of("arc", "OLTP.lis.zst"), Some(Format::Ranges));
        assert_eq!(Format::of("lirs", "gli.trace.gz"), Some(Format::Lines));
        assert_eq!(Format::of("cache2k", "web12.trace.xz"), Some(Format::Words));
        assert_eq!(Format::of("misc", "corda_trace_vaultservice.gz"), Some(Format::LongWords));
        assert_eq!(Format::of("cache2k", "LICENSE.txt"), None);
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes() {
        use std::io::Write;
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(b"1\n2\n").unwrap();
        assert_eq!(unpack("keys.gz", packer.finish().unwrap()).unwrap(), b"1\n2\n");
        assert_eq!(unpack("keys", b"1\n".to_vec()).unwrap(), b"1\n");
    }
}
