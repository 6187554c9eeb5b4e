//! Invalidations that the shared tier has not taken: kept, and replayed until it has.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{
    Backend, Depth, Error, Event, Key, KeyPattern, Pattern, Result, Store, Tag, Tags, Timestamp, mutant,
};
use cachalot_invalidation::{Backoff, Item};
use cachalot_stampede::guard;

use crate::engine::Engine;
use crate::shared::Shared;

/// An invalidation that the shared tier has not taken.
#[derive(Clone, Debug)]
pub(crate) enum Missed<K> {
    /// And the version below which nothing is good; 0 if there is none.
    Key(K, u64),
    Tag(Tag),
    Pattern(Pattern),
    /// All that the cache has.
    All,
}

impl<K: Clone> Missed<K> {
    fn key(&self) -> Option<&K> {
        match self {
            Self::Key(key, _) => Some(key),
            Self::Tag(_) | Self::Pattern(_) | Self::All => None,
        }
    }

    /// The key, and the version below which nothing of it is good.
    fn floor(&self) -> Option<(K, u64)> {
        match self {
            Self::Key(key, version) => Some((key.clone(), *version)),
            _ => None,
        }
    }

    /// What is left to be done of two about one name: the newer, at the higher version.
    fn after(&self, newer: Self) -> Self {
        match (self, newer) {
            (Self::Key(_, before), Self::Key(key, version)) => Self::Key(key, version.max(*before)),
            // The removal of all that a pattern means, by the same name: it ends what the pattern would, and more.
            (Self::All, Self::Pattern(_)) => Self::All,
            (_, newer) => newer,
        }
    }
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Keeps an invalidation that the shared tier has not taken. Deferred first, then forgotten: a reader
    /// that begins after the second sees the first, one that began before has lost its fence.
    pub(crate) fn defer(self: &Arc<Self>, shared_key: Key, key: K, error: &Error) {
        let floor = self.floor_here(&key);
        self.keep_for_replay(shared_key, Missed::Key(key.clone(), floor));
        self.tell_key(&key, true);
        self.forget(&key);
        self.emit_deferred(error, 1);
    }

    /// Last of all: what an observer does may take its time.
    pub(crate) fn emit_deferred(&self, error: &Error, count: usize) {
        self.backend_failed(error);
        (0..count).for_each(|_| self.emit(&Event::Deferred));
        self.emit_overflows();
    }

    pub(crate) fn emit_overflows(&self) {
        (0..self.deferred.take_overflows()).for_each(|_| self.emit(&Event::DeferredOverflowed));
    }

    /// Keeps `missed`, and that what depends on it is to end, until a replay has brought it to the shared tier.
    pub(crate) fn keep_for_replay(self: &Arc<Self>, name: Key, missed: Missed<K>) {
        // An item of its own, so that what has the tag is bypassed too.
        if let Some(tag) = self.dependants_of(&missed) {
            self.keep_one(self.namespace.tag(&tag), Missed::Tag(tag));
        }
        self.keep_one(name, missed);
    }

    fn keep_one(self: &Arc<Self>, name: Key, missed: Missed<K>) {
        if mutant!(ForgetsTheDeferred) {
            return;
        }
        let swept_for = self.swept_for(&missed);
        let defer = || self.deferred.defer_merged(name, missed, Missed::after);
        let is_first = match swept_for {
            Some(pattern) => self.unswept.add_pattern_and(pattern, Timestamp::NEVER, defer),
            None => defer(),
        };
        if is_first {
            // Not refused by a shutdown: it belongs to the invalidation that runs.
            self.detach(self.tasks.begin(), self.clone().replay());
        }
    }

    /// What the shared tier has to be swept for, if that is what it `missed`.
    fn swept_for(&self, missed: &Missed<K>) -> Option<KeyPattern> {
        match missed {
            Missed::Pattern(pattern) => Some(pattern.within(&self.namespace)),
            Missed::All => Some(Pattern::any().within(&self.namespace)),
            Missed::Key(..) | Missed::Tag(_) => None,
        }
    }

