//! Removing and expiring: what goes, and which rights go with it.

use std::time::Duration;

use cachalot_core::{Expired, Holder, LeaseReply, PutReply, Removed};

use super::super::{BackendSubject, LONG};

pub async fn remove_drops_the_value(it: &BackendSubject) {
    let key = it.key("k");
    it.store(&key, "v").await;
    assert_eq!(it.backend.remove(&key).await.unwrap(), Removed::Existing);
    assert_eq!(it.get(&key).await, None);
    assert_eq!(it.backend.remove(&key).await.unwrap(), Removed::Nothing);
    assert!(it.is_free(&key).await);
}

pub async fn remove_revokes_a_lease_where_nothing_is_stored(it: &BackendSubject) {
    let key = it.key("k");
    let token = it.lease(&key).await;
    assert_eq!(it.backend.remove(&key).await.unwrap(), Removed::Existing);
    assert!(!it.release(&key, token).await, "it is revoked");
    assert!(it.is_free(&key).await);
}

pub async fn remove_revokes_a_lease_beside_a_value(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    let (token, _) = it.lease_for(&key, LONG / 2, Some(nonce)).await;
    assert_eq!(it.backend.remove(&key).await.unwrap(), Removed::Existing);
    assert_eq!(it.put_leased(&key, token, it.put("old", LONG)).await, PutReply::Absent);
    assert_eq!(it.get(&key).await, None);
}

pub async fn remove_poisons_a_hold_until_its_deadline(it: &BackendSubject) {
    let key = it.key("k");
    let token = it.hold(&key).await;
    assert_eq!(it.backend.remove(&key).await.unwrap(), Removed::Held);
    expect_blocked(it, "k").await;
    assert_eq!(it.backend.remove(&key).await.unwrap(), Removed::Held, "a poisoned one is a hold");
    assert_eq!(it.put_held(&key, token, it.put("v", LONG)).await, PutReply::Lost);
    expect_blocked(it, "k").await;
    let (_, short) = (it.hold_for(&it.key("short"), it.short()).await, it.key("short"));
    it.backend.remove(&short).await.unwrap();
    it.pass(it.short()).await;
    assert!(it.is_free(&short).await);
}

pub async fn removing_an_ended_hold_finds_no_hold(it: &BackendSubject) {
    let key = it.key("k");
    it.hold_for(&key, it.short()).await;
    it.pass(it.short()).await;
    assert_ne!(it.backend.remove(&key).await.unwrap(), Removed::Held);
    assert!(it.is_free(&key).await);
}

pub async fn many_removals_are_answered_in_their_order(it: &BackendSubject) {
    it.store(&it.key("value"), "v").await;
    it.lease(&it.key("leased")).await;
    it.hold(&it.key("held")).await;
    let keys = ["none", "held", "value", "neither", "leased"].map(|name| it.key(name));
    let removed = it.backend.remove_many(&keys).await;
    let removed: Vec<Removed> = removed.into_iter().map(|removed| removed.expect("remove_many")).collect();
    use Removed::{Existing, Held, Nothing};
    assert_eq!(removed, [Nothing, Held, Existing, Nothing, Existing]);
}

pub async fn many_removals_remove_and_revoke_each(it: &BackendSubject) {
    let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let keys: Vec<_> = names.iter().map(|name| it.key(name)).collect();
    let mut tokens = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        match n % 3 {
            0 => drop(it.store(key, "v").await),
            1 => tokens.push((key, it.lease(key).await, false)),
            _ => tokens.push((key, it.hold(key).await, true)),
        }
    }
    assert_eq!(it.backend.remove_many(&keys).await.len(), keys.len());
    for (key, token, is_hold) in tokens {
        let put = it.put("old", LONG);
        let reply =
            if is_hold { it.put_held(key, token, put).await } else { it.put_leased(key, token, put).await };
        assert_ne!(reply, PutReply::Stored, "{key:?}");
    }
    for found in it.backend.get_many(&keys).await {
        assert_eq!(found.unwrap(), None);
    }
}

