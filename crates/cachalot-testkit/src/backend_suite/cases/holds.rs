//! A writer's hold: what it blocks, what it stores, how two of them end.

use std::time::Duration;

use cachalot_core::{Held, Holder, Key, LeaseReply, PutReply};

use super::super::{BackendSubject, LONG};

pub async fn a_hold_drops_the_value(it: &BackendSubject) {
    let key = it.key("k");
    it.store(&key, "old").await;
    it.hold(&key).await;
    assert_eq!(it.get(&key).await, None);
}

pub async fn a_hold_revokes_a_readers_lease(it: &BackendSubject) {
    let key = it.key("k");
    let reader = it.lease(&key).await;
    let writer = it.hold(&key).await;
    assert_eq!(it.put_leased(&key, reader, it.put("old", LONG)).await, PutReply::Lost);
    assert!(!it.release(&key, reader).await);
    assert_eq!(it.put_held(&key, writer, it.put("new", LONG)).await, PutReply::Stored);
    assert_eq!(it.put_leased(&key, reader, it.put("old", LONG)).await, PutReply::Lost);
    assert_eq!(it.text(&key).await.as_deref(), Some("new"));
}

pub async fn a_hold_keeps_readers_from_getting_a_lease(it: &BackendSubject) {
    let key = it.key("k");
    it.hold(&key).await;
    match it.ask(&key, LONG, None).await.0 {
        LeaseReply::Busy { remaining, holder, stale } => {
            assert_eq!((holder, stale), (Holder::Writer, None));
            assert!(LONG / 2 < remaining && remaining <= LONG, "{remaining:?}");
            assert!(!it.is_exact() || remaining == LONG);
        }
        other => panic!("a writer holds: {other:?}"),
    }
}

pub async fn a_hold_ends_at_its_deadline(it: &BackendSubject) {
    let key = it.key("k");
    it.hold_for(&key, it.short()).await;
    it.pass_checking(it.short(), || async { assert!(is_held(it, &key).await) }).await;
    assert!(it.is_free(&key).await);
}

pub async fn a_held_put_stores_and_ends_the_hold(it: &BackendSubject) {
    let key = it.key("k");
    let (token, put) = (it.hold(&key).await, it.put("v", LONG));
    assert_eq!(it.put_held(&key, token, put.clone()).await, PutReply::Stored);
    match it.ask(&key, LONG, None).await.0 {
        LeaseReply::Hit(record) => assert_eq!((record.payload, record.nonce), (put.payload, put.nonce)),
        other => panic!("a hit was due: {other:?}"),
    }
    it.lease_for(&key, LONG / 2, Some(put.nonce)).await;
}

pub async fn a_held_put_lives_for_its_ttl(it: &BackendSubject) {
    let key = it.key("k");
    let token = it.hold(&key).await;
    assert_eq!(it.put_held(&key, token, it.put("v", it.short())).await, PutReply::Stored);
    it.pass_checking(it.short(), || async { assert!(it.get(&key).await.is_some()) }).await;
    assert_eq!(it.get(&key).await, None);
}

pub async fn a_held_put_for_no_time_ends_the_hold(it: &BackendSubject) {
    let key = it.key("k");
    let token = it.hold(&key).await;
    assert_eq!(it.put_held(&key, token, it.put("v", Duration::ZERO)).await, PutReply::Lost);
    assert_eq!(it.get(&key).await, None);
    assert!(it.is_free(&key).await);
}

pub async fn a_held_put_without_a_hold_is_refused_and_drops_the_record(it: &BackendSubject) {
    let (absent, stored, leased) = (it.key("absent"), it.key("stored"), it.key("leased"));
    it.store(&stored, "v").await;
    let reader = it.lease(&leased).await;
    for key in [&absent, &stored, &leased] {
        assert_ne!(it.put_held(key, it.token(), it.put("late", LONG)).await, PutReply::Stored);
        assert_eq!(it.get(key).await, None, "{key:?}");
    }
    assert_eq!(it.put_leased(&leased, reader, it.put("old", LONG)).await, PutReply::Absent);
    assert!(it.is_free(&leased).await);
}

pub async fn a_lease_is_no_hold(it: &BackendSubject) {
    let key = it.key("k");
    let reader = it.lease(&key).await;
    assert_ne!(it.put_held(&key, reader, it.put("v", LONG)).await, PutReply::Stored);
    assert_eq!(it.get(&key).await, None);
}

