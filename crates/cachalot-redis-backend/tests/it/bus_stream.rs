//! Streams on a real server: what is kept, what is trimmed, deleted, lost with the server.

use std::time::Duration;

use cachalot_core::{Bus, BusEvent, BusGap, Subscription};
use cachalot_redis_backend::RedisStreamBus;
use cachalot_testkit::RedisServer;

use crate::bus::{kill, message, next, number, publish, read_to, watchful};
use crate::support::raw;

const STREAM: &str = "cachalot:bus";

async fn confirmed(bus: &RedisStreamBus) -> Box<dyn Subscription> {
    let mut subscription = bus.subscribe().await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
    subscription
}

fn run(server: &RedisServer, command: &[&str]) -> redis::Value {
    redis::cmd(command[0]).arg(&command[1..]).query(&mut raw(server)).unwrap()
}

#[tokio::test]
async fn what_was_published_during_a_reconnect_is_read_and_nothing_is_missed() {
    let server = RedisServer::start();
    let bus = watchful(&server).stream().unwrap();
    let mut subscription = confirmed(&bus).await;
    let mut last = 0;
    for _ in 0..5 {
        kill(&server, "normal");
        for _ in 0..20 {
            last += 1;
            publish(&bus, last).await;
        }
        let events = read_to(&mut subscription, |event| *event == BusEvent::Message(message(last))).await;
        assert_eq!(events[..2], [BusEvent::Interrupted, BusEvent::Resumed], "{events:?}");
        let mut numbers: Vec<u64> = events[2..].iter().map(number).collect();
        numbers.dedup();
        assert_eq!(numbers, Vec::from_iter(last - 19..=last), "what is sent again may come twice");
    }
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_loses_nothing_that_is_kept() {
    let server = RedisServer::start();
    let bus = watchful(&server).stream().unwrap();
    let mut subscription = confirmed(&bus).await;
    for sequence in 1..=1_000 {
        publish(&bus, sequence).await;
    }
    for sequence in 1..=1_000 {
        assert_eq!(number(&next(&mut subscription).await), sequence);
    }
}

#[tokio::test]
async fn a_stream_that_is_trimmed_past_the_subscriber_is_a_gap() {
    let server = RedisServer::start();
    let bus = watchful(&server).stream().unwrap();
    let mut subscription = confirmed(&bus).await;
    publish(&bus, 1).await;
    assert_eq!(number(&next(&mut subscription).await), 1);
    for sequence in 2..=100 {
        publish(&bus, sequence).await;
    }
    run(&server, &["XTRIM", STREAM, "MAXLEN", "10"]);
    let events = read_to(&mut subscription, |event| *event == BusEvent::Message(message(100))).await;
    // What had been on its way to it before is told too.
    assert!(events.contains(&BusEvent::Gap(BusGap::Trimmed)), "{events:?}");
    let after = events.iter().skip_while(|event| !matches!(event, BusEvent::Gap(_))).skip(1);
    assert_eq!(after.map(number).next(), Some(91), "{events:?}");
}

#[tokio::test]
async fn the_bound_of_a_stream_is_kept_and_passing_it_is_a_gap() {
    let server = RedisServer::start();
    let bus = watchful(&server).keep(50).stream().unwrap();
    let mut subscription = confirmed(&bus).await;
    for sequence in 1..=2_000 {
        publish(&bus, sequence).await;
    }
    let kept: usize = redis::cmd("XLEN").arg(STREAM).query(&mut raw(&server)).unwrap();
    assert!((50..500).contains(&kept), "{kept}");
    let events = read_to(&mut subscription, |event| *event == BusEvent::Message(message(2_000))).await;
    assert!(events.contains(&BusEvent::Gap(BusGap::Trimmed)), "{:?}", &events[..3]);
}

#[tokio::test]
async fn a_deleted_stream_is_a_gap_also_when_nothing_follows() {
    let server = RedisServer::start();
    let bus = watchful(&server).stream().unwrap();
    let mut subscription = confirmed(&bus).await;
    run(&server, &["DEL", STREAM]);
    assert_eq!(next(&mut subscription).await, BusEvent::Gap(BusGap::Reset));
    publish(&bus, 1).await;
    assert_eq!(number(&next(&mut subscription).await), 1);
}

#[tokio::test]
async fn a_stream_that_was_moved_back_is_a_gap() {
    let server = RedisServer::start();
    let bus = watchful(&server).stream().unwrap();
    let mut subscription = confirmed(&bus).await;
    // Numbers far ahead of the clock, read by the subscriber; then the stream begins anew by the clock.
    let ahead = message(1).encode().unwrap();
    let id: String = redis::cmd("XADD")
        .arg(STREAM)
        .arg("99999999999999-0")
        .arg("m")
        .arg(&ahead[..])
        .query(&mut raw(&server))
        .unwrap();
    assert_eq!(id, "99999999999999-0");
    assert_eq!(number(&next(&mut subscription).await), 1);
    run(&server, &["DEL", STREAM]);
    publish(&bus, 2).await;
    assert_eq!(next(&mut subscription).await, BusEvent::Gap(BusGap::Reset));
    publish(&bus, 3).await;
    assert_eq!(number(&next(&mut subscription).await), 3);
}

#[tokio::test]
async fn after_a_restart_it_begins_anew() {
    // With the stream restored, and with an empty server.
    for keeps in ["yes", "no"] {
        let server = RedisServer::start_with(["--appendonly", keeps, "--appendfsync", "always"]);
        let bus = watchful(&server).stream().unwrap();
        let mut subscription = confirmed(&bus).await;
        publish(&bus, 1).await;
        assert_eq!(number(&next(&mut subscription).await), 1);
        server.restart();
        let back = |event: &BusEvent| matches!(event, BusEvent::Confirmed | BusEvent::Resumed);
        let events = read_to(&mut subscription, back).await;
        assert_eq!(events.last(), Some(&BusEvent::Confirmed), "{keeps}: {events:?}");
        publish(&bus, 2).await;
        assert_eq!(number(&next(&mut subscription).await), 2);
    }
}

#[tokio::test]
async fn a_connection_that_went_silent_is_given_up_and_resumed() {
    let server = RedisServer::start();
    let redis = cachalot_redis_backend::Redis::builder(server.url()).deadline(Duration::from_millis(300));
    let bus = redis.bus().check_every(Duration::from_millis(50)).stream().unwrap();
    let mut subscription = bus.subscribe().await.unwrap();
    read_to(&mut subscription, |event| *event == BusEvent::Confirmed).await;
    server.pause();
    read_to(&mut subscription, |event| *event == BusEvent::Interrupted).await;
    server.resume();
    publish(&bus, 1).await;
    let events = read_to(&mut subscription, |event| *event == BusEvent::Message(message(1))).await;
    assert!(events.contains(&BusEvent::Resumed) && !events.contains(&BusEvent::Confirmed), "{events:?}");
}

#[tokio::test]
async fn what_is_no_message_is_a_gap_and_anothers_mark_is_not() {
    let server = RedisServer::start();
    let bus = watchful(&server).stream().unwrap();
    let mut subscription = confirmed(&bus).await;
    drop(confirmed(&bus).await);
    publish(&bus, 1).await;
    assert_eq!(number(&next(&mut subscription).await), 1);
    for (field, value) in [("m", "nonsense"), ("key", "users:7")] {
        run(&server, &["XADD", STREAM, "*", field, value]);
        assert_eq!(next(&mut subscription).await, BusEvent::Gap(BusGap::Undecodable));
    }
}

#[tokio::test]
async fn a_key_of_another_type_keeps_it_waiting_and_fails_who_publishes() {
    let server = RedisServer::start();
    run(&server, &["SET", STREAM, "mine"]);
    let bus = watchful(&server).stream().unwrap();
    let error = bus.publish(&message(1)).await.unwrap_err();
    assert_eq!(error.kind(), cachalot_core::ErrorKind::Unsupported, "{error}");
    let mut subscription = bus.subscribe().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), subscription.next()).await.is_err());
    run(&server, &["DEL", STREAM]);
    assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
}

#[tokio::test]
async fn without_the_permission_for_info_every_reconnect_begins_anew() {
    let server = RedisServer::start();
    run(&server, &["ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-info"]);
    let url = format!("redis://app:pw@{}", server.addr());
    let bus = crate::support::patient(url).bus().stream().unwrap();
    let mut subscription = confirmed(&bus).await;
    for sequence in 1..=3 {
        kill(&server, "normal");
        assert_eq!(next(&mut subscription).await, BusEvent::Interrupted);
        assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
        publish(&bus, sequence).await;
        assert_eq!(number(&next(&mut subscription).await), sequence);
    }
}
