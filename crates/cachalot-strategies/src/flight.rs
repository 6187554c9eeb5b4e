//! One load of one key: through the shared tier to the loader and back.

use std::future::poll_fn;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cachalot_core::{
    BoxFuture, Entry, EntryOptions, Error, ErrorKind, Event, Fence, Freshness, Holder, Key, LeaseBackend,
    LeaseReply, LoadError, LoadOutcome, LoaderError, Meta, Nonce, Put, PutReply, Record, Result, Store, Tier,
    Timestamp, Token, Ttl, mutant,
};
use cachalot_invalidation::Backoff;
use cachalot_stampede::{Failure, Lead, guard, loading};
use tokio::time::sleep;

use crate::cached::Found;
use crate::engine::{Engine, OnDeserted};
use crate::load::Wishes;
use crate::read::may_revalidate;
use crate::shared::{Judged, Shared};

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
        self == Self::ValueOrAbsence || !found.is_negative()
    }
}

pub(crate) struct Flight<K, V, S> {
    pub(crate) engine: Arc<Engine<K, V, S>>,
    pub(crate) lead: Lead<K, Outcome<V>>,
    /// Granted before the first read of any tier.
    pub(crate) fence: Fence,
    pub(crate) options: EntryOptions,
    pub(crate) wanted: Wanted,
    purpose: Purpose,
    opened: Timestamp,
    /// In a refresh, the value in memory that is to be replaced. Read when the flight was open: were it removed
    /// since, who comes later would not join.
    current: Option<Found<V>>,
}

/// What a flight is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To answer callers that have nothing.
    Answer,
    /// To replace a value that is stale and may serve meanwhile.
    Renew,
    /// To replace a value that is fresh, by one that is not about to expire.
    Refresh,
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

/// What the shared tier answered.
pub(crate) enum Asked<V> {
    Found(Found<V>),
    /// Somebody else loads; this will do meanwhile.
    Stale(Found<V>),
    MayLoad(Right),
}

/// What came of asking once for the value or the lease.
pub(crate) enum Tried<V> {
    Answered(Asked<V>),
    /// A value under this nonce that is of no use here.
    Refused(Nonce),
    /// Somebody else has the right to store, for this much longer at most.
    Busy {
        holder: Holder,
        remaining: Duration,
    },
}

/// What the loader gave for one key.
pub(crate) struct Loaded<V> {
    pub(crate) result: std::result::Result<Option<V>, LoadError>,
    /// The TTL it asked for.
    pub(crate) ttl: Option<Ttl>,
    pub(crate) took: Duration,
}

