//! How soon other processes know of an invalidation, over Redis Pub/Sub on this machine.
//!
//! Each listener is this program again, in a process of its own: a cache that has every key in memory. It tells
//! at the end when its memory had given up each; clocks agree, since all are the system's monotonic one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use benches::{Figure, Sheet, rounds, runtime};
use cachalot_core::{Event, Observer, Tags};
use cachalot_memory_backend::Memory;
use cachalot_redis_backend::Redis;
use cachalot_strategies::Cache;
use cachalot_testkit::RedisServer;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

use crate::Scale;
use crate::fixture::{NAME, Named, built, fill};

const P50: Figure = Figure::new("from the call, p50", "ms");
const P99: Figure = Figure::new("from the call, p99", "ms");
const AFTER_P50: Figure = Figure::new("from its return, p50", "ms");
const AFTER_P99: Figure = Figure::new("from its return, p99", "ms");
const CALL: Figure = Figure::new("the call itself, p50", "ms");
const GAPS: Figure = Figure::new("gaps", "counted");
/// The fleet of which something is asked, and what.
const MEASURED: usize = 8;
const AT_MOST_MS: f64 = 5.0;

/// The time between two removals: each is seen by all before the next.
const PACE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn play(scale: &Scale, sheet: &mut Sheet) {
    let mut fleets = scale.fleets.to_vec();
    rounds(scale.long_rounds, "propagation", &mut fleets, |size| {
        let seen = measure(*size, scale.removals);
        let case = "propagation over Redis Pub/Sub, processes";
        let name = format!("{size} processes");
        let p99 = if *size == MEASURED { P99.at_most(AT_MOST_MS) } else { P99 };
        for (figure, values, share) in [
            (P50, &seen.from_call, 0.50),
            (p99, &seen.from_call, 0.99),
            (AFTER_P50, &seen.from_return, 0.50),
            (AFTER_P99, &seen.from_return, 0.99),
            (CALL, &seen.calls, 0.50),
        ] {
            sheet.add(case, &name, figure, quantile(values, share) / 1e6);
        }
        sheet.add(case, &name, GAPS, seen.gaps as f64);
    });
}

/// Nanoseconds.
#[derive(Default)]
struct Seen {
    from_call: Vec<f64>,
    /// No less than zero: some hear of it before the caller has its answer.
    from_return: Vec<f64>,
    calls: Vec<f64>,
    gaps: u64,
}

fn measure(size: usize, removals: usize) -> Seen {
    let (server, runtime) = (RedisServer::start(), runtime());
    let cache = runtime.block_on(node(&server.url(), None));
    runtime.block_on(async {
        fill(&cache, (0..removals).map(key), &Tags::NONE).await;
    });
    let mut listeners: Vec<Listener> = (0..size).map(|_| Listener::start(&server.url(), removals)).collect();
    listeners.iter_mut().for_each(|one| one.expect("listening"));
    // Whoever has not heard of us yet does so now: at first contact nothing is trusted.
    runtime.block_on(async {
        assert!(cache.remove(&key(removals)).await.is_ok());
        sleep(PACE * 5).await;
    });
    listeners.iter_mut().for_each(|one| one.tell("load"));
    listeners.iter_mut().for_each(|one| one.expect("loaded"));
    let calls: Vec<(u64, u64)> = runtime.block_on(async {
        let mut calls = Vec::with_capacity(removals);
        for at in 0..removals {
            let called_at = now();
            assert!(cache.remove(&key(at)).await.is_ok());
            calls.push((called_at, now()));
            sleep(PACE).await;
        }
        calls
    });
    let mut seen = Seen::default();
    for listener in &mut listeners {
        listener.tell("stop");
        seen.gaps += listener.number();
        for (called_at, returned_at) in &calls {
            let forgotten_at = listener.number();
            seen.from_call.push(forgotten_at.saturating_sub(*called_at) as f64);
            seen.from_return.push(forgotten_at.saturating_sub(*returned_at) as f64);
        }
    }
    seen.calls = calls.iter().map(|(called_at, returned_at)| (returned_at - called_at) as f64).collect();
    seen
}

/// A cache as in a service: memory, the shared tier, the bus.
async fn node(url: &str, ear: Option<Ear>) -> Named {
    let backend = Redis::connect(url).await.unwrap_or_else(|error| panic!("no connection: {error}"));
    let bus = Redis::builder(url).bus().pub_sub().unwrap_or_else(|error| panic!("no bus: {error}"));
    let builder = Cache::builder(NAME).memory(Memory::entries(10_000)).backend(backend).bus(bus);
    built(match ear {
        Some(ear) => builder.observer(ear),
        None => builder,
    })
}

fn key(at: usize) -> String {
    format!("key:{at}")
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Nanoseconds of the clock that all processes of a system share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A process that listens. It ends with its standard input, at the latest.
struct Listener {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Listener {
    fn start(url: &str, removals: usize) -> Self {
        let own = std::env::current_exe().unwrap_or_else(|error| panic!("who am I? {error}"));
        let mut command = Command::new(own);
        command.args(["--listen", url, &removals.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("no process: {error}"));
        let (Some(orders), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            unreachable!("both are piped")
        };
        Self { process, orders, answers: BufReader::new(answers) }
    }

    fn tell(&mut self, order: &str) {
        assert!(writeln!(self.orders, "{order}").is_ok(), "a listener is gone");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.answers.read_line(&mut line).is_ok_and(|n| n > 0), "a listener is gone");
        line.trim().to_owned()
    }

    fn expect(&mut self, answer: &str) {
        assert_eq!(self.line(), answer);
    }

    fn number(&mut self) -> u64 {
        let line = self.line();
        line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Says that something was heard, a moment before it is done.
struct Ear(Arc<Notify>);

impl Observer for Ear {
    fn on_event(&self, event: &Event<'_>) {
        if matches!(event, Event::Heard | Event::Gap) {
            self.0.notify_one();
        }
    }
}

/// The other side of [`Listener`].
pub(crate) fn listen(url: &str, removals: &str) {
    let removals = removals.parse().unwrap_or_else(|error| panic!("{removals}: {error}"));
    // One thread: what was heard is done before the task that looks has its turn.
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(async {
        let (heard, mut orders) = (Arc::new(Notify::new()), orders());
        let cache = node(url, Some(Ear(heard.clone()))).await;
        until(async || cache.stats().gaps > 0).await;
        say("listening");
        orders.recv().await;
        until(async || load(&cache, removals).await).await;
        let gaps = cache.stats().gaps;
        say("loaded");
        let mut forgotten = Vec::with_capacity(removals);
        while forgotten.len() < removals {
            heard.notified().await;
            while forgotten.len() < removals && cache.get_local(&key(forgotten.len())).is_none() {
                forgotten.push(now());
            }
        }
        orders.recv().await;
        say(&(cache.stats().gaps - gaps).to_string());
        forgotten.iter().for_each(|at| say(&at.to_string()));
    });
}

/// Whether memory has all of them now.
async fn load(cache: &Named, removals: usize) -> bool {
    for at in 0..removals {
        // What it gives is in memory now, and looked for there.
        let _ = cache.get(&key(at)).await;
    }
    (0..removals).all(|at| cache.get_local(&key(at)).is_some())
}

async fn until(mut happened: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !happened().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, looking).await.is_ok(), "it never happened");
}

/// What comes on standard input, line by line; with its end the process ends.
fn orders() -> UnboundedReceiver<String> {
    let (order, orders) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = order.send(line);
        }
        std::process::exit(0);
    });
    orders
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    assert!(writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_ok(), "nobody listens");
}
