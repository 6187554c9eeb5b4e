//! One load of one key: through the shared tier to the loader and back.

use std::future::poll_fn;
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use cachalot_core::{
    BoxFuture, EntryOptions, Error, ErrorKind, Event, Fence, Key, LoadError, LoadOutcome, LoaderError, Store,
    Token, mutant,
};
use cachalot_stampede::{Failure, Lead, guard, loading};
use tokio::time::sleep;

use crate::cached::Found;
use crate::engine::{Engine, OnDeserted, Times};
use crate::load::{Wished, Wishes};
use crate::shared::Shared;
use crate::tags::Captured;

mod ask;
pub(crate) use ask::{Asked, Considered, Patience, REFUSALS, Tried, until_free};
mod keep;

/// What came of running a loader.
type Ran<V> = std::result::Result<std::result::Result<Option<V>, LoaderError>, Failure>;

/// What a flight lands, for each of its participants.
pub(crate) type Outcome<V> = std::result::Result<Found<V>, Failed<V>>;

/// A failed load, with the stale value that was found on the way.
pub(crate) struct Failed<V> {
    pub(crate) error: LoadError,
    pub(crate) stale: Option<Found<V>>,
}

impl<V> Clone for Failed<V> {
    fn clone(&self) -> Self {
        Self { error: self.error.clone(), stale: self.stale.clone() }
    }
}

pub(crate) type LoadFuture<V> = BoxFuture<'static, std::result::Result<Option<V>, LoaderError>>;

/// Whether a negative entry answers the question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Value,
    ValueOrAbsence,
}

impl Wanted {
    pub(crate) fn accepts<V>(self, found: &Found<V>) -> bool {
        self.takes(found.is_negative())
    }

    pub(crate) fn takes(self, is_negative: bool) -> bool {
        self == Self::ValueOrAbsence || !is_negative
    }
}

pub(crate) struct Flight<K, V, S> {
    pub(crate) engine: Arc<Engine<K, V, S>>,
    pub(crate) lead: Lead<K, Outcome<V>>,
    /// Granted before the first read of any tier.
    pub(crate) fence: Fence,
    /// The count of invalidations then.
    pub(crate) began: u64,
    pub(crate) options: EntryOptions,
    pub(crate) wanted: Wanted,
    purpose: Purpose,
    /// For how long it asks for a lease, if not as long as the cache says.
    term: OnceLock<Duration>,
    /// In a refresh, the value in memory that is to be replaced. Read when the flight was open: were it removed
    /// since, who comes later would not join.
    current: Option<Found<V>>,
}

/// What a flight is for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Purpose {
    /// To answer callers that have nothing.
    Answer,
    /// To replace a value that is stale and may serve meanwhile.
    Renew,
    /// To replace a value that is fresh, by one that is not about to expire.
    Refresh,
    /// To replace a value of which this share of its life has gone, whatever the cache itself refreshes early. Nobody
    /// need wait for it.
    Ahead(f64),
}

/// The loader's future, not yet run, and where it leaves its wishes.
pub(crate) struct Loader<V> {
    pub(crate) load: LoadFuture<V>,
    pub(crate) wishes: Wishes,
}

/// What may be stored once the load has ended.
pub(crate) enum Right {
    /// Only in memory, under the fence: there is no shared tier to ask, or it did not answer. A lease may
    /// have been granted without our knowing.
    Memory { ghost: Option<Token> },
    /// In the shared tier under this token, then in memory.
    Lease(Token),
    /// Nowhere: an invalidation is still to be replayed, or somebody else is writing.
    Nothing,
}

impl Right {
    /// The token to give back if nothing is stored under it.
    pub(crate) fn token(&self) -> Option<Token> {
        match *self {
            Self::Lease(token) => Some(token),
            Self::Memory { ghost } => ghost,
            Self::Nothing => None,
        }
    }
}

