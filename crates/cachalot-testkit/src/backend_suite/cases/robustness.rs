//! Keys and payloads of all kinds, neighbours, and callers that leave.

use std::future::Future;
use std::pin::pin;

use bytes::Bytes;
use cachalot_core::{Key, LeaseReply, PutReply};
use futures_util::future::join_all;
use futures_util::poll;

use super::super::{BackendSubject, LONG};

pub async fn any_bytes_are_a_key(it: &BackendSubject) {
    let mut keys: Vec<Vec<u8>> = vec![Vec::new(), (0..=255).collect(), vec![b'k'; 10 * 1024]];
    keys.push([vec![b'k'; 10 * 1024], b"2".to_vec()].concat());
    for text in
        ["*", "?", "[a-z]", "{slot}", "}{", "a b", "a\nb", "a\r\nb", "a\0b", "a\0", "\u{fc}", "a", "ab"]
    {
        keys.push(text.into());
    }
    let keys: Vec<Key> = keys.into_iter().map(Key::new).collect();
    for (n, key) in keys.iter().enumerate() {
        it.store(key, &n.to_string()).await;
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(it.text(key).await, Some(n.to_string()), "{key:?}");
    }
    for (n, found) in it.backend.get_many(&keys).await.into_iter().enumerate() {
        let payload = found.unwrap().expect("a record").payload;
        assert_eq!(payload, n.to_string(), "{:?}", keys[n]);
    }
    for (n, key) in keys.iter().enumerate() {
        it.backend.remove(key).await.unwrap();
        assert_eq!(it.get(key).await, None, "{key:?}");
        if let Some(next) = keys.get(n + 1) {
            assert!(it.get(next).await.is_some(), "{next:?} after {key:?}");
        }
    }
}

pub async fn any_bytes_are_a_payload(it: &BackendSubject) {
    let binary: Bytes = (0..=255u8).cycle().take(100_000).collect();
    let megabyte = Bytes::from(vec![b'x'; 1024 * 1024]);
    for payload in [binary, megabyte, Bytes::from_static(b"\r\n"), Bytes::from_static(b"\0")] {
        round_trip(it, payload).await;
    }
}

pub async fn an_empty_payload_is_a_value(it: &BackendSubject) {
    round_trip(it, Bytes::new()).await;
}

/// By a lease and by a hold, read in every way.
async fn round_trip(it: &BackendSubject, payload: Bytes) {
    let (leased, held) = (it.key("leased"), it.key("held"));
    let (reader, writer) = (it.lease(&leased).await, it.hold(&held).await);
    assert_eq!(it.put_leased(&leased, reader, it.put(payload.clone(), LONG)).await, PutReply::Stored);
    assert_eq!(it.put_held(&held, writer, it.put(payload.clone(), LONG)).await, PutReply::Stored);
    for key in [leased, held] {
        assert!(it.get(&key).await.expect("a record").payload == payload, "get of {} bytes", payload.len());
        let many = it.backend.get_many(std::slice::from_ref(&key)).await.remove(0).unwrap();
        assert!(many.expect("a record").payload == payload, "get_many of {} bytes", payload.len());
        match it.ask(&key, LONG, None).await.0 {
            LeaseReply::Hit(record) => assert!(record.payload == payload, "hit of {} bytes", payload.len()),
            other => panic!("a hit was due: {other:?}"),
        }
        it.backend.remove(&key).await.unwrap();
    }
}

pub async fn other_keys_are_not_disturbed(it: &BackendSubject) {
    let (value, leased, held, busy) = (it.key("value"), it.key("leased"), it.key("held"), it.key("busy"));
    let nonce = it.store(&value, "v").await;
    let (reader, writer) = (it.lease(&leased).await, it.hold(&held).await);
    let own = it.store(&busy, "b").await;
    let (token, _) = it.lease_for(&busy, LONG / 2, Some(own)).await;
    it.release(&busy, token).await;
    it.backend.touch(&busy, own, 2 * LONG).await.unwrap();
    it.backend.expire(&busy, LONG).await.unwrap();
    it.backend.remove(&busy).await.unwrap();
    it.hold(&busy).await;
    it.backend.remove_many(&[busy.clone(), it.key("none")]).await;
    it.put_held(&busy, it.token(), it.put("b", LONG)).await;
    let record = it.get(&value).await.expect("a record");
    assert_eq!((record.nonce, record.invalidated), (nonce, false));
    assert_eq!(it.put_leased(&leased, reader, it.put("v", LONG)).await, PutReply::Stored);
    assert_eq!(it.put_held(&held, writer, it.put("v", LONG)).await, PutReply::Stored);
}

pub async fn answers_of_concurrent_calls_are_not_mixed_up(it: &BackendSubject) {
    let names: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let round_trip = async |name: &String| {
        let key = it.key(name);
        it.store(&key, name).await;
        assert_eq!(it.text(&key).await.as_ref(), Some(name));
        let many = it.backend.get_many(&[it.key("none"), key]).await;
        assert_eq!(many[1].as_ref().unwrap().as_ref().expect("a record").payload, *name);
    };
    join_all(names.iter().map(round_trip)).await;
}

/// What was asked for may happen or not; everything after it is in order.
pub async fn a_dropped_future_breaks_nothing(it: &BackendSubject) {
    let (witness, leases) = (it.key("witness"), it.leases());
    it.store(&witness, "w").await;
    for round in 0..10 {
        let key = it.key(&round.to_string());
        let (token, put) = (it.token(), it.put("v", LONG));
        start_and_drop(leases.get_or_lease(&key, token, LONG, None)).await;
        start_and_drop(it.backend.get(&key)).await;
        start_and_drop(leases.put_leased(&key, token, put.clone())).await;
        start_and_drop(it.backend.get_many(&[key.clone(), witness.clone()])).await;
        start_and_drop(it.backend.expire(&key, LONG)).await;
        start_and_drop(leases.release(&key, token)).await;
        start_and_drop(it.backend.remove_many(std::slice::from_ref(&key))).await;
        start_and_drop(leases.hold(&key, token, LONG)).await;
        start_and_drop(leases.put_held(&key, token, put)).await;
        start_and_drop(it.backend.touch(&key, it.put("", LONG).nonce, LONG)).await;
        start_and_drop(it.backend.remove(&key)).await;
        assert_eq!(it.text(&witness).await.as_deref(), Some("w"), "round {round}");
    }
    let fresh = it.key("fresh");
    it.store(&fresh, "f").await;
    assert_eq!(it.text(&fresh).await.as_deref(), Some("f"));
}

/// Polls `call` once, as a caller does that then leaves.
async fn start_and_drop(call: impl Future) {
    let _ = poll!(pin!(call)).is_ready();
}
