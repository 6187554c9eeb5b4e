//! How long a value lives.

use std::time::Duration;

use cachalot_core::{LeaseReply, PutReply};

use super::super::{BackendSubject, LONG, MS};

pub async fn a_value_lives_for_its_ttl(it: &BackendSubject) {
    let key = it.key("k");
    it.store_for(&key, "v", it.short()).await;
    it.pass_checking(it.short(), || async {
        assert_eq!(it.text(&key).await.as_deref(), Some("v"));
        assert!(matches!(it.ask(&key, LONG, None).await.0, LeaseReply::Hit(_)));
    })
    .await;
    assert_eq!(it.get(&key).await, None);
}

pub async fn a_value_past_its_ttl_gives_a_lease_without_stale(it: &BackendSubject) {
    let key = it.key("k");
    it.store_for(&key, "v", it.short()).await;
    it.pass(it.short()).await;
    let (_, stale) = it.lease_for(&key, LONG, None).await;
    assert_eq!(stale, None);
}

pub async fn a_ttl_beyond_all_bounds_is_cut(it: &BackendSubject) {
    // 24.8 days is 2^31 ms; beyond the last one no server counts.
    let days = Duration::from_secs(24 * 3600);
    for (n, ttl) in
        [25 * days, 40_000 * days, Duration::from_millis(u64::MAX), Duration::MAX].iter().enumerate()
    {
        let key = it.key(&n.to_string());
        it.store_for(&key, "v", *ttl).await;
        it.pass(it.short()).await;
        assert_eq!(it.text(&key).await.as_deref(), Some("v"), "{ttl:?}");
    }
}

pub async fn a_put_for_no_time_stores_nothing_and_gives_the_right_back(it: &BackendSubject) {
    let key = it.key("k");
    for ttl in [Duration::ZERO, Duration::from_micros(999)] {
        let token = it.lease(&key).await;
        assert_eq!(it.put_leased(&key, token, it.put("v", ttl)).await, PutReply::Lost, "{ttl:?}");
        assert_eq!(it.get(&key).await, None);
        assert!(it.is_free(&key).await);
    }
    let token = it.lease(&key).await;
    assert_eq!(it.put_leased(&key, it.token(), it.put("v", Duration::ZERO)).await, PutReply::Lost);
    assert!(!it.is_free(&key).await, "the right is another's");
    assert_eq!(it.put_leased(&key, token, it.put("v", LONG)).await, PutReply::Stored);
}

pub async fn touch_prolongs_a_life(it: &BackendSubject) {
    let (key, endless) = (it.key("k"), it.key("endless"));
    // In real time the first life is long enough for the touch to come in time.
    let first = if it.is_exact() { it.short() } else { 10 * it.short() };
    for (key, ttl) in [(&key, LONG), (&endless, Duration::MAX)] {
        let nonce = it.store_for(key, "v", first).await;
        assert!(it.backend.touch(key, nonce, ttl).await.unwrap());
    }
    it.pass(first).await;
    assert_eq!(it.text(&key).await.as_deref(), Some("v"));
    assert_eq!(it.text(&endless).await.as_deref(), Some("v"));
}

pub async fn touch_never_shortens_a_life(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    for ttl in [Duration::ZERO, MS, it.short()] {
        assert!(!it.backend.touch(&key, nonce, ttl).await.unwrap(), "{ttl:?}");
    }
    it.pass(it.short()).await;
    assert_eq!(it.text(&key).await.as_deref(), Some("v"));
}

pub async fn touch_goes_by_the_nonce(it: &BackendSubject) {
    let key = it.key("k");
    let old = it.store(&key, "old").await;
    let (token, _) = it.lease_for(&key, LONG / 2, Some(old)).await;
    assert_eq!(it.put_leased(&key, token, it.put("new", it.short())).await, PutReply::Stored);
    assert!(!it.backend.touch(&key, old, LONG).await.unwrap(), "that one is gone");
    it.pass(it.short()).await;
    assert_eq!(it.get(&key).await, None);
}

pub async fn touch_does_not_prolong_an_invalidated_value(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store(&key, "v").await;
    it.backend.expire(&key, it.short()).await.unwrap();
    assert!(!it.backend.touch(&key, nonce, LONG).await.unwrap());
    it.pass(it.short()).await;
    assert_eq!(it.get(&key).await, None);
}

pub async fn touch_does_not_prolong_a_lease(it: &BackendSubject) {
    let (cold, warm) = (it.key("cold"), it.key("warm"));
    let nonce = it.store_for(&warm, "v", LONG / 2).await;
    it.lease_for(&cold, it.short(), None).await;
    it.lease_for(&warm, it.short(), Some(nonce)).await;
    assert!(!it.backend.touch(&cold, nonce, LONG).await.unwrap());
    assert!(it.backend.touch(&warm, nonce, LONG).await.unwrap());
    it.pass(it.short()).await;
    it.lease_for(&cold, LONG, None).await;
    it.lease_for(&warm, LONG / 2, Some(nonce)).await;
}

pub async fn touch_does_not_make_a_record_younger(it: &BackendSubject) {
    let key = it.key("k");
    let nonce = it.store_for(&key, "v", LONG / 2).await;
    it.pass(it.short()).await;
    assert!(it.backend.touch(&key, nonce, LONG).await.unwrap());
    let age = it.get(&key).await.expect("a record").age;
    assert!(age >= it.short() * 3 / 4, "{age:?}");
}
