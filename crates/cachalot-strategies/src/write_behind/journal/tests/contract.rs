//! What a journal promises when nothing fails.

use std::time::Duration;

use super::super::{BestEffort, Fsync, LoggedDead};
use super::faulty::Op;
use super::*;
use cachalot_core::ErrorKind;

#[tokio::test]
async fn what_was_appended_and_not_done_is_owed_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let (log, first) = open(FileJournal::at(dir.path())).await.unwrap();
    assert_eq!((first.next_sequence, first.writes.len(), first.dead.len()), (1, 0, 0));
    let one = put(&log, "a", "1");
    let two = log.append(Bytes::from_static(b"b"), None);
    let three = put(&log, "a", "3");
    assert_eq!((one, two, three), (1, 2, 3));
    log.durable(three).await.unwrap();
    log.done(&[one]);
    log.close().await.unwrap();

    let (log, again) = open(FileJournal::at(dir.path())).await.unwrap();
    let deletion = Logged { sequence: 2, key: Bytes::from_static(b"b"), value: None };
    assert_eq!(again.writes, [deletion, write(3, "a", "3")]);
    assert_eq!(again.writer, first.writer, "the writer is the folder's");
    assert!(again.next_sequence > three);
    log.done(&[2, 3]);
    log.close().await.unwrap();
    let (_log, empty) = open(FileJournal::at(dir.path())).await.unwrap();
    assert!(empty.writes.is_empty());
}

#[tokio::test]
async fn dead_letters_are_kept_until_they_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(FileJournal::at(dir.path())).await.unwrap();
    let (poison, other) = (keep(&log, "p", "x").await, keep(&log, "q", "y").await);
    log.dead(&[poison], 5, "constraint");
    log.dead(&[other], 2, "too long");
    log.done(&[other]);
    log.close().await.unwrap();
    let (log, recovered) = open(FileJournal::at(dir.path())).await.unwrap();
    assert!(recovered.writes.is_empty());
    let dead = LoggedDead {
        write: write(poison, "p", "x"),
        letter: poison,
        attempts: 5,
        reason: "constraint".into(),
    };
    assert_eq!(recovered.dead, [dead]);
    log.done(&[poison]);
    log.close().await.unwrap();
    let (_log, recovered) = open(FileJournal::at(dir.path())).await.unwrap();
    assert!(recovered.dead.is_empty());
}

#[tokio::test]
async fn cuts_come_back_as_long_as_they_part_something() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(FileJournal::at(dir.path())).await.unwrap();
    let (one, two) = (put(&log, "a", "1"), put(&log, "a", "2"));
    log.cut(one).await.unwrap();
    log.cut(two).await.unwrap();
    log.done(&[one]);
    log.close().await.unwrap();
    let (log, recovered) = open(FileJournal::at(dir.path())).await.unwrap();
    assert_eq!(recovered.cuts, [two]);
    log.done(&[two]);
    log.close().await.unwrap();
    let (_log, recovered) = open(FileJournal::at(dir.path())).await.unwrap();
    assert!(recovered.cuts.is_empty());
}

#[tokio::test]
async fn writes_that_wait_together_share_one_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let (log, _) = open_on(FileJournal::at(dir.path()), &faulty).await.unwrap();
    let before = faulty.count(Op::Sync);
    faulty.hold();
    put(&log, "k", "first");
    faulty.wait_for_held();
    let behind: Vec<u64> = (0..1000).map(|n| put(&log, "k", &n.to_string())).collect();
    faulty.release();
    log.durable(behind[999]).await.unwrap();
    assert_eq!(faulty.count(Op::Sync) - before, 2, "one for the first, one for the thousand behind it");
}

#[tokio::test]
async fn notes_that_writes_are_done_cost_no_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let (log, _) = open_on(FileJournal::at(dir.path()), &faulty).await.unwrap();
    let sequence = keep(&log, "k", "v").await;
    let before = faulty.count(Op::Sync);
    log.done(&[sequence]);
    log.close().await.unwrap();
    assert_eq!(faulty.count(Op::Sync) - before, 1, "the one of the close");
}

#[tokio::test]
async fn a_write_is_not_acknowledged_before_it_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let (log, _) = open_on(FileJournal::at(dir.path()), &faulty).await.unwrap();
    faulty.hold();
    let sequence = put(&log, "k", "v");
    faulty.wait_for_held();
    let mut durable = log.durable(sequence);
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(durable.as_mut().poll(cx).is_pending())).await);
    faulty.release();
    durable.await.unwrap();
    let image = tempfile::tempdir().unwrap();
    faulty.lose_power(image.path(), false, 0);
    let (_log, recovered) = open(FileJournal::at(image.path())).await.unwrap();
    assert_eq!(values(&recovered), ["v"]);
}

