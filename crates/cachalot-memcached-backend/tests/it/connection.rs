//! Servers that are refused, killed, restarted, stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cachalot_core::{
    Backend, Depth, Entropy, Error, ErrorKind, Key, LeaseBackend, LeaseReply, PutReply, Result, Retry,
    TagBackend, TagToken,
};
use cachalot_memcached_backend::{Memcached, MemcachedBackend};
use cachalot_testkit::MemcachedServer;
use tokio::time::timeout;

use crate::support::{AGES, Fixture, TERM, TTL, eventually, patient, put, recovered, token};

/// A port nobody listens on: reserved, and below those that are given out.
const REFUSED: &str = "memcache://127.0.0.1:1";

/// Every operation once, with its name.
async fn all_operations(backend: &MemcachedBackend) -> Vec<(&'static str, Result<(), Error>)> {
    let key = Key::new("k");
    let keys = [key.clone(), Key::new("l")];
    let fresh = [0; 2].map(|_| TagToken::draw(&Entropy::thread()));
    let tags = [Key::new("t"), Key::new("u")];
    let all = async {
        vec![
            ("get", backend.get(&key).await.map(drop)),
            ("get_many", backend.get_many(&keys).await.pop().unwrap().map(drop)),
            ("remove", backend.remove(&key).await.map(drop)),
            ("remove_many", backend.remove_many(&keys).await.pop().unwrap().map(drop)),
            ("expire", backend.expire(&key, TTL).await.map(drop)),
            ("touch", backend.touch(&key, put("").nonce, TTL).await.map(drop)),
            ("get_or_lease", backend.get_or_lease(&key, token(), TERM, None).await.map(drop)),
            ("put_leased", backend.put_leased(&key, token(), put("v")).await.map(drop)),
            ("release", backend.release(&key, token()).await.map(drop)),
            ("hold", backend.hold(&key, token(), TERM).await.map(drop)),
            ("put_held", backend.put_held(&key, token(), put("v")).await.map(drop)),
            ("tag_tokens", backend.tag_tokens(&tags).await.map(drop)),
            ("pin_tags", backend.pin_tags(&tags, &fresh, TTL).await.map(drop)),
            ("rotate_tags", backend.rotate_tags(&tags, &fresh, Depth::Expire, TTL).await.map(drop)),
        ]
    };
    timeout(AGES, all).await.expect("a call did not end by its deadline")
}

/// Repeats all operations until each of them works.
async fn all_recovered(backend: &MemcachedBackend) {
    let work = async || {
        let all = all_operations(backend).await;
        all.iter().all(|(_, outcome)| outcome.is_ok()).then_some(())
    };
    eventually(work).await;
}

