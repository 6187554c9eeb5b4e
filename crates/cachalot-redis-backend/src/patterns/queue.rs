//! Queues as lists: simple, and lossy.

use std::fmt;
use std::time::Duration;

use cachalot_core::{Key, Result};
use redis::{Pipeline, Value};

use super::coding::Coding;
use super::hash::about;
use super::read;
use super::way::{Place, Way};
use crate::fault::Fault;
use crate::link::Again;

/// How long one command waits in the server; a longer wait is several. So a connection that has died without a word is
/// noticed, and a server does not keep those waiting who have left.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Values in the order in which they were pushed, each for one who pops it. From
/// [`RedisPatterns::queue`](super::RedisPatterns::queue).
///
/// At most once: what is popped is gone from the server, and lost if whoever popped it dies or leaves. See
/// [`ReliableQueue`](super::ReliableQueue) for what must not be lost.
pub struct Queue<V> {
    way: Way,
    place: Place,
    coding: Coding<V>,
}

impl<V: 'static> Queue<V> {
    pub(super) fn new(way: Way, key: Key, coding: Coding<V>) -> Self {
        let place = way.place(key);
        Self { way, place, coding }
    }

    /// Puts `values` at the end, in one step and in their order, and gives how many wait then.
    ///
    /// # Errors
    /// As [patterns](super#errors); [`ErrorKind::Encode`](cachalot_core::ErrorKind::Encode) if the codec refuses one of
    /// them. If the connection breaks, they may have been pushed.
    pub async fn push(&self, values: &[V]) -> Result<u64> {
        const OPERATION: &str = "redis queue push";
        if values.is_empty() {
            return self.len().await;
        }
        let mut command = about("RPUSH", &self.place);
        for value in values {
            let mut bytes = Vec::new();
            self.coding.encode(value, &mut bytes, &self.way, OPERATION, &self.place)?;
            command.arg(bytes);
        }
        let len = self.way.ask(OPERATION, &self.place, &command, Again::Never).await?;
        read::count(len).map_err(|fault| self.way.error(fault, OPERATION, &self.place))
    }

    /// Takes the first value, waiting for one up to `wait`; `None` if none has come. Who has waited longest is served
    /// first. With no wait at all it does not wait. It ends within the wait and the deadline; a longer wait is several of ten seconds.
    ///
    /// Waits on a connection of its own, of which a backend has at most 128.
    ///
    /// # Dropping the future
    /// The connection is thrown away. A value that the server hands out in that moment is lost.
    ///
    /// # Errors
    /// As [patterns](super#errors); after one of them a value may have been popped, and is lost.
    /// [`ErrorKind::Decode`](cachalot_core::ErrorKind::Decode) if the value is no `V`: it is popped.
    pub async fn pop(&self, wait: Duration) -> Result<Option<V>> {
        const OPERATION: &str = "redis queue pop";
        let mut left = wait;
        loop {
            let slice = left.min(LONGEST_WAIT);
            let popped = if millis_to_wait(slice) == 0 {
                self.way.ask(OPERATION, &self.place, &about("LPOP", &self.place), Again::Never).await?
            } else {
                self.pop_within(OPERATION, slice).await?
            };
            let bytes = read::bytes(popped).map_err(|fault| self.way.error(fault, OPERATION, &self.place))?;
            if let Some(bytes) = bytes {
                return self.coding.decode(&bytes, &self.way, &self.place).map(Some);
            }
            left = left.saturating_sub(slice);
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    /// How many values wait.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn len(&self) -> Result<u64> {
        const OPERATION: &str = "redis queue len";
        let command = about("LLEN", &self.place);
        let len = self.way.ask(OPERATION, &self.place, &command, Again::Once).await?;
        read::count(len).map_err(|fault| self.way.error(fault, OPERATION, &self.place))
    }

    /// Whether no value waits.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    async fn pop_within(&self, operation: &'static str, slice: Duration) -> Result<Value> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("BLPOP").arg(&self.place.name).arg(seconds(slice));
        let mut answers = self.way.wait(operation, &self.place, &pipeline, slice).await?;
        match answers.pop() {
            // The list's name, then the value.
            Some(Value::Array(mut pair)) => Ok(pair.pop().unwrap_or_default()),
            Some(Value::Nil) => Ok(Value::Nil),
            _ => Err(self.way.error(Fault::Garbled("BLPOP answered no pair"), operation, &self.place)),
        }
    }
}

/// As the server is told. Never 0, which would be for ever.
pub(super) fn seconds(wait: Duration) -> String {
    let millis = millis_to_wait(wait).max(1);
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

pub(super) fn millis_to_wait(wait: Duration) -> u128 {
    wait.as_millis()
}

impl<V> Clone for Queue<V> {
    fn clone(&self) -> Self {
        Self { way: self.way.clone(), place: self.place.clone(), coding: self.coding.clone() }
    }
}

impl<V> fmt::Debug for Queue<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("key", &self.place.key).field("codec", &self.coding).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_is_told_as_for_ever() {
        assert_eq!(seconds(Duration::ZERO), "0.001");
        assert_eq!(seconds(Duration::from_micros(10)), "0.001");
        assert_eq!(seconds(Duration::from_millis(1_050)), "1.050");
        assert_eq!(seconds(LONGEST_WAIT), "10.000");
    }
}
