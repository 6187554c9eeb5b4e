//! Writes on their way into the journal: queued in its order, as soon as it has them.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cachalot_core::{Result, Source, Store};
use tokio::sync::oneshot;

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

    /// The next write that the journal is to be asked about. `None`: there is none, and nobody asks any more.
    fn next(&self) -> Option<u64> {
        let mut staged = self.lock();
        let next = staged.writes.front().map(|staging| staging.sequence);
        staged.is_admitting = next.is_some();
        next
    }
}

/// Somebody asks the journal. If they end with their runtime, another may.
struct Asking<'a, K, V>(&'a Admission<K, V>, bool);

impl<K, V> Drop for Asking<'_, K, V> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.lock().is_admitting = false;
        }
    }
}

impl<K, V, S, D> Inner<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// Admits what is staged, in its order, as soon as the journal has it.
    pub(super) async fn admit_all(self: Arc<Self>) {
        let mut asking = Asking(&self.admission, false);
        while let Some(sequence) = self.admission.next() {
            let kept = self.journal.durable(sequence).await;
            self.admit_first(kept);
        }
        asking.1 = true;
    }

    fn admit_first(self: &Arc<Self>, kept: Result<()>) {
        let mut queue = self.lock();
        let Some(Staging { sequence, entering, tell }) = self.admission.lock().writes.pop_front() else {
            return;
        };
        queue.unstage(entering.weight);
        let admitted = kept.and_then(|()| self.admit(&mut queue, entering, sequence));
        drop(queue);
        match &admitted {
            Ok(true) => self.start(),
            Ok(false) => {}
            Err(_) => self.stir(),
        }
        // A caller that has left does not hear it; its write is done all the same.
        let _ = tell.send(admitted.map(drop));
    }
}
