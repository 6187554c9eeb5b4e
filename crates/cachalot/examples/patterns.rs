//! Removing by pattern and all at once; and text from outside, which is never a pattern by accident.

use cachalot::{Cache, Memory, Pattern, Removal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pages: Cache<String, &'static str> =
        Cache::builder("pages").memory(Memory::entries(1_000)).build()?;
    let keys = ["user:7:name", "user:7:avatar", "user:77:name", "user:8:name", "user:*:name"];
    let fill = || async {
        for key in keys {
            pages.insert(key.to_owned(), "a page").await?;
        }
        Ok::<_, cachalot::Error>(())
    };
    let left = || keys.into_iter().filter(|key| pages.get_local(*key).is_some()).collect::<Vec<_>>();

    fill().await?;
    assert_eq!(pages.remove_pattern(&Pattern::prefix("user:7:")).await?, Removal::Removed);
    println!("all that begins with user:7:  {:?} are left", left());
    assert_eq!(left(), ["user:77:name", "user:8:name", "user:*:name"]);

    fill().await?;
    pages.remove_pattern(&Pattern::new("user:[78]:n*")).await?;
    println!("a glob as in Redis            {:?} are left", left());
    assert_eq!(left(), ["user:7:avatar", "user:77:name", "user:*:name"]);

    fill().await?;
    let from_outside = "user:*:name";
    pages.remove_pattern(&Pattern::literal(from_outside)).await?;
    println!("a star that means a star      {:?} are left", left());
    assert_eq!(left(), &keys[..4]);

    pages.clear().await?;
    println!("clear                         {:?} are left", left());
    assert!(left().is_empty());
    Ok(())
}
