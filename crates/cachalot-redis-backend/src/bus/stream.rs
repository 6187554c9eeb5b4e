//! The bus by a stream.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use cachalot_core::{Bus, BusEvent, BusGap, BusInfo, EventQueue, Message, Result, Subscription};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value};
use tokio::time::sleep;

use super::pub_sub::{within, within_time};
use super::replies::{self, Entry, MARK, MESSAGE};
use super::{Listening, Parts, Publisher};
use crate::fault::Fault;
use crate::link::pause;

/// A bus by a Redis stream, which keeps the last messages: who was away for a short while reads on where it
/// stood, and has missed nothing.
///
/// A subscriber begins by a mark of its own in the stream, and reads what comes behind it. With each read it
/// looks whether the entry it stands at is still there: streams are only cut at their old end, so as long as
/// it is, nothing behind it can be missing. If it is not, the stream was trimmed past it, deleted, or begun
/// anew: a [`Gap`](BusEvent::Gap). After a reconnect it reads on, and says so by
/// [`Resumed`](BusEvent::Resumed), if the entry is there and the server is the same run; after a restart or a
/// fail-over it begins anew, by [`Confirmed`](BusEvent::Confirmed), since the server may have lost what it
/// had acknowledged.
///
/// What it costs: a message crosses the server's memory and waits there; a subscription takes one connection
/// and, while nothing comes, one look every [`check_every`](crate::RedisBusBuilder::check_every). The server
/// must let a subscriber write; without the permission for `INFO` every reconnect begins anew.
///
/// Made by [`RedisBusBuilder::stream`](crate::RedisBusBuilder::stream).
pub struct RedisStreamBus {
    parts: Parts,
    publisher: Publisher,
}

/// How many entries are read at once: with the largest messages 64 MiB.
const ENTRIES: usize = 64;

impl RedisStreamBus {
    pub(super) fn new(parts: Parts) -> Result<Self> {
        Ok(Self { publisher: Publisher::new(&parts), parts })
    }
}

impl fmt::Debug for RedisStreamBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = self.parts.name.escape_ascii().to_string();
        f.debug_struct("RedisStreamBus").field("node", &self.parts.node).field("stream", &stream).finish()
    }
}

#[async_trait]
impl Bus for RedisStreamBus {
    fn info(&self) -> BusInfo {
        BusInfo::new("redis stream", &*self.parts.node)
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        let command = add(&self.parts, MESSAGE, &message.encode()?);
        self.publisher.send(&command, "redis stream publish").await
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        // It is filled only when it is empty: what waits, waits in the server.
        let queue = Arc::new(EventQueue::new(usize::MAX, usize::MAX));
        let reader =
            Reader { parts: self.parts.clone(), queue: queue.clone(), place: None, listening: false };
        Ok(Box::new(Listening { queue, work: Box::pin(reader.listen()) }))
    }
}

fn add(parts: &Parts, field: &[u8], value: &[u8]) -> redis::Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(&*parts.name).arg("MAXLEN").arg("~").arg(parts.keep).arg("*").arg(field).arg(value);
    command
}

struct Reader {
    parts: Parts,
    queue: Arc<EventQueue>,
    place: Option<Place>,
    listening: bool,
}

/// Where a subscriber stands.
struct Place {
    /// The entry read last, or its own mark.
    id: Vec<u8>,
    /// The server's run in which that was.
    run: Option<String>,
}

impl Reader {
    async fn listen(mut self) -> Infallible {
        let mut failures = 0;
        loop {
            // How it ended is told by what the queue says.
            let _ = self.hold().await;
            let had_listened = std::mem::take(&mut self.listening);
            if had_listened {
                self.queue.push(BusEvent::Interrupted);
            }
            failures = if had_listened { 1 } else { failures + 1 };
            sleep(pause(failures, &self.parts.setup.entropy)).await;
        }
    }

