//! Who writes to the source, and how the cache is told.

use std::sync::Arc;

use cachalot::{Inserted, Removal, Result};
use cachalot_testkit::history::{Done, How, InvalidationId};

use super::life::Act;
use super::plan::Action;
use super::{KEYS, Process, World, unless_left};
use crate::L1;

impl<S: L1> World<S> {
    /// Changes a key in the source and tells the cache. Writers of one key take turns: a turn ends when all that
    /// was done for it has ended, also behind a caller who has left; or, of an insert that lets others in, when
    /// its hold has landed: from then on the writer who comes later wins.
    pub(super) async fn change(self: Arc<Self>, process: Arc<Process<S>>, action: Action, how: How) {
        let key = action.key;
        let mut turn = Some(self.turns[key].lock().await);
        let how = self.write(action, key, how);
        let act = Act::current();
        let mut telling = std::pin::pin!(self.clone().tell(process, action, how));
        if action.lets_in && how == How::Insert {
            tokio::select! {
                biased;
                () = &mut telling => return act.alone().await,
                () = act.held() => drop(turn.take()),
            }
        }
        telling.await;
        if turn.is_some() {
            act.alone().await;
        }
    }

    /// Changes all keys in the source and tells the cache by one call.
    pub(super) async fn change_many(self: Arc<Self>, process: Arc<Process<S>>, action: Action, how: How) {
        let mut turns = Vec::new();
        for turn in &self.turns {
            turns.push(turn.lock().await);
        }
        let how = (0..KEYS).map(|key| self.write(action, key, how)).fold(how, weaker);
        self.clone().tell_many(process, action, how).await;
        Act::current().alone().await;
    }

    /// The next version of `key`. How the cache can be told of it: not by a value, if there is no row.
    fn write(&self, action: Action, key: usize, how: How) -> How {
        let version = self.history().write(key);
        self.note(format_args!("#{} key {key} becomes {version} in the source", action.id));
        if self.is_absent(version) { weaker(how, How::Remove) } else { how }
    }

    /// Tells the cache that the source has changed.
    pub(super) async fn tell(self: Arc<Self>, process: Arc<Process<S>>, action: Action, how: How) {
        let (key, id) = (action.key, action.key as u64);
        let (begun, version) = {
            let mut history = self.history();
            (history.begin_invalidation(process.id, key, how, self.now()), history.version(&key))
        };
        let work = async {
            match how {
                How::Remove => process.cache.remove(&id).await,
                How::Expire => process.cache.expire(&id).await,
                How::Insert => process.cache.insert(id, version.to_string()).await.map(removal),
            }
        };
        let outcome = unless_left(action, work).await;
        self.note(format_args!("#{} {how:?} of key {key} at {version}: {outcome:?}", action.id));
        if let Some(outcome) = outcome {
            self.told(begun, outcome);
        }
    }

    /// The same for all keys.
    pub(super) async fn tell_many(self: Arc<Self>, process: Arc<Process<S>>, action: Action, how: How) {
        let keys: [u64; KEYS] = std::array::from_fn(|key| key as u64);
        let begun =
            keys.map(|key| self.history().begin_invalidation(process.id, key as usize, how, self.now()));
        let versions = keys.map(|key| self.history().version(&(key as usize)));
        let work = async {
            if how == How::Insert {
                let pairs = keys.into_iter().zip(versions.map(|version| version.to_string()));
                let inserted = process.cache.insert_many(pairs).await;
                return inserted.into_iter().map(|inserted| inserted.map(removal)).collect();
            }
            match process.cache.remove_many(&keys).await {
                Ok(removals) => removals.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }
        };
        let outcomes: Option<Vec<Result<Removal>>> = unless_left(action, work).await;
        self.note(format_args!("#{} {how:?} of all keys at {versions:?}: {outcomes:?}", action.id));
        for (begun, outcome) in begun.into_iter().zip(outcomes.into_iter().flatten()) {
            self.told(begun, outcome);
        }
    }

    fn told(&self, begun: InvalidationId, outcome: Result<Removal>) {
        let done = match outcome {
            Ok(Removal::Removed) => Done::Everywhere,
            Ok(Removal::Deferred) => Done::Deferred,
            Err(_) => return,
        };
        *self.deferred.lock().unwrap() += usize::from(done == Done::Deferred);
        self.history().end_invalidation(begun, done, self.now());
    }
}

/// An insert as the invalidation that it is.
fn removal(inserted: Inserted) -> Removal {
    match inserted {
        Inserted::Stored | Inserted::Dropped => Removal::Removed,
        Inserted::Deferred => Removal::Deferred,
    }
}

/// One of both that does for all: a value can be inserted only if there is one.
fn weaker(one: How, other: How) -> How {
    if one == How::Insert { other } else { one }
}
