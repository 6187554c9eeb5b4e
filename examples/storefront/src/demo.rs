//! The run as a whole: the same load without and with the cache, then what it showed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::{CacheChoice, DemoArgs};
use crate::client::Client;
use crate::crash;
use crate::load;
use crate::nodes::Node;
use crate::ordering;
use crate::pages::Stats;
use crate::redis::Redis;
use crate::report::{Measured, Report, curl_lines};
use crate::repricing;
use crate::shop::seed::{self, Size};
use crate::stocktaking;
use crate::viewing;

/// How a run ended, if not by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It did what it was asked to.
    Complete,
    /// Somebody stopped it before.
    Interrupted,
}

/// Runs the demo. Whatever way it ends (done, failed, Ctrl-C, a request to terminate), the processes it
/// started have ended before.
///
/// # Errors
/// When the database cannot be made, a process does not come up, or a request fails.
pub async fn run(args: &DemoArgs) -> Result<Ending> {
    let mut fleet = Fleet::default();
    let mut stop = pin!(stop_signal());
    let mut ending = tokio::select! {
        shown = show(args, &mut fleet) => shown.map(|()| Ending::Complete),
        stopped = &mut stop => stopped.map(|()| Ending::Interrupted),
    };
    if args.serve && matches!(ending, Ok(Ending::Complete)) {
        ending = stop.await.map(|()| Ending::Complete);
    }
    fleet.stop().await.context("stopping the processes")?;
    ending
}

#[allow(clippy::print_stdout, reason = "the result of the program")]
async fn show(args: &DemoArgs, fleet: &mut Fleet) -> Result<()> {
    // First, since it may be missing.
    let cache = if args.redis { CacheChoice::Redis(fleet.start_redis().await?) } else { CacheChoice::Memory };
    let size = prepare_database(args).await?;
    let without = measure(args, size, fleet, &CacheChoice::Off).await?;
    fleet.stop_nodes().await?;
    let with = measure(args, size, fleet, &cache).await?;
    println!("{}", Report { size, redis: args.redis, without, with });
    if args.crash {
        println!("{}", crash::heading());
        println!("{}", crash::play(&args.database, &cache, &journal(args, "crash")).await?);
    }
    if args.serve {
        println!("{}", curl_lines(&fleet.addresses(), &cache));
    }
    Ok(())
}

async fn prepare_database(args: &DemoArgs) -> Result<Size> {
    let (path, size) = (args.database.clone(), if args.small { Size::SMALL } else { Size::FULL });
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    let work = tokio::task::spawn_blocking(move || {
        seed::prepare(&path, size, |orders| count.store(orders.into(), Ordering::Relaxed))
    });
    let bar = bar("making the shop's database", size.orders.into());
    let made = watch(bar, |bar| bar.set_position(written.load(Ordering::Relaxed)), work).await;
    made?.context("making the database")
}

/// One load and one crowd on fresh processes, so that both sides start cold and count from zero.
async fn measure(args: &DemoArgs, size: Size, fleet: &mut Fleet, cache: &CacheChoice) -> Result<Measured> {
    fleet.start_nodes(args, cache).await?;
    let clients = fleet.clients();
    let title = if *cache == CacheChoice::Off { "without cache" } else { "with cache" };
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let tick = |bar: &ProgressBar| {
        bar.set_position(start.elapsed().as_millis() as u64);
        bar.set_message(format!("{} requests", HumanCount(done.load(Ordering::Relaxed))));
    };
    let load = load::run(&clients, size, args.duration, &done);
    let load = watch(bar(title, args.duration.as_millis() as u64), tick, load).await?;
    let during_load = fleet.stats().await?;

    let served = Arc::new(AtomicU64::new(0));
    let tick = |bar: &ProgressBar| bar.set_position(served.load(Ordering::Relaxed));
    let crowd = load::cold_key(&clients, &served);
    let crowd = watch(bar(&format!("{title}, one cold page"), load::CROWD as u64), tick, crowd).await?;
    let crowd_queries = fleet.stats().await?.database.reads - during_load.database.reads;

    let new_price = load::new_price(&clients).await?;
    let category = repricing::change_category(&clients).await?;
    let stock = stocktaking::count(&clients).await?;
    let views = viewing::count(&clients).await?;
    let cut = match &fleet.redis {
        Some(redis) if *cache != CacheChoice::Off => Some(repricing::cut(&clients, redis).await?),
        _ => None,
    };
    // Its orders stay in the shop, so it comes where there is something to see.
    let ordering = match &fleet.redis {
        Some(_) if *cache != CacheChoice::Off => Some(ordering::order(&clients).await?),
        _ => None,
    };
    let shown = Measured {
        load,
        during_load,
        crowd,
        crowd_queries,
        new_price,
        category,
        stock,
        views,
        ordering,
        cut,
    };
    Ok(shown)
}

/// Where the process of this name keeps its journal: beside the database, and found again by the next run.
fn journal(args: &DemoArgs, name: &str) -> PathBuf {
    args.database.with_extension(format!("views-{name}"))
}

/// The processes of a run.
#[derive(Debug, Default)]
struct Fleet {
    nodes: Vec<Node>,
    redis: Option<Redis>,
}

impl Fleet {
    async fn start_redis(&mut self) -> Result<String> {
        let redis = Redis::start().await?;
        Ok(self.redis.insert(redis).url())
    }

    async fn start_nodes(&mut self, args: &DemoArgs, cache: &CacheChoice) -> Result<()> {
        for name in &["one", "other"][..if args.redis { 2 } else { 1 }] {
            self.nodes.push(Node::start(&args.database, cache, &journal(args, name)).await?);
        }
        Ok(())
    }

    fn clients(&self) -> Vec<Arc<Client>> {
        self.nodes.iter().map(|node| Arc::clone(node.client())).collect()
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.client().address()).collect()
    }

    /// The counters of all nodes, added up.
    async fn stats(&self) -> Result<Stats> {
        let mut sum = Stats::default();
        for node in &self.nodes {
            sum += node.stats().await?;
        }
        Ok(sum)
    }

    async fn stop_nodes(&mut self) -> Result<()> {
        for node in self.nodes.drain(..) {
            node.stop().await?;
        }
        Ok(())
    }

    /// The nodes first: they are clients of the Redis.
    async fn stop(&mut self) -> Result<()> {
        self.stop_nodes().await?;
        if let Some(redis) = self.redis.take() {
            redis.stop().await?;
        }
        Ok(())
    }
}

/// Does the work under a progress bar, which is gone afterwards, and was never there without a terminal.
async fn watch<T>(bar: ProgressBar, tick: impl Fn(&ProgressBar), work: impl Future<Output = T>) -> T {
    let mut ticks = interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            _ = ticks.tick() => tick(&bar),
        }
    }
}

fn bar(title: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:28} {wide_bar} {msg:18}");
    let bar = ProgressBar::new(total).with_prefix(title.to_owned());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Ready when somebody wants the program to end.
#[cfg(unix)]
async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// Ready when somebody wants the program to end.
#[cfg(not(unix))]
async fn stop_signal() -> Result<()> {
    Ok(tokio::signal::ctrl_c().await?)
}
