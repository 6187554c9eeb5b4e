//! The scenes that every contender plays.

use std::future::poll_fn;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use allocation_counter::AllocationInfo;
use benches::{Keys, runtime};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::contender::{Contender, Loader, Writable};

/// The one key that everybody wants.
const KEY: u64 = u64::MAX;
/// How many tasks come at once to a key that is not there.
pub(crate) const CROWD: usize = 10_000;
/// How many callers a failing source has.
pub(crate) const UNLUCKY: usize = 50;
/// How long the source takes to fail.
const FAILURE: Duration = Duration::from_millis(50);
/// How many callers come one after another with too little time, and how little.
pub(crate) const HURRIED: usize = 10;
const BUDGET: Duration = Duration::from_millis(50);
const SLOW: Duration = Duration::from_millis(120);
/// How long a write or a caller is waited for that may wait for ever.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long one measurement of hits takes at least, and after how many the clock is read.
const MEASUREMENT: Duration = Duration::from_millis(50);
const BATCH: u32 = 1000;

/// What a hit takes. On a busy machine only the processor's time says something.
pub(crate) struct Hits {
    pub(crate) wall_ns: f64,
    pub(crate) cpu_ns: f64,
}

/// Hits one after another on as many hot keys.
pub(crate) fn hits<C: Contender>(hot: u64) -> Hits {
    runtime().block_on(async {
        let (cache, loader) = (C::open(), Loader::instant());
        for key in 0..hot {
            assert!(cache.get_or_load(key, &loader).await.is_ok(), "this source never fails");
        }
        let (mut keys, mut batches) = (Keys::seeded(1), 0);
        let (cpu, begin) = (cpu(), Instant::now());
        while begin.elapsed() < MEASUREMENT {
            for _ in 0..BATCH {
                black_box(cache.get_or_load(keys.draw() % hot, &loader).await.is_ok());
            }
            batches += 1;
        }
        let (cpu, wall) = (self::cpu() - cpu, begin.elapsed());
        // One in a thousand may have been evicted and loaded again; more would be no hits.
        assert!(loader.calls() as u64 <= hot + u64::from(batches), "loads among the hits");
        let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(batches * BATCH);
        Hits { wall_ns: each(wall), cpu_ns: each(cpu) }
    })
}

/// What a crowd at a missing key cost.
pub(crate) struct Storm {
    pub(crate) loads: usize,
    pub(crate) wall: Duration,
    /// Of all threads, in the system too.
    pub(crate) cpu: Duration,
}

/// A crowd at a missing key, on two workers. The load ends when all have joined it.
pub(crate) fn storm<C: Contender>() -> Storm {
    runtime().block_on(crowd::<C>())
}

/// The same on one thread, and what it allocated.
pub(crate) fn allocations<C: Contender>() -> AllocationInfo {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    // Whatever a contender sets up once, in statics and thread locals, is there by then.
    runtime.block_on(crowd::<C>());
    allocation_counter::measure(|| {
        runtime.block_on(crowd::<C>());
    })
}

async fn crowd<C: Contender>() -> Storm {
    let (gate, loader) = Loader::gated();
    let crowd = Arc::new(Crowd { cache: C::open(), loader, gate, joined: AtomicUsize::new(0) });
    let (cpu, begin) = (cpu(), Instant::now());
    let callers: Vec<_> = (0..CROWD)
        .map(|_| {
            let crowd = crowd.clone();
            tokio::spawn(async move { crowd.call().await })
        })
        .collect();
    for caller in callers {
        assert!(caller.await.is_ok_and(|served| served), "a caller was not served");
    }
    Storm { loads: crowd.loader.calls(), wall: begin.elapsed(), cpu: self::cpu() - cpu }
}

struct Crowd<C> {
    cache: C,
    loader: Loader,
    gate: watch::Sender<bool>,
    joined: AtomicUsize,
}

impl<C: Contender> Crowd<C> {
    /// Whether the value came. Whoever is the last to ask for it lets it come.
    async fn call(&self) -> bool {
        let mut read = pin!(self.cache.get_or_load(KEY, &self.loader));
        let first = poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
        if self.joined.fetch_add(1, Ordering::Relaxed) + 1 == CROWD {
            self.gate.send_replace(true);
        }
        match first {
            Poll::Ready(given) => given.is_ok(),
            Poll::Pending => read.await.is_ok(),
        }
    }
}