pub async fn a_hold_is_no_lease(it: &BackendSubject) {
    let key = it.key("k");
    let writer = it.hold(&key).await;
    assert_eq!(it.put_leased(&key, writer, it.put("v", LONG)).await, PutReply::Lost);
    assert!(!it.release(&key, writer).await);
    assert!(is_held(it, &key).await);
    assert_eq!(it.put_held(&key, writer, it.put("v", LONG)).await, PutReply::Stored);
}

pub async fn a_held_put_after_the_deadline_is_refused(it: &BackendSubject) {
    let key = it.key("k");
    let (_, token) = it.hold_for(&key, it.short()).await;
    it.pass(it.short()).await;
    assert_ne!(it.put_held(&key, token, it.put("late", LONG)).await, PutReply::Stored);
    assert_eq!(it.get(&key).await, None);
    assert!(it.is_free(&key).await);
}

pub async fn a_held_put_after_the_deadline_drops_what_a_reader_stored(it: &BackendSubject) {
    let (stored, leased) = (it.key("stored"), it.key("leased"));
    let (_, first) = it.hold_for(&stored, it.short()).await;
    let (_, second) = it.hold_for(&leased, it.short()).await;
    it.pass(it.short()).await;
    // The reader may have read the source before the writer changed it.
    it.store(&stored, "perhaps old").await;
    let reader = it.lease(&leased).await;
    assert_eq!(it.put_held(&stored, first, it.put("late", LONG)).await, PutReply::Lost);
    assert_eq!(it.put_held(&leased, second, it.put("late", LONG)).await, PutReply::Lost);
    assert_eq!(it.get(&stored).await, None);
    assert_eq!(it.put_leased(&leased, reader, it.put("perhaps old", LONG)).await, PutReply::Absent);
}

/// The writer that comes late may have changed the source under the other's hold.
pub async fn a_foreign_held_put_is_refused_and_poisons_the_hold(it: &BackendSubject) {
    let key = it.key("k");
    let (_, late) = it.hold_for(&key, it.short()).await;
    it.pass(it.short()).await;
    let live = it.hold(&key).await;
    assert_eq!(it.put_held(&key, late, it.put("late", LONG)).await, PutReply::Lost);
    assert!(is_held(it, &key).await, "the hold stays");
    assert_eq!(it.put_held(&key, live, it.put("live", LONG)).await, PutReply::Lost);
    assert_eq!(it.get(&key).await, None);
}

pub async fn two_live_holds_poison_each_other(it: &BackendSubject) {
    let key = it.key("k");
    let first = it.hold(&key).await;
    let (held, second) = it.hold_for(&key, LONG).await;
    assert_eq!(held, Held::Overlap);
    for token in [first, second] {
        assert_eq!(it.put_held(&key, token, it.put("v", LONG)).await, PutReply::Lost);
        assert!(is_held(it, &key).await, "it stays");
        assert_eq!(it.get(&key).await, None);
    }
    assert_eq!(it.hold_for(&key, LONG).await.0, Held::Overlap, "a third");
}

pub async fn a_poisoned_hold_stays_until_the_later_deadline(it: &BackendSubject) {
    let (rising, falling, ending) = (it.key("rising"), it.key("falling"), it.key("ending"));
    let (short, twice) = (it.short(), 2 * it.short());
    for (key, first, second) in [(&rising, short, LONG), (&falling, LONG, short), (&ending, short, twice)] {
        it.hold_for(key, first).await;
        it.hold_for(key, second).await;
    }
    it.pass(short).await;
    assert!(is_held(it, &rising).await);
    assert!(is_held(it, &falling).await);
    it.pass(short).await;
    assert!(it.is_free(&ending).await);
    let token = it.hold(&ending).await;
    assert_eq!(it.put_held(&ending, token, it.put("v", LONG)).await, PutReply::Stored);
}

pub async fn a_hold_after_anothers_deadline_is_granted(it: &BackendSubject) {
    let key = it.key("k");
    it.hold_for(&key, it.short()).await;
    it.pass(it.short()).await;
    let token = it.hold(&key).await;
    assert_eq!(it.put_held(&key, token, it.put("v", LONG)).await, PutReply::Stored);
}

async fn is_held(it: &BackendSubject, key: &Key) -> bool {
    let reply = it.ask(key, LONG, None).await.0;
    matches!(reply, LeaseReply::Busy { holder: Holder::Writer, .. })
}
