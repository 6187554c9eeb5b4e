//! Concurrent reads of single keys, gathered into one MGET.
//!
//! A read that finds no other under way goes at once, as a plain GET: the shortest way. Reads that come
//! meanwhile wait for the gatherer, a task that asks for all that wait by one command, hands out the
//! answers, and ends when nobody waits any more. So many readers share the price of a round trip.
//!
//! The gatherer is a task, and not one of the readers, because a reader may be dropped, or kept and not
//! polled, and must hold up nobody. It is the one place of this crate that spawns.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cachalot_core::Key;
use redis::{Cmd, Value};
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::era::Era;
use crate::fault::Fault;
use crate::link::{Again, Link, Request};
use crate::mget::{self, mget};
use crate::name::name;

/// How many gatherers may be at work on one connection.
const GATHERERS: usize = 1;
/// How many keys one command asks for at most.
const LARGEST: usize = 128;
/// How many may wait before the next connection is used.
const CROWD: usize = 64;

/// Gathers the reads of one connection.
pub(crate) struct Gather {
    link: Link,
    key_prefix: Arc<[u8]>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Ask>,
    /// Reads on their own way.
    alone: usize,
    gatherers: usize,
}

/// A reader that waits.
struct Ask {
    key: Key,
    to: oneshot::Sender<Result<Found, Fault>>,
}

/// The bytes under a key, the server's time by estimate when they came, ms, and the server's era.
pub(crate) struct Found {
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) now_ms: u64,
    pub(crate) era: Era,
}

/// What was found for many.
struct FoundAll {
    values: Vec<Value>,
    now_ms: u64,
    era: Era,
}

enum Entry {
    Alone,
    Wait(oneshot::Receiver<Result<Found, Fault>>),
}

impl Gather {
    pub(crate) fn new(link: Link, key_prefix: Arc<[u8]>) -> Arc<Self> {
        Arc::new(Self { link, key_prefix, queue: Mutex::default() })
    }

    /// The connection itself.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Whether few enough wait that one more had better join them.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().waiting.len() < CROWD
    }

    /// Reads `key`. Dropping the future, or not polling it, harms no other read.
    pub(crate) async fn read(self: &Arc<Self>, key: &Key) -> Result<Found, Fault> {
        match self.enter(key) {
            Entry::Alone => {
                let _alone = Alone(self);
                self.read_alone(key).await
            }
            Entry::Wait(found) => found.await.unwrap_or(Err(Fault::Garbled("the runtime has ended"))),
        }
    }

    fn enter(self: &Arc<Self>, key: &Key) -> Entry {
        let mut queue = self.lock();
        if queue.alone == 0 && queue.gatherers == 0 {
            queue.alone = 1;
            return Entry::Alone;
        }
        let (to, found) = oneshot::channel();
        queue.waiting.push_back(Ask { key: key.clone(), to });
        let is_short = queue.gatherers < GATHERERS;
        queue.gatherers += usize::from(is_short);
        // A runtime that is ending drops the task at once, and that takes the lock.
        drop(queue);
        if is_short {
            let shift = Shift { gather: self.clone(), ended: false };
            tokio::spawn(shift.work());
        }
        Entry::Wait(found)
    }

    async fn read_alone(&self, key: &Key) -> Result<Found, Fault> {
        let mut command = Cmd::with_capacity(2, 3 + self.key_prefix.len() + key.as_bytes().len());
        command.arg("GET").arg(&*name(&self.key_prefix, key));
        let answer = self.link.exchange(Request::One(&command), Again::Once).await?;
        let (now_ms, era) = (answer.now_ms, answer.era());
        let found = |bytes| Found { bytes, now_ms, era };
        match answer.value.extract_error().map_err(Fault::from) {
            Ok(Value::BulkString(bytes)) => Ok(found(Some(bytes))),
            Ok(Value::Nil) | Err(Fault::OtherType) => Ok(found(None)),
            Ok(_) => Err(Fault::Garbled("GET answered no string")),
            Err(fault) => Err(fault),
        }
    }

    /// Some of those that wait. `None`, and the end of this gatherer, if nobody does: one step, so that
    /// nobody begins to wait in between.
    fn take_waiting(&self) -> Option<Vec<Ask>> {
        let mut queue = self.lock();
        let count = queue.waiting.len().min(LARGEST);
        if count == 0 {
            queue.gatherers -= 1;
            return None;
        }
        let mut taken: Vec<Ask> = queue.waiting.drain(..count).collect();
        drop(queue);
        taken.retain(|ask| !ask.to.is_closed());
        Some(taken)
    }

    /// The values under the keys of `asks`, in their order.
    async fn read_all(&self, asks: &[Ask]) -> Result<FoundAll, Fault> {
        if asks.is_empty() {
            return Ok(FoundAll { values: Vec::new(), now_ms: 0, era: Era::NONE });
        }
        let command = mget(&self.key_prefix, asks.iter().map(|ask| &ask.key));
        let answer = self.link.exchange(Request::One(&command), Again::Once).await?;
        let (now_ms, era) = (answer.now_ms, answer.era());
        Ok(FoundAll { values: mget::values(answer.value, asks.len())?, now_ms, era })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each of `asks` its own.
fn hand_out(found: Result<FoundAll, Fault>, asks: Vec<Ask>) {
    // A reader that has left needs no answer.
    match found {
        Ok(FoundAll { values, now_ms, era }) => {
            for (ask, value) in asks.into_iter().zip(values) {
                let bytes = mget::bytes(value);
                let _ = ask.to.send(Ok(Found { bytes, now_ms, era }));
            }
        }
        Err(fault) => {
            for ask in asks {
                let _ = ask.to.send(Err(fault.clone()));
            }
        }
    }
}

/// A read on its own way, until it is dropped.
struct Alone<'a>(&'a Gather);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.lock().alone -= 1;
    }
}

/// A gatherer at work. Dropped before its end, because its runtime ends, be it before it has begun, it leaves
/// nobody waiting.
struct Shift {
    gather: Arc<Gather>,
    ended: bool,
}

impl Shift {
    /// Answers those that wait until nobody does.
    async fn work(mut self) {
        loop {
            // Those who were answered together come again together: let them.
            yield_now().await;
            let Some(asks) = self.gather.take_waiting() else {
                self.ended = true;
                return;
            };
            let found = self.gather.link.within_deadline(self.gather.read_all(&asks)).await;
            hand_out(found, asks);
        }
    }
}

impl Drop for Shift {
    fn drop(&mut self) {
        if !self.ended {
            let mut queue = self.gather.lock();
            queue.gatherers -= 1;
            queue.waiting.clear();
        }
    }
}
