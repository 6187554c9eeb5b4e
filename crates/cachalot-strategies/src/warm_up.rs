//! Warm-up: what is likely to be asked for is loaded before anybody asks.

use std::fmt;
use std::future::poll_fn;
use std::hash::Hash;
use std::pin::Pin;
use std::task::Poll;

use cachalot_core::{BoxFuture, LoadError, LoaderError, Source, Store, Tier};

use crate::read_through::ReadThrough;

/// Loads many keys before anybody asks for them, a chunk at a time. Made by [`ReadThrough::warm_up`] and
/// [`ReadThrough::warm_up_pages`]; awaiting it begins.
///
/// ```
/// use cachalot_core::{Entry, LoadFn};
/// use cachalot_memory_backend::Memory;
/// use cachalot_strategies::{Cache, ReadThrough};
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache: Cache<u64, u64, Memory<u64, Arc<Entry<u64>>>> =
///     Cache::builder("squares").memory(Memory::entries(10_000)).build()?;
/// let squares = ReadThrough::new(cache, LoadFn::new(|n| async move { Ok::<_, std::io::Error>(Some(n * n)) }));
///
/// let warmed = squares.warm_up(0..1_000).chunk(100).on_progress(|at| assert!(at.done <= 1_000)).await;
/// assert_eq!((warmed.loaded, warmed.failed), (1_000, 0));
/// assert!(squares.get_local(&999).is_some());
/// # Ok(())
/// # }
/// ```
///
/// Each chunk goes the way of [`ReadThrough::get_many`]: what a tier has is not loaded, what another process loads is
/// waited for, and what is invalidated meanwhile is not kept. A chunk that fails costs its own keys and no other.
///
/// # Dropping the future
/// No further chunk begins. Loads that run are finished, and what was loaded stays.
#[must_use = "await it"]
pub struct WarmUp<K, V, S, D> {
    read: ReadThrough<K, V, S, D>,
    pages: Pages<K>,
    chunk: usize,
    concurrency: usize,
    total: Option<u64>,
    on_progress: Option<OnProgress>,
}

type OnProgress = Box<dyn FnMut(&WarmUpProgress) + Send>;

/// Gives the keys, page by page; in the size of a chunk, where it can choose.
type Pages<K> = Box<dyn FnMut(usize) -> BoxFuture<'static, Page<K>> + Send>;
/// `None`: there is none any more.
type Page<K> = Result<Option<Vec<K>>, LoaderError>;

/// How far a [`WarmUp`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmUpProgress {
    /// Keys that are through, failed ones included.
    pub done: u64,
    /// Keys whose load failed.
    pub failed: u64,
    /// How many keys there are in all, if that is [known](WarmUp::total).
    pub total: Option<u64>,
}

/// What came of a [`WarmUp`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WarmedUp {
    /// Keys that were loaded.
    pub loaded: u64,
    /// Keys that a tier had.
    pub present: u64,
    /// Keys that the source does not have.
    pub absent: u64,
    /// Keys whose load failed.
    pub failed: u64,
    /// The first error of each chunk that had one; of the first 32 chunks.
    pub errors: Vec<LoadError>,
    /// Why the keys ended before their end, if their pages failed.
    pub interrupted: Option<LoaderError>,
}

const CHUNK: usize = 256;
const CONCURRENCY: usize = 2;
const MOST_ERRORS: usize = 32;

impl<K, V, S, D> ReadThrough<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// Loads `keys` before anybody asks for them. The total is known if the iterator says so.
    pub fn warm_up<I>(&self, keys: I) -> WarmUp<K, V, S, D>
    where
        I: IntoIterator<Item = K>,
        I::IntoIter: Send + 'static,
    {
        let mut keys = keys.into_iter();
        let total = match keys.size_hint() {
            (least, Some(most)) if least == most => Some(most as u64),
            _ => None,
        };
        let page = move |size| -> BoxFuture<'static, Page<K>> {
            let page: Vec<K> = keys.by_ref().take(size).collect();
            Box::pin(async move { Ok(Some(page).filter(|page| !page.is_empty())) })
        };
        self.warm_up_of(Box::new(page), total)
    }

    /// As [`warm_up`](ReadThrough::warm_up) for keys that come page by page, from the source itself, say: `next` gives
    /// each page, and `None` after the last. A page is loaded as one chunk, however long it is. Only one is asked for at a
    /// time, and none before there is room for it.
    pub fn warm_up_pages<F, T>(&self, mut next: F) -> WarmUp<K, V, S, D>
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = Result<Option<Vec<K>>, LoaderError>> + Send + 'static,
    {
        self.warm_up_of(Box::new(move |_| Box::pin(next())), None)
    }

    fn warm_up_of(&self, pages: Pages<K>, total: Option<u64>) -> WarmUp<K, V, S, D> {
        let (chunk, concurrency) = (CHUNK, CONCURRENCY);
        WarmUp { read: self.clone(), pages, chunk, concurrency, total, on_progress: None }
    }
}

