//! How values are stored in a shared tier: one cache per codec over the same records in memory.

use cachalot::codec::{Json, MsgPack, Postcard};
use cachalot::{Cache, CacheBuilder, Codec, Memory, MemoryBackend};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Product {
    name: String,
    price: u64,
}

fn cache(name: &str, shared: &MemoryBackend) -> CacheBuilder<u64, Product> {
    Cache::builder(name).memory(Memory::entries(100)).backend(shared.clone())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shared = MemoryBackend::new();
    let tea = Product { name: "tea".to_owned(), price: 3 };

    let by_default = cache("msgpack", &shared).build()?;
    let json = cache("json", &shared).codec(Json).build()?;
    // Without field names a moved field would decode to garbage, so a schema must be declared.
    assert!(cache("postcard", &shared).codec(Postcard).build().is_err());
    let postcard = cache("postcard", &shared).codec(Postcard).schema(1).build()?;

    for cache in [by_default, json, postcard] {
        cache.insert(1, tea.clone()).await?;
        // Another process: the same tier, an empty memory.
        assert_eq!(*cache.get(&1).await.ok_or("it was stored")?, tea);
    }
    for codec in [&MsgPack as &dyn Codec<Product>, &Json, &Postcard] {
        let mut bytes = Vec::new();
        codec.encode(&tea, &mut bytes)?;
        println!("{codec:?}: {} bytes", bytes.len());
    }
    Ok(())
}
