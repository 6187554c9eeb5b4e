//! A queue that loses nothing: a consumer dies with an item in its hands, and another one gets it.
//!
//! Starts a `redis-server` of its own and stops it at the end:
//! `cargo run -p cachalot-redis-backend --example reliable_queue`.
// It speaks to people.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use cachalot_core::codec::Json;
use cachalot_core::{Namespace, Result};
use cachalot_redis_backend::Redis;
use cachalot_redis_backend::patterns::{Consumer, ReliableQueue};
use cachalot_testkit::RedisServer;

/// A consumer that has not shown itself for so long counts as dead.
const TERM: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<()> {
    let server = RedisServer::start();
    let patterns = Redis::connect(server.url()).await?.patterns();
    let orders: ReliableQueue<u32> = patterns.reliable_queue(&Namespace::new("orders")?, "to-ship", Json);
    orders.push(&[1, 2, 3]).await?;

    // Ann takes an order, and is never heard of again. It is gone from the queue, not from the server.
    let mut ann = orders.consumer("ann", TERM)?;
    let lost = ann.take(WAIT).await?;
    println!(
        "ann has taken  {:?} and dies; {} wait",
        lost.map(|item| item.value()).transpose()?,
        orders.len().await?
    );
    drop(ann);

    // Bob ships what waits. Each order stays in the server until he says that it is done.
    let mut bob = orders.consumer("bob", TERM)?;
    let mut shipped = ship_all(&mut bob).await?;
    println!("bob has shipped {shipped:?}");

    // Somebody looks now and then for consumers that are dead.
    let mut recovered = 0;
    while recovered == 0 {
        bob.keep_alive().await?;
        tokio::time::sleep(TERM / 10).await;
        recovered = orders.recover().await?;
    }
    println!("recovered: {recovered}");
    shipped.extend(ship_all(&mut bob).await?);
    println!("bob has shipped {shipped:?}");
    assert_eq!(shipped, [2, 3, 1]);
    Ok(())
}

async fn ship_all(consumer: &mut Consumer<u32>) -> Result<Vec<u32>> {
    let mut shipped = Vec::new();
    while let Some(item) = consumer.take(WAIT).await? {
        let order = item.value()?;
        // Here it is shipped. Whoever dies before the next line leaves it to be shipped again: at least once.
        if item.ack().await? {
            shipped.push(order);
        }
    }
    Ok(shipped)
}
