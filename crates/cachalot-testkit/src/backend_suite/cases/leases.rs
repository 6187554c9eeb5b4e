//! A reader's lease: who gets it, who may store by it, how it ends.

use cachalot_core::{Holder, LeaseReply, PutReply, Removed};
use futures_util::future::join_all;

use super::super::{BackendSubject, LONG};

pub async fn the_first_caller_gets_the_lease(it: &BackendSubject) {
    let (_, stale) = it.lease_for(&it.key("k"), LONG, None).await;
    assert_eq!(stale, None);
}

pub async fn a_usable_value_is_a_hit(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    match it.ask(&key, LONG, None).await.0 {
        LeaseReply::Hit(record) => {
            assert_eq!((&record.payload[..], record.nonce), (&b"v"[..], nonce));
            assert!(!record.invalidated);
        }
        other => panic!("a hit was due: {other:?}"),
    }
}

pub async fn the_second_caller_is_busy(it: &BackendSubject) {
    let key = it.key("k");
    it.lease(&key).await;
    match it.ask(&key, LONG, None).await.0 {
        LeaseReply::Busy { remaining, holder, stale } => {
            assert_eq!((holder, stale), (Holder::Reader, None));
            assert!(LONG / 2 < remaining && remaining <= LONG, "{remaining:?}");
            assert!(!it.is_exact() || remaining == LONG);
        }
        other => panic!("the lease is taken: {other:?}"),
    }
}

pub async fn one_of_a_thousand_callers_gets_the_lease(it: &BackendSubject) {
    let key = it.key("k");
    let replies = join_all((0..1000).map(|_| it.ask(&key, LONG, None))).await;
    let leases = replies.iter().filter(|(reply, _)| matches!(reply, LeaseReply::Lease { .. })).count();
    let busy = replies.iter().filter(|(reply, _)| matches!(reply, LeaseReply::Busy { .. })).count();
    assert_eq!((leases, busy), (1, 999));
}

pub async fn a_refused_value_gives_a_lease_and_is_handed_out_as_stale(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    let (_, stale) = it.lease_for(&key, LONG / 2, Some(nonce)).await;
    let stale = stale.expect("the refused value");
    assert_eq!((&stale.payload[..], stale.nonce, stale.invalidated), (&b"v"[..], nonce, false));
}

pub async fn refusing_another_value_is_a_hit(it: &BackendSubject) {
    let key = it.key("k");
    let old = it.store(&key, "old").await;
    let (token, _) = it.lease_for(&key, LONG / 2, Some(old)).await;
    it.put_leased(&key, token, it.put("new", LONG)).await;
    match it.ask(&key, LONG, Some(old)).await.0 {
        LeaseReply::Hit(record) => assert_eq!(&record.payload[..], b"new"),
        other => panic!("somebody has refreshed meanwhile: {other:?}"),
    }
}

pub async fn who_does_not_refuse_hits_while_another_reloads(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    it.lease_for(&key, LONG / 2, Some(nonce)).await;
    let reply = it.ask(&key, LONG, None).await.0;
    assert!(matches!(reply, LeaseReply::Hit(_)), "{reply:?}");
}

pub async fn who_refuses_is_busy_with_the_stale_value_while_another_reloads(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    it.lease_for(&key, LONG / 2, Some(nonce)).await;
    match it.ask(&key, LONG, Some(nonce)).await.0 {
        LeaseReply::Busy { holder, stale, .. } => {
            assert_eq!((holder, stale.map(|stale| stale.nonce)), (Holder::Reader, Some(nonce)));
        }
        other => panic!("the lease is taken: {other:?}"),
    }
}

pub async fn an_invalidated_value_gives_a_lease_and_is_handed_out_as_stale(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    it.backend.expire(&key, LONG).await.unwrap();
    let (_, stale) = it.lease_for(&key, LONG / 4, None).await;
    let stale = stale.expect("the invalidated value");
    assert_eq!((stale.nonce, stale.invalidated), (nonce, true));
    match it.ask(&key, LONG, None).await.0 {
        LeaseReply::Busy { stale, .. } => assert!(stale.expect("the invalidated value").invalidated),
        other => panic!("the lease is taken: {other:?}"),
    }
}

pub async fn a_refused_value_stays_until_the_put(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    it.lease_for(&key, LONG / 2, Some(nonce)).await;
    assert_eq!(it.text(&key).await.as_deref(), Some("v"));
}

