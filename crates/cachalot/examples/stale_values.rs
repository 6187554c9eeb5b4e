//! Stale on purpose: while a refresh runs, and when the database is down. Time is moved by hand.

use std::time::Duration;

use cachalot::units::{hours, seconds};
use cachalot::{Cache, Freshness, LoaderError, ManualClock, Memory};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let time = ManualClock::new();
    let prices: Cache<&str, u32> = Cache::builder("prices")
        .memory(Memory::entries(100))
        .clock(time.clock())
        .ttl(seconds(60))
        .stale_while_revalidate(seconds(30))
        .stale_if_error(hours(1))
        .build()?;

    let at = |price: u32| move |_| async move { Ok::<_, LoaderError>(price) };
    println!("t =    0  loaded  {}", *prices.get_or_load(&"tea", at(3)).await?);

    time.advance(Duration::from_secs(70));
    let stale = prices.get_or_load(&"tea", at(4)).await?;
    println!("t =   70  {:?}   {} at once, a refresh starts", stale.freshness(), *stale);
    assert_eq!((*stale, stale.freshness()), (3, Freshness::Stale));

    // The refresh is a task of its own; let it land.
    prices.shutdown(Duration::from_secs(1)).await?;
    println!("t =   70  Fresh   {}", *prices.get(&"tea").await.ok_or("the refresh has landed")?);

    let prices: Cache<&str, u32> = Cache::builder("prices")
        .memory(Memory::entries(100))
        .clock(time.clock())
        .ttl(seconds(60))
        .stale_if_error(hours(1))
        .build()?;
    prices.insert("tea", 4).await?;
    time.advance(Duration::from_secs(600));
    let down = |_| async { Err::<u32, _>(LoaderError::new("the database is down")) };
    let old = prices.get_or_load(&"tea", down).await?;
    println!("t =  670  {:?}   {} because the load failed: {:?}", old.freshness(), *old, old.stale_reason());

    time.advance(Duration::from_secs(3600));
    let error = prices.get_or_load(&"tea", down).await.err().ok_or("the window is over")?;
    println!("t = 4270  {error}");
    Ok(())
}