pub async fn a_repeated_removal_is_answered_each_time(it: &BackendSubject) {
    let key = it.key("k");
    it.store(&key, "v").await;
    let removed = it.backend.remove_many(&[key.clone(), it.key("none"), key.clone()]).await;
    let removed: Vec<Removed> = removed.into_iter().map(|removed| removed.expect("remove_many")).collect();
    assert_eq!(removed.len(), 3);
    assert!(removed.contains(&Removed::Existing), "{removed:?}");
    assert_eq!(it.get(&key).await, None);
}

pub async fn expire_marks_the_value(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    assert_eq!(it.backend.expire(&key, LONG).await.unwrap(), Expired::Marked);
    let record = it.get(&key).await.expect("the value is kept");
    assert_eq!((&record.payload[..], record.nonce, record.invalidated), (&b"v"[..], nonce, true));
    assert_eq!(it.backend.expire(&key, LONG).await.unwrap(), Expired::Marked, "again");
}

pub async fn an_invalidated_value_is_no_hit(it: &BackendSubject) {
    let key = it.key("k");
    it.store(&key, "v").await;
    it.backend.expire(&key, LONG).await.unwrap();
    assert!(it.is_free(&key).await);
}

pub async fn expire_revokes_a_lease_beside_the_value(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    let (token, _) = it.lease_for(&key, LONG / 4, Some(nonce)).await;
    assert_eq!(it.backend.expire(&key, LONG).await.unwrap(), Expired::Marked);
    assert_eq!(it.put_leased(&key, token, it.put("old", LONG)).await, PutReply::Lost);
    assert_eq!(it.text(&key).await.as_deref(), Some("v"));
}

pub async fn expire_revokes_a_lease_where_nothing_is_stored(it: &BackendSubject) {
    let key = it.key("k");
    let token = it.lease(&key).await;
    assert_eq!(it.backend.expire(&key, LONG).await.unwrap(), Expired::Nothing);
    assert_eq!(it.put_leased(&key, token, it.put("old", LONG)).await, PutReply::Absent);
    assert_eq!(it.get(&key).await, None);
    assert!(it.is_free(&key).await);
}

pub async fn expire_keeps_the_value_for_at_most_keep(it: &BackendSubject) {
    let key = it.key("k");
    it.store(&key, "v").await;
    it.backend.expire(&key, it.short()).await.unwrap();
    it.pass_checking(it.short(), || async {
        assert!(it.get(&key).await.expect("the value is kept").invalidated);
    })
    .await;
    assert_eq!(it.get(&key).await, None);
}

pub async fn expire_never_prolongs_a_life(it: &BackendSubject) {
    let (once, twice) = (it.key("once"), it.key("twice"));
    it.store_for(&once, "v", it.short()).await;
    it.store(&twice, "v").await;
    it.backend.expire(&once, Duration::MAX).await.unwrap();
    it.backend.expire(&twice, it.short()).await.unwrap();
    it.backend.expire(&twice, LONG).await.unwrap();
    it.pass(it.short()).await;
    assert_eq!(it.get(&once).await, None);
    assert_eq!(it.get(&twice).await, None);
}

pub async fn expire_for_no_time_drops_the_value(it: &BackendSubject) {
    let key = it.key("k");
    for keep in [Duration::ZERO, Duration::from_micros(999)] {
        it.store(&key, "v").await;
        it.backend.expire(&key, keep).await.unwrap();
        it.pass(Duration::from_millis(1)).await;
        assert_eq!(it.get(&key).await, None, "{keep:?}");
    }
}

pub async fn expire_poisons_a_hold_until_its_deadline(it: &BackendSubject) {
    let key = it.key("k");
    let token = it.hold(&key).await;
    assert_eq!(it.backend.expire(&key, LONG).await.unwrap(), Expired::Held);
    expect_blocked(it, "k").await;
    assert_eq!(it.put_held(&key, token, it.put("v", LONG)).await, PutReply::Lost);
    expect_blocked(it, "k").await;
}

/// Readers wait for a writer, and there is nothing to read.
async fn expect_blocked(it: &BackendSubject, name: &str) {
    let key = it.key(name);
    assert_eq!(it.get(&key).await, None);
    let reply = it.ask(&key, LONG, None).await.0;
    assert!(matches!(reply, LeaseReply::Busy { holder: Holder::Writer, .. }), "{reply:?}");
}
