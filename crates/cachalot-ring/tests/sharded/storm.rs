//! Several processes over the same servers, each with its own view of them, in bad weather and while the servers come
//! and go: no read sees what an acknowledged removal ended before it began.
//!
//! Time is virtual, and the same seed gives the same story: `CACHALOT_SEED=17` replays that one alone.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use cachalot_core::{
    Backend, Clock, Depth, Entropy, Held, Key, LeaseReply, Nonce, Put, PutReply, Record, TagToken, Token,
};
use cachalot_ring::{Failover, Health, Shard, Sharded, SlotRing};
use cachalot_testkit::history::{Done, History, How, Reader, Seen};
use cachalot_testkit::{Fault, Faulty, ModelBackend, Odds, block_on_paused, tokio_clock};
use futures_util::future::{LocalBoxFuture, join_all};

use crate::support::{HOUR, SECOND, Tasks, key, name};

const SEEDS: u64 = 24;
const PROCESSES: usize = 3;
const KEYS: u64 = 6;
const OVERLAP: Duration = Duration::from_millis(1_500);
const END: Duration = Duration::from_secs(22);
const TERM: Duration = Duration::from_secs(3);

/// A process: its face of the tier, and its ways to the servers.
struct Process {
    tier: Sharded<Faulty>,
    ways: Vec<Faulty>,
}

struct Storm {
    clock: Clock,
    entropy: Entropy,
    history: RefCell<History<u64>>,
    processes: Vec<Process>,
    tasks: Tasks,
    /// Sleeps for whoever asks it something.
    bed: Faulty,
    hits: Cell<usize>,
    is_over: Cell<bool>,
}