    /// Replays deferred invalidations until none is left. Each is tried in each round, so that one that
    /// keeps failing holds up no other.
    async fn replay(self: Arc<Self>) {
        let Some(shared) = &self.shared else { return };
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        while !self.deferred.finish() {
            tokio::time::sleep(backoff.next(&self.entropy)).await;
            match guard(Box::pin(self.replay_all(shared)), Duration::MAX).await {
                Ok(true) => backoff.reset(),
                Ok(false) => {}
                // Nobody else would replay what is left.
                Err(_) => self.emit(&Event::TaskPanicked),
            }
        }
    }

    /// Whether the shared tier has taken any.
    async fn replay_all(&self, shared: &Shared<K, V>) -> bool {
        let mut taken = false;
        for items in self.deferred.items().chunks(KEYS_PER_REPLAY) {
            taken |= self.replay_some(shared, items).await;
        }
        taken
    }

    /// Whether the shared tier has taken any of `items`.
    async fn replay_some(&self, shared: &Shared<K, V>, items: &[Item<Missed<K>>]) -> bool {
        let (mut keys, others): (Vec<_>, Vec<_>) =
            items.iter().partition(|item| matches!(item.missed, Missed::Key(..)));
        let mut taken = false;
        if self.versions.is_some() {
            let floors = keys.iter().filter_map(|item| item.missed.floor()).collect();
            let mut raised = self.raise_again(floors).await.into_iter();
            keys.retain(|_| raised.next() == Some(true));
        }
        if !keys.is_empty() {
            let names: Vec<Key> = keys.iter().map(|item| item.key.clone()).collect();
            let mut removed = shared.backend.remove_many(&names).await;
            let of_keys: Vec<K> = keys.iter().filter_map(|item| item.missed.key().cloned()).collect();
            // A value's `Drop` may have thrown what it likes: the step that is to come is this process's.
            let _ = self.end_dependants_of_many(shared, &of_keys, &mut removed).await;
            for (item, removed) in keys.iter().zip(removed) {
                taken |= self.settle(item, removed.map(drop)).await;
            }
        }
        for item in others {
            let outcome = match &item.missed {
                Missed::Tag(tag) => self.rotate(shared, std::slice::from_ref(tag), Depth::Remove).await,
                Missed::Pattern(pattern) => self.sweep_again(pattern).await,
                Missed::All => self.end_all().await,
                Missed::Key(..) => Ok(()),
            };
            taken |= self.settle(item, outcome).await;
        }
        taken
    }

    /// Whether the shared tier has taken `item`.
    async fn settle(&self, item: &Item<Missed<K>>, outcome: Result<()>) -> bool {
        if let Err(error) = outcome {
            self.backend_failed(&error);
            return false;
        }
        // Before it is settled: until then no reader stores.
        match &item.missed {
            Missed::Key(key, _) => self.forget(key),
            Missed::Tag(tag) => self.forget_tags(&Tags::one(tag.clone()), Depth::Remove),
            Missed::Pattern(pattern) => self.forget_unswept(pattern).await,
            Missed::All => self.forget_all(),
        }
        // Once more: others may have read the old value below since they were told first. Before it is
        // settled: who waits for that waits for this message too.
        match &item.missed {
            _ if mutant!(SkipsTheSecondMessage) => {}
            Missed::Key(key, _) => self.tell_key(key, false),
            Missed::Tag(tag) => self.tell_tags(&Tags::one(tag.clone()), false),
            Missed::Pattern(pattern) => self.tell_pattern(pattern, false),
            Missed::All => self.tell_clear(false),
        }
        match self.swept_for(&item.missed) {
            // Not if it was deferred again meanwhile.
            Some(pattern) => self.unswept.settle_pattern_if(&pattern, || {
                self.deferred.settle(item);
                !self.deferred.holds(&item.key)
            }),
            None => self.deferred.settle(item),
        }
        if matches!(item.missed, Missed::All) {
            // Those whose place it took, too.
            self.unswept.keep_patterns(|pattern| self.deferred.holds(&self.name_of_pattern(pattern)));
        }
        self.emit(&Event::Replayed);
        true
    }
}

/// How many invalidations are replayed in one go.
const KEYS_PER_REPLAY: usize = 256;
