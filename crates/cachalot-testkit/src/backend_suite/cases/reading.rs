//! Reading by key and by many keys.

use std::time::Duration;

use cachalot_core::{Expired, Nonce, PutReply, Removed};

use super::super::{BackendSubject, LONG};

pub async fn it_says_whether_it_has_leases(it: &BackendSubject) {
    let info = it.backend.info();
    assert_eq!(info.leases, it.backend.leases().is_some());
    assert!(!info.name.is_empty(), "it has a name for errors and metrics");
}

pub async fn nothing_is_found_at_first(it: &BackendSubject) {
    let key = it.key("k");
    assert_eq!(it.get(&key).await, None);
    assert_eq!(it.backend.remove(&key).await.unwrap(), Removed::Nothing);
    assert_eq!(it.backend.expire(&key, LONG).await.unwrap(), Expired::Nothing);
    let touched = it.backend.touch(&key, Nonce::from_bytes([7; 16]), LONG).await;
    assert!(!touched.unwrap());
    let keys = [key.clone(), it.key("l")];
    let found = it.backend.get_many(&keys).await;
    assert!(found.len() == 2 && found.into_iter().all(|record| record.unwrap().is_none()));
    let removed = it.backend.remove_many(&keys).await;
    assert!(removed.len() == 2 && removed.into_iter().all(|removed| removed.unwrap() == Removed::Nothing));
}

pub async fn no_keys_get_no_answers(it: &BackendSubject) {
    assert!(it.backend.get_many(&[]).await.is_empty());
    assert!(it.backend.remove_many(&[]).await.is_empty());
}

pub async fn what_was_put_is_found_with_its_nonce(it: &BackendSubject) {
    let key = it.key("k");
    let (token, put) = (it.lease(&key).await, it.put("v", LONG));
    assert_eq!(it.put_leased(&key, token, put.clone()).await, PutReply::Stored);
    for _ in 0..2 {
        let record = it.get(&key).await.expect("a record");
        assert_eq!((record.payload, record.nonce), (put.payload.clone(), put.nonce));
        assert!(!record.invalidated);
        assert!(record.age < LONG);
    }
}

pub async fn a_lease_alone_is_no_value(it: &BackendSubject) {
    let (leased, held) = (it.key("leased"), it.key("held"));
    it.lease(&leased).await;
    it.hold(&held).await;
    assert_eq!(it.get(&leased).await, None);
    assert_eq!(it.get(&held).await, None);
    assert_eq!(texts(it, &["leased", "held"]).await, [None, None]);
}

pub async fn many_keys_are_answered_in_their_order(it: &BackendSubject) {
    for name in ["a", "b", "c"] {
        it.store(&it.key(name), name).await;
    }
    let found = texts(it, &["c", "none", "a", "b", "neither"]).await;
    assert_eq!(found, [Some("c".into()), None, Some("a".into()), Some("b".into()), None]);
    let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    for name in names.iter().step_by(3) {
        it.store(&it.key(name), name).await;
    }
    let names: Vec<&str> = names.iter().rev().map(String::as_str).collect();
    let found = texts(it, &names).await;
    assert_eq!(found.len(), names.len());
    for (name, found) in names.into_iter().zip(found) {
        let is_stored = name.parse::<u32>().unwrap() % 3 == 0;
        assert_eq!(found, is_stored.then(|| name.to_owned()));
    }
}

pub async fn a_repeated_key_is_answered_each_time(it: &BackendSubject) {
    it.store(&it.key("a"), "a").await;
    let found = texts(it, &["a", "none", "a", "none", "a"]).await;
    let a = || Some("a".to_owned());
    assert_eq!(found, [a(), None, a(), None, a()]);
}

pub async fn many_keys_are_read_as_one_by_one(it: &BackendSubject) {
    let names = ["fresh", "expired", "leased", "none"];
    it.store(&it.key("fresh"), "fresh").await;
    it.store(&it.key("expired"), "expired").await;
    it.backend.expire(&it.key("expired"), LONG).await.unwrap();
    it.lease(&it.key("leased")).await;
    let found = it.backend.get_many(&names.map(|name| it.key(name))).await;
    for (name, found) in names.into_iter().zip(found) {
        let (found, single) = (found.unwrap(), it.get(&it.key(name)).await);
        let parts = |record: cachalot_core::Record| (record.payload, record.nonce, record.invalidated);
        assert_eq!(found.map(parts), single.map(parts), "{name}");
    }
}

pub async fn a_record_grows_older(it: &BackendSubject) {
    let key = it.key("k");
    it.store(&key, "v").await;
    it.pass(it.short()).await;
    expect_age(it, it.get(&key).await.expect("a record").age, it.short());
    let many = it.backend.get_many(std::slice::from_ref(&key)).await.remove(0).unwrap();
    expect_age(it, many.expect("a record").age, it.short());
}

pub async fn the_age_is_that_of_the_newest_put(it: &BackendSubject) {
    let key = it.key("k");
    let old = it.store(&key, "old").await;
    it.pass(it.short()).await;
    it.pass(it.short()).await;
    let (token, stale) = it.lease_for(&key, LONG, Some(old)).await;
    let old_age = stale.expect("the refused value").age;
    expect_age(it, old_age, 2 * it.short());
    it.put_leased(&key, token, it.put("new", LONG)).await;
    let new_age = it.get(&key).await.expect("a record").age;
    assert!(new_age < old_age, "{new_age:?}, the old one's was {old_age:?}");
}

/// In real time an age is at least what has passed, but for the rounding of clocks.
fn expect_age(it: &BackendSubject, age: Duration, passed: Duration) {
    if it.is_exact() {
        assert_eq!(age, passed);
    } else {
        assert!(passed * 3 / 4 <= age && age < LONG, "{age:?} after {passed:?}");
    }
}

async fn texts(it: &BackendSubject, names: &[&str]) -> Vec<Option<String>> {
    let keys: Vec<_> = names.iter().map(|name| it.key(name)).collect();
    let records = it.backend.get_many(&keys).await;
    let text = |record: cachalot_core::Record| String::from_utf8_lossy(&record.payload).into_owned();
    records.into_iter().map(|record| record.expect("get_many").map(text)).collect()
}
