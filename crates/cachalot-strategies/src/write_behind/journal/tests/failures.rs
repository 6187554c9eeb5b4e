//! A disk that fails: exactly the writes that it failed are void, and never come back.

use std::io;
use std::time::Duration;

use super::super::Fsync;
use super::faulty::{BROKEN, FULL, Op};
use super::*;
use cachalot_core::ErrorKind;

/// What a restart finds, by what the operating system has, and by what the disk has.
async fn found_after_a_crash(dir: &Path, faulty: &Faulty) -> [Vec<String>; 3] {
    let mut found = Vec::new();
    for (names, besides) in [(true, usize::MAX), (true, 0), (false, 0)] {
        let image = tempfile::tempdir().unwrap();
        faulty.lose_power(image.path(), names, besides);
        let (_log, recovered) = open(FileJournal::at(image.path())).await.unwrap();
        found.push(values(&recovered));
    }
    assert!(dir.is_dir());
    found.try_into().unwrap()
}

#[tokio::test]
async fn a_write_that_fails_is_void_and_the_next_one_is_kept() {
    for short in [0, 1, 7, 8, 20, 30] {
        let dir = tempfile::tempdir().unwrap();
        let faulty = Faulty::default();
        let (log, _) = open_on(FileJournal::at(dir.path()), &faulty).await.unwrap();
        keep(&log, "k", "before").await;
        faulty.fail(Op::Write, 1, super::faulty::Fault { kind: io::ErrorKind::Other, short });
        let void = put(&log, "k", "void");
        let error = log.durable(void).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        for found in found_after_a_crash(dir.path(), &faulty).await {
            assert_eq!(found, ["before"], "{short} bytes written");
        }
        keep(&log, "k", "after").await;
        for found in found_after_a_crash(dir.path(), &faulty).await {
            assert_eq!(found, ["before", "after"], "{short} bytes written");
        }
        assert_eq!(segments(dir.path()).len(), 1, "the same segment goes on");
    }
}

#[tokio::test]
async fn after_an_fsync_that_failed_the_file_is_never_trusted_again() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let (log, _) = open_on(FileJournal::at(dir.path()), &faulty).await.unwrap();
    keep(&log, "k", "before").await;
    faulty.fail(Op::Sync, 1, BROKEN);
    let void = put(&log, "k", "void");
    log.durable(void).await.unwrap_err();
    assert_eq!(segments(dir.path()).len(), 2);
    keep(&log, "k", "after").await;
    for found in found_after_a_crash(dir.path(), &faulty).await {
        assert_eq!(found, ["before", "after"]);
    }
}

#[tokio::test]
async fn a_group_fails_together_and_those_behind_it_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let (log, _) = open_on(FileJournal::at(dir.path()), &faulty).await.unwrap();
    faulty.fail(Op::Sync, 2, BROKEN);
    faulty.hold();
    let first = put(&log, "k", "first");
    faulty.wait_for_held();
    let group: Vec<u64> = (0..5).map(|n| put(&log, "k", &format!("void {n}"))).collect();
    faulty.release();
    log.durable(first).await.unwrap();
    for void in group {
        log.durable(void).await.unwrap_err();
    }
    keep(&log, "k", "after").await;
    for found in found_after_a_crash(dir.path(), &faulty).await {
        assert_eq!(found, ["first", "after"]);
    }
}

#[tokio::test]
async fn void_writes_stay_void_if_they_can_neither_be_taken_back_nor_synced() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let (log, _) = open_on(FileJournal::at(dir.path()), &faulty).await.unwrap();
    keep(&log, "k", "before").await;
    faulty.fail(Op::Write, 1, super::faulty::Fault { kind: io::ErrorKind::Other, short: usize::MAX });
    faulty.fail(Op::Truncate, 1, BROKEN);
    faulty.fail(Op::Truncate, 2, BROKEN);
    let void = put(&log, "k", "whole in the file, yet void");
    log.durable(void).await.unwrap_err();
    for found in found_after_a_crash(dir.path(), &faulty).await {
        assert_eq!(found, ["before"], "the header of the next segment says where this one ends");
    }
    keep(&log, "k", "after").await;
    for found in found_after_a_crash(dir.path(), &faulty).await {
        assert_eq!(found, ["before", "after"]);
    }
}

