//! What tags cost who reads: in memory, and in the shared tier.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::{CAPACITY, Figure, HOT_KEYS, Keys, Sheet, rounds, runtime};
use cachalot_core::Tier;
use cachalot_memory_backend::Memory;
use cachalot_strategies::Cache;
use cachalot_testkit::RedisServer;
use tokio::runtime::Runtime;

use crate::Scale;
use crate::fixture::{Builder, Entries, Named, VALUE, Value, built, fill, tags, without_memory};
use crate::proxy::Proxy;

const IN_MEMORY: &str = "L1 hit";
const BELOW: &str = "L2 hit";
const PLAIN: &str = "no tags";
const TAGGED: [(&str, usize); 3] = [(PLAIN, 0), ("one tag", 1), ("four tags", 4)];
/// No tags, in a cache that can be cleared.
const CLEARABLE: &str = "clearable";
/// As one tag, after that many others were removed.
const OTHERS: usize = 1_000;

const NS: Figure = Figure::new("time", "ns");
/// On a busy machine only the processor's time says something.
const CPU_NS: Figure = Figure::new("CPU", "ns");
const US: Figure = Figure::new("time", "us");
const TRIPS: Figure = Figure::new("round trips", "counted");
const RATIO: Figure = Figure::new("time / no tags", "ratio");

/// How long one measurement in memory takes at least, and after how many the clock is read.
const MEASUREMENT: Duration = Duration::from_millis(50);
const BATCH: u32 = 1000;
/// How many hits below a round times.
const HITS: u32 = 500;

pub(crate) fn play(scale: &Scale, sheet: &mut Sheet) {
    let runtime = runtime();
    in_memory(scale, sheet, &runtime);
    below(scale, sheet, &runtime);
}

type Open = fn(&Runtime, &str) -> Named;
type Numbered = Cache<u64, Value, Entries<u64>>;

fn in_memory(scale: &Scale, sheet: &mut Sheet, runtime: &Runtime) {
    let open = |tags, removed| runtime.block_on(full(tags, removed));
    let mut contenders: Vec<(&str, Numbered)> =
        TAGGED.iter().map(|(name, tags)| (*name, open(*tags, 0))).collect();
    contenders.push(("one tag, 1,000 others removed", open(1, OTHERS)));
    rounds(scale.rounds, IN_MEMORY, &mut contenders, |(name, cache)| {
        let (wall, cpu) = runtime.block_on(hits(cache));
        sheet.add(IN_MEMORY, name, NS, wall);
        sheet.add(IN_MEMORY, name, CPU_NS, cpu);
    });
    sheet.compare(IN_MEMORY, NS.metric, PLAIN, RATIO);
    sheet.compare(IN_MEMORY, CPU_NS.metric, PLAIN, Figure::new("CPU / no tags", "ratio").at_most(1.3));
}

/// Memory alone, with every hot key.
async fn full(tags: usize, removed: usize) -> Numbered {
    let cache: Numbered = built(Cache::builder("bench").memory(Memory::entries(CAPACITY as u64)));
    for key in 0..HOT_KEYS {
        let names: Vec<_> = (0..tags).map(|at| format!("tag {at} of {}", key % 100)).collect();
        let tagged = cache.with(|options| options.tags(self::tags(names)));
        assert!(tagged.insert(key, VALUE).await.is_ok());
    }
    for at in 0..removed {
        assert!(cache.remove_tag(format!("other {at}")).await.is_ok());
    }
    cache
}

/// Nanoseconds each, by the clock on the wall and by the processor's.
async fn hits(cache: &Numbered) -> (f64, f64) {
    let (mut keys, mut batches, mut loads) = (Keys::seeded(1), 0, 0_u32);
    let (cpu, begin) = (self::cpu(), Instant::now());
    while begin.elapsed() < MEASUREMENT {
        for _ in 0..BATCH {
            let found = cache.get_or_load(&keys.draw(), |_| async { Ok(VALUE) }).await;
            loads += u32::from(black_box(found).is_ok_and(|found| found.tier() == Tier::Loader));
        }
        batches += 1;
    }
    let (cpu, wall) = (self::cpu() - cpu, begin.elapsed());
    let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(batches * BATCH);
    // One in a thousand may have been evicted; more would be no hits.
    assert!(loads <= HOT_KEYS as u32 + batches, "loads among the hits");
    (each(wall), each(cpu))
}

/// Processor time of this process so far.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A key of a cache, as it is read.
struct Below {
    name: &'static str,
    cache: Named,
    key: String,
}

fn below(scale: &Scale, sheet: &mut Sheet, runtime: &Runtime) {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.addr());
    let clearable: Open = |runtime, url| without_memory(runtime, url, Builder::clearable);
    let plain: Open = |runtime, url| without_memory(runtime, url, |builder| builder);
    let all = TAGGED.iter().map(|(name, tags)| (*name, *tags, plain)).chain([(CLEARABLE, 0, clearable)]);
    let mut contenders: Vec<Below> = Vec::new();
    for (name, tags, open) in all {
        let (key, cache) = (name.replace(' ', "-"), open(runtime, &server.url()));
        let trips = runtime.block_on(async {
            let names: Vec<_> = (0..tags).map(|at| format!("tag {at}")).collect();
            fill(&cache, std::iter::once(key.clone()), &self::tags(names)).await;
            trips(&proxy, &open(runtime, &proxy.url()), &key).await
        });
        sheet.add(BELOW, name, TRIPS, trips);
        contenders.push(Below { name, cache, key });
    }
    rounds(scale.rounds, BELOW, &mut contenders, |Below { name, cache, key }| {
        sheet.add(BELOW, name, US, runtime.block_on(hits_below(cache, key)));
    });
    sheet.compare(BELOW, US.metric, PLAIN, RATIO);
}

/// Of one hit through `proxy`.
async fn trips(proxy: &Proxy, counted: &Named, key: &String) -> f64 {
    assert!(counted.get(key).await.is_some(), "a value that is not there");
    let before = proxy.trips();
    assert!(counted.get(key).await.is_some());
    (proxy.trips() - before) as f64
}

/// Microseconds each.
async fn hits_below(cache: &Named, key: &String) -> f64 {
    let begin = Instant::now();
    for _ in 0..HITS {
        assert!(cache.get(key).await.is_some(), "a value that is not there");
    }
    begin.elapsed().as_secs_f64() * 1e6 / f64::from(HITS)
}
