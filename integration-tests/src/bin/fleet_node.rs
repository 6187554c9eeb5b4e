//! One process of a fleet: many callers of one cold key over one Redis, steered by lines.
//!
//! `fleet-node URL CALLERS LEASE_TERM_MS`. It loads its own process id.
//!
//! | it is told | and |
//! |---|---|
//! | `go` | lets its callers come |
//! | `finish` | lets its load end |
//! | `read` | reads without loading, once its callers are done |
//!
//! | it says | when |
//! |---|---|
//! | `ready` | it is connected |
//! | `waiting` | all its callers have joined a flight |
//! | `loading` | a load of its own begins |
//! | `refused` | the shared tier has refused what it loaded |
//! | `served N VALUE` | `N` of its callers got `VALUE` |
//! | `failed ERROR` | one of its callers got an error |
//! | `done` | no caller is left |
//! | `found VALUE` | it was told to read, and this was there; `nothing` if nothing was |
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "its failure is the test's")]
#![allow(clippy::print_stdout, reason = "that is how it answers")]

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cachalot::{Cache, Event, LoaderError, Memory, Observer, Tier};
use integration_tests::{counted, patient};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::sleep;

/// The lines heard so far.
type Heard = watch::Receiver<Vec<String>>;

const KEY: u64 = 1;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, callers, lease_term] = args.as_slice() else {
        panic!("fleet-node URL CALLERS LEASE_TERM_MS");
    };
    let cache = open(url, Duration::from_millis(lease_term.parse().unwrap())).await;
    let heard = listen();
    say("ready");
    wait_for(&heard, "go").await;
    call(&cache, &heard, callers.parse().unwrap()).await;
    say("done");
    wait_for(&heard, "read").await;
    let found = cache.get(&KEY).await;
    say(&format!("found {}", found.map_or("nothing".to_owned(), |value| value.to_string())));
}

async fn open(url: &str, lease_term: Duration) -> Cache<u64, u32> {
    Cache::builder("fleet")
        .memory(Memory::entries(100))
        .backend(patient(url).connect().await.expect("a server"))
        .hard_timeout(lease_term)
        .lease_term(lease_term)
        .observer(Refusals)
        .build()
        .unwrap()
}

/// Says when the shared tier refuses a fill.
struct Refusals;

impl Observer for Refusals {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::Fenced { tier: Tier::Backend } = event {
            say("refused");
        }
    }
}

/// Sends `callers` at once and says what became of them.
async fn call(cache: &Cache<u64, u32>, heard: &Heard, callers: usize) {
    let joined = Arc::new(AtomicUsize::new(0));
    let caller = || {
        let (cache, heard, joined) = (cache.clone(), heard.clone(), joined.clone());
        async move { counted(&joined, cache.get_or_load(&KEY, |_| load(heard))).await.map(|value| *value) }
    };
    let tasks: Vec<_> = (0..callers).map(|_| tokio::spawn(caller())).collect();
    while joined.load(Ordering::SeqCst) < callers {
        sleep(Duration::from_millis(1)).await;
    }
    say("waiting");
    let mut served: BTreeMap<u32, usize> = BTreeMap::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(value) => *served.entry(value).or_default() += 1,
            Err(error) => say(&format!("failed {error}")),
        }
    }
    for (value, callers) in served {
        say(&format!("served {callers} {value}"));
    }
}

/// Never yields: a process that is stopped in it wakes up with its load just done, and no timer comes first.
async fn load(heard: Heard) -> Result<u32, LoaderError> {
    say("loading");
    block_in_place(|| Handle::current().block_on(wait_for(&heard, "finish")));
    Ok(std::process::id())
}

fn listen() -> Heard {
    let (sender, receiver) = watch::channel(Vec::new());
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            sender.send_modify(|heard| heard.push(line.expect("text")));
        }
        // Whoever steered it is gone.
        std::process::exit(1);
    });
    receiver
}

async fn wait_for(heard: &Heard, line: &str) {
    let mut heard = heard.clone();
    heard.wait_for(|heard| heard.iter().any(|known| known == line)).await.expect("it still listens");
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
}
