//! A page that is made of two rows ends with either: dependencies, declared by the call and decided by the loader.

use std::sync::atomic::{AtomicU32, Ordering};

use cachalot::{Cache, Memory};

static RENDERED: AtomicU32 = AtomicU32::new(0);

/// The page of a user, which shows their team too. Which team that is only the loader knows.
async fn page(cache: &Cache<String, String>, user: &str) -> Result<String, Box<dyn std::error::Error>> {
    let of_user = cache.with(|options| options).depends_on(&format!("user:{user}"))?;
    let page = format!("page:{user}");
    let page = of_user.get_or_load(&page, |load| async move {
        load.depends_on(&"team:whales".to_owned());
        Ok(format!("rendered {} times", RENDERED.fetch_add(1, Ordering::SeqCst) + 1))
    });
    Ok(page.await?.to_string())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::builder("site").memory(Memory::entries(1_000)).dependencies().build()?;
    assert_eq!(page(&cache, "ada").await?, "rendered 1 times");
    assert_eq!(page(&cache, "ada").await?, "rendered 1 times");

    println!("the user is renamed");
    cache.remove("user:ada").await?;
    assert_eq!(page(&cache, "ada").await?, "rendered 2 times");

    println!("the team has a new name, which is stored at once");
    cache.insert("team:whales".to_owned(), "Cachalots".to_owned()).await?;
    assert_eq!(page(&cache, "ada").await?, "rendered 3 times");

    println!("another user changes");
    cache.remove("user:grace").await?;
    assert_eq!(page(&cache, "ada").await?, "rendered 3 times");
    Ok(())
}
