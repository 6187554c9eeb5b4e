//! A slow loader is fenced: the value it read before an invalidation never comes back.
//!
//! Starts a `redis-server` of its own and stops it at the end:
//! `cargo run -p cachalot-redis-backend --example fenced_lease`.
// It speaks to people.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use cachalot_core::{Backend, Entropy, Key, LeaseBackend, LeaseReply, Nonce, Put, Result, Token};
use cachalot_redis_backend::Redis;
use cachalot_testkit::RedisServer;

const TERM: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    let server = RedisServer::start();
    let redis = Redis::builder(server.url()).key_prefix("shop:").connect().await?;
    let (entropy, key) = (Entropy::thread(), Key::new("price:42"));
    let put = |text: &'static str| Put {
        payload: text.into(),
        nonce: Nonce::draw(&entropy),
        ttl: Duration::from_secs(300),
    };

    // A loader wins the right to load, and reads the old price from the database ...
    let slow = Token::draw(&entropy);
    let reply = redis.get_or_lease(&key, slow, TERM, None).await?;
    println!("the slow loader asks:       {}", told(&reply));
    // ... while others who want it are asked to wait.
    let reply = redis.get_or_lease(&key, Token::draw(&entropy), TERM, None).await?;
    println!("another one asks meanwhile: {}", told(&reply));

    // The price changes in the database, and is removed from the cache: nothing is stored, but the right is.
    println!("the price changes, remove:  {:?}", redis.remove(&key).await?);

    // The next one loads the new price, and stores it.
    let quick = Token::draw(&entropy);
    println!("the quick loader asks:      {}", told(&redis.get_or_lease(&key, quick, TERM, None).await?));
    println!("the quick loader puts:      {:?}", redis.put_leased(&key, quick, put("9.99 (new)")).await?);

    // Only now the slow one is done. Its token is no longer outstanding.
    println!("the slow loader puts:       {:?}", redis.put_leased(&key, slow, put("4.99 (old)")).await?);

    let price = redis.get(&key).await?.map(|record| record.payload);
    println!("the cache holds:            {price:?}");
    assert_eq!(price.as_deref(), Some(b"9.99 (new)".as_slice()));
    Ok(())
}

fn told(reply: &LeaseReply) -> &'static str {
    match reply {
        LeaseReply::Hit(_) => "here it is",
        LeaseReply::Lease { .. } => "load it, you have the lease",
        LeaseReply::Busy { .. } => "somebody loads it, wait",
    }
}
