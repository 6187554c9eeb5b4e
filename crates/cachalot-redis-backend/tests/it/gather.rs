//! Concurrent reads of single keys share commands, and nothing else.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cachalot_core::{Backend, ErrorKind, Key, LeaseBackend, Result};
use cachalot_redis_backend::RedisBackend;
use cachalot_testkit::RedisServer;

use crate::support::{TERM, patient, put, raw, token};

const READERS: usize = 300;

/// Two of three keys hold their own name, the third is a list or absent.
async fn filled(server: &RedisServer) -> (Arc<RedisBackend>, Vec<Key>) {
    let backend = patient(server.url()).connections(1).connect().await.unwrap();
    let keys: Vec<Key> = (0..READERS).map(|n| Key::new(format!("k{n}"))).collect();
    for (at, key) in keys.iter().enumerate() {
        if at % 3 < 2 {
            let (owner, mut item) = (token(), put(""));
            item.payload = key.as_bytes().to_vec().into();
            backend.get_or_lease(key, owner, TERM, None).await.unwrap();
            backend.put_leased(key, owner, item).await.unwrap();
        } else if at % 2 == 0 {
            let _: i64 = redis::cmd("RPUSH").arg(key.as_bytes()).arg("x").query(&mut raw(server)).unwrap();
        }
    }
    (Arc::new(backend), keys)
}

fn commands(server: &RedisServer) -> u64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut raw(server)).unwrap();
    let calls = |line: &str| -> Option<u64> {
        let figures = line.strip_prefix("cmdstat_get:").or_else(|| line.strip_prefix("cmdstat_mget:"))?;
        figures.strip_prefix("calls=")?.split(',').next()?.parse().ok()
    };
    info.lines().filter_map(calls).sum()
}

async fn read_all(backend: &Arc<RedisBackend>, keys: &[Key]) -> Vec<Result<Option<bytes::Bytes>>> {
    let readers: Vec<_> = keys
        .iter()
        .map(|key| {
            let (backend, key) = (backend.clone(), key.clone());
            tokio::spawn(async move { Ok(backend.get(&key).await?.map(|record| record.payload)) })
        })
        .collect();
    let mut found = Vec::new();
    for reader in readers {
        found.push(reader.await.unwrap());
    }
    found
}

fn assert_own(keys: &[Key], found: Vec<Result<Option<bytes::Bytes>>>) {
    for (at, (key, found)) in keys.iter().zip(found).enumerate() {
        let expected = (at % 3 < 2).then(|| bytes::Bytes::copy_from_slice(key.as_bytes()));
        assert_eq!(found.unwrap(), expected, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_concurrent_readers_gets_its_own() {
    let server = RedisServer::start();
    let (backend, keys) = filled(&server).await;
    for _ in 0..20 {
        assert_own(&keys, read_all(&backend, &keys).await);
    }
}

#[tokio::test]
async fn concurrent_readers_share_commands() {
    let server = RedisServer::start();
    let (backend, keys) = filled(&server).await;
    let before = commands(&server);
    assert_own(&keys, read_all(&backend, &keys).await);
    // One goes alone; the others come while it is under way: 128 to a command.
    assert_eq!(commands(&server) - before, 1 + 3);
}

#[tokio::test]
async fn a_reader_that_is_kept_and_not_polled_holds_up_nobody() {
    let server = RedisServer::start();
    let (backend, keys) = filled(&server).await;
    let mut kept = pin!(backend.get(&keys[0]));
    let polled = kept.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    assert_own(&keys, read_all(&backend, &keys).await);
    let mut gathered = pin!(backend.get(&keys[1]));
    assert!(gathered.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_own(&keys, read_all(&backend, &keys).await);
    assert_eq!(gathered.await.unwrap().unwrap().payload, keys[1].as_bytes());
    assert_eq!(kept.await.unwrap().unwrap().payload, keys[0].as_bytes());
}

#[tokio::test]
async fn readers_who_leave_take_nobody_with_them() {
    let server = RedisServer::start();
    let (backend, keys) = filled(&server).await;
    for leaver in 0..10 {
        let mut readers: Vec<_> = keys.iter().map(|key| Box::pin(backend.get(key))).collect();
        for reader in &mut readers {
            assert!(reader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        // The gatherer has not run yet in the first round; later ones catch it at work.
        for _ in 0..leaver {
            tokio::task::yield_now().await;
        }
        let mut kept = Vec::new();
        for (at, reader) in readers.into_iter().enumerate() {
            if at % 10 != leaver {
                kept.push((at, reader));
            }
        }
        for (at, reader) in kept {
            let expected = (at % 3 < 2).then(|| keys[at].as_bytes());
            let found = reader.await.unwrap();
            assert_eq!(found.as_ref().map(|record| &record.payload[..]), expected, "{at}");
        }
    }
}

#[tokio::test]
async fn a_fault_reaches_every_reader_and_ends_with_its_cause() {
    let server = RedisServer::start();
    let (backend, keys) = filled(&server).await;
    server.kill();
    for found in read_all(&backend, &keys).await {
        assert_eq!(found.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    server.restart();
    while backend.get(&keys[0]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for found in read_all(&backend, &keys).await {
        assert_eq!(found.unwrap(), None);
    }
}

#[test]
fn a_backend_outlives_the_runtime_it_began_in() {
    let server = RedisServer::start();
    let (backend, keys) = cachalot_testkit::block_on(filled(&server));
    // Some reads are under way when their runtime ends.
    cachalot_testkit::block_on(async {
        let mut readers: Vec<_> = keys.iter().map(|key| Box::pin(backend.get(key))).collect();
        for reader in &mut readers {
            let poll: Poll<_> = reader.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll.is_pending());
        }
        tokio::task::yield_now().await;
    });
    cachalot_testkit::block_on(async { assert_own(&keys, read_all(&backend, &keys).await) });
}

#[test]
fn a_runtime_that_ends_before_its_gatherer_began_stops_no_later_read() {
    let server = RedisServer::start();
    let (backend, keys) = cachalot_testkit::block_on(filled(&server));
    cachalot_testkit::block_on(async {
        let mut reads = [&keys[0], &keys[1]].map(|key| Box::pin(backend.get(key)));
        for read in &mut reads {
            let poll: Poll<_> = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll.is_pending());
        }
    });
    let found = cachalot_testkit::block_on(async {
        tokio::time::timeout(Duration::from_secs(20), backend.get(&keys[1])).await.expect("no answer")
    });
    assert_eq!(found.unwrap().unwrap().payload, keys[1].as_bytes());
}
