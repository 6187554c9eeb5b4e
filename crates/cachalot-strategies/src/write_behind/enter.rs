//! How a write comes in: room for it, its place in the journal, and who is told what.

use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachalot_core::{Entry, Error, ErrorKind, Meta, Result, Source, Store, mutant};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::admission::Kept;
use super::bounds::{Key, Value};
use super::inner::Inner;
use super::letters::unknown;
use super::locked::Locked;
use super::queue::{End, Entering, Queue};
use super::rules::Overflow;

/// The bytes of a key and of its value.
type Encoded = (Bytes, Option<Bytes>);

/// What a write waits for once it is in.
pub(super) struct Ack {
    journal: Option<Kept>,
    source: Option<oneshot::Receiver<End>>,
}

impl Ack {
    pub(super) async fn given(self, operation: &'static str) -> Result<()> {
        if let Some(journal) = self.journal {
            journal.await.unwrap_or_else(|_| Err(ended(operation)))?;
        }
        match self.source {
            None => Ok(()),
            Some(source) => match source.await {
                Ok(End::Stored) => Ok(()),
                Ok(End::Dead(reason)) => {
                    let detail = format!("the source refuses it; it is a dead letter now: {reason}");
                    Err(Error::new(ErrorKind::Conflict, operation).detail(detail))
                }
                Err(_) => Err(ended(operation)),
            },
        }
    }
}

