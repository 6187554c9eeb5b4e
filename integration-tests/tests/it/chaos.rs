//! Eight real servers behind one sharded tier, killed, restarted and stopped under load, in an order that a seed gives:
//! no read fails, and none that began after a removal was acknowledged sees what it ended.
//!
//! `CACHALOT_SEED=17 cargo test -p integration-tests chaos` has another order.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use cachalot::ring::{Health, SlotRing};
use cachalot::{
    Cache, Failover, Key, LocalBus, Memory, Redis, RedisBackend, Removal, Shard, Sharded, TokioSpawn,
};
use cachalot_core::Entropy;
use cachalot_testkit::history::{Done, History, How, ProcessId, Reader, Seen};
use cachalot_testkit::{CountingSource, RedisServer};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

type Numbers = Cache<u64, u64>;
type Tier = Arc<Sharded<RedisBackend>>;

const SERVERS: usize = 8;
const PROCESSES: ProcessId = 3;
const KEYS: u64 = 96;
/// Tasks of each process that read through its cache.
const READERS: usize = 3;
/// Longer than anything here can take on a busy machine.
const AGES: Duration = Duration::from_secs(60);
const A_MOMENT: Duration = Duration::from_millis(5);

/// A process: its own face of the servers, its own memory.
struct Process {
    id: ProcessId,
    tier: Tier,
    cache: Numbers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// It is dead for a while, and comes back empty.
    Kill,
    /// It is back at once, and empty.
    Restart,
    /// It stands still for a while, and goes on where it was.
    Stop,
}

struct Chaos {
    servers: Vec<RedisServer>,
    processes: Vec<Process>,
    source: CountingSource<u64, u64>,
    /// Of each key. The source changes under its lock.
    histories: Vec<Mutex<History<()>>>,
    entropy: Entropy,
    began: Instant,
    reads: AtomicUsize,
    /// Reads by somebody without memory that found something in the shared tier.
    found: AtomicUsize,
    removals: AtomicUsize,
    is_over: AtomicBool,
}

fn name(at: usize) -> String {
    format!("10.0.0.{at}:6379")
}

fn tier(servers: &[RedisServer], failover: Failover) -> Tier {
    let shard = |(at, server): (usize, &RedisServer)| Shard::new(name(at), backend(server));
    let health = Health::default().failures(3).probes(2);
    let health = health.pause(Duration::from_millis(50), Duration::from_millis(200));
    let tier = Sharded::builder(SlotRing::new, TokioSpawn).shards(servers.iter().enumerate().map(shard));
    Arc::new(tier.failover(failover).health(health).build().unwrap())
}

/// With a short deadline, for the sake of those that stand still. One that is merely slow may miss it too: a load more.
fn backend(server: &RedisServer) -> RedisBackend {
    Redis::builder(server.url()).deadline(Duration::from_millis(250)).connect_lazy().unwrap()
}

fn settings(tier: &Tier) -> cachalot::CacheBuilder<u64, u64> {
    let cache = Cache::builder("numbers").memory(Memory::entries(1_000)).ttl(Duration::from_secs(600));
    cache.memory_ttl(Duration::from_millis(100)).backend(tier.clone())
}

