//! What breaks no promise about values when it goes wrong, but costs others their time, their load or their
//! value: a short scene each.

use std::sync::Arc;
use std::time::Duration;

use cachalot::{Clock, Entry, LoaderError, Memory, MemoryBackend};
use cachalot_core::{BoxFuture, Entropy, ManualClock};
use cachalot_strategies::{Cache, CacheBuilder, LoadMany, OnDeserted};
use cachalot_testkit::{block_on_paused, tokio_clock};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};

type Engine = Memory<u64, Arc<Entry<String>>>;
type Builder = CacheBuilder<u64, String, Engine>;
type Node = Cache<u64, String, Engine>;
/// Whether it ended well.
type Scene = BoxFuture<'static, bool>;

/// Generates a test per scene, and the list of them.
macro_rules! scenes {
    ($($name:ident: $scene:expr;)*) => {
        $(#[test]
        fn $name() {
            assert!(block_on_paused($scene()));
        })*

        /// The first scene that `mistake` spoils.
        #[cfg(cachalot_mutants)]
        pub(crate) fn spoiled_by(mistake: integration_tests::Mistake) -> Option<&'static str> {
            let scenes: &[(&str, fn() -> Scene)] = &[$((stringify!($name), $scene),)*];
            let is_spoiled = |scene: &fn() -> Scene| !mistake.under(|| block_on_paused(scene()));
            scenes.iter().find(|(_, scene)| is_spoiled(scene)).map(|(name, _)| *name)
        }
    };
}

scenes! {
    a_batch_that_fails_gives_its_leases_back: a_failed_batch;
    a_cancelled_batch_gives_its_leases_back: a_deserted_batch;
    a_cancelled_load_gives_its_lease_back: a_deserted_load;
    what_was_overtaken_is_not_stored: an_overtaken_load;
    a_removal_ends_the_pause_after_a_failure: a_failure_and_a_removal;
    an_early_refresh_brings_a_new_value: an_early_refresh;
}

fn a_failed_batch() -> Scene {
    Box::pin(async {
        let [one, two] = fleet(|builder| builder);
        let fails = |_: LoadMany<u64>| async { Err::<Vec<(u64, String)>, _>(LoaderError::new("down")) };
        let failed = one.get_many_or_load(&[1, 2], fails).await;
        settle().await;
        failed.iter().all(Result::is_err) && loads_soon(&two, 1).await
    })
}

fn a_deserted_batch() -> Scene {
    Box::pin(async {
        let [one, two] = fleet(|builder| builder.on_deserted(OnDeserted::Cancel));
        let caller = tokio::spawn(async move {
            let hangs = |_| std::future::pending::<Result<Vec<(u64, String)>, _>>();
            drop(one.get_many_or_load(&[1, 2], hangs).await);
        });
        leave(caller).await;
        loads_soon(&two, 1).await
    })
}

fn a_deserted_load() -> Scene {
    Box::pin(async {
        let [one, two] = fleet(|builder| builder.on_deserted(OnDeserted::Cancel));
        let caller = tokio::spawn(async move { drop(one.get_or_load(&1, |_| std::future::pending()).await) });
        leave(caller).await;
        loads_soon(&two, 1).await
    })
}

fn an_overtaken_load() -> Scene {
    Box::pin(async {
        let time = ManualClock::new();
        let cache = builder(time.clock(), 1).build().unwrap();
        let (go, wait) = oneshot::channel::<()>();
        let hanging = tokio::spawn({
            let cache = cache.clone();
            let load = async move {
                let _ = wait.await;
                Ok("late".to_owned())
            };
            async move { drop(cache.get_or_load(&1, |_| load).await) }
        });
        settle().await;
        time.advance(HOUR);
        let new = cache.get_or_load(&1, |_| async { Ok("new".to_owned()) }).await;
        go.send(()).unwrap();
        settle().await;
        hanging.await.unwrap();
        *new.unwrap() == "new" && cache.get_local(&1).is_some_and(|found| *found == "new")
    })
}

fn a_failure_and_a_removal() -> Scene {
    Box::pin(async {
        let cache = builder(tokio_clock(), 1).error_backoff(MINUTE, HOUR).build().unwrap();
        let failed = cache.get_or_load(&1, |_| async { Err(LoaderError::new("down")) }).await;
        cache.remove(&1).await.unwrap();
        failed.is_err() && cache.get_or_load(&1, |_| async { Ok("Ada".to_owned()) }).await.is_ok()
    })
}

fn an_early_refresh() -> Scene {
    Box::pin(async {
        let cache = builder(tokio_clock(), 1).ttl(MINUTE).early_refresh(0.5).build().unwrap();
        cache.get_or_load(&1, |_| async { Ok("old".to_owned()) }).await.unwrap();
        sleep(MINUTE * 2 / 3).await;
        let served = cache.get_or_load(&1, |_| async { Ok("new".to_owned()) }).await.unwrap();
        settle().await;
        *served == "old" && cache.get_local(&1).is_some_and(|found| *found == "new")
    })
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Far below the term of a lease.
const SOON: Duration = Duration::from_millis(100);

/// Two processes over one shared tier.
fn fleet(settle: impl Fn(Builder) -> Builder) -> [Node; 2] {
    let clock = tokio_clock();
    let shared = MemoryBackend::with_limit(1 << 20, clock.clone());
    [1, 2].map(|seed| settle(builder(clock.clone(), seed)).backend(shared.clone()).build().unwrap())
}

fn builder(clock: Clock, seed: u64) -> Builder {
    let memory = Memory::entries(16).hash_seed(1);
    Cache::builder("users").memory(memory).clock(clock).entropy(Entropy::seeded(seed))
}

/// Whether `node` loads `key` without having to wait for somebody else's lease.
async fn loads_soon(node: &Node, key: u64) -> bool {
    let began = Instant::now();
    let loaded = node.get_or_load(&key, |_| async { Ok("Ada".to_owned()) }).await;
    loaded.is_ok() && began.elapsed() < SOON
}

/// Lets `caller` come to where it waits, and go.
async fn leave(caller: JoinHandle<()>) {
    settle().await;
    caller.abort();
    settle().await;
}

/// Lets every task run until it waits for time or for somebody else.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}
