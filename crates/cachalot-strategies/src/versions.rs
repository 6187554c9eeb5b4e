//! Versions: what is known to be outdated is not stored.
//!
//! Whoever is about to store a version raises the floor of its key first, and stores nothing that is below. An
//! insert looks at the floor once more when it has its hold, or its fence: who raises it later ends that. A load
//! raises it before it stores: who raises it later revokes the lease, or the fence, after that.

use std::hash::Hash;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Depth, EntryOptions, Error, ErrorKind, Event, Key, Result, Store, envelope, mutant};
use cachalot_invalidation::Floors;

use crate::batch::{AT_ONCE, pipelined};
use crate::cache::Cache;
use crate::engine::{Engine, Times};
use crate::shared::Shared;
use crate::write::{Inserted, Removal};

/// What a cache whose entries have versions knows of them.
pub(crate) struct Versions {
    /// What this process knows. All there is without a shared tier; beside one, what counts while that cannot be asked.
    floors: Floors,
    /// How long a floor is kept here: longer than a load may run. What memory holds is known as long as it does.
    life_here: Duration,
    /// How long it is kept in the shared tier at least.
    life_below: Duration,
}

impl Versions {
    pub(crate) fn new(times: &Times, options: &EntryOptions) -> Self {
        let life_here = times.overtaken_after.max(Duration::from_secs(1));
        let life_below = options.longest_life().max(life_here);
        Self { floors: Floors::new(), life_here, life_below }
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Forgets what is older than `version` of `key`, in every tier and process, and what is yet to come of it: a
    /// load or an insert of an older version is not stored, however late it is; one of `version` itself is. For
    /// messages about changes that name the row's version and may arrive in any order, or after the value itself.
    ///
    /// What the shared tier holds stays if it is not older; this process gives up its copy all the same. See
    /// [`versioned`](crate::CacheBuilder::versioned). Two round trips to a shared tier.
    ///
    /// t = 0 version 6 is cached, and a load of 6 is under way elsewhere · t = 1 s the source changes to 7 and says so ·
    /// t = 2 s `remove_older(7)`: 6 is gone · t = 3 s the load of 6 ends: not stored · t = 4 s a load gives 7: stored ·
    /// t = 5 s the same message once more: 7 stays.
    ///
    /// ```
    /// # use cachalot_core::Entry;
    /// # use cachalot_memory_backend::Memory;
    /// # use cachalot_strategies::{Cache, Inserted};
    /// # use std::sync::Arc;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let builder = Cache::<u64, String, Memory<u64, Arc<Entry<String>>>>::builder("users");
    /// let cache = builder.memory(Memory::entries(10)).versioned().build()?;
    /// let at = |version| cache.with(|options| options.version(version));
    /// at(6).insert(1, "Ann".to_owned()).await?;
    /// cache.remove_older(&1, 7).await?;
    /// assert!(cache.get_local(&1).is_none());
    /// assert_eq!(at(6).insert(1, "Ann".to_owned()).await?, Inserted::Outdated);
    /// assert_eq!(at(7).insert(1, "Anne".to_owned()).await?, Inserted::Stored);
    /// assert_eq!(cache.get_local(&1).map(|user| user.version()), Some(7));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) if the cache is not built [`versioned`](crate::CacheBuilder::versioned), else
    /// as [`remove`](Cache::remove). [`Removal::Deferred`]: the version is kept too, until the replay; unless more is
    /// deferred than [`deferred_limit`](crate::CacheBuilder::deferred_limit), when all is cleared in the end, and the
    /// version is known in this process only.
    pub async fn remove_older<Q>(&self, key: &Q, version: u64) -> Result<Removal>
    where
        Q: ToOwned<Owned = K> + ?Sized,
    {
        self.engine.check_versioned("remove_older", version.max(1))?;
        let work = self.engine.clone().remove_older(key.to_owned(), version);
        self.engine.detached("remove_older", work).await
    }
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Whether something of this version may be stored at all.
    pub(crate) fn check_versioned(&self, operation: &'static str, version: u64) -> Result<()> {
        if version == 0 || self.versions.is_some() {
            return Ok(());
        }
        let detail = "entries of this cache have no versions: build it `versioned`";
        Err(Error::new(ErrorKind::Config, operation).detail(detail))
    }

    /// Nothing to be older than: an ordinary removal, where there is no version.
    pub(crate) async fn remove_older(self: Arc<Self>, key: K, version: u64) -> Removal {
        let raised = match mutant!(LeavesNoTombstone) {
            true => Ok(0),
            false => self.raise(&key, version, Duration::ZERO).await,
        };
        match raised {
            // As new a version was known, so it may be what is stored.
            Ok(before) if before >= version && version > 0 => self.remove_unless(key, version).await,
            Ok(_) => self.remove(key).await,
            Err(error) => {
                if let Some((_, shared_key)) = self.shared_key(&key) {
                    self.defer(shared_key, key, &error);
                }
                Removal::Deferred
            }
        }
    }

    /// As [`remove`](Engine::remove), but the shared tier keeps what is not older than `version`, whose floor has been
    /// raised before.
    ///
    /// No older load can follow what stays: who stored it had raised the floor before, and took the lease of
    /// whoever had passed by the floor until then. Copies are another matter, here and elsewhere: they ask no floor.
    pub(crate) async fn remove_unless(self: &Arc<Self>, key: K, version: u64) -> Removal {
        let Some((shared, shared_key)) = self.shared_key(&key) else {
            self.tell_key(&key, false);
            self.forget_older(&key, version);
            return Removal::Removed;
        };
        let (ended, panic) = match remove_unless(shared, &shared_key, version).await {
            Ok(()) => self.end_dependants(shared, &key, Depth::Remove).await,
            Err(error) => (Err(error), None),
        };
        if let Err(error) = ended {
            self.defer(shared_key, key, &error);
            return Removal::Deferred;
        }
        self.tell_key(&key, false);
        self.forget(&key);
        panic.map_or(Removal::Removed, |thrown| resume_unwind(thrown))
    }

    /// In a cache without a shared tier: nothing is copied there, so what memory holds may stay if it is not older.
    pub(crate) fn forget_older(&self, key: &K, version: u64) {
        if self.held(key) < version {
            return self.forget(key);
        }
        self.flights.void(key);
        self.forget_dependants(key, Depth::Remove);
        self.forget_failure(key);
    }

    /// For an insert.
    pub(crate) fn outdated(&self) -> Inserted {
        self.emit(&Event::Outdated);
        Inserted::Outdated
    }

    /// The newest version of `key` that this process knows of; 0 if none.
    pub(crate) fn floor_here(&self, key: &K) -> u64 {
        self.versions.as_ref().map_or(0, |versions| versions.floors.of(key, self.clock.now()))
    }

    /// The same, of this very key.
    pub(crate) fn known_here(&self, key: &K) -> u64 {
        self.versions.as_ref().map_or(0, |versions| versions.floors.known(key, self.clock.now()))
    }

    /// Raises the floor of `key` in this process. The newest version that was known before, or is held.
    pub(crate) fn raise_here(&self, key: &K, version: u64) -> u64 {
        let Some(versions) = &self.versions else { return 0 };
        let now = self.clock.now();
        let before = versions.floors.raise(key, version, now, now + versions.life_here);
        before.max(self.held(key))
    }

    fn held(&self, key: &K) -> u64 {
        self.store.get(key).map_or(0, |hit| hit.entry.stamp.version)
    }

    /// Raises the floor of `key` to `version`, here and in the shared tier, for as long as what it comes with is
    /// kept, and longer. The newest version that was known before.
    pub(crate) async fn raise(&self, key: &K, version: u64, kept_for: Duration) -> Result<u64> {
        let Some(versions) = &self.versions else { return Ok(0) };
        let own = self.known_here(key);
        let before = self.raise_here(key, version);
        let Some((shared, shared_key)) = self.shared_key(key) else { return Ok(before) };
        let Some(backend) = shared.backend.versions() else { return Ok(before) };
        let name = self.namespace.floor(&shared_key);
        let below = backend.raise(&name, version, kept_for.max(versions.life_below)).await?;
        // For when that tier cannot be asked.
        self.raise_here(key, below);
        // What is known here of other keys only counts as long as nobody knows better.
        Ok(below.max(own).max(self.held(key)))
    }

    /// The floor in the shared tier, of a key there.
    pub(crate) async fn floor_below(&self, key: &Key) -> Result<u64> {
        let Some(shared) = self.shared.as_ref().filter(|_| self.versions.is_some()) else { return Ok(0) };
        let Some(backend) = shared.backend.versions() else { return Ok(0) };
        backend.raise(&self.namespace.floor(key), 0, Duration::ZERO).await
    }

    /// Whether what was loaded may be stored: no newer version is known. Then, whether it was not known either; who
    /// does not store it after all has to end what is older. To be asked between the load and the put; `is_below`:
    /// also of the shared tier.
    pub(crate) async fn is_newest(
        self: &Arc<Self>,
        key: &K,
        version: u64,
        kept_for: Duration,
        is_below: bool,
    ) -> Option<bool> {
        if self.versions.is_none() {
            return Some(false);
        }
        let raised = match is_below {
            true => self.raise(key, version, kept_for).await,
            false => Ok(self.raise_here(key, version)),
        };
        match raised {
            Ok(before) if before > version && !mutant!(StoresAnOutdatedLoad) => {
                self.emit(&Event::Outdated);
                None
            }
            Ok(before) => Some(before < version),
            Err(error) => {
                self.backend_failed(&error);
                // Raised or not.
                self.remove_unless(key.clone(), version).await;
                None
            }
        }
    }

    /// Before deferred removals are replayed: whether the shared tier has taken the floor of each of `keys`.
    pub(crate) async fn raise_again(&self, keys: Vec<(K, u64)>) -> Vec<bool> {
        let raises = keys.into_iter().map(|(key, version)| async move {
            if version == 0 {
                return true;
            }
            let raised = self.raise(&key, version, Duration::ZERO).await;
            raised.inspect_err(|error| self.backend_failed(error)).is_ok()
        });
        pipelined(AT_ONCE, raises).await
    }
}

async fn remove_unless<K, V>(shared: &Shared<K, V>, key: &Key, version: u64) -> Result<()> {
    if shared.backend.info().is_scattered {
        // Another place may have what is older.
        return shared.backend.remove(key).await.map(drop);
    }
    let record = shared.backend.get(key).await?;
    let stands = record.is_some_and(|record| {
        envelope::open(key, &record.payload).is_ok_and(|opened| opened.header.version >= version)
    });
    if stands { Ok(()) } else { shared.backend.remove(key).await.map(drop) }
}
