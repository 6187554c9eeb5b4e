//! Writes and invalidations. Each runs in a task that outlives its caller.

use std::hash::Hash;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachalot_core::envelope::Tagged;
use cachalot_core::{
    Backend, Commit, Depth, Entry, EntryOptions, Error, ErrorKind, Event, Fence, Held, Key, KeyPattern,
    LeaseBackend, Nonce, Pattern, Put, PutReply, Result, Store, Tag, Tags, Tier, Timestamp, Token, mutant,
};
use cachalot_invalidation::{Backoff, Item};
use cachalot_stampede::{Joined, Lead, guard};

use crate::engine::Engine;
use crate::shared::Shared;
use crate::tags;

/// What became of an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Done: no later read in this process, and none of the shared tier, sees a value from before.
    Removed,
    /// The shared tier could not be reached. The invalidation is kept and replayed until it is taken; the
    /// promise starts then. Meanwhile the key bypasses both tiers in this process; others may still read
    /// the old value.
    Deferred,
}

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

impl<K> Missed<K> {
    fn key(&self) -> Option<&K> {
        match self {
            Self::Key(key, _) => Some(key),
            Self::Tag(_) | Self::Pattern(_) | Self::All => None,
        }
    }
}

/// What became of an insert. In each case the old value is gone from this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Stored in the shared tier, where there is one, and in memory, unless memory cannot hold it.
    Stored,
    /// Not kept, because an invalidation or another writer came in between, its TTL says so, or it cannot be
    /// held. The old value is gone from the shared tier too; of two writers that overlap in one process the
    /// value of either may be there.
    Dropped,
    /// Not stored, because a newer version of the key is known ([`versioned`](crate::CacheBuilder::versioned)). What
    /// was there and older is gone; what is not older stays in the shared tier, and in a cache without one.
    Outdated,
    /// Not stored, because the shared tier could not be reached. The old value there is removed by a
    /// replay, as with [`Removal::Deferred`].
    Deferred,
}

impl<K> Missed<K> {
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

impl<K: Clone> Missed<K> {
    /// The key, and the version below which nothing of it is good.
    fn floor(&self) -> Option<(K, u64)> {
        match self {
            Self::Key(key, version) => Some((key.clone(), *version)),
            _ => None,
        }
    }
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Forgets `key` everywhere: the shared tier first, acknowledged, then this process. The other way round
    /// a reader would copy the old value back in between.
    pub(crate) async fn remove(self: Arc<Self>, key: K) -> Removal {
        let Some((shared, shared_key)) = self.shared_key(&key) else {
            self.tell_key(&key, false);
            self.forget(&key);
            return Removal::Removed;
        };
        if mutant!(ForgetsMemoryFirst) {
            self.forget(&key);
        }
        if mutant!(AnnouncesFirst) {
            self.tell_key(&key, false);
        }
        if mutant!(EndsDependantsFirst)
            && let Some(tag) = self.dependants_of(&Missed::Key(key.clone(), 0))
        {
            let _ = self.end_tags_of_dependants(shared, vec![tag], Depth::Remove).await;
        }
        let removed = shared.backend.remove(&shared_key).await;
        let (ended, panic) = match removed {
            Ok(_) => self.end_dependants(shared, &key, Depth::Remove).await,
            Err(error) => (Err(error), None),
        };
        match ended {
            Ok(()) => {
                // Numbered only now: a heartbeat that spoke of it earlier would make others look too early. And
                // before the old value's own `Drop` runs: others are told whatever becomes of that.
                if !mutant!(AnnouncesFirst) {
                    self.tell_key(&key, false);
                }
                if !mutant!(ForgetsMemoryFirst) {
                    self.forget(&key);
                }
                panic.map_or(Removal::Removed, |thrown| resume_unwind(thrown))
            }
            Err(error) => {
                self.defer(shared_key, key, &error);
                if mutant!(ReportsDeferredAsDone) { Removal::Removed } else { Removal::Deferred }
            }
        }
    }

    /// Marks `key` as invalidated everywhere, to be served only if a load fails, within the window for that;
    /// without one it is forgotten.
    pub(crate) async fn expire(self: Arc<Self>, key: K) -> Removal {
        let keep = self.options.stale_if_error;
        if keep.is_zero() {
            return self.remove(key).await;
        }
        if let Some((shared, shared_key)) = self.shared_key(&key) {
            let ended = match shared.backend.expire(&shared_key, keep).await {
                Ok(_) => self.end_dependants(shared, &key, Depth::Expire).await.0,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                self.defer(shared_key, key, &error);
                return Removal::Deferred;
            }
        }
        self.tell_key(&key, false);
        if !mutant!(ExpiresBelowOnly) {
            self.store.expire(&key, keep);
        }
        self.flights.void(&key);
        self.forget_dependants(&key, Depth::Expire);
        self.forget_failure(&key);
        Removal::Removed
    }

