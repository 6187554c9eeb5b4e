use cachalot_core::ErrorKind;
use cachalot_core::codec::Json;
use cachalot_redis_backend::patterns::{Consumer, ReliableQueue};
use tokio::time::{sleep, timeout};

use super::*;

const NONE: Duration = Duration::ZERO;

fn jobs(patterns: &RedisPatterns) -> ReliableQueue<u32> {
    patterns.reliable_queue(&namespace("jobs"), "mail", Json)
}

/// Makes a consumer look dead, as the end of its term would.
fn die(server: &RedisServer, name: &str) {
    tell(server, &["DEL", &format!("{{jobs:mail}}:alive:{name}")]);
}

/// Takes all there is, and acknowledges it.
async fn drain(consumer: &mut Consumer<u32>) -> Vec<u32> {
    let mut got = Vec::new();
    while let Some(item) = consumer.take(NONE).await.unwrap() {
        got.push(item.value().unwrap());
        assert!(item.ack().await.unwrap());
    }
    got
}

#[tokio::test]
async fn what_is_taken_stays_in_the_server_until_it_is_acknowledged() {
    let (server, patterns) = start().await;
    let queue = jobs(&patterns);
    assert_eq!(queue.push(&[1, 2, 2]).await.unwrap(), 3);
    let mut ann = queue.consumer("ann", MINUTE).unwrap();
    let taken = || ask::<u32>(&server, &["LLEN", "{jobs:mail}:taken:ann"]);
    let (one, two) = (ann.take(MINUTE).await.unwrap().unwrap(), ann.take(NONE).await.unwrap().unwrap());
    assert_eq!((one.value().unwrap(), two.value().unwrap(), taken()), (1, 2, 2));
    assert_eq!(queue.len().await.unwrap(), 1);
    assert!(two.ack().await.unwrap());
    assert_eq!(taken(), 1);
    assert!(one.ack().await.unwrap());
    assert_eq!(drain(&mut ann).await, [2]);
    assert!(ann.take(Duration::from_millis(10)).await.unwrap().is_none());
    assert_eq!(taken(), 0);
}

#[tokio::test]
async fn what_is_given_back_goes_to_the_end() {
    let (_server, patterns) = start().await;
    let queue = jobs(&patterns);
    queue.push(&[1, 2]).await.unwrap();
    let mut ann = queue.consumer("ann", MINUTE).unwrap();
    assert!(ann.take(NONE).await.unwrap().unwrap().nack().await.unwrap());
    assert_eq!(drain(&mut ann).await, [2, 1]);
}

#[tokio::test]
async fn an_item_that_is_dropped_is_given_out_again_by_the_next_take() {
    let (_server, patterns) = start().await;
    let queue = jobs(&patterns);
    queue.push(&[1, 2, 3]).await.unwrap();
    let mut ann = queue.consumer("ann", MINUTE).unwrap();
    let held = ann.take(NONE).await.unwrap().unwrap();
    drop(ann.take(NONE).await.unwrap().unwrap());
    assert_eq!(drain(&mut ann).await, [2, 3], "what is held is not given out again");
    assert!(held.ack().await.unwrap());
}

#[tokio::test]
async fn the_next_process_of_a_name_finds_what_the_one_before_it_had_taken() {
    let (_server, patterns) = start().await;
    let queue = jobs(&patterns);
    queue.push(&[1, 2, 3]).await.unwrap();
    let mut before = queue.consumer("ann", MINUTE).unwrap();
    std::mem::forget((before.take(NONE).await.unwrap(), before.take(NONE).await.unwrap()));
    let mut after = queue.consumer("ann", MINUTE).unwrap();
    assert_eq!(drain(&mut after).await, [1, 2, 3]);
}

