//! Ten million entries end at one instant: what does that cost those who insert right after it?

use std::io::Result;
use std::thread;
use std::time::{Duration, Instant};

use cachalot_memory_backend::Memory;

use super::child::ask;
use super::clocks::Moment;

/// One contender's inserts, in nanoseconds.
#[derive(Debug)]
pub(crate) struct Worst {
    pub(crate) name: &'static str,
    /// Whether entries had ended. Otherwise it is the same without an end: the machine's part.
    pub(crate) expired: bool,
    pub(crate) mean: f64,
    /// Of ten thousand inserts all but one were faster.
    pub(crate) p9999: f64,
    pub(crate) max: f64,
    /// The most that an insert really ran, without the time the system gave to others.
    pub(crate) max_cpu: f64,
    /// Of the ten million, those not collected by then.
    pub(crate) left: f64,
}

const MORTALS: u64 = 10_000_000;
const INSERTS: u64 = 2_000_000;
/// Room for all, so that nothing is evicted.
const ROOM: u64 = 2 * MORTALS;

/// Measures everybody who knows expiry by entry, each in a process of its own.
pub(crate) fn measure() -> Result<Vec<Worst>> {
    let mut all = Vec::new();
    for name in NAMES {
        for expired in [true, false] {
            let numbers = ask(&["expiry", name, if expired { "expired" } else { "alive" }])?;
            if let [mean, p9999, max, max_cpu, left] = numbers[..] {
                all.push(Worst { name, expired, mean, p9999, max, max_cpu, left });
            }
        }
    }
    Ok(all)
}

#[cfg(feature = "peers")]
const NAMES: &[&str] = &["cachalot", "moka"];
#[cfg(not(feature = "peers"))]
const NAMES: &[&str] = &["cachalot"];

/// In the process of its own.
pub(crate) fn child(name: &str, expired: bool) -> Vec<f64> {
    match name {
        #[cfg(feature = "peers")]
        "moka" => {
            let cache = |end| {
                let cache = super::peers::dying_at(end, MORTALS, ROOM as usize);
                let (insert, held) = (cache.clone(), cache);
                Caches {
                    insert: move |key, _: Option<Duration>| insert.insert(key, key),
                    // Without asking it to tidy up first.
                    held: move || held.entry_count(),
                }
            };
            inserts(cache, expired)
        }
        _ => inserts(ours, expired),
    }
}

/// What is needed of a cache: to insert for a time, if any, and to count.
struct Caches<I, H> {
    insert: I,
    held: H,
}

fn ours(_: Instant) -> Caches<impl Fn(u64, Option<Duration>), impl Fn() -> u64> {
    let memory = match Memory::entries(ROOM).build() {
        Ok(memory) => std::sync::Arc::new(memory),
        Err(error) => panic!("no memory: {error}"),
    };
    let counted = memory.clone();
    let insert = move |key, ttl| {
        match ttl {
            Some(ttl) => memory.insert_with_ttl(key, key, ttl),
            None => memory.insert(key, key),
        };
    };
    Caches { insert, held: move || counted.len() as u64 }
}

fn inserts<I: Fn(u64, Option<Duration>), H: Fn() -> u64>(
    build: impl Fn(Instant) -> Caches<I, H>,
    expired: bool,
) -> Vec<f64> {
    // How long filling takes is found by a tenth of it.
    let begin = Instant::now();
    let probe = build(begin + HOUR);
    (0..MORTALS / 10).for_each(|key| (probe.insert)(key, Some(HOUR)));
    drop(probe);
    let filling = 20 * begin.elapsed() + Duration::from_secs(1);

    let end = Instant::now() + if expired { filling } else { HOUR };
    let cache = build(end);
    for key in 0..MORTALS {
        (cache.insert)(key, Some(end.saturating_duration_since(Instant::now())));
    }
    if expired {
        assert!(Instant::now() < end, "filling took longer than {filling:?}");
        thread::sleep(end.saturating_duration_since(Instant::now()) + Duration::from_millis(10));
    }
    let mut walls = Vec::with_capacity(INSERTS as usize);
    let mut max_cpu = Duration::ZERO;
    for key in MORTALS..MORTALS + INSERTS {
        let begin = Moment::now();
        (cache.insert)(key, None);
        let end = Moment::now();
        walls.push((end.wall - begin.wall).as_nanos() as f64);
        max_cpu = max_cpu.max(end.cpu - begin.cpu);
    }
    walls.sort_by(f64::total_cmp);
    let mean = walls.iter().sum::<f64>() / walls.len() as f64;
    let p9999 = walls[walls.len() - walls.len() / 10_000];
    let max = walls[walls.len() - 1];
    let left = (cache.held)().saturating_sub(INSERTS) as f64;
    vec![mean, p9999, max, max_cpu.as_nanos() as f64, left]
}

/// Longer than any run.
const HOUR: Duration = Duration::from_secs(3600);