    /// Stores `value` in place of whatever is there.
    pub(crate) async fn insert(self: Arc<Self>, key: K, value: V, options: EntryOptions) -> Result<Inserted> {
        self.check_versioned("insert", options.version)?;
        let version = options.version;
        let tags = self.tags_of_insert(&key, &options.tags)?;
        let options = options.tags(tags);
        let _turn = self.turn(&key).await;
        let began = self.seen.count();
        let now = self.clock.now();
        let Some(meta) = self.own_times(&options).stamp(now, Duration::ZERO, &self.entropy) else {
            return Ok(match self.remove_older(key, version).await {
                Removal::Removed => Inserted::Dropped,
                Removal::Deferred => Inserted::Deferred,
            });
        };
        let Some((shared, shared_key)) = self.shared_key(&key) else {
            let stamp = tags::stamp(began, &options.tags, version);
            let entry = Entry { value: Some(value), meta: self.in_memory(meta, now), stamp };
            if self.raise_here(&key, version) > version {
                self.remove_unless(key, version).await;
                return Ok(self.outdated());
            }
            return Ok(self.insert_in_memory(key, entry));
        };
        let Some(leases) = shared.backend.leases() else {
            return Err(Error::new(ErrorKind::Unsupported, "insert").detail("the shared tier has no leases"));
        };
        let tagged = match self.tokens_for_insert(shared, &options.tags, meta.kept_for()).await {
            Ok(tagged) => tagged,
            Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
            Err(error) => {
                self.defer(shared_key, key, &error);
                return Ok(Inserted::Deferred);
            }
        };
        // Before anything is touched: a value that cannot be encoded changes nothing.
        let put = self.put(shared, &shared_key, Some(&value), &meta, &tagged, version)?;
        match self.raise(&key, version, meta.kept_for()).await {
            Ok(before) if before > version => {
                return Ok(match self.remove_unless(key, version).await {
                    Removal::Removed => self.outdated(),
                    Removal::Deferred => Inserted::Deferred,
                });
            }
            Ok(_) => {}
            Err(error) => {
                self.defer(shared_key, key, &error);
                return Ok(Inserted::Deferred);
            }
        }
        let stamp = tags::stamp(began, &options.tags, version);
        let entry = Arc::new(Entry { value: Some(value), meta: shared.in_memory(meta, now), stamp });

        self.forget(&key);
        let fence = self.store.begin(&key);
        let stored = self.put_over(leases, &shared_key, put, &tagged, version).await;
        if !matches!(stored, Err(PutOver::Unreached(_)))
            && let Err(error) = self.end_dependants_of_insert(shared, &key).await
        {
            self.defer(shared_key, key, &error);
            return Ok(Inserted::Deferred);
        }
        match stored {
            Ok(Over::Stored) => {
                self.tell_key(&key, false);
                let fence = if mutant!(FencesAnInsertLate) { self.store.begin(&key) } else { fence };
                let kept = self.commit_write(fence, &key, entry);
                if kept == Commit::Revoked {
                    // Another writer here came in between, and either value may be the last one below. Its
                    // right to store in memory ends too, lest memory keeps the other one.
                    self.forget(&key);
                }
                // Too heavy for memory or past its time there: the shared tier has it all the same.
                Ok(self.inserted(if kept == Commit::Rejected { Commit::Stored } else { kept }))
            }
            Ok(Over::Outdated) => {
                self.tell_key(&key, false);
                self.forget(&key);
                Ok(self.outdated())
            }
            Ok(Over::Lost) => {
                self.tell_key(&key, false);
                self.emit(&Event::Fenced { tier: Tier::Backend });
                self.forget(&key);
                Ok(Inserted::Dropped)
            }
            Err(PutOver::Refused(error)) => {
                self.tell_key(&key, false);
                self.forget(&key);
                Err(error)
            }
            Err(PutOver::Unreached(error)) => {
                self.defer(shared_key, key, &error);
                Ok(Inserted::Deferred)
            }
        }
    }

