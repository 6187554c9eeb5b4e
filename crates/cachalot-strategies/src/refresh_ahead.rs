//! Refresh-ahead: keys that nobody ever waits for.

use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachalot_core::units::{minutes, seconds};
use cachalot_core::{Error, ErrorKind, Key, LoadError, Result, Source, Store};
use cachalot_stampede::RefreshBudget;
use tokio::sync::Notify;

use crate::cache::Cache;
use crate::cached::Cached;
use crate::read_through::ReadThrough;

mod round;
mod set;
mod sketch;
pub use set::Registration;
use set::WarmSet;
use sketch::Sketch;

/// Keeps a set of keys warm: each is loaded anew before its life is over, whether or not somebody reads it, so that no
/// reader waits for its load.
///
/// In the set are the keys that are [registered](RefreshAhead::register) or [listed](RefreshAhead::keep), and, if asked
/// for, the [`top`](RefreshAheadBuilder::top) ones by how often they are read through [`get`](RefreshAhead::get).
///
/// ```
/// use cachalot_core::{Entry, LoadFn, Ttl};
/// use cachalot_memory_backend::Memory;
/// use cachalot_strategies::{Cache, RefreshAhead};
/// use std::{sync::Arc, time::Duration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache: Cache<u64, u64, Memory<u64, Arc<Entry<u64>>>> =
///     Cache::builder("squares").memory(Memory::entries(1_000)).ttl(Ttl::minutes(5)).build()?;
/// let source = LoadFn::new(|n| async move { Ok::<_, std::io::Error>(Some(n * n)) });
/// let warm = RefreshAhead::builder(cache, source).every(Duration::from_secs(10)).budget(50, 100).build()?;
///
/// let _three = warm.register(3);
/// warm.keep([4, 5, 6]);
/// assert_eq!(warm.get(&3).await?.as_deref(), Some(&9));
/// # Ok(())
/// # }
/// ```
///
/// # A round
///
/// Once every [interval](RefreshAheadBuilder::every) all keys of the set are looked at. Those of whose life the
/// [share](RefreshAheadBuilder::ratio) is over are loaded anew, those that are missing are loaded, together where the
/// source can. It goes the way of any refresh, by the flight and the lease of the key: an invalidation meanwhile is never
/// undone, and a reader who comes meanwhile has the value that is there. So the TTL should be several intervals: one that
/// ends within the last fifth of its life before the next round begins is missed.
///
/// A load that fails leaves what is there; the next round tries again, and a key that failed stands behind those that
/// wait. A key whose row is gone is asked for again when its value would have been refreshed. A load that takes longer
/// than the interval is not waited for, nor begun a second time; the rounds go on beside it. A round ends with its
/// interval: what it has not come to by then is first in the next.
///
/// # In a fleet
///
/// Over a shared tier with leases one process does a round, for all: who gets a lease on the round, which is never given
/// back and ends with the interval. If it dies, another one gets the next. One whose set is empty leaves it to others.
/// It loads what it itself has in its set, so give
/// all processes the same keys; reads are counted where they happen. Other processes read the new value from the shared
/// tier when their copy in memory ends ([`memory_ttl`](crate::CacheBuilder::memory_ttl)), at the latest when the old value
/// would have ended: they wait for that read, never for a load. While the shared tier cannot be reached there are no
/// rounds. Without leases, or without a shared tier, each process does its own.
///
/// A clone is cheap and is the same. With the last one its task ends; so it does when the cache is shut down.
pub struct RefreshAhead<K, V, S, D> {
    inner: Arc<Inner<K, V, S, D>>,
}

struct Inner<K, V, S, D> {
    read: ReadThrough<K, V, S, D>,
    /// Where the right to do a round lies.
    duty: Key,
    settings: Settings,
    budget: Option<RefreshBudget>,
    set: Arc<WarmSet<K>>,
    hot: Option<Mutex<Hot<K>>>,
    /// With which of its keys the next round begins.
    first: AtomicUsize,
    /// Whether the last round was, or may have been, another process's.
    was_others: AtomicBool,
    counts: Arc<Counts>,
    /// Something to be told to its task: it is over.
    gone: Arc<Notify>,
}

/// What is read often.
struct Hot<K> {
    sketch: Sketch<K>,
    /// When it was halved last, by the monotonic clock.
    halved_at: Duration,
}

#[derive(Clone, Debug)]
struct Settings {
    every: Duration,
    ratio: f64,
    top: usize,
    half_life: Duration,
}

