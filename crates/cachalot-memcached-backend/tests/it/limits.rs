//! What is too large, and what barely fits.

use bytes::Bytes;
use cachalot_core::{Backend, ErrorKind, Key, LeaseBackend, LeaseReply, PutReply, Retry};

use crate::support::{Fixture, TERM, TTL, patient, put, token};

fn of_size(bytes: usize) -> cachalot_core::Put {
    cachalot_core::Put { payload: Bytes::from(vec![b'x'; bytes]), ..put("") }
}

/// An item of memcached, 1 MiB, less what we keep free.
const MOST: usize = (1 << 20) - 512;

#[tokio::test]
async fn the_largest_payload_is_stored_under_the_longest_key() {
    let f = Fixture::start().await;
    let key = Key::new(vec![b'k'; 250]);
    let owner = token();
    f.backend.get_or_lease(&key, owner, TERM, None).await.unwrap();
    assert_eq!(f.backend.put_leased(&key, owner, of_size(MOST)).await.unwrap(), PutReply::Stored);
    assert_eq!(f.backend.get(&key).await.unwrap().unwrap().payload.len(), MOST);
}

#[tokio::test]
async fn a_payload_that_is_too_large_is_refused_and_what_was_there_is_gone() {
    let f = Fixture::start().await;
    let (cold, held) = (token(), token());
    for expired in [false, true] {
        let old = f.store("old").await;
        if expired {
            f.backend.expire(&f.key, TTL).await.unwrap();
        }
        let warm = token();
        let reply = f.lease_refusing(warm, Some(old)).await;
        assert!(matches!(reply, LeaseReply::Lease { stale: Some(_) }));
        let error = f.backend.put_leased(&f.key, warm, of_size(MOST + 1)).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Config, Retry::Never));
        assert!(error.to_string().contains("1048065 bytes exceeds the limit of 1048064"), "{error}");
        assert_eq!(f.read().await, None);
    }
    f.lease(cold).await;
    f.backend.put_leased(&f.key, cold, of_size(MOST + 1)).await.unwrap_err();
    f.backend.hold(&f.key, held, TERM).await.unwrap();
    f.backend.put_held(&f.key, held, of_size(MOST + 1)).await.unwrap_err();
    let reply = f.lease(token()).await;
    assert!(matches!(reply, LeaseReply::Lease { stale: None }), "nobody is kept waiting: {reply:?}");
}

#[tokio::test]
async fn a_payload_that_is_too_large_and_not_ours_to_put_changes_nothing() {
    let f = Fixture::start().await;
    f.store("v").await;
    f.backend.put_leased(&f.key, token(), of_size(MOST + 1)).await.unwrap_err();
    assert!(f.read().await.is_some());
}

#[tokio::test]
async fn the_limit_may_be_lower_than_the_servers() {
    let f = Fixture::start().await;
    let small = patient(f.server.url()).max_payload(10).connect().await.unwrap();
    for (size, is_stored) in [(10, true), (11, false)] {
        let (key, owner) = (Key::new(size.to_string()), token());
        small.get_or_lease(&key, owner, TERM, None).await.unwrap();
        assert_eq!(small.put_leased(&key, owner, of_size(size)).await.is_ok(), is_stored, "{size}");
    }
}

#[tokio::test]
async fn many_large_values_are_read_at_once() {
    let f = Fixture::start().await;
    let keys: Vec<Key> = (0..30).map(|n| Key::new(format!("k{n}"))).collect();
    for key in &keys {
        let owner = token();
        f.backend.get_or_lease(key, owner, TERM, None).await.unwrap();
        f.backend.put_leased(key, owner, of_size(200_000)).await.unwrap();
    }
    for _ in 0..3 {
        for found in f.backend.get_many(&keys).await {
            assert_eq!(found.unwrap().unwrap().payload.len(), 200_000);
        }
    }
}
