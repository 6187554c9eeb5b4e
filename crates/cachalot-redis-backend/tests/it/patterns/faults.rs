//! Servers that die or hang, and keys that hold something else.

use std::future::Future;
use std::pin::Pin;

use cachalot_core::codec::Json;
use cachalot_core::{Error, ErrorKind, Result, Retry};
use cachalot_redis_backend::Redis;
use cachalot_redis_backend::patterns::{Leaderboard, Queue, ReliableQueue, Topic};
use tokio::time::timeout;

use super::*;

type Outcome = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Every operation once, with its name; those that wait for so long.
fn all_operations(patterns: &RedisPatterns, wait: Duration) -> Vec<(&'static str, Outcome)> {
    let space = namespace("x");
    let hashes = patterns.hashes(&space, Json);
    let board: Leaderboard = patterns.leaderboard(&space, "a");
    let queue: Queue<u32> = patterns.queue(&space, "a", Json);
    let reliable: ReliableQueue<u32> = patterns.reliable_queue(&space, "a", Json);
    let topic: Topic<u32> = patterns.topic(&space, "a", Json).unwrap();
    let counter = patterns.capped_counter(&space, 5, MINUTE).unwrap();
    let limit = patterns.rate_limit(&space, 5, MINUTE).unwrap();
    let batch = patterns.batch::<u32>(&space, Json);
    let mut all: Vec<(&'static str, Outcome)> = Vec::new();
    macro_rules! add {
        ($name:literal, $handle:ident, $operation:expr) => {{
            let $handle = $handle.clone();
            all.push(($name, Box::pin(async move { $operation.map(drop) })));
        }};
    }
    add!("hash get", hashes, hashes.get("a").await);
    add!("hash field", hashes, hashes.field::<u32>("a", "f").await);
    add!("hash set", hashes, hashes.set("a", &hashes.object().with("f", &1_u32)?, MINUTE).await);
    add!("hash update", hashes, hashes.update("a", "f", &1_u32).await);
    add!("hash remove", hashes, hashes.remove("a").await);
    add!("board add", board, board.add("m", 1.0).await);
    add!("board increment", board, board.increment("m", 1.0).await);
    add!("board replace", board, board.replace([("m", 1.0)]).await);
    add!("board raise", board, board.raise([("m", 1.0)]).await);
    add!("board raise_listed", board, board.raise_listed("m", 1.0).await);
    add!("board top", board, board.top(3).await);
    add!("board rank", board, board.rank("m").await);
    add!("board score", board, board.score_of("m").await);
    add!("board around", board, board.around("m", 1).await);
    add!("board remove", board, board.remove("m").await);
    add!("board len", board, board.len().await);
    add!("queue push", queue, queue.push(&[1]).await);
    add!("queue pop", queue, queue.pop(wait).await);
    add!("queue pop at once", queue, queue.pop(Duration::ZERO).await);
    add!("queue len", queue, queue.len().await);
    add!("reliable push", reliable, reliable.push(&[1]).await);
    add!("reliable take", reliable, reliable.consumer("c", MINUTE)?.take(wait).await);
    add!("reliable keep_alive", reliable, reliable.consumer("c", MINUTE)?.keep_alive().await);
    add!("reliable len", reliable, reliable.len().await);
    add!("reliable recover", reliable, reliable.recover().await);
    add!("publish", topic, topic.publish(&1).await);
    add!("subscribe", topic, topic.subscribe().await);
    add!("counter increment", counter, counter.increment("a").await);
    add!("counter get", counter, counter.get("a").await);
    add!("counter reset", counter, counter.reset("a").await);
    add!("limit", limit, limit.check("a").await);
    add!("batch get", batch, batch.get(&["a"]).await.remove(0));
    add!("batch set", batch, batch.set(&[("a", 1)], MINUTE).await.remove(0));
    all
}

async fn errors(patterns: &RedisPatterns, wait: Duration) -> Vec<(&'static str, Error)> {
    let mut errors = Vec::new();
    for (name, operation) in all_operations(patterns, wait) {
        let outcome = timeout(AGES, operation).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{name} did not end by its deadline"));
        errors.extend(outcome.err().map(|error| (name, error)));
    }
    errors
}

#[tokio::test]
async fn a_key_that_holds_another_type_is_told_clearly_and_left_alone() {
    let (server, patterns) = start().await;
    // For each that would make something: what else there may be.
    for (filler, spared) in
        [(&["SADD", "x:a", "s"][..], &[][..]), (&["SET", "x:a", "text"], &["batch get", "batch set"])]
    {
        let fill = || {
            tell(&server, &["FLUSHALL"]);
            tell(&server, filler);
            for key in ["{x:a}", "{x:a}:consumers"] {
                tell(&server, &["SET", key, "text"]);
            }
        };
        fill();
        for (name, operation) in all_operations(&patterns, Duration::from_millis(50)) {
            let outcome = operation.await;
            if matches!(name, "publish" | "subscribe" | "batch set") {
                outcome.unwrap();
                fill();
                continue;
            }
            if spared.contains(&name) {
                continue;
            }
            let error = outcome.expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
            assert!(
                error.to_string().contains("another type") && error.to_string().contains("x:a"),
                "{error}"
            );
            let kind: String = ask(&server, &["TYPE", "x:a"]);
            assert_eq!(kind, if filler[0] == "SET" { "string" } else { "set" }, "after {name}");
        }
    }
}

#[tokio::test]
async fn a_killed_server_is_an_error_of_every_operation_and_a_restarted_one_is_found() {
    let (server, patterns) = start().await;
    // All connections are made. What they say of each other's keys does not matter here.
    errors(&patterns, Duration::from_millis(10)).await;
    server.kill();
    let quick = Redis::builder(server.url()).deadline(Duration::from_millis(200)).connect_lazy().unwrap();
    for patterns in [&patterns, &quick.patterns()] {
        let errors = errors_but_subscribe(patterns).await;
        for (name, error) in &errors {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{name}: {error}");
        }
        assert_eq!(errors.len(), 32);
    }
    server.restart();
    let recovered = async {
        let limit = patterns.rate_limit(&namespace("y"), 5, MINUTE).unwrap();
        let queue: Queue<u32> = patterns.queue(&namespace("y"), "q", Json);
        while limit.check("a").await.is_err() || queue.pop(Duration::from_millis(1)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AGES, recovered).await.expect("it did not recover");
}

/// Subscribing goes on trying until its deadline.
async fn errors_but_subscribe(patterns: &RedisPatterns) -> Vec<(&'static str, Error)> {
    let mut errors = Vec::new();
    for (name, operation) in all_operations(patterns, MINUTE) {
        if name != "subscribe" {
            errors.push((name, timeout(AGES, operation).await.expect(name).expect_err(name)));
        }
    }
    errors
}

#[tokio::test]
async fn a_server_that_hangs_costs_every_operation_its_deadline() {
    let server = RedisServer::start();
    let backend = Redis::builder(server.url()).deadline(Duration::from_millis(60)).connect().await.unwrap();
    let patterns = backend.patterns();
    let counter = patterns.capped_counter(&namespace("y"), 5, MINUTE).unwrap();
    // On a machine that is busy with other tests the deadline may be too short even now.
    while counter.get("a").await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.pause();
    let errors = errors(&patterns, Duration::from_millis(20)).await;
    assert_eq!(errors.len(), 33);
    // Once the connection is given up, for some time none is tried.
    let is_told = |kind| matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable);
    assert!(errors.iter().all(|(_, error)| is_told(error.kind())), "{errors:?}");
    assert_eq!(errors[0].1.kind(), ErrorKind::Timeout, "{errors:?}");
    server.resume();
}

#[tokio::test]
async fn a_server_that_dies_or_hangs_under_a_waiting_pop_is_an_error_and_no_endless_wait() {
    let server = RedisServer::start();
    let backend =
        Redis::builder(server.url()).deadline(Duration::from_millis(1_500)).connect().await.unwrap();
    let patterns = backend.patterns();
    let waiting = |wait| {
        let queue: Queue<u32> = patterns.queue(&namespace("y"), "q", Json);
        let reliable: ReliableQueue<u32> = patterns.reliable_queue(&namespace("y"), "r", Json);
        let pop = tokio::spawn(async move { queue.pop(wait).await.map(drop) });
        let take = tokio::spawn(async move {
            reliable.consumer("c", Duration::from_secs(3_000)).unwrap().take(wait).await.map(drop)
        });
        async move { (timeout(AGES, pop).await.unwrap().unwrap(), timeout(AGES, take).await.unwrap().unwrap()) }
    };
    let hanging = waiting(Duration::from_millis(3_000));
    until_blocked(&server, 2).await;
    server.pause();
    let (pop, take) = hanging.await;
    assert_eq!(pop.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(take.unwrap_err().kind(), ErrorKind::Timeout);
    server.resume();
    until_blocked(&server, 0).await;
    let dying = waiting(Duration::from_secs(3_000));
    until_blocked(&server, 2).await;
    server.kill();
    let (pop, take) = dying.await;
    assert_eq!(pop.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(take.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_pop_from_a_server_that_is_away_says_when_to_try_again() {
    let nowhere = Redis::connect_lazy("redis://127.0.0.1:1").unwrap().patterns();
    let queue: Queue<u32> = nowhere.queue(&namespace("y"), "q", Json);
    for _ in 0..3 {
        let error = queue.pop(MINUTE).await.unwrap_err();
        assert!(matches!(error.retry(), Retry::After(_)), "{error:?}");
    }
}

#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_taught_again() {
    let (server, patterns) = start().await;
    let limit = patterns.rate_limit(&namespace("y"), 5, MINUTE).unwrap();
    limit.check("a").await.unwrap();
    tell(&server, &["SCRIPT", "FLUSH"]);
    assert!(limit.check("a").await.unwrap().is_allowed());
}
