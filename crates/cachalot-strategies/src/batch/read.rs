//! The way of a caller who wants many values.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{
    EntryOptions, Event, Fence, Freshness, Key, LoadError, LoaderError, Result, Store, Tier, mutant,
};
use cachalot_stampede::Joined;

use super::AT_ONCE;
use super::distinct::Distinct;
use super::flights::Batch;
use super::load::{self, IntoLoaded, LoadMany, ManyLoader};
use super::pipeline::pipelined;
use crate::cached::{Cached, Found};
use crate::early::Turn;
use crate::engine::{Engine, Task};
use crate::flight::{Considered, Failed, Flight, Purpose, Wanted};
use crate::read::{Answer, Role, Seat, ask_tags, gave_nothing};
use crate::shared::Shared;
use crate::tags::Vetted;

/// Where a caller stands with one key before anything is awaited.
enum Taken<V> {
    Answer(Answer<V>),
    Seat(Seat<V>),
    BackedOff(LoadError),
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// What memory and the shared tier have, the latter copied to memory under the fences.
    pub(crate) async fn get_many(&self, keys: &[K]) -> Vec<Option<Cached<V>>> {
        let mut answers: Vec<_> = keys.iter().map(|key| self.get_in_memory(key)).collect();
        let missing = Distinct::of(keys, |place| answers[place].is_none());
        if missing.keys.is_empty() {
            return answers;
        }
        let found = self.copy_many(&missing.keys).await;
        for (place, at) in missing.places() {
            self.emit(&found[at].as_ref().map_or(Event::Miss, |_| Event::Hit { tier: Tier::Backend }));
            answers[place] = found[at].clone().and_then(Cached::new);
        }
        answers
    }

    fn get_in_memory(&self, key: &K) -> Option<Cached<V>> {
        let cached = self.fresh_in_memory(key).and_then(Cached::new)?;
        self.emit_memory_hit();
        Some(cached)
    }

    /// What the shared tier has, copied to memory under the fences.
    pub(crate) async fn copy_many(&self, keys: &[&K]) -> Vec<Option<Found<V>>> {
        let Some(shared) = &self.shared else { return vec![None; keys.len()] };
        let began = self.seen.count();
        // Every fence before the one read.
        let mut asked: Vec<Option<(Fence, Key)>> = Vec::with_capacity(keys.len());
        for key in keys {
            let fence = self.store.begin(key);
            let shared_key = shared.key(key);
            asked.push((!self.is_pending(&shared_key)).then_some((fence, shared_key)));
        }
        let shared_keys: Vec<Key> = asked.iter().flatten().map(|(_, key)| key.clone()).collect();
        if shared_keys.is_empty() {
            return vec![None; keys.len()];
        }
        let records = shared.backend.get_many(&shared_keys).await;
        let mut records = self.vet_many(shared, &shared_keys, records).await.into_iter();
        let copy = |(asked, key): (Option<(Fence, Key)>, &&K)| {
            let (fence, shared_key) = asked?;
            let found = self.usable(shared, &shared_key, records.next()?, began)?;
            let fence = if mutant!(FencesCopiesLate) { self.store.begin(key) } else { fence };
            self.fill_memory(fence, (*key).clone(), &found);
            Some(found)
        };
        asked.into_iter().zip(keys).map(copy).collect()
    }

    pub(crate) async fn load_values<F, T, A, R>(
        self: &Arc<Self>,
        keys: &[K],
        options: &EntryOptions,
        load: F,
    ) -> Vec<Result<Cached<V>, LoadError>>
    where
        F: Fn(LoadMany<K>) -> T + Send + Sync + 'static,
        T: Future<Output = Result<A, LoaderError>> + Send + 'static,
        A: IntoIterator<Item = (K, R)>,
        R: IntoLoaded<V>,
    {
        let answers = self.load_many(keys, options, Wanted::Value, || load::values(load)).await;
        answers.into_iter().map(|answer| answer?.ok_or_else(gave_nothing)).collect()
    }

    pub(crate) async fn load_options<F, T, A, R>(
        self: &Arc<Self>,
        keys: &[K],
        options: &EntryOptions,
        load: F,
    ) -> Vec<Result<Option<Cached<V>>, LoadError>>
    where
        F: Fn(LoadMany<K>) -> T + Send + Sync + 'static,
        T: Future<Output = Result<A, LoaderError>> + Send + 'static,
        A: IntoIterator<Item = (K, R)>,
        R: IntoLoaded<Option<V>>,
    {
        self.load_many(keys, options, Wanted::ValueOrAbsence, || load::options(load)).await
    }

    /// Joins the flights of `keys`, or opens them, until each has landed what is wanted.
    async fn load_many(
        self: &Arc<Self>,
        keys: &[K],
        options: &EntryOptions,
        wanted: Wanted,
        load: impl FnOnce() -> ManyLoader<K, V>,
    ) -> Vec<Answer<V>> {
        let mut answers: Vec<_> = keys.iter().map(|key| self.answer_from_memory(key, wanted)).collect();
        if answers.iter().all(Option::is_some) {
            return answers.into_iter().flatten().collect();
        }
        self.arrive();
        let began = self.clock.monotonic();
        let batch = Batch::new(self.clone(), options.clone(), wanted, load());
        loop {
            let open = Distinct::of(keys, |place| answers[place].is_none());
            if open.keys.is_empty() {
                return answers.into_iter().flatten().collect();
            }
            let answered = self.load_open(&open.keys, &batch, began).await;
            for (place, at) in open.places() {
                answers[place].clone_from(&answered[at]);
            }
        }
    }

