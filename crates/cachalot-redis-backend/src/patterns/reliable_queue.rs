//! Queues that lose nothing: what is taken stays in the server until it is acknowledged.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cachalot_core::{Error, ErrorKind, Key, Nonce, Result};
use redis::{Cmd, Pipeline};

use super::coding::Coding;
use super::queue::{LONGEST_WAIT, millis_to_wait, seconds};
use super::way::{Call, Place, Way};
use super::{read, script};
use crate::backend::millis;
use crate::fault::Fault;
use crate::link::Again;

/// What stands before the bytes of a value, and tells it from another with the same ones.
const ID: usize = 16;
/// How many items one script puts back.
const ITEMS_PER_SCRIPT: &[u8] = b"250";
/// The longest name of a consumer, bytes.
const LONGEST_NAME: usize = 128;

/// Values in the order in which they were pushed, each for one consumer, at least once. From
/// [`RedisPatterns::reliable_queue`](super::RedisPatterns::reliable_queue).
///
/// A [`Consumer`] takes an item by moving it to a list of its own, in the server and in one step, and strikes it off
/// there when it is acknowledged. In between the item is never nowhere: neither a consumer that dies, nor a future that
/// is dropped, nor a connection that breaks loses it. It may be given out twice, so what is done with it should bear
/// being done again.
///
/// A consumer is alive as long as it shows itself within its term. What one has taken that is not alive any more, the
/// others get back by [`recover`](ReliableQueue::recover), which somebody has to call now and then.
///
/// Needs Redis 6.2. What the server itself forgets is lost: see its persistence.
///
/// # Keys
/// `{namespace:key}`: what waits; `:consumers`: their names; `:taken:name`: what one has taken; `:alive:name`: its sign of
/// life. The braces keep them in one slot of a cluster. Braces and percent signs of the key itself are written `%7B`, `%7D`
/// and `%25`.
pub struct ReliableQueue<V> {
    queue: Arc<Lists>,
    coding: Coding<V>,
}

/// The queue in the server.
struct Lists {
    way: Way,
    waiting: Place,
    consumers: Vec<u8>,
}

