//! The channel of the layout.

use std::time::Duration;

use cachalot_core::{
    Body, Bus, BusEvent, BusGap, Key, Message, Namespace, PublisherId, Subject, Subscription,
};
use cachalot_redis_backend::PlainBus;
use cachalot_testkit::RedisServer;

use crate::support::{patient, raw};

fn bus(server: &RedisServer) -> PlainBus {
    patient(server.url()).plain().bus().unwrap()
}

async fn next(subscription: &mut Box<dyn Subscription>) -> BusEvent {
    let event = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await;
    event.expect("nothing came").unwrap()
}

fn message(body: Body) -> Message {
    Message { publisher: PublisherId::from_bytes([1; 16]), namespace: Namespace::new("user").unwrap(), body }
}

fn key(name: &'static str) -> Subject {
    Subject::Key { key: Key::new(name), pending: false }
}

fn publish(server: &RedisServer, text: &str) {
    let heard: i64 = redis::cmd("PUBLISH").arg("cache:invalidate").arg(text).query(&mut raw(server)).unwrap();
    assert_eq!(heard, 1);
}

#[tokio::test]
async fn foreigners_are_heard_and_nonsense_is_a_gap() {
    let server = RedisServer::start();
    let mut subscription = bus(&server).subscribe().await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
    for text in [r#"{"key": "user:1"}"#, "nonsense"] {
        publish(&server, text);
    }
    assert_eq!(next(&mut subscription).await, BusEvent::Foreign(vec![key("user:1")]));
    assert_eq!(next(&mut subscription).await, BusEvent::Gap(BusGap::Undecodable));
}

#[tokio::test]
async fn foreigners_hear_one_object_for_each_subject_and_nothing_of_heartbeats() {
    let server = RedisServer::start();
    let bus = bus(&server);
    let mut subscription = bus.subscribe().await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
    bus.publish(&message(Body::Heartbeat { last: 0, every: Duration::from_secs(2), confirm: false }))
        .await
        .unwrap();
    let subjects = vec![key("user:1"), Subject::Clear { pending: false }];
    bus.publish(&message(Body::Invalidations { sequence: 1, confirm: false, subjects })).await.unwrap();
    bus.publish(&message(Body::Goodbye { last: 1 })).await.unwrap();
    publish(&server, r#"{"tag": "end"}"#);
    let pattern = Subject::Pattern { pattern: "user:*".into(), pending: false };
    let tag = Subject::Tag { tag: "end".into(), pending: false };
    for subject in [key("user:1"), pattern, tag] {
        assert_eq!(next(&mut subscription).await, BusEvent::Foreign(vec![subject]));
    }
}

#[tokio::test]
async fn every_subscription_is_confirmed_anew() {
    let server = RedisServer::start();
    let mut subscription = bus(&server).subscribe().await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
    let killed: i64 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).query(&mut raw(&server)).unwrap();
    assert_eq!(killed, 1);
    assert_eq!(next(&mut subscription).await, BusEvent::Interrupted);
    assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
}