/// How long a reader waits for a writer before it loads without storing.
const WRITER_PATIENCE: Duration = Duration::from_millis(50);
/// How often a value is refused that somebody keeps refreshing, before it is loaded without the tier.
pub(crate) const REFUSALS: usize = 8;

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
        let fence = engine.store.begin(lead.key());
        let opened = engine.clock.now();
        Self { engine, lead, fence, options, wanted, purpose, opened, current: None }
    }

    pub(crate) async fn run(mut self, loader: Loader<V>) {
        let engine = self.engine.clone();
        let key = self.lead.key().clone();
        // Another flight may have landed between this caller's look into memory and its join.
        if let Some(found) = engine.fresh_in_memory(&key).filter(|found| self.wanted.accepts(found)) {
            if !self.is_to_be_replaced(&found) {
                return self.lead.land(Ok(found));
            }
            self.current = Some(found);
        }
        let Some((shared, shared_key)) = engine.shared_key(&key) else {
            return self.load(loader, None, Right::Memory { ghost: None }, None).await;
        };
        if engine.deferred.contains(&shared_key) && !mutant!(TrustsWhatIsPending) {
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

    /// Asks the shared tier for the value, or for the right to load it. What is found but not fresh is left
    /// in `stale`, under a lease only: an invalidation from anywhere revokes both.
    async fn ask(&self, shared: &Shared<K, V>, key: &Key, stale: &mut Option<Found<V>>) -> Asked<V> {
        let refuse = match shared.backend.get(key).await {
            Ok(None) => None,
            Ok(Some(record)) => match self.answer(shared, key, &record, stale) {
                Ok(Asked::Found(found)) if self.is_to_be_replaced(&found) => {
                    self.offer(Some(&found));
                    Some(record.nonce)
                }
                Ok(answer) => return answer,
                Err(nonce) => Some(nonce),
            },
            Err(error) => {
                self.engine.backend_failed(&error);
                return Asked::MayLoad(Right::Memory { ghost: None });
            }
        };
        match shared.backend.leases() {
            Some(leases) => self.contend(leases, shared, key, refuse, stale).await,
            None => Asked::MayLoad(Right::Memory { ghost: None }),
        }
    }

    /// Asks for the value or the lease until one of them comes, or patience ends. `refuse` is the value that
    /// was seen and found unfit.
    async fn contend(
        &self,
        leases: &dyn LeaseBackend,
        shared: &Shared<K, V>,
        key: &Key,
        mut refuse: Option<Nonce>,
        stale: &mut Option<Found<V>>,
    ) -> Asked<V> {
        let token = Token::draw(&self.engine.entropy);
        let mut patience = Patience::new();
        let mut refusals = 0;
        loop {
            match self.try_lease(leases, shared, key, token, refuse, stale).await {
                Tried::Answered(answer) => return answer,
                Tried::Refused(nonce) => {
                    refuse = Some(nonce);
                    refusals += 1;
                    if refusals == REFUSALS {
                        *stale = None;
                        return Asked::MayLoad(Right::Nothing);
                    }
                }
                Tried::Busy { holder, remaining } => {
                    if let Some(found) = self.still_fresh() {
                        return Asked::Stale(found);
                    }
                    let left = patience.left(&self.engine, holder);
                    if left.is_zero() {
                        return Asked::MayLoad(Right::Nothing);
                    }
                    patience.wait(&self.engine, left.min(until_free(remaining))).await;
                }
            }
        }
    }

    /// Asks once for the value, or for the lease under `token`.
    pub(crate) async fn try_lease(
        &self,
        leases: &dyn LeaseBackend,
        shared: &Shared<K, V>,
        key: &Key,
        token: Token,
        refuse: Option<Nonce>,
        stale: &mut Option<Found<V>>,
    ) -> Tried<V> {
        match leases.get_or_lease(key, token, self.engine.times.lease_term, refuse).await {
            Ok(LeaseReply::Hit(record)) => match self.answer(shared, key, &record, stale) {
                Ok(answer) => Tried::Answered(answer),
                Err(nonce) => Tried::Refused(nonce),
            },
            Ok(LeaseReply::Lease { stale: candidate }) => {
                // Replaced, not kept: what was there before may have been removed in between.
                *stale = candidate.and_then(|record| self.stale(shared, key, &record));
                self.offer(stale.as_ref());
                Tried::Answered(Asked::MayLoad(Right::Lease(token)))
            }
            Ok(LeaseReply::Busy { remaining, holder, stale: candidate }) => {
                *stale = None;
                let found = candidate.and_then(|record| self.stale(shared, key, &record));
                match found {
                    Some(found) if may_revalidate(&self.options, &found) => {
                        Tried::Answered(Asked::Stale(found))
                    }
                    found => {
                        self.offer(found.as_ref());
                        Tried::Busy { holder, remaining }
                    }
                }
            }
            Err(error) => {
                *stale = None;
                self.engine.backend_failed(&error);
                Tried::Answered(Asked::MayLoad(Right::Memory { ghost: Some(token) }))
            }
        }
    }

    /// What `record` answers; its nonce, if it is to be refused.
    pub(crate) fn answer(
        &self,
        shared: &Shared<K, V>,
        key: &Key,
        record: &Record,
        stale: &mut Option<Found<V>>,
    ) -> std::result::Result<Asked<V>, Nonce> {
        match self.engine.consider(shared, key, record, self.wanted) {
            Considered::Usable(found) => Ok(Asked::Found(found)),
            Considered::Newer => Ok(Asked::MayLoad(Right::Memory { ghost: None })),
            Considered::Unfit(candidate) => {
                *stale = candidate;
                Err(record.nonce)
            }
        }
    }

    /// Whether its callers have nothing but it.
    pub(crate) fn answers_callers(&self) -> bool {
        self.purpose == Purpose::Answer
    }

    /// Whether `found`, fresh, is what a refresh is about: a value that is near its expiry.
    fn is_to_be_replaced(&self, found: &Found<V>) -> bool {
        let meta = &found.entry.meta;
        self.purpose == Purpose::Refresh && meta.is_early(found.at) && meta.early_from() < meta.soft_expiry()
    }

    /// The value that is being refreshed, if it is still good.
    fn still_fresh(&self) -> Option<Found<V>> {
        let now = self.engine.clock.now();
        self.current.clone().filter(|found| now < found.entry.meta.soft_expiry())
    }

    /// Whether this flight is so old that another took the key over: it seemed to hang, and now it comes back.
    fn was_overtaken(&self) -> bool {
        let age = self.engine.clock.now().since(self.opened);
        age > self.engine.times.overtaken_after && self.lead.is_void()
    }

    /// Offers what was found to participants who would rather have it now than wait; each decides by its own
    /// options. What was invalidated is for failures only.
    fn offer(&self, found: Option<&Found<V>>) {
        if let Some(found) = found.filter(|found| found.freshness != Freshness::Invalidated) {
            self.lead.offer(Ok(found.clone()));
        }
    }

    /// What `record` is worth as a stale candidate.
    fn stale(&self, shared: &Shared<K, V>, key: &Key, record: &Record) -> Option<Found<V>> {
        match self.engine.consider(shared, key, record, self.wanted) {
            Considered::Usable(found) => Some(found),
            Considered::Unfit(candidate) => candidate,
            Considered::Newer => None,
        }
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
        let started = engine.clock.monotonic();
        let ran = self.run_loader(load, stale.is_some()).await;
        let took = engine.clock.monotonic().saturating_sub(started);
        let Some(result) = ran else {
            engine.emit(&Event::Load { outcome: LoadOutcome::Cancelled, took });
            drop(self);
            if let (Some(token), Some((shared, key))) = (right.token(), &shared) {
                engine.release(shared, key, token).await;
            }
            return;
        };
        let loaded = Loaded { result: engine.loaded(result, took), ttl: wishes.ttl(), took };
        self.settle(loaded, shared, right, stale).await;
    }

    /// Runs the loader to its end, at most for the flight's age. After the hard timeout its callers are sent
    /// away. `None`: it was dropped because nobody waits any more.
    async fn run_loader(&self, load: LoadFuture<V>, at_hand: bool) -> Option<Ran<V>> {
        let times = &self.engine.times;
        let mut run = pin!(loading(self.lead.id(), guard(load, times.max_flight_age)));
        let give_up = times.on_deserted == OnDeserted::Cancel && self.purpose == Purpose::Answer && !at_hand;
        let mut deserted = give_up.then(|| Box::pin(self.lead.deserted()));
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
                self.lead.offer(Err(Failed { error, stale: None }));
            }
            Poll::Pending
        })
        .await
    }

    /// Stores what was loaded as far as `right` reaches, and lands. `stale` is what was found on the way.
    pub(crate) async fn settle(
        self,
        loaded: Loaded<V>,
        shared: Option<(&Shared<K, V>, Key)>,
        right: Right,
        stale: Option<Found<V>>,
    ) {
        let was_overtaken = self.was_overtaken();
        let Self { engine, lead, fence, options, .. } = self;
        let mut unused = right.token();
        match loaded.result {
            Ok(value) => {
                let options = match loaded.ttl {
                    Some(ttl) => options.ttl(ttl),
                    None => options,
                };
                let made = engine.make(value, &options, loaded.took);
                if was_overtaken {
                    engine.emit(&Event::Fenced { tier: Tier::Memory });
                } else {
                    unused = engine.keep(fence, lead.key(), &made, shared.as_ref(), right).await;
                }
                engine.forget_failure(lead.key());
                lead.land(Ok(made.found));
            }
            Err(error) => {
                let error = engine.remember_failure(&lead, error);
                // A lease that is no longer ours was revoked by an invalidation, and so was the value.
                let still_good = match (&stale, unused, &shared) {
                    (Some(_), Some(token), Some((shared, key))) => {
                        unused = None;
                        engine.release(shared, key, token).await
                    }
                    _ => true,
                };
                let stale = stale.filter(|_| still_good && !lead.is_void());
                lead.land(Err(Failed { error, stale }));
            }
        }
        // After landing: nobody waits for a courtesy.
        if let (Some(token), Some((shared, key))) = (unused, &shared) {
            engine.release(shared, key, token).await;
        }
    }
}

