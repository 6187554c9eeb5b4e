//! The flights of one call that loads many keys.
//!
//! All are open before this begins. One read of the shared tier answers what it can. What is missing goes to
//! loader calls, chunk by chunk: a chunk first asks for its leases, loads what it got at once, and only then
//! waits for those that others hold. So no lease ever waits for another one, and calls that overlap, here or
//! in other processes, cannot block each other.

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{EntryOptions, Event, Key, LeaseBackend, Nonce, Result, Store, Token, mutant};
use cachalot_stampede::{Failure, guard};
use tokio::sync::Semaphore;

use super::AT_ONCE;
use super::load::ManyLoader;
use super::pipeline::pipelined;
use crate::cached::Found;
use crate::early::Turn;
use crate::engine::{Engine, Task};
use crate::flight::{Asked, Flight, Patience, REFUSALS, Right, Tried, Wanted, until_free};
use crate::shared::Shared;
use crate::tags::Vetted;

/// One call that loads many keys.
pub(super) struct Batch<K, V, S> {
    pub(super) engine: Arc<Engine<K, V, S>>,
    pub(super) options: EntryOptions,
    pub(super) wanted: Wanted,
    pub(super) load: ManyLoader<K, V>,
    /// One for each loader call at a time.
    permits: Arc<Semaphore>,
}

/// A key that is to be loaded.
pub(super) struct Ready<K, V, S> {
    pub(super) flight: Flight<K, V, S>,
    pub(super) right: Right,
    pub(super) stale: Option<Found<V>>,
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
            if self.engine.is_pending(&key) {
                open.push(Next::load(flight, Right::Nothing));
            } else {
                asked.push((flight, key));
            }
        }
        if asked.is_empty() {
            return open;
        }
        let keys: Vec<Key> = asked.iter().map(|(_, key)| key.clone()).collect();
        let records = shared.backend.get_many(&keys).await;
        let mut records = self.engine.vet_many(shared, &keys, records).await.into_iter();
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
        record: Option<Vetted>,
    ) -> Next<K, V, S> {
        let mut stale = None;
        let nonce = record.as_ref().map(|vetted| vetted.record.nonce);
        let refuse = match record.map(|record| flight.first_answer(shared, &key, &record, &mut stale)) {
            Some(Ok(Asked::Found(found))) => return self.found(shared, flight, key, nonce, found),
            Some(Ok(answer)) => return self.next(flight, answer, stale),
            Some(Err(nonce)) => Some(nonce),
            None => None,
        };
        self.ask_for(shared, flight, key, refuse, stale)
    }

    /// Lands what was found; if it is near its end, its refresh is what is left to do.
    fn found(
        &self,
        shared: &Shared<K, V>,
        flight: Flight<K, V, S>,
        key: Key,
        nonce: Option<Nonce>,
        found: Found<V>,
    ) -> Next<K, V, S> {
        let engine = &self.engine;
        let typed = flight.lead.key().clone();
        let landed = self.next(flight, Asked::Found(found.clone()), None);
        if !engine.is_due(&typed, &found.entry.meta, found.at) {
            return landed;
        }
        let Some(Turn { lead, purpose, .. }) = engine.lead_refresh(&typed, self.wanted) else {
            return landed;
        };
        let refresh = Flight::new(engine.clone(), lead, self.options.clone(), self.wanted, purpose);
        match refresh.land_from_memory() {
            Some(refresh) => self.ask_for(shared, refresh, key, nonce, None),
            None => landed,
        }
    }

    /// A key whose value, but for the one to `refuse`, or lease is to be had.
    fn ask_for(
        &self,
        shared: &Shared<K, V>,
        flight: Flight<K, V, S>,
        key: Key,
        refuse: Option<Nonce>,
        stale: Option<Found<V>>,
    ) -> Next<K, V, S> {
        if shared.backend.leases().is_none() {
            return Next::Load(Ready { flight, right: Right::Memory { ghost: None }, stale });
        }
        let token = Token::draw(&self.engine.entropy);
        Next::Contend(Contender { flight, key, token, refuse, refusals: 0, stale })
    }

    fn next(&self, flight: Flight<K, V, S>, answer: Asked<V>, stale: Option<Found<V>>) -> Next<K, V, S> {
        match answer {
            Asked::Found(found) => {
                let late = mutant!(FencesABatchLate).then(|| self.engine.store.begin(flight.lead.key()));
                self.engine.fill_memory(late.unwrap_or(flight.fence), flight.lead.key().clone(), &found);
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
            let ended = self.engine.leases_ended.listen(open.iter().filter_map(Next::contended));
            let round = self.contend(open, &patience).await;
            if round.ready.is_empty() {
                // Others have their turn while this one waits.
                drop(permit);
            } else {
                self.engine.detach(self.engine.tasks.begin(), self.clone().call_loader(round.ready, permit));
            }
            if round.busy.is_empty() {
                return;
            }
            patience.wait(&self.engine, ended, round.ask_again).await;
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

    /// The key whose lease is to be asked for.
    fn contended(&self) -> Option<&Key> {
        match self {
            Self::Contend(contender) | Self::Busy(contender, _) => Some(&contender.key),
            Self::Done | Self::Load(_) => None,
        }
    }
}

/// What came of asking once for the leases of a chunk.
struct Round<K, V, S> {
    ready: Vec<Ready<K, V, S>>,
    busy: Vec<Next<K, V, S>>,
    /// When to ask again for the busy ones, at the latest.
    ask_again: Duration,
}
