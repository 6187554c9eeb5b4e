//! A cache in memory: one load however many ask, a removal, and what it counted.

use std::sync::atomic::{AtomicU64, Ordering};

use cachalot::{Cache, LoaderError, Memory, Removal, Ttl};

/// Stands for a query that costs time.
static QUERIES: AtomicU64 = AtomicU64::new(0);

async fn name_from_database(id: u64) -> Result<String, std::num::TryFromIntError> {
    QUERIES.fetch_add(1, Ordering::SeqCst);
    Ok(format!("user {}", u32::try_from(id)?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names: Cache<u64, String> =
        Cache::builder("names").memory(Memory::entries(10_000)).ttl(Ttl::minutes(5).jitter(0.10)).build()?;

    // A thousand tasks ask at once.
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let names = names.clone();
            tokio::spawn(async move {
                names.get_or_load(&7, |load| async move { Ok(name_from_database(*load.key()).await?) }).await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(*task.await??, "user 7");
    }
    println!("1,000 callers, {} query", QUERIES.load(Ordering::SeqCst));
    assert_eq!(QUERIES.load(Ordering::SeqCst), 1);

    // The database has changed: forget the copy.
    assert_eq!(names.remove(&7).await?, Removal::Removed);
    assert!(names.get(&7).await.is_none());

    // The loader's own error comes back whole.
    let error = names
        .get_or_load(&u64::MAX, |load| async move {
            name_from_database(*load.key()).await.map_err(LoaderError::from)
        })
        .await
        .err()
        .ok_or("there is no such user")?;
    assert!(error.downcast_ref::<std::num::TryFromIntError>().is_some());
    println!("{error}");

    let stats = names.stats();
    println!("{} loads, {} failed, hit ratio {:.3}", stats.loads, stats.load_failures, stats.hit_ratio());
    Ok(())
}
