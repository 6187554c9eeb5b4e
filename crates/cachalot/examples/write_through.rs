//! Write-through and write-around: both write to the source and leave no old value behind; the one fills the cache on
//! its way, the other leaves that to the next reader.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cachalot::{Cache, Inserted, Memory, Removal, Source, WriteAround, WriteError, WriteThrough};

/// Pieces in stock, by product. Counts what it is asked, and can be made to refuse.
#[derive(Default)]
struct Stock {
    rows: Mutex<HashMap<u64, u32>>,
    reads: AtomicU32,
    writes: AtomicU32,
    refuses: AtomicBool,
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stock is being counted")
    }
}

impl std::error::Error for Refused {}

impl Stock {
    fn rows(&self) -> MutexGuard<'_, HashMap<u64, u32>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One transaction.
    fn write(&self, change: impl FnOnce(&mut HashMap<u64, u32>)) -> Result<(), Refused> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(Refused);
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        change(&mut self.rows());
        Ok(())
    }

    /// Reads and writes so far.
    fn asked(&self) -> (u32, u32) {
        (self.reads.load(Ordering::Relaxed), self.writes.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl Source<u64, u32> for Stock {
    type Error = Refused;

    async fn load(&self, product: &u64) -> Result<Option<u32>, Refused> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.rows().get(product).copied())
    }

    async fn store(&self, product: &u64, pieces: &u32) -> Result<(), Refused> {
        self.store_many(&[(product, pieces)]).await
    }

    async fn store_many(&self, items: &[(&u64, &u32)]) -> Result<(), Refused> {
        self.write(|rows| rows.extend(items.iter().map(|(product, pieces)| (**product, **pieces))))
    }

    async fn delete(&self, product: &u64) -> Result<(), Refused> {
        self.write(|rows| rows.retain(|known, _| known != product))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    write_through().await?;
    write_around().await
}

async fn write_through() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::builder("stock").memory(Memory::entries(1_000)).build()?;
    let stock: WriteThrough<u64, u32, Arc<Stock>> = WriteThrough::new(cache, Arc::default());
    let source = stock.reads().source().clone();
    let pieces = async |product: u64| stock.get(&product).await.map(|pieces| pieces.map(|pieces| *pieces));

    println!("write-through");
    assert_eq!(stock.put(7, 12).await?, Inserted::Stored);
    println!("  7 has {:?}: {:?} reads and writes of the source", pieces(7).await?, source.asked());
    assert_eq!(source.asked(), (0, 1));

    stock.put_many([(7, 11), (8, 40), (9, 3)]).await?;
    println!("  three more: {:?}, in one transaction", source.asked());
    assert_eq!((pieces(8).await?, source.asked()), (Some(40), (0, 2)));

    // What the source refuses has not happened; what the cache had is loaded again.
    source.refuses.store(true, Ordering::Relaxed);
    let refused = stock.put(7, 0).await;
    assert!(matches!(refused, Err(WriteError::Source(Refused))));
    println!("  {}; 7 has {:?}", refused.err().ok_or("it was refused")?, pieces(7).await?);
    assert_eq!((pieces(7).await?, source.asked()), (Some(11), (1, 2)));
    source.refuses.store(false, Ordering::Relaxed);

    assert_eq!(stock.delete(&9).await?, Removal::Removed);
    assert_eq!(pieces(9).await?, None);
    Ok(())
}

async fn write_around() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::builder("counts").memory(Memory::entries(1_000)).build()?;
    let counts: WriteAround<u64, u32, Arc<Stock>> = WriteAround::new(cache, Arc::default());
    let source = counts.reads().source().clone();

    println!("write-around");
    for count in 1..=100 {
        counts.put(7, count).await?;
    }
    println!("  100 writes: {:?}, and nothing cached", source.asked());
    assert!(counts.cache().get(&7).await.is_none());

    for _ in 0..2 {
        assert_eq!(counts.get(&7).await?.as_deref(), Some(&100));
    }
    println!("  the first reader loads it: {:?}", source.asked());
    assert_eq!(source.asked(), (1, 100));
    Ok(())
}
