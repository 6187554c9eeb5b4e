//! The callers: a seeded mix of requests, skewed as in real shops, and how long each had to wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{Answer, Client};
use crate::shop::seed::Size;
use crate::shop::{CategoryId, ProductId, ProductPage, UserId};
use crate::zipf::Zipf;

const SEED: u64 = 42;
/// How many callers a load has, each with one request at a time.
pub const CALLERS: u64 = 32;
/// How skewed requests are: a little more than sales, since people look at what they do not buy.
const SKEW: f64 = 0.99;
/// A popular product that the load leaves alone, so that it is still cold when the crowd comes.
const COLD: ProductId = ProductId(10);
/// How many callers want the cold page.
pub const CROWD: usize = 1_000;

/// What the callers of one load experienced.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Pages read.
    pub reads: u64,
    /// Prices changed.
    pub updates: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Of every request, in microseconds.
    pub latency_us: Histogram<u64>,
}

/// What a crowd that wanted one cold page experienced.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// How many asked at once.
    pub callers: u64,
    /// Until the last of them had the page.
    pub elapsed: Duration,
}

/// When a changed price was seen.
#[derive(Clone, Copy, Debug)]
pub struct NewPrice {
    /// Asking the process that changed it.
    pub at_the_writer: Duration,
    /// Asking another process; `None` if there is no other.
    pub elsewhere: Option<Duration>,
}

/// What callers ask for.
#[derive(Clone, Debug)]
struct Mix {
    products: Zipf,
    categories: Zipf,
    users: Zipf,
}

enum Ask {
    Product(ProductId),
    Listing(CategoryId),
    User(UserId),
    Reprice(ProductId, u32),
}

/// Keeps 32 callers busy for `duration`, each asking as soon as it is answered, the nodes in turn. Counts
/// finished requests in `done`.
///
/// # Errors
/// When any answer is not a success: a load with failures measures nothing.
pub async fn run(
    nodes: &[Arc<Client>],
    size: Size,
    duration: Duration,
    done: &Arc<AtomicU64>,
) -> Result<Outcome> {
    let mix = Arc::new(Mix::new(size));
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let rng = Rng::with_seed(SEED + caller);
        callers.spawn(call(nodes.to_vec(), Arc::clone(&mix), rng, start + duration, Arc::clone(done)));
    }
    let mut total = Outcome { reads: 0, updates: 0, elapsed: Duration::ZERO, latency_us: histogram()? };
    while let Some(one) = callers.join_next().await {
        let one = one??;
        total.reads += one.reads;
        total.updates += one.updates;
        total.latency_us.add(&one.latency_us)?;
    }
    total.elapsed = start.elapsed();
    Ok(total)
}

/// Lets 1,000 callers ask for one page at once that nobody has asked for before, the nodes in turn.
///
/// # Errors
/// When any of them is not served.
pub async fn cold_key(nodes: &[Arc<Client>], done: &Arc<AtomicU64>) -> Result<Crowd> {
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CROWD {
        let (node, done) = (Arc::clone(&nodes[caller % nodes.len()]), Arc::clone(done));
        callers.spawn(async move {
            succeed(Ask::Product(COLD).send(&node).await?)?;
            done.fetch_add(1, Ordering::Relaxed);
            anyhow::Ok(())
        });
    }
    while let Some(one) = callers.join_next().await {
        one??;
    }
    Ok(Crowd { callers: CROWD as u64, elapsed: start.elapsed() })
}

/// Changes the price of a page that every node has in its memory, and looks for it at every node.
///
/// # Errors
/// When the node that changed it shows the old price afterwards, or another one does for ten seconds.
pub async fn new_price(nodes: &[Arc<Client>]) -> Result<NewPrice> {
    let path = format!("/products/{COLD}");
    let mut old = 0;
    for node in nodes {
        old = shown_price(node, &path).await?;
    }
    let new = old + 1;
    let writer = nodes.first().context("no node")?;
    succeed(Ask::Reprice(COLD, new).send(writer).await?)?;
    let changed_at = Instant::now();
    ensure!(shown_price(writer, &path).await? == new, "a read after the update shows the old price");
    let at_the_writer = changed_at.elapsed();
    for node in &nodes[1..] {
        while shown_price(node, &path).await? != new {
            ensure!(changed_at.elapsed() < Duration::from_secs(10), "{} keeps the old price", node.address());
        }
    }
    let elsewhere = (nodes.len() > 1).then(|| changed_at.elapsed());
    Ok(NewPrice { at_the_writer, elsewhere })
}

async fn shown_price(node: &Client, path: &str) -> Result<u32> {
    Ok(node.get(path).await?.json::<ProductPage>()?.price_cents)
}

async fn call(
    nodes: Vec<Arc<Client>>,
    mix: Arc<Mix>,
    mut rng: Rng,
    until: Instant,
    done: Arc<AtomicU64>,
) -> Result<Outcome> {
    let mut own = Outcome { reads: 0, updates: 0, elapsed: Duration::ZERO, latency_us: histogram()? };
    for node in nodes.iter().cycle().skip(rng.usize(..nodes.len())) {
        let asked_at = Instant::now();
        if asked_at >= until {
            break;
        }
        let ask = mix.draw(&mut rng);
        succeed(ask.send(node).await?)?;
        own.latency_us.saturating_record(asked_at.elapsed().as_micros() as u64);
        match ask {
            Ask::Reprice(..) => own.updates += 1,
            _ => own.reads += 1,
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(own)
}

impl Mix {
    fn new(size: Size) -> Self {
        Self {
            products: Zipf::new(size.products, SKEW),
            categories: Zipf::new(size.categories, SKEW),
            users: Zipf::new(size.users, SKEW),
        }
    }

    /// Of 1,000 requests, 700 are for products, 150 for listings, 145 for users; 5 change a price.
    fn draw(&self, rng: &mut Rng) -> Ask {
        match rng.u32(..1_000) {
            0..700 => Ask::Product(self.product(rng)),
            700..850 => Ask::Listing(CategoryId(self.categories.sample(rng))),
            850..995 => Ask::User(UserId(self.users.sample(rng))),
            _ => Ask::Reprice(self.product(rng), rng.u32(499..20_000)),
        }
    }

    fn product(&self, rng: &mut Rng) -> ProductId {
        loop {
            let id = ProductId(self.products.sample(rng));
            if id != COLD {
                return id;
            }
        }
    }
}

impl Ask {
    async fn send(&self, node: &Client) -> Result<Answer> {
        match self {
            Self::Product(id) => node.get(&format!("/products/{id}")).await,
            Self::Listing(id) => node.get(&format!("/categories/{id}")).await,
            Self::User(id) => node.get(&format!("/users/{id}")).await,
            Self::Reprice(id, price_cents) => {
                node.put(&format!("/products/{id}/price"), &json!({ "price_cents": price_cents })).await
            }
        }
    }
}

fn succeed(answer: Answer) -> Result<()> {
    let body = || String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(answer.status.is_success(), "a request failed with {}: {}", answer.status, body());
    Ok(())
}

/// Microseconds up to ten minutes, exact to three digits.
fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_max(600_000_000, 3).context("making a histogram")
}
