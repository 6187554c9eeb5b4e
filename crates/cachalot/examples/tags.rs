//! Tags that the loader decides, and a removal of all that has one, however many keys that are.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use cachalot::{Cache, EntryOptions, LoaderError, Memory, Removal, Tags};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Product {
    name: &'static str,
    category: u32,
    price: u32,
}

/// Stands for a table.
struct Products(Mutex<HashMap<u64, Product>>);

impl Products {
    fn get(&self, id: u64) -> Option<Product> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn sale(&self, category: u32) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.values_mut().filter(|row| row.category == category).for_each(|row| row.price /= 2);
    }
}

async fn price(
    cache: &Cache<u64, Product>,
    table: &'static Products,
    id: u64,
) -> Result<u32, cachalot::LoadError> {
    let product = cache.get_or_load(&id, |load| async move {
        let row = table.get(*load.key()).ok_or_else(|| LoaderError::new("no such product"))?;
        load.tag(format!("category:{}", row.category)); // decided by the value
        println!("  loaded {} at {}", row.name, row.price);
        Ok(row)
    });
    Ok(product.await?.price)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let row = |name, category, price| Product { name, category, price };
    let rows = HashMap::from([(1, row("kettle", 7, 40)), (2, row("teapot", 7, 30)), (3, row("lamp", 8, 90))]);
    let table: &'static Products = Box::leak(Box::new(Products(Mutex::new(rows))));
    let cache: Cache<u64, Product> = Cache::builder("products").memory(Memory::entries(1_000)).build()?;

    println!("a cold cache");
    for (id, expected) in [(1, 40), (2, 30), (3, 90)] {
        assert_eq!(price(&cache, table, id).await?, expected);
    }

    println!("a sale: half the price in category 7, then its tag is removed");
    table.sale(7);
    assert_eq!(cache.remove_tag("category:7").await?, Removal::Removed);
    for (id, expected) in [(1, 20), (2, 15), (3, 90)] {
        assert_eq!(price(&cache, table, id).await?, expected);
    }
    assert_eq!(cache.stats().loads, 5); // the lamp was not loaded again

    println!("a value inserted with tags goes with any of them");
    let tags = Tags::new(["category:7", "new"])?;
    let tagged = cache.with(|options: EntryOptions| options.tags(tags));
    tagged.insert(4, row("strainer", 7, 5)).await?;
    cache.remove_tags(["new", "discontinued"]).await?;
    assert!(cache.get_local(&4).is_none());
    println!("  strainer: gone; kettle: {}", price(&cache, table, 1).await?);
    Ok(())
}
