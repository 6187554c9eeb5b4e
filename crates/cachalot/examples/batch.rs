//! Many keys in one call: one query for what is missing, and each key's own answer.

use std::collections::HashMap;
use std::time::Duration;

use cachalot::{Cache, LoadMany, LoaderError, Memory, Ttl, Unanswered};

/// `SELECT id, name FROM products WHERE id = ANY($1)`. There is no product 4.
async fn query(ids: &[u64]) -> Result<HashMap<u64, String>, LoaderError> {
    println!("  query for {ids:?}");
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(ids.iter().filter(|id| **id != 4).map(|id| (*id, format!("product {id}"))).collect())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let products: Cache<u64, String> = Cache::builder("products")
        .memory(Memory::entries(1_000))
        .negative_ttl(Ttl::seconds(10))
        .batch_size(500)
        .build()?;
    let load = |load: LoadMany<u64>| async move { query(load.keys()).await };

    println!("a cold cache");
    for name in products.get_many_or_load(&[1, 2, 3], load).await {
        println!("  {}", *name?);
    }

    println!("two baskets at once that share what is missing: 5 is loaded once");
    let (one, two) = tokio::join!(
        products.get_many_or_load(&[1, 5, 6], load),
        products.get_many_or_load(&[7, 5, 2], load)
    );
    assert!(one.iter().chain(&two).all(Result::is_ok));

    println!("a row that the query lacks is an error of that key alone, and is not cached");
    let answers = products.get_many_or_load(&[3, 4], load).await;
    assert_eq!(**answers[0].as_ref().map_err(Clone::clone)?, "product 3");
    let unanswered = answers[1].as_ref().err().and_then(|error| error.downcast_ref::<Unanswered>());
    assert!(unanswered.is_some());

    println!("unless the loader says that what it did not find is absent");
    let complete = |load: LoadMany<u64>| async move {
        let found = query(load.keys()).await?;
        Ok(load.or_absent(found))
    };
    for round in ["asked", "remembered"] {
        println!("  {round}");
        let answers = products.get_many_or_load_opt(&[4, 8], complete).await;
        assert!(answers[0].as_ref().is_ok_and(Option::is_none));
        assert!(answers[1].as_ref().is_ok_and(Option::is_some));
    }

    println!("written and removed together");
    products.insert_many([(1, "tea".to_owned()), (2, "milk".to_owned())]).await;
    products.remove_many(&[2, 3]).await?;
    let names = products.get_many(&[1, 2, 3]).await;
    let names: Vec<_> = names.iter().map(|name| name.as_deref().map(String::as_str)).collect();
    println!("  {names:?}");
    assert_eq!(names, [Some("tea"), None, None]);
    Ok(())
}