/// What a failing source cost its callers.
pub(crate) struct Failure {
    pub(crate) loads: usize,
    /// Until the last had its error.
    pub(crate) wall: Duration,
}

/// Callers who come together to a source that fails.
pub(crate) fn failing<C: Contender>() -> Failure {
    runtime().block_on(async {
        let (cache, loader) = (C::open(), Loader::failing(FAILURE));
        let begin = Instant::now();
        let callers: Vec<_> = (0..UNLUCKY)
            .map(|_| {
                let (cache, loader) = (cache.clone(), loader.clone());
                tokio::spawn(async move { cache.get_or_load(KEY, &loader).await.is_err() })
            })
            .collect();
        for caller in callers {
            assert!(caller.await.is_ok_and(|failed| failed), "a caller was served by a source that fails");
        }
        Failure { loads: loader.calls(), wall: begin.elapsed() }
    })
}

/// What callers with too little time got.
pub(crate) struct Hurry {
    pub(crate) loads: usize,
    pub(crate) served: usize,
    /// Whether the cache has the value afterwards.
    pub(crate) filled: bool,
}

/// Callers who come one after another, each with less time than the load takes.
pub(crate) fn hurried<C: Contender>() -> Hurry {
    runtime().block_on(async {
        let (cache, loader) = (C::open(), Loader::lasting(SLOW));
        let mut served = 0;
        for _ in 0..HURRIED {
            let given = timeout(BUDGET, cache.get_or_load(KEY, &loader)).await;
            served += usize::from(given.is_ok_and(|given| given.is_ok()));
        }
        let probe = Loader::instant();
        let found = timeout(BUDGET, cache.get_or_load(KEY, &probe)).await.is_ok_and(|given| given.is_ok());
        Hurry { loads: loader.calls(), served, filled: found && probe.calls() == 0 }
    })
}

/// Whether the next caller is served after a load that panicked.
pub(crate) fn panicking<C: Contender>() -> bool {
    // Its words would be lost among the figures.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let served = runtime().block_on(async {
        let cache = C::open();
        let unlucky = cache.clone();
        // An error, or the panic itself.
        drop(tokio::spawn(async move { unlucky.get_or_load(KEY, &Loader::panicking()).await.is_ok() }).await);
        let next = timeout(PATIENCE, cache.get_or_load(KEY, &Loader::instant())).await;
        next.is_ok_and(|given| given.is_ok())
    });
    std::panic::set_hook(hook);
    served
}

/// What is written during a load.
#[derive(Clone, Copy, PartialEq)]
enum Write {
    Removal,
    Insert,
}

/// What the cache has when that load has ended.
#[derive(PartialEq)]
enum Left {
    Nothing,
    Old,
    New,
}

/// Whether the value from before a removal comes back by a load that had begun before.
pub(crate) fn comes_back<C: Writable>() -> bool {
    after::<C>(Write::Removal) == Left::Old
}

/// Whether an inserted value is replaced by a load that had begun before.
pub(crate) fn is_overwritten<C: Writable>() -> bool {
    after::<C>(Write::Insert) == Left::Old
}

fn after<C: Writable>(write: Write) -> Left {
    const NEW: [u8; 64] = [1; 64];
    runtime().block_on(async {
        let (cache, (gate, loader)) = (C::open(), Loader::gated());
        let reader = tokio::spawn({
            let (cache, loader) = (cache.clone(), loader.clone());
            async move { cache.get_or_load(KEY, &loader).await.is_ok() }
        });
        while loader.calls() == 0 {
            yield_now().await;
        }
        // Some wait with their write for the load.
        let written = async {
            match write {
                Write::Removal => cache.remove(KEY).await,
                Write::Insert => cache.insert(KEY, NEW).await,
            }
        };
        let opened = async {
            sleep(PATIENCE).await;
            gate.send_replace(true);
        };
        tokio::join!(written, opened);
        assert!(reader.await.is_ok_and(|served| served), "the reader was not served");
        let probe = Loader::instant();
        let Ok(found) = cache.get_or_load(KEY, &probe).await else { panic!("this source never fails") };
        match C::bytes(&found) {
            _ if probe.calls() > 0 => Left::Nothing,
            NEW => Left::New,
            _ => Left::Old,
        }
    })
}

/// Processor time of this process so far; zero where the system does not tell.
fn cpu() -> Duration {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
    #[cfg(not(unix))]
    Duration::ZERO
}