/// A value just loaded, with its times.
struct Made<V> {
    found: Found<V>,
    /// `None`: its TTL says not to store it.
    meta: Option<Meta>,
}

/// How a record answers a flight.
pub(crate) enum Considered<V> {
    Usable(Found<V>),
    /// Not fresh, not decodable or not what is wanted; perhaps good to be served as stale.
    Unfit(Option<Found<V>>),
    /// Of a newer schema.
    Newer,
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Judges `record` for a reader who wants `wanted`.
    pub(crate) fn consider(
        &self,
        shared: &Shared<K, V>,
        key: &Key,
        record: &Record,
        wanted: Wanted,
    ) -> Considered<V> {
        match shared.judge(key, record, self.clock.now()) {
            Judged::Fresh(found) if wanted.accepts(&found) => Considered::Usable(found),
            Judged::Stale(found) if wanted.accepts(&found) => Considered::Unfit(Some(found)),
            Judged::Fresh(_) | Judged::Stale(_) => Considered::Unfit(None),
            Judged::Newer => Considered::Newer,
            Judged::Unusable(error) => {
                if let Some(error) = &error {
                    self.emit(&Event::Undecodable { error });
                }
                Considered::Unfit(None)
            }
        }
    }

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

    fn make(&self, value: Option<V>, options: &EntryOptions, took: Duration) -> Made<V> {
        let now = self.clock.now();
        let meta = match &value {
            Some(_) => options.stamp(now, took, &self.entropy),
            None => options.stamp_negative(now, took, &self.entropy),
        };
        let shown = meta.unwrap_or(Meta::new(now, Duration::ZERO, Duration::ZERO, took));
        let shown = self.in_memory(shown, now);
        let entry = Arc::new(Entry { value, meta: shown });
        let found = Found {
            entry,
            tier: Tier::Loader,
            freshness: Freshness::Fresh,
            stale_for: Duration::ZERO,
            at: now,
        };
        Made { found, meta }
    }

