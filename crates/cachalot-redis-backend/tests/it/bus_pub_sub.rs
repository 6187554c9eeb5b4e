//! Pub/Sub on a real server: killed connections, restarts, silence, floods, foreigners.

use std::time::Duration;

use cachalot_core::{Bus, BusEvent, BusGap};
use cachalot_testkit::RedisServer;

use crate::bus::{kill, message, next, number, publish, read_to, watchful};
use crate::support::{patient, raw};

const ENOUGH: Duration = Duration::from_secs(10);

fn is_confirmed(event: &BusEvent) -> bool {
    *event == BusEvent::Confirmed
}

#[tokio::test]
async fn a_killed_subscription_is_confirmed_again_and_what_was_missed_is_said() {
    let server = RedisServer::start();
    let bus = watchful(&server).pub_sub().unwrap();
    let mut subscription = bus.subscribe().await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
    for round in 1..=5 {
        kill(&server, "pubsub");
        publish(&bus, round).await;
        let events = read_to(&mut subscription, is_confirmed).await;
        assert_eq!(events[0], BusEvent::Interrupted, "{events:?}");
        publish(&bus, 100 + round).await;
        assert_eq!(number(&next(&mut subscription).await), 100 + round);
    }
}

#[tokio::test]
async fn it_hears_again_after_a_restart() {
    let server = RedisServer::start();
    let bus = watchful(&server).pub_sub().unwrap();
    let mut subscription = bus.subscribe().await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
    server.kill();
    assert_eq!(next(&mut subscription).await, BusEvent::Interrupted);
    assert!(tokio::time::timeout(Duration::from_millis(200), subscription.next()).await.is_err());
    server.restart();
    assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
    publish(&bus, 1).await;
    assert_eq!(number(&next(&mut subscription).await), 1);
}

#[tokio::test]
async fn a_connection_that_went_silent_is_given_up() {
    for url in ["", "/?protocol=resp2"] {
        let server = RedisServer::start();
        let redis = cachalot_redis_backend::Redis::builder(format!("{}{url}", server.url()));
        let bus = redis.deadline(Duration::from_millis(300)).bus().check_every(Duration::from_millis(50));
        let bus = bus.pub_sub().unwrap();
        let mut subscription = bus.subscribe().await.unwrap();
        read_to(&mut subscription, is_confirmed).await;
        server.pause();
        read_to(&mut subscription, |event| *event == BusEvent::Interrupted).await;
        server.resume();
        read_to(&mut subscription, is_confirmed).await;
    }
}

#[tokio::test]
async fn a_slow_subscriber_finds_a_gap_and_keeps_a_bounded_queue() {
    for url in ["", "/?protocol=resp2"] {
        let server = RedisServer::start();
        let bus = patient(format!("{}{url}", server.url())).bus().queue(16).pub_sub().unwrap();
        let mut subscription = bus.subscribe().await.unwrap();
        assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
        for sequence in 1..=500 {
            publish(&bus, sequence).await;
        }
        // All has arrived once a mark has that another subscriber gets after it.
        let mut other = bus.subscribe().await.unwrap();
        assert_eq!(next(&mut other).await, BusEvent::Confirmed);
        publish(&bus, 501).await;
        assert_eq!(number(&next(&mut other).await), 501);
        let events = read_to(&mut subscription, |event| *event == BusEvent::Message(message(501))).await;
        assert!(events.contains(&BusEvent::Gap(BusGap::Overflow)), "{events:?}");
        assert!(events.len() <= 17, "{}", events.len());
    }
}

#[tokio::test]
async fn what_is_no_message_is_a_gap() {
    let server = RedisServer::start();
    let bus = patient(server.url()).bus().pub_sub().unwrap();
    let mut subscription = bus.subscribe().await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
    let foreign = "{\"key\": \"users:7\"}";
    let heard: i64 = redis::cmd("PUBLISH").arg("cachalot:bus").arg(foreign).query(&mut raw(&server)).unwrap();
    assert_eq!(heard, 1);
    assert_eq!(next(&mut subscription).await, BusEvent::Gap(BusGap::Undecodable));
    publish(&bus, 1).await;
    assert_eq!(number(&next(&mut subscription).await), 1);
}

#[tokio::test]
async fn a_dropped_subscription_leaves_no_connection_behind() {
    let server = RedisServer::start();
    let bus = patient(server.url()).bus().pub_sub().unwrap();
    let mut subscription = bus.subscribe().await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
    let listeners = || -> i64 {
        let answer: (String, i64) =
            redis::cmd("PUBSUB").arg("NUMSUB").arg("cachalot:bus").query(&mut raw(&server)).unwrap();
        answer.1
    };
    assert_eq!(listeners(), 1);
    drop(subscription);
    let gone = async {
        while listeners() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(ENOUGH, gone).await.expect("the connection stays");
}
