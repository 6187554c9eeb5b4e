//! Batches against single calls, on random overlapping keys. A failing seed is printed; `SEED=7` replays it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachalot_core::{Entropy, LoaderError, Source};
use cachalot_strategies::{Cached, Inserted, Removal};
use cachalot_testkit::{CountingSource, Faulty, Odds, block_on_paused};

use crate::batch_late::{Late, Until};
use crate::world::{Users, World, pass, secs};

const KEYS: u64 = 12;

fn seeds(all: Range<u64>) -> Range<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => all,
    }
}

/// Draws below `bound`.
fn below(entropy: &Entropy, bound: u64) -> u64 {
    entropy.draw_u64() % bound
}

/// Some keys in some order, some of them twice.
fn some_keys(entropy: &Entropy) -> Vec<u64> {
    (0..below(entropy, 9)).map(|_| below(entropy, KEYS)).collect()
}

/// What one call says of one key, as far as both ways must agree.
#[derive(Debug, PartialEq)]
enum Said {
    Value(String),
    Absent,
    Failed,
    Inserted(Inserted),
    Removed(Removal),
}

fn said<E>(answer: Result<Option<Cached<String>>, E>) -> Said {
    match answer {
        Ok(Some(value)) => Said::Value(value.into_inner()),
        Ok(None) => Said::Absent,
        Err(_) => Said::Failed,
    }
}

/// One call on many keys.
#[derive(Clone, Debug)]
enum Call {
    Get(Vec<u64>),
    Load(Vec<u64>),
    LoadOption(Vec<u64>),
    Insert(Vec<(u64, String)>),
    Remove(Vec<u64>),
}

impl Call {
    fn draw(entropy: &Entropy) -> Self {
        let keys = some_keys(entropy);
        match below(entropy, 7) {
            0 => Self::Get(keys),
            1 | 2 => Self::Load(keys),
            3 | 4 => Self::LoadOption(keys),
            5 => {
                let pairs = keys.iter().map(|key| (*key, format!("inserted {}", below(entropy, 1000))));
                Self::Insert(pairs.collect())
            }
            _ => Self::Remove(keys),
        }
    }

    async fn in_one_call(self, cache: &Users, source: CountingSource<u64, String>) -> Vec<Said> {
        match self {
            Self::Get(keys) => {
                cache.get_many(&keys).await.into_iter().map(|found| said::<()>(Ok(found))).collect()
            }
            Self::Load(keys) => {
                let answers = load_many(cache, source, &keys).await.into_iter();
                answers.map(|answer| said(answer.map(Some))).collect()
            }
            Self::LoadOption(keys) => {
                let load = move |load: cachalot_strategies::LoadMany<u64>| {
                    let source = source.clone();
                    async move {
                        let rows = source.load_many(load.keys()).await?;
                        Ok(load.keys().iter().copied().zip(rows).collect::<HashMap<_, _>>())
                    }
                };
                cache.get_many_or_load_opt(&keys, load).await.into_iter().map(said).collect()
            }
            Self::Insert(pairs) => {
                let results = cache.insert_many(pairs).await.into_iter();
                results.map(|result| Said::Inserted(result.unwrap())).collect()
            }
            Self::Remove(keys) => {
                cache.remove_many(&keys).await.unwrap().into_iter().map(Said::Removed).collect()
            }
        }
    }

    async fn one_by_one(self, cache: &Users, source: CountingSource<u64, String>) -> Vec<Said> {
        let mut all = Vec::new();
        match self {
            Self::Get(keys) => {
                for key in keys {
                    all.push(said::<()>(Ok(cache.get(&key).await)));
                }
            }
            Self::Load(keys) => {
                for key in keys {
                    let source = source.clone();
                    let load = |_| async move { Ok(source.fetch(&key).await?) };
                    all.push(said(cache.get_or_load(&key, load).await.map(Some)));
                }
            }
            Self::LoadOption(keys) => {
                for key in keys {
                    let source = source.clone();
                    let load = |_| async move { Ok(source.load(&key).await?) };
                    all.push(said(cache.get_or_load_opt(&key, load).await));
                }
            }
            Self::Insert(pairs) => {
                for (key, value) in pairs {
                    all.push(Said::Inserted(cache.insert(key, value).await.unwrap()));
                }
            }
            Self::Remove(keys) => {
                for key in keys {
                    all.push(Said::Removed(cache.remove(&key).await.unwrap()));
                }
            }
        }
        all
    }
}

