//! Two buses on one Redis, and what each says when its connection is killed.
//!
//! Starts a `redis-server` of its own and stops it at the end:
//! `cargo run -p cachalot-redis-backend --example bus`.
// It speaks to people.
#![allow(clippy::print_stdout)]

use cachalot_core::{
    Body, Bus, BusEvent, Entropy, Key, Message, Namespace, PublisherId, Result, Subject, Subscription,
};
use cachalot_redis_backend::Redis;
use cachalot_testkit::RedisServer;

#[tokio::main]
async fn main() -> Result<()> {
    let server = RedisServer::start();
    let settings = || Redis::builder(server.url()).key_prefix("shop:").bus();
    let publisher = PublisherId::draw(&Entropy::thread());

    println!("Pub/Sub keeps nothing:");
    let bus = settings().pub_sub()?;
    let mut subscription = bus.subscribe().await?;
    tell(&mut subscription, "confirmed", BusEvent::Confirmed).await?;
    bus.publish(&removal(publisher, 1)?).await?;
    tell(&mut subscription, "told", BusEvent::Message(removal(publisher, 1)?)).await?;
    kill(&server, "pubsub");
    bus.publish(&removal(publisher, 2)?).await?;
    tell(&mut subscription, "killed; meanwhile 2 was published", BusEvent::Interrupted).await?;
    tell(&mut subscription, "back, and what came between may be lost", BusEvent::Confirmed).await?;

    println!("A stream is read on where it was left:");
    let bus = settings().stream()?;
    let mut subscription = bus.subscribe().await?;
    tell(&mut subscription, "confirmed", BusEvent::Confirmed).await?;
    bus.publish(&removal(publisher, 3)?).await?;
    tell(&mut subscription, "told", BusEvent::Message(removal(publisher, 3)?)).await?;
    kill(&server, "normal");
    bus.publish(&removal(publisher, 4)?).await?;
    tell(&mut subscription, "killed; meanwhile 4 was published", BusEvent::Interrupted).await?;
    tell(&mut subscription, "back, and nothing is lost", BusEvent::Resumed).await?;
    tell(&mut subscription, "told", BusEvent::Message(removal(publisher, 4)?)).await?;
    Ok(())
}

async fn tell(subscription: &mut Box<dyn Subscription>, what: &str, expected: BusEvent) -> Result<()> {
    let event = subscription.next().await?;
    println!("  {what}: {event:?}");
    assert_eq!(event, expected);
    Ok(())
}

fn removal(publisher: PublisherId, sequence: u64) -> Result<Message> {
    let subjects = vec![Subject::Key { key: Key::new("prices:42"), pending: false }];
    let body = Body::Invalidations { sequence, confirm: false, subjects };
    Ok(Message { publisher, namespace: Namespace::new("prices")?, body })
}

/// Ends connections, as an operator may, or a fail-over.
fn kill(server: &RedisServer, kind: &str) {
    let client = redis::Client::open(server.url());
    let killed = client.and_then(|client| {
        let mut connection = client.get_connection()?;
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", kind, "SKIPME", "yes"]).query::<i64>(&mut connection)
    });
    assert!(killed.is_ok_and(|count| count > 0), "no connection was there");
}
