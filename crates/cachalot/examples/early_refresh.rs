//! A value that is read often is reloaded before its TTL is over, and no reader ever waits for it. The load
//! takes 20 ms, the TTL is 300 ms, and there are 1,000 reads a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cachalot::units::millis;
use cachalot::{Cache, CacheBuilder, Load, LoaderError, Memory};
use tokio::time::sleep;

/// A report that takes its time. It numbers its editions.
#[derive(Clone, Default)]
struct Reports(Arc<AtomicU64>);

impl Reports {
    async fn write(self, _: Load<&'static str>) -> Result<u64, LoaderError> {
        sleep(millis(20)).await;
        Ok(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

fn builder() -> CacheBuilder<&'static str, u64> {
    Cache::builder("reports").memory(Memory::entries(100)).ttl(millis(300))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Each read may refresh; the nearer the end and the longer the load, the likelier.
    let xfetch = builder().xfetch(1.0).build()?;
    // The first read after two thirds of the TTL refreshes; all keys together at most 100 times a second.
    let ratio = builder().early_refresh(0.66).refresh_budget(100, 10).build()?;
    let plain = builder().build()?;

    for (name, cache) in [("plain", plain), ("xfetch", xfetch), ("ratio", ratio)] {
        let reports = Reports::default();
        cache.get_or_load(&"sales", |load| reports.clone().write(load)).await?;

        let (mut longest, mut last) = (Duration::ZERO, 0);
        let end = Instant::now() + millis(500);
        while Instant::now() < end {
            let began = Instant::now();
            let report = cache.get_or_load(&"sales", |load| reports.clone().write(load)).await?;
            longest = longest.max(began.elapsed());
            last = *report;
            sleep(millis(1)).await;
        }
        let stats = cache.stats();
        println!(
            "{name:7} edition {last}, {} early refreshes, {} misses, longest read {longest:.1?}",
            stats.early_refreshes, stats.misses
        );
        cache.shutdown(millis(100)).await?;
    }
    Ok(())
}