#[tokio::test]
async fn while_nothing_can_be_written_all_fails_and_works_again_later() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let (log, _) = open_on(FileJournal::at(dir.path()), &faulty).await.unwrap();
    let before = keep(&log, "k", "before").await;
    for op in [Op::Sync, Op::Create] {
        faulty.fail_always(op, BROKEN);
    }
    for n in 0..3 {
        let void = put(&log, "k", &format!("void {n}"));
        log.durable(void).await.unwrap_err();
        log.done(&[before]);
        log.cut(void).await.unwrap_err();
    }
    faulty.heal();
    keep(&log, "k", "after").await;
    for found in found_after_a_crash(dir.path(), &faulty).await {
        assert_eq!(
            found,
            ["after"],
            "the note that the first is done was not lost with the group that it was in"
        );
    }
}

#[tokio::test]
async fn a_full_disk_is_a_clear_error_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let (log, _) = open_on(FileJournal::at(dir.path()), &faulty).await.unwrap();
    keep(&log, "k", "before").await;
    faulty.fail_always(Op::Write, FULL);
    let void = put(&log, "k", "void");
    let error = log.durable(void).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("journal full"), "{error}");
    faulty.heal();
    keep(&log, "k", "after").await;
    for found in found_after_a_crash(dir.path(), &faulty).await {
        assert_eq!(found, ["before", "after"]);
    }
}

#[tokio::test]
async fn with_an_interval_an_fsync_that_fails_costs_no_acknowledged_write() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let clock = cachalot_core::ManualClock::new();
    let journal = FileJournal::at(dir.path()).fsync(Fsync::Every(Duration::from_secs(1)));
    let (log, _) = journal.open_on(faulty.disk(), &Entropy::seeded(1), &clock.clock()).await.unwrap();
    let (one, two) = (keep(&log, "k", "one").await, keep(&log, "k", "two").await);
    log.done(&[one]);
    faulty.fail(Op::Sync, 1, BROKEN);
    clock.advance(Duration::from_secs(1));
    // It wakes the writer, which finds that the fsync is due.
    keep(&log, "k", "three").await;
    log.close().await.unwrap();
    assert_eq!(segments(dir.path()), ["00000000000000000002.log"], "all that counts lies in another file");
    for found in found_after_a_crash(dir.path(), &faulty).await {
        assert_eq!(found, ["two", "three"]);
    }
    assert!(two > one);
}

#[tokio::test]
async fn with_an_interval_nothing_is_lost_while_no_fsync_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let clock = cachalot_core::ManualClock::new();
    let journal = FileJournal::at(dir.path()).fsync(Fsync::Every(Duration::from_secs(1)));
    let (log, _) = journal.open_on(faulty.disk(), &Entropy::seeded(1), &clock.clock()).await.unwrap();
    keep(&log, "k", "one").await;
    for op in [Op::Sync, Op::Create] {
        faulty.fail_always(op, BROKEN);
    }
    clock.advance(Duration::from_secs(1));
    let cut = log.cut(1).await;
    assert!(cut.is_err(), "a cut is durable or an error");
    faulty.heal();
    log.close().await.unwrap();
    for found in found_after_a_crash(dir.path(), &faulty).await {
        assert_eq!(found, ["one"]);
    }
}

#[tokio::test]
async fn a_name_that_is_not_durable_makes_nothing_durable() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let journal = FileJournal::at(dir.path()).segment_bytes(100);
    let (log, _) = open_on(journal, &faulty).await.unwrap();
    faulty.fail(Op::SyncFolder, 1, BROKEN);
    keep(&log, "k", "fills the first segment to the brim").await;
    keep(&log, "k", "lies in the second").await;
    let [_, _, durable] = found_after_a_crash(dir.path(), &faulty).await;
    assert_eq!(durable, ["fills the first segment to the brim", "lies in the second"]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_opened_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"no folder").unwrap();
    let error = open(FileJournal::at(file.join("journal"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let faulty = Faulty::default();
    faulty.fail(Op::Create, 1, FULL);
    let error = open_on(FileJournal::at(dir.path().join("full")), &faulty).await.unwrap_err();
    assert!(error.to_string().contains("journal full"), "{error}");
}
