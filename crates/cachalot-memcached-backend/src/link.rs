//! A connection that is made when needed, and made again when lost.
//!
//! The command that finds no connection makes one; if that fails, commands are refused at once until a pause has passed,
//! and the next one after it tries again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cachalot_core::{Clock, Entropy, Timestamp};

use crate::codec::Parser;
use crate::fault::Fault;
use crate::meeting::{Incarnation, Meeting};
use crate::stream::{Address, Stream};
use crate::wire::Wire;

/// The pause after the first failed attempt to connect; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Room for what a value has beside its payload.
const HEADROOM: usize = 1 << 10;

/// What all connections of a backend share.
pub(crate) struct Setup {
    pub(crate) address: Address,
    pub(crate) deadline: Duration,
    pub(crate) longest_payload: usize,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    /// How often any of the connections was made: when one can be had again, all can.
    pub(crate) made: AtomicU64,
    pub(crate) incarnation: Incarnation,
}

/// One connection, or the want of one.
pub(crate) struct Link {
    setup: Arc<Setup>,
    state: Mutex<State>,
    /// Held by the one that connects.
    connecting: tokio::sync::Mutex<()>,
}

enum State {
    /// And how often it was tried in vain before.
    Up(Arc<Wire>, u32),
    Untried,
    Down(Down),
}

struct Down {
    failures: u32,
    retry_at: Timestamp,
    cause: String,
    /// [`Setup::made`] at the last failure.
    made: u64,
}

enum Look {
    Up(Arc<Wire>),
    /// No attempt is known to have failed.
    Untried,
    /// The last attempt failed, and it is time for another.
    Due(Fault),
    /// The last attempt failed a moment ago.
    Refused(Fault),
}

impl Link {
    pub(crate) fn new(setup: Arc<Setup>) -> Self {
        Self { setup, state: Mutex::new(State::Untried), connecting: tokio::sync::Mutex::new(()) }
    }

    /// The connection: the one there is, or a new one.
    pub(crate) async fn wire(&self) -> Result<Arc<Wire>, Fault> {
        match self.look() {
            Look::Up(wire) => Ok(wire),
            Look::Refused(fault) => Err(fault),
            // What is rare is boxed, so that the future of a command stays small.
            Look::Untried => Box::pin(self.wait_or_make()).await,
            Look::Due(fault) => Box::pin(self.make_unless_another_does(fault)).await,
        }
    }

    /// Whether more reads had better use it than another connection.
    pub(crate) fn has_room(&self) -> bool {
        match &*self.lock() {
            State::Up(wire, _) => wire.has_room(),
            State::Untried => true,
            State::Down(_) => false,
        }
    }

    /// The connection, if there is one.
    pub(crate) fn standing(&self) -> Option<Arc<Wire>> {
        match &*self.lock() {
            State::Up(wire, _) if wire.is_alive() => Some(wire.clone()),
            _ => None,
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

    fn look(&self) -> Look {
        let mut state = self.lock();
        match &*state {
            State::Up(wire, _) if wire.is_alive() => return Look::Up(wire.clone()),
            State::Up(wire, failures) => match wire.soured_young() {
                // Whatever makes it refuse will most likely do so again.
                Some(cause) => {
                    let down = self.down(failures.saturating_add(1), cause);
                    let retry_in = down.retry_at.since(self.setup.clock.now());
                    let fault = Fault::Down { cause: down.cause.clone(), retry_in };
                    *state = State::Down(down);
                    return Look::Refused(fault);
                }
                None => *state = State::Untried,
            },
            State::Down(down) if down.made == self.setup.made.load(Ordering::Relaxed) => {
                let retry_in = down.retry_at.since(self.setup.clock.now());
                let fault = Fault::Down { cause: down.cause.clone(), retry_in };
                return if retry_in.is_zero() { Look::Due(fault) } else { Look::Refused(fault) };
            }
            State::Untried | State::Down(_) => {}
        }
        Look::Untried
    }

    /// Makes a connection and notes how that went. Only under `connecting`.
    async fn make(&self) -> Result<Arc<Wire>, Fault> {
        let attempt = Attempt { link: self, began: self.setup.clock.now(), ended: false };
        match open(&self.setup).await {
            Ok(wire) => Ok(attempt.succeeded(wire)),
            Err(fault) => Err(attempt.failed(fault)),
        }
    }

    fn note_failure(&self, cause: String) -> Duration {
        let mut state = self.lock();
        let failures = match &*state {
            State::Down(down) => down.failures.saturating_add(1),
            _ => 1,
        };
        let down = self.down(failures, cause);
        let pause = down.retry_at.since(self.setup.clock.now());
        *state = State::Down(down);
        pause
    }

    fn down(&self, failures: u32, cause: String) -> Down {
        let retry_at = self.setup.clock.now() + pause(failures, &self.setup.entropy);
        Down { failures, retry_at, cause, made: self.setup.made.load(Ordering::Relaxed) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open(setup: &Setup) -> Result<Arc<Wire>, Fault> {
    let broken = |error: std::io::Error| Fault::Broken(error.to_string());
    let stream = Stream::connect(&setup.address).await.map_err(broken)?;
    let mut parser = Parser::new(0);
    let meeting = Meeting::hold(&stream, &mut parser, setup.longest_payload).await?;
    // Others may have put longer ones than we may.
    parser.allow(meeting.longest_item.saturating_add(HEADROOM));
    let start = |run| Wire::start(stream, parser, meeting.clone(), setup, run);
    let wire = setup.incarnation.admit(meeting.identity, start);
    setup.made.fetch_add(1, Ordering::Relaxed);
    Ok(wire)
}

/// An attempt to connect. One that is dropped because the deadline came is a failed one.
struct Attempt<'a> {
    link: &'a Link,
    began: Timestamp,
    ended: bool,
}

impl Attempt<'_> {
    fn succeeded(mut self, wire: Arc<Wire>) -> Arc<Wire> {
        self.ended = true;
        let mut state = self.link.lock();
        let failures = match &*state {
            State::Down(down) => down.failures,
            _ => 0,
        };
        *state = State::Up(wire.clone(), failures);
        wire
    }

    fn failed(mut self, fault: Fault) -> Fault {
        self.ended = true;
        let cause = fault.cause();
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

/// The pause after so many failures in a row: doubling, capped, spread over its upper half.
fn pause(failures: u32, entropy: &Entropy) -> Duration {
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
            let whole = (FIRST_PAUSE * 2u32.pow((failures - 1).min(10))).min(LONGEST_PAUSE);
            let drawn: Vec<Duration> = (0..100).map(|_| pause(failures, &entropy)).collect();
            assert!(drawn.iter().all(|pause| *pause >= whole / 2 && *pause <= whole), "{failures}");
            assert!(drawn.iter().any(|pause| *pause != drawn[0]), "{failures}");
        }
    }
}