/// The runtime has ended: whether the write is done is not known.
fn ended(operation: &'static str) -> Error {
    Error::new(ErrorKind::Cancelled, operation).detail("the task that was to do it has ended")
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Inner<K, V, S, D> {
    /// Lets a write in as soon as there is room for it.
    pub(super) async fn enter(
        self: &Arc<Self>,
        operation: &'static str,
        key: K,
        entry: Arc<Entry<V>>,
    ) -> Result<Ack> {
        let (weight, encoded) = self.prepare(&key, &entry)?;
        let entering = Entering { key, entry, weight, waiter: None, replays: None };
        match self.try_enter(operation, entering, encoded.clone())? {
            Tried::In(ack) => Ok(ack),
            Tried::Full(entering, pause) => {
                self.start();
                let waiting = self.enter_with_room(operation, entering, encoded);
                timeout(pause, waiting).await.unwrap_or_else(|_| Err(self.full(operation)))
            }
        }
    }

    /// As soon as there is room, however long that takes.
    async fn enter_with_room(
        self: &Arc<Self>,
        operation: &'static str,
        mut entering: Entering<K, V>,
        encoded: Option<Encoded>,
    ) -> Result<Ack> {
        loop {
            // Before the try: it must not miss what is freed right after.
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            match self.try_enter(operation, entering, encoded.clone())? {
                Tried::In(ack) => return Ok(ack),
                Tried::Full(back, _) => entering = back,
            }
            self.start();
            room.await;
        }
    }

    fn try_enter(
        self: &Arc<Self>,
        operation: &'static str,
        mut entering: Entering<K, V>,
        encoded: Option<Encoded>,
    ) -> Result<Tried<K, V>> {
        self.engine().check_open(operation)?;
        let mut queue = self.lock();
        refuse_closed(&queue, operation)?;
        let mut ack = Ack { journal: None, source: None };
        if self.rules.max_bytes.is_some_and(|most| entering.weight > most) {
            let detail = "the write alone is heavier than all that may wait";
            return Err(Error::new(ErrorKind::Config, operation).detail(detail));
        }
        if !queue.has_room(&entering.key, entering.weight) {
            queue.hurry();
            match self.overflow {
                Overflow::Block(pause) => {
                    drop(queue);
                    return Ok(Tried::Full(entering, pause));
                }
                Overflow::Reject => {
                    drop(queue);
                    self.start();
                    return Err(self.full(operation));
                }
                Overflow::WriteThrough => {
                    let (tell, told) = oneshot::channel();
                    (entering.waiter, ack.source) = (Some(tell), Some(told));
                }
            }
        }
        ack.journal = self.take_in(queue, entering, encoded)?;
        Ok(Tried::In(ack))
    }

    /// Takes a write in: into the queue at once, or once the journal has it.
    fn take_in(
        self: &Arc<Self>,
        mut queue: Locked<'_, K, V>,
        entering: Entering<K, V>,
        encoded: Option<Encoded>,
    ) -> Result<Option<Kept>> {
        let is_kept = encoded.is_some();
        let (key, value) = encoded.unwrap_or_default();
        // Under the lock: the order of the journal is the order of the queue.
        let sequence = self.journal.append(key, value);
        if is_kept && !mutant!(AcknowledgesBeforeTheJournal) {
            queue.stage(sequence, entering.weight);
            let (told, begins) = self.admission.stage(sequence, entering);
            drop(queue);
            if begins {
                self.begin_to_ask();
            }
            return Ok(Some(told));
        }
        let admitted = self.admit(&mut queue, entering, sequence);
        drop(queue);
        if admitted? {
            self.start();
        }
        Ok(None)
    }

    /// Queues a write, and tells the journal what ends by that. Whether who sends is to be woken.
    pub(super) fn admit(
        &self,
        queue: &mut Queue<K, V>,
        entering: Entering<K, V>,
        sequence: u64,
    ) -> Result<bool> {
        let admitted = self.admit_unnoted(queue, entering, sequence);
        self.note(queue);
        admitted
    }

    fn admit_unnoted(
        &self,
        queue: &mut Queue<K, V>,
        entering: Entering<K, V>,
        sequence: u64,
    ) -> Result<bool> {
        if let Some(id) = entering.replays {
            if let Err(error) = self.may_replay(queue, id) {
                self.journal.done(&[sequence]);
                queue.waste(entering.entry);
                return Err(error);
            }
            queue.forget_dead(id);
        }
        let is_waited_for = entering.waiter.is_some();
        let wakes = queue.admit(entering, sequence, self.now());
        if is_waited_for {
            queue.hurry();
        }
        Ok(wakes || is_waited_for || !queue.is_running)
    }

    /// Takes a dead letter in again, as a new write.
    pub(super) async fn replay(self: &Arc<Self>, id: u64) -> Result<()> {
        let operation = "replay";
        self.engine().check_open(operation)?;
        let (key, entry) = {
            let queue = self.lock();
            self.may_replay(&queue, id)?;
            let Some(dead) = queue.dead_letter(id) else { return Err(unknown(operation, id)) };
            (dead.key.clone(), dead.entry.clone())
        };
        let (weight, encoded) = self.prepare(&key, &entry)?;
        let entering = Entering { key, entry, weight, waiter: None, replays: Some(id) };
        self.take_replay(operation, entering, encoded)?.given(operation).await
    }

    fn take_replay(
        self: &Arc<Self>,
        operation: &'static str,
        entering: Entering<K, V>,
        encoded: Option<Encoded>,
    ) -> Result<Ack> {
        let queue = self.lock();
        refuse_closed(&queue, operation)?;
        Ok(Ack { journal: self.take_in(queue, entering, encoded)?, source: None })
    }

    /// Whether a dead letter may be taken in again.
    fn may_replay(&self, queue: &Queue<K, V>, id: u64) -> Result<()> {
        let Some(dead) = queue.dead_letter(id) else { return Err(unknown("replay", id)) };
        if dead.is_superseded && self.rules.merge.is_none() {
            let detail = "a newer write of the key came after it";
            return Err(Error::new(ErrorKind::Conflict, "replay").detail(detail));
        }
        Ok(())
    }

    fn prepare(&self, key: &K, entry: &Entry<V>) -> Result<(u64, Option<Encoded>)> {
        let value = entry.value.as_ref();
        let encoded = self.encode.as_ref().map(|encode| encode(key, value)).transpose()?;
        Ok((self.rules.weigh(key, value).unwrap_or(0), encoded))
    }

    fn full(&self, operation: &'static str) -> Error {
        let (entries, bytes) = self.lock().load();
        let detail = format!("no room: {entries} writes of {bytes} bytes wait for the source");
        Error::new(ErrorKind::Unavailable, operation).detail(detail)
    }

    /// An entry of a write: it does not age.
    pub(super) fn entry(&self, value: Option<V>) -> Arc<Entry<V>> {
        let meta = Meta::new(self.now(), Duration::MAX, Duration::MAX, Duration::ZERO);
        Arc::new(Entry::new(value, meta))
    }
}

fn refuse_closed<K: Hash + Eq + Clone, V>(queue: &Queue<K, V>, operation: &'static str) -> Result<()> {
    if queue.is_closed {
        let detail = "the write-behind is shut down";
        return Err(Error::new(ErrorKind::Closed, operation).detail(detail));
    }
    Ok(())
}

/// How a try to come in has ended.
enum Tried<K, V> {
    In(Ack),
    /// There is no room; it may wait so long.
    Full(Entering<K, V>, Duration),
}
