//! The bus: tells other processes what was invalidated.
//!
//! A bus is one channel that any number of caches in any number of processes share. A [`Message`] says which
//! cache instance sent it and to which namespace it belongs; a receiver ignores the namespaces of others.
//! Messages carry names, never values or tokens, so that applying one twice, late or out of order only costs
//! a load. They may be lost: publisher and sequence let a receiver notice.
//!
//! What is to be done about a message that was missed is the receiver's business, `Hearing` in
//! `cachalot-invalidation`; numbers and heartbeats are the publisher's, `Announcer` there. A bus only says
//! what it can know better than they: when a subscription stands, and when it has dropped something itself.

use std::fmt;

use async_trait::async_trait;

use crate::Result;

mod message;
pub use message::{Body, Message, PublisherId, Subject};
mod queue;
pub use queue::EventQueue;
mod wire;

/// Carries messages from each process to all others. May lose, repeat and reorder them; must not change one.
#[async_trait]
pub trait Bus: fmt::Debug + Send + Sync + 'static {
    /// What it is, for errors and metrics.
    fn info(&self) -> BusInfo;

    /// Sends `message` to all subscribers, those of this process included. Returns once the bus has taken it,
    /// which says nothing about who has got it: that nobody listens is no error.
    ///
    /// Dropping the future: the message may be sent or not.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout): it may still arrive, and may be sent again.
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is larger than [`Message::MAX_BYTES`].
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the bus has ended.
    async fn publish(&self, message: &Message) -> Result<()>;

    /// Begins to listen. The other side need not be there yet: [`BusEvent::Confirmed`] says when the
    /// subscription stands, and nothing is heard before. Dropping the subscription ends it.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the bus has ended.
    async fn subscribe(&self) -> Result<Box<dyn Subscription>>;
}

/// What a [`Bus`] says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusInfo {
    /// What kind it is: `redis pub/sub`.
    pub name: &'static str,
    /// Where it is, without credentials; empty if in this process.
    pub node: String,
}

impl BusInfo {
    /// A bus of this kind at `node`.
    pub fn new(name: &'static str, node: impl Into<String>) -> Self {
        Self { name, node: node.into() }
    }
}

/// One listener's end of a [`Bus`].
#[async_trait]
pub trait Subscription: Send {
    /// Waits for what comes next. The first event is [`BusEvent::Confirmed`].
    ///
    /// Who does not call it for a long time loses messages, never memory: what a subscription keeps is
    /// bounded, and what did not fit is a [`BusEvent::Gap`].
    ///
    /// Dropping the future: nothing is lost, the next call goes on where it stood.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the bus has ended. A broken connection is no
    /// error: the bus reconnects and says so.
    async fn next(&mut self) -> Result<BusEvent>;
}

/// What a [`Subscription`] reports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusEvent {
    /// The other side has acknowledged the subscription, the first or a renewed one: what is published from
    /// now on is heard. What was published before may have been missed.
    Confirmed,
    /// The connection is gone; until [`Confirmed`](BusEvent::Confirmed) or [`Resumed`](BusEvent::Resumed)
    /// nothing is heard. May come late: a dead connection is noticed after a while.
    Interrupted,
    /// The connection is back, and nothing was missed meanwhile: what was published comes now. Only from a
    /// bus that keeps messages.
    Resumed,
    /// Messages of whomever were missed, and the bus knows it.
    Gap(BusGap),
    /// A message.
    Message(Message),
    /// Somebody who does not follow this contract says that these are no longer good: without a number, so that
    /// nobody notices when it is lost, and to all caches. The names of keys and patterns are whole, the namespace
    /// included; a receiver takes what is of its own.
    Foreign(Vec<Subject>),
}

/// Why a bus knows that messages were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BusGap {
    /// The subscriber was too slow, and messages were dropped.
    Overflow,
    /// The bus keeps messages for a while, and has dropped some before they were read.
    Trimmed,
    /// The bus keeps messages, and what it keeps was deleted, replaced or moved back.
    Reset,
    /// Something came that is no message: damaged, foreign, or of a release that knows more.
    Undecodable,
}

#[async_trait]
impl<B: Bus + ?Sized> Bus for std::sync::Arc<B> {
    fn info(&self) -> BusInfo {
        (**self).info()
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        (**self).publish(message).await
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        (**self).subscribe().await
    }
}
