//! A database for tests: counts what it is asked, fails when told, stops where told.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::Source;

use crate::Gate;

/// A [`Source`] in memory that counts. Clones are the same source.
///
/// A write passes a gate before it changes a row, and one after.
///
/// A load reads, and then takes its time; so what happens during that time happens between the read and its
/// answer, which is where stale values come from. Its points, in order: the gate before reading, the read,
/// the gate after reading, the time it takes, the failure if one is due.
///
/// ```
/// # cachalot_testkit::block_on(async {
/// use cachalot_testkit::CountingSource;
///
/// let users = CountingSource::with([(1, "Ada"), (2, "Grace")]);
/// users.fail_next(1);
/// assert!(users.fetch(&1).await.is_err());
/// assert_eq!(users.fetch(&1).await.unwrap(), "Ada");
/// assert_eq!((users.loads(), users.loads_of(&2)), (2, 0));
/// # });
/// ```
pub struct CountingSource<K, V> {
    inner: Arc<Mutex<Inner<K, V>>>,
}

struct Inner<K, V> {
    rows: HashMap<K, V>,
    loads: HashMap<K, usize>,
    calls: usize,
    stores: usize,
    statements: usize,
    running: usize,
    takes: Duration,
    failures: VecDeque<bool>,
    before_reading: Gate,
    after_reading: Gate,
    before_writing: Gate,
    after_writing: Gate,
}

/// Why a [`CountingSource`] has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceError {
    /// A test asked for this failure.
    Told,
    /// There is no such row, and the caller wanted one.
    Absent,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Told => "the source fails as it was told to",
            Self::Absent => "no such row",
        })
    }
}

impl std::error::Error for SourceError {}

