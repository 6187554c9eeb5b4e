//! The way of a caller that memory could not serve at once.

use std::future::poll_fn;
use std::hash::Hash;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cachalot_core::{
    EntryOptions, Error, ErrorKind, Event, Freshness, LoadError, LoadOutcome, LoaderError, Result, Store,
    Tier, mutant,
};
use cachalot_stampede::{Failure, Follow, Landing, Lead, Reentrant};
use equivalent::Equivalent;
use tokio::time::timeout;

use crate::cached::{Cached, Found, StaleReason};
use crate::engine::{Engine, Task};
use crate::flight::{Considered, Failed, Flight, LoadFuture, Loader, Outcome, Purpose, Wanted, failure};
use crate::load::Load;

mod caller;
pub(crate) use caller::Read;

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// What the shared tier has, copied to memory under the fence.
    pub(crate) async fn get_shared(&self, key: &K) -> Option<Cached<V>> {
        let found = self.read_shared(key, Wanted::Value).await;
        let found = found.filter(|found| found.freshness == Freshness::Fresh);
        self.emit(&found.as_ref().map_or(Event::Miss, |_| Event::Hit { tier: Tier::Backend }));
        found.and_then(Cached::new)
    }

    /// What the shared tier has, by a plain read: if fresh, copied to memory under the fence.
    pub(crate) async fn read_shared(&self, key: &K, wanted: Wanted) -> Option<Found<V>> {
        let (shared, shared_key) = self.shared_key(key)?;
        let (began, fence) = (self.seen.count(), self.store.begin(key));
        if self.is_pending(&shared_key) {
            return None;
        }
        let record = match self.get_vetted(shared, &shared_key).await {
            Ok(record) => record?,
            Err(error) => {
                self.backend_failed(&error);
                return None;
            }
        };
        let found = match self.consider(shared, &shared_key, &record, began, wanted) {
            Considered::Usable(fresh) => shared.copy(fresh),
            Considered::Unfit(stale) => return stale,
            Considered::Newer => return None,
        };
        let fence = if mutant!(FencesACopyLate) { self.store.begin(key) } else { fence };
        self.fill_memory(fence, key.clone(), &found);
        Some(found)
    }

    /// The fresh value in memory.
    #[inline]
    pub(crate) fn hit<Q>(&self, key: &Q) -> Option<Cached<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hit = match self.glance(key)? {
            (hit, true) => Cached::plain(hit),
            (hit, false) => Cached::fresh(hit)?,
        };
        self.emit_memory_hit();
        Some(hit)
    }

    /// Answers a caller while a failure of its key is remembered.
    pub(crate) async fn back_off(
        &self,
        key: &K,
        options: &EntryOptions,
        wanted: Wanted,
        error: LoadError,
    ) -> Answer<V> {
        let found = self.find_after(key, options, wanted).await;
        if found.as_ref().is_none_or(|found| found.freshness != Freshness::Fresh) {
            self.emit(&Event::BackedOff);
        }
        self.give_up(found, Role::LEADER, error)
    }

    /// Answers a caller who has a share in a flight. `None`: it landed what this caller does not take, who is
    /// to ask again.
    pub(crate) async fn conclude(
        &self,
        key: &K,
        options: &EntryOptions,
        wanted: Wanted,
        Seat { role, at_hand, mut follow, may_load }: Seat<V>,
    ) -> Option<Answer<V>> {
        if let Some(found) = at_hand.filter(|found| may_revalidate(options, found)) {
            return Some(Ok(self.serve_stale(found, StaleReason::Revalidating)));
        }
        loop {
            let waited = match self.wait_for(key, &mut follow, options, wanted).await {
                Ok(waited) => waited,
                Err(error) => return Some(Err(error)),
            };
            match self.weigh(key, options, wanted, role, waited) {
                Weighed::Answer(answer) => return Some(answer),
                Weighed::Refused if may_load || !follow.insist() => return None,
                Weighed::Refused => {}
                Weighed::Sent(error) => {
                    let found = self.find_after(key, options, wanted).await;
                    return Some(self.give_up(found, role, error));
                }
            }
        }
    }

    /// What a caller makes of what it has waited for.
    fn weigh(
        &self,
        key: &K,
        options: &EntryOptions,
        wanted: Wanted,
        role: Role,
        waited: Waited<V>,
    ) -> Weighed<V> {
        let waited = match waited {
            // Offered a while ago, perhaps.
            Waited::Landed(false, Ok(found)) => Waited::Landed(false, Ok(found.later(self.clock.now()))),
            waited => waited,
        };
        let answer = match waited {
            Waited::Late(found) => self.serve_late(found),
            Waited::Landed(_, Ok(found)) if !wanted.accepts(&found) => return Weighed::Refused,
            // Whoever led the flight asked before the removal; this caller has come after it.
            Waited::Landed(_, Ok(found)) if role.came_after(&found) && !self.still_stands(&found) => {
                return Weighed::Refused;
            }
            Waited::Landed(_, Ok(found)) if found.freshness == Freshness::Fresh => {
                self.emit(&role.served_from(found.tier));
                Cached::new(found)
            }
            Waited::Landed(_, Ok(found)) if may_revalidate(options, &found) => {
                self.serve_stale(found, StaleReason::Revalidating)
            }
            Waited::Landed(false, Ok(found)) => self.serve_late(found),
            // The flight was content with a stale value; this caller is not.
            Waited::Landed(true, Ok(_)) => return Weighed::Refused,
            Waited::Landed(false, Err(failed)) => return Weighed::Sent(failed.error),
            Waited::Landed(true, Err(failed)) => {
                return Weighed::Answer(self.fall_back(key, options, wanted, role, failed));
            }
        };
        Weighed::Answer(Ok(answer))
    }

    /// Whether no tag of what was found has been removed since its flight began.
    fn still_stands(&self, found: &Found<V>) -> bool {
        !self.seen.has_ended(&found.entry.stamp) || mutant!(JoinsAcrossATag)
    }

    fn serve_late(&self, found: Found<V>) -> Option<Cached<V>> {
        self.emit(&Event::SoftTimeout);
        self.serve_stale(found, StaleReason::SoftTimeout)
    }

    /// Starts the flight in a task of its own. The loader's closure is called here, its future runs there. The
    /// fence is taken before: what a closure reads by itself is then not older than it.
    pub(crate) fn take_off(
        self: &Arc<Self>,
        task: Task,
        lead: Lead<K, Outcome<V>>,
        options: &EntryOptions,
        wanted: Wanted,
        purpose: Purpose,
        load: impl FnOnce(Load<K>) -> LoadFuture<V>,
    ) {
        let handle = Load::new(lead.key().clone(), self.tag_of());
        let wishes = handle.wishes();
        let flight = Flight::new(self.clone(), lead, options.clone(), wanted, purpose);
        match catch_unwind(AssertUnwindSafe(|| load(handle))) {
            Ok(load) => self.detach(task, flight.run(Loader { load, wishes })),
            Err(panic) => {
                let lead = flight.lead;
                self.emit(&Event::Load { outcome: LoadOutcome::Panicked, took: Duration::ZERO });
                let error = failure(Failure::from_panic(&*panic), self.times.hard_timeout);
                let error = self.remember_failure(&lead, error);
                lead.land(Err(Failed { error, stale: None }));
            }
        }
    }

    /// Waits for the end of a load, for something that will do meanwhile, or for the soft timeout if a value
    /// is at hand then.
    async fn wait_for(
        &self,
        key: &K,
        follow: &mut Follow<Outcome<V>>,
        options: &EntryOptions,
        wanted: Wanted,
    ) -> Result<Waited<V>, LoadError> {
        let is_late = AtomicBool::new(false);
        let content =
            |offer: &Outcome<V>| self.is_content(options, wanted, is_late.load(Ordering::Relaxed), offer);
        let mut waiting = pin!(self.wait(follow, content));
        if options.soft_timeout < Duration::MAX {
            if let Ok(landed) = timeout(options.soft_timeout, waiting.as_mut()).await {
                return landed;
            }
            is_late.store(true, Ordering::Relaxed);
            // Asked again: what was there before may have been invalidated meanwhile.
            let in_memory = self.look(key).map(Found::in_memory).filter(|found| wanted.accepts(found));
            if let Some(found) = in_memory.filter(|found| may_serve_late(options, found)) {
                return Ok(Waited::Late(found));
            }
        }
        waiting.await
    }

    /// Whether a caller rather takes what is offered than waits.
    fn is_content(&self, options: &EntryOptions, wanted: Wanted, is_late: bool, offer: &Outcome<V>) -> bool {
        match offer {
            // The hard timeout is over.
            Err(_) => true,
            Ok(found) if !wanted.accepts(found) || !self.still_stands(found) => false,
            Ok(found) if found.freshness == Freshness::Fresh => self.is_still_fresh(found),
            Ok(found) => {
                let found = found.clone().later(self.clock.now());
                may_revalidate(options, &found) || is_late && may_serve_late(options, &found)
            }
        }
    }

    /// Whether a value that was found fresh and offered still is.
    fn is_still_fresh(&self, found: &Found<V>) -> bool {
        let meta = &found.entry.meta;
        self.clock.now() < self.refresh.early.expiry(meta).unwrap_or(meta.soft_expiry())
    }

    /// What the flight lands, or offers and `content` takes.
    pub(crate) async fn wait(
        &self,
        follow: &mut Follow<Outcome<V>>,
        content: impl Fn(&Outcome<V>) -> bool,
    ) -> Result<Waited<V>, LoadError> {
        landed(poll_fn(|cx| follow.poll_wait(cx, &content)).await)
    }

    /// After a failed load: the old value, if the caller's options allow, else the error. Memory is asked
    /// again, since what was there before the load may have been invalidated meanwhile.
    fn fall_back(
        &self,
        key: &K,
        options: &EntryOptions,
        wanted: Wanted,
        role: Role,
        failed: Failed<V>,
    ) -> Answer<V> {
        let in_memory = self.look(key).map(Found::in_memory).filter(|found| wanted.accepts(found));
        let below = failed.stale.filter(|found| self.still_stands(found));
        let below = below.map(|found| found.later(self.clock.now()));
        let found = in_memory.or(below).filter(|found| will_do(options, found));
        self.give_up(found, role, failed.error)
    }

    /// Serves `found`, which will do, or else the error.
    fn give_up(&self, found: Option<Found<V>>, role: Role, error: LoadError) -> Answer<V> {
        match found {
            Some(found) if found.freshness == Freshness::Fresh => {
                self.emit(&role.served_from(found.tier));
                Ok(Cached::new(found))
            }
            Some(found) => Ok(self.serve_stale(found, StaleReason::LoadFailed(error))),
            None => {
                self.emit(&role.served_from(Tier::Loader));
                Err(error)
            }
        }
    }

    fn serve_stale(&self, found: Found<V>, reason: StaleReason) -> Option<Cached<V>> {
        self.emit(&Event::StaleServed { revalidating: matches!(reason, StaleReason::Revalidating) });
        Cached::stale(found, reason)
    }
}

