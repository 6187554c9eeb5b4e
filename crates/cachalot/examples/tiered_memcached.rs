//! Memory over Memcached: two processes, one load, tags, and a clear. Starts its own memcached.

use std::time::Duration;

use cachalot::{Cache, EntryOptions, Memcached, Memory, Removal, Tags, Tier};
use cachalot_testkit::MemcachedServer;

async fn process(url: &str) -> Result<Cache<u64, String>, cachalot::Error> {
    Cache::builder("users")
        .memory(Memory::entries(1000))
        .backend(Memcached::connect(url).await?)
        .ttl(Duration::from_secs(300))
        .clearable()
        .build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = MemcachedServer::start();
    let (one, two) = (process(&server.url()).await?, process(&server.url()).await?);

    let loaded = one.get_or_load(&7, |_| async { Ok("Ada".to_owned()) }).await?;
    let read = two.get_or_load(&7, |_| async { Ok("loaded again".to_owned()) }).await?;
    println!("one: {} from {:?}; two: {} from {:?}", *loaded, loaded.tier(), *read, read.tier());
    assert_eq!((&**read, read.tier()), ("Ada", Tier::Backend));

    // Process one is slow: it has read the old name when process two removes the key.
    assert_eq!(one.remove(&7).await?, Removal::Removed);
    let (has_read, wait_until_read) = tokio::sync::oneshot::channel();
    let (let_go, wait_to_go) = tokio::sync::oneshot::channel::<()>();
    let slow = tokio::spawn({
        let one = one.clone();
        async move {
            let load = |_| async move {
                let _ = has_read.send(());
                let _ = wait_to_go.await;
                Ok("Ada".to_owned())
            };
            one.get_or_load(&7, load).await
        }
    });
    wait_until_read.await?;
    assert_eq!(two.remove(&7).await?, Removal::Removed);
    let _ = let_go.send(());
    slow.await??;
    println!("{} store of an old value was refused", one.stats().fenced);
    assert!(one.get(&7).await.is_none());

    // Memcached does not list its keys; tags need no list.
    let tags = Tags::new(["team:1"])?;
    let tagged = one.with(|options: EntryOptions| options.tags(tags));
    tagged.insert(8, "Grace".to_owned()).await?;
    assert_eq!(two.get(&8).await.map(|hit| hit.tier()), Some(Tier::Backend));
    two.remove_tag("team:1").await?;
    let again = two.get_or_load(&8, |_| async { Ok("Grace, loaded anew".to_owned()) }).await?;
    println!("after the tag's removal: {}", *again);
    assert_eq!(&**again, "Grace, loaded anew");
    two.clear().await?;
    assert!(two.get(&8).await.is_none());
    Ok(())
}
