//! Who writes to the source, and how the cache is told.

use std::sync::Arc;

use cachalot::{Inserted, Pattern, Removal, Result};
use cachalot_testkit::history::{Done, How, InvalidationId};

use super::chronicle::{name_of, name_of_tag};
use super::life::Act;
use super::plan::{Action, Reach, Tagging};
use super::{KEYS, Process, TAG, World, unless_left};
use crate::L1;

impl<S: L1> World<S> {
    /// Changes a key in the source and tells the cache. Writers of one key take turns: a turn ends when all that
    /// was done for it has ended, also behind a caller who has left; or, of an insert that lets others in, when
    /// its hold has landed: from then on the writer who comes later wins.
    pub(super) async fn change(self: Arc<Self>, process: Arc<Process<S>>, action: Action, how: How) {
        let key = action.key;
        let mut turn = Some(self.turns[key].write().await);
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
            turns.push(turn.write().await);
        }
        let how = (0..KEYS).map(|key| self.write(action, key, how)).fold(how, weaker);
        self.clone().tell_many(process, action, how).await;
        Act::current().alone().await;
    }

    /// Changes a key in the source and tells the cache by what reaches all of them.
    pub(super) async fn change_all(self: Arc<Self>, process: Arc<Process<S>>, action: Action, reach: Reach) {
        let mut turns = Vec::new();
        for turn in &self.turns {
            turns.push(turn.write().await);
        }
        self.write(action, action.key, How::Remove);
        self.clone().tell_all(process, action, reach).await;
        Act::current().alone().await;
    }

    async fn tell_all(self: Arc<Self>, process: Arc<Process<S>>, action: Action, reach: Reach) {
        let has_tags = self.habits.tagging != Tagging::None;
        let is_by_tag = has_tags && matches!(reach, Reach::Tag | Reach::ExpiredTag);
        let how = if is_by_tag && reach == Reach::ExpiredTag { How::Expire } else { How::Remove };
        let begun: [_; KEYS] = std::array::from_fn(|key| {
            let mut history = self.history();
            let begun = history.begin_invalidation(process.id, key, how, self.now());
            if is_by_tag {
                history.by_tag(begun);
            }
            begun
        });
        // What a walk has ended by which step is not known before it is through.
        if is_by_tag {
            begun.into_iter().for_each(|begun| Act::current().is_about(begun, name_of_tag()));
        }
        let work = async {
            match reach {
                Reach::Tag if is_by_tag => process.cache.remove_tag(TAG).await,
                Reach::ExpiredTag if is_by_tag => process.cache.expire_tag(TAG).await,
                Reach::Pattern => process.cache.remove_pattern(&Pattern::any()).await,
                _ => process.cache.clear().await,
            }
        };
        let outcome = unless_left(action, work).await;
        self.note(format_args!("#{} {reach:?}: {outcome:?}", action.id));
        if let Some(outcome) = outcome {
            begun.into_iter().for_each(|begun| self.told(begun, outcome.clone()));
        }
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
        Act::current().is_about(begun, name_of(key));
        let work = async {
            match how {
                How::Remove => process.cache.remove(&id).await,
                How::Expire => process.cache.expire(&id).await,
                How::Insert => self.insert(&process, id, version.to_string()).await.map(removal),
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
        // Each insert has a hold of its own: when which has landed is not told apart.
        if how != How::Insert {
            begun.iter().enumerate().for_each(|(key, begun)| Act::current().is_about(*begun, name_of(key)));
        }
        let versions = keys.map(|key| self.history().version(&(key as usize)));
        let work = async {
            if how == How::Insert {
                let pairs = keys.into_iter().zip(versions.map(|version| version.to_string()));
                let view = process.cache.with(|options| options.tags(self.tags_of_inserts()));
                let inserted = view.insert_many(pairs).await;
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

    async fn insert(&self, process: &Process<S>, key: u64, value: String) -> Result<Inserted> {
        process.cache.with(|options| options.tags(self.tags_of_inserts())).insert(key, value).await
    }

    pub(super) fn told(&self, begun: InvalidationId, outcome: Result<Removal>) {
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
pub(super) fn removal(inserted: Inserted) -> Removal {
    match inserted {
        Inserted::Stored | Inserted::Dropped | Inserted::Outdated => Removal::Removed,
        Inserted::Deferred => Removal::Deferred,
    }
}

/// One of both that does for all: a value can be inserted only if there is one.
fn weaker(one: How, other: How) -> How {
    if one == How::Insert { other } else { one }
}