#[derive(Default)]
struct Counts {
    rounds: AtomicU64,
    loads: AtomicU64,
    failed: AtomicU64,
    absent: AtomicU64,
    over_budget: AtomicU64,
    waiting: AtomicU64,
}

/// Figures of a [`RefreshAhead`], since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefreshAheadStats {
    /// Keys that are registered or listed now.
    pub registered: u64,
    /// Keys whose reads are counted now.
    pub counted: u64,
    /// Keys of which it is known now when they were loaded last.
    pub tried: u64,
    /// Rounds that this process has done.
    pub rounds: u64,
    /// Keys that its rounds have asked the source for.
    pub loads: u64,
    /// Those of them whose load failed.
    pub failed: u64,
    /// Keys that the source was found not to have; one that stays away counts once.
    pub absent: u64,
    /// Times that a key was due and left to the next round, over budget.
    pub over_budget: u64,
    /// Keys that the last round has left to the next: over budget, or not come to before its interval was over.
    pub waiting: u64,
}

/// Builds a [`RefreshAhead`].
#[must_use = "call `build`"]
pub struct RefreshAheadBuilder<K, V, S, D> {
    read: ReadThrough<K, V, S, D>,
    settings: Settings,
    counters: Option<usize>,
    budget: Option<(u32, u32)>,
    name: String,
}

/// Beside each key that is wanted so many counters find it among others.
const COUNTERS_PER_KEY: usize = 10;
const SHORTEST: Duration = Duration::from_millis(100);

impl<K, V, S, D> RefreshAheadBuilder<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// How often there is a round, and for how long one process has the right to it. At least 100 ms. Default: 1 s. A
    /// round looks at every key of the set, in memory first.
    pub fn every(mut self, interval: Duration) -> Self {
        self.settings.every = interval;
        self
    }

    /// Which share of a value's life is over when it is loaded anew: above 0, below 1. Default: 0.8. What never ends is
    /// never loaded anew.
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.settings.ratio = ratio;
        self
    }

    /// At most `per_second` loads a second, and `burst` at once after a rest. What is due beyond waits for the next
    /// round, and goes before what comes due later. A fleet has one rate: who does a round after another process's has
    /// what one interval earns, and no burst; that is for who has done the rounds before. Default: no bound but that on
    /// [loader calls](crate::CacheBuilder::batch_concurrency) at a time.
    pub fn budget(mut self, per_second: u32, burst: u32) -> Self {
        self.budget = Some((per_second, burst));
        self
    }

    /// Keeps warm, besides what is registered, the `k` keys that are read most often through
    /// [`get`](RefreshAhead::get) here. Default: 0.
    ///
    /// Reads are counted by Space-Saving (Metwally et al., ICDT 2005) with ten counters for each of the `k`, 64 at
    /// least, whatever number of keys is read. A read costs one look-up more and no allocation if its key has a counter;
    /// of two that meet only one is counted.
    pub fn top(mut self, k: usize) -> Self {
        self.settings.top = k;
        self
    }

    /// After which time a read counts half. Default: 1 minute.
    pub fn half_life(mut self, half_life: Duration) -> Self {
        self.settings.half_life = half_life;
        self
    }

    /// How many reads are counted apart, instead of ten for each of the [`top`](RefreshAheadBuilder::top) keys.
    pub fn counters(mut self, counters: usize) -> Self {
        self.counters = Some(counters);
        self
    }

    /// Tells this set from others over the same cache: each has its own rounds. Up to 64 bytes. Default: empty.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) if an interval is too short, the ratio is none, the budget is zero, the name too
    /// long, or the cache [slides](crate::Sliding).
    pub fn build(self) -> Result<RefreshAhead<K, V, S, D>> {
        let Self { read, settings, counters, budget, name } = self;
        let refuse = |detail: &'static str| {
            Err(Error::new(ErrorKind::Config, "building a refresh-ahead").detail(detail))
        };
        if settings.every < SHORTEST || settings.half_life < SHORTEST {
            return refuse("`every` and `half_life` are 100 ms at least");
        }
        if !(settings.ratio > 0.0 && settings.ratio < 1.0) {
            return refuse("`ratio` is a share of a life: above 0 and below 1");
        }
        if name.len() > 64 {
            return refuse("`name` has at most 64 bytes");
        }
        if read.cache().engine.slides() {
            return refuse("a cache with `max_age` forgets what nobody reads: that is the opposite");
        }
        let budget = budget.map(|(per_second, burst)| RefreshBudget::new(per_second, burst)).transpose()?;
        let engine = &read.cache().engine;
        let counters = counters.unwrap_or(settings.top.saturating_mul(COUNTERS_PER_KEY).max(64));
        let hot = (settings.top > 0)
            .then(|| Mutex::new(Hot { sketch: Sketch::new(counters), halved_at: engine.clock.monotonic() }));
        let inner = Arc::new(Inner {
            duty: engine.namespace.duty(&name),
            settings,
            budget,
            set: WarmSet::new(),
            hot,
            first: AtomicUsize::new(0),
            was_others: AtomicBool::new(false),
            counts: Arc::default(),
            gone: Arc::default(),
            read,
        });
        inner
            .read
            .cache()
            .engine
            .spawn
            .spawn(Box::pin(round::run(Arc::downgrade(&inner), inner.gone.clone())));
        Ok(RefreshAhead { inner })
    }
}

