//! What is not ours: other bytes, other types, other prefixes.

use cachalot_core::{
    Backend, Entropy, ErrorKind, Expired, Key, LeaseBackend, LeaseReply, PutReply, Removed, TagBackend,
    TagToken,
};

use crate::support::{Fixture, TERM, TTL, is_lease, patient, put, token};

fn set(f: &Fixture, bytes: &[u8]) {
    let _: () = redis::cmd("SET").arg(f.key.as_bytes()).arg(bytes).query(&mut f.raw()).unwrap();
}

/// An empty string and no key look alike to a script that reads a range.
fn refused(foreign: &[u8]) -> PutReply {
    if foreign.is_empty() { PutReply::Absent } else { PutReply::Lost }
}

fn push(f: &Fixture) {
    let _: i64 = redis::cmd("RPUSH").arg(f.key.as_bytes()).arg("theirs").query(&mut f.raw()).unwrap();
}

fn length(f: &Fixture) -> i64 {
    redis::cmd("LLEN").arg(f.key.as_bytes()).query(&mut f.raw()).unwrap()
}

#[tokio::test]
async fn foreign_bytes_are_no_value_and_a_lease_overwrites_them() {
    let f = Fixture::start().await;
    let header_of_another_version = [b"CW\x02\x01".as_slice(), &[1; 100]].concat();
    // A value is announced, but cut off before its time.
    let cut = [b"CW\x01\x01".as_slice(), &[1; 50]].concat();
    for foreign in [b"{\"foreign\":1}".as_slice(), b"", &header_of_another_version, &cut] {
        set(&f, foreign);
        assert_eq!(f.read().await, None);
        assert_eq!(f.read_by_batch().await, None);
        assert_eq!(f.put_leased(token(), put("v1")).await, refused(foreign));
        let owner = token();
        assert_eq!(f.lease(owner).await, LeaseReply::Lease { stale: None });
        assert_eq!(f.put_leased(owner, put("v1")).await, PutReply::Stored);
        assert_eq!(&f.read().await.unwrap().payload[..], b"v1");
    }
}

#[tokio::test]
async fn foreign_bytes_are_removed() {
    let f = Fixture::start().await;
    set(&f, b"foreign");
    assert_eq!(f.backend.expire(&f.key, TTL).await.unwrap(), Expired::Nothing);
    assert_eq!(f.pttl(), -2);
    set(&f, b"foreign");
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Existing);
}

#[tokio::test]
async fn a_foreign_delete_revokes_the_lease() {
    let f = Fixture::start().await;
    let owner = token();
    f.lease(owner).await;
    let _: i64 = redis::cmd("DEL").arg(f.key.as_bytes()).query(&mut f.raw()).unwrap();
    assert_eq!(f.put_leased(owner, put("old")).await, PutReply::Absent);
}

#[tokio::test]
async fn a_key_of_another_type_loses_nothing() {
    let f = Fixture::start().await;
    push(&f);
    assert_eq!(f.read().await, None);
    assert_eq!(f.read_by_batch().await, None);
    let refused = f.backend.get_or_lease(&f.key, token(), TERM, None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    let refused = f.backend.hold(&f.key, token(), TERM).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert_eq!(f.put_leased(token(), put("v1")).await, PutReply::Lost);
    assert_eq!(f.put_held(token(), put("v1")).await, PutReply::Lost);
    assert!(!f.backend.release(&f.key, token()).await.unwrap());
    assert!(!f.backend.touch(&f.key, put("").nonce, TTL).await.unwrap());
    assert_eq!(f.backend.expire(&f.key, TTL).await.unwrap(), Expired::Nothing);
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Nothing);
    let removed = f.backend.remove_many(std::slice::from_ref(&f.key)).await.remove(0);
    assert_eq!(removed.unwrap(), Removed::Nothing);
    assert_eq!(length(&f), 1);
}

#[tokio::test]
async fn one_key_of_another_type_does_not_spoil_a_batch() {
    let f = Fixture::start().await;
    push(&f);
    let good = Key::new("good");
    let owner = token();
    assert!(is_lease(&f.backend.get_or_lease(&good, owner, TERM, None).await.unwrap()));
    f.backend.put_leased(&good, owner, put("v1")).await.unwrap();
    let found = f.backend.get_many(&[f.key.clone(), good.clone(), Key::new("absent"), good]).await;
    let found: Vec<bool> = found.into_iter().map(|record| record.unwrap().is_some()).collect();
    assert_eq!(found, [false, true, false, true]);
}

#[tokio::test]
async fn prefixes_keep_caches_apart_and_stand_before_every_key() {
    let f = Fixture::start().await;
    let shop = patient(f.server.url()).key_prefix("shop:").connect().await.unwrap();
    f.store("ours").await;
    assert_eq!(shop.get(&f.key).await.unwrap(), None);
    let owner = token();
    shop.get_or_lease(&f.key, owner, TERM, None).await.unwrap();
    shop.put_leased(&f.key, owner, put("theirs")).await.unwrap();
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut f.raw()).unwrap();
    keys.sort();
    assert_eq!(keys, ["shop:users:1", "users:1"]);
    assert_eq!(shop.remove(&f.key).await.unwrap(), Removed::Existing);
    assert_eq!(&f.read().await.unwrap().payload[..], b"ours");
}

#[tokio::test]
async fn what_lies_where_a_tags_token_should_be_fits_nothing_and_is_gone_the_next_time() {
    let f = Fixture::start().await;
    let entropy = Entropy::seeded(1);
    let (other, ttl) = (Key::new("users#other"), TTL);
    let names = [f.key.clone(), other];
    let pin = || {
        let fresh = [TagToken::draw(&entropy), TagToken::draw(&entropy)];
        let (backend, names) = (f.backend.clone(), &names);
        async move { backend.pin_tags(names, &fresh, ttl).await }
    };
    for stray in [|f: &Fixture| set(f, b"no token"), push] {
        f.backend.remove(&f.key).await.unwrap();
        stray(&f);
        assert_eq!(f.backend.tag_tokens(&names[..1]).await.unwrap(), [None]);
        pin().await.unwrap_err();
        let pinned = pin().await.unwrap();
        assert_eq!(f.backend.tag_tokens(&names).await.unwrap(), [Some(pinned[0]), Some(pinned[1])]);
    }
}