impl Storm {
    fn of(seed: u64) -> Self {
        let (clock, entropy) = (tokio_clock(), Entropy::seeded(seed));
        let servers: Vec<ModelBackend> = (0..4).map(|_| ModelBackend::new(clock.clone())).collect();
        let failover = match entropy.draw_u64() % 2 {
            0 => Failover::Miss,
            _ => Failover::NextNode { ttl: 2 * SECOND },
        };
        let copies = 1 + (entropy.draw_u64() % 3 / 2) as usize;
        let tasks = Tasks::default();
        let odds = Odds {
            refuse: 0.04,
            lose_answer: 0.04,
            land_late: 0.03,
            partly: 0.03,
            delay: 0.5,
            longest_delay: Duration::from_millis(150),
        };
        let process = |_| {
            let ways: Vec<Faulty> = servers.iter().map(|server| Faulty::new(server.clone())).collect();
            ways.iter().for_each(|way| way.at_random(odds, entropy.draw_u64()));
            let health = Health::default().failures(3).probes(2);
            let pause = Duration::from_millis(100);
            let tier = Sharded::builder(SlotRing::new, tasks.clone())
                .shards((0..3).map(|at| Shard::new(name(at), ways[at].clone())))
                .health(health.pause(pause, 4 * pause))
                .failover(failover)
                .copies(copies)
                .clock(clock.clone())
                .entropy(entropy.clone())
                .build()
                .unwrap();
            Process { tier, ways }
        };
        let processes = (0..PROCESSES).map(process).collect();
        let bed = Faulty::new(ModelBackend::new(clock.clone()));
        let history = RefCell::new(History::new(Duration::MAX));
        let (hits, is_over) = (Cell::new(0), Cell::new(false));
        Self { clock, entropy, history, processes, tasks, bed, hits, is_over }
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.clock.now().as_millis())
    }

    fn lot(&self, count: u64) -> u64 {
        self.entropy.draw_u64() % count
    }

    async fn sleep(&self, time: Duration) {
        self.bed.next(Fault::Delay(time));
        self.bed.get(&Key::new("bed")).await.unwrap();
    }

    async fn nap(&self, longest_ms: u64) {
        self.sleep(Duration::from_millis(1 + self.lot(longest_ms))).await;
    }

    /// All of it, at the same time.
    async fn rage(&self) {
        let mut all: Vec<LocalBoxFuture<'_, ()>> = Vec::new();
        for at in 0..PROCESSES {
            (0..3).for_each(|_| all.push(Box::pin(self.reader(at))));
            (0..2).for_each(|_| all.push(Box::pin(self.writer(at))));
            all.push(Box::pin(self.weather(at)));
            all.push(Box::pin(self.mover(at)));
        }
        all.push(Box::pin(self.runtime()));
        all.push(Box::pin(async {
            self.sleep(END).await;
            self.is_over.set(true);
        }));
        join_all(all).await;
    }

    /// Runs probes, and has late calls land.
    async fn runtime(&self) {
        while !self.is_over.get() {
            self.tasks.run().await;
            self.sleep(Duration::from_millis(10)).await;
            let (process, server) = (self.lot(PROCESSES as u64) as usize, self.lot(4) as usize);
            self.processes[process].ways[server].land_one().await;
        }
    }

    /// Takes servers out of the reach of one process.
    async fn weather(&self, process: usize) {
        while !self.is_over.get() {
            self.nap(3_000).await;
            let way = &self.processes[process].ways[self.lot(4) as usize];
            way.down();
            self.nap(2_000).await;
            way.up();
        }
    }

    /// A server comes, goes, and comes again, which each process hears of at another time.
    async fn mover(&self, process: usize) {
        let Process { tier, ways } = &self.processes[process];
        let latest = OVERLAP.as_millis() as u64 - 10;
        let mut due = 0;
        for (at_ms, count, era) in [(4_000, 4, 0), (10_000, 3, 0), (16_000, 4, 1)] {
            let heard = at_ms + self.lot(latest);
            self.sleep(Duration::from_millis(heard - due)).await;
            due = heard;
            let era_of = |at: usize| if at == 3 { era } else { 0 };
            let shards = (0..count).map(|at| Shard::new(name(at), ways[at].clone()).era(era_of(at)));
            tier.change(shards, OVERLAP).unwrap();
        }
    }

    async fn reader(&self, process: usize) {
        while !self.is_over.get() {
            self.nap(120).await;
            let of = self.lot(KEYS);
            let read = self.history.borrow_mut().begin_read(Reader::Fresh, of, self.now());
            let version = self.read(&self.processes[process].tier, of).await;
            let seen = Seen { version, is_fallback: false };
            self.history.borrow_mut().end_read(read, Some(seen), self.now());
        }
    }

    async fn read(&self, tier: &Sharded<Faulty>, of: u64) -> u64 {
        let mut refuse = None;
        if let Ok(Some(record)) = tier.get(&key(of)).await {
            match self.vet(tier, of, &record).await {
                Some(version) => return version,
                None => refuse = Some(record.nonce),
            }
        }
        let leases = tier.leases().unwrap();
        let token = Token::draw(&self.entropy);
        for _ in 0..4 {
            match leases.get_or_lease(&key(of), token, TERM, refuse).await {
                Ok(LeaseReply::Hit(record)) => match self.vet(tier, of, &record).await {
                    Some(version) => return version,
                    None => refuse = Some(record.nonce),
                },
                Ok(LeaseReply::Lease { .. }) => return self.load(tier, of, token).await,
                Ok(LeaseReply::Busy { .. }) => self.nap(60).await,
                Err(_) => break,
            }
        }
        self.history.borrow().version(&of)
    }

    /// The version of a record that is good, and whose tag still stands at its token.
    async fn vet(&self, tier: &Sharded<Faulty>, of: u64, record: &Record) -> Option<u64> {
        let (version, token) = record.payload.split_first_chunk::<8>()?;
        let now = tier.tags()?.tag_tokens(&[tag(of)]).await.ok()?;
        let is_good = !record.invalidated && now[0].is_some_and(|now| now.to_bytes() == token);
        self.hits.set(self.hits.get() + usize::from(is_good));
        is_good.then(|| u64::from_be_bytes(*version))
    }

    async fn load(&self, tier: &Sharded<Faulty>, of: u64, token: Token) -> u64 {
        let pinned = self.pin(tier, of).await;
        let version = self.history.borrow().version(&of);
        self.nap(200).await;
        let leases = tier.leases().unwrap();
        // Whatever becomes of either.
        match pinned {
            Some(pinned) => drop(leases.put_leased(&key(of), token, self.put(version, pinned)).await),
            None => drop(leases.release(&key(of), token).await),
        }
        version
    }

    async fn pin(&self, tier: &Sharded<Faulty>, of: u64) -> Option<TagToken> {
        let fresh = [TagToken::draw(&self.entropy)];
        Some(tier.tags()?.pin_tags(&[tag(of)], &fresh, HOUR).await.ok()?[0])
    }

    fn put(&self, version: u64, token: TagToken) -> Put {
        let payload = [&version.to_be_bytes()[..], &token.to_bytes()].concat();
        Put { payload: payload.into(), nonce: Nonce::draw(&self.entropy), ttl: HOUR }
    }

    async fn writer(&self, process: usize) {
        let tier = &self.processes[process].tier;
        while !self.is_over.get() {
            self.nap(700).await;
            match self.lot(4) {
                0 => self.remove_tag(process, tier, self.lot(2)).await,
                1 => self.insert(process, tier, self.lot(KEYS)).await,
                _ => self.change_and_remove(process, tier, self.lot(KEYS)).await,
            }
        }
    }

    async fn change_and_remove(&self, process: usize, tier: &Sharded<Faulty>, of: u64) {
        self.history.borrow_mut().write(of);
        let id = self.history.borrow_mut().begin_invalidation(process, of, How::Remove, self.now());
        if self.remove(tier, of).await {
            self.history.borrow_mut().end_invalidation(id, Done::Everywhere, self.now());
        }
    }

    /// Until it is taken, as a cache replays it. Whether it was.
    async fn remove(&self, tier: &Sharded<Faulty>, of: u64) -> bool {
        let by_many = self.lot(2) == 0;
        while !self.is_over.get() {
            let is_taken = match (by_many, self.lot(2)) {
                (true, _) => tier.remove_many(&[key(of), key("other")]).await[0].is_ok(),
                (false, 0) => tier.remove(&key(of)).await.is_ok(),
                (false, _) => tier.expire(&key(of), HOUR).await.is_ok(),
            };
            if is_taken {
                return true;
            }
            self.nap(200).await;
        }
        false
    }

    async fn remove_tag(&self, process: usize, tier: &Sharded<Faulty>, tagged: u64) {
        let keys = (0..KEYS).filter(|of| of % 2 == tagged);
        let begin = |of| {
            let mut history = self.history.borrow_mut();
            history.write(of);
            let id = history.begin_invalidation(process, of, How::Remove, self.now());
            history.by_tag(id);
            id
        };
        let begun: Vec<_> = keys.map(begin).collect();
        while !self.is_over.get() {
            let fresh = [TagToken::draw(&self.entropy)];
            if tier.tags().unwrap().rotate_tags(&[tag(tagged)], &fresh, Depth::Remove, HOUR).await.is_ok() {
                let end = |id| self.history.borrow_mut().end_invalidation(id, Done::Everywhere, self.now());
                return begun.into_iter().for_each(end);
            }
            self.nap(200).await;
        }
    }

    /// A hold, the write to the source, the put under the hold; if anything fails, a removal.
    async fn insert(&self, process: usize, tier: &Sharded<Faulty>, of: u64) {
        let Some(pinned) = self.pin(tier, of).await else { return };
        let (leases, token) = (tier.leases().unwrap(), Token::draw(&self.entropy));
        let held = leases.hold(&key(of), token, TERM).await;
        let version = self.history.borrow_mut().write(of);
        let id = self.history.borrow_mut().begin_invalidation(process, of, How::Insert, self.now());
        self.nap(100).await;
        let is_stored = match held {
            Ok(Held::Held) => {
                let stored = leases.put_held(&key(of), token, self.put(version, pinned)).await;
                matches!(stored, Ok(PutReply::Stored))
            }
            _ => false,
        };
        if is_stored || self.remove(tier, of).await {
            self.history.borrow_mut().end_invalidation(id, Done::Everywhere, self.now());
        }
    }
}

