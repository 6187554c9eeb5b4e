use cachalot_core::ErrorKind;
use cachalot_core::codec::Json;
use cachalot_redis_backend::patterns::Queue;
use tokio::time::timeout;

use super::*;

const NONE: Duration = Duration::ZERO;

fn mails(patterns: &RedisPatterns, name: &str) -> Queue<u32> {
    patterns.queue(&namespace("mails"), name, Json)
}

#[tokio::test]
async fn what_is_pushed_is_popped_in_its_order_and_once() {
    let (server, patterns) = start().await;
    let queue = mails(&patterns, "out");
    assert_eq!(queue.push(&[1, 2]).await.unwrap(), 2);
    assert_eq!(queue.push(&[3]).await.unwrap(), 3);
    assert_eq!(queue.push(&[]).await.unwrap(), 3);
    assert_eq!(ask::<Vec<String>>(&server, &["LRANGE", "mails:out", "0", "-1"]), ["1", "2", "3"]);
    for (expected, wait) in [(1, NONE), (2, MINUTE), (3, Duration::from_micros(5))] {
        assert_eq!(queue.pop(wait).await.unwrap(), Some(expected));
    }
    for wait in [NONE, Duration::from_micros(5), Duration::from_millis(20)] {
        assert_eq!(queue.pop(wait).await.unwrap(), None);
    }
    assert!(queue.is_empty().await.unwrap());
}

#[tokio::test]
async fn a_pop_waits_for_a_push_and_other_commands_do_not_wait_for_it() {
    let (server, patterns) = start().await;
    let queue = mails(&patterns, "out");
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.pop(MINUTE).await.unwrap() }
    });
    until_blocked(&server, 1).await;
    assert_eq!(queue.len().await.unwrap(), 0);
    queue.push(&[7]).await.unwrap();
    assert_eq!(timeout(AGES, waiting).await.unwrap().unwrap(), Some(7));
}

#[tokio::test]
async fn a_wait_longer_than_the_deadline_is_waited_for() {
    let server = RedisServer::start();
    let backend =
        crate::support::patient(server.url()).deadline(Duration::from_millis(1_000)).connect().await.unwrap();
    let queue = mails(&backend.patterns(), "out");
    let began = tokio::time::Instant::now();
    assert_eq!(queue.pop(Duration::from_millis(1_500)).await.unwrap(), None);
    assert!(began.elapsed() >= Duration::from_millis(1_490));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_tasks_pop_each_value_once() {
    let (_server, patterns) = start().await;
    let queue = mails(&patterns, "out");
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut got = Vec::new();
                for _ in 0..5 {
                    got.extend(queue.pop(MINUTE).await.unwrap());
                }
                got
            })
        })
        .collect();
    for chunk in (0..500).collect::<Vec<u32>>().chunks(50) {
        queue.push(chunk).await.unwrap();
    }
    let mut got = Vec::new();
    for task in tasks {
        got.extend(task.await.unwrap());
    }
    got.sort_unstable();
    assert_eq!(got, (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn more_pops_than_connections_wait_for_one() {
    let (_server, patterns) = start().await;
    let queue = mails(&patterns, "out");
    let pops: Vec<_> = (0..300)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.pop(Duration::from_millis(50)).await.unwrap() })
        })
        .collect();
    for pop in pops {
        assert_eq!(pop.await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_connection_of_a_dropped_pop_is_given_to_nobody() {
    let (server, patterns) = start().await;
    let (one, other) = (mails(&patterns, "one"), mails(&patterns, "other"));
    for pending in 0..12 {
        let dropped = timeout(Duration::from_millis(20), dropped_after(pending, one.pop(MINUTE))).await;
        assert!(!matches!(dropped, Ok(Some(_))), "nothing was pushed");
        until_blocked(&server, 0).await;
        // Nobody waits for it any more, so it stays.
        one.push(&[1]).await.unwrap();
        other.push(&[2]).await.unwrap();
        assert_eq!(other.pop(MINUTE).await.unwrap(), Some(2), "the answer of its own pop");
        assert_eq!(one.pop(NONE).await.unwrap(), Some(1));
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_and_gone() {
    let (server, patterns) = start().await;
    let queue = mails(&patterns, "out");
    tell(&server, &["RPUSH", "mails:out", "hunter2", "5"]);
    let error = queue.pop(MINUTE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("mails:out") && !error.to_string().contains("hunter2"), "{error}");
    assert_eq!(queue.pop(MINUTE).await.unwrap(), Some(5));
}
