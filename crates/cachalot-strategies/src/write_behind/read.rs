//! Reads: what waits for the source comes before what any tier has.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;

use cachalot_core::{Entry, Error, ErrorKind, Event, LoadError, Meta, Source, Store, Tier};
use cachalot_stampede::Failure;
use tokio::time::timeout;

use super::bounds::{Key, Value};
use super::inner::Inner;
use super::queue::Readings;
use super::rules::Merge;
use crate::cached::Cached;
use crate::flight::failure;

type Answer<V> = Option<Cached<V>>;

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Inner<K, V, S, D> {
    /// What waits for `key`. `Some(None)`: its deletion.
    fn pending(&self, key: &K) -> Option<Answer<V>> {
        let entry = self.lock().last(key)?.clone();
        Some(self.serve(entry))
    }

    fn serve(&self, entry: Arc<Entry<V>>) -> Answer<V> {
        self.engine().emit(&Event::Hit { tier: Tier::Pending });
        Cached::pending(entry, self.engine().clock.coarse())
    }

    /// Whether values are merged.
    pub(super) fn is_of_deltas(&self) -> bool {
        self.rules.merge.is_some()
    }

    pub(super) async fn get(&self, key: &K) -> Result<Answer<V>, LoadError> {
        if self.is_of_deltas() {
            return Box::pin(self.get_in_time(key)).await;
        }
        match self.pending(key) {
            Some(answer) => Ok(answer),
            None => self.reads.get(key).await,
        }
    }

    pub(super) fn get_local(&self, key: &K) -> Answer<V> {
        let Some(merge) = &self.rules.merge else {
            return self.pending(key).unwrap_or_else(|| self.reads.get_local(key));
        };
        let queue = self.lock();
        let readings = queue.readings(key);
        if readings.is_flying {
            return None;
        }
        // Under the lock: nothing is sent between the two looks. An observer is told of it without: it may write behind.
        let base = self.engine().look(key).and_then(Cached::fresh);
        drop(queue);
        if base.is_some() {
            self.engine().emit_memory_hit();
        }
        if base.is_none() && !readings.is_complete() {
            return None;
        }
        self.fold(merge, base, readings.entries).ok().flatten()
    }

    /// Within the cache's hard timeout: a source that hangs with a write of the key tells nothing.
    async fn get_in_time(&self, key: &K) -> Result<Answer<V>, LoadError> {
        let limit = self.engine().times.hard_timeout;
        timeout(limit, self.get_merged(key)).await.unwrap_or_else(|_| Err(self.too_late()))
    }

    fn too_late(&self) -> LoadError {
        failure(Failure::Timeout, self.engine().times.hard_timeout)
    }

    /// The source's value with the deltas that it does not have. While it is not known whether it has one, there is
    /// no answer; and if one was sent while it was read, it is read again.
    async fn get_merged(&self, key: &K) -> Result<Answer<V>, LoadError> {
        let Some(merge) = &self.rules.merge else { return self.reads.get(key).await };
        let reading = Reading::begin(self, vec![key.clone()]);
        let mut wanting = None;
        loop {
            let before = reading.settled(key).await;
            let base = if before.is_complete() { None } else { self.reads.get(key).await? };
            let after = self.lock().readings(key);
            if after.takes == before.takes {
                return self.fold(merge, base, after.entries);
            }
            // Of a key that is written all the time no read would ever come to its end.
            wanting.get_or_insert_with(|| Wanting::begin(self, key));
        }
    }

    pub(super) async fn get_many(&self, keys: &[K]) -> Vec<Result<Answer<V>, LoadError>> {
        if self.is_of_deltas() {
            return self.get_many_merged(keys).await;
        }
        let mut answers: Vec<_> = keys.iter().map(|key| self.pending(key).map(Ok)).collect();
        let missing = |(answer, key): (&Option<_>, &K)| answer.is_none().then(|| key.clone());
        let missing: Vec<K> = answers.iter().zip(keys).filter_map(missing).collect();
        let read = if missing.is_empty() { Vec::new() } else { self.reads.get_many(&missing).await };
        let mut read = read.into_iter();
        answers.iter_mut().filter(|answer| answer.is_none()).for_each(|answer| *answer = read.next());
        answers.into_iter().map(|answer| answer.unwrap_or(Ok(None))).collect()
    }

    async fn get_many_merged(&self, keys: &[K]) -> Vec<Result<Answer<V>, LoadError>> {
        let Some(merge) = &self.rules.merge else { return self.reads.get_many(keys).await };
        let reading = Reading::begin(self, keys.to_vec());
        let mut takes = Vec::with_capacity(keys.len());
        let settling = async {
            for key in keys {
                takes.push(Some(reading.settled(key).await.takes));
            }
        };
        if timeout(self.engine().times.hard_timeout, settling).await.is_err() {
            let queue = self.lock();
            let left = keys[takes.len()..].iter().map(|key| queue.readings(key));
            let left: Vec<_> = left.map(|now| (!now.is_flying).then_some(now.takes)).collect();
            drop(queue);
            takes.extend(left);
        }
        let bases = self.reads.get_many(keys).await;
        let mut answers = Vec::with_capacity(keys.len());
        for ((key, takes), base) in keys.iter().zip(takes).zip(bases) {
            let after = self.lock().readings(key);
            answers.push(match base {
                Ok(_) if takes.is_none() => Err(self.too_late()),
                Ok(base) if Some(after.takes) == takes => self.fold(merge, base, after.entries),
                // Something was sent meanwhile: by itself it is read anew.
                Ok(_) => Box::pin(self.get_in_time(key)).await,
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// `base` with all that waits. An error if the merge panics.
    fn fold(
        &self,
        merge: &Merge<V>,
        base: Answer<V>,
        entries: Vec<Arc<Entry<V>>>,
    ) -> Result<Answer<V>, LoadError> {
        let folding = AssertUnwindSafe(|| self.fold_unguarded(merge, base, entries));
        catch_unwind(folding).map_err(|_| {
            let detail = "the function that merges panicked";
            LoadError::Cache(Error::new(ErrorKind::Panicked, "merge").detail(detail))
        })
    }

    fn fold_unguarded(&self, merge: &Merge<V>, base: Answer<V>, entries: Vec<Arc<Entry<V>>>) -> Answer<V> {
        if entries.is_empty() {
            return base;
        }
        let mut value = base.map(|base| base.arc().clone());
        for entry in entries {
            value = match (value, &entry.value) {
                (_, None) => None,
                (None, Some(_)) => Some(entry),
                (Some(older), Some(delta)) => Some(merged(merge, &older, delta, entry.meta)),
            };
        }
        match value {
            Some(entry) => self.serve(entry),
            None => {
                self.engine().emit(&Event::Hit { tier: Tier::Pending });
                None
            }
        }
    }
}

fn merged<V>(merge: &Merge<V>, older: &Entry<V>, delta: &V, meta: Meta) -> Arc<Entry<V>> {
    Arc::new(Entry::new(older.value.as_ref().map(|older| merge(older, delta)), meta))
}

impl<V> Readings<V> {
    /// Whether what waits is the whole value: it begins with a deletion.
    fn is_complete(&self) -> bool {
        self.entries.iter().any(|entry| entry.value.is_none())
    }
}

/// Somebody reads these keys: their lanes remember whether something was sent meanwhile.
struct Reading<'a, K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> {
    inner: &'a Inner<K, V, S, D>,
    keys: Vec<K>,
}

impl<'a, K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Reading<'a, K, V, S, D> {
    fn begin(inner: &'a Inner<K, V, S, D>, keys: Vec<K>) -> Self {
        let mut queue = inner.lock();
        keys.iter().for_each(|key| queue.begin_reading(key));
        drop(queue);
        Self { inner, keys }
    }

    /// What waits for `key` once nothing of it is at the source.
    async fn settled(&self, key: &K) -> Readings<V> {
        loop {
            let mut landed = pin!(self.inner.landed.notified());
            landed.as_mut().enable();
            let readings = self.inner.lock().readings(key);
            if !readings.is_flying {
                return readings;
            }
            landed.await;
        }
    }
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Drop for Reading<'_, K, V, S, D> {
    fn drop(&mut self) {
        let mut queue = self.inner.lock();
        self.keys.iter().for_each(|key| queue.leave_reading(key));
    }
}

/// Somebody who reads this key was too late once: until this is dropped nothing of it is sent for the first time.
struct Wanting<'a, K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> {
    inner: &'a Inner<K, V, S, D>,
    key: &'a K,
}

impl<'a, K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Wanting<'a, K, V, S, D> {
    fn begin(inner: &'a Inner<K, V, S, D>, key: &'a K) -> Self {
        inner.lock().want(key);
        Self { inner, key }
    }
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Drop for Wanting<'_, K, V, S, D> {
    fn drop(&mut self) {
        self.inner.lock().want_no_more(self.key);
        self.inner.wake.notify_one();
    }
}
