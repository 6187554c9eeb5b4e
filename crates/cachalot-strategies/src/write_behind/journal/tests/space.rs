//! Space is bounded, and comes back.

use std::time::Duration;

use super::super::Fsync;
use super::super::replay::replay;
use super::faulty::{BROKEN, Op};
use super::*;
use cachalot_core::ErrorKind;

fn small(dir: &tempfile::TempDir) -> FileJournal {
    FileJournal::at(dir.path()).segment_bytes(1000).max_bytes(20_000)
}

fn found(dir: &tempfile::TempDir) -> Recovered {
    replay(dir.path()).unwrap().unwrap().recovered
}

/// A hundred bytes of a record.
const LONG: &str = "seventy-eight bytes of a value that says nothing, but says it at some length..";

#[tokio::test]
async fn segments_go_once_the_source_has_what_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_quick(small(&dir), dir.path()).await.unwrap();
    for _ in 0..200 {
        let sequence = keep(&log, "k", LONG).await;
        log.done(&[sequence]);
    }
    log.close().await.unwrap();
    let names = segments(dir.path());
    assert!(names.len() <= 3, "{names:?}");
    assert!(names[0].as_str() > "00000000000000000015.log", "{names:?}");
    assert!(found(&dir).writes.is_empty());
}

#[tokio::test]
async fn a_segment_stays_while_an_older_one_holds_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_quick(small(&dir), dir.path()).await.unwrap();
    let held: Vec<u64> = {
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(keep(&log, "held", LONG).await);
        }
        held
    };
    for _ in 0..50 {
        let sequence = keep(&log, "k", LONG).await;
        log.done(&[sequence]);
    }
    assert_eq!(segments(dir.path())[0], "00000000000000000001.log");
    log.done(&held);
    let last = keep(&log, "k", LONG).await;
    log.close().await.unwrap();
    assert!(segments(dir.path()).len() <= 2);
    assert_eq!(found(&dir).writes, [write(last, "k", LONG)]);
}

#[tokio::test]
async fn a_segment_is_gone_for_good_before_the_next_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let (log, _) = open_on(small(&dir), &faulty).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(keep(&log, "held", LONG).await);
    }
    log.done(&held);
    keep(&log, "k", LONG).await;
    log.close().await.unwrap();
    let names: Vec<Op> =
        faulty.ops().into_iter().filter(|op| matches!(op, Op::Remove | Op::SyncFolder)).collect();
    assert!(names.iter().filter(|op| **op == Op::Remove).count() >= 4);
    assert!(!names.windows(2).any(|pair| pair == [Op::Remove, Op::Remove]), "{names:?}");
    assert_eq!(names.last(), Some(&Op::SyncFolder));
}

#[tokio::test]
async fn a_loss_of_power_takes_no_old_write_together_with_the_unsynced_one_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = Faulty::default();
    let lazy = small(&dir).segment_bytes(300).fsync(Fsync::Every(Duration::from_secs(3600)));
    let (log, _) = open_on(lazy, &faulty).await.unwrap();
    // Long enough for a segment: it is synced, and the next one begins.
    let long = LONG.repeat(3);
    let old = keep(&log, "k", &long).await;
    keep(&log, "k", "new").await;
    log.done(&[old]);
    // Once the second is in the file, what the first has let go is swept.
    keep(&log, "l", "x").await;
    keep(&log, "l", "y").await;
    let image = tempfile::tempdir().unwrap();
    faulty.lose_power(image.path(), false, 0);
    let (_log, recovered) = open(FileJournal::at(image.path())).await.unwrap();
    assert!(values(&recovered).iter().any(|value| value == "new" || *value == long), "{recovered:?}");
}

#[tokio::test]
async fn a_poison_write_does_not_pin_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_quick(small(&dir), dir.path()).await.unwrap();
    let poison = keep(&log, "poison", "x").await;
    log.dead(&[poison], 7, "refused");
    let waits = keep(&log, "k", "waits").await;
    log.cut(waits).await.unwrap();
    for n in 0..300 {
        let sequence = keep(&log, "k", LONG).await;
        log.done(&[sequence]);
        if n % 50 == 0 {
            let recovered = found(&dir);
            assert_eq!(recovered.dead.len(), 1);
            assert_eq!((recovered.dead[0].write.sequence, recovered.dead[0].attempts), (poison, 7));
            assert_eq!(recovered.dead[0].reason, "refused");
            assert_eq!(recovered.writes[0], write(waits, "k", "waits"));
            assert_eq!(recovered.cuts, [waits]);
            assert!(segments(dir.path()).len() <= 4, "{:?}", segments(dir.path()));
        }
    }
    log.close().await.unwrap();
    assert!(segments(dir.path())[0].as_str() > "00000000000000000020.log");
}

