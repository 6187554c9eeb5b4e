//! Folders as a crash, or a bad disk, leaves them.

use proptest::prelude::*;

use super::super::disk::path_of;
use super::super::format::Header;
use super::super::replay::replay;
use super::*;
use cachalot_core::ErrorKind;

/// Two segments: four writes with the first done, then three with a cut.
async fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_quick(FileJournal::at(dir.path()), dir.path()).await.unwrap();
    for n in 0..4 {
        keep(&log, "k", &format!("old {n}")).await;
    }
    log.done(&[1]);
    log.close().await.unwrap();
    let (log, _) = open_quick(FileJournal::at(dir.path()), dir.path()).await.unwrap();
    for n in 0..2 {
        keep(&log, "k", &format!("new {n}")).await;
    }
    log.cut(3).await.unwrap();
    keep(&log, "k", "new 2").await;
    log.close().await.unwrap();
    assert_eq!(segments(dir.path()).len(), 2);
    dir
}

fn found(dir: &tempfile::TempDir) -> Result<Recovered> {
    replay(dir.path()).map(|found| found.unwrap().recovered)
}

#[tokio::test]
async fn a_tail_that_is_torn_anywhere_loses_only_itself() {
    let dir = folder().await;
    let path = path_of(dir.path(), 2);
    let whole = std::fs::read(&path).unwrap();
    let all = values(&found(&dir).unwrap());
    assert_eq!(all, ["old 1", "old 2", "old 3", "new 0", "new 1", "new 2"]);
    let mut seen = 0;
    for len in Header::LEN..=whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let recovered = found(&dir).unwrap();
        let kept = values(&recovered);
        assert_eq!(kept, all[..kept.len()], "torn at {len}");
        assert!(kept.len() >= 3, "torn at {len}");
        assert!(kept.len() >= seen, "more bytes, less kept: torn at {len}");
        seen = kept.len();
        assert!(recovered.torn_bytes < 40, "torn at {len}: {}", recovered.torn_bytes);
    }
    assert_eq!(seen, all.len());
}

#[tokio::test]
async fn what_is_torn_is_passed_over_for_good() {
    let dir = folder().await;
    let path = path_of(dir.path(), 2);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let (log, first) = open(FileJournal::at(dir.path())).await.unwrap();
    assert_eq!(first.torn_bytes, 8 + 1 + 8 + 4 + 1 + 5 - 3);
    let after = keep(&log, "k", "after").await;
    log.close().await.unwrap();
    for _ in 0..2 {
        let (log, again) = open(FileJournal::at(dir.path())).await.unwrap();
        assert_eq!(again.writes[..5], first.writes[..]);
        assert_eq!(again.writes[5], write(after, "k", "after"));
        assert_eq!((again.writes.len(), again.torn_bytes), (6, 0));
        log.close().await.unwrap();
    }
}