impl<V: 'static> ReliableQueue<V> {
    pub(super) fn new(way: Way, key: Key, coding: Coding<V>) -> Self {
        let waiting = way.tagged_place(key);
        let consumers = [&*waiting.name, b":consumers"].concat();
        Self { queue: Arc::new(Lists { way, waiting, consumers }), coding }
    }

    /// Puts `values` at the end, in one step and in their order, and gives how many wait then.
    ///
    /// # Errors
    /// As [patterns](super#errors); [`ErrorKind::Encode`] if the codec refuses one of them. If the connection breaks,
    /// they may have been pushed.
    pub async fn push(&self, values: &[V]) -> Result<u64> {
        const OPERATION: &str = "redis reliable queue push";
        let Lists { way, waiting, .. } = &*self.queue;
        if values.is_empty() {
            return self.len().await;
        }
        let mut command = redis::cmd("RPUSH");
        command.arg(&waiting.name);
        for value in values {
            let mut item = Nonce::draw(way.entropy()).as_bytes().to_vec();
            self.coding.encode(value, &mut item, way, OPERATION, waiting)?;
            command.arg(item);
        }
        let len = way.ask(OPERATION, waiting, &command, Again::Never).await?;
        self.queue.answer(OPERATION, read::count(len))
    }

    /// How many items wait to be taken.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn len(&self) -> Result<u64> {
        const OPERATION: &str = "redis reliable queue len";
        let Lists { way, waiting, .. } = &*self.queue;
        let mut command = redis::cmd("LLEN");
        command.arg(&waiting.name);
        let len = way.ask(OPERATION, waiting, &command, Again::Once).await?;
        self.queue.answer(OPERATION, read::count(len))
    }

    /// Whether no item waits to be taken.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// A consumer called `name`, which counts as dead when it has not shown itself for `term`: by
    /// [`take`](Consumer::take) or [`keep_alive`](Consumer::keep_alive). Longer than the longest time between two of
    /// them. Asks the server nothing yet.
    ///
    /// One process after another may be the consumer of a name, and finds what the one before it has taken; two at a time
    /// would give out each other's items. Who has no name that lasts draws one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `name` is not of 1 to 128 bytes, or `term` below a second.
    pub fn consumer(&self, name: &str, term: Duration) -> Result<Consumer<V>> {
        let detail = if name.is_empty() || name.len() > LONGEST_NAME {
            "a consumer's name has 1 to 128 bytes"
        } else if term < Duration::from_secs(1) {
            "a consumer's term is a second at least"
        } else {
            let own = |part: &[u8]| [&*self.queue.waiting.name, part, name.as_bytes()].concat();
            let (taken, alive) = (own(b":taken:"), own(b":alive:"));
            let desk = Desk {
                queue: self.queue.clone(),
                name: name.into(),
                taken,
                alive,
                term,
                held: Mutex::default(),
                has_dropped: AtomicBool::new(false),
            };
            return Ok(Consumer { desk: Arc::new(desk), coding: self.coding.clone(), is_unsure: true });
        };
        Err(Error::new(ErrorKind::Config, "redis reliable queue consumer").detail(detail))
    }

    /// Puts back what consumers have taken that are not alive any more, in front of what waits and in its old order; gives
    /// how many items that were. Each is put back once, however many recover at the same time. One round trip for each
    /// consumer, and for each 250 items.
    ///
    /// A consumer that was only slow finds out when it acknowledges.
    ///
    /// # Dropping the future
    /// What has been put back stays so; the rest is left for the next who recovers.
    ///
    /// # Errors
    /// As [patterns](super#errors), with the same effect as dropping it.
    pub async fn recover(&self) -> Result<u64> {
        const OPERATION: &str = "redis reliable queue recover";
        let Lists { way, waiting, consumers } = &*self.queue;
        let mut command = redis::cmd("SMEMBERS");
        command.arg(consumers);
        let names = way.ask(OPERATION, waiting, &command, Again::Once).await?;
        let names = self.queue.answer(OPERATION, read::list(names))?;
        let mut moved = 0;
        for name in names {
            let name = self.queue.answer(OPERATION, read::bytes(name))?.unwrap_or_default();
            loop {
                let (some, more) = self.recover_some(OPERATION, &name).await?;
                moved += some;
                if !more {
                    break;
                }
            }
        }
        Ok(moved)
    }

    /// How many items of the consumer were put back, and whether there may be more.
    async fn recover_some(&self, operation: &'static str, name: &[u8]) -> Result<(u64, bool)> {
        let Lists { way, waiting, consumers } = &*self.queue;
        let own = |part: &[u8]| [&*waiting.name, part, name].concat();
        let (taken, alive) = (own(b":taken:"), own(b":alive:"));
        let (others, arguments) = ([&**consumers, &*taken, &*alive], [name, ITEMS_PER_SCRIPT]);
        let call = Call::new(&script::QUEUE_RECOVER, &arguments).others(&others).again();
        let reply = way.run(operation, waiting, call).await?;
        let mut reply = self.queue.answer(operation, read::list(reply))?.into_iter();
        let mut next = || read::count(reply.next().unwrap_or_default());
        let (moved, more) = (next(), next());
        Ok((self.queue.answer(operation, moved)?, self.queue.answer(operation, more)? == 1))
    }
}

impl Lists {
    fn answer<T>(&self, operation: &'static str, answer: Result<T, Fault>) -> Result<T> {
        answer.map_err(|fault| self.way.error(fault, operation, &self.waiting))
    }
}

impl<V> Clone for ReliableQueue<V> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), coding: self.coding.clone() }
    }
}

impl<V> fmt::Debug for ReliableQueue<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.queue.waiting.key;
        f.debug_struct("ReliableQueue").field("key", key).field("codec", &self.coding).finish()
    }
}

/// Who takes items from a [`ReliableQueue`], one after the other; several of them may be held at a time. More consumers
/// take in parallel.
pub struct Consumer<V> {
    desk: Arc<Desk>,
    coding: Coding<V>,
    /// Whether the server may have moved an item to this consumer that it does not know of.
    is_unsure: bool,
}

/// What a consumer shares with what it has taken.
struct Desk {
    queue: Arc<Lists>,
    name: String,
    /// The list of what it has taken.
    taken: Vec<u8>,
    alive: Vec<u8>,
    term: Duration,
    /// What it has given out and not got back.
    held: Mutex<HashSet<Bytes>>,
    /// Whether something was given out and dropped since the last look.
    has_dropped: AtomicBool,
}

