//! Topics by Pub/Sub.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use cachalot_core::{BusEvent, Error, ErrorKind, Key, Result, Subject, Subscription};
use tokio::time::timeout;

use super::coding::Coding;
use super::hash::about;
use super::read;
use super::way::{Place, Way};
use crate::RedisBackend;
use crate::bus::{Decode, Parts, subscription};
use crate::fault::Fault;
use crate::link::Again;

/// Values for whoever listens at the moment. From [`RedisPatterns::topic`](super::RedisPatterns::topic).
///
/// At most once: the server keeps nothing. Who does not listen, whose connection is down, or who reads too slowly, misses
/// what is published meanwhile; a subscription says when that may have happened.
pub struct Topic<V> {
    node: RedisBackend,
    way: Way,
    place: Place,
    coding: Coding<V>,
}

/// What a [`TopicSubscription`] reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicEvent<V> {
    /// A value that was published.
    Message(V),
    /// Values may have been missed: the connection was lost and is back, or too many waited for being read and were
    /// dropped. What is published from now on is heard; who must know what was missed looks it up after this.
    Gap,
}

impl<V: 'static> Topic<V> {
    pub(super) fn new(way: &Way, key: Key, coding: Coding<V>) -> Result<Self> {
        let Way::One(node) = way else {
            let error = Error::new(ErrorKind::Unsupported, "redis topic");
            return Err(error.detail("topics are for one server").key(key.as_bytes()).node(way.node()));
        };
        Ok(Self { node: node.clone(), place: way.place(key), way: way.clone(), coding })
    }

    /// Gives `value` to all who listen, and says how many the server knew of; that they have read it is not said.
    ///
    /// # Errors
    /// As [patterns](super#errors); [`ErrorKind::Encode`] if the codec refuses. If the connection breaks, it may have
    /// been published.
    pub async fn publish(&self, value: &V) -> Result<u64> {
        const OPERATION: &str = "redis topic publish";
        let mut bytes = Vec::new();
        self.coding.encode(value, &mut bytes, &self.way, OPERATION, &self.place)?;
        let mut command = about("PUBLISH", &self.place);
        command.arg(bytes);
        let heard = self.way.ask(OPERATION, &self.place, &command, Again::Never).await?;
        read::count(heard).map_err(|fault| self.way.error(fault, OPERATION, &self.place))
    }

    /// Begins to listen, by a connection of its own: what is published from when this returns is heard.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if the server has not acknowledged it within the deadline, for whatever reason.
    pub async fn subscribe(&self) -> Result<TopicSubscription<V>> {
        let setup = self.node.blocking().setup();
        let parts = Parts::of_topic(setup.clone(), self.node.node(), &self.place.name);
        let decode: Decode = Arc::new(carry);
        let mut events = subscription(&parts, decode);
        let confirmed = async {
            while events.next().await? != BusEvent::Confirmed {}
            Ok(())
        };
        let late = || self.way.error(Fault::Timeout(setup.deadline), "redis topic subscribe", &self.place);
        timeout(setup.deadline, confirmed).await.unwrap_or_else(|_| Err(late()))?;
        let (way, place, coding) = (self.way.clone(), self.place.clone(), self.coding.clone());
        Ok(TopicSubscription { events, way, place, coding })
    }
}

/// A payload as the queue of a bus takes it: what it says is for the reader to find out.
fn carry(bytes: Bytes) -> BusEvent {
    BusEvent::Foreign(vec![Subject::Tag { tag: bytes, pending: false }])
}

/// One listener's end of a [`Topic`]. Up to 1,024 values, of 16 MiB in all, wait for being read; beyond that they are
/// dropped for a [`Gap`](TopicEvent::Gap). It works while it is read: a connection that breaks is made again, with growing
/// pauses, by who waits for what comes next.
pub struct TopicSubscription<V> {
    events: Box<dyn Subscription>,
    way: Way,
    place: Place,
    coding: Coding<V>,
}

impl<V: 'static> TopicSubscription<V> {
    /// Waits for what comes next. A connection that is lost is no error but a [`Gap`](TopicEvent::Gap), told when it is
    /// back.
    ///
    /// # Dropping the future
    /// Nothing is lost: the next call goes on where it stood.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for a message that is no `V`; the next call goes on behind it.
    pub async fn next(&mut self) -> Result<TopicEvent<V>> {
        loop {
            match self.events.next().await? {
                BusEvent::Foreign(subjects) => {
                    let bytes = subjects.first().map(Subject::name).unwrap_or_default();
                    return self.coding.decode(bytes, &self.way, &self.place).map(TopicEvent::Message);
                }
                BusEvent::Confirmed | BusEvent::Gap(_) => return Ok(TopicEvent::Gap),
                // The gap is told at its end, when it is known where it ends.
                _ => {}
            }
        }
    }
}

impl<V> Clone for Topic<V> {
    fn clone(&self) -> Self {
        Self {
            node: self.node.clone(),
            way: self.way.clone(),
            place: self.place.clone(),
            coding: self.coding.clone(),
        }
    }
}

impl<V> fmt::Debug for Topic<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("key", &self.place.key).field("codec", &self.coding).finish()
    }
}

impl<V> fmt::Debug for TopicSubscription<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicSubscription").field("key", &self.place.key).finish_non_exhaustive()
    }
}
