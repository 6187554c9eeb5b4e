//! What a flight asks of the shared tier: the value, or the right to load it.

use std::hash::Hash;
use std::time::Duration;

use cachalot_core::{
    Event, Freshness, Holder, Key, LeaseBackend, LeaseReply, Nonce, Record, Store, Token, mutant,
};
use cachalot_invalidation::Backoff;

use super::{Flight, Purpose, Right, Wanted};
use crate::batch::due_at;
use crate::cached::Found;
use crate::engine::Engine;
use crate::fleet::Listening;
use crate::read::may_revalidate;
use crate::shared::{Fresh, Judged, Shared};
use crate::tags::Vetted;

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

/// How a record answers a flight.
pub(crate) enum Considered<V> {
    Usable(Fresh<V>),
    /// Not fresh, not decodable or not what is wanted; perhaps good to be served as stale.
    Unfit(Option<Found<V>>),
    /// Of a newer schema.
    Newer,
}

/// How long a reader waits for a writer before it loads without storing.
const WRITER_PATIENCE: Duration = Duration::from_millis(50);
/// Whose value ends sooner is leased for as long as any.
const SHORTEST_TERM: Duration = Duration::from_millis(500);
/// How often a value is refused that somebody keeps refreshing, before it is loaded without the tier.
pub(crate) const REFUSALS: usize = 8;

