//! A process: a runtime of its own, whose tasks all end at once when it dies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cachalot::{Cache, Memory, WriteThrough};
use cachalot_core::Entropy;
use cachalot_testkit::{Faulty, Odds};
use integration_tests::connect;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use super::flaky::Flaky;
use super::tally::{Floors, Tally};
use super::{FRESH_READERS, Fire, HOLD_TERM, KEYS, NOTICE, PROCESSES, READERS, WRITERS, people, runtime};

pub(super) struct Process {
    runtime: Runtime,
    member: Arc<Member>,
}

/// What its tasks have in common.
pub(super) struct Member {
    pub(super) users: WriteThrough<u64, String, Flaky>,
    pub(super) flaky: Flaky,
    /// What is promised to it.
    pub(super) floors: Floors,
    tier: Faulty,
    /// Its way to the shared tier fails now and then.
    is_cut_off: bool,
    seed: u64,
}

const ODDS: Odds = Odds {
    refuse: 0.03,
    lose_answer: 0.02,
    land_late: 0.02,
    partly: 0.0,
    delay: 0.05,
    longest_delay: Duration::from_millis(20),
};

impl Process {
    pub(super) fn start(fire: &Arc<Fire>, number: usize) -> Self {
        let runtime = runtime();
        let seed = fire.seed << 8 | number as u64;
        let lots = |who: usize| Entropy::seeded(seed << 8 | who as u64);
        let flaky = Flaky::new(fire.source.clone(), lots(0));
        let member = runtime.block_on(async {
            let tier = Faulty::new(connect(&fire.server).await);
            let cache = Cache::builder("users")
                .memory(Memory::entries(100))
                .backend(tier.clone())
                .bus(fire.bus.clone())
                .heartbeat(Duration::from_millis(100))
                .hard_timeout(Duration::from_millis(300))
                .max_flight_age(Duration::from_millis(300))
                .lease_term(Duration::from_millis(300))
                .hold_term(HOLD_TERM)
                .build()
                .unwrap();
            let users = WriteThrough::new(cache, flaky.clone());
            let (floors, is_cut_off) = (Floors::default(), number + 1 == PROCESSES);
            Arc::new(Member { users, flaky, floors, tier, is_cut_off, seed })
        });
        // It has nothing from before.
        member.floors.raise_all(&fire.tally.floors);
        member.flare_up();
        for who in (number..WRITERS).step_by(PROCESSES) {
            runtime.spawn(people::write(fire.clone(), member.clone(), lots(100 + who)));
        }
        for who in (number..READERS - FRESH_READERS).step_by(PROCESSES) {
            runtime.spawn(people::read(fire.clone(), member.clone(), lots(200 + who)));
        }
        let late = member.tier.clone();
        runtime.spawn(async move {
            loop {
                sleep(Duration::from_millis(30)).await;
                late.land().await;
            }
        });
        Self { runtime, member }
    }

    /// Waits until the database has taken a write that the cache has not, for so long at most. Whether it has.
    pub(super) fn wait_until_between(&self, most: Duration) -> bool {
        let began = Instant::now();
        while !self.member.flaky.is_between() && began.elapsed() < most {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.member.flaky.is_between()
    }

    /// Ends all its tasks where they stand.
    pub(super) fn crash(self) {
        self.runtime.shutdown_background();
    }

    pub(super) fn lose_the_shared_tier(&self, is_down: bool) {
        if is_down { self.member.tier.down() } else { self.member.tier.up() }
    }

    /// Nothing fails until it flares up again.
    pub(super) fn calm(&self) {
        self.member.flaky.calm();
        self.member.tier.calm();
    }

    pub(super) fn flare_up(&self) {
        self.member.flare_up();
    }

    /// Waits until all that was deferred is replayed.
    pub(super) async fn settled(&self, most: Duration) {
        let stats = || self.member.users.cache().stats();
        let settled = async {
            while stats().pending_invalidations > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(most, settled).await.unwrap_or_else(|_| panic!("not replayed: {:?}", stats()));
    }

    /// Its memory has `row` or nothing, as soon as it has noticed that another has died before it could speak.
    pub(super) async fn holds_nothing_but(&self, key: u64, row: &str, most: Duration) {
        let seen = || self.member.users.cache().get_local(&key);
        let noticed = async {
            while seen().is_some_and(|seen| *seen != row) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(most, noticed).await.unwrap_or_else(|_| panic!("key {key} is {:?}, not {row}", seen()));
    }

    pub(super) fn reads_what_the_source_has(&self, fire: &Fire) {
        self.runtime.block_on(async {
            for key in 0..KEYS {
                let row = people::row(fire, key).await;
                let seen = self.member.users.get(&key).await.unwrap();
                assert_eq!(seen.as_deref().map_or("", String::as_str), row, "key {key}");
            }
        });
    }

    /// Whatever has returned binds it.
    pub(super) fn is_told(&self, tally: &Tally) {
        self.member.floors.raise_all(&tally.floors);
    }

    pub(super) fn shut_down(self) {
        let cache = self.member.users.cache().clone();
        self.runtime.block_on(async { cache.shutdown(NOTICE).await }).unwrap();
        let stats = cache.stats();
        assert_eq!((stats.flights, stats.task_panics), (0, 0), "{stats:?}");
        self.runtime.shutdown_timeout(NOTICE);
    }
}

impl Member {
    fn flare_up(&self) {
        self.flaky.flare_up();
        if self.is_cut_off {
            self.tier.at_random(ODDS, self.seed);
        }
    }
}
