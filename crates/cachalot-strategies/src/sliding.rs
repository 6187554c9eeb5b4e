//! Sliding: what is read lives on.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachalot_core::{
    EntryOptions, Error, ErrorKind, Freshness, LoadError, Recency, Result, Source, Store, Tier, Timestamp,
};

use crate::cache::Cache;
use crate::cached::Cached;
use crate::read_through::ReadThrough;
use crate::slide::TOUCHES_PER_TTL;

mod moments;
use moments::Moments;
mod queue;
use queue::{Due, Queue};
mod touch;
use touch::{Running, work_off};

/// Read-through whose reads prolong the life of what they hit: a session that is used stays, one that is not ends
/// after its TTL, and none outlives the [maximum age](crate::CacheBuilder::max_age) of its cache.
///
/// A read gives what it hits a whole [TTL](crate::CacheBuilder::ttl) anew, as soon as a tenth of it has gone: so a key
/// is written at most ten times a TTL by each process, however often it is read, and lives on if it is read at least
/// every nine tenths of its TTL. The read does not wait for that. Age counts from the load, and is never reset.
///
/// ```
/// use cachalot_core::units::{hours, minutes};
/// use cachalot_core::{Entry, LoadFn};
/// use cachalot_memory_backend::Memory;
/// use cachalot_strategies::{Cache, Sliding};
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache: Cache<u64, String, Memory<u64, Arc<Entry<String>>>> =
///     Cache::builder("sessions").memory(Memory::entries(1_000)).ttl(minutes(30)).max_age(hours(12)).build()?;
/// let sign_in = LoadFn::new(|id| async move { Ok::<_, std::io::Error>(Some(format!("session {id}"))) });
/// let sessions = Sliding::new(cache, sign_in)?;
///
/// assert_eq!(sessions.get(&7).await?.as_deref().map(String::as_str), Some("session 7"));
/// # Ok(())
/// # }
/// ```
///
/// # Over a shared tier
///
/// The record there is prolonged first, by a task behind the read and only if it is still the very one that was read
/// and nobody has invalidated it; then the copy in memory, unless the key was invalidated meanwhile. So no touch ever
/// brings anything back, or prolongs what has taken its place. Keys that are due at the same time travel together. A
/// shared tier that is down costs the prolongation, and is asked again a second later.
///
/// Each touch is one read and one write there. Processes that share values need not all slide: one that does not
/// reads them without prolonging anything.
///
/// # Memory alone
///
/// The copy is made at once, by the read itself, with a clone of the value: an [`Arc`] is cheap to clone.
pub struct Sliding<K, V, S, D> {
    through: ReadThrough<K, V, S, D>,
    touches: Arc<Touches<K>>,
    /// `None`: a read gives the entry's own TTL.
    recency: Option<Recency>,
}

/// What all handles to one of them share.
struct Touches<K> {
    queue: Queue<K>,
    /// Before these moments a record is not touched again, whatever its copy in memory looks like: that may be younger
    /// than the last touch, where memory keeps copies for a shorter time.
    not_before: Moments,
    /// When that was said of the record that a key had. A younger one has taken its place, and is touched when it needs
    /// to be.
    said: Moments,
    /// When keys were read last.
    reads: Moments,
    made: AtomicU64,
}

