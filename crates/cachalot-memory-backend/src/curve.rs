//! What the hit ratio would be at other capacities, from a sample of the reads.

mod stack;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use stack::{KEYS, Stack};

/// Watches a sample of a cache's reads and tells what the hit ratio would be at other capacities.
///
/// The keys whose hash lies below a threshold are the sample, and the reads of a sampled key are seen all
/// (SHARDS: Waldspurger, Park, Garthwaite, Ahmad, "Efficient MRC Construction with SHARDS", FAST 2015). How
/// many other sampled keys were read since a key's last read, scaled by the rate of sampling, is the capacity
/// from which on an LRU would have had it.
///
/// The sample is bounded, to 4,096 keys and about 300 KiB, by forgetting the keys not read for longest: what
/// lies deeper is a miss at every capacity in reach. SHARDS lowers its rate instead, which never recovers, so
/// where new keys keep coming little of what is read today would be in its sample.
///
/// Hashes are to be uniform in all their bits, and to stay the same for a key.
///
/// ```
/// use cachalot_memory_backend::CurveSampler;
///
/// // A loop over 25,000 keys, and a cache that holds 10,000.
/// let sampler = CurveSampler::new(10_000);
/// let hasher = ahash::RandomState::new();
/// for read in 0..500_000 {
///     let hash = hasher.hash_one(read % 25_000);
///     if sampler.is_sampled(hash) {
///         sampler.observe(hash);
///     }
/// }
/// let curve = sampler.curve(500_000, 10_000);
/// assert!(curve.hit_ratio_at(1.0) < 0.05);
/// assert!(curve.hit_ratio_at(4.0) > 0.9);
/// ```
pub struct CurveSampler {
    /// Sampled are the hashes below.
    threshold: AtomicU64,
    /// The last one observed. Reading it again changes nothing, however many threads do.
    last: AtomicU64,
    /// Reads not taken in because another thread was at it.
    dropped: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    stack: Stack,
    counts: Counts,
    /// The reads of the cache when this began.
    since: u64,
    /// Counts the beginnings.
    epoch: u64,
}

/// Sampled reads by the depth they were found at; the last place is for those found at none.
///
/// `by_reads` weighs each by how often its key has been read.
#[derive(Clone, Debug)]
struct Counts {
    reads: Box<[u64]>,
    by_reads: Box<[u64]>,
}

impl CurveSampler {
    /// A sampler for a cache that holds about so many `entries`. The rate of sampling is at most 1 in 100, and
    /// less for a large cache, so that five times its entries are in reach.
    pub fn new(entries: u64) -> Self {
        Self {
            threshold: AtomicU64::new(threshold_for(entries)),
            last: AtomicU64::new(u64::MAX),
            dropped: AtomicU64::new(0),
            seen: Mutex::new(Seen { stack: Stack::new(), counts: Counts::new(), since: 0, epoch: 0 }),
        }
    }

    /// Whether reads of the key with this hash are to be [`observed`](CurveSampler::observe): one compare.
    #[inline]
    pub fn is_sampled(&self, hash: u64) -> bool {
        hash < self.threshold.load(Ordering::Relaxed)
    }

