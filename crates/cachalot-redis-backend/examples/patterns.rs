//! What Redis is good for beside a cache: objects, a leaderboard, a queue, a topic, a counter, a limit, a batch.
//!
//! Starts a `redis-server` of its own and stops it at the end: `cargo run -p cachalot-redis-backend --example patterns`.
//! What each promises: `docs/redis-patterns.md`. The queue that loses nothing has an example of its own,
//! `reliable_queue`.
// It speaks to people.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use cachalot_core::codec::Json;
use cachalot_core::{Namespace, Result};
use cachalot_redis_backend::Redis;
use cachalot_redis_backend::patterns::{Admission, Leaderboard, Queue, RedisPatterns, Topic, TopicEvent};
use cachalot_testkit::RedisServer;

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::main]
async fn main() -> Result<()> {
    let server = RedisServer::start();
    let redis = Redis::builder(server.url()).key_prefix("shop:").connect().await?;
    let patterns = redis.patterns();
    objects(&patterns).await?;
    leaderboard(&patterns).await?;
    queue(&patterns).await?;
    topic(&patterns).await?;
    counter(&patterns).await?;
    limit(&patterns).await?;
    batch(&patterns).await
}

/// An object is a hash. It is set with its time to live, and updated by field without touching that.
async fn objects(patterns: &RedisPatterns) -> Result<()> {
    let users = patterns.hashes(&Namespace::new("users")?, Json);
    let ann = users.object().with("name", &"Ann".to_owned())?.with("visits", &1_u64)?;
    users.set(&42_u32, &ann, HOUR).await?;
    users.update(&42_u32, "visits", &2_u64).await?;
    let visits = users.field::<u64>(&42_u32, "visits").await?;
    let absent = users.update(&43_u32, "visits", &1_u64).await?;
    println!("object:      visits {visits:?}; an update of an absent object does something: {absent}");
    assert_eq!((visits, absent), (Some(2), false));
    Ok(())
}

async fn leaderboard(patterns: &RedisPatterns) -> Result<()> {
    let sold: Leaderboard<u32> = patterns.leaderboard(&Namespace::new("sold")?, "books");
    for (product, pieces) in [(1_u32, 30.0), (2, 50.0), (3, 10.0), (4, 40.0)] {
        sold.add(&product, pieces).await?;
    }
    sold.increment(&3_u32, 35.0).await?;
    let top: Vec<u32> = sold.top(3).await?.into_iter().map(|one| one.member).collect();
    let around = sold.around(&3_u32, 1).await?.unwrap_or_default();
    println!("leaderboard: top {top:?}, around 3: {around:?}");
    assert_eq!((top, around.len()), (vec![2, 3, 4], 3));
    Ok(())
}

/// The simple queue: a pop waits on a connection of its own.
async fn queue(patterns: &RedisPatterns) -> Result<()> {
    let mails: Queue<String> = patterns.queue(&Namespace::new("mails")?, "out", Json);
    let waiting = {
        let mails = mails.clone();
        tokio::spawn(async move { mails.pop(Duration::from_secs(10)).await })
    };
    mails.push(&["welcome".to_owned(), "goodbye".to_owned()]).await?;
    if let Ok(popped) = waiting.await {
        println!("queue:       popped {:?}, {} left", popped?, mails.len().await?);
    }
    Ok(())
}

/// Pub/Sub keeps nothing; what may have been missed is told.
async fn topic(patterns: &RedisPatterns) -> Result<()> {
    let news: Topic<String> = patterns.topic(&Namespace::new("news")?, "prices", Json)?;
    let mut subscription = news.subscribe().await?;
    news.publish(&"all cheaper".to_owned()).await?;
    match subscription.next().await? {
        TopicEvent::Message(text) => println!("topic:       heard {text:?}"),
        TopicEvent::Gap => println!("topic:       something may have been missed: look it up"),
    }
    Ok(())
}

async fn counter(patterns: &RedisPatterns) -> Result<()> {
    let vouchers = patterns.capped_counter(&Namespace::new("vouchers")?, 3, HOUR)?;
    let mut counted = Vec::new();
    for _ in 0..5 {
        counted.push(vouchers.increment("spring").await?);
    }
    println!("counter:     {counted:?}");
    assert_eq!(counted, [Some(1), Some(2), Some(3), None, None]);
    Ok(())
}

async fn limit(patterns: &RedisPatterns) -> Result<()> {
    let api = patterns.rate_limit(&Namespace::new("api")?, 2, Duration::from_secs(60))?;
    for _ in 0..3 {
        match api.check("10.0.0.7").await? {
            Admission::Allowed => println!("limit:       let through"),
            Admission::Denied { retry_after } => {
                println!("limit:       denied, Retry-After: {}", retry_after.as_secs_f64().ceil());
            }
        }
    }
    Ok(())
}

/// One round trip, however many keys; each has an outcome of its own.
async fn batch(patterns: &RedisPatterns) -> Result<()> {
    let stock = patterns.batch::<u32>(&Namespace::new("stock")?, Json);
    for outcome in stock.set(&[(1_u32, 12), (2, 0), (3, 7)], HOUR).await {
        outcome?;
    }
    let found: Result<Vec<_>> = stock.get(&[3_u32, 4, 1]).await.into_iter().collect();
    println!("batch:       {:?}", found?);
    Ok(())
}
