//! The flights of one call that loads many keys.
//!
//! All are open before this begins. One read of the shared tier answers what it can. What is missing goes to
//! loader calls, chunk by chunk: a chunk first asks for its leases, loads what it got at once, and only then
//! waits for those that others hold. So no lease ever waits for another one, and calls that overlap, here or
//! in other processes, cannot block each other.

use std::future::poll_fn;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cachalot_core::{
    EntryOptions, Event, Key, LeaseBackend, LoadError, LoadOutcome, LoaderError, Nonce, Record, Result,
    Store, Token,
};
use cachalot_stampede::{Failure, guard, loading_all};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::AT_ONCE;
use super::load::{Answers, LoadMany, ManyFuture, ManyLoader, Unanswered};
use super::pipeline::pipelined;
use crate::cached::Found;
use crate::engine::{Engine, OnDeserted, Task};
use crate::flight::{
    Asked, Failed, Flight, Loaded, Patience, REFUSALS, Right, Tried, Wanted, failure, until_free,
};
use crate::shared::Shared;

/// One call that loads many keys.
pub(super) struct Batch<K, V, S> {
    pub(super) engine: Arc<Engine<K, V, S>>,
    pub(super) options: EntryOptions,
    pub(super) wanted: Wanted,
    load: ManyLoader<K, V>,
    /// One for each loader call at a time.
    permits: Arc<Semaphore>,
}

/// A key that is to be loaded.
struct Ready<K, V, S> {
    flight: Flight<K, V, S>,
    right: Right,
    stale: Option<Found<V>>,
}

/// A key whose lease is to be asked for.
struct Contender<K, V, S> {
    flight: Flight<K, V, S>,
    key: Key,
    token: Token,
    refuse: Option<Nonce>,
    refusals: usize,
    stale: Option<Found<V>>,
}

/// What became of a key.
enum Next<K, V, S> {
    /// It has landed.
    Done,
    Load(Ready<K, V, S>),
    Contend(Contender<K, V, S>),
    /// Somebody else has the right: to be asked again after this at the latest.
    Busy(Contender<K, V, S>, Duration),
}

/// What came of running a loader. `None`: it was dropped because nobody waits any more.
type Ran<K, V> = Option<Result<Result<Answers<K, V>, LoaderError>, Failure>>;