impl<K, V, S, D> Sliding<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// Reads `cache`, loads what it has not from `source`, and prolongs what it has.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the cache was built without a [maximum age](crate::CacheBuilder::max_age): what is read
    /// often enough would live for ever, and its source could change as it likes.
    pub fn new(cache: Cache<K, V, S>, source: D) -> Result<Self> {
        if !cache.engine.slides() {
            let detail = "the cache has no `max_age`: what is read would live for ever";
            return Err(Error::new(ErrorKind::Config, "building a sliding cache").detail(detail));
        }
        let now = cache.engine.clock.now();
        let touches = Touches {
            queue: Queue::new(),
            not_before: Moments::after(now),
            said: Moments::after(now),
            reads: Moments::after(now),
            made: AtomicU64::new(0),
        };
        Ok(Self { through: ReadThrough::new(cache, source), touches: Arc::new(touches), recency: None })
    }

    /// Lets the time since the last read decide how long what is read lives from there on, instead of its TTL; never
    /// shorter than it does already. The TTL is the life that a load gives.
    ///
    /// When a key was read last is known of the 16,384 that this process has read of late; of others it counts as long
    /// ago.
    ///
    /// ```
    /// # use cachalot_core::units::{hours, minutes};
    /// # use cachalot_core::{Entry, LoadFn, Recency};
    /// # use cachalot_memory_backend::Memory;
    /// # use cachalot_strategies::{Cache, Sliding};
    /// # use std::sync::Arc;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let source = LoadFn::new(|n: u64| async move { Ok::<_, std::io::Error>(Some(n)) });
    /// # let cache: Cache<u64, u64, Memory<u64, Arc<Entry<u64>>>> =
    /// #     Cache::builder("feeds").memory(Memory::entries(10)).ttl(minutes(1)).max_age(hours(12)).build()?;
    /// // An hour to what is read every minute, half of it within five minutes, else a minute.
    /// let feeds = Sliding::new(cache, source)?.by_recency(Recency::default());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn by_recency(mut self, recency: Recency) -> Self {
        self.recency = Some(recency);
        self
    }

    /// Calls `mark` with each value that is loaded; see [`ReadThrough::marked_by`].
    #[must_use]
    pub fn marked_by(self, mark: impl Fn(&crate::Load<K>, &V) + Send + Sync + 'static) -> Self {
        Self { through: self.through.marked_by(mark), ..self }
    }

    /// The same with other options, as [`Cache::with`]: its TTL is that of what this handle loads, by whomever it is
    /// read later.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(EntryOptions) -> EntryOptions) -> Self {
        Self { through: self.through.with(change), ..self.clone() }
    }

    /// The cache, to invalidate in. Reads of it prolong nothing in a shared tier; a copy that one makes in memory ends a
    /// TTL later at most.
    pub fn cache(&self) -> &Cache<K, V, S> {
        self.through.cache()
    }

    /// The source.
    pub fn source(&self) -> &Arc<D> {
        self.through.source()
    }

    /// The value of `key`, from a tier or the source; `None` if there is none. As [`ReadThrough::get`], and prolongs
    /// the life of what it hits.
    ///
    /// # Errors
    /// As [`ReadThrough::get`]. A life that could not be prolonged is none; it is an
    /// [`Event::BackendFailed`](cachalot_core::Event::BackendFailed).
    ///
    /// # Dropping the future
    /// Only this caller leaves; a load goes on, and what was hit is prolonged if the read has come to its end.
    pub async fn get(&self, key: &K) -> Result<Option<Cached<V>>, LoadError> {
        let found = self.through.get(key).await?;
        if let Some(found) = &found {
            self.prolong(key, found);
        }
        Ok(found)
    }

    /// [`get`](Sliding::get) of each of `keys`, as [`ReadThrough::get_many`].
    ///
    /// # Errors
    /// Per key, as there.
    pub async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Cached<V>>, LoadError>> {
        let answers = self.through.get_many(keys).await;
        for (key, answer) in keys.iter().zip(&answers) {
            if let Ok(Some(found)) = answer {
                self.prolong(key, found);
            }
        }
        answers
    }

    /// How many lives have been prolonged: as many writes to the shared tier, or to memory where there is none.
    pub fn touched(&self) -> u64 {
        self.touches.made.load(Ordering::Relaxed)
    }

    /// Prolongs what a read has found, if that is due.
    fn prolong(&self, key: &K, found: &Cached<V>) {
        let engine = &self.cache().engine;
        let meta = &found.arc().meta;
        let now = meta.created_at() + found.age();
        let life = self.recency.as_ref().map(|recency| self.touches.life(recency, key, now));
        let is_due = match life {
            Some(life) => {
                let end = (now + life).min(meta.created_at() + engine.longest(Duration::ZERO));
                end >= meta.soft_expiry() + life / TOUCHES_PER_TTL
            }
            None => meta.is_early(now),
        };
        match (found.tier(), found.freshness()) {
            (Tier::Memory, _) if !is_due => {}
            (Tier::Memory, Freshness::Fresh) if engine.shared.is_none() => {
                self.touches.count(engine.prolong_in_memory(key, found.arc(), life));
            }
            // What memory has from there says nothing of how much is left there.
            (Tier::Memory | Tier::Backend, Freshness::Fresh) => self.touch(key, life, meta.created_at(), now),
            _ => {}
        }
    }

    /// Has `key` touched in the shared tier, unless this record of it was of late.
    fn touch(&self, key: &K, life: Option<Duration>, created_at: Timestamp, now: Timestamp) {
        if self.touches.hold_off_until(key, created_at).is_some_and(|moment| now < moment) {
            return;
        }
        if !self.touches.queue.add(Due { key: key.clone(), life }) {
            return;
        }
        let engine = &self.cache().engine;
        let running = Running::new(self.touches.clone());
        // Or it is shut down.
        if let Ok(task) = engine.admit("touch") {
            engine.detach(task, work_off(engine.clone(), running));
        }
    }
}

impl<K: Hash> Touches<K> {
    /// The life that a read of `key` gives, which is noted.
    fn life(&self, recency: &Recency, key: &K, now: Timestamp) -> Duration {
        let last = self.reads.noted(key);
        self.reads.note(key, now);
        recency.life(last.map_or(Duration::MAX, |last| now.since(last)))
    }

    /// Before `at` the record that was read of `key` by `now` is not touched again.
    fn hold_off(&self, key: &K, now: Timestamp, at: Timestamp) {
        self.not_before.note(key, at);
        self.said.note(key, now);
    }

    /// Before when a record of this age is not to be touched.
    fn hold_off_until(&self, key: &K, created_at: Timestamp) -> Option<Timestamp> {
        let is_about_it = self.said.noted(key).is_some_and(|said| created_at < said);
        self.not_before.noted(key).filter(|_| is_about_it)
    }

    fn count(&self, is_made: bool) {
        self.made.fetch_add(u64::from(is_made), Ordering::Relaxed);
    }
}

impl<K, V, S, D> Clone for Sliding<K, V, S, D> {
    fn clone(&self) -> Self {
        Self { through: self.through.clone(), touches: self.touches.clone(), recency: self.recency }
    }
}

impl<K, V, S, D> fmt::Debug for Sliding<K, V, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sliding").field("through", &self.through).finish_non_exhaustive()
    }
}
