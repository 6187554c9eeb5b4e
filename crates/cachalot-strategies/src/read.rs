//! The way of a caller that memory could not serve at once.

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{
    EntryOptions, Error, ErrorKind, Event, Freshness, LoadError, LoadOutcome, LoaderError, Result, Store,
    Tier, mutant,
};
use cachalot_stampede::{Failure, Follow, Joined, Landing, Lead};

use crate::cached::{Cached, Found, StaleReason};
use crate::engine::{Engine, Task};
use crate::flight::{Considered, Failed, Flight, LoadFuture, Loader, Outcome, Wanted, failure};
use crate::load::Load;

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// What the shared tier has, copied to memory under the fence.
    pub(crate) async fn get_shared(&self, key: &K) -> Option<Cached<V>> {
        let found = self.copy_shared(key).await;
        self.emit(&found.as_ref().map_or(Event::Miss, |_| Event::Hit { tier: Tier::Backend }));
        found.and_then(Cached::new)
    }

    async fn copy_shared(&self, key: &K) -> Option<Found<V>> {
        let (shared, shared_key) = self.shared_key(key)?;
        let fence = self.store.begin(key);
        if self.deferred.contains(&shared_key) && !mutant!(TrustsWhatIsPending) {
            return None;
        }
        let record = match shared.backend.get(&shared_key).await {
            Ok(record) => record?,
            Err(error) => {
                self.backend_failed(&error);
                return None;
            }
        };
        let Considered::Usable(found) = self.consider(shared, &shared_key, &record, Wanted::Value) else {
            return None;
        };
        let fence = if mutant!(FencesACopyLate) { self.store.begin(key) } else { fence };
        self.fill_memory(fence, key.clone(), &found);
        Some(found)
    }

    pub(crate) async fn load_value<F, T>(
        self: &Arc<Self>,
        key: &K,
        options: &EntryOptions,
        load: F,
    ) -> Result<Cached<V>, LoadError>
    where
        F: FnOnce(Load<K>) -> T,
        T: Future<Output = Result<V, LoaderError>> + Send + 'static,
    {
        let load = |handle| {
            let load = load(handle);
            Box::pin(async move { load.await.map(Some) }) as LoadFuture<V>
        };
        let served = self.load(key, options, Wanted::Value, load).await?;
        served.ok_or_else(gave_nothing)
    }

    pub(crate) async fn load_option<F, T>(
        self: &Arc<Self>,
        key: &K,
        options: &EntryOptions,
        load: F,
    ) -> Result<Option<Cached<V>>, LoadError>
    where
        F: FnOnce(Load<K>) -> T,
        T: Future<Output = Result<Option<V>, LoaderError>> + Send + 'static,
    {
        let load = |handle| Box::pin(load(handle)) as LoadFuture<V>;
        self.load(key, options, Wanted::ValueOrAbsence, load).await
    }

    /// Joins the flight of `key` until one lands what is wanted. `None`: absent.
    async fn load(
        self: &Arc<Self>,
        key: &K,
        options: &EntryOptions,
        wanted: Wanted,
        load: impl FnOnce(Load<K>) -> LoadFuture<V>,
    ) -> Result<Option<Cached<V>>, LoadError> {
        let mut load = Some(load);
        loop {
            let in_memory = self.store.get(key).map(Found::in_memory);
            if let Some(found) = &in_memory {
                if found.freshness == Freshness::Fresh && wanted.accepts(found) {
                    self.emit_memory_hit();
                    return Ok(Cached::new(found.clone()));
                }
            }
            let task = self.admit("load")?;
            let (follow, role) = match self.flights.join(key) {
                Joined::Lead(lead, follow) => {
                    let load = load.take().ok_or_else(gave_nothing)?;
                    self.take_off(task, lead, options, wanted, load);
                    (follow, Role::Leader)
                }
                Joined::Follow(follow) => (follow, Role::Follower),
            };
            if let Some(found) = in_memory.filter(|found| may_revalidate(options, found)) {
                return Ok(self.serve_stale(found, StaleReason::Revalidating));
            }
            match self.wait(follow, options).await? {
                Ok(found) if !wanted.accepts(&found) => {}
                Ok(found) if found.freshness == Freshness::Fresh => {
                    self.emit(&role.served_from(found.tier));
                    return Ok(Cached::new(found));
                }
                Ok(found) if may_revalidate(options, &found) => {
                    return Ok(self.serve_stale(found, StaleReason::Revalidating));
                }
                // The flight was content with a stale value; this caller is not.
                Ok(_) => {}
                Err(failed) => return self.fall_back(key, options, wanted, role, failed),
            }
        }
    }

    /// Starts the flight in a task of its own. The loader's closure is called here, its future runs there.
    fn take_off(
        self: &Arc<Self>,
        task: Task,
        lead: Lead<K, Outcome<V>>,
        options: &EntryOptions,
        wanted: Wanted,
        load: impl FnOnce(Load<K>) -> LoadFuture<V>,
    ) {
        let fence = self.store.begin(lead.key());
        let handle = Load::new(lead.key().clone());
        let wishes = handle.wishes();
        match catch_unwind(AssertUnwindSafe(|| load(handle))) {
            Ok(load) => {
                let (engine, options) = (self.clone(), options.clone());
                let flight = Flight { engine, lead, fence, options, wanted };
                self.detach(task, flight.run(Loader { load, wishes }));
            }
            Err(panic) => {
                self.emit(&Event::Load { outcome: LoadOutcome::Panicked, took: Duration::ZERO });
                let error = failure(Failure::from_panic(&*panic), self.times.hard_timeout);
                lead.land(Err(Failed { error, stale: None }));
            }
        }
    }

    async fn wait(
        &self,
        follow: Follow<Outcome<V>>,
        options: &EntryOptions,
    ) -> Result<Outcome<V>, LoadError> {
        let content = |offer: &Outcome<V>| offer.as_ref().is_ok_and(|found| may_revalidate(options, found));
        match follow.wait_or_interim(content).await {
            Ok(Landing::Final(outcome) | Landing::Interim(outcome)) => Ok(outcome),
            Ok(Landing::Abandoned) => {
                let detail = "the task that loaded it panicked or was dropped";
                Err(Error::new(ErrorKind::Panicked, "load").detail(detail).into())
            }
            Err(reentrant) => Err(Error::new(ErrorKind::Reentrant, "load").caused_by(reentrant).into()),
        }
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
    ) -> Result<Option<Cached<V>>, LoadError> {
        let in_memory = self.store.get(key).map(Found::in_memory).filter(|found| wanted.accepts(found));
        match in_memory.or(failed.stale) {
            Some(found) if found.freshness == Freshness::Fresh => {
                self.emit(&role.served_from(found.tier));
                Ok(Cached::new(found))
            }
            Some(found) if may_fall_back(options, &found) => {
                Ok(self.serve_stale(found, StaleReason::LoadFailed(failed.error)))
            }
            _ => {
                self.emit(&role.served_from(Tier::Loader));
                Err(failed.error)
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

/// Whether an old value may be served because the load failed. How long ago an invalidated one was marked is
/// not known, only that its tier keeps it no longer than the window; a call's own bound is held against its
/// whole age.
fn may_fall_back<V>(options: &EntryOptions, found: &Found<V>) -> bool {
    match found.freshness {
        Freshness::Invalidated => !options.stale_if_error.is_zero() && found.stale_for <= options.max_stale,
        _ => options.may_serve_on_error(found.stale_for),
    }
}

/// A caller's part in a flight: each read is counted once, by what came of it.
#[derive(Clone, Copy)]
enum Role {
    Leader,
    Follower,
}

impl Role {
    fn served_from(self, tier: Tier) -> Event<'static> {
        match (tier, self) {
            (Tier::Loader, Self::Leader) => Event::Miss,
            (Tier::Loader, Self::Follower) => Event::Coalesced,
            (tier, _) => Event::Hit { tier },
        }
    }
}

/// A load that was to give a value gave an absence: only a defect here could make it so.
fn gave_nothing() -> LoadError {
    Error::new(ErrorKind::Cancelled, "load").detail("the load gave nothing").into()
}
