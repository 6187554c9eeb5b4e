//! Sends what waits, and sees what becomes of it.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Error, Event, Source, Store, Write, mutant};
use cachalot_stampede::{Failure, guard};
use tokio::time::timeout;

use super::bounds::{Key, Value};
use super::inner::Inner;
use super::queue::{Batch, Failed, Next, Refusal};

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Inner<K, V, S, D> {
    /// Sends until nothing waits.
    pub(super) fn send_all(self: Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        // Before the first poll, which never comes if the runtime ends first.
        let running = Running(Some(self.clone()));
        async move {
            loop {
                let now = self.now();
                let woken = self.wake.notified();
                let next = self.lock().next(now);
                match next {
                    Next::Send(batch) => self.send(batch),
                    Next::Wait(None) => woken.await,
                    // Woken, or it is time: to look again is right in either case.
                    Next::Wait(Some(due)) => drop(timeout(due.since(now), woken).await),
                    Next::Done => {
                        // Another may run by now.
                        return running.end();
                    }
                }
            }
        }
    }

    fn send(self: &Arc<Self>, batch: Batch<K, V>) {
        let call = Call { inner: self.clone(), batch: Some(batch), is_late: false };
        // A cache that shuts down waits for it.
        let task = self.engine().tasks.begin();
        self.engine().spawn.spawn(Box::pin(async move {
            call.run().await;
            drop(task);
        }));
    }
}

