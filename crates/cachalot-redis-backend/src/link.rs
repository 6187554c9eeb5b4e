//! One multiplexed connection: made when needed, made again when lost, every command within the deadline.
//!
//! Nothing runs in the background here. The command that finds no connection makes one; if that fails,
//! commands are refused at once until a pause has passed, and the next one after it tries again. The
//! redis crate runs one task per connection, which ends with it.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cachalot_core::{Clock, Entropy, Timestamp};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, Value};
use tokio::time::timeout;

use crate::era::Era;
use crate::fault::Fault;
use crate::incarnation::Incarnation;
use crate::reply::Reply;
use crate::script::{Argument, By, Script};
use crate::server_time::ServerTime;

/// The pause after the first failed attempt to connect; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that has answered nothing for so many deadlines is given up for a new one.
const SILENT_DEADLINES: u32 = 4;
/// How old the last look may be whether a server is still in its era, ms.
const ERA_TRUSTED_MS: u64 = 10_000;

/// What all connections of a backend share.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) client: Client,
    /// The redis crate notices a lost connection at once only with RESP3.
    pub(crate) resp3: bool,
    pub(crate) deadline: Duration,
    /// Whether each command is sent as one to a node that is about to get the slot.
    pub(crate) asks: bool,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    /// How often any of the connections was made: when one can be had again, all can.
    pub(crate) made: Arc<AtomicU64>,
    pub(crate) incarnation: Arc<Incarnation>,
}

/// One connection, or the want of one.
pub(crate) struct Link {
    setup: Setup,
    state: Mutex<State>,
    /// Held by the one that connects.
    connecting: tokio::sync::Mutex<()>,
}

enum State {
    Up(Arc<Wire>),
    Down(Down),
}

#[derive(Clone)]
struct Down {
    failures: u32,
    retry_at: Timestamp,
    cause: String,
    /// [`Setup::made`] at the last failure.
    made: u64,
}

impl Down {
    /// Not known to fail: the next command tries.
    fn fresh() -> Self {
        Self { failures: 0, retry_at: Timestamp::from_millis(0), cause: String::new(), made: 0 }
    }
}

/// A live connection and what is known of the server behind it.
struct Wire {
    connection: MultiplexedConnection,
    alive: Arc<AtomicBool>,
    time: ServerTime,
    /// That of the server when the connection was made.
    era: Era,
    /// When the era was last looked at, ms.
    era_read_at_ms: AtomicU64,
    asks: bool,
    /// Of all connections of the backend, the how-manieth.
    number: u64,
    /// When the first of an unbroken row of timeouts was noticed, ms; 0 if the last command was answered.
    silent_since: AtomicU64,
}

/// What is sent in one go.
#[derive(Clone, Copy)]
pub(crate) enum Request<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
    /// Made for the era of the connection by which it is sent, each time it is sent.
    OneIn(&'a (dyn Fn(Era) -> Cmd + Sync)),
    /// As [`OneIn`](Self::OneIn).
    ManyIn(&'a (dyn Fn(Era) -> Pipeline + Sync)),
}

/// What came back.
pub(crate) struct Answer {
    /// The reply, which may be an error of the server; of many commands the list of replies.
    pub(crate) value: Value,
    /// The server's time by estimate, ms.
    pub(crate) now_ms: u64,
    sent: Timestamp,
    wire: Arc<Wire>,
}

impl Answer {
    /// Which connection it came by: another number than any other of this backend.
    pub(crate) fn connection(&self) -> u64 {
        self.wire.number
    }

    /// The era of the server that gave it.
    pub(crate) fn era(&self) -> Era {
        self.wire.era
    }

    /// The replies to many commands, in their order.
    pub(crate) fn into_list(self) -> Result<Vec<Value>, Fault> {
        match self.value {
            Value::Array(values) => Ok(values),
            _ => Err(Fault::Garbled("a pipeline answered no list")),
        }
    }
}

/// Whether a command may be sent a second time when the connection breaks under it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Doing it twice is the same as doing it once.
    Once,
    /// It may have happened, and must not happen twice.
    Never,
}

impl Link {
    pub(crate) fn new(setup: Setup) -> Self {
        Self { setup, state: Mutex::new(State::Down(Down::fresh())), connecting: tokio::sync::Mutex::new(()) }
    }

    /// Makes the connection, if there is none.
    pub(crate) async fn connect(&self) -> Result<(), Fault> {
        self.within_deadline(self.wire()).await.map(drop)
    }