    /// Connects, takes its place, and reads until the connection is gone or does not answer.
    async fn hold(&mut self) -> Result<Infallible, Fault> {
        let setup = &self.parts.setup;
        // The deadline is ours.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connecting = setup.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = within(setup, connecting).await?;
        let run = self.run(&mut connection).await?;
        if self.is_in_place(&mut connection, &run).await? {
            self.queue.push(BusEvent::Resumed);
        } else {
            let id = self.mark(&mut connection).await?;
            self.place = Some(Place { id, run });
            self.queue.push(BusEvent::Confirmed);
        }
        self.listening = true;
        loop {
            self.read(&mut connection).await?;
        }
    }

    /// Which run of the server this is. `None`: it does not say.
    async fn run(&self, connection: &mut MultiplexedConnection) -> Result<Option<String>, Fault> {
        let mut info = redis::cmd("INFO");
        let asking = info.arg("server").query_async::<String>(connection);
        match within(&self.parts.setup, asking).await {
            Ok(text) => Ok(text.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::to_owned)),
            Err(Fault::Refused { .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Whether the place from before the reconnect still stands.
    async fn is_in_place(
        &self,
        connection: &mut MultiplexedConnection,
        run: &Option<String>,
    ) -> Result<bool, Fault> {
        let Some(place) = self.place.as_ref().filter(|place| place.run.is_some() && place.run == *run) else {
            return Ok(false);
        };
        let mut command = redis::cmd("XRANGE");
        let look = command.arg(&*self.parts.name).arg(&place.id).arg(&place.id).query_async(connection);
        Ok(!replies::entries(within(&self.parts.setup, look).await?)?.is_empty())
    }

    /// Marks a new place at the end of the stream.
    async fn mark(&self, connection: &mut MultiplexedConnection) -> Result<Vec<u8>, Fault> {
        let command = add(&self.parts, MARK, b"");
        within(&self.parts.setup, command.query_async(connection)).await
    }

    /// Waits for what comes behind the place, reads it, and looks whether the place is still there: after the
    /// reading, so that what was read has followed it without a hole.
    async fn read(&mut self, connection: &mut MultiplexedConnection) -> Result<(), Fault> {
        let Some(place) = &self.place else {
            return Err(Fault::Garbled("a stream is read from nowhere"));
        };
        let (name, block) = (&*self.parts.name, self.parts.check_every);
        let mut pipeline = redis::pipe();
        pipeline.cmd("XREAD").arg("COUNT").arg(ENTRIES).arg("BLOCK").arg(crate::backend::millis(block));
        pipeline.arg("STREAMS").arg(name).arg(&place.id);
        pipeline.cmd("XRANGE").arg(name).arg(&place.id).arg(&place.id);
        let asking = pipeline.query_async::<(Value, Value)>(connection);
        let (found, standing) = within_time(block + self.parts.setup.deadline, asking).await?;
        let (found, standing) = (replies::read(found)?, replies::entries(standing)?);
        let last = found.last().map(|entry| entry.id.clone());
        if standing.is_empty() {
            self.lost_its_place(connection, last.is_some()).await?;
        }
        if let (Some(place), Some(last)) = (&mut self.place, last) {
            place.id = last;
        }
        found.into_iter().filter_map(event).for_each(|event| self.queue.push(event));
        Ok(())
    }

    /// The entry it stood at is gone. If something came behind it, that is where it stands now; else a new
    /// mark is needed, since the stream may have begun anew with lower numbers.
    async fn lost_its_place(
        &mut self,
        connection: &mut MultiplexedConnection,
        goes_on: bool,
    ) -> Result<(), Fault> {
        let gap = if goes_on { BusGap::Trimmed } else { BusGap::Reset };
        if !goes_on {
            let id = self.mark(connection).await?;
            self.place = self.place.take().map(|place| Place { id, ..place });
        }
        self.queue.push(BusEvent::Gap(gap));
        Ok(())
    }
}

/// What an entry says; a mark says nothing.
fn event(entry: Entry) -> Option<BusEvent> {
    let message = entry.message.map(Message::decode);
    match message {
        Some(Ok(message)) => Some(BusEvent::Message(message)),
        None if entry.is_mark => None,
        _ => Some(BusEvent::Gap(BusGap::Undecodable)),
    }
}