impl Chaos {
    fn new(failover: Failover, bus: Option<LocalBus>, seed: u64) -> Arc<Self> {
        let seed = std::env::var("CACHALOT_SEED").map_or(seed, |seed| seed.parse().expect("a number"));
        println!("{failover:?}, CACHALOT_SEED={seed}");
        let servers: Vec<RedisServer> = (0..SERVERS).map(|_| RedisServer::start()).collect();
        let process = |id| {
            let tier = tier(&servers, failover);
            let cache = settings(&tier);
            let cache = match &bus {
                Some(bus) => cache.bus(bus.clone()),
                None => cache,
            };
            Process { id, tier, cache: cache.build().unwrap() }
        };
        let processes = (0..PROCESSES).map(process).collect();
        Arc::new(Self {
            servers,
            processes,
            source: CountingSource::with((0..KEYS).map(|key| (key, 1))).taking(Duration::from_millis(1)),
            // Who is not told may have something in memory: it is not judged before the end.
            histories: (0..KEYS).map(|_| Mutex::new(History::new(Duration::MAX))).collect(),
            entropy: Entropy::seeded(seed),
            began: Instant::now(),
            reads: AtomicUsize::new(0),
            found: AtomicUsize::new(0),
            removals: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    fn lot(&self, count: u64) -> u64 {
        self.entropy.draw_u64() % count
    }

    fn history(&self, key: u64) -> MutexGuard<'_, History<()>> {
        self.histories[key as usize].lock().unwrap()
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::SeqCst)
    }

    fn load_begins(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        for id in 0..PROCESSES {
            for _ in 0..READERS {
                let chaos = self.clone();
                tasks.push(tokio::spawn(async move { chaos.read_on(&chaos.processes[id]).await }));
            }
            let chaos = self.clone();
            tasks.push(tokio::spawn(async move { chaos.look_on(&chaos.processes[id]).await }));
            let chaos = self.clone();
            tasks.push(tokio::spawn(async move { chaos.write_on(&chaos.processes[id]).await }));
        }
        tasks
    }

    /// Reads as services do.
    async fn read_on(&self, process: &Process) {
        while self.goes_on() {
            let key = self.lot(KEYS);
            let read = self.history(key).begin_read(Reader::Process(process.id), (), self.now());
            let version = self.load(&process.cache, key).await;
            self.end_read(key, read, Some(version));
            self.reads.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn load(&self, cache: &Numbers, key: u64) -> u64 {
        let source = self.source.clone();
        let load = cache.get_or_load(&key, |load| async move { Ok(source.fetch(load.key()).await?) });
        *load.await.expect("no outage of servers fails a read")
    }

    /// Reads what the shared tier has, with nothing in memory.
    async fn look_on(&self, process: &Process) {
        while self.goes_on() {
            let key = self.lot(KEYS);
            let read = self.history(key).begin_read(Reader::Fresh, (), self.now());
            let seen = settings(&process.tier).build().unwrap().get(&key).await;
            self.found.fetch_add(usize::from(seen.is_some()), Ordering::SeqCst);
            self.end_read(key, read, seen.map(|version| *version));
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn end_read(&self, key: u64, read: cachalot_testkit::history::ReadId, version: Option<u64>) {
        let seen = version.map(|version| Seen { version, is_fallback: false });
        self.history(key).end_read(read, seen, self.now());
    }

    /// Changes the source, and says so.
    async fn write_on(&self, process: &Process) {
        while self.goes_on() {
            let key = self.lot(KEYS);
            let how = if self.lot(4) == 0 { How::Expire } else { How::Remove };
            let begun = {
                let mut history = self.history(key);
                self.source.set(key, history.write(()));
                history.begin_invalidation(process.id, (), how, self.now())
            };
            let done = match how {
                How::Expire => process.cache.expire(&key).await.unwrap(),
                _ => process.cache.remove(&key).await.unwrap(),
            };
            let done = if done == Removal::Deferred { Done::Deferred } else { Done::Everywhere };
            self.history(key).end_invalidation(begun, done, self.now());
            self.removals.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(4)).await;
        }
    }

    fn deferred(&self) -> u64 {
        self.processes.iter().map(|process| process.cache.stats().deferred).sum()
    }

    /// Until the load has gone on for a while.
    async fn a_while(&self) {
        let counts = || [&self.reads, &self.found, &self.removals].map(|it| it.load(Ordering::SeqCst));
        let before = counts();
        let is_enough =
            || counts().iter().zip(before).zip([200, 20, 40]).all(|((now, then), by)| *now >= then + by);
        until("the load goes on", is_enough).await;
    }

    async fn all_see(&self, server: usize, is_ejected: bool) {
        let name = name(server);
        let sees = |process: &Process| {
            process.tier.health().iter().any(|it| it.name == name && it.is_ejected == is_ejected)
        };
        until("all see how it is", || self.processes.iter().all(sees)).await;
    }

    async fn begin(self: &Arc<Self>, harm: Harm, server: usize) {
        println!("{:?}: {harm:?} {server}", self.now());
        let deferred = self.deferred();
        let chaos = self.clone();
        let work = move || match harm {
            Harm::Kill => chaos.servers[server].kill(),
            Harm::Restart => chaos.servers[server].restart(),
            Harm::Stop => chaos.servers[server].pause(),
        };
        tokio::task::spawn_blocking(work).await.unwrap();
        if harm != Harm::Restart {
            self.all_see(server, true).await;
            until("removals are deferred", || self.deferred() > deferred).await;
        }
        self.a_while().await;
    }

    async fn end(self: &Arc<Self>, harm: Harm, server: usize) {
        println!("{:?}: {server} is well again", self.now());
        let chaos = self.clone();
        let work = move || match harm {
            Harm::Kill => chaos.servers[server].restart(),
            Harm::Restart => {}
            Harm::Stop => chaos.servers[server].resume(),
        };
        tokio::task::spawn_blocking(work).await.unwrap();
        self.all_see(server, false).await;
        self.a_while().await;
    }

    /// Each server once, and two are away at a time.
    async fn harm_all(self: &Arc<Self>) {
        let servers: Vec<usize> = self.shuffled((0..SERVERS).collect());
        let harms = [
            Harm::Kill,
            Harm::Stop,
            Harm::Restart,
            Harm::Kill,
            Harm::Stop,
            Harm::Restart,
            Harm::Kill,
            Harm::Stop,
        ];
        let harms = self.shuffled(harms.to_vec());
        let mut last = None;
        for (harm, server) in harms.into_iter().zip(servers) {
            self.begin(harm, server).await;
            if let Some((harm, server)) = last.replace((harm, server)) {
                self.end(harm, server).await;
            }
        }
        let (harm, server) = last.unwrap();
        self.end(harm, server).await;
    }

    fn shuffled<T>(&self, mut of: Vec<T>) -> Vec<T> {
        for at in (1..of.len()).rev() {
            of.swap(at, self.lot(at as u64 + 1) as usize);
        }
        of
    }

    /// The load has ended: what was deferred is done, and nothing that anybody read was too old.
    async fn settles(&self) {
        let has_replayed = |process: &Process| process.cache.stats().pending_invalidations == 0;
        until("what was deferred is replayed", || self.processes.iter().all(has_replayed)).await;
        for key in 0..KEYS {
            let mut history = self.history(key);
            (0..PROCESSES).for_each(|id| history.settle(id, self.now()));
        }
        self.all_read_what_the_source_has().await;
        for key in 0..KEYS {
            self.history(key).check().unwrap_or_else(|broken| panic!("key {key}: {broken}"));
        }
    }

    async fn all_read_what_the_source_has(&self) {
        for key in 0..KEYS {
            let newest = self.source.row(&key).unwrap();
            for process in &self.processes {
                // Nothing that is not told of by a bus leaves memory before its time.
                let reads_it = async {
                    while self.load(&process.cache, key).await != newest {
                        sleep(A_MOMENT).await
                    }
                };
                timeout(AGES, reads_it).await.expect("all read the same in the end");
                let read = self.history(key).begin_read(Reader::Fresh, (), self.now());
                let seen = settings(&process.tier).build().unwrap().get(&key).await;
                self.end_read(key, read, seen.map(|version| *version));
            }
        }
    }

    /// One server leaves the ring for good, which all are told of: its keys move, and no others.
    async fn one_leaves(&self) {
        let keys: Vec<Key> = (0..8_000).map(|key| Key::new(format!("numbers:{key}"))).collect();
        let owners = |tier: &Tier| keys.iter().map(|key| tier.owners(key).concat()).collect::<Vec<String>>();
        let leaves = self.lot(SERVERS as u64) as usize;
        let before = owners(&self.processes[0].tier);
        for process in &self.processes {
            assert_eq!(owners(&process.tier), before);
            let left = (0..SERVERS).filter(|at| *at != leaves);
            let left = left.map(|at| Shard::new(name(at), backend(&self.servers[at])));
            process.tier.change(left, Duration::from_millis(200)).unwrap();
        }
        until("the move is made", || self.processes.iter().all(|process| !process.tier.is_changing())).await;
        let after = owners(&self.processes[0].tier);
        assert!(self.processes.iter().all(|process| owners(&process.tier) == after));
        let moved: Vec<usize> = (0..keys.len()).filter(|at| before[*at] != after[*at]).collect();
        assert!(
            moved.iter().all(|at| before[*at] == name(leaves)),
            "only keys of the one that has left move"
        );
        assert!(after.iter().all(|owner| *owner != name(leaves)));
        let share = moved.len() as f64 / keys.len() as f64;
        println!("{:.1} % of the keys have moved", share * 100.0);
        assert!((share - 1.0 / SERVERS as f64).abs() < 0.03, "{share}");
    }

    /// A server that is merely slow for once may have a removal deferred; none stays unable to take it.
    async fn all_can_remove(&self) {
        for process in &self.processes {
            for key in 0..KEYS {
                let removes = async {
                    while process.cache.remove(&key).await.unwrap() != Removal::Removed {
                        sleep(A_MOMENT).await;
                    }
                };
                timeout(AGES, removes).await.expect("every server that is left takes a removal");
            }
        }
    }

    async fn leaves_nothing_behind(&self) {
        for process in &self.processes {
            process.cache.shutdown(AGES).await.unwrap();
            let stats = process.cache.stats();
            assert_eq!(
                (stats.flights, stats.pending_invalidations, stats.task_panics),
                (0, 0, 0),
                "{stats:?}"
            );
            assert!(stats.backend_hits > 0 && stats.deferred > 0 && stats.replayed > 0, "{stats:?}");
        }
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(A_MOMENT).await;
        }
    };
    timeout(AGES, wait).await.unwrap_or_else(|_| panic!("it does not come to pass that {what}"));
}

async fn live(failover: Failover, bus: Option<LocalBus>, seed: u64) {
    let chaos = Chaos::new(failover, bus, seed);
    let tasks = chaos.load_begins();
    chaos.a_while().await;
    chaos.harm_all().await;
    chaos.is_over.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    chaos.settles().await;
    chaos.one_leaves().await;
    chaos.all_can_remove().await;
    chaos.settles().await;
    chaos.leaves_nothing_behind().await;
    let counts = [&chaos.reads, &chaos.found, &chaos.removals].map(|it| it.load(Ordering::SeqCst));
    println!("{:?}: {counts:?} reads, finds and removals, {} deferred", chaos.now(), chaos.deferred());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_servers_that_come_and_go_fail_no_read_and_bring_nothing_back_where_their_keys_are_misses() {
    live(Failover::Miss, Some(LocalBus::new()), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_servers_that_come_and_go_fail_no_read_and_bring_nothing_back_where_the_next_one_stands_in() {
    live(Failover::NextNode { ttl: Duration::from_secs(2) }, None, 2).await;
}
