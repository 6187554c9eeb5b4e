//! Servers that are refused, killed, restarted, stopped; callers that leave.

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{
    Backend, Error, ErrorKind, Key, LeaseBackend, Namespace, Pattern, Removed, Result, Retry, SweepCursor,
};
use cachalot_redis_backend::{Redis, RedisBackend};
use cachalot_testkit::RedisServer;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Fixture, TERM, TTL, connect, patient, put, raw, token};

/// More than any call may take, on a machine that is busy with other tests.
const AGES: Duration = Duration::from_secs(60);
/// A port nobody listens on: reserved, and below those that are given out.
const REFUSED: &str = "redis://127.0.0.1:1";

/// Every operation once, with its name.
async fn all_operations(backend: &RedisBackend) -> Vec<(&'static str, Result<(), Error>)> {
    let key = Key::new("k");
    let keys = [key.clone(), Key::new("l")];
    let all_users = Pattern::any().within(&Namespace::new("users").unwrap());
    let all = async {
        vec![
            ("get", backend.get(&key).await.map(drop)),
            ("get_many", backend.get_many(&keys).await.pop().unwrap().map(drop)),
            ("remove", backend.remove(&key).await.map(drop)),
            ("remove_many", backend.remove_many(&keys).await.pop().unwrap().map(drop)),
            ("sweep", backend.sweep(&all_users, &SweepCursor::START).await.map(drop)),
            ("expire", backend.expire(&key, TTL).await.map(drop)),
            ("touch", backend.touch(&key, put("").nonce, TTL).await.map(drop)),
            ("get_or_lease", backend.get_or_lease(&key, token(), TERM, None).await.map(drop)),
            ("put_leased", backend.put_leased(&key, token(), put("v")).await.map(drop)),
            ("release", backend.release(&key, token()).await.map(drop)),
            ("hold", backend.hold(&key, token(), TERM).await.map(drop)),
            ("put_held", backend.put_held(&key, token(), put("v")).await.map(drop)),
        ]
    };
    timeout(AGES, all).await.expect("a call did not end by its deadline")
}

/// Calls until it works again.
async fn recovered(backend: &RedisBackend) {
    let work = async {
        while backend.get(&Key::new("k")).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AGES, work).await.expect("it did not recover");
}

