use cachalot_core::ErrorKind;
use cachalot_core::codec::Json;
use cachalot_redis_backend::patterns::{Topic, TopicEvent, TopicSubscription};
use tokio::time::timeout;

use super::*;

fn news(patterns: &RedisPatterns) -> Topic<u32> {
    patterns.topic(&namespace("news"), "sport", Json).unwrap()
}

async fn next(subscription: &mut TopicSubscription<u32>) -> TopicEvent<u32> {
    timeout(AGES, subscription.next()).await.expect("nothing comes").unwrap()
}

#[tokio::test]
async fn what_is_published_after_subscribe_returned_is_heard_by_all_in_order() {
    for protocol in ["", "/?protocol=resp2"] {
        let server = RedisServer::start();
        let patterns = connect(format!("{}{protocol}", server.url())).await.unwrap().patterns();
        let topic = news(&patterns);
        assert_eq!(topic.publish(&0).await.unwrap(), 0, "nobody listens");
        let (mut one, mut other) = (topic.subscribe().await.unwrap(), topic.subscribe().await.unwrap());
        for value in 1..=100 {
            assert_eq!(topic.publish(&value).await.unwrap(), 2);
        }
        for value in 1..=100 {
            assert_eq!(next(&mut one).await, TopicEvent::Message(value));
            assert_eq!(next(&mut other).await, TopicEvent::Message(value));
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_and_made_again_is_a_gap_and_what_follows_is_heard() {
    let (server, patterns) = start().await;
    let topic = news(&patterns);
    let mut subscription = topic.subscribe().await.unwrap();
    topic.publish(&1).await.unwrap();
    assert_eq!(next(&mut subscription).await, TopicEvent::Message(1));
    for value in 2..5 {
        tell(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]);
        topic.publish(&99).await.unwrap();
        assert_eq!(next(&mut subscription).await, TopicEvent::Gap);
        // Told when it is over: nothing after it is missed.
        assert_eq!(topic.publish(&value).await.unwrap(), 1);
        assert_eq!(next(&mut subscription).await, TopicEvent::Message(value));
    }
}

#[tokio::test]
async fn a_server_that_was_away_is_a_gap() {
    let (server, patterns) = start().await;
    let topic = news(&patterns);
    let mut subscription = topic.subscribe().await.unwrap();
    server.kill();
    let waiting = tokio::spawn(async move {
        let event = next(&mut subscription).await;
        (subscription, event)
    });
    server.restart();
    let (mut subscription, event) = waiting.await.unwrap();
    assert_eq!(event, TopicEvent::Gap);
    let published = async {
        while topic.publish(&1).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AGES, published).await.unwrap();
    assert_eq!(next(&mut subscription).await, TopicEvent::Message(1));
}

#[tokio::test]
async fn who_reads_too_slowly_finds_a_gap_and_then_what_is_new() {
    let (_server, patterns) = start().await;
    let topic = news(&patterns);
    let mut subscription = topic.subscribe().await.unwrap();
    for value in 0..3_000 {
        topic.publish(&value).await.unwrap();
    }
    let mut seen = Vec::new();
    loop {
        match next(&mut subscription).await {
            TopicEvent::Gap => seen.push(None),
            TopicEvent::Message(value) => seen.push(Some(value)),
        }
        if seen.last() == Some(&Some(2_999)) {
            break;
        }
    }
    assert!(seen.contains(&None) && seen.len() < 3_000, "{}", seen.len());
    let values: Vec<u32> = seen.into_iter().flatten().collect();
    assert!(values.is_sorted(), "{values:?}");
}

#[tokio::test]
async fn a_next_that_is_dropped_anywhere_loses_no_message() {
    let (_server, patterns) = start().await;
    let topic = news(&patterns);
    let mut subscription = topic.subscribe().await.unwrap();
    let mut heard = Vec::new();
    for value in 0..50 {
        topic.publish(&value).await.unwrap();
        if let Some(event) = dropped_after(value as usize % 3, subscription.next()).await {
            heard.push(event.unwrap());
        }
    }
    while heard.len() < 50 {
        heard.push(next(&mut subscription).await);
    }
    assert_eq!(heard, (0..50).map(TopicEvent::Message).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_and_what_follows_is_heard() {
    let (server, patterns) = start().await;
    let topic = news(&patterns);
    let mut subscription = topic.subscribe().await.unwrap();
    tell(&server, &["PUBLISH", "news:sport", "hunter2"]);
    topic.publish(&5).await.unwrap();
    let error = timeout(AGES, subscription.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("news:sport") && !error.to_string().contains("hunter2"), "{error}");
    assert_eq!(next(&mut subscription).await, TopicEvent::Message(5));
}

#[tokio::test]
async fn key_prefixes_keep_topics_apart() {
    let server = RedisServer::start();
    let prefixed = crate::support::patient(server.url()).key_prefix("shop:").connect().await.unwrap();
    let topic = news(&prefixed.patterns());
    let mut subscription = topic.subscribe().await.unwrap();
    tell(&server, &["PUBLISH", "news:sport", "1"]);
    tell(&server, &["PUBLISH", "shop:news:sport", "2"]);
    assert_eq!(next(&mut subscription).await, TopicEvent::Message(2));
}