impl<K, V, S> Batch<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    pub(super) fn new(
        engine: Arc<Engine<K, V, S>>,
        options: EntryOptions,
        wanted: Wanted,
        load: ManyLoader<K, V>,
    ) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(engine.batch.concurrency));
        Arc::new(Self { engine, options, wanted, load, permits })
    }

    /// Brings `flights` to their ends, in tasks of their own.
    pub(super) fn take_off(self: &Arc<Self>, task: Task, flights: Vec<Flight<K, V, S>>) {
        self.engine.detach(task, self.clone().run(flights));
    }

    async fn run(self: Arc<Self>, flights: Vec<Flight<K, V, S>>) {
        let flights = flights.into_iter().filter_map(Flight::land_from_memory).collect();
        let mut open = self.look_below(flights).await.into_iter().peekable();
        while open.peek().is_some() {
            let chunk = open.by_ref().take(self.engine.batch.size).collect();
            self.engine.detach(self.engine.tasks.begin(), self.clone().run_chunk(chunk));
        }
    }

    /// Lands what the shared tier has, by one read. What is left must be loaded.
    async fn look_below(&self, flights: Vec<Flight<K, V, S>>) -> Vec<Next<K, V, S>> {
        let right = || Right::Memory { ghost: None };
        let Some(shared) = &self.engine.shared else {
            return flights.into_iter().map(|flight| Next::load(flight, right())).collect();
        };
        let mut open = Vec::with_capacity(flights.len());
        let mut asked = Vec::with_capacity(flights.len());
        for flight in flights {
            let key = shared.key(flight.lead.key());
            // An invalidation is yet to be replayed there.
            if self.engine.deferred.contains(&key) {
                open.push(Next::load(flight, Right::Nothing));
            } else {
                asked.push((flight, key));
            }
        }
        if asked.is_empty() {
            return open;
        }
        let keys: Vec<Key> = asked.iter().map(|(_, key)| key.clone()).collect();
        let mut records = shared.backend.get_many(&keys).await.into_iter();
        for (flight, key) in asked {
            let next = match records.next() {
                Some(Ok(record)) => self.guarded(|| self.judge(shared, flight, key, record)),
                Some(Err(error)) => {
                    self.engine.backend_failed(&error);
                    Next::load(flight, right())
                }
                None => Next::load(flight, right()),
            };
            if !matches!(next, Next::Done) {
                open.push(next);
            }
        }
        open
    }

    /// What `record` makes of its key.
    fn judge(
        &self,
        shared: &Shared<K, V>,
        flight: Flight<K, V, S>,
        key: Key,
        record: Option<Record>,
    ) -> Next<K, V, S> {
        let mut stale = None;
        let refuse = match record.map(|record| flight.first_answer(shared, &key, &record, &mut stale)) {
            Some(Ok(answer)) => return self.next(flight, answer, stale),
            Some(Err(nonce)) => Some(nonce),
            None => None,
        };
        if shared.backend.leases().is_none() {
            return Next::Load(Ready { flight, right: Right::Memory { ghost: None }, stale });
        }
        let token = Token::draw(&self.engine.entropy);
        Next::Contend(Contender { flight, key, token, refuse, refusals: 0, stale })
    }

    fn next(&self, flight: Flight<K, V, S>, answer: Asked<V>, stale: Option<Found<V>>) -> Next<K, V, S> {
        match answer {
            Asked::Found(found) => {
                self.engine.fill_memory(flight.fence, flight.lead.key().clone(), &found);
                flight.lead.land(Ok(found));
                Next::Done
            }
            Asked::Stale(found) => {
                flight.lead.land(Ok(found));
                Next::Done
            }
            Asked::MayLoad(right) => Next::Load(Ready { flight, right, stale }),
        }
    }

    /// Gets the leases of a chunk, round by round, and has loaded what each round allows.
    async fn run_chunk(self: Arc<Self>, chunk: Vec<Next<K, V, S>>) {
        let mut open = chunk;
        let mut patience = Patience::new();
        loop {
            // Before the leases: none runs out while its load waits for its turn.
            let Ok(permit) = self.permits.clone().acquire_owned().await else { return };
            let round = self.contend(open, &patience).await;
            if !round.ready.is_empty() {
                self.engine.detach(self.engine.tasks.begin(), self.clone().load(round.ready, permit));
            }
            if round.busy.is_empty() {
                return;
            }
            patience.wait(&self.engine, round.ask_again).await;
            open = round.busy;
        }
    }

    /// Asks once for the leases of all of `open` that need one.
    async fn contend(&self, open: Vec<Next<K, V, S>>, patience: &Patience) -> Round<K, V, S> {
        let leases = self.engine.shared.as_ref().and_then(|shared| Some((shared, shared.backend.leases()?)));
        let tries = open.into_iter().map(|next| async move {
            match (next, leases) {
                (Next::Contend(contender) | Next::Busy(contender, _), Some((shared, leases))) => {
                    let attempt = Box::pin(self.try_lease(leases, shared, contender, patience));
                    self.unless_panicked(guard(attempt, Duration::MAX).await)
                }
                (next, _) => next,
            }
        });
        let mut round = Round { ready: Vec::new(), busy: Vec::new(), ask_again: Duration::MAX };
        for next in pipelined(AT_ONCE, tries).await {
            match next {
                Next::Done => {}
                Next::Load(Ready { flight, right, stale }) => match (&right, flight.still_fresh()) {
                    // A refresh that could not store anything can wait.
                    (Right::Nothing, Some(found)) => flight.lead.land(Ok(found)),
                    _ => round.ready.push(Ready { flight, right, stale }),
                },
                Next::Busy(contender, at_most) => {
                    round.ask_again = round.ask_again.min(at_most);
                    round.busy.push(Next::Contend(contender));
                }
                // There are no leases after all.
                Next::Contend(Contender { flight, stale, .. }) => {
                    round.ready.push(Ready { flight, right: Right::Memory { ghost: None }, stale });
                }
            }
        }
        round
    }

    async fn try_lease(
        &self,
        leases: &dyn LeaseBackend,
        shared: &Shared<K, V>,
        mut contender: Contender<K, V, S>,
        patience: &Patience,
    ) -> Next<K, V, S> {
        loop {
            let Contender { flight, key, token, refuse, stale, .. } = &mut contender;
            match flight.try_lease(leases, shared, key, *token, *refuse, stale).await {
                Tried::Answered(answer) => return self.next(contender.flight, answer, contender.stale),
                Tried::Refused(nonce) => {
                    *refuse = Some(nonce);
                    contender.refusals += 1;
                    if contender.refusals == REFUSALS {
                        return Next::load(contender.flight, Right::Nothing);
                    }
                }
                Tried::Busy { holder, remaining } => {
                    if let Some(found) = flight.still_fresh() {
                        return self.next(contender.flight, Asked::Stale(found), None);
                    }
                    let left = patience.left(&self.engine, holder);
                    if left.is_zero() {
                        return Next::load(contender.flight, Right::Nothing);
                    }
                    return Next::Busy(contender, left.min(until_free(remaining)));
                }
            }
        }
    }

    /// Runs the loader for `ready`, stores and lands what it gives, key by key.
    async fn load(self: Arc<Self>, ready: Vec<Ready<K, V, S>>, permit: OwnedSemaphorePermit) {
        let engine = &self.engine;
        let handle = LoadMany::new(ready.iter().map(|ready| ready.flight.lead.key().clone()).collect());
        let wishes = handle.wishes();
        let load = self.load.clone();
        let started = engine.clock.monotonic();
        // The closure is called inside: its panic is the load's.
        let ran = self.run_loader(Box::pin(async move { load(handle).await }), &ready).await;
        let took = engine.clock.monotonic().saturating_sub(started);
        drop(permit);
        let Some(result) = ran else {
            engine.emit(&Event::Load { outcome: LoadOutcome::Cancelled, took });
            return self.give_back(ready).await;
        };
        let mut answers = engine.loaded(result, took);
        let settled = ready.into_iter().map(|Ready { flight, right, stale }| {
            let key = flight.lead.key();
            let result = answer_for(&mut answers, key);
            let loaded = Loaded { result, ttl: wishes.ttl(key), took };
            let shared = engine.shared_key(key);
            let settle = Box::pin(flight.settle(loaded, shared, right, stale));
            async move {
                if guard(settle, Duration::MAX).await.is_err() {
                    engine.emit(&Event::TaskPanicked);
                }
            }
        });
        pipelined(AT_ONCE, settled).await;
    }

    /// As for a single flight: the loader runs at most for the flight's age, and after the hard timeout its
    /// callers are sent away.
    async fn run_loader(&self, load: ManyFuture<K, V>, ready: &[Ready<K, V, S>]) -> Ran<K, V> {
        let times = &self.engine.times;
        let flights = ready.iter().map(|ready| ready.flight.lead.id());
        let mut run = pin!(loading_all(flights, guard(load, times.max_flight_age)));
        let replaces = ready.iter().any(|ready| ready.stale.is_some() || !ready.flight.answers_callers());
        let give_up = times.on_deserted == OnDeserted::Cancel && !replaces;
        let mut deserted = give_up.then(|| {
            Box::pin(async {
                for ready in ready {
                    ready.flight.lead.deserted().await;
                }
            })
        });
        let mut overdue =
            (times.hard_timeout < times.max_flight_age).then(|| Box::pin(sleep(times.hard_timeout)));
        poll_fn(|cx| {
            if deserted.as_mut().is_some_and(|deserted| deserted.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(None);
            }
            if let Poll::Ready(ran) = run.as_mut().poll(cx) {
                return Poll::Ready(Some(ran));
            }
            if overdue.as_mut().is_some_and(|overdue| overdue.as_mut().poll(cx).is_ready()) {
                overdue = None;
                let error = failure(Failure::Timeout, times.hard_timeout);
                for ready in ready {
                    ready.flight.lead.offer(Err(Failed { error: error.clone(), stale: None }));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Abandons flights that nobody waits for, and gives their leases back.
    async fn give_back(&self, ready: Vec<Ready<K, V, S>>) {
        let Some(shared) = &self.engine.shared else { return };
        let token = |Ready { flight, right, .. }: Ready<K, V, S>| {
            Some((shared.key(flight.lead.key()), right.token()?))
        };
        let tokens: Vec<(Key, Token)> = ready.into_iter().filter_map(token).collect();
        let released = tokens.into_iter().map(|(key, token)| async move {
            self.engine.release(shared, &key, token).await;
        });
        pipelined(AT_ONCE, released).await;
    }

    /// One key's step, whose panic is its own: it abandons that key's flight.
    fn guarded(&self, step: impl FnOnce() -> Next<K, V, S>) -> Next<K, V, S> {
        let stepped = catch_unwind(AssertUnwindSafe(step));
        self.unless_panicked(stepped.map_err(|panic| Failure::from_panic(&*panic)))
    }

    fn unless_panicked(&self, stepped: Result<Next<K, V, S>, Failure>) -> Next<K, V, S> {
        stepped.unwrap_or_else(|_| {
            self.engine.emit(&Event::TaskPanicked);
            Next::Done
        })
    }
}

impl<K, V, S> Next<K, V, S> {
    fn load(flight: Flight<K, V, S>, right: Right) -> Self {
        Self::Load(Ready { flight, right, stale: None })
    }
}

/// What came of asking once for the leases of a chunk.
struct Round<K, V, S> {
    ready: Vec<Ready<K, V, S>>,
    busy: Vec<Next<K, V, S>>,
    /// When to ask again for the busy ones, at the latest.
    ask_again: Duration,
}

/// What the loader said of `key`.
fn answer_for<K: Hash + Eq, V>(
    answers: &mut Result<Answers<K, V>, LoadError>,
    key: &K,
) -> Result<Option<V>, LoadError> {
    match answers {
        Ok(answers) => match answers.remove(key) {
            Some(answer) => answer.map_err(LoadError::Loader),
            None => Err(LoadError::Loader(Unanswered.into())),
        },
        Err(error) => Err(error.clone()),
    }
}