    /// What needs no more than a look: a fresh value that no early refresh is to be considered for.
    fn answer_from_memory(&self, key: &K, wanted: Wanted) -> Option<Answer<V>> {
        let found = self.fresh_in_memory(key).filter(|found| wanted.accepts(found))?;
        if found.entry.meta.is_early(found.at) {
            return None;
        }
        self.emit_memory_hit();
        Some(Ok(Cached::new(found)))
    }

    /// `None`: to be asked again.
    async fn load_open(
        self: &Arc<Self>,
        keys: &[&K],
        batch: &Arc<Batch<K, V, S>>,
        began: Duration,
    ) -> Vec<Option<Answer<V>>> {
        let mut flights = Vec::new();
        let mut task = None;
        let mut seats = Vec::with_capacity(keys.len());
        for key in keys {
            seats.push(self.take_seat(key, batch, &mut flights, &mut task));
        }
        if let Some(task) = task.filter(|_| !flights.is_empty()) {
            batch.take_off(task, flights);
        }
        let mut answers = Vec::with_capacity(keys.len());
        let mut backed_off = Vec::new();
        for (key, seat) in keys.iter().zip(seats) {
            answers.push(match seat {
                Taken::Answer(answer) => Some(answer),
                Taken::Seat(seat) => {
                    let options = self.with_time_left(&batch.options, began);
                    self.conclude(key, &options, batch.wanted, seat).await
                }
                Taken::BackedOff(error) => {
                    backed_off.push((answers.len(), *key, error));
                    None
                }
            });
        }
        let served = |(at, key, error)| async move {
            (at, self.back_off(key, &batch.options, batch.wanted, error).await)
        };
        // Collected: the compiler cannot see that a future is `Send` across an await of this closure.
        let served: Vec<_> = backed_off.into_iter().map(served).collect();
        for (at, answer) in pipelined(AT_ONCE, served).await {
            answers[at] = Some(answer);
        }
        answers
    }

    /// What memory has, or a share in the flight of `key`. A flight that is to be led is added to `flights`.
    fn take_seat(
        self: &Arc<Self>,
        key: &K,
        batch: &Batch<K, V, S>,
        flights: &mut Vec<Flight<K, V, S>>,
        task: &mut Option<Task>,
    ) -> Taken<V> {
        let in_memory = self.look(key).map(Found::in_memory).filter(|found| batch.wanted.accepts(found));
        if let Some(found) = in_memory.as_ref().filter(|found| found.freshness == Freshness::Fresh) {
            self.emit_memory_hit();
            if !found.is_negative() && self.is_due(key, &found.entry.meta, found.at) {
                self.begin_refresh_of(key, batch, flights, task);
            }
            return Taken::Answer(Ok(Cached::new(found.clone())));
        }
        if let Some(error) = self.remembered(key) {
            return Taken::BackedOff(error);
        }
        if let Err(closed) = self.admit_once(task) {
            return Taken::Answer(Err(closed.into()));
        }
        let purpose = if in_memory.is_some() { Purpose::Renew } else { Purpose::Answer };
        let (role, follow) = match self.join(key) {
            Joined::Lead(lead, follow) => {
                // Another flight may have failed between the look and the join.
                if let Some(error) = self.remembered(key) {
                    lead.land(Err(Failed { error: error.clone(), stale: None }));
                    return Taken::BackedOff(error);
                }
                let options = batch.options.clone();
                flights.push(Flight::new(self.clone(), lead, options, batch.wanted, purpose));
                (Role::LEADER, follow)
            }
            Joined::Follow(follow) => {
                ask_tags(&follow, &batch.options);
                (Role::follower(self.seen.count()), follow)
            }
        };
        Taken::Seat(Seat { role, at_hand: in_memory, follow, may_load: true })
    }

    /// Adds an early refresh to `flights`, unless somebody loads the key already or the budget is spent.
    fn begin_refresh_of(
        self: &Arc<Self>,
        key: &K,
        batch: &Batch<K, V, S>,
        flights: &mut Vec<Flight<K, V, S>>,
        task: &mut Option<Task>,
    ) {
        if self.admit_once(task).is_err() {
            return;
        }
        let Some(Turn { lead, purpose, .. }) = self.lead_refresh(key, batch.wanted) else { return };
        flights.push(Flight::new(self.clone(), lead, batch.options.clone(), batch.wanted, purpose));
    }

    /// One task for all flights of a call.
    fn admit_once(&self, task: &mut Option<Task>) -> Result<()> {
        if task.is_none() {
            *task = Some(self.admit("load")?);
        }
        Ok(())
    }

    /// The seats are waited for one after another, and the soft timeout is one for all.
    fn with_time_left(&self, options: &EntryOptions, began: Duration) -> EntryOptions {
        let passed = self.clock.monotonic().saturating_sub(began);
        let options = options.clone();
        if options.soft_timeout == Duration::MAX {
            return options;
        }
        let left = options.soft_timeout.saturating_sub(passed);
        options.soft_timeout(left)
    }

    fn usable(
        &self,
        shared: &Shared<K, V>,
        key: &Key,
        record: Result<Option<Vetted>>,
        began: u64,
    ) -> Option<Found<V>> {
        let record = match record {
            Ok(record) => record?,
            Err(error) => {
                self.backend_failed(&error);
                return None;
            }
        };
        match self.consider(shared, key, &record, began, Wanted::Value) {
            Considered::Usable(fresh) => Some(shared.copy(fresh)),
            Considered::Newer | Considered::Unfit(_) => None,
        }
    }
}