impl<V: 'static> Consumer<V> {
    /// Takes the first item, waiting for one up to `wait`; `None` if none has come. What this consumer has taken before
    /// and nobody holds comes first: of the process before it, of a take that was dropped, or an item that was dropped.
    /// It ends within the wait and the deadline, and another one if something was dropped; a longer wait is several of ten
    /// seconds, or of a third of the term.
    ///
    /// Waits on a connection of its own, of which a backend has at most 128. Shows that this consumer is alive, also
    /// while it waits.
    ///
    /// # Dropping the future
    /// Nothing is lost: an item that the server has moved meanwhile is found by the next take, or recovered.
    ///
    /// # Errors
    /// As [patterns](super#errors); as dropping it.
    pub async fn take(&mut self, wait: Duration) -> Result<Option<Taken<V>>> {
        let mut left = Some(wait);
        loop {
            self.is_unsure |= self.desk.has_dropped.swap(false, Ordering::AcqRel);
            if self.is_unsure
                && let Some(stray) = self.stray().await?
            {
                return Ok(Some(self.give(stray)));
            }
            let Some(time) = left else { return Ok(None) };
            let slice = time.min(self.desk.term / 3).min(LONGEST_WAIT);
            // Until the answer is there. Who is dropped before looks first next time.
            self.is_unsure = true;
            let held = self.desk.held().len() as u64;
            let (taken, item) = self.next(slice).await?;
            // More than was given out: of a take whose command arrived after the look.
            self.is_unsure = taken > held;
            if let Some(item) = item {
                return Ok(Some(self.give(item)));
            }
            left = time.checked_sub(slice).filter(|left| !left.is_zero());
        }
    }

    /// Shows that this consumer is alive, for another term: for who handles an item longer than that.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn keep_alive(&self) -> Result<()> {
        const OPERATION: &str = "redis reliable queue keep_alive";
        let mut pipeline = Pipeline::with_capacity(2);
        self.desk.show(&mut pipeline);
        let Lists { way, waiting, .. } = &*self.desk.queue;
        way.ask_all(OPERATION, waiting, &pipeline, Again::Once).await.map(drop)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.desk.name
    }

    /// An item in the consumer's list that nobody holds.
    async fn stray(&mut self) -> Result<Option<Bytes>> {
        let mut pipeline = Pipeline::with_capacity(3);
        self.desk.show(&mut pipeline);
        pipeline.cmd("LRANGE").arg(&self.desk.taken).arg(0).arg(-1);
        let Lists { way, waiting, .. } = &*self.desk.queue;
        let mut answers = way.ask_all(TAKE, waiting, &pipeline, Again::Once).await?;
        let items = self.desk.queue.answer(TAKE, read::list(answers.pop().unwrap_or_default()))?;
        let held = self.desk.held();
        for item in items {
            let item = self.desk.queue.answer(TAKE, read::bytes(item))?.unwrap_or_default().into();
            if !held.contains(&item) {
                return Ok(Some(item));
            }
        }
        drop(held);
        self.is_unsure = false;
        Ok(None)
    }

    /// Moves the next item, and says how many were in the consumer's list before.
    async fn next(&self, slice: Duration) -> Result<(u64, Option<Bytes>)> {
        let Lists { way, waiting, .. } = &*self.desk.queue;
        let mut pipeline = Pipeline::with_capacity(4);
        // In one go with the move: what moves to this list is of a consumer that is known, and alive.
        self.desk.show(&mut pipeline);
        pipeline.cmd("LLEN").arg(&self.desk.taken);
        let verb = if millis_to_wait(slice) == 0 { "LMOVE" } else { "BLMOVE" };
        let ways = pipeline.cmd(verb).arg(&waiting.name).arg(&self.desk.taken).arg("LEFT").arg("RIGHT");
        let mut answers = if verb == "LMOVE" {
            way.ask_all(TAKE, waiting, &pipeline, Again::Once).await?
        } else {
            ways.arg(seconds(slice));
            way.wait(TAKE, waiting, &pipeline, slice).await?
        };
        let item = self.desk.queue.answer(TAKE, read::bytes(answers.pop().unwrap_or_default()))?;
        let taken = self.desk.queue.answer(TAKE, read::count(answers.pop().unwrap_or_default()))?;
        Ok((taken, item.map(Bytes::from)))
    }

    fn give(&self, item: Bytes) -> Taken<V> {
        self.desk.held().insert(item.clone());
        Taken { hold: Hold { desk: self.desk.clone(), item, is_done: false }, coding: self.coding.clone() }
    }
}

