//! Cache-aside: the caller knows the database. It reads through a loader, writes to the database, and then removes
//! what has become wrong. In the other order the old value may come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cachalot::{Cache, Memory, Removal};

/// A table of prices in cents, and how often it was asked.
#[derive(Clone, Default)]
struct Prices(Arc<Mutex<(HashMap<u64, u32>, u32)>>);

impl Prices {
    async fn read(&self, product: u64) -> Option<u32> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.1 += 1;
        table.0.get(&product).copied()
    }

    async fn write(&self, product: u64, cents: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.insert(product, cents);
    }

    fn queries(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[derive(Clone)]
struct Shop {
    prices: Prices,
    cache: Cache<u64, u32>,
}

impl Shop {
    async fn price(&self, product: u64) -> Result<Option<u32>, cachalot::LoadError> {
        let load = |load: cachalot::Load<u64>| {
            let prices = self.prices.clone();
            async move { Ok(prices.read(*load.key()).await) }
        };
        Ok(self.cache.get_or_load_opt(&product, load).await?.map(|price| *price))
    }

    /// In a task: a caller who hangs up between the two steps must not leave the old price cached.
    async fn reprice(&self, product: u64, cents: u32) -> Result<Removal, Box<dyn std::error::Error>> {
        let shop = self.clone();
        let both = tokio::spawn(async move {
            shop.prices.write(product, cents).await; // Committed first,
            shop.cache.remove(&product).await // then forgotten.
        });
        Ok(both.await??)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::builder("prices").memory(Memory::entries(1_000)).build()?;
    let shop = Shop { prices: Prices::default(), cache };
    shop.prices.write(7, 450).await;

    for _ in 0..100 {
        assert_eq!(shop.price(7).await?, Some(450));
    }
    println!("100 reads, {} query", shop.prices.queries());

    assert_eq!(shop.reprice(7, 495).await?, Removal::Removed);
    println!("repriced: {:?}, {} queries", shop.price(7).await?, shop.prices.queries());
    assert_eq!((shop.price(7).await?, shop.prices.queries()), (Some(495), 2));

    // The wrong order: removed, then loaded by somebody, then written. Nobody is told that it has changed.
    shop.cache.remove(&7).await?;
    shop.price(7).await?;
    shop.prices.write(7, 520).await;
    println!("removed too early: {:?} until its TTL ends", shop.price(7).await?);
    assert_eq!(shop.price(7).await?, Some(495));
    Ok(())
}
