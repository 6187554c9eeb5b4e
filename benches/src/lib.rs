//! Parts that the benchmarks share: keys, values, policies, traces.

pub mod contender;
mod options;
pub use options::{Options, rounds};
pub mod policy;
mod sheet;
pub use sheet::{Figure, Sheet};
mod spread;
pub use spread::{Spread, number};
pub mod trace;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cachalot_memory_backend::Memory;
use tokio::runtime::Runtime;

/// How many keys the hit benchmarks read, all of them held.
pub const HOT_KEYS: u64 = 10_000;

/// Room for every hot key, whatever a cache thinks of its own bound.
pub const CAPACITY: usize = 2 * HOT_KEYS as usize;

/// What the caches hold.
pub type Value = Arc<[u8; 64]>;

/// The value under `key`, shared.
pub fn value(key: u64) -> Value {
    Arc::new(bytes(key))
}

/// The value under `key`.
pub fn bytes(key: u64) -> [u8; 64] {
    [key as u8; 64]
}

/// Our memory engine with room for every hot key.
///
/// # Panics
/// If the engine refuses that capacity.
pub fn memory() -> Memory<u64, Value> {
    match Memory::entries(CAPACITY as u64).build() {
        Ok(memory) => memory,
        Err(error) => panic!("no memory: {error}"),
    }
}

/// Hot keys in a fixed order that looks random; a draw takes about a nanosecond.
#[derive(Clone, Debug)]
pub struct Keys {
    state: u64,
}

impl Keys {
    /// Another seed, another order.
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next key, below [`HOT_KEYS`].
    #[inline]
    pub fn draw(&mut self) -> u64 {
        // Knuth's MMIX generator. Its high bits are good enough to defeat the prefetcher.
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 32) * HOT_KEYS) >> 32
    }
}

/// The runtime that every asynchronous contender gets: two workers, as a small service has.
///
/// # Panics
/// If the system refuses a thread.
pub fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    match builder.worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    }
}

/// Spawns `callers` tasks at once and returns the time until the last of them is done.
///
/// # Panics
/// If one of them does.
pub async fn concurrently<F>(callers: usize, caller: impl Fn() -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let begin = Instant::now();
    let tasks: Vec<_> = (0..callers).map(|_| tokio::spawn(caller())).collect();
    for task in tasks {
        if let Err(error) = task.await {
            panic!("a caller died: {error}");
        }
    }
    begin.elapsed()
}