const TAKE: &str = "redis reliable queue take";

impl Desk {
    /// Makes the consumer known, and alive for its term.
    fn show(&self, pipeline: &mut Pipeline) {
        pipeline.cmd("SADD").arg(&self.queue.consumers).arg(&self.name);
        pipeline.cmd("SET").arg(&self.alive).arg(1).arg("PX").arg(millis(self.term));
    }

    fn held(&self) -> MutexGuard<'_, HashSet<Bytes>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> fmt::Debug for Consumer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("key", &self.desk.queue.waiting.key)
            .field("name", &self.desk.name)
            .field("term", &self.desk.term)
            .finish()
    }
}

/// An item that a [`Consumer`] has taken.
///
/// Dropped without having been acknowledged or given back, it stays the consumer's, whose next
/// [`take`](Consumer::take) gives it out again, or whose death gives it to others.
#[must_use = "it is given out again unless it is acknowledged"]
pub struct Taken<V> {
    hold: Hold,
    coding: Coding<V>,
}

/// That an item is given out.
struct Hold {
    desk: Arc<Desk>,
    item: Bytes,
    /// Whether the server has said that it is not this consumer's any more.
    is_done: bool,
}

impl<V: 'static> Taken<V> {
    /// What was pushed.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] if it is no `V`. It is taken nonetheless: who does not acknowledge it gets it again.
    pub fn value(&self) -> Result<V> {
        let Lists { way, waiting, .. } = &*self.hold.desk.queue;
        match self.hold.item.get(ID..) {
            Some(bytes) => self.coding.decode(bytes, way, waiting),
            None => {
                let error =
                    Error::new(ErrorKind::Decode, TAKE).detail("the item was pushed by somebody else");
                Err(error.key(waiting.key.as_bytes()).node(way.node()))
            }
        }
    }

    /// It is done, and is not given out any more. `false` if it was recovered meanwhile, since this consumer did not show
    /// itself for its term: then it is done once more by somebody, or has been.
    ///
    /// # Dropping the future
    /// It may have been acknowledged. If not, it is given out again.
    ///
    /// # Errors
    /// As [patterns](super#errors); as dropping it. If the connection broke, an item that was acknowledged may be said to
    /// have been recovered.
    pub async fn ack(mut self) -> Result<bool> {
        const OPERATION: &str = "redis reliable queue ack";
        let Hold { desk, item, .. } = &self.hold;
        let mut command = Cmd::new();
        command.arg("LREM").arg(&desk.taken).arg(1).arg(&**item);
        let Lists { way, waiting, .. } = &*desk.queue;
        let struck = way.ask(OPERATION, waiting, &command, Again::Once).await?;
        let struck = desk.queue.answer(OPERATION, read::number(struck))?;
        self.hold.is_done = true;
        Ok(struck == 1)
    }

    /// Gives it back, to the end of what waits. `false` if it was recovered meanwhile.
    ///
    /// # Dropping the future
    /// It may have been given back. If not, it is given out again.
    ///
    /// # Errors
    /// As [`ack`](Taken::ack).
    pub async fn nack(mut self) -> Result<bool> {
        const OPERATION: &str = "redis reliable queue nack";
        let Hold { desk, item, .. } = &self.hold;
        let Lists { way, waiting, .. } = &*desk.queue;
        let (others, arguments) = ([&*desk.taken], [&**item]);
        let call = Call::new(&script::QUEUE_RETURN, &arguments).others(&others).again();
        let reply = way.run(OPERATION, waiting, call).await?;
        let returned = desk.queue.answer(OPERATION, read::number(reply))?;
        self.hold.is_done = true;
        Ok(returned == 1)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.desk.held().remove(&self.item);
        if !self.is_done {
            self.desk.has_dropped.store(true, Ordering::Release);
        }
    }
}

impl<V> fmt::Debug for Taken<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let desk = &self.hold.desk;
        let key = &desk.queue.waiting.key;
        f.debug_struct("Taken").field("key", key).field("consumer", &desk.name).finish_non_exhaustive()
    }
}
