//! A restart that nobody notices: memory is written to a file and put back, and what is not in it is warmed up from the
//! source.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use cachalot::units::{hours, seconds};
use cachalot::{Cache, Memory, ReadThrough, SnapshotFile, Source, Ttl};

/// A thousand products. It counts its queries.
#[derive(Default)]
struct Products(AtomicU64);

#[async_trait]
impl Source<u64, String> for Products {
    type Error = io::Error;

    async fn load(&self, id: &u64) -> io::Result<Option<String>> {
        Ok(self.load_many(&[*id]).await?.pop().flatten())
    }

    async fn load_many(&self, ids: &[u64]) -> io::Result<Vec<Option<String>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(ids.iter().map(|id| (*id < 1_000).then(|| format!("product {id}"))).collect())
    }

    async fn store(&self, _: &u64, _: &String) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    async fn delete(&self, _: &u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// What each process does when it starts.
fn start(products: &Arc<Products>) -> cachalot::Result<ReadThrough<u64, String, Arc<Products>>> {
    let cache = Cache::builder("products").memory(Memory::entries(10_000)).ttl(Ttl::hours(1)).build()?;
    Ok(ReadThrough::new(cache, products.clone()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let products = Arc::new(Products::default());
    let path = std::env::temp_dir().join(format!("cachalot-example-{}.snapshot", std::process::id()));
    // Raised whenever the type changes; after two hours it is not worth reading.
    let file = SnapshotFile::at(path).schema(1).max_age(hours(2));

    let shop = start(&products)?;
    println!("restored at the first start: {:?}", shop.cache().restore(file.clone()).await?.refused);
    let warmed = shop
        .warm_up(0..800)
        .chunk(200)
        .on_progress(|at| println!("  {} of {:?}, {} failed", at.done, at.total, at.failed))
        .await;
    println!("warmed up: {} loaded by {} queries", warmed.loaded, products.0.load(Ordering::Relaxed));
    shop.cache().shutdown(seconds(5)).await?;
    println!("written down: {:?}", shop.cache().snapshot(file.clone()).await?);

    let shop = start(&products)?;
    let restored = shop.cache().restore(file).await?;
    println!("put back at the next start: {}, complete: {}", restored.entries, restored.is_complete);
    let warmed = shop.warm_up(0..1_000).await;
    println!("warmed up: {} loaded, {} were there", warmed.loaded, warmed.present);
    assert_eq!((restored.entries, warmed.loaded, warmed.present), (800, 200, 800));
    Ok(())
}
