//! Write-through under fire: writers and readers in three processes over a real database and a real Redis, both of
//! which fail now and then, while processes die between the one and the other.
//!
//! What lands when is not decided by the seed alone, which prints itself: `CACHALOT_SEED` draws the failures and the
//! pauses again.

use std::sync::Arc;
use std::time::Duration;

use cachalot::{LocalBus, RedisBackend};
use cachalot_testkit::RedisServer;
use integration_tests::SqliteSource;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

mod flaky;
mod people;
mod process;
mod tally;

use process::Process;
use tally::Tally;

const KEYS: u64 = 8;
const PROCESSES: usize = 3;
const WRITERS: usize = 16;
/// Some of them are processes that have just been started.
const READERS: usize = 16;
const FRESH_READERS: usize = 4;
const ROUNDS: usize = 3;
const MOST_ROUNDS: usize = 4 * ROUNDS;
const CRASHES: usize = 3;
const HOLD_TERM: Duration = Duration::from_millis(800);
/// Half of a hold's term: what a source has to answer in.
const PATIENCE: Duration = Duration::from_millis(400);
/// Until all that is late has landed, and every hold has ended.
const CALM: Duration = HOLD_TERM.saturating_mul(2);
/// Longer than it takes to notice that a process has gone.
const NOTICE: Duration = Duration::from_secs(20);

/// What all processes have in common.
struct Fire {
    seed: u64,
    source: SqliteSource,
    server: RedisServer,
    bus: LocalBus,
    /// How those who have just been started reach the shared tier.
    outside: OnceCell<Arc<RedisBackend>>,
    tally: Tally,
}

struct Blaze {
    fire: Arc<Fire>,
    processes: Vec<Process>,
    /// Of who looks on, and never dies.
    outside: Runtime,
}

impl Blaze {
    fn start(fire: Fire) -> Self {
        let (fire, outside) = (Arc::new(fire), runtime());
        let processes = (0..PROCESSES).map(|number| Process::start(&fire, number)).collect();
        for reader in 0..FRESH_READERS {
            outside.spawn(people::read_fresh(fire.clone(), reader));
        }
        Self { fire, processes, outside }
    }

    /// Everybody writes and reads, and processes die.
    fn storm(&mut self) {
        self.processes.iter().for_each(Process::flare_up);
        self.fire.tally.storms(true);
        for crash in 0..CRASHES {
            pause(60 + 50 * crash as u64);
            // The last never dies: what the shared tier has not taken dies with who was to bring it there.
            let number = crash % (PROCESSES - 1);
            let is_between = self.processes[number].wait_until_between(Duration::from_millis(300));
            let dead = std::mem::replace(&mut self.processes[number], Process::start(&self.fire, number));
            dead.crash();
            self.fire.tally.crashed(is_between);
        }
        self.processes[PROCESSES - 1].lose_the_shared_tier(true);
        pause(100);
        self.processes[PROCESSES - 1].lose_the_shared_tier(false);
        pause(100);
        self.fire.tally.storms(false);
    }

    /// Nobody writes any more, and every hold is over: all tiers have what the source has, or nothing.
    fn assert_quiet(&self) {
        self.outside.block_on(async {
            self.processes.iter().for_each(Process::calm);
            tokio::time::sleep(CALM).await;
            for process in &self.processes {
                process.settled(NOTICE).await;
            }
            for key in 0..KEYS {
                let row = people::row(&self.fire, key).await;
                let below = people::fresh(&self.fire).await.get(&key).await;
                assert!(below.is_none_or(|it| *it == row), "key {key} is not {row} in the shared tier");
                for process in &self.processes {
                    process.holds_nothing_but(key, &row, NOTICE).await;
                }
            }
        });
        for process in &self.processes {
            process.reads_what_the_source_has(&self.fire);
        }
        // Who has been told of everything is bound by everything.
        self.processes.iter().for_each(|process| process.is_told(&self.fire.tally));
    }
}

fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn write_through_under_fire_never_shows_what_was_overwritten() {
    let seed = std::env::var("CACHALOT_SEED").map_or(17, |seed| seed.parse().expect("a number"));
    println!("CACHALOT_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let source = SqliteSource::open(&folder.path().join("rows.db"), PATIENCE).unwrap();
    let (outside, tally) = Default::default();
    let fire = Fire { seed, source, server: RedisServer::start(), bus: LocalBus::new(), outside, tally };
    let mut blaze = Blaze::start(fire);
    // A slow machine does less in a round.
    for round in 0..MOST_ROUNDS {
        if round >= ROUNDS && blaze.fire.tally.missing().is_none() {
            break;
        }
        blaze.storm();
        blaze.assert_quiet();
    }
    let Blaze { fire, processes, outside } = blaze;
    fire.tally.end();
    for process in processes {
        process.shut_down();
    }
    outside.shutdown_timeout(NOTICE);
    fire.tally.assert_lively();
}
