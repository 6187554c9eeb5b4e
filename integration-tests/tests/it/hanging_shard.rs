//! One server of many hangs right after everything was removed: the others are read as before.

use std::sync::Arc;
use std::time::Duration;

use cachalot::ring::SlotRing;
use cachalot::{Cache, Memory, Removal, Shard, Sharded, Tier, TokioSpawn};
use cachalot_core::{Key, Namespace};
use cachalot_testkit::{Fault, Faulty, ModelBackend, block_on_paused, tokio_clock};

type Users = Cache<u64, String>;
type Tiers = Arc<Sharded<Faulty>>;

const SERVERS: usize = 8;
const LIMIT: Duration = Duration::from_millis(50);
const FOR_GOOD: Duration = Duration::from_secs(1 << 20);

fn tier(servers: &[Faulty]) -> Tiers {
    let shards = servers.iter().enumerate().map(|(at, server)| Shard::new(at.to_string(), server.clone()));
    let builder = Sharded::builder(SlotRing::new, TokioSpawn).shards(shards).clock(tokio_clock());
    Arc::new(builder.build().unwrap())
}

fn users(tier: &Tiers) -> Users {
    let memory = Memory::entries(1_000).hash_seed(1);
    let builder = Cache::builder("users").memory(memory).clock(tokio_clock()).backend(tier.clone());
    builder.clearable().backend_timeout(LIMIT).build().unwrap()
}

fn owner(tier: &Tiers, key: &Key) -> usize {
    tier.owners(key)[0].parse().unwrap()
}

#[test]
fn who_is_cut_short_by_its_cache_counts_and_what_was_cleared_stays_done() {
    block_on_paused(async {
        let servers: Vec<Faulty> =
            (0..SERVERS).map(|_| Faulty::new(ModelBackend::new(tokio_clock()))).collect();
        let (here, there) = (tier(&servers), tier(&servers));
        let (cache, other) = (users(&here), users(&there));
        let name = Namespace::new("users").unwrap();
        assert_eq!(cache.clear().await.unwrap(), Removal::Removed);

        // Not the one that says what was cleared.
        let hanging = (owner(&here, &name.epoch()) + 1) % SERVERS;
        (0..1_000).for_each(|_| servers[hanging].next(Fault::Delay(FOR_GOOD)));
        let load = async |n: u64| cache.get_or_load(&n, |_| async move { Ok(n.to_string()) }).await;
        for n in 0..100 {
            assert_eq!(*load(n).await.unwrap(), n.to_string());
        }
        let ejected: Vec<bool> = here.health().iter().map(|shard| shard.is_ejected).collect();
        assert!((0..SERVERS).all(|at| ejected[at] == (at == hanging)), "{ejected:?}");
        let stats = cache.stats();
        assert_eq!((stats.pending_invalidations, stats.fail_overs), (0, 0));

        let mut read = 0;
        for n in (0..100).filter(|n| owner(&here, &name.key(n)) != hanging) {
            // What was loaded while the ejection took effect is not kept.
            let _ = load(n).await.unwrap();
            let found = other.get(&n).await.map(|found| found.tier());
            read += usize::from(found == Some(Tier::Backend));
        }
        assert!(read > 60, "{read} keys are read below");
    });
}