#[tokio::test]
async fn with_an_interval_a_write_is_acknowledged_before_the_fsync_and_synced_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let clock = cachalot_core::ManualClock::new();
    let journal = FileJournal::at(dir.path()).fsync(Fsync::Every(Duration::from_millis(5)));
    let (log, _) = journal.open_on(faulty.disk(), &Entropy::seeded(1), &clock.clock()).await.unwrap();
    let before = faulty.count(Op::Sync);
    for n in 0..100 {
        keep(&log, "k", &n.to_string()).await;
    }
    assert_eq!(faulty.count(Op::Sync), before, "the clock stands still");
    faulty.hold();
    clock.advance(Duration::from_millis(5));
    faulty.wait_for_held();
    faulty.release();
    // The interval of this one begins with it; the answer comes when the fsync of the others is over.
    keep(&log, "k", "one more").await;
    assert_eq!(faulty.count(Op::Sync) - before, 1, "one for a hundred");
    let image = tempfile::tempdir().unwrap();
    faulty.lose_power(image.path(), false, 0);
    let (_log, recovered) = open(FileJournal::at(image.path())).await.unwrap();
    assert_eq!(recovered.writes.len(), 100, "lost is what came within the interval");
}

#[tokio::test]
async fn an_interval_of_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(FileJournal::at(dir.path()).fsync(Fsync::Every(Duration::ZERO))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_folder_has_one_journal_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(FileJournal::at(dir.path())).await.unwrap();
    let error = open(FileJournal::at(dir.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("in use by another process"), "{error}");
    log.close().await.unwrap();
    open(FileJournal::at(dir.path())).await.unwrap();
}

#[tokio::test]
async fn a_closed_journal_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(FileJournal::at(dir.path())).await.unwrap();
    let kept = keep(&log, "k", "kept").await;
    log.close().await.unwrap();
    log.close().await.unwrap();
    let late = put(&log, "k", "late");
    assert_eq!(log.durable(late).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(log.cut(kept).await.unwrap_err().kind(), ErrorKind::Closed);
    log.done(&[kept]);
    let (_log, recovered) = open(FileJournal::at(dir.path())).await.unwrap();
    assert_eq!(values(&recovered), ["kept"]);
}

#[tokio::test]
async fn a_dropped_journal_writes_what_was_appended_and_frees_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(FileJournal::at(dir.path())).await.unwrap();
    put(&log, "k", "last");
    drop(log);
    let recovered = loop {
        match open(FileJournal::at(dir.path())).await {
            Ok((_log, recovered)) => break recovered,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(values(&recovered), ["last"]);
}

#[tokio::test]
async fn no_sequence_is_given_out_twice_whatever_the_disk_forgot() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let clock = cachalot_core::ManualClock::new().clock();
    let lazy = || FileJournal::at(dir.path()).fsync(Fsync::Every(Duration::from_secs(1)));
    let (log, _) = lazy().open_on(faulty.disk(), &Entropy::seeded(1), &clock).await.unwrap();
    let lost = keep(&log, "k", "in the source, but not on the disk").await;
    let second = tempfile::tempdir().unwrap();
    faulty.lose_power(second.path(), false, 0);
    let (log, recovered) = open(FileJournal::at(second.path())).await.unwrap();
    assert!(recovered.writes.is_empty());
    assert!(recovered.next_sequence > lost);
    log.close().await.unwrap();
    let (_log, third) = open(FileJournal::at(second.path())).await.unwrap();
    assert!(third.next_sequence > recovered.next_sequence, "what that opening gave out may be lost as well");
}

#[tokio::test]
async fn best_effort_keeps_nothing_and_counts() {
    let entropy = Entropy::seeded(1);
    let (log, recovered) = BestEffort::open(&entropy);
    let sequences: Vec<u64> = (0..3).map(|_| put(&log, "k", "v")).collect();
    assert_eq!(sequences, [1, 2, 3]);
    assert_eq!(recovered.next_sequence, 1);
    log.durable(3).await.unwrap();
    log.cut(3).await.unwrap();
    log.close().await.unwrap();
    assert_ne!(BestEffort::open(&entropy).1.writer, recovered.writer);
}