async fn load_many(
    cache: &Users,
    source: CountingSource<u64, String>,
    keys: &[u64],
) -> Vec<Result<Cached<String>, cachalot_core::LoadError>> {
    cache
        .get_many_or_load(keys, move |load| {
            let source = source.clone();
            async move {
                let rows = source.load_many(load.keys()).await?;
                let found = load.keys().iter().zip(rows).filter_map(|(key, row)| Some((*key, row?)));
                Ok::<Vec<_>, LoaderError>(found.collect())
            }
        })
        .await
}

/// Two worlds that hear the same; one is asked in batches, the other key by key.
async fn both_ways(seed: u64) {
    let entropy = Entropy::seeded(seed);
    let worlds = [World::new(), World::new()];
    let build = |world: &World| {
        let builder = world.builder().ttl(secs(40)).negative_ttl(secs(15)).batch_size(3);
        match seed % 3 {
            0 => builder.build().unwrap(),
            _ => builder.backend(world.shared.clone()).memory_ttl(secs(seed % 3 * 10)).build().unwrap(),
        }
    };
    let caches: Vec<[Users; 2]> = worlds.iter().map(|world| [build(world), build(world)]).collect();
    for step in 0..40 {
        match below(&entropy, 6) {
            0 => pass(secs(below(&entropy, 25))).await,
            1 => {
                let (key, is_set) = (below(&entropy, KEYS), below(&entropy, 3) > 0);
                worlds.iter().for_each(|world| match is_set {
                    true => world.source.set(key, format!("row {step}")),
                    false => world.source.unset(&key),
                });
            }
            _ => {
                let (call, node) = (Call::draw(&entropy), below(&entropy, 2) as usize);
                let as_one = call.clone().in_one_call(&caches[0][node], worlds[0].source.clone()).await;
                let singly = call.clone().one_by_one(&caches[1][node], worlds[1].source.clone()).await;
                assert_eq!(as_one, singly, "seed {seed}, step {step}: {call:?}");
            }
        }
    }
    assert!(worlds[0].source.calls() <= worlds[1].source.calls(), "seed {seed}");
    for cache in caches.iter().flatten() {
        assert_eq!(cache.stats().flights, 0, "seed {seed}");
    }
}

#[test]
fn a_batch_says_of_each_key_what_a_single_call_would() {
    for seed in seeds(0..150) {
        block_on_paused(both_ways(seed));
    }
}

/// The newest version of each key whose removal has returned in one process: no later read there may see an
/// older one.
#[derive(Clone, Default)]
struct Floor(Arc<Mutex<HashMap<u64, u64>>>);

impl Floor {
    fn of(&self, keys: &[u64]) -> Vec<u64> {
        let floor = self.0.lock().unwrap();
        keys.iter().map(|key| floor.get(key).copied().unwrap_or(0)).collect()
    }

    fn raise(&self, keys: &[u64], version: u64) {
        let mut floor = self.0.lock().unwrap();
        keys.iter().for_each(|key| {
            let held = floor.entry(*key).or_default();
            *held = version.max(*held);
        });
    }
}

/// One process with what it may no longer see.
#[derive(Clone)]
struct Node {
    cache: Users,
    floor: Floor,
}

/// Counts the writes; a row's text is the version that wrote it.
type Versions = Arc<Mutex<u64>>;