impl<K, V> CountingSource<K, V>
where
    K: Clone + Eq + Hash,
    V: Clone,
{
    /// An empty one that answers at once.
    pub fn new() -> Self {
        Self::with([])
    }

    /// One that holds `rows`.
    pub fn with(rows: impl IntoIterator<Item = (K, V)>) -> Self {
        let inner = Inner {
            rows: rows.into_iter().collect(),
            loads: HashMap::new(),
            calls: 0,
            stores: 0,
            statements: 0,
            running: 0,
            takes: Duration::ZERO,
            failures: VecDeque::new(),
            before_reading: Gate::opened(),
            after_reading: Gate::opened(),
            before_writing: Gate::opened(),
            after_writing: Gate::opened(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Makes every load take `time` of tokio's time from here on. Zero at first.
    #[must_use]
    pub fn taking(self, time: Duration) -> Self {
        self.lock().takes = time;
        self
    }

    /// Makes the next `count` calls of any kind fail.
    pub fn fail_next(&self, count: usize) {
        self.fail_by((0..count).map(|_| true));
    }

    /// Makes the next calls fail (`true`) or not, one by one; after them, as before. Adds to what is due.
    pub fn fail_by(&self, script: impl IntoIterator<Item = bool>) {
        self.lock().failures.extend(script);
    }

    /// Closes the gate before reading, for loads that come from here on: they have begun and read nothing.
    pub fn stop_before_reading(&self) -> Gate {
        closed(self.lock().before_reading.clone())
    }

    /// Closes the gate after reading, for loads that come from here on: they hold what they will answer.
    pub fn stop_after_reading(&self) -> Gate {
        closed(self.lock().after_reading.clone())
    }

    /// Closes the gate before writing, for writes that come from here on: they have begun and changed nothing.
    pub fn stop_before_writing(&self) -> Gate {
        closed(self.lock().before_writing.clone())
    }

    /// Closes the gate after writing, for writes that come from here on: they are done and not answered.
    pub fn stop_after_writing(&self) -> Gate {
        closed(self.lock().after_writing.clone())
    }

    /// Writes a row as somebody else would: not counted, at once.
    pub fn set(&self, key: K, value: V) {
        self.lock().rows.insert(key, value);
    }

    /// Deletes a row as somebody else would: not counted, at once.
    pub fn unset(&self, key: &K) {
        self.lock().rows.remove(key);
    }

    /// What a row holds. Not counted.
    pub fn row(&self, key: &K) -> Option<V> {
        self.lock().rows.get(key).cloned()
    }

    /// How many keys have been loaded, each time counted; failed and unfinished loads too.
    pub fn loads(&self) -> usize {
        self.lock().loads.values().sum()
    }

    /// How often `key` has been loaded.
    pub fn loads_of(&self, key: &K) -> usize {
        self.lock().loads.get(key).copied().unwrap_or(0)
    }

    /// How many calls have loaded; one of `load_many` counts once.
    pub fn calls(&self) -> usize {
        self.lock().calls
    }

    /// How many rows have been stored or deleted through [`Source`].
    pub fn stores(&self) -> usize {
        self.lock().stores
    }

    /// How many calls have written; one of `store_many` or `delete_many` counts once.
    pub fn statements(&self) -> usize {
        self.lock().statements
    }

    /// How many loads are under way: neither answered nor dropped.
    pub fn running(&self) -> usize {
        self.lock().running
    }

    /// Loads a row that must be there: the body of a loader, `|_| async move { Ok(source.fetch(&key).await?) }`.
    ///
    /// # Errors
    /// [`SourceError::Told`] if a failure is due, [`SourceError::Absent`] if there is no such row.
    pub async fn fetch(&self, key: &K) -> Result<V, SourceError> {
        let mut rows = self.read(std::slice::from_ref(key)).await?;
        rows.pop().flatten().ok_or(SourceError::Absent)
    }

    async fn read(&self, keys: &[K]) -> Result<Vec<Option<V>>, SourceError> {
        let _running = self.begin(keys);
        self.gate(|inner| &inner.before_reading).pass().await;
        let rows = self.rows(keys);
        self.gate(|inner| &inner.after_reading).pass().await;
        let takes = self.lock().takes;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.fail_if_due()?;
        Ok(rows)
    }

    fn begin(&self, keys: &[K]) -> Running<K, V> {
        let mut inner = self.lock();
        inner.calls += 1;
        inner.running += 1;
        for key in keys {
            *inner.loads.entry(key.clone()).or_default() += 1;
        }
        Running(self.clone())
    }

    fn rows(&self, keys: &[K]) -> Vec<Option<V>> {
        let inner = self.lock();
        keys.iter().map(|key| inner.rows.get(key).cloned()).collect()
    }

    fn gate(&self, which: impl FnOnce(&Inner<K, V>) -> &Gate) -> Gate {
        which(&self.lock()).clone()
    }

    fn fail_if_due(&self) -> Result<(), SourceError> {
        match self.lock().failures.pop_front() {
            Some(true) => Err(SourceError::Told),
            _ => Ok(()),
        }
    }

    async fn write(
        &self,
        change: impl FnOnce(&mut HashMap<K, V>) + Send,
        rows: usize,
    ) -> Result<(), SourceError> {
        self.gate(|inner| &inner.before_writing).pass().await;
        self.fail_if_due()?;
        {
            let mut inner = self.lock();
            change(&mut inner.rows);
            inner.stores += rows;
            inner.statements += 1;
        }
        self.gate(|inner| &inner.after_writing).pass().await;
        Ok(())
    }
}

impl<K, V> CountingSource<K, V> {
    fn lock(&self) -> MutexGuard<'_, Inner<K, V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed(gate: Gate) -> Gate {
    gate.close();
    gate
}

/// Counts a load as under way until it is answered or dropped.
struct Running<K, V>(CountingSource<K, V>);

impl<K, V> Drop for Running<K, V> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

#[async_trait]
impl<K, V> Source<K, V> for CountingSource<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    type Error = SourceError;

    async fn load(&self, key: &K) -> Result<Option<V>, SourceError> {
        let mut rows = self.read(std::slice::from_ref(key)).await?;
        Ok(rows.pop().flatten())
    }

    async fn load_many(&self, keys: &[K]) -> Result<Vec<Option<V>>, SourceError> {
        self.read(keys).await
    }

    async fn store(&self, key: &K, value: &V) -> Result<(), SourceError> {
        let (key, value) = (key.clone(), value.clone());
        self.write(|rows| drop(rows.insert(key, value)), 1).await
    }

    async fn store_many(&self, items: &[(&K, &V)]) -> Result<(), SourceError> {
        let count = items.len();
        let items: Vec<_> = items.iter().map(|(key, value)| ((*key).clone(), (*value).clone())).collect();
        self.write(|rows| rows.extend(items), count).await
    }

    async fn delete(&self, key: &K) -> Result<(), SourceError> {
        self.write(|rows| drop(rows.remove(key)), 1).await
    }

    async fn delete_many(&self, keys: &[&K]) -> Result<(), SourceError> {
        self.write(|rows| keys.iter().for_each(|key| drop(rows.remove(*key))), keys.len()).await
    }
}

impl<K, V> Clone for CountingSource<K, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Default for CountingSource<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for CountingSource<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("CountingSource")
            .field("rows", &inner.rows.len())
            .field("calls", &inner.calls)
            .field("running", &inner.running)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