impl<K, V, S, D> WarmUp<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// How many keys are loaded together: one at least. Default: 256. A loader call is given no more than
    /// [`batch_size`](crate::CacheBuilder::batch_size) of them.
    pub fn chunk(mut self, keys: usize) -> Self {
        self.chunk = keys.max(1);
        self
    }

    /// How many chunks are under way at once: one at least. Default: 2.
    pub fn concurrency(mut self, chunks: usize) -> Self {
        self.concurrency = chunks.max(1);
        self
    }

    /// How many keys there are, where the keys do not say so themselves: for the progress.
    pub fn total(mut self, keys: u64) -> Self {
        self.total = Some(keys);
        self
    }

    /// Calls `tell` after each chunk, in the task that waits.
    pub fn on_progress(mut self, tell: impl FnMut(&WarmUpProgress) + Send + 'static) -> Self {
        self.on_progress = Some(Box::new(tell));
        self
    }

    async fn run(mut self) -> WarmedUp {
        let mut warmed = WarmedUp::default();
        let mut progress = WarmUpProgress { total: self.total, ..WarmUpProgress::default() };
        let mut page: Option<BoxFuture<'static, Page<K>>> = None;
        let mut is_over = false;
        let mut running: Vec<Pin<Box<dyn Future<Output = Chunk> + Send>>> = Vec::new();
        poll_fn(|cx| {
            loop {
                running.retain_mut(|chunk| match chunk.as_mut().poll(cx) {
                    Poll::Pending => true,
                    Poll::Ready(chunk) => {
                        progress.done += chunk.keys;
                        progress.failed += chunk.failed;
                        chunk.add_to(&mut warmed);
                        if let Some(tell) = &mut self.on_progress {
                            tell(&progress);
                        }
                        false
                    }
                });
                if is_over || running.len() >= self.concurrency {
                    break;
                }
                let asked = page.get_or_insert_with(|| (self.pages)(self.chunk));
                let Poll::Ready(keys) = asked.as_mut().poll(cx) else { break };
                page = None;
                match keys {
                    Ok(Some(keys)) => running.push(Box::pin(load(self.read.clone(), keys))),
                    Ok(None) => is_over = true,
                    Err(error) => {
                        warmed.interrupted = Some(error);
                        is_over = true;
                    }
                }
            }
            if is_over && running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        warmed
    }
}

/// What came of a chunk.
#[derive(Default)]
struct Chunk {
    keys: u64,
    loaded: u64,
    present: u64,
    absent: u64,
    failed: u64,
    error: Option<LoadError>,
}

impl Chunk {
    fn add_to(self, warmed: &mut WarmedUp) {
        warmed.loaded += self.loaded;
        warmed.present += self.present;
        warmed.absent += self.absent;
        warmed.failed += self.failed;
        if warmed.errors.len() < MOST_ERRORS {
            warmed.errors.extend(self.error);
        }
    }
}

async fn load<K, V, S, D>(read: ReadThrough<K, V, S, D>, keys: Vec<K>) -> Chunk
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    // Memory may answer all: others get their turn.
    tokio::task::yield_now().await;
    let mut chunk = Chunk { keys: keys.len() as u64, ..Chunk::default() };
    for answer in read.get_many(&keys).await {
        match answer {
            Ok(Some(value)) if value.tier() == Tier::Loader => chunk.loaded += 1,
            Ok(Some(_)) => chunk.present += 1,
            Ok(None) => chunk.absent += 1,
            Err(error) => {
                chunk.failed += 1;
                chunk.error.get_or_insert(error);
            }
        }
    }
    chunk
}

impl<K, V, S, D> IntoFuture for WarmUp<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    type Output = WarmedUp;
    type IntoFuture = BoxFuture<'static, WarmedUp>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<K, V, S, D> fmt::Debug for WarmUp<K, V, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read, chunk, concurrency, total, .. } = self;
        f.debug_struct("WarmUp")
            .field("read", read)
            .field("chunk", chunk)
            .field("concurrency", concurrency)
            .field("total", total)
            .finish_non_exhaustive()
    }
}