    /// Stores what was loaded as far as `right` reaches: the shared tier first, memory only if that did not
    /// refuse. Gives back a token that is still outstanding.
    async fn keep(
        &self,
        fence: Fence,
        key: &K,
        made: &Made<V>,
        shared: Option<&(&Shared<K, V>, Key)>,
        right: Right,
    ) -> Option<Token> {
        let Some(meta) = &made.meta else {
            return right.token();
        };
        let (in_memory, unused) = match (right, shared) {
            (Right::Nothing, _) => (false, None),
            (Right::Memory { ghost }, _) => (true, ghost),
            (Right::Lease(_), None) => (true, None),
            (Right::Lease(token), Some((shared, shared_key))) => {
                self.put_leased(shared, shared_key, token, made, meta).await
            }
        };
        if in_memory {
            self.fill_memory(fence, key.clone(), &made.found);
        }
        unused
    }

    /// Stores in the shared tier. Whether memory may follow, and the token if it is unused.
    async fn put_leased(
        &self,
        shared: &Shared<K, V>,
        key: &Key,
        token: Token,
        made: &Made<V>,
        meta: &Meta,
    ) -> (bool, Option<Token>) {
        let reply = match self.put(shared, key, made.found.entry.value.as_ref(), meta) {
            Ok(put) => match shared.backend.leases() {
                Some(leases) => leases.put_leased(key, token, put).await,
                None => return (true, None),
            },
            Err(error) => Err(error),
        };
        match reply {
            Ok(PutReply::Stored) => (true, None),
            Ok(PutReply::Lost | PutReply::Absent) => {
                self.emit(&Event::Fenced { tier: Tier::Backend });
                (false, None)
            }
            // Refused before anything was sent: the value will never fit there. Whether it is still good to
            // be kept here, only the lease can tell.
            Err(error) if matches!(error.kind(), ErrorKind::Encode | ErrorKind::Config) => {
                self.emit(&Event::Unstorable { error: &error });
                (self.release(shared, key, token).await, None)
            }
            Err(error) => {
                self.backend_failed(&error);
                (false, Some(token))
            }
        }
    }

    /// What to send for `value`.
    pub(crate) fn put(
        &self,
        shared: &Shared<K, V>,
        key: &Key,
        value: Option<&V>,
        meta: &Meta,
    ) -> Result<Put> {
        let payload = shared.encode(key, value, meta)?;
        let ttl = meta.kept_for();
        Ok(Put { payload, nonce: Nonce::draw(&self.entropy), ttl })
    }

    /// Gives a lease back so that waiters go on; if that fails, its term ends it. Whether it was still ours.
    pub(crate) async fn release(&self, shared: &Shared<K, V>, key: &Key, token: Token) -> bool {
        let Some(leases) = shared.backend.leases() else { return false };
        leases.release(key, token).await.unwrap_or_else(|error| {
            self.backend_failed(&error);
            false
        })
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

/// How long a flight still waits for whoever has the right to store.
pub(crate) struct Patience {
    waited: Duration,
    backoff: Backoff,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self {
            waited: Duration::ZERO,
            backoff: Backoff::new(Duration::from_millis(4), Duration::from_millis(200)),
        }
    }

    /// How much longer to wait for `holder`. A lease's holder is outwaited for more than a whole term, so
    /// that an own load never starts while the first may still be running within it.
    pub(crate) fn left<K, V, S>(&self, engine: &Engine<K, V, S>, holder: Holder) -> Duration {
        let bound = match holder {
            Holder::Writer => WRITER_PATIENCE,
            Holder::Reader => engine.times.lease_term.saturating_mul(2),
        };
        bound.saturating_sub(self.waited)
    }

    /// Pauses before the next try, at most for `at_most`.
    pub(crate) async fn wait<K, V, S>(&mut self, engine: &Engine<K, V, S>, at_most: Duration) {
        let pause = self.backoff.next(&engine.entropy).min(at_most);
        self.waited += pause;
        tokio::time::sleep(pause).await;
    }
}

/// When somebody's right that ends in `remaining` is sure to have ended.
pub(crate) fn until_free(remaining: Duration) -> Duration {
    remaining + Duration::from_millis(1)
}
