//! Views are counted: one by one without the cache, many together with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::pages::Stats;
use crate::shop::ProductId;

/// How many views are counted, by how many callers, of how many products.
pub const VIEWS: u32 = 3_200;
const CALLERS: u32 = 32;
const PRODUCTS: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(20);

/// What counting the views cost.
#[derive(Clone, Copy, Debug)]
pub struct Viewing {
    /// From the first view until the last was acknowledged.
    pub elapsed: Duration,
    /// Database statements until all of them were in there.
    pub statements: u64,
}

/// Lets callers count views, the nodes in turn.
///
/// # Errors
/// When one is not counted, or the database does not have them all twenty seconds later.
pub async fn count(nodes: &[Arc<Client>]) -> Result<Viewing> {
    let before = stats(nodes).await?.database.writes;
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let node = Arc::clone(&nodes[caller as usize % nodes.len()]);
        callers.spawn(async move {
            for view in 0..VIEWS / CALLERS {
                look_at(&node, ProductId(1 + (caller + view) % PRODUCTS)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    let elapsed = began.elapsed();
    loop {
        let now = stats(nodes).await?;
        if now.views.pending == 0 {
            return Ok(Viewing { elapsed, statements: now.database.writes - before });
        }
        ensure!(began.elapsed() < PATIENCE, "{} counts are not in the database", now.views.pending);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Counts one view.
///
/// # Errors
/// When it is not acknowledged.
pub async fn look_at(node: &Client, product: ProductId) -> Result<()> {
    let answer = node.post(&format!("/products/{product}/views")).await?;
    ensure!(answer.status.is_success(), "a view was not counted: {}", answer.status);
    Ok(())
}

async fn stats(nodes: &[Arc<Client>]) -> Result<Stats> {
    let mut sum = Stats::default();
    for node in nodes {
        sum += node.get("/stats").await?.json()?;
    }
    Ok(sum)
}