/// Whether a value past its time may be served while it is refreshed. One that was invalidated never is.
pub(crate) fn may_revalidate<V>(options: &EntryOptions, found: &Found<V>) -> bool {
    let is_fit = found.freshness == Freshness::Stale || mutant!(RevalidatesTheExpired);
    is_fit && options.may_serve_while_revalidating(found.stale_for)
}

/// Whether a value past its time may be served because the load takes long. One that was invalidated never is:
/// the load may still give a new one.
fn may_serve_late<V>(options: &EntryOptions, found: &Found<V>) -> bool {
    found.freshness == Freshness::Stale && options.may_serve_on_error(found.stale_for)
}

/// Whether a value serves a caller whose load has failed. One that might have been served while a refresh runs
/// does, although the refresh was quick to fail.
pub(crate) fn will_do<V>(options: &EntryOptions, found: &Found<V>) -> bool {
    found.freshness == Freshness::Fresh || may_revalidate(options, found) || may_fall_back(options, found)
}

/// Whether an old value may be served because the load failed. How long ago an invalidated one was marked is
/// not known, only that its tier keeps it no longer than the window; a call's own bound is held against its
/// whole age.
fn may_fall_back<V>(options: &EntryOptions, found: &Found<V>) -> bool {
    match found.freshness {
        Freshness::Invalidated => !options.stale_if_error.is_zero() && found.stale_for <= options.max_stale,
        _ => options.may_serve_on_error(found.stale_for),
    }
}