/// What the loader gave for one key.
pub(crate) struct Loaded<V> {
    pub(crate) result: std::result::Result<Option<V>, LoadError>,
    /// What it asked for.
    pub(crate) wishes: Wished,
    /// What was read of its tags before.
    pub(crate) captured: Captured,
    pub(crate) took: Duration,
}

impl<K, V, S> Flight<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// A flight that is about to start. Takes the fence.
    pub(crate) fn new(
        engine: Arc<Engine<K, V, S>>,
        lead: Lead<K, Outcome<V>>,
        options: EntryOptions,
        wanted: Wanted,
        purpose: Purpose,
    ) -> Self {
        let (began, fence) = (engine.seen.count(), engine.store.begin(lead.key()));
        Self { engine, lead, fence, began, options, wanted, purpose, term: OnceLock::new(), current: None }
    }

    pub(crate) async fn run(self, loader: Loader<V>) {
        let Some(this) = self.land_from_memory() else { return };
        this.run_below(loader).await;
    }

    /// Lands what memory has by now: another flight may have landed between the caller's look and its join.
    pub(crate) fn land_from_memory(mut self) -> Option<Self> {
        let found = self.engine.fresh_in_memory(self.lead.key()).filter(|found| self.wanted.accepts(found));
        match found {
            Some(found) if !self.is_to_be_replaced(&found) => {
                self.lead.land(Ok(found));
                None
            }
            found => {
                self.current = found;
                Some(self)
            }
        }
    }

    async fn run_below(self, loader: Loader<V>) {
        let engine = self.engine.clone();
        let key = self.lead.key().clone();
        let Some((shared, shared_key)) = engine.shared_key(&key) else {
            return self.load(loader, None, Right::Memory { ghost: None }, None).await;
        };
        if engine.is_pending(&shared_key) {
            return self.load(loader, None, Right::Nothing, None).await;
        }
        let mut stale = None;
        match self.ask(shared, &shared_key, &mut stale).await {
            Asked::Found(found) => {
                let late = mutant!(FencesAFlightLate).then(|| engine.store.begin(&key));
                engine.fill_memory(late.unwrap_or(self.fence), key.clone(), &found);
                self.lead.land(Ok(found.clone()));
                if engine.is_due(&key, &found.entry.meta, found.at) {
                    engine.refresh_found(&key, self.options, self.wanted, loader);
                }
            }
            Asked::Stale(found) => self.lead.land(Ok(found)),
            Asked::MayLoad(right) => self.load(loader, Some((shared, shared_key)), right, stale).await,
        }
    }

    /// Whether its callers have nothing but it.
    pub(crate) fn answers_callers(&self) -> bool {
        self.purpose == Purpose::Answer
    }

    /// The value that is being refreshed, if it is still good.
    pub(crate) fn still_fresh(&self) -> Option<Found<V>> {
        let now = self.engine.clock.now();
        self.current.clone().filter(|found| now < found.entry.meta.soft_expiry())
    }

    /// Whether this flight is so old that another took the key over: it seemed to hang, and now it comes back.
    fn was_overtaken(&self) -> bool {
        let age = self.engine.clock.now().since(self.lead.opened());
        let is_old = age > self.engine.times.overtaken_after && !mutant!(StoresWhatWasOvertaken);
        is_old && self.lead.is_void()
    }

    /// Runs the loader, stores what it gives as far as `right` reaches, and lands.
    async fn load(
        self,
        Loader { load, wishes }: Loader<V>,
        shared: Option<(&Shared<K, V>, Key)>,
        right: Right,
        stale: Option<Found<V>>,
    ) {
        let engine = self.engine.clone();
        if let (Right::Nothing, Some(found)) = (&right, self.still_fresh()) {
            return self.lead.land(Ok(found));
        }
        // Before the load: what it reads is then not older than what is read of its tags.
        let captured = match (&right, &shared) {
            (Right::Lease(_), Some((shared, _))) => engine.capture(shared, &self.options.tags).await,
            _ => Captured::default(),
        };
        let started = engine.clock.monotonic();
        let ran = self.run_loader(load, stale.is_some()).await;
        let took = engine.clock.monotonic().saturating_sub(started);
        let Some(result) = ran else {
            engine.emit(&Event::Load { outcome: LoadOutcome::Cancelled, took });
            drop(self);
            if let (Some(token), Some((shared, key))) = (right.token(), &shared)
                && !mutant!(KeepsTheLeaseOfTheDeserted)
            {
                engine.release(shared, key, token).await;
            }
            return;
        };
        let loaded = Loaded { result: engine.loaded(result, took), wishes: wishes.taken(), captured, took };
        self.settle(loaded, shared, right, stale).await;
    }

    /// Runs the loader to its end, at most for the flight's age. After the hard timeout its callers are sent
    /// away. `None`: it was dropped because nobody waits any more.
    async fn run_loader(&self, load: LoadFuture<V>, at_hand: bool) -> Option<Ran<V>> {
        let times = &self.engine.times;
        let run = pin!(loading(self.lead.id(), guard(load, times.max_flight_age)));
        let give_up = times.on_deserted == OnDeserted::Cancel && self.purpose == Purpose::Answer && !at_hand;
        let deserted = give_up.then(|| Box::pin(self.lead.deserted()));
        times.watch(run, deserted, |error| self.lead.offer(Err(Failed { error, stale: None }))).await
    }
}

