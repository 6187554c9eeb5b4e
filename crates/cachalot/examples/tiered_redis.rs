//! Memory over Redis: two processes, one load, and a removal that a slow load cannot undo. Starts its own
//! redis-server.

use std::time::Duration;

use cachalot::{Cache, Memory, Redis, Removal, Tier};
use cachalot_testkit::RedisServer;

async fn process(url: &str) -> Result<Cache<u64, String>, cachalot::Error> {
    Cache::builder("users")
        .memory(Memory::entries(1000))
        .backend(Redis::connect(url).await?)
        .ttl(Duration::from_secs(300))
        .build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = RedisServer::start();
    let (one, two) = (process(&server.url()).await?, process(&server.url()).await?);

    let loaded = one.get_or_load(&7, |_| async { Ok("Ada".to_owned()) }).await?;
    let read = two.get_or_load(&7, |_| async { Ok("loaded again".to_owned()) }).await?;
    println!("one: {} from {:?}; two: {} from {:?}", *loaded, loaded.tier(), *read, read.tier());
    assert_eq!((&**read, read.tier()), ("Ada", Tier::Backend));

    // Process one is slow: it has read the old name when process two removes the key.
    one.remove(&7).await?;
    two.remove(&7).await?;
    let (has_read, wait_until_read) = tokio::sync::oneshot::channel();
    let (let_go, wait_to_go) = tokio::sync::oneshot::channel::<()>();
    let slow = tokio::spawn({
        let one = one.clone();
        async move {
            let load = |_| async move {
                let old = "Ada".to_owned();
                let _ = has_read.send(());
                let _ = wait_to_go.await;
                Ok(old)
            };
            one.get_or_load(&7, load).await
        }
    });
    wait_until_read.await?;
    assert_eq!(two.remove(&7).await?, Removal::Removed);
    let _ = let_go.send(());
    println!("the slow caller itself gets {}", *slow.await??);

    assert!(one.get(&7).await.is_none() && two.get(&7).await.is_none());
    println!("and nobody after it: {} store was refused", one.stats().fenced);
    Ok(())
}
