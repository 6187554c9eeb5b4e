//! One call of a loader of many: its run, its bounds, and what becomes of its answers.

use std::future::poll_fn;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cachalot_core::{Event, Key, LoadError, LoadOutcome, LoaderError, Result, Store, Token, mutant};
use cachalot_stampede::{Failure, guard, loading_all};
use tokio::sync::OwnedSemaphorePermit;

use super::AT_ONCE;
use super::flights::{Batch, Ready};
use super::load::{Answers, LoadMany, ManyFuture, Unanswered};
use super::pipeline::pipelined;
use crate::engine::OnDeserted;
use crate::flight::{Failed, Loaded, Right, Wanted};
use crate::tags::Captured;

/// What came of running a loader. `None`: it was dropped because nobody waits any more.
type Ran<K, V> = Option<Result<Result<Answers<K, V>, LoaderError>, Failure>>;

impl<K, V, S> Batch<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Runs the loader for `ready`, stores and lands what it gives, key by key.
    pub(super) async fn call_loader(
        self: Arc<Self>,
        ready: Vec<Ready<K, V, S>>,
        permit: OwnedSemaphorePermit,
    ) {
        let engine = &self.engine;
        let keys = ready.iter().map(|ready| ready.flight.lead.key().clone()).collect();
        let handle = LoadMany::new(keys, engine.tag_of());
        let wishes = handle.wishes();
        let load = self.load.clone();
        let stores_below = ready.iter().any(|ready| matches!(ready.right, Right::Lease(_)));
        let captured = match &engine.shared {
            Some(shared) if stores_below => engine.capture(shared, &self.options.tags).await,
            _ => Captured::default(),
        };
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
        let keeps_leases = answers.is_err() && mutant!(KeepsTheLeasesOfAFailedBatch);
        let settled = ready.into_iter().map(|Ready { flight, right, stale }| {
            let right = if keeps_leases { Right::Nothing } else { right };
            let key = flight.lead.key();
            let is_answered = answers.as_ref().map_or(true, |answers| answers.contains_key(key));
            let result = match answer_for(&mut answers, key) {
                Err(_) if !is_answered && self.takes_for_absent() => Ok(None),
                result => result,
            };
            let loaded = Loaded { result, wishes: wishes.taken(key), captured: captured.clone(), took };
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

    /// Whether a key that was not answered is taken for absent: never.
    fn takes_for_absent(&self) -> bool {
        mutant!(TakesTheUnansweredForAbsent) && self.wanted == Wanted::ValueOrAbsence
    }

    /// As for a single flight: the loader runs at most for the flight's age, and after the hard timeout its
    /// callers are sent away.
    async fn run_loader(&self, load: ManyFuture<K, V>, ready: &[Ready<K, V, S>]) -> Ran<K, V> {
        let times = &self.engine.times;
        let flights = ready.iter().map(|ready| ready.flight.lead.id());
        let run = pin!(loading_all(flights, guard(load, times.max_flight_age)));
        let replaces = ready.iter().any(|ready| ready.stale.is_some() || !ready.flight.answers_callers());
        let give_up = times.on_deserted == OnDeserted::Cancel && !replaces;
        let deserted = give_up.then(|| Box::pin(all_deserted(ready)));
        let send_away = |error: LoadError| {
            for ready in ready {
                ready.flight.lead.offer(Err(Failed { error: error.clone(), stale: None }));
            }
        };
        times.watch(run, deserted, send_away).await
    }

    /// Abandons flights that nobody waits for, and gives their leases back.
    async fn give_back(&self, ready: Vec<Ready<K, V, S>>) {
        let Some(shared) = &self.engine.shared else { return };
        if mutant!(KeepsTheLeasesOfADesertedBatch) {
            return;
        }
        let token = |Ready { flight, right, .. }: Ready<K, V, S>| {
            Some((shared.key(flight.lead.key()), right.token()?))
        };
        let tokens: Vec<(Key, Token)> = ready.into_iter().filter_map(token).collect();
        let released = tokens.into_iter().map(|(key, token)| async move {
            self.engine.release(shared, &key, token).await;
        });
        pipelined(AT_ONCE, released).await;
    }
}

/// Waits until nobody waits for any of `ready`, then detaches them. Not one by one: a key that was given up while
/// others are waited for would be loaded a second time beside this call.
async fn all_deserted<K, V, S>(ready: &[Ready<K, V, S>]) {
    let is_deserted = |cx: &mut Context<'_>| ready.iter().all(|ready| ready.flight.lead.watch_deserted(cx));
    poll_fn(|cx| if is_deserted(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    for ready in ready {
        ready.flight.lead.deserted().await;
    }
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