    /// Takes a read of a sampled key in, a hit or a miss. Never waits: if another thread is at it, the read
    /// is dropped, and counted. Allocates nothing.
    ///
    /// About 30 ns, so 0.3 ns per read at the highest rate of sampling; every 12,000th takes about 0.1 ms.
    #[cold]
    #[inline(never)]
    pub fn observe(&self, hash: u64) {
        // On top already: a hit at any capacity, whether counted or not.
        if self.last.load(Ordering::Relaxed) == hash {
            return;
        }
        let mut seen = match self.seen.try_lock() {
            Ok(seen) => seen,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        self.last.store(hash, Ordering::Relaxed);
        let place = seen.stack.read(hash as u32);
        seen.counts.add(place.depth, place.reads);
    }

    /// The part of all keys that are sampled.
    pub fn rate(&self) -> f64 {
        rate_of(self.threshold.load(Ordering::Relaxed))
    }

    /// The curve of all reads since the beginning. `reads`: how many reads the cache has had in all, sampled
    /// or not. `entries`: how many it holds when full.
    ///
    /// If `entries` is far from what the sampler was made for, it begins anew at another rate. Waits for
    /// an observation in progress; allocates 64 KiB.
    pub fn curve(&self, reads: u64, entries: u64) -> Curve {
        let mut seen = self.lock();
        let observed = seen.counts.total();
        let dropped = self.dropped.load(Ordering::Relaxed);
        let curve = Curve {
            counts: seen.counts.clone(),
            reads: reads.saturating_sub(seen.since),
            observed,
            dropped,
            rate: self.rate(),
            entries,
            epoch: seen.epoch,
        };
        let fit = threshold_for(entries);
        let is = self.threshold.load(Ordering::Relaxed);
        if fit < is / 2 || fit / 2 > is {
            self.threshold.store(fit, Ordering::Relaxed);
            self.dropped.store(0, Ordering::Relaxed);
            self.last.store(u64::MAX, Ordering::Relaxed);
            *seen = Seen { stack: Stack::new(), counts: Counts::new(), since: reads, epoch: seen.epoch + 1 };
        }
        curve
    }

    /// What it has allocated.
    pub(crate) fn bytes(&self) -> usize {
        let seen = self.lock();
        seen.stack.bytes() + size_of_val(&*seen.counts.reads) + size_of_val(&*seen.counts.by_reads)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing of the user's runs under it.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn new() -> Self {
        Self { reads: vec![0; KEYS + 1].into(), by_reads: vec![0; KEYS + 1].into() }
    }

    fn add(&mut self, depth: Option<usize>, reads: u32) {
        let at = depth.unwrap_or(KEYS).min(KEYS);
        self.reads[at] += 1;
        self.by_reads[at] += u64::from(reads);
    }

    fn total(&self) -> u64 {
        self.reads.iter().sum()
    }

    fn less(&self, earlier: &Self) -> Self {
        let less = |now: &[u64], then: &[u64]| {
            now.iter().zip(then).map(|(now, then)| now.saturating_sub(*then)).collect()
        };
        Self { reads: less(&self.reads, &earlier.reads), by_reads: less(&self.by_reads, &earlier.by_reads) }
    }
}

/// The hit ratio as a function of the capacity, made by [`CurveSampler::curve`].
#[derive(Clone)]
pub struct Curve {
    counts: Counts,
    reads: u64,
    observed: u64,
    dropped: u64,
    rate: f64,
    entries: u64,
    epoch: u64,
}

impl Curve {
    /// The hit ratio that an LRU of `factor` times the capacity would have had on these reads, 0 to 1. Beyond
    /// [`Curve::reach`]: that at the reach. 0 if there were no reads.
    ///
    /// The mean error is below 0.02 for a cache of 20,000 entries and below 0.01 from 50,000 on; below that few
    /// keys are sampled, and it says little. Entries are taken to weigh alike, and none to expire.
    pub fn hit_ratio_at(&self, factor: f64) -> f64 {
        if self.reads == 0 || self.observed == 0 {
            return 0.0;
        }
        let depth = (factor * self.entries as f64 * self.rate).clamp(0.0, KEYS as f64);
        let missed = beyond(&self.counts.reads, depth);
        let reads = self.reads as f64;
        let scale = (self.observed + self.dropped) as f64 / self.observed as f64 / self.rate;
        // A regression estimate. The sample may have more reads than its part of all, or less. Where the keys
        // that are read most are the ones that miss, as in a loop, so has it more or less misses; where they
        // hit, as under a skew, it has not.
        let slope = beyond(&self.counts.by_reads, depth) / beyond(&self.counts.by_reads, 0.0);
        let missed = missed * scale + slope * (reads - self.observed as f64 * scale);
        1.0 - (missed / reads).clamp(0.0, 1.0)
    }

    /// The largest factor of the capacity it can tell about.
    pub fn reach(&self) -> f64 {
        KEYS as f64 / self.rate / self.entries.max(1) as f64
    }

    /// How many reads it is about.
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// How many reads were observed. Below a thousand the curve tells little.
    pub fn samples(&self) -> u64 {
        self.observed
    }

    /// The curve of the reads since `earlier`, a curve of the same sampler. If it has begun anew meanwhile,
    /// that of all reads since it did.
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.epoch != self.epoch {
            return self.clone();
        }
        Self {
            counts: self.counts.less(&earlier.counts),
            reads: self.reads.saturating_sub(earlier.reads),
            observed: self.observed.saturating_sub(earlier.observed),
            dropped: self.dropped.saturating_sub(earlier.dropped),
            ..*self
        }
    }
}

/// The sum of what lies at `depth` or deeper; between two depths, in proportion.
fn beyond(counts: &[u64], depth: f64) -> f64 {
    let (whole, part) = (depth as usize, depth.fract());
    let split = counts.get(whole).map_or(0.0, |&count| count as f64 * (1.0 - part));
    let rest: u64 = counts.iter().skip(whole + 1).sum();
    split + rest as f64
}

fn threshold_for(entries: u64) -> u64 {
    let rate = (KEYS as f64 / (REACH * entries.max(1) as f64)).min(RATE_MAX);
    // 2^64 as a number; the rate is far below 1.
    (rate * 18_446_744_073_709_551_616.0) as u64
}

fn rate_of(threshold: u64) -> f64 {
    threshold as f64 / 18_446_744_073_709_551_616.0
}

const RATE_MAX: f64 = 0.01;

/// How many times the entries the followed keys stand for.
const REACH: f64 = 5.0;

impl fmt::Debug for CurveSampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurveSampler").field("rate", &self.rate()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = f.debug_map();
        for factor in [0.25, 0.5, 1.0, 2.0, 4.0] {
            at.entry(&factor, &self.hit_ratio_at(factor));
        }
        at.finish()
    }
}
