//! How long an entry stays fresh: by its class, by what its load cost, by what the loader sees. Time is moved by hand.

use std::time::Duration;

use cachalot::units::{hours, millis, seconds};
use cachalot::{Cache, DataClass, LoaderError, ManualClock, Memory, Recency, Tiers, Ttl};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let time = ManualClock::new();
    let pages: Cache<&str, String> = Cache::builder("pages")
        .memory(Memory::entries(100))
        .clock(time.clock())
        .ttl(Ttl::minutes(5))
        .build()?;

    // Tiered: presets, a class of your own, a base for the rest.
    let tiers = Tiers::presets().class("invoice", hours(12)).base(Ttl::minutes(10));
    for class in ["session", "profile", "catalogue", "search", "real-time", "invoice", "anything else"] {
        println!("{class:>13}: {:>6} s", tiers.of(class).base().as_secs());
    }
    let quick = pages.with(|options| options.ttl(tiers.of(DataClass::RealTime)));
    quick.get_or_load(&"rates", |_| async { Ok("1.08".to_owned()) }).await?;

    // Adaptive: the loader knows best, when it has seen the value.
    let load = |load: cachalot::Load<&'static str>| async move {
        let (body, max_age) = ("<h1>News</h1>", 30); // As the service said in its Cache-Control.
        load.ttl(Ttl::seconds(max_age));
        Ok::<_, LoaderError>(body.to_owned())
    };
    pages.get_or_load(&"news", load).await?;

    // Cost-aware: five minutes for what costs nothing, twice that at 100 ms, an hour at most.
    let by_cost = Ttl::minutes(5).cost_aware(millis(100), hours(1));
    for cost in [0, 50, 100, 500, 5_000] {
        println!("{cost:>6} ms to load: fresh for {:>4} s", by_cost.after_load(millis(cost)).as_secs());
    }
    let report = pages.with(|options| options.ttl(by_cost));
    let clock = time.clone();
    let slow = |_| async move {
        clock.advance(Duration::from_secs(2)); // A query of two seconds.
        Ok("a long table".to_owned())
    };
    report.get_or_load(&"report", slow).await?;

    // By recency: what an access adds to the life of what it hits.
    for ago in [10, 60, 300] {
        println!(
            "last asked for {ago:>3} s ago: lives {:>4} s more",
            Recency::default().life(seconds(ago)).as_secs()
        );
    }

    for (after, expected) in [(6, 3), (20, 2), (30, 1), (3_600, 0)] {
        time.advance(Duration::from_secs(after));
        let left = ["rates", "news", "report"].into_iter().filter(|key| pages.get_local(key).is_some());
        let left: Vec<_> = left.collect();
        println!("{after:>4} s later: {left:?}");
        assert_eq!(left.len(), expected);
    }
    Ok(())
}
