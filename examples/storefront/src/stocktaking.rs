//! Stock is counted and looked up at once: what is written through is read without a query.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::client::Client;
use crate::pages::Stats;
use crate::shop::{ProductId, Stock};

const PRODUCT: ProductId = ProductId(20);
/// How often it is counted.
pub const TIMES: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(10);

/// What the counting cost, and who saw it.
#[derive(Clone, Copy, Debug)]
pub struct Stocktaking {
    /// Database queries to read each number back where it was written.
    pub queries: u64,
    /// How long a write and its read took together, on average.
    pub each: Duration,
    /// Until another process showed the last number; `None` if there is no other.
    pub elsewhere: Option<Duration>,
}

/// Counts one product's stock a hundred times at the first node, and reads each number back.
///
/// # Errors
/// When a read after a write shows another number, or another node does not show the last one for ten seconds.
pub async fn count(nodes: &[Arc<Client>]) -> Result<Stocktaking> {
    let writer = nodes.first().context("no node")?;
    let path = format!("/products/{PRODUCT}/stock");
    for node in nodes {
        stock(node, &path).await?;
    }
    let before = queries(writer).await?;
    let began = Instant::now();
    for pieces in 1..=TIMES {
        writer.put(&path, &Stock { pieces }).await?.json::<Stock>()?;
        ensure!(stock(writer, &path).await? == pieces, "a read after the write shows another number");
    }
    let (done_at, each) = (Instant::now(), began.elapsed() / TIMES);
    for node in &nodes[1..] {
        while stock(node, &path).await? != TIMES {
            ensure!(done_at.elapsed() < PATIENCE, "{} keeps an old number", node.address());
        }
    }
    let elsewhere = (nodes.len() > 1).then(|| done_at.elapsed());
    Ok(Stocktaking { queries: queries(writer).await? - before, each, elsewhere })
}

async fn stock(node: &Client, path: &str) -> Result<u32> {
    Ok(node.get(path).await?.json::<Stock>()?.pieces)
}

async fn queries(node: &Client) -> Result<u64> {
    Ok(node.get("/stats").await?.json::<Stats>()?.database.reads)
}