/// Notes that nobody sends any more, also if the runtime has ended.
struct Running<K, V, S, D>(Option<Arc<Inner<K, V, S, D>>>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>;

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Running<K, V, S, D> {
    /// It is noted already.
    fn end(mut self) {
        self.0 = None;
    }
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Drop for Running<K, V, S, D> {
    fn drop(&mut self) {
        if let Some(inner) = &self.0 {
            inner.lock().is_running = false;
        }
    }
}

/// One call of the source. Dropped before its end, it has failed.
struct Call<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> {
    inner: Arc<Inner<K, V, S, D>>,
    batch: Option<Batch<K, V>>,
    is_late: bool,
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Call<K, V, S, D> {
    async fn run(mut self) {
        let Some(batch) = self.batch.take() else { return };
        let started = self.inner.engine().clock.monotonic();
        let batch = self.batch.insert(batch);
        let count = batch.items.len();
        let outcome = match self.inner.cut(batch).await {
            Ok(()) => ask(&self.inner, batch, &mut self.is_late).await,
            Err(error) => Err(Refusal { reason: error.to_string(), is_permanent: false, was_tried: false }),
        };
        let took = self.inner.engine().clock.monotonic().saturating_sub(started);
        match outcome {
            Ok(()) => {
                self.inner.engine().emit(&Event::WritesFlushed { count, took });
                self.land().await;
            }
            Err(refusal) => {
                self.inner.engine().emit(&Event::FlushFailed { count, reason: &refusal.reason });
                self.fail(&refusal).await;
            }
        }
    }

    /// The source has the writes. Every tier gives up what it had before a reader may look there again.
    async fn land(&mut self) {
        let inner = self.inner.clone();
        let Some(batch) = self.batch.take() else { return };
        let keys: Vec<K> = batch.items.iter().map(|item| item.key.clone()).collect();
        if mutant!(DropsTheOverlayBeforeTheRemove) {
            self.settle(batch);
            inner.forget(keys).await;
            return;
        }
        self.batch = Some(batch);
        if !mutant!(FlushesWithoutRemoving) {
            inner.forget(keys).await;
        }
        if let Some(batch) = self.batch.take() {
            self.settle(batch);
        }
    }

    fn settle(&mut self, batch: Batch<K, V>) {
        let mut queue = self.inner.lock();
        if std::mem::take(&mut self.is_late) {
            queue.is_late_no_more();
        }
        queue.done(batch);
        self.inner.note(&mut queue);
        drop(queue);
        self.inner.stir();
    }

    async fn fail(&mut self, refusal: &Refusal) {
        let Failed { buried } = self.give_back(refusal);
        // The source may have taken something of what it says it has not.
        if !buried.is_empty() {
            self.inner.forget(buried).await;
        }
    }

    fn give_back(&mut self, refusal: &Refusal) -> Failed<K> {
        let Some(batch) = self.batch.take() else { return Failed { buried: Vec::new() } };
        let inner = &self.inner;
        let now = inner.now();
        let mut queue = inner.lock();
        if std::mem::take(&mut self.is_late) {
            queue.is_late_no_more();
        }
        let failed = queue.failed(batch, refusal, now, &inner.engine().entropy);
        inner.note(&mut queue);
        drop(queue);
        for _ in &failed.buried {
            inner.engine().emit(&Event::WriteDead { reason: &refusal.reason });
        }
        inner.stir();
        failed
    }
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Drop for Call<K, V, S, D> {
    fn drop(&mut self) {
        let reason = "the call was given up with its runtime".to_owned();
        self.give_back(&Refusal { reason, is_permanent: false, was_tried: true });
    }
}

/// Calls the source. One that takes too long lets others go first; it is waited for all the same, for what it does at
/// last must not come after what is newer.
async fn ask<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>>(
    inner: &Inner<K, V, S, D>,
    batch: &Batch<K, V>,
    is_late: &mut bool,
) -> Result<(), Refusal> {
    let source = inner.reads.source();
    let call = async {
        let write = |item| as_write(item, inner.writer);
        let writes: Vec<Write<'_, K, V>> = batch.items.iter().map(write).collect();
        let told = source.apply(&writes).await;
        // Within the guard: these are the user's too.
        told.map_err(|error| Refusal {
            is_permanent: inner.permanent.as_ref().is_some_and(|is_permanent| is_permanent(&error)),
            reason: error.to_string(),
            was_tried: true,
        })
    };
    let mut call = Box::pin(guard(Box::pin(call), Duration::MAX));
    let ended = match timeout(inner.source_timeout, call.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            *is_late = true;
            inner.lock().is_late();
            let reason = "no answer in time; what it does at last is waited for";
            inner.engine().emit(&Event::FlushFailed { count: batch.items.len(), reason });
            inner.wake.notify_one();
            call.await
        }
    };
    let refused = |reason| Refusal { reason, is_permanent: false, was_tried: true };
    match ended {
        Ok(told) => told,
        Err(Failure::Panicked(message)) => Err(refused(format!("the source panicked: {message}"))),
        Err(Failure::Timeout) => Err(refused("it did not end".to_owned())),
    }
}

fn as_write<K, V>(item: &super::queue::Item<K, V>, writer: u128) -> Write<'_, K, V> {
    Write { key: &item.key, value: item.entry.value.as_ref(), sequence: item.sequence, writer }
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Inner<K, V, S, D> {
    /// Deltas that are sent together stay together after a crash, and by themselves: only so can the source tell
    /// which of them it has.
    async fn cut(&self, batch: &Batch<K, V>) -> Result<(), Error> {
        if self.encode.is_none() || self.rules.merge.is_none() {
            return Ok(());
        }
        let last = batch.items.iter().map(|item| item.sequence).max();
        let inner = batch.items.iter().filter(|item| item.has_successor).map(|item| item.sequence);
        let cuts: BTreeSet<u64> = inner.chain(last).collect();
        for through in cuts {
            self.journal.cut(through).await?;
        }
        Ok(())
    }

    /// Ends what every tier has of `keys`; what the shared tier cannot take now is deferred.
    async fn forget(&self, keys: Vec<K>) {
        let removal = Box::pin(self.engine().clone().remove_many(keys));
        // Every key is removed all the same.
        if guard(removal, Duration::MAX).await.is_err() {
            self.engine().emit(&Event::TaskPanicked);
        }
    }

    /// Wakes whoever may have waited for a call to end.
    pub(super) fn stir(&self) {
        self.room.notify_waiters();
        self.landed.notify_waiters();
        self.wake.notify_one();
    }
}