    /// Sends `request` and gives the answer.
    pub(crate) async fn send(&self, request: Request<'_>, again: Again) -> Result<Answer, Fault> {
        self.within_deadline(self.exchange(request, again)).await
    }

    /// Runs `script` on `key`; makes the server learn it, if it does not know it.
    pub(crate) async fn run(
        &self,
        script: &Script,
        key: &[u8],
        arguments: &[Argument<'_>],
        again: Again,
    ) -> Result<Reply, Fault> {
        let command = |by| move |era| script.on(by, key, arguments, era);
        let run = async {
            match self.run_command(Request::OneIn(&command(By::Hash)), again).await {
                Err(Fault::NoScript) => self.run_command(Request::OneIn(&command(By::Text)), again).await,
                outcome => outcome,
            }
        };
        self.within_deadline(run).await
    }

    async fn run_command(&self, request: Request<'_>, again: Again) -> Result<Reply, Fault> {
        let answer = self.exchange(request, again).await?;
        let reply = Reply::read(answer.value, answer.wire.era)?;
        let received = self.setup.clock.now();
        answer.wire.time.observe(reply.now_ms, answer.sent, received);
        Ok(reply)
    }

    /// As [`Link::send`], with no deadline but the caller's.
    pub(crate) async fn exchange(&self, request: Request<'_>, again: Again) -> Result<Answer, Fault> {
        let wire = self.wire().await?;
        match self.exchange_over(wire, request).await {
            Err(Fault::Broken(_)) if again == Again::Once => Box::pin(self.exchange_again(request)).await,
            outcome => outcome,
        }
    }

    async fn exchange_again(&self, request: Request<'_>) -> Result<Answer, Fault> {
        let wire = self.wire().await?;
        self.exchange_over(wire, request).await
    }

    async fn exchange_over(&self, wire: Arc<Wire>, request: Request<'_>) -> Result<Answer, Fault> {
        let sent = self.setup.clock.now();
        let outcome = wire.ask(request).await;
        match &outcome {
            Err(Fault::Broken(_)) => wire.alive.store(false, Ordering::Release),
            _ => wire.heard(),
        }
        let value = outcome?;
        let now_ms = self.server_now(&wire).await?;
        Ok(Answer { value, now_ms, sent, wire })
    }

    /// The server's time by estimate; by asking, if the estimate is old.
    async fn server_now(&self, wire: &Wire) -> Result<u64, Fault> {
        let now = self.setup.clock.now();
        if !wire.time.is_due(now) {
            return Ok(wire.time.at(now));
        }
        Box::pin(self.ask_server_now(wire)).await
    }

    async fn ask_server_now(&self, wire: &Wire) -> Result<u64, Fault> {
        let (server_ms, sent, received) = ask_time(&mut wire.connection.clone(), &self.setup.clock).await?;
        wire.time.observe(server_ms, sent, received);
        Ok(wire.time.at(received))
    }

    /// Ends `work` at the deadline.
    pub(crate) async fn within_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let deadline = self.setup.deadline;
        let Ok(outcome) = timeout(deadline, work).await else {
            self.note_silence();
            return Err(Fault::Timeout(deadline));
        };
        outcome
    }

    /// The connection: the one there is, or a new one. What is rare is boxed, here as elsewhere in this
    /// file, so that the future of a command stays small.
    async fn wire(&self) -> Result<Arc<Wire>, Fault> {
        match self.look() {
            Look::Up(wire) if self.is_era_due(&wire) => Box::pin(self.look_at_era(wire)).await,
            Look::Up(wire) => Ok(wire),
            Look::Refused(fault) => Err(fault),
            Look::Untried => Box::pin(self.wait_or_make()).await,
            Look::Due(fault) => Box::pin(self.make_unless_another_does(fault)).await,
        }
    }

    /// Nobody knows yet whether it fails: waits for the one who tries, if there is one.
    async fn wait_or_make(&self) -> Result<Arc<Wire>, Fault> {
        let _connecting = self.connecting.lock().await;
        self.make_if_still_needed().await
    }

    async fn make_unless_another_does(&self, fault: Fault) -> Result<Arc<Wire>, Fault> {
        let _connecting = self.connecting.try_lock().map_err(|_| fault)?;
        self.make_if_still_needed().await
    }

