//! The bus by Pub/Sub.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cachalot_core::{Bus, BusInfo, EventQueue, Message, Result, Subscription};
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubSink};
use redis::{AsyncConnectionConfig, PushInfo, RedisResult, Value};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::pushes::{self, Decode, Ear};
use super::{Listening, Parts, Publisher};
use crate::fault::Fault;
use crate::link::{Setup, pause};

/// A bus by Redis Pub/Sub: the quickest, and one that keeps nothing. What is published while a subscriber is
/// away is lost to it; when it is back it says [`Confirmed`](cachalot_core::BusEvent::Confirmed).
///
/// Each subscription has a connection of its own, made when the subscription is first read, and made again
/// with growing pauses (25 ms, doubling to 1 s, spread at random) when it breaks, does not answer, or is
/// killed. What arrives is taken at once and kept in a bounded queue. A subscription works while it is read.
///
/// Made by [`RedisBusBuilder::pub_sub`](crate::RedisBusBuilder::pub_sub).
///
/// ```no_run
/// use cachalot_core::Bus;
/// use cachalot_redis_backend::Redis;
///
/// # async fn example() -> cachalot_core::Result<()> {
/// let bus = Redis::builder("redis://127.0.0.1:6379").key_prefix("shop:").bus().pub_sub()?;
/// let mut subscription = bus.subscribe().await?;
/// loop {
///     match subscription.next().await? {
///         event => println!("{event:?}"),
///     }
/// }
/// # }
/// ```
pub struct RedisBus {
    parts: Parts,
    publisher: Publisher,
}

/// What the queue of a subscription may hold, bytes.
const MAX_BYTES: usize = 16 << 20;

impl RedisBus {
    pub(super) fn new(parts: Parts) -> Result<Self> {
        Ok(Self { publisher: Publisher::new(&parts), parts })
    }
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channel = self.parts.name.escape_ascii().to_string();
        f.debug_struct("RedisBus").field("node", &self.parts.node).field("channel", &channel).finish()
    }
}

#[async_trait]
impl Bus for RedisBus {
    fn info(&self) -> BusInfo {
        BusInfo::new("redis pub/sub", &*self.parts.node)
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        let bytes = message.encode()?;
        let mut command = redis::cmd("PUBLISH");
        command.arg(&*self.parts.name).arg(&*bytes);
        self.publisher.send(&command, "redis publish").await
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        Ok(subscription(&self.parts, Arc::new(pushes::message)))
    }
}

/// A subscription to the channel of `parts`, whose payloads mean what `decode` says.
pub(crate) fn subscription(parts: &Parts, decode: Decode) -> Box<dyn Subscription> {
    let queue = Arc::new(EventQueue::new(parts.queue, MAX_BYTES));
    let work = Box::pin(listen(parts.clone(), queue.clone(), decode));
    Box::new(Listening { queue, work })
}

/// Holds a subscription, again and again.
async fn listen(parts: Parts, queue: Arc<EventQueue>, decode: Decode) -> Infallible {
    let mut failures = 0;
    loop {
        let ear = Arc::new(Ear::new(queue.clone(), decode.clone()));
        // How it ended is told by what the queue says.
        let _ = hold(&parts, &ear).await;
        failures = if ear.retire() { 1 } else { failures + 1 };
        sleep(pause(failures, &parts.setup.entropy)).await;
    }
}

/// Connects, subscribes, and stays until the connection is gone or does not answer.
async fn hold(parts: &Parts, ear: &Arc<Ear>) -> Result<Infallible, Fault> {
    if parts.setup.resp3 {
        let mut connection = connect(&parts.setup, ear).await?;
        within(&parts.setup, connection.subscribe(&*parts.name)).await?;
        stay(parts, ear, || {
            let mut connection = connection.clone();
            async move { redis::cmd("PING").query_async::<Value>(&mut connection).await.map(drop) }
        })
        .await
    } else {
        let (sink, _pump) = connect_by_resp2(parts, ear).await?;
        stay(parts, ear, || {
            let mut sink = sink.clone();
            async move { sink.ping::<Value>().await.map(drop) }
        })
        .await
    }
}

async fn connect(setup: &Setup, ear: &Arc<Ear>) -> Result<MultiplexedConnection, Fault> {
    let ear = ear.clone();
    let config = AsyncConnectionConfig::new()
        // The deadline is ours.
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_push_sender(move |push: PushInfo| {
            ear.on_push(push);
            Ok::<_, Infallible>(())
        });
    within(setup, setup.client.get_multiplexed_async_connection_with_config(&config)).await
}

/// By the older protocol the client keeps what has arrived without a bound, so a task takes it at once.
async fn connect_by_resp2(parts: &Parts, ear: &Arc<Ear>) -> Result<(PubSubSink, Pump), Fault> {
    let setup = &parts.setup;
    let (mut sink, mut stream) = within(setup, setup.client.get_async_pubsub()).await?.split();
    within(setup, sink.subscribe(&*parts.name)).await?;
    ear.confirmed();
    let ear = ear.clone();
    let pump = tokio::spawn(async move {
        while let Some(message) = stream.next().await {
            ear.message(Bytes::copy_from_slice(message.get_payload_bytes()));
        }
        ear.broken.notify_one();
    });
    Ok((sink, Pump(pump.abort_handle())))
}

/// A task that ends with its owner.
struct Pump(AbortHandle);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for the end of the connection, asking now and then whether it lives.
async fn stay<F: Future<Output = RedisResult<()>>>(
    parts: &Parts,
    ear: &Ear,
    ping: impl Fn() -> F,
) -> Result<Infallible, Fault> {
    loop {
        if timeout(parts.check_every, ear.broken.notified()).await.is_ok() {
            return Err(Fault::Broken(String::from("the connection has ended")));
        }
        within(&parts.setup, ping()).await?;
    }
}

pub(super) async fn within<T>(setup: &Setup, work: impl Future<Output = RedisResult<T>>) -> Result<T, Fault> {
    within_time(setup.deadline, work).await
}

pub(super) async fn within_time<T>(
    time: Duration,
    work: impl Future<Output = RedisResult<T>>,
) -> Result<T, Fault> {
    let outcome = timeout(time, work).await.map_err(|_| Fault::Timeout(time))?;
    outcome.map_err(Fault::from)
}