impl Times {
    /// Runs a loader to its end. Once the hard timeout is over, those who wait are to be `sent_away`. `None`: it
    /// was `deserted`, and is to be dropped.
    pub(crate) async fn watch<T>(
        &self,
        mut run: Pin<&mut impl Future<Output = T>>,
        mut deserted: Option<Pin<Box<impl Future<Output = ()>>>>,
        sent_away: impl Fn(LoadError),
    ) -> Option<T> {
        let mut overdue =
            (self.hard_timeout < self.max_flight_age).then(|| Box::pin(sleep(self.hard_timeout)));
        poll_fn(|cx| {
            if deserted.as_mut().is_some_and(|deserted| deserted.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(None);
            }
            if let Poll::Ready(ran) = run.as_mut().poll(cx) {
                return Poll::Ready(Some(ran));
            }
            if overdue.as_mut().is_some_and(|overdue| overdue.as_mut().poll(cx).is_ready()) {
                overdue = None;
                sent_away(failure(Failure::Timeout, self.hard_timeout));
            }
            Poll::Pending
        })
        .await
    }
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// What a run of the loader gave, counted.
    pub(crate) fn loaded<T>(
        &self,
        result: std::result::Result<std::result::Result<T, LoaderError>, Failure>,
        took: Duration,
    ) -> std::result::Result<T, LoadError> {
        let (outcome, result) = match result {
            Ok(Ok(value)) => (LoadOutcome::Ok, Ok(value)),
            Ok(Err(error)) => (LoadOutcome::Error, Err(LoadError::Loader(error))),
            Err(why) => {
                let outcome = match why {
                    Failure::Timeout => LoadOutcome::Timeout,
                    Failure::Panicked(_) => LoadOutcome::Panicked,
                };
                (outcome, Err(failure(why, self.times.max_flight_age)))
            }
        };
        self.emit(&Event::Load { outcome, took });
        result
    }
}

/// A failure of the loader's run in the cache's words.
pub(crate) fn failure(failure: Failure, hard_timeout: Duration) -> LoadError {
    let (kind, detail) = match failure {
        Failure::Timeout => (ErrorKind::Timeout, format!("timeout after {hard_timeout:?}")),
        Failure::Panicked(message) => (ErrorKind::Panicked, format!("the loader panicked: {message}")),
    };
    Error::new(kind, "load").detail(detail).into()
}