pub async fn a_put_replaces_the_refused_value_and_its_life(it: &BackendSubject) {
    let (key, life) = (it.key("k"), 2 * it.short());
    let old = it.store_for(&key, "old", life).await;
    let (token, _) = it.lease_for(&key, it.short(), Some(old)).await;
    assert_eq!(it.put_leased(&key, token, it.put("new", LONG)).await, PutReply::Stored);
    it.pass(life).await;
    assert_eq!(it.text(&key).await.as_deref(), Some("new"));
}

pub async fn a_put_clears_the_invalidated_mark(it: &BackendSubject) {
    let key = it.key("k");
    it.store(&key, "old").await;
    it.backend.expire(&key, LONG).await.unwrap();
    let (token, _) = it.lease_for(&key, LONG / 4, None).await;
    assert_eq!(it.put_leased(&key, token, it.put("new", LONG)).await, PutReply::Stored);
    assert!(!it.get(&key).await.expect("a record").invalidated);
    assert!(matches!(it.ask(&key, LONG, None).await.0, LeaseReply::Hit(_)));
}

pub async fn a_lease_stores_once(it: &BackendSubject) {
    let key = it.key("k");
    let token = it.lease(&key).await;
    assert_eq!(it.put_leased(&key, token, it.put("first", LONG)).await, PutReply::Stored);
    assert_eq!(it.put_leased(&key, token, it.put("second", LONG)).await, PutReply::Lost);
    assert_eq!(it.text(&key).await.as_deref(), Some("first"));
}

pub async fn a_foreign_token_does_not_store(it: &BackendSubject) {
    let key = it.key("k");
    let token = it.lease(&key).await;
    assert_eq!(it.put_leased(&key, it.token(), it.put("foreign", LONG)).await, PutReply::Lost);
    assert_eq!(it.get(&key).await, None);
    assert_eq!(it.put_leased(&key, token, it.put("own", LONG)).await, PutReply::Stored, "it stands");
}

pub async fn a_token_does_not_fit_another_key(it: &BackendSubject) {
    let (key, other) = (it.key("k"), it.key("other"));
    let token = it.lease(&key).await;
    it.lease(&other).await;
    assert_eq!(it.put_leased(&other, token, it.put("v", LONG)).await, PutReply::Lost);
    assert!(!it.release(&other, token).await);
}

pub async fn a_put_on_an_absent_record_is_refused(it: &BackendSubject) {
    let key = it.key("k");
    assert_eq!(it.put_leased(&key, it.token(), it.put("v", LONG)).await, PutReply::Absent);
    assert_eq!(it.get(&key).await, None);
}

pub async fn a_put_over_a_value_without_a_lease_is_refused(it: &BackendSubject) {
    let key = it.key("k");
    it.store(&key, "v").await;
    assert_eq!(it.put_leased(&key, it.token(), it.put("foreign", LONG)).await, PutReply::Lost);
    assert_eq!(it.text(&key).await.as_deref(), Some("v"));
}

pub async fn a_put_after_a_remove_is_refused(it: &BackendSubject) {
    let key = it.key("k");
    let token = it.lease(&key).await;
    it.backend.remove(&key).await.unwrap();
    assert_eq!(it.put_leased(&key, token, it.put("old", LONG)).await, PutReply::Absent);
    assert_eq!(it.get(&key).await, None);
    assert!(it.is_free(&key).await);
}

pub async fn a_put_after_a_remove_and_another_lease_is_refused(it: &BackendSubject) {
    let key = it.key("k");
    let old = it.lease(&key).await;
    assert_eq!(it.backend.remove(&key).await.unwrap(), Removed::Existing);
    let new = it.lease(&key).await;
    assert_eq!(it.put_leased(&key, old, it.put("old", LONG)).await, PutReply::Lost);
    assert_eq!(it.put_leased(&key, new, it.put("new", LONG)).await, PutReply::Stored);
    assert_eq!(it.put_leased(&key, old, it.put("old", LONG)).await, PutReply::Lost);
    assert_eq!(it.text(&key).await.as_deref(), Some("new"));
}

pub async fn a_lease_passes_on_at_its_deadline(it: &BackendSubject) {
    let (cold, warm) = (it.key("cold"), it.key("warm"));
    let nonce = it.store(&warm, "v").await;
    it.lease_for(&cold, it.short(), None).await;
    it.lease_for(&warm, it.short(), Some(nonce)).await;
    it.pass_checking(it.short(), || async {
        assert!(it.is_busy(&cold).await);
        let refusing = it.ask(&warm, LONG, Some(nonce)).await.0;
        assert!(matches!(refusing, LeaseReply::Busy { .. }), "{refusing:?}");
    })
    .await;
    it.lease_for(&cold, LONG, None).await;
    it.lease_for(&warm, LONG, Some(nonce)).await;
}

