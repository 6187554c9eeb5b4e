//! A replica that missed the last writes takes over, and who did these writes is gone: with eras no read after that
//! sees what was removed before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachalot::{Cache, Key, Memory, Recovery, RedisBackend, Removal};
use cachalot_core::{
    Backend, BoxFuture, Depth, Entropy, LeaseReply, Nonce, Put, PutReply, TagBackend, TagToken, Token,
};
use cachalot_testkit::{CountingSource, RedisServer};
use integration_tests::{Relay, patient};
use tokio::time::{sleep, timeout};

type Users = Cache<u64, String>;
/// Whether it ended well.
type Scene = BoxFuture<'static, bool>;

const AGES: Duration = Duration::from_secs(60);

/// Generates a test per scene, and the list of them.
macro_rules! scenes {
    ($($name:ident: $scene:expr;)*) => {
        $(#[test]
        fn $name() {
            assert!(block_on($scene()));
        })*

        /// The first scene that `mistake` spoils.
        #[cfg(cachalot_mutants)]
        pub(crate) fn spoiled_by(mistake: integration_tests::Mistake) -> Option<&'static str> {
            let scenes: &[(&str, fn() -> Scene)] = &[$((stringify!($name), $scene),)*];
            let is_spoiled = |scene: &fn() -> Scene| !mistake.under(|| block_on(scene()));
            scenes.iter().find(|(_, scene)| is_spoiled(scene)).map(|(name, _)| *name)
        }
    };
}

scenes! {
    a_value_whose_removal_was_forgotten_is_never_read_again: a_forgotten_removal;
    a_load_from_before_a_forgotten_removal_is_not_stored: a_forgotten_revocation;
    a_lease_from_before_a_fail_over_stores_nothing: a_forgotten_lease;
    a_tag_that_was_removed_is_not_what_it_was_before: a_forgotten_rotation;
}

/// A mistake is made on one thread only.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

/// A primary, its replica, and the name that leads to the one that is in charge.
struct Pair {
    primary: RedisServer,
    replica: RedisServer,
    name: Relay,
}