#[tokio::test]
async fn a_refused_port_fails_connect_and_says_where() {
    let error = Memcached::connect(REFUSED).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.contains("node 127.0.0.1:1") && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_refused_port_answers_every_operation_at_once() {
    let backend = Memcached::builder(REFUSED).deadline(AGES * 10).connect_lazy().unwrap();
    for (operation, outcome) in all_operations(&backend).await {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{operation}: {error}");
        assert!(matches!(error.retry(), Retry::After(_)), "{operation}: {error:?}");
    }
}

#[tokio::test]
async fn a_lazy_backend_begins_to_work_when_the_server_comes() {
    let server = MemcachedServer::start();
    server.kill();
    let backend = patient(server.url()).connect_lazy().unwrap();
    assert_eq!(backend.get(&Key::new("k")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.restart();
    recovered(&backend).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_fails_connect_by_the_deadline() {
    let server = MemcachedServer::start();
    server.pause();
    let connect = Memcached::builder(server.url()).deadline(Duration::from_millis(50)).connect();
    let error = timeout(AGES, connect).await.expect("no answer").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("timeout after 50 ms"), "{error}");
}

#[tokio::test]
async fn a_server_without_cas_is_refused() {
    let server = MemcachedServer::start_with(["-C"]);
    let error = Memcached::connect(server.url()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Never), "{error}");
    assert!(error.to_string().contains("CAS"), "{error}");
}

#[tokio::test]
async fn a_unix_socket_works_too() {
    let server = MemcachedServer::start();
    let path = server.directory().join("memcached.sock");
    // One that listens on a socket listens on no port, and then the launcher could not ask it.
    let program = std::env::var_os("CACHALOT_MEMCACHED").unwrap_or_else(|| "memcached".into());
    let mut command = std::process::Command::new(program);
    // The user counts for root alone.
    let _child = Child(command.arg("-s").arg(&path).args(["-u", "root", "-m", "16"]).spawn().unwrap());
    let backend = Memcached::connect_lazy(format!("memcache+unix://{}", path.display())).unwrap();
    recovered(&backend).await;
    let (key, owner) = (Key::new("k"), token());
    backend.get_or_lease(&key, owner, TERM, None).await.unwrap();
    assert_eq!(backend.put_leased(&key, owner, put("v1")).await.unwrap(), PutReply::Stored);
    assert_eq!(&backend.get(&key).await.unwrap().unwrap().payload[..], b"v1");
    assert_eq!(backend.info().node, path.display().to_string());
}

struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn it_works_again_after_a_kill_and_a_restart() {
    let f = Fixture::start().await;
    f.store("v1").await;
    f.server.kill();
    for (operation, outcome) in all_operations(&f.backend).await {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable, "{operation}");
    }
    f.server.restart();
    recovered(&f.backend).await;
    assert_eq!(f.read().await, None, "the server keeps nothing");
    all_recovered(&f.backend).await;
    f.store("v2").await;
    assert_eq!(&f.read().await.unwrap().payload[..], b"v2");
}

#[tokio::test]
async fn the_incarnation_changes_before_a_restarted_server_is_asked_anything() {
    let f = Fixture::start().await;
    f.store("v1").await;
    let before = f.backend.incarnation();
    for _ in 0..10 {
        f.read().await;
    }
    assert_eq!(f.backend.incarnation(), before);
    for restarts in 1..=2 {
        f.server.restart();
        let read = eventually(async || f.backend.get(&f.key).await.ok()).await;
        assert_eq!((read, f.backend.incarnation()), (None, before + restarts));
        all_recovered(&f.backend).await;
        assert_eq!(f.backend.incarnation(), before + restarts, "all connections lead to the same run");
    }
}

#[tokio::test]
async fn a_lease_dies_with_the_server_that_gave_it() {
    let f = Fixture::start().await;
    let old = token();
    f.lease(old).await;
    let cas = f.raw("mg users:1 c\r\n");
    f.server.restart();
    recovered(&f.backend).await;
    // The new server counts CAS from the start: another's lease gets the same.
    let new = token();
    let lease = async || f.backend.get_or_lease(&f.key, new, TERM, None).await.ok();
    assert!(matches!(eventually(lease).await, LeaseReply::Lease { .. }));
    assert_eq!(f.raw("mg users:1 c\r\n"), cas, "else it proves nothing");
    assert_eq!(f.put_leased(old, put("old")).await, PutReply::Lost);
    assert_eq!(f.put_leased(new, put("new")).await, PutReply::Stored);
    assert_eq!(&f.read().await.unwrap().payload[..], b"new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_costs_no_caller_more_than_an_error() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    let calls = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..32)
        .map(|n| {
            let (backend, key, calls) = (f.backend.clone(), f.key.clone(), calls.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    calls.fetch_add(1, Ordering::Relaxed);
                    if n % 4 == 0 {
                        let _ = backend.get_or_lease(&key, token(), TERM, Some(nonce)).await;
                    } else if let Ok(Some(record)) = backend.get(&key).await {
                        assert_eq!(&record.payload[..], b"v1");
                    }
                }
            })
        })
        .collect();
    eventually(async || (calls.load(Ordering::Relaxed) > 200).then_some(())).await;
    f.server.kill();
    for caller in callers {
        timeout(AGES, caller).await.expect("a caller was left waiting").unwrap();
    }
    f.server.restart();
    all_recovered(&f.backend).await;
}

#[tokio::test]
async fn a_stopped_server_costs_every_operation_its_deadline_and_no_more() {
    let server = MemcachedServer::start();
    let deadline = Duration::from_millis(100);
    let backend = Memcached::builder(server.url()).deadline(deadline).connect_lazy().unwrap();
    all_recovered(&backend).await;
    server.pause();
    for (operation, outcome) in all_operations(&backend).await {
        let error = outcome.unwrap_err();
        // A silent connection is given up in the end; a new one gets no answer either.
        let expected = [ErrorKind::Timeout, ErrorKind::Unavailable];
        assert!(expected.contains(&error.kind()), "{operation}: {error}");
    }
    server.resume();
    all_recovered(&backend).await;
}

#[tokio::test]
async fn late_answers_go_to_nobody_else() {
    let f = Fixture::start().await;
    let keys: Vec<Key> = (0..50).map(|n| Key::new(format!("k{n}"))).collect();
    for key in &keys {
        let (owner, mut item) = (token(), put(""));
        f.backend.get_or_lease(key, owner, TERM, None).await.unwrap();
        item.payload = key.as_bytes().to_vec().into();
        f.backend.put_leased(key, owner, item).await.unwrap();
    }
    let deadline = Duration::from_millis(300);
    let backend =
        Memcached::builder(f.server.url()).connections(1).deadline(deadline).connect_lazy().unwrap();
    recovered(&backend).await;
    f.server.pause();
    for key in &keys[..2] {
        assert_eq!(backend.get(key).await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    f.server.resume();
    for key in &keys {
        let found = eventually(async || backend.get(key).await.ok()).await;
        assert_eq!(found.unwrap().payload, key.as_bytes());
    }
}
