//! Two caches that tell each other what they invalidate, by key and by tag; here within one process. Between
//! processes the bus is `Redis::builder(url).bus().pub_sub()?`, and nothing else is different.

use std::error::Error;
use std::time::Duration;

use cachalot::{Cache, LoadError, LocalBus, Memory, MemoryBackend};
use tokio::time::{sleep, timeout};

type Names = Cache<u64, String>;

/// A node of a fleet: memory of its own, the shared tier, the bus.
fn node(shared: &MemoryBackend, bus: &LocalBus) -> Result<Names, cachalot::Error> {
    Cache::builder("names").memory(Memory::entries(1_000)).backend(shared.clone()).bus(bus.clone()).build()
}

async fn read(node: &Names, id: u64, in_database: &'static str) -> Result<String, LoadError> {
    let name = node.get_or_load(&id, |load| async move {
        load.tag("names");
        Ok(in_database.to_owned())
    });
    Ok(name.await?.into_inner().to_string())
}

/// Waits for what happens by itself: a subscription, a message. Milliseconds.
async fn until(happened: impl Fn() -> bool) -> Result<(), Box<dyn Error>> {
    let looking = async {
        while !happened() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    Ok(timeout(Duration::from_secs(10), looking).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (shared, bus) = (MemoryBackend::new(), LocalBus::new());
    let (one, two) = (node(&shared, &bus)?, node(&shared, &bus)?);
    // Before it has subscribed a node does not trust its memory, and counts that as its first gap.
    until(|| one.stats().gaps > 0 && two.stats().gaps > 0).await?;

    println!(
        "one loads {}, two finds {} in the shared tier",
        read(&one, 7, "Ada").await?,
        read(&two, 7, "?").await?
    );
    assert_eq!(read(&two, 7, "?").await?, "Ada");

    one.remove(&7).await?;
    until(|| two.get_local(&7).is_none()).await?;
    println!("one removes it, two forgets it, and loads {}", read(&two, 7, "Ada Lovelace").await?);
    assert_eq!(read(&one, 7, "?").await?, "Ada Lovelace");

    for node in [&one, &two] {
        read(node, 8, "Grace").await?;
        assert!(node.get_local(&8).is_some());
    }
    two.remove_tag("names").await?;
    until(|| one.get_local(&7).is_none() && one.get_local(&8).is_none()).await?;
    println!("two removes their tag, one forgets both");
    assert!(one.get(&7).await.is_none() && two.get(&8).await.is_none());
    assert!(one.stats().heard > 0 && two.stats().heard > 0);

    for node in [one, two] {
        node.shutdown(Duration::from_secs(5)).await?;
    }
    Ok(())
}