    /// Waits until no other insert of `key` runs in this process: two that overlap below would poison each
    /// other's hold. Ends when it is dropped.
    async fn turn(&self, key: &K) -> Option<Lead<K, ()>> {
        self.shared.as_ref()?;
        loop {
            match self.inserts.join(key) {
                Joined::Lead(lead, _) => return Some(lead),
                // It can only be told not to wait inside of a loader, and this is a task of its own.
                Joined::Follow(follow) => follow.wait().await.ok()?,
            };
        }
    }

    fn insert_in_memory(&self, key: K, entry: Entry<V>) -> Inserted {
        self.tell_key(&key, false);
        self.forget(&key);
        let fence = self.store.begin(&key);
        // Once more, under the fence: whoever brings a newer version from here on revokes it after it has raised
        // the floor, and who did so before has raised it already.
        let version = entry.stamp.version;
        if self.floor_here(&key) > version && !mutant!(SkipsTheCheckUnderTheHold) {
            return self.outdated();
        }
        let kept = self.commit_write(fence, &key, Arc::new(entry));
        self.inserted(kept)
    }

    /// Stores what a writer brings. A flight that was opened since its fence would hand out its older value to
    /// later callers.
    fn commit_write(&self, fence: Fence, key: &K, entry: Arc<Entry<V>>) -> Commit {
        let kept = match mutant!(InsertsAsAReader) {
            true => self.store.commit(fence, key.clone(), entry),
            false => self.store.commit_write(fence, key.clone(), entry),
        };
        self.flights.void(key);
        self.forget_failure(key);
        kept
    }

    fn inserted(&self, kept: Commit) -> Inserted {
        match kept {
            Commit::Stored => Inserted::Stored,
            Commit::Revoked => {
                self.emit(&Event::Fenced { tier: Tier::Memory });
                Inserted::Dropped
            }
            Commit::Rejected => Inserted::Dropped,
        }
    }

    /// Replaces the record by `put`: first a hold, which drops the old value and revokes every right, then,
    /// its reply seen, the value under that hold. One unconditional write would not do: timed out here but
    /// landing late there, it would undo a newer removal.
    ///
    /// The floor of versions is looked at once more in between: who raises it later finds this hold, and ends it.
    async fn put_over(
        &self,
        leases: &dyn LeaseBackend,
        key: &Key,
        put: Put,
        tags: &[Tagged],
        version: u64,
    ) -> std::result::Result<Over, PutOver> {
        let token = Token::draw(&self.entropy);
        match leases.hold(key, token, self.times.hold_term).await {
            Ok(Held::Held) => {}
            // Nobody stores until the poisoned hold ends; what the writers left behind is then loaded.
            Ok(Held::Overlap) => return Ok(Over::Lost),
            Err(error) => return Err(PutOver::Unreached(error)),
        }
        match self.floor_below(key).await {
            Ok(floor) if floor > version && !mutant!(SkipsTheCheckUnderTheHold) => {
                self.give_hold_back(leases, key, token).await;
                return Ok(Over::Outdated);
            }
            Ok(_) => {}
            Err(error) => {
                self.backend_failed(&error);
                self.give_hold_back(leases, key, token).await;
                return Ok(Over::Lost);
            }
        }
        let noted = self.note_in_index(tags.iter().map(|it| &it.tag), key, self.longest(put.ttl)).await;
        let put_held = match noted {
            Ok(()) => leases.put_held(key, token, put).await,
            Err(error) => Err(error),
        };
        match put_held {
            Ok(PutReply::Stored) => Ok(Over::Stored),
            Ok(_) => Ok(Over::Lost),
            Err(error) if error.kind() == ErrorKind::Config => {
                // Too large, say.
                self.give_hold_back(leases, key, token).await;
                Err(PutOver::Refused(error))
            }
            Err(error) => {
                // Stored or not: the hold has dropped the old value, and its term ends it.
                self.backend_failed(&error);
                Ok(Over::Lost)
            }
        }
    }

    /// A put of no life gives a hold back, or its term ends it.
    async fn give_hold_back(&self, leases: &dyn LeaseBackend, key: &Key, token: Token) {
        let nothing = Put { payload: Bytes::new(), nonce: Nonce::draw(&self.entropy), ttl: Duration::ZERO };
        if let Err(error) = leases.put_held(key, token, nothing).await {
            self.backend_failed(&error);
        }
    }

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

/// What [`Engine::put_over`] came to.
enum Over {
    Stored,
    /// Another came in between, or nobody knows: nothing is there, or what that other one put.
    Lost,
    Outdated,
}

/// Why [`Engine::put_over`] did not get to its end.
enum PutOver {
    /// The value is not acceptable.
    Refused(Error),
    /// The old value may still be there.
    Unreached(Error),
}