impl Pair {
    async fn start() -> Self {
        let server = || RedisServer::start_with(["--repl-diskless-sync-delay", "0"]);
        let (primary, replica) = (server(), server());
        let name = Relay::start(primary.addr()).await;
        tell(&replica, &["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
        let pair = Self { primary, replica, name };
        pair.until_replicated().await;
        pair
    }

    /// The replica has all there is so far.
    async fn until_replicated(&self) {
        let is_level = || {
            let info = |server| tell(server, &["INFO", "replication"]);
            let (ours, theirs) = (info(&self.primary), info(&self.replica));
            let offsets = (field(&ours, "master_repl_offset"), field(&theirs, "slave_repl_offset"));
            // Before the first contact both count from zero, whatever is written.
            theirs.contains("master_link_status:up") && offsets.0.is_some() && offsets.0 == offsets.1
        };
        until(is_level).await;
    }

    /// From here on the replica hears of nothing: it has been promoted, and nobody has been told yet.
    async fn part(&self) {
        self.until_replicated().await;
        tell(&self.replica, &["REPLICAOF", "NO", "ONE"]);
    }

    fn fail_over(&self) {
        self.name.lead_to(self.replica.addr());
    }

    fn backend(&self) -> RedisBackend {
        patient(self.name.url()).recovery(Recovery::Era).connect_lazy().unwrap()
    }

    /// A process. It knows nothing of the others, and does nothing again after a fail-over.
    fn node(&self) -> Users {
        over(self.backend())
    }
}

fn over(backend: RedisBackend) -> Users {
    let cache = Cache::builder("users").memory(Memory::entries(1_000)).ttl(Duration::from_secs(600));
    // A slow machine is no outage.
    let cache = cache.backend(backend).backend_timeout(AGES);
    cache.replay_window(Duration::ZERO).build().unwrap()
}

/// Odd keys have no tag, whose token would tell the eras apart as well.
async fn load(cache: &Users, source: &CountingSource<u64, String>, key: u64) -> String {
    let source = source.clone();
    let load = cache.get_or_load(&key, |load| async move {
        let value = source.fetch(load.key()).await?;
        if load.key() % 2 == 0 {
            load.tag("all");
        }
        Ok(value)
    });
    load.await.unwrap().to_string()
}

fn a_forgotten_removal() -> Scene {
    Box::pin(async {
        let (pair, source) = (Pair::start().await, source(1..=3));
        let cache = pair.node();
        for key in 1..=3 {
            load(&cache, &source, key).await;
        }
        pair.part().await;
        (1..=3).for_each(|key| source.set(key, "new".into()));
        assert_eq!(cache.remove(&1).await.unwrap(), Removal::Removed);
        assert_eq!(cache.remove_tag("all").await.unwrap(), Removal::Removed);
        drop(cache);
        pair.fail_over();
        let is_there = tell(&pair.replica, &["EXISTS", "users:1", "users:2", "users:3"]) == ":3\r\n";
        let mut seen = Vec::new();
        for key in 1..=3 {
            seen.extend(pair.node().get(&key).await.map(|value| value.to_string()));
            seen.push(load(&pair.node(), &source, key).await);
            seen.extend(pair.node().get(&key).await.map(|value| value.to_string()));
        }
        is_there && !seen.iter().any(|value| value == "old")
    })
}

fn a_forgotten_revocation() -> Scene {
    Box::pin(async {
        let (pair, source) = (Pair::start().await, source(1..=1));
        let (reader, remover) = (pair.node(), pair.node());
        let gate = source.stop_after_reading();
        let loading = tokio::spawn({
            let source = source.clone();
            async move { load(&reader, &source, 1).await }
        });
        gate.reached(1).await;
        pair.part().await;
        source.set(1, "new".into());
        assert_eq!(remover.remove(&1).await.unwrap(), Removal::Removed);
        pair.fail_over();
        gate.open();
        loading.await.unwrap();
        load(&pair.node(), &source, 1).await == "new"
    })
}

/// Without a cache, which would not have tried.
fn a_forgotten_lease() -> Scene {
    Box::pin(async {
        let pair = Pair::start().await;
        let (before, key) = (pair.backend(), Key::new("users:1"));
        let (token, nonce) = (Token::draw(&Entropy::thread()), Nonce::draw(&Entropy::thread()));
        let ttl = Duration::from_secs(60);
        let granted = before.leases().unwrap().get_or_lease(&key, token, ttl, None).await.unwrap();
        pair.part().await;
        before.remove(&key).await.unwrap();
        pair.fail_over();
        let after = pair.backend();
        let put = Put { payload: "old".into(), nonce, ttl };
        let reply = after.leases().unwrap().put_leased(&key, token, put).await.unwrap();
        matches!(granted, LeaseReply::Lease { .. }) && reply == PutReply::Lost
    })
}

fn a_forgotten_rotation() -> Scene {
    Box::pin(async {
        let pair = Pair::start().await;
        let (backend, names) = (pair.backend(), [Key::new("users#all")]);
        let [first, second] = [0, 1].map(|_| TagToken::draw(&Entropy::thread()));
        let ttl = Duration::from_secs(60);
        backend.pin_tags(&names, &[first], ttl).await.unwrap();
        pair.part().await;
        backend.rotate_tags(&names, &[second], Depth::Remove, ttl).await.unwrap();
        pair.fail_over();
        let after = pair.backend().tag_tokens(&names).await.unwrap()[0].unwrap();
        after.removed != first.removed && after.expired != first.expired
    })
}

/// Writers remove, readers without a memory read, and meanwhile the replica takes over: three times, the last time
/// the first primary again, which has lived on as a replica.
#[test]
fn under_load_no_read_after_a_removal_sees_what_was_there_before_it() {
    block_on(async {
        let pair = Arc::new(Pair::start().await);
        let versions = Arc::new([const { AtomicU64::new(0) }; 8]);
        let removed = Arc::new([const { AtomicU64::new(0) }; 8]);
        let writer = tokio::spawn({
            let (cache, versions, removed) = (pair.node(), versions.clone(), removed.clone());
            async move {
                for key in (0..8).cycle() {
                    let version = versions[key].fetch_add(1, Ordering::SeqCst) + 1;
                    if cache.remove(&(key as u64)).await.unwrap() == Removal::Removed {
                        removed[key].store(version, Ordering::SeqCst);
                    }
                    sleep(Duration::from_millis(1)).await;
                }
            }
        });
        let reads = Arc::new(AtomicU64::new(0));
        let readers: Vec<_> = (0..4)
            .map(|n| {
                let (backend, versions, removed) = (pair.backend(), versions.clone(), removed.clone());
                let reads = reads.clone();
                tokio::spawn(async move {
                    for key in (0..8).cycle().skip(n) {
                        let least = removed[key].load(Ordering::SeqCst);
                        let versions = versions.clone();
                        // A new one each time, since others do not hear of removals here.
                        let load = |_| async move { Ok(versions[key].load(Ordering::SeqCst).to_string()) };
                        let read = over(backend.clone()).get_or_load(&(key as u64), load).await.unwrap();
                        assert!(read.parse::<u64>().unwrap() >= least, "{read:?} after {least} of {key}");
                        reads.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let more = |by: u64| {
            let (reads, until_then) = (reads.clone(), reads.load(Ordering::SeqCst) + by);
            until(move || reads.load(Ordering::SeqCst) >= until_then)
        };
        more(200).await;
        pair.part().await;
        more(200).await;
        pair.fail_over();
        more(200).await;
        // The old primary follows the new one, misses its last writes, and is promoted again.
        tell(&pair.primary, &["REPLICAOF", "127.0.0.1", &pair.replica.port().to_string()]);
        until(|| tell(&pair.primary, &["INFO", "replication"]).contains("master_link_status:up")).await;
        more(200).await;
        tell(&pair.primary, &["REPLICAOF", "NO", "ONE"]);
        more(200).await;
        pair.name.lead_to(pair.primary.addr());
        more(400).await;
        writer.abort();
        for reader in readers {
            assert!(!reader.is_finished(), "{:?}", reader.await);
            reader.abort();
        }
    });
}

/// The price.
#[test]
fn after_a_fail_over_each_key_is_loaded_once_more() {
    block_on(async {
        let (pair, source) = (Pair::start().await, source(0..100));
        for round in 0..2 {
            for key in 0..100 {
                assert_eq!(load(&pair.node(), &source, key).await, "old");
            }
            assert_eq!(source.loads(), 100, "{round}");
        }
        pair.part().await;
        pair.fail_over();
        for round in 0..2 {
            for key in 0..100 {
                assert_eq!(load(&pair.node(), &source, key).await, "old");
            }
            assert_eq!(source.loads(), 200, "{round}");
        }
    });
}

fn source(keys: impl IntoIterator<Item = u64>) -> CountingSource<u64, String> {
    CountingSource::with(keys.into_iter().map(|id| (id, "old".to_owned())))
}

async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AGES, wait).await.expect("it never came");
}

/// One command, past all clients, and the answer as it came.
fn tell(server: &RedisServer, command: &[&str]) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(AGES)).unwrap();
    stream.write_all(format!("{}\r\n", command.join(" ")).as_bytes()).unwrap();
    let mut answer = [0; 8192];
    let length = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(!answer.starts_with('-'), "{command:?}: {answer}");
    answer
}

fn field(info: &str, name: &str) -> Option<String> {
    let value = |line: &str| Some(line.trim_end().strip_prefix(name)?.strip_prefix(':')?.to_owned());
    info.lines().find_map(value)
}
