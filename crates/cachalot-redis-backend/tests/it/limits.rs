//! Sizes: keys of any length, payloads up to a bound, batches of any number.

use cachalot_core::{Backend, Entropy, ErrorKind, Key, LeaseBackend, Nonce, Put, PutReply, Record};
use cachalot_redis_backend::{Redis, RedisBackend};
use cachalot_testkit::RedisServer;

use crate::support::{Fixture, TERM, TTL, connect, patient, raw, token};

async fn store(backend: &RedisBackend, key: &Key, payload: Vec<u8>) -> PutReply {
    let owner = token();
    backend.get_or_lease(key, owner, TERM, None).await.unwrap();
    let nonce = Nonce::draw(&Entropy::thread());
    backend.put_leased(key, owner, Put { payload: payload.into(), nonce, ttl: TTL }).await.unwrap()
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused_before_anything_is_sent() {
    let server = RedisServer::start();
    let backend = patient(server.url()).max_payload(1_000).connect().await.unwrap();
    let key = Key::new("k");
    assert_eq!(store(&backend, &key, vec![1; 1_000]).await, PutReply::Stored);
    backend.remove(&key).await.unwrap();
    let owner = token();
    backend.get_or_lease(&key, owner, TERM, None).await.unwrap();
    let calls = |server: &RedisServer| {
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut raw(server)).unwrap();
        info.lines().find(|line| line.starts_with("cmdstat_evalsha:")).map(str::to_owned)
    };
    let before = calls(&server);
    let put = || Put { payload: vec![1; 1_001].into(), nonce: Nonce::draw(&Entropy::thread()), ttl: TTL };
    for outcome in [backend.put_leased(&key, owner, put()).await, backend.put_held(&key, owner, put()).await]
    {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
    assert_eq!(calls(&server), before);
    assert!(backend.release(&key, owner).await.unwrap(), "the lease can still be given back");
}

#[tokio::test]
async fn keys_of_any_bytes_and_length_are_kept_apart() {
    let f = Fixture::start().await;
    let long = |last: u8| Key::new([vec![b'x'; 100_000], vec![last]].concat());
    let keys = [
        long(1),
        long(2),
        Key::new(vec![b'x'; 512]),
        Key::new(vec![b'x'; 513]),
        Key::new("line\r\nbreak *[a-z]? {tag} \0"),
        Key::new(vec![0xff; 40]),
        Key::new(""),
    ];
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(store(&f.backend, key, vec![at as u8]).await, PutReply::Stored, "{at}");
    }
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(f.backend.get(key).await.unwrap().unwrap().payload[..], [at as u8], "{at}");
    }
    let longest: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut f.raw()).unwrap();
    assert!(longest.iter().all(|name| name.len() <= 512 + 65));
}

#[tokio::test]
async fn a_value_of_megabytes_comes_back_whole() {
    let server = RedisServer::start();
    let backend = connect(server.url()).await.unwrap();
    let key = Key::new("large");
    let payload: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(store(&backend, &key, payload.clone()).await, PutReply::Stored);
    assert!(backend.get(&key).await.unwrap().unwrap().payload == payload);
}

#[tokio::test]
async fn thousands_of_keys_are_read_and_removed_in_order() {
    let server = RedisServer::start();
    let backend = connect(server.url()).await.unwrap();
    let keys: Vec<Key> = (0..3_000).map(|n| Key::new(format!("k:{n}"))).collect();
    for (at, key) in keys.iter().enumerate().step_by(3) {
        store(&backend, key, at.to_string().into_bytes()).await;
    }
    let payload = |record: Option<Record>| record.map(|record| record.payload);
    for (at, record) in backend.get_many(&keys).await.into_iter().enumerate() {
        let expected = (at % 3 == 0).then(|| at.to_string().into_bytes().into());
        assert_eq!(payload(record.unwrap()), expected, "{at}");
    }
    for (at, removed) in backend.remove_many(&keys).await.into_iter().enumerate() {
        let existing = removed.unwrap() == cachalot_core::Removed::Existing;
        assert_eq!(existing, at % 3 == 0, "{at}");
    }
    let left: i64 = redis::cmd("DBSIZE").query(&mut raw(&server)).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn no_keys_are_no_trip() {
    let backend = Redis::connect_lazy("redis://127.0.0.1:1").unwrap();
    assert!(backend.get_many(&[]).await.is_empty());
    assert!(backend.remove_many(&[]).await.is_empty());
}