#[tokio::test]
async fn the_items_of_a_dead_consumer_are_recovered_in_their_order_and_those_of_a_live_one_are_not() {
    let (server, patterns) = start().await;
    let queue = jobs(&patterns);
    queue.push(&(0..600).collect::<Vec<_>>()).await.unwrap();
    let (mut dead, mut live) =
        (queue.consumer("dead", MINUTE).unwrap(), queue.consumer("live", MINUTE).unwrap());
    let mut held = Vec::new();
    for _ in 0..550 {
        held.push(dead.take(NONE).await.unwrap().unwrap());
    }
    let own = live.take(NONE).await.unwrap().unwrap();
    assert_eq!(queue.recover().await.unwrap(), 0, "both are alive");
    die(&server, "dead");
    assert_eq!(queue.recover().await.unwrap(), 550);
    assert_eq!(queue.recover().await.unwrap(), 0, "once");
    assert_eq!(ask::<Vec<String>>(&server, &["SMEMBERS", "{jobs:mail}:consumers"]), ["live"]);
    let expected: Vec<u32> = (0..600).filter(|n| *n != 550).collect();
    assert_eq!(drain(&mut live).await, expected);
    assert!(own.ack().await.unwrap());
    for late in held {
        assert!(!late.ack().await.unwrap(), "it was given to another");
    }
    // It was only slow, and is known again with its next take.
    queue.push(&[7]).await.unwrap();
    assert_eq!(drain(&mut dead).await, [7]);
    assert_eq!(ask::<usize>(&server, &["SCARD", "{jobs:mail}:consumers"]), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_recover_at_once_each_item_is_put_back_once() {
    let (server, patterns) = start().await;
    let queue = jobs(&patterns);
    queue.push(&(0..1_000).collect::<Vec<_>>()).await.unwrap();
    let mut dead = queue.consumer("dead", MINUTE).unwrap();
    let mut held = Vec::new();
    for _ in 0..1_000 {
        held.push(dead.take(NONE).await.unwrap().unwrap());
    }
    die(&server, "dead");
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.recover().await.unwrap() })
        })
        .collect();
    let mut moved = 0;
    for task in tasks {
        moved += task.await.unwrap();
    }
    assert_eq!((moved, queue.len().await.unwrap()), (1_000, 1_000));
    assert_eq!(drain(&mut queue.consumer("live", MINUTE).unwrap()).await, (0..1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_consumer_shows_that_it_is_alive_while_it_waits_and_when_it_is_told_to() {
    let (server, patterns) = start().await;
    let queue = jobs(&patterns);
    let mut ann = queue.consumer("ann", Duration::from_secs(4)).unwrap();
    let left = || ask::<i64>(&server, &["PTTL", "{jobs:mail}:alive:ann"]);
    let waiting = tokio::spawn(async move {
        let got = ann.take(MINUTE).await.unwrap();
        (ann, got)
    });
    until_blocked(&server, 1).await;
    // Twice seen with more left than before: it was shown anew under way.
    for _ in 0..2 {
        let mut before = left();
        let shown = async {
            loop {
                let now = left();
                assert!(now > 0, "dead while it waits");
                if now > before {
                    break;
                }
                before = now;
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(AGES, shown).await.unwrap();
    }
    queue.push(&[1]).await.unwrap();
    let (ann, got) = timeout(AGES, waiting).await.unwrap().unwrap();
    assert!(got.unwrap().ack().await.unwrap());
    die(&server, "ann");
    ann.keep_alive().await.unwrap();
    assert!(left() > 0);
}

/// Dropped at every await, with something waiting and with nothing: all comes out in the end, and once acknowledged never
/// again.
#[tokio::test]
async fn a_take_that_is_dropped_anywhere_loses_nothing() {
    let (server, patterns) = start().await;
    let queue = jobs(&patterns);
    let mut ann = queue.consumer("ann", MINUTE).unwrap();
    let (mut pushed, mut done, mut dropped) = (0, Vec::new(), 0);
    for round in 0..60 {
        let (pending, is_first) = (round % 12, round % 2 == 0);
        if is_first {
            queue.push(&[pushed]).await.unwrap();
        }
        let late = {
            let (queue, value) = (queue.clone(), pushed);
            async move {
                if !is_first {
                    sleep(Duration::from_millis(3)).await;
                    queue.push(&[value]).await.unwrap();
                }
            }
        };
        pushed += 1;
        let take = timeout(Duration::from_millis(20), dropped_after(pending, ann.take(MINUTE)));
        match tokio::join!(take, late).0 {
            Ok(Some(item)) => {
                let item = item.unwrap().unwrap();
                done.push(item.value().unwrap());
                assert!(item.ack().await.unwrap());
            }
            _ => dropped += 1,
        }
    }
    assert!(dropped > 10, "{dropped} were dropped");
    // What is still on its way arrives with the next moves.
    until_blocked(&server, 0).await;
    let arrived = async {
        while done.len() < pushed as usize {
            done.extend(drain(&mut ann).await);
        }
    };
    timeout(AGES, arrived).await.expect("something is lost");
    done.sort_unstable();
    assert_eq!(done, (0..pushed).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_acknowledgement_or_return_that_is_dropped_anywhere_loses_nothing() {
    let (_server, patterns) = start().await;
    let queue = jobs(&patterns);
    let mut ann = queue.consumer("ann", MINUTE).unwrap();
    for pending in 0..8 {
        queue.push(&[1, 2]).await.unwrap();
        let (one, two) = (ann.take(NONE).await.unwrap().unwrap(), ann.take(NONE).await.unwrap().unwrap());
        let acked = dropped_after(pending, one.ack()).await.is_some();
        dropped_after(pending, two.nack()).await;
        let rest = drain(&mut ann).await;
        assert!(rest.contains(&2), "given back or given out again: {rest:?}");
        assert!(!acked || !rest.contains(&1), "acknowledged and given out again");
    }
}

/// Consumers that take, drop, die and recover, all at once: each item is acknowledged at least once, and none is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_item_is_done_however_consumers_die_and_others_recover() {
    const ITEMS: u32 = 400;
    let (server, patterns) = start().await;
    let (server, queue) = (std::sync::Arc::new(server), jobs(&patterns));
    queue.push(&(0..ITEMS).collect::<Vec<_>>()).await.unwrap();
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let (queue, server) = (queue.clone(), server.clone());
            tokio::spawn(async move {
                let mut done = Vec::new();
                for life in 0..6 {
                    let name = format!("{worker}-{life}");
                    let mut consumer = queue.consumer(&name, MINUTE).unwrap();
                    for _ in 0..12 {
                        let Some(item) = consumer.take(NONE).await.unwrap() else { break };
                        let value = item.value().unwrap();
                        if value % 5 != life && item.ack().await.unwrap() {
                            done.push(value);
                        }
                    }
                    die(&server, &name);
                    queue.recover().await.unwrap();
                }
                done
            })
        })
        .collect();
    let mut done = Vec::new();
    for worker in workers {
        done.extend(worker.await.unwrap());
    }
    queue.recover().await.unwrap();
    done.extend(drain(&mut queue.consumer("last", MINUTE).unwrap()).await);
    done.sort_unstable();
    done.dedup();
    assert_eq!(done, (0..ITEMS).collect::<Vec<_>>());
    assert!(queue.is_empty().await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_read_is_taken_and_can_be_acknowledged() {
    let (server, patterns) = start().await;
    let queue = jobs(&patterns);
    tell(&server, &["RPUSH", "{jobs:mail}", "short", "sixteen bytes id and hunter2"]);
    queue.push(&[5]).await.unwrap();
    let mut ann = queue.consumer("ann", MINUTE).unwrap();
    for _ in 0..2 {
        let item = ann.take(NONE).await.unwrap().unwrap();
        let error = item.value().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert!(!format!("{error} {item:?}").contains("hunter2"), "{error}");
        assert!(item.ack().await.unwrap());
    }
    assert_eq!(drain(&mut ann).await, [5]);
}

#[tokio::test]
async fn names_with_braces_are_written_so_that_all_keys_stay_together() {
    let (server, patterns) = start().await;
    let mut names = Vec::new();
    for odd in ["a}b", "{a}b", "a%7Db", "", "a{", "\u{fc}\0"] {
        let queue: ReliableQueue<u32> = patterns.reliable_queue(&namespace("odd"), odd, Json);
        queue.push(&[1]).await.unwrap();
        let mut ann = queue.consumer("x{y}", MINUTE).unwrap();
        let item = ann.take(NONE).await.unwrap().unwrap();
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut raw(&server)).unwrap();
        let tag = |key: &Vec<u8>| {
            let text = String::from_utf8_lossy(key).into_owned();
            text[text.find('{').unwrap() + 1..text.find('}').unwrap()].to_owned()
        };
        assert_eq!(keys.len(), 3, "{keys:?}");
        assert!(keys.iter().all(|key| tag(key) == tag(&keys[0])), "{keys:?}");
        names.push(tag(&keys[0]));
        item.ack().await.unwrap();
        tell(&server, &["FLUSHALL"]);
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 6, "{names:?}");
}

#[tokio::test]
async fn settings_that_cannot_be_kept_are_refused() {
    let (_server, patterns) = start().await;
    let queue = jobs(&patterns);
    for (name, term) in [("", MINUTE), (&*"x".repeat(129), MINUTE), ("ann", Duration::from_millis(999))] {
        assert_eq!(queue.consumer(name, term).unwrap_err().kind(), ErrorKind::Config, "{name}");
    }
}