fn tag(of: u64) -> Key {
    Key::new(format!("users#{}", of % 2))
}

/// What was served by the tier, or the read that broke a promise.
fn live(seed: u64) -> Result<usize, String> {
    block_on_paused(async {
        let storm = Storm::of(seed);
        storm.rage().await;
        let history = storm.history.into_inner();
        assert!(history.reads() > 300 && history.promises() > 20, "seed {seed}: nothing happened");
        history.check().map_err(|broken| format!("seed {seed}: {broken}"))?;
        Ok(storm.hits.get())
    })
}

#[test]
fn no_read_sees_what_an_acknowledged_removal_ended() {
    if let Some(seed) = std::env::var("CACHALOT_SEED").ok().and_then(|seed| seed.parse().ok()) {
        live(seed).unwrap();
        return;
    }
    let hits: Vec<usize> = (0..SEEDS).map(|seed| live(seed).unwrap()).collect();
    assert!(hits.iter().all(|hits| *hits > 50), "{hits:?}");
}

/// The storms are strong enough: each of these mistakes is found out by them.
#[cfg(cachalot_mutants)]
#[test]
fn the_storms_find_mistakes_out() {
    use cachalot_core::mutants::{Mutant, under};
    for mutant in [Mutant::TakesAPartForTheWhole, Mutant::RemovesFromOneOwner] {
        let found = (0..SEEDS).filter(|seed| under(Some(mutant), || live(*seed)).is_err()).count();
        println!("{mutant:?}: found out by {found} of {SEEDS} storms");
        assert!(found > 0, "{mutant:?}");
    }
}