/// What a caller gets. `None`: absent.
pub(crate) type Answer<V> = Result<Option<Cached<V>>, LoadError>;

/// What a caller has waited for.
pub(crate) enum Waited<V> {
    /// What the flight landed (`true`) or offered.
    Landed(bool, Outcome<V>),
    /// The soft timeout, with a value at hand.
    Late(Found<V>),
}

/// What a caller makes of what it has waited for.
enum Weighed<V> {
    Answer(Answer<V>),
    /// It does not take that, and is to ask again.
    Refused,
    /// Sent away with this error by the hard timeout; there may be something in a lower tier.
    Sent(LoadError),
}

/// What a share in a flight gave.
fn landed<V>(landing: Result<Landing<Outcome<V>>, Reentrant>) -> Result<Waited<V>, LoadError> {
    match landing {
        Ok(Landing::Final(outcome)) => Ok(Waited::Landed(true, outcome)),
        Ok(Landing::Interim(outcome)) => Ok(Waited::Landed(false, outcome)),
        Ok(Landing::Abandoned) => {
            let detail = "the task that loaded it panicked or was dropped";
            Err(Error::new(ErrorKind::Panicked, "load").detail(detail).into())
        }
        Err(reentrant) => Err(Error::new(ErrorKind::Reentrant, "load").caused_by(reentrant).into()),
    }
}

