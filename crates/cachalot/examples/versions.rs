//! Versions, in both ways: one value per key that only grows newer, however late its changes are told; and a value for
//! each version.

use cachalot::{Cache, EntryOptions, Inserted, Memory, Versioned};

#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    name: &'static str,
}

/// What a change feed says: row, version, and perhaps the row itself. It may repeat itself, and lose its order.
enum Change {
    Written(u64, u64, User),
    Touched(u64, u64),
}

async fn apply(cache: &Cache<u64, User>, change: Change) -> cachalot::Result<()> {
    match change {
        Change::Written(id, version, user) => {
            let at = cache.with(|options: EntryOptions| options.version(version));
            let inserted = at.insert(id, user.clone()).await?;
            println!("  version {version} ({}): {inserted:?}", user.name);
        }
        Change::Touched(id, version) => {
            cache.remove_older(&id, version).await?;
            println!("  version {version}: what is older is gone");
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache: Cache<u64, User> =
        Cache::builder("users").memory(Memory::entries(1_000)).versioned().build()?;

    println!("changes, the second one late");
    let ann = |name| User { name };
    for change in [
        Change::Written(7, 4, ann("Ann")),
        Change::Written(7, 6, ann("Anna")),
        Change::Written(7, 5, ann("Anne")),
    ] {
        apply(&cache, change).await?;
    }
    let found = cache.get_local(&7).ok_or("it is held")?;
    assert_eq!((found.name, found.version()), ("Anna", 6));

    println!("the row is at version 7; a replica still says 6");
    apply(&cache, Change::Touched(7, 7)).await?;
    let read = |version: u64, name: &'static str| {
        let cache = cache.clone();
        async move {
            let load = cache.get_or_load(&7, |load| async move {
                load.version(version);
                Ok(User { name })
            });
            load.await
        }
    };
    assert_eq!(read(6, "Anna").await?.name, "Anna"); // what the source said
    assert!(cache.get_local(&7).is_none()); // and not kept
    assert_eq!(read(7, "Annabel").await?.version(), 7);
    apply(&cache, Change::Touched(7, 7)).await?; // said twice
    assert_eq!(cache.get_local(&7).map(|user| user.version()), Some(7));
    let late = cache.with(|options: EntryOptions| options.version(6)).insert(7, ann("Anna")).await?;
    assert_eq!(late, Inserted::Outdated);
    println!("  held: {}, outdated so far: {}", read(7, "").await?.name, cache.stats().outdated);

    println!("a page whose revisions are read side by side");
    let pages: Cache<Versioned<u64>, &'static str> =
        Cache::builder("pages").memory(Memory::entries(1_000)).build()?;
    for (revision, text) in [(1, "draft"), (2, "better"), (3, "final")] {
        pages.insert(Versioned::new(42, revision), text).await?;
    }
    pages.remove_versions(&42, ..3).await?;
    let left: Vec<u64> =
        (1..=3).filter(|revision| pages.get_local(&Versioned::new(42, *revision)).is_some()).collect();
    assert_eq!(left, [3]);
    println!("  revisions left: {left:?}");
    Ok(())
}
