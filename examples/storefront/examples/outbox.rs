//! A change and its invalidation in one transaction: `cargo run -p storefront --example outbox`.

use std::time::Duration;

use anyhow::Result;
use cachalot::{Cache, Memory};
use rusqlite::Connection;
use storefront::outbox::{self, Relay, Stale};
use tokio::time::sleep;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("shop.sqlite");
    let mut database = Connection::open(&path)?;
    outbox::create(&database)?;
    database.execute_batch("CREATE TABLE prices (product INTEGER PRIMARY KEY, cents INTEGER NOT NULL)")?;
    database.execute("INSERT INTO prices VALUES (7, 1999)", [])?;

    let prices: Cache<u64, i64> = Cache::builder("prices").memory(Memory::entries(1000)).build()?;
    let relay = Relay::open(&path, prices.clone())?;
    let committed = relay.committed();
    let relay = tokio::spawn(relay.run());

    println!("cached:        {}", price(&prices, &path).await?);

    let sale = database.transaction()?;
    sale.execute("UPDATE prices SET cents = 999 WHERE product = 7", [])?;
    outbox::record(&sale, Stale::Key(&7_u64))?;
    sale.rollback()?;
    committed.notify_one();
    println!("rolled back:   {}", price(&prices, &path).await?);

    let sale = database.transaction()?;
    sale.execute("UPDATE prices SET cents = 1499 WHERE product = 7", [])?;
    outbox::record(&sale, Stale::Key(&7_u64))?;
    sale.commit()?;
    committed.notify_one();
    while prices.get_local(&7).is_some() {
        sleep(Duration::from_millis(1)).await;
    }
    println!("committed:     {}", price(&prices, &path).await?);
    relay.abort();
    Ok(())
}

async fn price(prices: &Cache<u64, i64>, path: &std::path::Path) -> Result<i64> {
    let path = path.to_owned();
    let load = |load: cachalot::Load<u64>| async move {
        let query = "SELECT cents FROM prices WHERE product = ?1";
        Ok(Connection::open(path)?.query_row(query, [*load.key()], |row| row.get(0))?)
    };
    Ok(*prices.get_or_load(&7, load).await?)
}
