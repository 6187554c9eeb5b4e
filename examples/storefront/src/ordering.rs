//! A product becomes the best of its category by orders, and a caller who orders too much is told to wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::StatusCode;
use hyper::header::RETRY_AFTER;
use serde_json::json;

use crate::client::{Answer, Client};
use crate::shop::{CategoryId, Listing, ProductId, Sale};

const CATEGORY: CategoryId = CategoryId(5);
/// How many orders make it the best.
pub const ORDERS: u32 = 5;
/// How many more are tried at once.
pub const TRIED: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(10);

/// What ordering showed.
#[derive(Clone, Copy, Debug)]
pub struct Ordering {
    /// The place of the product before, from 1.
    pub place_before: usize,
    /// An order, answered, on average.
    pub each: Duration,
    /// Until another process listed it first; `None` if there is no other.
    pub elsewhere: Option<Duration>,
    /// Of those tried at once, how many were let through.
    pub admitted: u32,
    /// What the others were told to wait, seconds.
    pub retry_after: u64,
}

/// Orders the last bestseller of a category until it is the first, then goes on ordering until it is told to wait.
///
/// # Errors
/// When the process that took the orders does not list it first afterwards, or another one does not for ten seconds; when
/// nobody is ever told to wait.
pub async fn order(nodes: &[Arc<Client>]) -> Result<Ordering> {
    let seller = nodes.first().context("no node")?;
    for node in nodes {
        listing(node).await?;
    }
    let before = listing(seller).await?.bestsellers;
    let (first, last) = (before.first().context("no bestseller")?, before.last().context("no bestseller")?);
    let missing = u32::try_from(first.units_sold - last.units_sold)? / ORDERS + 1;
    let began = Instant::now();
    for _ in 0..ORDERS {
        place(seller, last.id, missing).await?.json::<Sale>()?;
    }
    let (done_at, each) = (Instant::now(), began.elapsed() / ORDERS);
    ensure!(is_best(seller, last.id).await?, "a read after the orders shows the old list");
    for node in &nodes[1..] {
        while !is_best(node, last.id).await? {
            ensure!(done_at.elapsed() < PATIENCE, "{} keeps the old list", node.address());
        }
    }
    let elsewhere = (nodes.len() > 1).then(|| done_at.elapsed());
    let (mut admitted, mut retry_after) = (0, 0);
    for at in 0..TRIED as usize {
        let answer = place(&nodes[at % nodes.len()], last.id, 1).await?;
        match wait_of(&answer)? {
            None => admitted += 1,
            Some(wait) => retry_after = retry_after.max(wait),
        }
    }
    ensure!(admitted < TRIED, "nobody was told to wait");
    Ok(Ordering { place_before: before.len(), each, elsewhere, admitted, retry_after })
}

/// Orders so many pieces for user 1.
///
/// # Errors
/// When the connection breaks; a status of failure is an answer.
pub async fn place(node: &Client, product: ProductId, pieces: u32) -> Result<Answer> {
    node.post_json(&format!("/products/{product}/orders"), &json!({ "user": 1, "pieces": pieces })).await
}

/// The seconds to wait, if the answer says so; `None` if it is a success.
///
/// # Errors
/// When it is another failure, or does not say how long.
pub fn wait_of(answer: &Answer) -> Result<Option<u64>> {
    if answer.status.is_success() {
        return Ok(None);
    }
    ensure!(answer.status == StatusCode::TOO_MANY_REQUESTS, "an order failed with {}", answer.status);
    let wait = answer.headers.get(RETRY_AFTER).context("it does not say how long to wait")?;
    Ok(Some(wait.to_str()?.parse()?))
}

async fn listing(node: &Client) -> Result<Listing> {
    node.get(&format!("/categories/{CATEGORY}")).await?.json()
}

async fn is_best(node: &Client, product: ProductId) -> Result<bool> {
    Ok(listing(node).await?.bestsellers.first().is_some_and(|best| best.id == product))
}