impl<K, V, S> Flight<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Asks the shared tier for the value, or for the right to load it. What is found but not fresh is left
    /// in `stale`, under a lease only: an invalidation from anywhere revokes both.
    pub(super) async fn ask(
        &self,
        shared: &Shared<K, V>,
        key: &Key,
        stale: &mut Option<Found<V>>,
    ) -> Asked<V> {
        let refuse = match self.engine.get_vetted(shared, key).await {
            Ok(None) => None,
            Ok(Some(record)) => match self.first_answer(shared, key, &record, stale) {
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
            let ended = self.engine.leases_ended.listen([key]);
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
                    patience.wait(&self.engine, ended, left.min(until_free(remaining))).await;
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
        let term = self.term.get().copied().unwrap_or(self.engine.times.lease_term);
        match leases.get_or_lease(key, token, term, refuse).await {
            Ok(LeaseReply::Hit(record)) => {
                let record = self.engine.vet(shared, key, record).await;
                let considered = self.engine.consider(shared, key, &record, self.began, self.wanted);
                match self.answer(shared, record.record.nonce, considered, stale) {
                    Ok(answer) => Tried::Answered(answer),
                    Err(nonce) => Tried::Refused(nonce),
                }
            }
            Ok(LeaseReply::Lease { stale: candidate }) => {
                // Replaced, not kept: what was there before may have been removed in between.
                *stale = self.stale(shared, key, candidate).await;
                self.offer(stale.as_ref());
                Tried::Answered(Asked::MayLoad(Right::Lease(token)))
            }
            Ok(LeaseReply::Busy { remaining, holder, stale: candidate }) => {
                *stale = None;
                match self.stale(shared, key, candidate).await {
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

    /// What the `record` of the first read answers; its nonce, if it is to be refused or replaced.
    pub(crate) fn first_answer(
        &self,
        shared: &Shared<K, V>,
        key: &Key,
        vetted: &Vetted,
        stale: &mut Option<Found<V>>,
    ) -> std::result::Result<Asked<V>, Nonce> {
        let considered = self.engine.consider(shared, key, vetted, self.began, self.wanted);
        match considered {
            Considered::Usable(fresh) => match self.purpose {
                Purpose::Ahead(ratio) if due_at(ratio, &fresh.life).is_some_and(|due| due <= fresh.at) => {
                    self.offer_in_its_life(fresh);
                    Err(vetted.record.nonce)
                }
                _ => {
                    let found = shared.copy(fresh);
                    if matches!(self.purpose, Purpose::Ahead(_)) || !self.is_to_be_replaced(&found) {
                        return Ok(Asked::Found(found));
                    }
                    self.lead.offer(Ok(found));
                    Err(vetted.record.nonce)
                }
            },
            considered => self.answer(shared, vetted.record.nonce, considered, stale),
        }
    }

    /// What a record answers; its nonce, if it is to be refused.
    fn answer(
        &self,
        shared: &Shared<K, V>,
        nonce: Nonce,
        considered: Considered<V>,
        stale: &mut Option<Found<V>>,
    ) -> std::result::Result<Asked<V>, Nonce> {
        match considered {
            Considered::Usable(fresh) => Ok(Asked::Found(shared.copy(fresh))),
            Considered::Newer => {
                *stale = None;
                Ok(Asked::MayLoad(Right::Memory { ghost: None }))
            }
            Considered::Unfit(candidate) => {
                *stale = candidate;
                Err(nonce)
            }
        }
    }

    /// Whether `found`, fresh, is what a refresh is about: a value that is near its expiry.
    pub(super) fn is_to_be_replaced(&self, found: &Found<V>) -> bool {
        let meta = &found.entry.meta;
        match self.purpose {
            Purpose::Ahead(ratio) => due_at(ratio, meta).is_some_and(|due| due <= found.at),
            Purpose::Refresh if !mutant!(RefreshesByWhatIsThere) => {
                meta.is_early(found.at) && meta.early_from() < meta.soft_expiry()
            }
            _ => false,
        }
    }

    /// Offers what was found to participants who would rather have it now than wait; each decides by its own
    /// options. What was invalidated is for failures only.
    fn offer(&self, found: Option<&Found<V>>) {
        // What is refreshed ahead of its end was offered when it was found, for longer.
        let is_offered = |found: &Found<V>| {
            matches!(self.purpose, Purpose::Ahead(_)) && found.freshness == Freshness::Fresh
        };
        let fit = |found: &&Found<V>| found.freshness != Freshness::Invalidated && !is_offered(found);
        if let Some(found) = found.filter(fit) {
            self.lead.offer(Ok(found.clone()));
        }
    }

    /// Offers what is to be replaced ahead of its end, for as long as it is fresh, and not only for as long as memory
    /// would keep a copy; and the lease is to be shorter than what is left of it, or the shared tier would give it up for
    /// the lease, and others would wait.
    fn offer_in_its_life(&self, fresh: Fresh<V>) {
        let life = fresh.life;
        let left = life.hard_expiry().since(fresh.at).mul_f64(0.9);
        if left >= SHORTEST_TERM {
            let _ = self.term.set(left.min(self.engine.times.lease_term));
        }
        self.lead.offer(Ok(fresh.timed(life)));
    }

    /// What `record` is worth as a stale candidate. One that cannot be read was counted when it was refused.
    async fn stale(&self, shared: &Shared<K, V>, key: &Key, record: Option<Record>) -> Option<Found<V>> {
        let vetted = self.engine.vet(shared, key, record?).await;
        match shared.judge(key, &vetted, self.began, self.engine.clock.now()) {
            Judged::Fresh(fresh) => Some(shared.copy(fresh)),
            Judged::Stale(found) => Some(found),
            Judged::Newer | Judged::Unusable(_) => None,
        }
        .filter(|found| self.wanted.takes(found.is_negative()))
    }
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Judges a record for a reader who wants `wanted` and has `began` at this count of invalidations.
    pub(crate) fn consider(
        &self,
        shared: &Shared<K, V>,
        key: &Key,
        vetted: &Vetted,
        began: u64,
        wanted: Wanted,
    ) -> Considered<V> {
        match shared.judge(key, vetted, began, self.clock.now()) {
            Judged::Fresh(fresh) if wanted.takes(fresh.is_negative()) => Considered::Usable(fresh),
            Judged::Stale(found) if wanted.takes(found.is_negative()) => Considered::Unfit(Some(found)),
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
}

/// How long a flight still waits for whoever has the right to store.
pub(crate) struct Patience {
    waited: Duration,
    backoff: Backoff,
    /// When the wait began that a hint ended last.
    woken_at: Option<Duration>,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self {
            waited: Duration::ZERO,
            woken_at: None,
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

    /// Pauses before the next try, at most for `at_most`, or until it is heard that a lease `ended`. What is not
    /// waited then does not count.
    pub(crate) async fn wait<K, V, S>(
        &mut self,
        engine: &Engine<K, V, S>,
        ended: Listening<'_>,
        at_most: Duration,
    ) {
        let pause = self.backoff.next(&engine.entropy).min(at_most);
        let began = engine.clock.monotonic();
        let waited = match ended.wait(pause).await {
            true => {
                self.take_breath(began).await;
                engine.clock.monotonic().saturating_sub(began).min(pause)
            }
            false => pause,
        };
        self.waited += waited;
    }

    /// Hints of many leases come one after the other, and one question hears of all: only the first is followed at
    /// once.
    async fn take_breath(&mut self, began: Duration) {
        let is_close = self.woken_at.is_some_and(|at| began.saturating_sub(at) < A_BREATH);
        if is_close {
            tokio::time::sleep(A_BREATH).await;
        }
        self.woken_at = Some(began);
    }
}

/// The least pause after a hint, so that who waits for many keys is not driven by every lease that ends.
const A_BREATH: Duration = Duration::from_millis(2);

/// When somebody's right that ends in `remaining` is sure to have ended.
pub(crate) fn until_free(remaining: Duration) -> Duration {
    remaining + Duration::from_millis(1)
}
