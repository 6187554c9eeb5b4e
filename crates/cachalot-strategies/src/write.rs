//! Inserts and removals. Each runs in a task that outlives its caller.

use std::hash::Hash;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachalot_core::envelope::Tagged;
use cachalot_core::{
    Backend, Commit, Depth, Entry, EntryOptions, Error, ErrorKind, Event, Fence, Held, Key, LeaseBackend,
    Nonce, Put, PutReply, Result, Store, Tier, Token, mutant,
};
use cachalot_stampede::{Joined, Lead};

use crate::engine::Engine;
use crate::replay::Missed;
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
                // What is older is outdated now, stored or not.
                self.raise_here(&key, version);
                self.defer(shared_key, key, &error);
                return Ok(Inserted::Deferred);
            }
        };
        // Before anything is touched: a value that cannot be encoded changes nothing.
        let put = self.put(shared, &shared_key, Some(&value), &meta, &tagged, version)?;
        match self.raise(&key, version, meta.kept_for()).await {
            Ok(before) if before > version => {
                return Ok(self.give_way(key, version).await);
            }
            Ok(_) => {}
            Err(error) => {
                self.defer(shared_key, key, &error);
                return Ok(Inserted::Deferred);
            }
        }
        let stamp = tags::stamp(began, &options.tags, version);
        let entry = Entry { value: Some(value), meta: shared.in_memory(meta, now), stamp };

        self.forget(&key);
        let fence = self.store.begin(&key);
        // A newer one that is deferred has raised no floor below yet.
        if self.known_here(&key) > version {
            return Ok(self.give_way(key, version).await);
        }
        let stored = self.put_over(leases, &shared_key, put, &tagged, version).await;
        self.end_insert(shared, shared_key, key, fence, Some(Arc::new(entry)), stored).await
    }

    /// A newer version is known: what is older than `version` goes all the same.
    async fn give_way(self: &Arc<Self>, key: K, version: u64) -> Inserted {
        match self.remove_unless(key, version).await {
            Removal::Removed => self.outdated(),
            Removal::Deferred => Inserted::Deferred,
        }
    }

    /// The local step of a write, once the shared tier has answered.
    pub(crate) async fn end_insert(
        self: &Arc<Self>,
        shared: &Shared<K, V>,
        shared_key: Key,
        key: K,
        fence: Fence,
        entry: Option<Arc<Entry<V>>>,
        stored: std::result::Result<Over, PutOver>,
    ) -> Result<Inserted> {
        if !matches!(stored, Err(PutOver::Unreached(_)))
            && let Err(error) = self.end_dependants_of_insert(shared, &key).await
        {
            self.defer(shared_key, key, &error);
            return Ok(Inserted::Deferred);
        }
        if let Err(PutOver::Unreached(error)) = stored {
            self.defer(shared_key, key, &error);
            return Ok(Inserted::Deferred);
        }
        self.tell_key(&key, false);
        if let (Ok(Over::Stored), Some(entry)) = (&stored, entry) {
            return Ok(self.stored_below(fence, &key, entry));
        }
        self.forget(&key);
        match stored {
            Ok(Over::Outdated) => Ok(self.outdated()),
            Ok(Over::Lost) => {
                self.emit(&Event::Fenced { tier: Tier::Backend });
                Ok(Inserted::Dropped)
            }
            Ok(Over::Stored | Over::Nothing) => Ok(Inserted::Dropped),
            Err(PutOver::Refused(error) | PutOver::Unreached(error)) => Err(error),
        }
    }

    /// Keeps in memory what the shared tier has stored.
    fn stored_below(&self, fence: Fence, key: &K, entry: Arc<Entry<V>>) -> Inserted {
        let fence = if mutant!(FencesAnInsertLate) { self.store.begin(key) } else { fence };
        let kept = self.commit_write(fence, key, entry);
        if kept == Commit::Revoked {
            // Another writer here came in between, and either value may be the last one below. Its right to store
            // in memory ends too, lest memory keeps the other one.
            self.forget(key);
        }
        // Too heavy for memory or past its time there: the shared tier has it all the same.
        self.inserted(if kept == Commit::Rejected { Commit::Stored } else { kept })
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
    pub(crate) fn commit_write(&self, fence: Fence, key: &K, entry: Arc<Entry<V>>) -> Commit {
        let kept = match mutant!(InsertsAsAReader) {
            true => self.store.commit(fence, key.clone(), entry),
            false => self.store.commit_write(fence, key.clone(), entry),
        };
        self.flights.void(key);
        self.forget_failure(key);
        kept
    }

    pub(crate) fn inserted(&self, kept: Commit) -> Inserted {
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
            Ok(Held::Held) => self.put_under(leases, key, token, put, tags, version).await,
            // Nobody stores until the poisoned hold ends; what the writers left behind is then loaded.
            Ok(Held::Overlap) => Ok(Over::Lost),
            Err(error) => Err(PutOver::Unreached(error)),
        }
    }

    /// Stores `put` under the hold `token`.
    ///
    /// The floor of versions is looked at once more before: who raises it later finds this hold, and ends it.
    pub(crate) async fn put_under(
        &self,
        leases: &dyn LeaseBackend,
        key: &Key,
        token: Token,
        put: Put,
        tags: &[Tagged],
        version: u64,
    ) -> std::result::Result<Over, PutOver> {
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
    pub(crate) async fn give_hold_back(&self, leases: &dyn LeaseBackend, key: &Key, token: Token) {
        let nothing = Put { payload: Bytes::new(), nonce: Nonce::draw(&self.entropy), ttl: Duration::ZERO };
        if let Err(error) = leases.put_held(key, token, nothing).await {
            self.backend_failed(&error);
        }
    }
}

/// What a put over whatever was there came to.
pub(crate) enum Over {
    Stored,
    /// Another came in between, or nobody knows: nothing is there, or what that other one put.
    Lost,
    /// There was nothing to store: the old value is gone.
    Nothing,
    Outdated,
}

/// Why it did not get to its end.
pub(crate) enum PutOver {
    /// The value is not acceptable.
    Refused(Error),
    /// The old value may still be there.
    Unreached(Error),
}
