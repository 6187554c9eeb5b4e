//! The bus: tells other processes what was invalidated.
//!
//! Messages carry names, never values or tokens, so that applying one twice, late or out of order only
//! costs a load. They may be lost: publisher and sequence let a receiver notice.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;

/// Carries messages from each process to all others. May lose, repeat and reorder them.
#[async_trait]
pub trait Bus: fmt::Debug + Send + Sync + 'static {
    /// Sends `message` to all subscribers, this process's own included.
    ///
    /// # Errors
    /// Unavailable or timeout. It may still arrive.
    async fn publish(&self, message: &Message) -> Result<()>;

    /// Begins to listen.
    ///
    /// # Errors
    /// Unavailable or timeout.
    async fn subscribe(&self) -> Result<Box<dyn Subscription>>;
}

/// One listener's end of a [`Bus`].
#[async_trait]
pub trait Subscription: Send {
    /// Waits for what comes next. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the bus has ended. A broken connection is no
    /// error: the bus reconnects and says so by [`BusEvent::Confirmed`].
    async fn next(&mut self) -> Result<BusEvent>;
}

/// What a [`Subscription`] reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusEvent {
    /// The subscription, the first or a renewed one, is confirmed by the other side. What was published
    /// before may have been missed.
    Confirmed,
    /// A message.
    Message(Message),
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub publisher: PublisherId,
    /// Its number among the publisher's, from 1, without holes.
    pub sequence: u64,
    /// What it is about.
    pub subject: Subject,
}

/// One cache instance in one run of one process. Random, so that a restart, or a second cache in the same
/// process, is another publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublisherId(pub [u8; 16]);

/// What a [`Message`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The value of this key is no longer good.
    Key {
        /// The key's bytes, namespace included.
        key: Bytes,
        /// Whether the shared tier has not taken the removal yet: bypass it for this key until the second
        /// message.
        pending: bool,
    },
    /// Nothing new: "`sequence` is the last that I have sent".
    Heartbeat,
}