pub async fn an_old_token_does_not_store_after_the_lease_passed_on(it: &BackendSubject) {
    let key = it.key("k");
    let (old, _) = it.lease_for(&key, it.short(), None).await;
    it.pass(it.short()).await;
    let new = it.lease(&key).await;
    assert_eq!(it.put_leased(&key, old, it.put("old", LONG)).await, PutReply::Lost);
    assert!(!it.release(&key, old).await);
    assert_eq!(it.put_leased(&key, new, it.put("new", LONG)).await, PutReply::Stored);
    assert_eq!(it.text(&key).await.as_deref(), Some("new"));
}

pub async fn a_late_put_is_stored_if_nobody_came_meanwhile(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "old").await;
    let (token, _) = it.lease_for(&key, it.short(), Some(nonce)).await;
    it.pass(2 * it.short()).await;
    assert_eq!(it.put_leased(&key, token, it.put("new", LONG)).await, PutReply::Stored);
    assert_eq!(it.text(&key).await.as_deref(), Some("new"));
}

/// Where nothing was, a record may end with the lease's term or last longer.
pub async fn a_late_put_on_a_cold_key_is_stored_or_finds_nothing(it: &BackendSubject) {
    let key = it.key("k");
    let (token, _) = it.lease_for(&key, it.short(), None).await;
    it.pass(2 * it.short()).await;
    match it.put_leased(&key, token, it.put("v", LONG)).await {
        PutReply::Stored => assert_eq!(it.text(&key).await.as_deref(), Some("v")),
        PutReply::Absent => assert_eq!(it.get(&key).await, None),
        PutReply::Lost => panic!("nobody else has come"),
    }
}

pub async fn a_lease_outlives_the_value(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store_for(&key, "old", it.short()).await;
    let (token, _) = it.lease_for(&key, LONG, Some(nonce)).await;
    it.pass(it.short()).await;
    assert_eq!(it.get(&key).await, None);
    assert!(it.is_busy(&key).await);
    assert_eq!(it.put_leased(&key, token, it.put("new", LONG)).await, PutReply::Stored);
}

pub async fn a_lease_does_not_prolong_the_value(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store_for(&key, "v", 2 * it.short()).await;
    it.lease_for(&key, it.short(), Some(nonce)).await;
    it.pass(2 * it.short()).await;
    assert_eq!(it.get(&key).await, None);
}

pub async fn a_lease_does_not_shorten_the_value(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    it.lease_for(&key, it.short(), Some(nonce)).await;
    it.pass(2 * it.short()).await;
    assert_eq!(it.text(&key).await.as_deref(), Some("v"));
}

pub async fn a_released_lease_lets_the_next_caller_in(it: &BackendSubject) {
    let key = it.key("k");
    let token = it.lease(&key).await;
    assert!(it.release(&key, token).await);
    it.lease(&key).await;
}

pub async fn a_released_lease_keeps_the_refused_value(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    let (token, _) = it.lease_for(&key, LONG / 2, Some(nonce)).await;
    assert!(it.release(&key, token).await);
    assert_eq!(it.text(&key).await.as_deref(), Some("v"));
    it.lease_for(&key, LONG / 2, Some(nonce)).await;
}

pub async fn only_its_own_token_releases_a_lease(it: &BackendSubject) {
    let key = it.key("k");
    let token = it.lease(&key).await;
    assert!(!it.release(&key, it.token()).await);
    assert!(it.is_busy(&key).await);
    assert_eq!(it.put_leased(&key, token, it.put("v", LONG)).await, PutReply::Stored);
}

pub async fn a_released_token_does_not_store(it: &BackendSubject) {
    let (cold, warm) = (it.key("cold"), it.key("warm"));
    let nonce = it.store(&warm, "v").await;
    let (token, _) = it.lease_for(&warm, LONG / 2, Some(nonce)).await;
    it.release(&warm, token).await;
    assert_eq!(it.put_leased(&warm, token, it.put("late", LONG)).await, PutReply::Lost);
    assert!(!it.release(&warm, token).await, "it was given back");
    let token = it.lease(&cold).await;
    it.release(&cold, token).await;
    assert_eq!(it.put_leased(&cold, token, it.put("late", LONG)).await, PutReply::Absent);
}

pub async fn releasing_nothing_says_so(it: &BackendSubject) {
    let key = it.key("k");
    assert!(!it.release(&key, it.token()).await);
    it.store(&key, "v").await;
    assert!(!it.release(&key, it.token()).await);
    assert_eq!(it.text(&key).await.as_deref(), Some("v"));
}
