//! Waiting until the source has what waits, and the end of it all.

use std::hash::Hash;
use std::time::Duration;

use cachalot_core::{Source, Store};
use tokio::time::timeout;

use super::{Unflushed, WriteBehind};

impl<K, V, S, D> WriteBehind<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// Sends what waits, and returns when all that was acknowledged before is in the source or among the dead letters.
    /// No write from before becomes one with a write from after.
    ///
    /// As long as the source is down it waits; bound it by a timeout, or use [`shutdown`](WriteBehind::shutdown).
    ///
    /// # Dropping the future
    /// What waits is sent all the same.
    pub async fn flush(&self) {
        let told = self.inner().lock().flush();
        self.nudge();
        // Told by a queue that this handle keeps alive.
        let _ = told.await;
    }

    /// Takes no more writes, sends what waits, and returns when the source has it. Reads go on, and so does the cache,
    /// which is shut down by itself, after this.
    ///
    /// # Errors
    /// [`Unflushed`] if that takes longer than `deadline`, or if there are dead letters: what is left. Writes are still
    /// tried in the background. Also if nothing is left, but the journal cannot be closed:
    /// [`journal`](Unflushed::journal) says why.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), Unflushed<K>> {
        let inner = self.inner();
        let now = inner.now();
        let told = {
            let mut queue = inner.lock();
            queue.is_closed = true;
            queue.hurry_retries(now);
            queue.flush()
        };
        inner.stir();
        self.nudge();
        let mut journal = None;
        let sent = async {
            let _ = told.await;
            journal = Some("it was not closed in time".to_owned());
            journal = inner.journal.close().await.err().map(|error| error.to_string());
        };
        let is_in_time = timeout(deadline, sent).await.is_ok();
        // Whatever it had not forced to the disk yet may be lost once it has failed.
        let is_kept = inner.encode.is_some() && !(is_in_time && journal.is_some());
        let queue = inner.lock();
        let left = Unflushed {
            keys: queue.waiting_keys(),
            writes: queue.waiting(),
            dead_letters: queue.dead_count(),
            is_kept,
            journal,
        };
        drop(queue);
        let is_closed = is_in_time && left.journal.is_none();
        let is_done =
            left.writes == 0 && left.journal.is_none() && (left.dead_letters == 0 || is_kept && is_closed);
        if is_done { Ok(()) } else { Err(left) }
    }

    /// Who sends should look, if there is something.
    fn nudge(&self) {
        if !self.inner().lock().is_idle() {
            self.inner().start();
        }
    }
}