/// A caller's share in a flight, with what memory had when it was taken.
pub(crate) struct Seat<V> {
    pub(crate) role: Role,
    pub(crate) at_hand: Option<Found<V>>,
    pub(crate) follow: Follow<Outcome<V>>,
    /// Whether this caller still has its loader. One that has given it to its flight cannot lead another.
    pub(crate) may_load: bool,
}

/// A caller's part in a flight: each read is counted once, by what came of it. One word, since ten thousand may wait.
#[derive(Clone, Copy)]
pub(crate) struct Role {
    /// The count of invalidations at which a follower joined.
    joined_at: Option<NonZeroU64>,
}

impl Role {
    pub(crate) const LEADER: Self = Self { joined_at: None };

    /// Who joins at this count of invalidations.
    pub(crate) fn follower(count: u64) -> Self {
        Self { joined_at: NonZeroU64::MIN.checked_add(count) }
    }

    /// Whether something was seen invalidated between the beginning of what was `found` and this caller's: only
    /// then can it be too old for it.
    fn came_after<V>(self, found: &Found<V>) -> bool {
        self.joined_at.is_some_and(|joined| found.entry.stamp.at < joined.get() - 1)
    }

    fn served_from(self, tier: Tier) -> Event<'static> {
        match (tier, self.joined_at) {
            (Tier::Loader, None) => Event::Miss,
            (Tier::Loader, Some(_)) => Event::Coalesced,
            (tier, _) => Event::Hit { tier },
        }
    }
}

/// What is stored gets the tags of all who wait for it, not only of who leads.
pub(crate) fn ask_tags<V>(follow: &Follow<Outcome<V>>, options: &EntryOptions) {
    if !options.tags.is_empty() {
        follow.ask_tags(&options.tags);
    }
}

/// A loader that gives a value, as one that may give none.
pub(crate) fn value_of<V, T>(load: T) -> LoadFuture<V>
where
    T: Future<Output = Result<V, LoaderError>> + Send + 'static,
{
    Box::pin(async move { load.await.map(Some) })
}

/// A load that was to give a value gave an absence: only a defect here could make it so.
pub(crate) fn gave_nothing() -> LoadError {
    Error::new(ErrorKind::Cancelled, "load").detail("the load gave nothing").into()
}
