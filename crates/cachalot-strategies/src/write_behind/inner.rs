//! What all handles to one write-behind and its tasks share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cachalot_core::{Event, Source, Store, Timestamp};
use tokio::sync::Notify;

use super::admission::Admission;
use super::bounds::{Key, Value};
use super::journal::Journal;
use super::journaled::Encode;
use super::locked::Locked;
use super::queue::Queue;
use super::rules::{Overflow, Rules};
use crate::engine::Engine;
use crate::read_through::ReadThrough;

pub(super) struct Inner<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> {
    pub(super) reads: ReadThrough<K, V, S, D>,
    /// Never held across an await.
    pub(super) queue: Mutex<Queue<K, V>>,
    /// Who sends should look.
    pub(super) wake: Notify,
    /// There may be room.
    pub(super) room: Notify,
    /// What was at the source has come back.
    pub(super) landed: Notify,
    pub(super) admission: Admission<K, V>,
    /// What is fixed; the queue goes by them too.
    pub(super) rules: Arc<Rules<K, V>>,
    pub(super) overflow: Overflow,
    pub(super) source_timeout: Duration,
    pub(super) permanent: Option<Permanent<D::Error>>,
    pub(super) journal: Arc<dyn Journal>,
    /// `None`: the journal keeps nothing.
    pub(super) encode: Option<Encode<K, V>>,
    /// Whose writes these are.
    pub(super) writer: u128,
    /// How many of them are from before the start.
    pub(super) recovered: u64,
    /// What was not whole at the end of the journal.
    pub(super) torn_bytes: u64,
}

/// Whether trying again does not help after this error.
pub(super) type Permanent<E> = Arc<dyn Fn(&E) -> bool + Send + Sync>;

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Inner<K, V, S, D> {
    pub(super) fn lock(&self) -> Locked<'_, K, V> {
        Locked::new(self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn engine(&self) -> &Arc<Engine<K, V, S>> {
        &self.reads.cache().engine
    }

    pub(super) fn now(&self) -> Timestamp {
        self.engine().clock.now()
    }

    /// Tells the journal what has changed, and then those who wait for it. Under the lock: a shutdown that was told
    /// closes the journal, and what comes later is not kept.
    pub(super) fn note(&self, queue: &mut Queue<K, V>) {
        let notes = queue.take_notes();
        if !notes.done.is_empty() {
            self.journal.done(&notes.done);
        }
        notes.dead.iter().for_each(|buried| self.note_dead(buried));
        queue.tell_flushes();
    }

    /// Sees to it that somebody sends.
    pub(super) fn start(self: &Arc<Self>) {
        let is_running = std::mem::replace(&mut self.lock().is_running, true);
        if is_running {
            self.wake.notify_one();
        } else {
            self.engine().spawn.spawn(Box::pin(self.clone().send_all()));
        }
        self.ask_again();
    }

    /// Nobody can come any more: what is left is sent, as long as there is a runtime.
    pub(super) fn desert(&self) {
        let now = self.now();
        let mut queue = self.lock();
        queue.is_closed = true;
        queue.hurry_retries(now);
        drop(queue);
        self.wake.notify_one();
    }
}

/// The last one to hold it is a handle, or a task that has ended with its runtime.
impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Drop for Inner<K, V, S, D> {
    fn drop(&mut self) {
        let queue = self.lock();
        let count = (queue.waiting() + queue.dead_count()) as u64;
        drop(queue);
        if count > 0 && self.encode.is_none() {
            self.engine().emit(&Event::WritesLost { count });
        }
    }
}
