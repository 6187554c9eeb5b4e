//! The service is killed while it counts, again and again, and no view is lost that it had acknowledged.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use indicatif::HumanCount;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::args::CacheChoice;
use crate::client::Client;
use crate::nodes::Node;
use crate::shop::{Database, ProductId, Views};
use crate::viewing;

const CALLERS: u32 = 16;
const PRODUCTS: u32 = 20;
/// How often it is killed, and how long it may count before: one, two or three times this, so that it dies before its
/// first flush, in it, and after it.
const KILLS: u32 = 5;
const LIFE: Duration = Duration::from_millis(500);

/// What became of the views.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crash {
    /// Counted, as their callers were told.
    pub acknowledged: u64,
    /// Asked for when the service died: their callers know nothing.
    pub unanswered: u64,
    /// What the database has at the end.
    pub counted: u64,
    /// What the journal brought back, all restarts together.
    pub recovered: u64,
    /// The longest that a restart took, until the service answered.
    pub restart: Duration,
}

/// Kills and restarts a service of its own over `database` and `journal`, which is left stopped.
///
/// # Errors
/// When the database lacks a view that was acknowledged, or has one too many.
pub async fn play(database: &Path, cache: &CacheChoice, journal: &Path) -> Result<Crash> {
    let rows = Database::open(database)?;
    let before = views(&rows).await?;
    let counts: Arc<[Count]> = (0..PRODUCTS).map(|_| Count::default()).collect();
    let mut crash = Crash::default();
    let mut node = Node::start(database, cache, journal).await?;
    for kill in 0..KILLS {
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            callers.spawn(call(Arc::clone(node.client()), Arc::clone(&counts), caller + kill));
        }
        sleep(LIFE * (1 + kill % 3)).await;
        node.kill().await?;
        // Each ends at its first view that is not answered.
        callers.join_all().await;
        let died_at = Instant::now();
        node = Node::start(database, cache, journal).await?;
        crash.restart = crash.restart.max(died_at.elapsed());
        crash.recovered += node.stats().await?.views.recovered;
    }
    // This time it may finish what it does.
    node.stop().await?;
    for ((product, before), count) in (1..).zip(before).zip(&*counts) {
        let counted = rows.views(ProductId(product)).await?.unwrap_or_default().views - before;
        let (asked, acknowledged) = (load(&count.asked), load(&count.acknowledged));
        ensure!(
            counted >= acknowledged,
            "{} acknowledged views of {product} are lost",
            acknowledged - counted
        );
        ensure!(counted <= asked, "{} views of {product} are counted twice", counted - asked);
        crash.acknowledged += acknowledged;
        crash.unanswered += asked - acknowledged;
        crash.counted += counted;
    }
    Ok(crash)
}

/// Of one product.
#[derive(Default)]
struct Count {
    asked: AtomicU64,
    acknowledged: AtomicU64,
}

async fn call(node: Arc<Client>, counts: Arc<[Count]>, first: u32) {
    for view in first.. {
        let count = &counts[(view % PRODUCTS) as usize];
        count.asked.fetch_add(1, Ordering::Relaxed);
        if viewing::look_at(&node, ProductId(1 + view % PRODUCTS)).await.is_err() {
            return;
        }
        count.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

async fn views(rows: &Database) -> Result<Vec<u64>> {
    let mut views = Vec::new();
    for product in 1..=PRODUCTS {
        views.push(rows.views(ProductId(product)).await?.unwrap_or(Views { views: 0 }).views);
    }
    Ok(views)
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, unanswered, counted, recovered, restart } = *self;
        let mut row = |name: &str, cell: String| writeln!(f, "  {name:<49}{cell:>15}");
        row("views acknowledged", HumanCount(acknowledged).to_string())?;
        row("asked for when it died, and not answered", HumanCount(unanswered).to_string())?;
        row("counted in the database", HumanCount(counted).to_string())?;
        row("brought back by the journal", HumanCount(recovered).to_string())?;
        // Anything else has failed the run.
        row("acknowledged and lost", "0".to_owned())?;
        row("slowest restart", format!("{} ms", restart.as_millis()))?;
        write!(f, "{THE_JOURNAL}")
    }
}

/// The heading of what is shown.
#[must_use]
pub fn heading() -> String {
    format!("{CALLERS} callers count views; the service is killed {KILLS} times (SIGKILL) and restarted")
}

/// What a reader must know about the rows.
const THE_JOURNAL: &str = "\
Note: a view is acknowledged once the operating system has it in the journal, so no end of the process loses it;
the journal is synced every 10 ms, so the end of the machine may lose those of the last 10 ms.";
