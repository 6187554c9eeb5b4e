//! Redis as a bus: by Pub/Sub, or by a stream.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{BoxFuture, BusEvent, Error, ErrorKind, EventQueue, Result, Subscription};
use redis::{Cmd, Pipeline};

use crate::config::{RedisBuilder, config};
use crate::fault::Fault;
use crate::incarnation::Recovery;
use crate::link::{Again, Link, Request};

mod pub_sub;
pub use pub_sub::RedisBus;
pub(crate) use pub_sub::subscription;
mod pushes;
pub(crate) use pushes::Decode;
mod stream;
pub use stream::RedisStreamBus;
mod replies;

/// Settings of a [`RedisBus`] or a [`RedisStreamBus`], from [`RedisBuilder::bus`].
///
/// Nothing is connected until something is published or a subscription is read.
#[derive(Clone)]
#[must_use = "settings do nothing until a bus is made of them"]
pub struct RedisBusBuilder {
    redis: RedisBuilder,
    channel: String,
    queue: usize,
    check_every: Duration,
    keep: usize,
}

/// What is usual: see the settings.
const QUEUE: usize = 1024;
const CHECK_EVERY: Duration = Duration::from_secs(2);
const KEEP: usize = 10_000;

impl Parts {
    /// Of a channel of this whole name, with what is usual.
    pub(crate) fn of_topic(setup: crate::link::Setup, node: &str, name: &[u8]) -> Self {
        let (node, name) = (node.into(), name.into());
        Self { setup, node, name, queue: QUEUE, check_every: CHECK_EVERY, keep: KEEP }
    }
}

impl RedisBusBuilder {
    pub(crate) fn new(redis: RedisBuilder) -> Self {
        Self {
            redis,
            channel: String::from("cachalot:bus"),
            queue: QUEUE,
            check_every: CHECK_EVERY,
            keep: KEEP,
        }
    }

    /// The name of the channel or stream, behind the key prefix. Default `cachalot:bus`. All caches that use
    /// one name hear each other, and ignore what is of another namespace. Nobody else should speak there: what is
    /// no message is a gap for all who listen. Pub/Sub channels are shared by all databases of a server, streams
    /// are not.
    pub fn channel(mut self, name: impl Into<String>) -> Self {
        self.channel = name.into();
        self
    }

    /// How many messages may wait in a Pub/Sub subscription for being read; beyond that they are dropped for
    /// a gap. They take at most 16 MiB. Default 1,024; at least 2. A stream's messages wait in the server.
    pub fn queue(mut self, messages: usize) -> Self {
        self.queue = messages;
        self
    }

    /// How long a connection may be silent before it is asked whether it lives; if it does not answer within
    /// the deadline, it is given up. A stream that was deleted and begins anew behind where it stood is
    /// noticed as late. Default 2 s; at least 10 ms.
    pub fn check_every(mut self, time: Duration) -> Self {
        self.check_every = time;
        self
    }

    /// How many messages a stream keeps, about: who is away for longer finds a gap. Some 150 bytes each.
    /// Default 10,000; at least 1.
    pub fn keep(mut self, messages: usize) -> Self {
        self.keep = messages;
        self
    }

    /// A bus by Pub/Sub. See [`RedisBus`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is not acceptable.
    pub fn pub_sub(self) -> Result<RedisBus> {
        RedisBus::new(self.parts()?)
    }

    /// A bus by a stream. See [`RedisStreamBus`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is not acceptable.
    pub fn stream(self) -> Result<RedisStreamBus> {
        RedisStreamBus::new(self.parts()?)
    }

    /// As the layout `plain` has it: a channel of this name, whatever the prefix.
    pub(crate) fn parts_of_channel(self, name: &str) -> Result<Parts> {
        let parts = self.channel(name).parts()?;
        Ok(Parts { name: name.as_bytes().into(), ..parts })
    }

    fn parts(self) -> Result<Parts> {
        if self.queue < 2 || self.keep == 0 {
            return Err(config("a bus keeps at least two messages in a queue, and one in a stream"));
        }
        if self.check_every < Duration::from_millis(10) {
            return Err(config("a connection is asked at most every 10 ms"));
        }
        if self.channel.is_empty() {
            return Err(config("the channel has no name"));
        }
        let (setup, node) = self.redis.setup(Recovery::Replay)?;
        let name = self.redis.prefixed(&self.channel).into();
        let Self { queue, check_every, keep, .. } = self;
        Ok(Parts { setup, node: node.into(), name, queue, check_every, keep })
    }
}

impl fmt::Debug for RedisBusBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBusBuilder")
            .field("redis", &self.redis)
            .field("channel", &self.channel)
            .field("queue", &self.queue)
            .field("check_every", &self.check_every)
            .field("keep", &self.keep)
            .finish()
    }
}

/// What a bus is made of.
#[derive(Clone)]
pub(crate) struct Parts {
    setup: crate::link::Setup,
    pub(crate) node: Arc<str>,
    /// Of the channel or the stream, prefix included.
    pub(crate) name: Arc<[u8]>,
    queue: usize,
    check_every: Duration,
    keep: usize,
}

/// The publishing half: a connection of its own, made when needed.
pub(crate) struct Publisher {
    link: Link,
    node: Arc<str>,
}

impl Publisher {
    pub(crate) fn new(parts: &Parts) -> Self {
        Self { link: Link::new(parts.setup.clone()), node: parts.node.clone() }
    }

    /// Sends a command; once more, if the connection breaks under it: a message may come twice.
    pub(crate) async fn send(&self, command: &Cmd, operation: &'static str) -> Result<()> {
        let answer = self.link.send(Request::One(command), Again::Once).await;
        let done = answer.and_then(|answer| answer.value.extract_error().map_err(Fault::from));
        done.map(drop).map_err(|fault| fault.into_error(operation, &self.node))
    }

    /// As [`send`](Publisher::send), many in one go.
    pub(crate) async fn send_all(&self, pipeline: &Pipeline, operation: &'static str) -> Result<()> {
        let answer = self.link.send(Request::Many(pipeline), Again::Once).await;
        let done = answer.and_then(|answer| {
            answer
                .into_list()?
                .into_iter()
                .try_for_each(|reply| reply.extract_error().map(drop).map_err(Fault::from))
        });
        done.map_err(|fault| fault.into_error(operation, &self.node))
    }
}

/// A subscription whose work is done by whoever reads it: `work` connects, asks, connects again, and fills
/// the queue. It is kept from one `next` to the other, so that a caller who leaves costs it nothing, and ends
/// with the subscription.
struct Listening {
    queue: Arc<EventQueue>,
    work: BoxFuture<'static, Infallible>,
}

#[async_trait]
impl Subscription for Listening {
    async fn next(&mut self) -> Result<BusEvent> {
        let event = poll_fn(|context| {
            if let Poll::Ready(event) = self.queue.poll_pop(context) {
                return Poll::Ready(event);
            }
            match self.work.as_mut().poll(context) {
                Poll::Ready(never) => match never {},
                Poll::Pending => self.queue.poll_pop(context),
            }
        });
        event.await.ok_or_else(|| Error::new(ErrorKind::Closed, "redis bus next"))
    }
}