#[tokio::test]
async fn no_flipped_bit_brings_a_wrong_value() {
    let dir = folder().await;
    let all = found(&dir).unwrap().writes;
    for segment in [1, 2] {
        let path = path_of(dir.path(), segment);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            match found(&dir) {
                Ok(recovered) => {
                    assert!(segment == 2 && at >= Header::LEN, "byte {at} of segment {segment} went unseen");
                    assert_eq!(recovered.writes, all[..recovered.writes.len()]);
                    assert!(recovered.torn_bytes > 0, "byte {at} of segment {segment} went unseen");
                }
                Err(error) => {
                    assert!(segment == 1 || at < Header::LEN, "{error}");
                    assert_eq!(error.kind(), ErrorKind::Decode);
                    assert!(error.to_string().contains(&format!("{segment:020}.log")), "{error}");
                }
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

#[tokio::test]
async fn damage_in_an_earlier_segment_is_an_error_that_names_file_and_byte_and_changes_nothing() {
    let dir = folder().await;
    let path = path_of(dir.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    // The second of four records of 27 bytes each.
    bytes[Header::LEN + 27 + 20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = open(FileJournal::at(dir.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    let text = error.to_string();
    assert!(text.contains("00000000000000000001.log is corrupt at byte 83"), "{text}");
    assert_eq!(segments(dir.path()).len(), 2);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn an_earlier_segment_that_is_short_or_missing_is_an_error() {
    let dir = folder().await;
    let path = path_of(dir.path(), 1);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(found(&dir).unwrap_err().to_string().contains("it should have"));
    std::fs::write(&path, &bytes).unwrap();
    // With segments so short none is short enough to be moved.
    let (log, _) = open(FileJournal::at(dir.path()).segment_bytes(1)).await.unwrap();
    log.close().await.unwrap();
    std::fs::remove_file(path_of(dir.path(), 2)).unwrap();
    assert!(found(&dir).unwrap_err().to_string().contains("is missing"));
}

#[tokio::test]
async fn a_segment_of_another_folder_is_seen() {
    let (dir, other) = (folder().await, tempfile::tempdir().unwrap());
    let journal = FileJournal::at(other.path());
    let (log, _) = journal.open(&Entropy::seeded(2), &Clock::system()).await.unwrap();
    log.close().await.unwrap();
    let (log, _) = open(FileJournal::at(other.path())).await.unwrap();
    log.close().await.unwrap();
    let stranger = segments(other.path()).pop().unwrap();
    std::fs::copy(other.path().join(&stranger), dir.path().join("00000000000000000002.log")).unwrap();
    assert!(found(&dir).unwrap_err().to_string().contains("is of another journal"));
    std::fs::rename(path_of(dir.path(), 2), path_of(dir.path(), 3)).unwrap();
    assert!(found(&dir).unwrap_err().to_string().contains("the name is that of another segment"));
}

#[tokio::test]
async fn a_note_that_a_write_is_done_may_be_lost_and_the_write_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let (log, _) = open_on(FileJournal::at(dir.path()), &faulty).await.unwrap();
    let sequence = keep(&log, "k", "v").await;
    log.done(&[sequence]);
    let image = tempfile::tempdir().unwrap();
    faulty.lose_power(image.path(), false, 0);
    let (_log, recovered) = open(FileJournal::at(image.path())).await.unwrap();
    assert_eq!(values(&recovered), ["v"]);
}

#[tokio::test]
async fn what_a_killed_process_left_to_the_system_is_durable_once_the_folder_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_quick(FileJournal::at(dir.path()), dir.path()).await.unwrap();
    keep(&log, "k", "v").await;
    log.close().await.unwrap();
    let faulty = Faulty::over_unsynced(dir.path());
    let (_log, recovered) = open_on(FileJournal::at(dir.path()), &faulty).await.unwrap();
    assert_eq!(values(&recovered), ["v"]);
    let image = tempfile::tempdir().unwrap();
    faulty.lose_power(image.path(), false, 0);
    let (_log, again) = open(FileJournal::at(image.path())).await.unwrap();
    assert_eq!(again.writes, recovered.writes, "what was handed out is owed until it is done");
}

#[tokio::test]
async fn files_of_others_and_unfinished_segments_are_left_out() {
    let dir = folder().await;
    std::fs::write(dir.path().join("nascent"), b"half a head").unwrap();
    std::fs::write(dir.path().join("notes.txt"), b"hello").unwrap();
    let (log, recovered) = open(FileJournal::at(dir.path())).await.unwrap();
    assert_eq!(recovered.writes.len(), 6);
    log.close().await.unwrap();
    assert_eq!(std::fs::read(dir.path().join("notes.txt")).unwrap(), b"hello");
}

proptest! {
    #[test]
    fn any_bytes_as_a_segment_are_an_error_or_a_torn_tail(bytes: Vec<u8>, whole_header: bool, more: bool) {
        let dir = tempfile::tempdir().unwrap();
        let header = Header { segment: 1, previous_end: 0, first: 1, writer: 7 };
        let mut content = if whole_header { header.encode().to_vec() } else { Vec::new() };
        content.extend_from_slice(&bytes);
        std::fs::write(path_of(dir.path(), 1), &content).unwrap();
        if more {
            let next = Header { segment: 2, previous_end: content.len() as u64, ..header };
            std::fs::write(path_of(dir.path(), 2), next.encode()).unwrap();
        }
        match replay(dir.path()) {
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Decode);
                prop_assert!(!whole_header || more);
            }
            Ok(found) => prop_assert!(found.unwrap().recovered.torn_bytes <= bytes.len() as u64),
        }
    }
}
