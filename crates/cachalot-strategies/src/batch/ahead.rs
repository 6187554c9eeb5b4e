//! Refreshes that no read has asked for: which keys are due, and the flights that do it.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{EntryOptions, Fence, Key, LoaderError, Meta, Store, Timestamp};
use cachalot_stampede::{Follow, Joined};
use tokio::time::timeout;

use super::flights::Batch;
use super::load::{self, LoadMany};
use crate::engine::Engine;
use crate::flight::{Considered, Flight, Outcome, Purpose, Wanted};
use crate::shared::Shared;
use crate::tags::Vetted;

/// Whether a key is to be refreshed ahead of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// Nothing is to be done, or nothing can.
    Fine,
    /// The share of its life has been over since then.
    Due(Timestamp),
    /// No tier has a value that is fresh.
    Missing,
}

/// When `ratio` of a life is over; never of one without an end.
pub(crate) fn due_at(ratio: f64, life: &Meta) -> Option<Timestamp> {
    let ends = life.soft_expiry() != Timestamp::NEVER;
    ends.then(|| life.created_at() + life.fresh_for().mul_f64(ratio))
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// How `keys` stand. What memory cannot answer is read from the shared tier at once, and copied to memory if it is
    /// not due.
    pub(crate) async fn stand(&self, keys: &[K], ratio: f64) -> Vec<Ahead> {
        let began = self.seen.count();
        let mut stands = Vec::with_capacity(keys.len());
        let mut asked: Vec<(usize, Fence, Key)> = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            let here = self.stands_here(key, ratio);
            if here != Ahead::Fine
                && let Some(shared) = &self.shared
            {
                let (fence, name) = (self.store.begin(key), shared.key(key));
                // What is loaded while an invalidation is to be replayed could not be kept.
                if self.is_pending(&name) {
                    stands.push(Ahead::Fine);
                    continue;
                }
                asked.push((place, fence, name));
            }
            stands.push(here);
        }
        let Some(shared) = self.shared.as_ref().filter(|_| !asked.is_empty()) else { return stands };
        let names: Vec<Key> = asked.iter().map(|(.., name)| name.clone()).collect();
        let records = shared.backend.get_many(&names).await;
        let mut records = self.vet_many(shared, &names, records).await.into_iter();
        for (place, fence, name) in asked {
            stands[place] = match records.next() {
                Some(Ok(Some(vetted))) => {
                    self.stands_below(shared, (&keys[place], fence), &name, &vetted, (began, ratio))
                }
                Some(Ok(None)) => Ahead::Missing,
                Some(Err(error)) => {
                    self.backend_failed(&error);
                    Ahead::Fine
                }
                None => Ahead::Fine,
            };
        }
        stands
    }

    fn stands_here(&self, key: &K, ratio: f64) -> Ahead {
        if self.remembered(key).is_some() {
            return Ahead::Fine;
        }
        match self.fresh_in_memory(key) {
            None => Ahead::Missing,
            Some(found) if found.is_negative() => Ahead::Fine,
            Some(found) => due(ratio, &found.entry.meta, found.at),
        }
    }

    fn stands_below(
        &self,
        shared: &Shared<K, V>,
        (key, fence): (&K, Fence),
        name: &Key,
        vetted: &Vetted,
        (began, ratio): (u64, f64),
    ) -> Ahead {
        match self.consider(shared, name, vetted, began, Wanted::ValueOrAbsence) {
            Considered::Usable(fresh) => {
                let is_absent = fresh.is_negative();
                let stands = if is_absent { Ahead::Fine } else { due(ratio, &fresh.life, fresh.at) };
                if stands == Ahead::Fine {
                    self.fill_memory(fence, key.clone(), &shared.copy(fresh));
                }
                stands
            }
            Considered::Unfit(_) => Ahead::Missing,
            Considered::Newer => Ahead::Fine,
        }
    }

    /// Refreshes those of `keys` of whose life `ratio` is over, loads those that are missing, and waits until all are
    /// done, for `patience` at most: one whose lease somebody else has may take long. What somebody loads already is
    /// left to them.
    pub(crate) async fn refresh_ahead<F, T, A>(
        self: &Arc<Self>,
        keys: Vec<K>,
        options: &EntryOptions,
        (ratio, patience): (f64, Duration),
        load: F,
    ) where
        F: Fn(LoadMany<K>) -> T + Send + Sync + 'static,
        T: Future<Output = Result<A, LoaderError>> + Send + 'static,
        A: IntoIterator<Item = (K, Option<V>)>,
    {
        let Ok(task) = self.admit("refresh") else { return };
        let wanted = Wanted::ValueOrAbsence;
        let batch = Batch::new(self.clone(), options.clone(), wanted, load::options(load));
        let mut flights = Vec::with_capacity(keys.len());
        let mut follows: Vec<Follow<Outcome<V>>> = Vec::with_capacity(keys.len());
        for key in keys {
            if let Joined::Lead(lead, follow) = self.join(&key) {
                let purpose = Purpose::Ahead(ratio);
                flights.push(Flight::new(self.clone(), lead, options.clone(), wanted, purpose));
                follows.push(follow);
            }
        }
        batch.take_off(task, flights);
        let landed = async {
            for mut follow in follows {
                // What it gives is for readers; the loader has told how it went.
                let _ = self.wait(&mut follow, |offer| offer.is_err()).await;
            }
        };
        let _ = timeout(patience, landed).await;
    }
}

fn due(ratio: f64, life: &Meta, now: Timestamp) -> Ahead {
    due_at(ratio, life).filter(|due| *due <= now).map_or(Ahead::Fine, Ahead::Due)
}