    async fn make_if_still_needed(&self) -> Result<Arc<Wire>, Fault> {
        match self.look() {
            Look::Up(wire) => Ok(wire),
            Look::Refused(fault) => Err(fault),
            Look::Untried | Look::Due(_) => self.make().await,
        }
    }

    /// Whether somebody should look at the era before `wire` is used. True for one caller only.
    fn is_era_due(&self, wire: &Wire) -> bool {
        if !self.setup.incarnation.is_strict() {
            return false;
        }
        let (now, read_at) = (self.setup.clock.now().as_millis(), &wire.era_read_at_ms);
        let read = read_at.load(Ordering::Relaxed);
        now > read.saturating_add(ERA_TRUSTED_MS)
            && read_at.compare_exchange(read, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// `wire`, if its server is still in the era in which it was met, else a new one.
    async fn look_at_era(&self, wire: Arc<Wire>) -> Result<Arc<Wire>, Fault> {
        if self.setup.incarnation.is_still(wire.era, &mut wire.connection.clone()).await {
            return Ok(wire);
        }
        wire.alive.store(false, Ordering::Release);
        self.wait_or_make().await
    }

    fn look(&self) -> Look {
        let mut state = self.lock();
        if let State::Up(wire) = &*state {
            if wire.alive.load(Ordering::Acquire) {
                return Look::Up(wire.clone());
            }
            *state = State::Down(Down::fresh());
        }
        match &*state {
            State::Down(down)
                if down.failures > 0 && down.made == self.setup.made.load(Ordering::Relaxed) =>
            {
                let retry_in = down.retry_at.since(self.setup.clock.now());
                let fault = Fault::Down { cause: down.cause.clone(), retry_in };
                if retry_in.is_zero() { Look::Due(fault) } else { Look::Refused(fault) }
            }
            _ => Look::Untried,
        }
    }

    /// Makes a connection and notes how that went. Only under `connecting`.
    async fn make(&self) -> Result<Arc<Wire>, Fault> {
        let attempt = Attempt { link: self, began: self.setup.clock.now(), ended: false };
        match Wire::open(&self.setup).await {
            Ok(wire) => Ok(attempt.succeeded(wire)),
            Err(fault) => Err(attempt.failed(fault)),
        }
    }

    fn note_failure(&self, cause: String) -> Duration {
        let mut state = self.lock();
        let failures = match &*state {
            State::Down(down) => down.failures.saturating_add(1),
            State::Up(_) => 1,
        };
        let pause = pause(failures, &self.setup.entropy);
        let retry_at = self.setup.clock.now() + pause;
        let made = self.setup.made.load(Ordering::Relaxed);
        *state = State::Down(Down { failures, retry_at, cause, made });
        pause
    }

    /// Gives up a connection that has been silent for too long: its other end may be gone without a word.
    fn note_silence(&self) {
        let now = self.setup.clock.now();
        let mut state = self.lock();
        if let State::Up(wire) = &*state
            && wire.is_given_up(now, self.setup.deadline * SILENT_DEADLINES)
        {
            *state = State::Down(Down::fresh());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Look {
    Up(Arc<Wire>),
    /// Not connected, and no attempt is known to have failed.
    Untried,
    /// The last attempt failed, and it is time for another.
    Due(Fault),
    /// The last attempt failed a moment ago.
    Refused(Fault),
}

/// An attempt to connect. One that is dropped because the deadline came is a failed one.
struct Attempt<'a> {
    link: &'a Link,
    began: Timestamp,
    ended: bool,
}

impl Attempt<'_> {
    fn succeeded(mut self, mut wire: Wire) -> Arc<Wire> {
        self.ended = true;
        wire.number = self.link.setup.made.fetch_add(1, Ordering::Relaxed);
        let wire = Arc::new(wire);
        *self.link.lock() = State::Up(wire.clone());
        wire
    }

    fn failed(mut self, fault: Fault) -> Fault {
        self.ended = true;
        let cause = match &fault {
            Fault::Broken(cause) | Fault::Refused { text: cause, .. } => cause.clone(),
            _ => String::from("the server's answer makes no sense"),
        };
        let retry_in = self.link.note_failure(cause.clone());
        match fault {
            Fault::Broken(_) => Fault::Down { cause, retry_in },
            fault => fault,
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        // A caller who merely lost interest says nothing about the server.
        let took = self.link.setup.clock.now().since(self.began);
        if !self.ended && took >= self.link.setup.deadline.mul_f64(0.9) {
            self.link.note_failure(String::from("the server does not answer"));
        }
    }
}

impl Wire {
    async fn open(setup: &Setup) -> Result<Self, Fault> {
        let alive = Arc::new(AtomicBool::new(true));
        let mut config = AsyncConnectionConfig::new()
            // The deadline is ours, and covers both.
            .set_connection_timeout(None)
            .set_response_timeout(None);
        if setup.resp3 {
            let alive = alive.clone();
            config = config.set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    alive.store(false, Ordering::Release);
                }
                Ok::<_, std::convert::Infallible>(())
            });
        }
        let mut connection = setup.client.get_multiplexed_async_connection_with_config(&config).await?;
        let (server_ms, sent, received) = ask_time(&mut connection, &setup.clock).await?;
        let era = setup.incarnation.meet(&mut connection).await?;
        Ok(Self {
            connection,
            alive,
            era,
            era_read_at_ms: AtomicU64::new(received.as_millis()),
            asks: setup.asks,
            time: ServerTime::new(server_ms, sent, received),
            number: 0,
            silent_since: AtomicU64::new(0),
        })
    }

    async fn ask(&self, request: Request<'_>) -> Result<Value, Fault> {
        match request {
            Request::One(command) => self.ask_one(command).await,
            Request::Many(pipeline) => self.ask_many(pipeline).await,
            Request::OneIn(command) => self.ask_one(&command(self.era)).await,
            Request::ManyIn(pipeline) => self.ask_many(&pipeline(self.era)).await,
        }
    }

    async fn ask_one(&self, command: &Cmd) -> Result<Value, Fault> {
        if self.asks {
            let mut pipeline = Pipeline::with_capacity(1);
            pipeline.add_command(command.clone());
            let Value::Array(mut values) = self.ask_many(&pipeline).await? else {
                return Err(Fault::Garbled("a pipeline answered no list"));
            };
            return values.pop().ok_or(Fault::Garbled("a pipeline answered nothing"));
        }
        Ok(self.connection.clone().send_packed_command(command).await?)
    }

    async fn ask_many(&self, pipeline: &Pipeline) -> Result<Value, Fault> {
        let mut connection = self.connection.clone();
        if !self.asks {
            return Ok(Value::Array(connection.send_packed_commands(pipeline, 0, pipeline.len()).await?));
        }
        let mut asking = Pipeline::with_capacity(pipeline.len() * 2);
        for command in pipeline.cmd_iter() {
            asking.cmd("ASKING").add_command(command.clone());
        }
        let replies = connection.send_packed_commands(&asking, 0, asking.len()).await?;
        Ok(Value::Array(replies.into_iter().skip(1).step_by(2).collect()))
    }

    fn heard(&self) {
        if self.silent_since.load(Ordering::Relaxed) != 0 {
            self.silent_since.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a timeout at `now`. Whether nothing was heard for `patience` since the first one.
    fn is_given_up(&self, now: Timestamp, patience: Duration) -> bool {
        match self.silent_since.load(Ordering::Relaxed) {
            0 => {
                self.silent_since.store(now.as_millis().max(1), Ordering::Relaxed);
                false
            }
            since => now.since(Timestamp::from_millis(since)) >= patience,
        }
    }
}

/// The server's time, ms, and when by our clock it was asked and answered.
async fn ask_time(
    connection: &mut MultiplexedConnection,
    clock: &Clock,
) -> redis::RedisResult<(u64, Timestamp, Timestamp)> {
    let sent = clock.now();
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
    Ok((seconds.saturating_mul(1000).saturating_add(micros / 1000), sent, clock.now()))
}

/// The pause after so many failures in a row: doubling, capped, spread over its upper half.
pub(crate) fn pause(failures: u32, entropy: &Entropy) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_PAUSE).mul_f64(0.5 + 0.5 * entropy.draw_unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_cap_and_is_spread() {
        let entropy = Entropy::seeded(1);
        for failures in 1..100 {
            let whole = FIRST_PAUSE * 2u32.pow((failures - 1).min(10));
            let whole = whole.min(LONGEST_PAUSE);
            let drawn: Vec<Duration> = (0..100).map(|_| pause(failures, &entropy)).collect();
            assert!(drawn.iter().all(|pause| *pause >= whole / 2 && *pause <= whole), "{failures}");
            assert!(drawn.iter().any(|pause| *pause != drawn[0]), "{failures}");
        }
    }
}
