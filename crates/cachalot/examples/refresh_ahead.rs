//! Refresh-ahead: the bestseller list is never loaded while a customer waits, and what customers look at most stays
//! warm by itself. The TTL is 500 ms, a query takes 20 ms, a round is every 100 ms.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cachalot::units::millis;
use cachalot::{Cache, Memory, RefreshAhead, Source};
use tokio::time::sleep;

/// Bestseller lists by their shelf. It numbers its editions and counts its queries.
#[derive(Default)]
struct Lists {
    edition: AtomicU64,
    queries: AtomicU64,
}

#[async_trait]
impl Source<String, String> for Lists {
    type Error = io::Error;

    async fn load(&self, shelf: &String) -> io::Result<Option<String>> {
        Ok(self.load_many(std::slice::from_ref(shelf)).await?.pop().flatten())
    }

    async fn load_many(&self, shelves: &[String]) -> io::Result<Vec<Option<String>>> {
        sleep(millis(20)).await;
        self.queries.fetch_add(1, Ordering::Relaxed);
        let edition = self.edition.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(shelves.iter().map(|shelf| Some(format!("{shelf}, edition {edition}"))).collect())
    }

    async fn store(&self, _: &String, _: &String) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    async fn delete(&self, _: &String) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::builder("bestsellers").memory(Memory::entries(1_000)).ttl(millis(500)).build()?;
    let lists = Arc::new(Lists::default());
    let warm = RefreshAhead::builder(cache.clone(), lists.clone())
        .every(millis(100))
        .ratio(0.5)
        .budget(50, 10) // loads a second, and at once
        .top(2) // and the two that are read most
        .build()?;

    let fiction = "fiction".to_owned();
    let registered = warm.register(fiction.clone());
    sleep(millis(250)).await;

    let mut longest = Duration::ZERO;
    let end = Instant::now() + millis(1_500);
    while Instant::now() < end {
        let began = Instant::now();
        warm.get(&fiction).await?;
        longest = longest.max(began.elapsed());
        sleep(millis(5)).await;
    }
    let list = warm.get(&fiction).await?;
    println!("1.5 s, three lives of {fiction}: now {:?}, longest read {longest:.1?}", list.as_deref());
    println!("{} queries; {:?}", lists.queries.load(Ordering::Relaxed), warm.stats());

    // It is still among the most read, and stays warm without being registered.
    drop(registered);
    sleep(millis(700)).await;
    println!(
        "not registered any more: {:?}",
        warm.get(&fiction).await?.map(|list| (list.tier(), list.age()))
    );

    cache.shutdown(millis(500)).await?;
    Ok(())
}