impl Node {
    async fn read(self, seed: u64, keys: Vec<u64>, source: CountingSource<u64, String>, how: u64) {
        let floor = self.floor.of(&keys);
        let answers: Vec<Option<Cached<String>>> = match how {
            0 => self.cache.get_many(&keys).await,
            1 => {
                let mut answers = Vec::new();
                // One floor for all: it was taken before the first.
                for key in &keys {
                    let (source, key) = (source.clone(), *key);
                    let load = |_| async move { Ok(source.fetch(&key).await?) };
                    answers.push(self.cache.get_or_load(&key, load).await.ok());
                }
                answers
            }
            _ => load_many(&self.cache, source, &keys).await.into_iter().map(Result::ok).collect(),
        };
        for ((key, floor), answer) in keys.iter().zip(floor).zip(answers) {
            let Some(answer) = answer else { continue };
            let version: u64 = answer.parse().unwrap();
            assert!(version >= floor, "seed {seed}: key {key} read as {version} after {floor} was removed");
        }
    }

    /// Writes to the source and removes, by one call or by several.
    async fn write(self, keys: Vec<u64>, source: CountingSource<u64, String>, versions: Versions, how: u64) {
        let version = {
            let mut versions = versions.lock().unwrap();
            *versions += 1;
            keys.iter().for_each(|key| source.set(*key, versions.to_string()));
            *versions
        };
        if how == 0 {
            for key in &keys {
                self.cache.remove(key).await.unwrap();
                self.floor.raise(&[*key], version);
            }
        } else {
            self.cache.remove_many(&keys).await.unwrap();
            self.floor.raise(&keys, version);
        }
    }
}

/// Two processes that read and write the same keys at once, over a shared tier that takes its time and fails.
async fn storm(seed: u64) {
    let entropy = Entropy::seeded(seed);
    let world = World::new();
    (0..KEYS).for_each(|key| world.source.set(key, "0".to_owned()));
    let versions = Versions::default();
    let mut tiers = Vec::new();
    let nodes: Vec<Node> = (0..2)
        .map(|node| {
            let tier = Faulty::new(world.shared.clone());
            let odds = Odds {
                delay: 0.6,
                longest_delay: Duration::from_millis(30),
                lose_answer: 0.03,
                refuse: 0.03,
                partly: 0.05,
                land_late: 0.0,
            };
            tier.at_random(odds, seed * 2 + node);
            tiers.push(tier.clone());
            let until = Until::Passed(Entropy::seeded(seed), Duration::from_millis(15));
            let builder = world
                .builder()
                .backend(Late { inner: tier, until })
                .batch_size(3)
                .ttl(secs(60))
                .hard_timeout(secs(5));
            Node { cache: builder.build().unwrap(), floor: Floor::default() }
        })
        .collect();
    let mut running = Vec::new();
    for _ in 0..60 {
        let node = nodes[below(&entropy, 2) as usize].clone();
        let (keys, source, how) = (some_keys(&entropy), world.source.clone(), below(&entropy, 5));
        let writes = below(&entropy, 4) == 0;
        let task = match writes {
            true => tokio::spawn(node.write(keys, source, versions.clone(), how % 2)),
            false => tokio::spawn(node.read(seed, keys, source.taking(Duration::from_millis(20)), how)),
        };
        let is_one_call = !writes || how % 2 == 1;
        if is_one_call && below(&entropy, 8) == 0 {
            // Its caller leaves.
            tokio::time::sleep(Duration::from_millis(below(&entropy, 10))).await;
            task.abort();
        }
        running.push(task);
        tokio::time::sleep(Duration::from_millis(below(&entropy, 12))).await;
    }
    for task in running {
        if let Err(error) = task.await {
            assert!(error.is_cancelled(), "{error}");
        }
    }
    tiers.iter().for_each(Faulty::calm);
    tokio::time::sleep(secs(30)).await;
    let keys: Vec<u64> = (0..KEYS).collect();
    for node in &nodes {
        let stats = node.cache.stats();
        assert_eq!((stats.flights, stats.task_panics, stats.pending_invalidations), (0, 0, 0), "seed {seed}");
    }
    // What is left in the shared tier is what the source says. Writes whose caller left were removed too.
    for (key, found) in keys.iter().zip(world.node().get_many(&keys).await) {
        let found = found.map(Cached::into_inner);
        assert!(found.is_none() || found == world.source.row(key), "seed {seed}: key {key} is {found:?}");
    }
}

#[test]
fn no_removed_value_returns_through_a_batch() {
    for seed in seeds(0..100) {
        block_on_paused(storm(seed));
    }
}
