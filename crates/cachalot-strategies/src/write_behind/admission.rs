//! Writes on their way into the journal: queued in its order, as soon as it has them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cachalot_core::{Error, ErrorKind, Result, Source, Store};
use tokio::sync::oneshot;

use super::bounds::{Key, Value};
use super::inner::Inner;
use super::queue::Entering;

/// Writes that the journal does not have yet, in its order.
pub(super) struct Admission<K, V> {
    staged: Mutex<Staged<K, V>>,
}

struct Staged<K, V> {
    writes: VecDeque<Staging<K, V>>,
    is_admitting: bool,
}

struct Staging<K, V> {
    sequence: u64,
    entering: Entering<K, V>,
    tell: oneshot::Sender<Result<()>>,
}

/// Told whether the journal has a write.
pub(super) type Kept = oneshot::Receiver<Result<()>>;

impl<K, V> Default for Admission<K, V> {
    fn default() -> Self {
        Self { staged: Mutex::new(Staged { writes: VecDeque::new(), is_admitting: false }) }
    }
}

impl<K, V> Admission<K, V> {
    fn lock(&self) -> MutexGuard<'_, Staged<K, V>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under the queue's lock, in the order of the journal. Whether somebody has to begin to ask the journal.
    pub(super) fn stage(&self, sequence: u64, entering: Entering<K, V>) -> (Kept, bool) {
        let (tell, told) = oneshot::channel();
        let mut staged = self.lock();
        staged.writes.push_back(Staging { sequence, entering, tell });
        (told, !std::mem::replace(&mut staged.is_admitting, true))
    }

    /// Whether something is staged that nobody asks about; the caller does from now on.
    fn claim(&self) -> bool {
        let mut staged = self.lock();
        let is_left = !staged.writes.is_empty() && !staged.is_admitting;
        staged.is_admitting |= is_left;
        is_left
    }

    /// The next write that the journal is to be asked about. `None`: there is none, and nobody asks any more.
    fn next(&self) -> Option<u64> {
        let mut staged = self.lock();
        let next = staged.writes.front().map(|staging| staging.sequence);
        staged.is_admitting = next.is_some();
        next
    }
}

/// Somebody asks the journal. If they end with their runtime, another may.
struct Asking<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> {
    inner: Arc<Inner<K, V, S, D>>,
    is_over: bool,
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Asking<K, V, S, D> {
    /// It is noted already, and another may ask by now.
    fn end(mut self) {
        self.is_over = true;
    }
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Drop for Asking<K, V, S, D> {
    fn drop(&mut self) {
        if !self.is_over {
            self.inner.admission.lock().is_admitting = false;
        }
    }
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Inner<K, V, S, D> {
    /// Begins to ask the journal if something waits for it and nobody does: who did has ended with their runtime.
    pub(super) fn ask_again(self: &Arc<Self>) {
        if self.admission.claim() {
            self.begin_to_ask();
        }
    }

    pub(super) fn begin_to_ask(self: &Arc<Self>) {
        self.engine().spawn.spawn(Box::pin(self.clone().admit_all()));
    }

    /// Admits what is staged, in its order, as soon as the journal has it.
    fn admit_all(self: Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        // Before the first poll, which never comes if the runtime ends first.
        let asking = Asking { inner: self, is_over: false };
        async move {
            let inner = asking.inner.clone();
            while let Some(sequence) = inner.admission.next() {
                let kept = inner.journal.durable(sequence).await;
                inner.admit_first(kept);
            }
            asking.end();
        }
    }

    fn admit_first(self: &Arc<Self>, kept: Result<()>) {
        let mut queue = self.lock();
        let Some(Staging { sequence, entering, tell }) = self.admission.lock().writes.pop_front() else {
            return;
        };
        queue.unstage(entering.weight);
        let admitted = match kept {
            Ok(()) => {
                // Whatever of the user's may panic in there, the writes behind it are to be admitted too.
                let admit = AssertUnwindSafe(|| self.admit(&mut queue, entering, sequence));
                catch_unwind(admit).unwrap_or_else(|_| Err(Error::new(ErrorKind::Panicked, "admit")))
            }
            Err(error) => {
                queue.waste(entering.entry);
                // Somebody may wait for it all the same.
                self.note(&mut queue);
                Err(error)
            }
        };
        drop(queue);
        match &admitted {
            Ok(true) => self.start(),
            // It became one with another, and needs the place no more that was kept for it.
            Ok(false) => self.room.notify_waiters(),
            Err(_) => self.stir(),
        }
        // A caller that has left does not hear it; its write is done all the same.
        let _ = tell.send(admitted.map(drop));
    }
}