#[tokio::test]
async fn a_full_folder_is_an_error_that_says_so_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_quick(small(&dir), dir.path()).await.unwrap();
    let mut kept = Vec::new();
    let error = loop {
        let sequence = put(&log, "k", LONG);
        match log.durable(sequence).await {
            Ok(()) => kept.push(sequence),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("journal full: 20000 bytes"), "{error}");
    assert!(kept.len() > 180, "{}", kept.len());
    let bytes: u64 =
        segments(dir.path()).iter().map(|name| dir.path().join(name).metadata().unwrap().len()).sum();
    assert!(bytes <= 20_100, "{bytes}");
    let half = kept.len() / 2;
    log.done(&kept[..half]);
    let after = loop {
        let sequence = put(&log, "k", "after");
        if log.durable(sequence).await.is_ok() {
            break sequence;
        }
    };
    log.close().await.unwrap();
    let sequences: Vec<u64> = found(&dir).writes.iter().map(|write| write.sequence).collect();
    assert_eq!(sequences, [&kept[half..], &[after]].concat());
}

#[tokio::test]
async fn a_full_folder_gives_back_what_lies_behind_many_writes_that_are_owed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_quick(small(&dir), dir.path()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..30 {
        held.push(keep(&log, "held", LONG).await);
    }
    for _ in 0..1000 {
        let sequence = put(&log, "k", LONG);
        log.durable(sequence).await.expect("there is always room for one more");
        log.done(&[sequence]);
    }
    log.close().await.unwrap();
    let sequences: Vec<u64> = found(&dir).writes.iter().map(|write| write.sequence).collect();
    assert_eq!(sequences, held);
}

#[tokio::test]
async fn what_cannot_be_moved_or_removed_stays_and_is_tried_again() {
    for op in [Op::Remove, Op::Read, Op::SyncFolder] {
        let dir = tempfile::tempdir().unwrap();
        let faulty = Faulty::default();
        let (log, _) = open_on(small(&dir), &faulty).await.unwrap();
        let held = keep(&log, "held", "x").await;
        faulty.fail_always(op, BROKEN);
        for _ in 0..40 {
            let sequence = put(&log, "k", LONG);
            let _ = log.durable(sequence).await;
            log.done(&[sequence]);
        }
        assert_eq!(found(&dir).writes[0], write(held, "held", "x"), "{op:?}");
        faulty.heal();
        for _ in 0..150 {
            let sequence = keep(&log, "k", LONG).await;
            log.done(&[sequence]);
        }
        log.close().await.unwrap();
        assert!(segments(dir.path()).len() <= 4, "{op:?}: {:?}", segments(dir.path()));
        assert_eq!(found(&dir).writes, [write(held, "held", "x")], "{op:?}");
    }
}

#[tokio::test]
async fn a_write_longer_than_a_segment_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_quick(small(&dir), dir.path()).await.unwrap();
    let long = LONG.repeat(30);
    let one = keep(&log, "k", &long).await;
    let two = keep(&log, "k", "short").await;
    log.close().await.unwrap();
    assert_eq!(found(&dir).writes, [write(one, "k", &long), write(two, "k", "short")]);
}

#[tokio::test]
async fn many_openings_leave_few_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_quick(small(&dir), dir.path()).await.unwrap();
    let held = keep(&log, "held", "x").await;
    log.close().await.unwrap();
    for _ in 0..20 {
        let (log, recovered) = open_quick(small(&dir), dir.path()).await.unwrap();
        assert_eq!(recovered.writes, [write(held, "held", "x")]);
        log.close().await.unwrap();
    }
    assert!(segments(dir.path()).len() <= 3, "{:?}", segments(dir.path()));
}
