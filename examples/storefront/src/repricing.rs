//! Prices change while callers look: how long an old one is shown, and by whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::Client;
use crate::pages::Stats;
use crate::redis::Redis;
use crate::shop::{CategoryId, CategoryPrices, Listing, Price, ProductId, ProductPage};

/// The category that becomes dearer, as a whole.
const CATEGORY: CategoryId = CategoryId(1);
const BY_CENTS: u32 = 25;
/// The product whose price changes while nobody hears of it.
const PRODUCT: ProductId = ProductId(10);
/// How many callers watch each node, and for how long at least before and after the change.
const WATCHERS: usize = 4;
const WATCH: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);

/// What callers saw while a whole category became dearer.
#[derive(Clone, Copy, Debug)]
pub struct CategoryChange {
    /// Products with a new price.
    pub products: u64,
    /// Pages that were read meanwhile.
    pub reads: u64,
    /// What was seen of it by another process; `None` if there is no other.
    pub elsewhere: Option<OldPrices>,
}

/// Old prices that were shown after a change was complete where it was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct OldPrices {
    /// How many.
    pub count: u64,
    /// When the last of them was asked for.
    pub last: Option<Duration>,
}

/// What happened when the connections of a bus were cut and a price changed at once.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Connections cut.
    pub connections: u64,
    /// Until every process had noticed that it may have missed something.
    pub noticed: Duration,
    /// Old prices that another process showed.
    pub old_prices: OldPrices,
}

/// Makes a category dearer at the first node while every node is asked for its bestsellers, all of them in
/// memory.
///
/// # Errors
/// When the node that made the change shows an old price afterwards, or another one does for ten seconds.
pub async fn change_category(nodes: &[Arc<Client>]) -> Result<CategoryChange> {
    let writer = nodes.first().context("no node")?;
    let shelf = Shelf::of(&writer.get(&format!("/categories/{CATEGORY}")).await?.json()?)?;
    for node in nodes {
        shelf.look_at_all(node).await?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut watchers = JoinSet::new();
    for (at, node) in nodes.iter().enumerate() {
        for _ in 0..WATCHERS {
            let (shelf, node, stop) = (shelf.clone(), Arc::clone(node), Arc::clone(&stop));
            watchers.spawn(async move { anyhow::Ok((at, shelf.watch(&node, &stop).await?)) });
        }
    }
    sleep(WATCH).await;
    let body = json!({ "by_cents": BY_CENTS });
    let changed: CategoryPrices =
        writer.put(&format!("/categories/{CATEGORY}/prices"), &body).await?.json()?;
    let changed_at = Instant::now();
    for node in nodes {
        while shelf.look_at_all(node).await? > 0 {
            ensure!(changed_at.elapsed() < PATIENCE, "{} keeps old prices", node.address());
        }
    }
    sleep(WATCH).await;
    stop.store(true, Ordering::Relaxed);

    let (mut reads, mut elsewhere) = (0, OldPrices::default());
    while let Some(watched) = watchers.join_next().await {
        let (at, watched) = watched??;
        reads += watched.reads;
        let late = watched.old.iter().filter_map(|asked_at| asked_at.checked_duration_since(changed_at));
        for late in late {
            ensure!(at > 0, "a read after the change shows an old price");
            elsewhere.add(late);
        }
    }
    Ok(CategoryChange {
        products: changed.products,
        reads,
        elsewhere: (nodes.len() > 1).then_some(elsewhere),
    })
}

/// Cuts every connection on which processes listen, and changes a price that all of them have in memory before
/// they can have subscribed anew.
///
/// # Errors
/// When a process does not notice, or keeps the old price, for ten seconds.
pub async fn cut(nodes: &[Arc<Client>], redis: &Redis) -> Result<Cut> {
    let path = format!("/products/{PRODUCT}");
    let (writer, other) = (nodes.first().context("no node")?, nodes.last().context("no node")?);
    let (mut old, mut gaps) = (0, Vec::new());
    for node in nodes {
        old = price(node, &path).await?;
        gaps.push(gaps_of(node).await?);
    }
    let connections = redis.cut_subscribers().await?;
    let cut_at = Instant::now();
    let body = json!({ "price_cents": old + 1 });
    writer.put(&format!("{path}/price"), &body).await?.json::<Price>()?;
    let changed_at = Instant::now();
    let mut old_prices = OldPrices::default();
    loop {
        let asked_at = changed_at.elapsed();
        if price(other, &path).await? != old {
            break;
        }
        old_prices.add(asked_at);
        ensure!(asked_at < PATIENCE, "{} keeps the old price", other.address());
    }
    for (node, before) in nodes.iter().zip(gaps) {
        while gaps_of(node).await? == before {
            ensure!(cut_at.elapsed() < PATIENCE, "{} has not noticed", node.address());
        }
    }
    Ok(Cut { connections, noticed: cut_at.elapsed(), old_prices })
}

/// Pages and the prices they show before the change.
#[derive(Clone, Debug)]
struct Shelf(Arc<[(String, u32)]>);

struct Watched {
    reads: u64,
    /// When those were asked for that showed the price from before.
    old: Vec<Instant>,
}

impl Shelf {
    fn of(listing: &Listing) -> Result<Self> {
        ensure!(!listing.bestsellers.is_empty(), "an empty category");
        let lines = listing.bestsellers.iter();
        Ok(Self(lines.map(|line| (format!("/products/{}", line.id), line.price_cents)).collect()))
    }

    /// Whether a page shows the price from before.
    async fn is_old(&self, node: &Client, at: usize) -> Result<bool> {
        let (path, before) = &self.0[at % self.0.len()];
        let shown = price(node, path).await?;
        ensure!(shown == *before || shown == before + BY_CENTS, "{path} shows {shown}, which it never was");
        Ok(shown == *before)
    }

    /// How many pages show the price from before.
    async fn look_at_all(&self, node: &Client) -> Result<usize> {
        let mut old = 0;
        for at in 0..self.0.len() {
            old += usize::from(self.is_old(node, at).await?);
        }
        Ok(old)
    }

    async fn watch(&self, node: &Client, stop: &AtomicBool) -> Result<Watched> {
        let mut watched = Watched { reads: 0, old: Vec::new() };
        for at in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let asked_at = Instant::now();
            watched.reads += 1;
            if self.is_old(node, at).await? {
                watched.old.push(asked_at);
            }
        }
        Ok(watched)
    }
}

impl OldPrices {
    fn add(&mut self, asked_at: Duration) {
        self.count += 1;
        self.last = self.last.max(Some(asked_at));
    }
}

async fn price(node: &Client, path: &str) -> Result<u32> {
    Ok(node.get(path).await?.json::<ProductPage>()?.price_cents)
}

async fn gaps_of(node: &Client) -> Result<u64> {
    Ok(node.get("/stats").await?.json::<Stats>()?.cache.gaps)
}