/// Repeats all operations until each of them works.
async fn all_recovered(backend: &RedisBackend) {
    let work = async {
        while all_operations(backend).await.iter().any(|(_, outcome)| outcome.is_err()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AGES, work).await.expect("it did not recover");
}

#[tokio::test]
async fn a_refused_port_fails_connect_and_says_where() {
    let error = Redis::connect("redis://user:hunter2@127.0.0.1:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = format!("{error} {error:?}");
    assert!(text.contains("node 127.0.0.1:1") && text.contains("refused"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_refused_port_answers_every_operation_at_once() {
    let backend = Redis::builder(REFUSED).deadline(AGES * 10).connect_lazy().unwrap();
    for (operation, outcome) in all_operations(&backend).await {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{operation}: {error}");
        assert!(matches!(error.retry(), Retry::After(_)), "{operation}: {error:?}");
    }
}

#[tokio::test]
async fn a_lazy_backend_begins_to_work_when_the_server_comes() {
    let server = RedisServer::start();
    server.kill();
    let backend = patient(server.url()).connect_lazy().unwrap();
    assert_eq!(backend.get(&Key::new("k")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.restart();
    recovered(&backend).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_fails_connect_by_the_deadline() {
    let server = RedisServer::start();
    server.pause();
    let connect = Redis::builder(server.url()).deadline(Duration::from_millis(50)).connect();
    let error = timeout(AGES, connect).await.expect("no answer").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("timeout after 50 ms"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_told_to_nobody() {
    let server = RedisServer::start_with(["--requirepass", "right"]);
    let url = |password: &str| format!("redis://:{password}@{}", server.addr());
    let error = connect(url("hunter2")).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Never), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(connect(server.url()).await.is_err());
    let backend = connect(url("right")).await.unwrap();
    assert_eq!(backend.get(&Key::new("k")).await.unwrap(), None);
    let text = format!("{backend:?} {:?}", backend.info());
    assert!(!text.contains("right"), "{text}");
    assert_eq!(backend.info().node, server.addr().to_string());
}

#[tokio::test]
async fn databases_are_apart() {
    let f = Fixture::start().await;
    f.store("v1").await;
    let other = connect(format!("{}/3", f.server.url())).await.unwrap();
    assert_eq!(other.get(&f.key).await.unwrap(), None);
}

#[tokio::test]
async fn a_unix_socket_works_too() {
    let server = RedisServer::start_with(["--unixsocket", "redis.sock"]);
    let path = server.directory().join("redis.sock");
    let backend = connect(format!("redis+unix://{}", path.display())).await.unwrap();
    let key = Key::new("k");
    let owner = token();
    backend.get_or_lease(&key, owner, TERM, None).await.unwrap();
    backend.put_leased(&key, owner, put("v1")).await.unwrap();
    assert_eq!(&backend.get(&key).await.unwrap().unwrap().payload[..], b"v1");
    assert_eq!(backend.info().node, path.display().to_string());
}

#[tokio::test]
async fn resp2_works_too() {
    let f = Fixture::start().await;
    f.store("v1").await;
    let old = connect(format!("{}/?protocol=resp2", f.server.url())).await.unwrap();
    assert_eq!(&old.get(&f.key).await.unwrap().unwrap().payload[..], b"v1");
    assert!(matches!(
        old.get_or_lease(&f.key, token(), TERM, None).await.unwrap(),
        cachalot_core::LeaseReply::Hit(_)
    ));
    assert_eq!(old.remove(&f.key).await.unwrap(), Removed::Existing);
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
    // The server has forgotten the scripts.
    let work = async {
        while let Err(error) = f.backend.remove(&f.key).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AGES, work).await.expect("it did not recover");
    f.store("v2").await;
    assert_eq!(&f.read().await.unwrap().payload[..], b"v2");
}

#[tokio::test]
async fn a_lease_dies_with_the_server_that_gave_it() {
    let f = Fixture::start().await;
    let owner = token();
    f.lease(owner).await;
    f.server.restart();
    let reply = loop {
        match f.backend.put_leased(&f.key, owner, put("old")).await {
            Ok(reply) => break reply,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
        sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(reply, cachalot_core::PutReply::Absent);
}

#[tokio::test]
async fn a_connection_the_server_closed_while_idle_costs_no_error() {
    let f = Fixture::start().await;
    f.store("v1").await;
    for _ in 0..20 {
        let _: i64 = redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .query(&mut f.raw())
            .unwrap();
        assert_eq!(&f.read().await.unwrap().payload[..], b"v1");
        f.backend.touch(&f.key, put("").nonce, TTL).await.unwrap();
    }
}

#[tokio::test]
async fn a_stopped_server_costs_every_operation_its_deadline_and_no_more() {
    let server = RedisServer::start();
    let deadline = Duration::from_millis(100);
    let backend = Redis::builder(server.url()).deadline(deadline).connect_lazy().unwrap();
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
async fn a_timeout_leaves_the_connection_usable() {
    let server = RedisServer::start();
    let patient = connect(server.url()).await.unwrap();
    let keys: Vec<Key> = (0..50).map(|n| Key::new(format!("k{n}"))).collect();
    for key in &keys {
        let owner = token();
        patient.get_or_lease(key, owner, TERM, None).await.unwrap();
        let mut item = put("");
        item.payload = key.as_bytes().to_vec().into();
        patient.put_leased(key, owner, item).await.unwrap();
    }
    // Long enough that it is not given up as silent while the machine is busy.
    let deadline = Duration::from_secs(1);
    let backend = Redis::builder(server.url()).connections(1).deadline(deadline).connect_lazy().unwrap();
    recovered(&backend).await;
    let connections = |server: &RedisServer| -> String {
        let info: String = redis::cmd("INFO").arg("stats").query(&mut raw(server)).unwrap();
        info.lines().find(|line| line.starts_with("total_connections_received")).unwrap().to_owned()
    };
    let before = connections(&server);
    server.pause();
    for key in &keys[..2] {
        assert_eq!(backend.get(key).await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    server.resume();
    recovered(&backend).await;
    // The late answers went nowhere: every key gets its own value.
    for key in &keys {
        let found = loop {
            match backend.get(key).await {
                Ok(found) => break found.unwrap(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout),
            }
        };
        assert_eq!(found.payload, key.as_bytes());
    }
    let after = connections(&server);
    let count = |line: &str| line.trim_end().split(':').nth(1).unwrap().parse::<u64>().unwrap();
    assert_eq!(count(&after), count(&before) + 1, "our second look is the only new connection");
}

#[tokio::test]
async fn many_callers_share_the_wait_for_a_server_that_refuses() {
    let backend = Arc::new(Redis::builder(REFUSED).deadline(AGES).connect_lazy().unwrap());
    let start = Instant::now();
    let callers: Vec<_> = (0..1_000)
        .map(|n| {
            let backend = backend.clone();
            tokio::spawn(async move { backend.get(&Key::new(n.to_string())).await })
        })
        .collect();
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert!(start.elapsed() < AGES, "nobody waits for the deadline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_futures_spoil_nothing() {
    let f = Arc::new(Fixture::start().await);
    let keys: Vec<Key> = (0..64).map(|n| Key::new(format!("k{n}"))).collect();
    for key in &keys {
        let owner = token();
        f.backend.get_or_lease(key, owner, TERM, None).await.unwrap();
        let mut item = put("");
        item.payload = key.as_bytes().to_vec().into();
        f.backend.put_leased(key, owner, item).await.unwrap();
    }
    let readers: Vec<_> = (0..64)
        .map(|n| {
            let (f, keys) = (f.clone(), keys.clone());
            tokio::spawn(async move {
                for round in 0..200 {
                    let key = &keys[(n + round) % 64];
                    // Every third one is given up after a poll or two.
                    if (n + round) % 3 == 0 {
                        let _ = timeout(Duration::ZERO, f.backend.get(key)).await;
                        let _ = timeout(Duration::from_micros(50), f.backend.release(key, token())).await;
                    } else {
                        let record = f.backend.get(key).await.unwrap().unwrap();
                        assert_eq!(record.payload, key.as_bytes());
                    }
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_attempt_to_connect_leaves_the_next_caller_free() {
    let server = RedisServer::start();
    let backend = Redis::builder(server.url()).deadline(AGES).connect_lazy().unwrap();
    server.pause();
    for _ in 0..3 {
        let key = Key::new("k");
        assert!(timeout(Duration::from_millis(20), backend.get(&key)).await.is_err());
    }
    server.resume();
    assert_eq!(backend.get(&Key::new("k")).await.unwrap(), None);
}