impl<K, V, S, D> RefreshAhead<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// For a cache and where its values come from.
    pub fn builder(cache: Cache<K, V, S>, source: D) -> RefreshAheadBuilder<K, V, S, D> {
        Self::over(ReadThrough::new(cache, source))
    }

    /// For a [`ReadThrough`], with its options and marks.
    pub fn over(read: ReadThrough<K, V, S, D>) -> RefreshAheadBuilder<K, V, S, D> {
        let settings = Settings { every: seconds(1), ratio: 0.8, top: 0, half_life: minutes(1) };
        RefreshAheadBuilder { read, settings, counters: None, budget: None, name: String::new() }
    }

    /// [`ReadThrough::get`], counted.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Dropping the future
    /// Only this caller leaves; the load goes on.
    pub fn get<'a>(
        &'a self,
        key: &'a K,
    ) -> impl Future<Output = Result<Option<Cached<V>>, LoadError>> + use<'a, K, V, S, D> {
        self.count(key);
        self.inner.read.get(key)
    }

    /// Keeps `key` warm from the next round on, until what this gives is dropped, or the key
    /// [forgotten](RefreshAhead::forget).
    pub fn register(&self, key: K) -> Registration<K> {
        self.inner.set.register(key, self.inner.read.cache().engine.clock.now())
    }

    /// Keeps `keys` warm, in place of those of the call before. What is registered stays.
    pub fn keep(&self, keys: impl IntoIterator<Item = K>) {
        self.inner.set.keep(keys, self.inner.read.cache().engine.clock.now());
    }

    /// Takes `key` out of the set, registered or listed, and whether it was there. Its value stays in the cache and ends
    /// in its time; a refresh that runs is finished.
    pub fn forget(&self, key: &K) -> bool {
        self.inner.set.forget(key)
    }

    /// What it reads through.
    pub fn read_through(&self) -> &ReadThrough<K, V, S, D> {
        &self.inner.read
    }

    /// Figures.
    pub fn stats(&self) -> RefreshAheadStats {
        let Counts { rounds, loads, failed, absent, over_budget, waiting } = &*self.inner.counts;
        let (registered, tried) = self.inner.set.len();
        let counted = self.inner.hot.as_ref().map_or(0, |hot| round::lock(hot).sketch.len());
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RefreshAheadStats {
            registered: registered as u64,
            counted: counted as u64,
            tried: tried as u64,
            rounds: read(rounds),
            loads: read(loads),
            failed: read(failed),
            absent: read(absent),
            over_budget: read(over_budget),
            waiting: read(waiting),
        }
    }

    fn count(&self, key: &K) {
        let Some(hot) = &self.inner.hot else { return };
        // Nobody waits to be counted.
        if let Ok(mut hot) = hot.try_lock() {
            hot.sketch.count(key);
        }
    }
}

impl<K, V, S, D> Clone for RefreshAhead<K, V, S, D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K, V, S, D> fmt::Debug for RefreshAhead<K, V, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { read, settings, .. } = &*self.inner;
        f.debug_struct("RefreshAhead").field("read", read).field("settings", settings).finish_non_exhaustive()
    }
}

impl<K, V, S, D> fmt::Debug for RefreshAheadBuilder<K, V, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read, settings, .. } = self;
        f.debug_struct("RefreshAheadBuilder")
            .field("read", read)
            .field("settings", settings)
            .finish_non_exhaustive()
    }
}

impl<K, V, S, D> Drop for Inner<K, V, S, D> {
    fn drop(&mut self) {
        self.gone.notify_one();
    }
}
