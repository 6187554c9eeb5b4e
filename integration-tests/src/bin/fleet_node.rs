//! One process of a fleet: many callers of one cold key over one Redis, steered by lines.
//!
//! `fleet-node URL JOURNAL CALLERS LEASE_TERM_MS`. It says `ready` when connected, `waiting` when all callers
//! wait, `loading` when its load has begun, and `done N` when `N` callers have got the value. It is told `go`
//! to let the callers come and `finish` to let its load end. Each load appends the process's id to the
//! journal.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "its failure is the test's")]
#![allow(clippy::print_stdout, reason = "that is how it answers")]

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cachalot::{Cache, LoaderError, Memory};
use integration_tests::{counted, patient};
use tokio::sync::watch;
use tokio::time::sleep;

/// The lines heard so far.
type Heard = watch::Receiver<Vec<String>>;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, journal, callers, lease_term] = args.as_slice() else {
        panic!("fleet-node URL JOURNAL CALLERS LEASE_TERM_MS");
    };
    let callers: usize = callers.parse().unwrap();
    let lease_term = Duration::from_millis(lease_term.parse().unwrap());
    let cache: Cache<u64, String> = Cache::builder("fleet")
        .memory(Memory::entries(100))
        .backend(patient(url).connect().await.expect("a server"))
        .hard_timeout(lease_term)
        .lease_term(lease_term)
        .build()
        .unwrap();
    let heard = listen();
    say("ready");
    wait_for(&heard, "go").await;

    let joined = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (cache, heard, journal) = (cache.clone(), heard.clone(), journal.clone());
            let joined = joined.clone();
            tokio::spawn(
                async move { counted(&joined, cache.get_or_load(&1, |_| load(journal, heard))).await },
            )
        })
        .collect();
    while joined.load(Ordering::SeqCst) < callers {
        sleep(Duration::from_millis(1)).await;
    }
    say("waiting");
    let mut served = 0;
    for task in tasks {
        served += usize::from(task.await.unwrap().is_ok_and(|value| *value == "value"));
    }
    say(&format!("done {served}"));
}

async fn load(journal: String, heard: Heard) -> Result<String, LoaderError> {
    let mut file = OpenOptions::new().create(true).append(true).open(journal)?;
    // One write, so that lines of several processes do not mix.
    file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
    say("loading");
    wait_for(&heard, "finish").await;
    Ok("value".to_owned())
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
    println!("{line}");
    std::io::stdout().flush().expect("somebody listens");
}
