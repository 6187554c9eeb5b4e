//! The database is down: its callers get the old value, or the error at once, and it is asked seldom. Time is
//! moved by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cachalot::units::{hours, seconds};
use cachalot::{Cache, Freshness, Load, LoaderError, ManualClock, Memory};

/// A database that can be switched off, and counts what it is asked.
#[derive(Clone, Default)]
struct Database {
    is_down: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

impl Database {
    async fn price(self, load: Load<&'static str>) -> Result<u64, LoaderError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.is_down.load(Ordering::Relaxed) {
            return Err(LoaderError::new("the database is down"));
        }
        Ok(load.key().len() as u64)
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (time, database) = (ManualClock::new(), Database::default());
    let prices: Cache<&str, u64> = Cache::builder("prices")
        .memory(Memory::entries(100))
        .clock(time.clock())
        .ttl(seconds(60))
        .stale_if_error(hours(1))
        .error_backoff(seconds(4), seconds(30))
        .build()?;
    let get = async |key| prices.get_or_load(&key, |load| database.clone().price(load)).await;

    println!("t =  0  {} for tea", *get("tea").await?);
    database.is_down.store(true, Ordering::Relaxed);
    time.advance(seconds(70));

    for _ in 0..1000 {
        let old = get("tea").await?;
        assert_eq!((*old, old.freshness()), (3, Freshness::Stale));
    }
    println!("t = 70  1000 callers got the old price; the database was asked {} more", database.asked() - 1);

    let error = get("coffee").await.err().ok_or("there is no old price of coffee")?;
    let retry_at = error.retry_at().ok_or("the failure is remembered")?;
    println!("t = 70  {error}; again in {:?}", retry_at.since(time.now()));
    for _ in 0..1000 {
        assert_eq!(get("coffee").await.err().and_then(|error| error.retry_at()), Some(retry_at));
    }
    println!("t = 70  1000 callers got that error; the database was asked {} more", database.asked() - 2);

    database.is_down.store(false, Ordering::Relaxed);
    time.advance(seconds(4));
    println!("t = 74  {} for coffee, {} for tea", *get("coffee").await?, *get("tea").await?);
    assert_eq!(prices.stats().backed_off, 1999);
    Ok(())
}
