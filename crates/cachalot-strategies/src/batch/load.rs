//! What a loader of many keys is given, and what it gives.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cachalot_core::{BoxFuture, LoaderError, Result, Ttl};

use crate::load::{Load, TagOf, Wished};

/// The load of many keys in progress, handed to the loader, which owns it.
#[derive(Debug)]
pub struct LoadMany<K> {
    keys: Vec<K>,
    wishes: Wishes<K>,
    tag_of: Option<TagOf<K>>,
}

impl<K> LoadMany<K> {
    pub(super) fn new(keys: Vec<K>, tag_of: Option<TagOf<K>>) -> Self {
        Self { keys, wishes: Wishes { by_key: Arc::default() }, tag_of }
    }

    pub(super) fn wishes(&self) -> Wishes<K> {
        self.wishes.clone()
    }

    /// The keys to load: what no tier has and nobody else is loading. Each once, never none.
    pub fn keys(&self) -> &[K] {
        &self.keys
    }
}

impl<K: Hash + Eq + Clone> LoadMany<K> {
    /// Sets the TTL of what this load gives for `key`, instead of the options'. Zero: do not store.
    pub fn ttl(&self, key: &K, ttl: impl Into<Ttl>) {
        self.wishes.lock().entry(key.clone()).or_default().ttl = Some(ttl.into());
    }

    /// Says which version of `key` this load gives; see [`Load::version`](crate::Load::version).
    pub fn version(&self, key: &K, version: u64) {
        self.wishes.lock().entry(key.clone()).or_default().version = Some(version);
    }

    /// Adds a tag to what this load gives for `key`; see [`Load::tag`](crate::Load::tag).
    pub fn tag(&self, key: &K, name: impl AsRef<[u8]>) {
        self.wishes.lock().entry(key.clone()).or_default().tag(name.as_ref());
    }

    /// What this load gives for `key` depends on the key `parent`; see
    /// [`Load::depends_on`](crate::Load::depends_on).
    pub fn depends_on(&self, key: &K, parent: &K) {
        self.wishes.lock().entry(key.clone()).or_default().depend(self.tag_of, key, parent);
    }

    /// Has `mark` say of `key` what the loader of one key says of it.
    pub(crate) fn mark(&self, key: &K, mark: impl FnOnce(&Load<K>)) {
        let load = Load::new(key.clone(), self.tag_of);
        mark(&load);
        self.wishes.lock().insert(key.clone(), load.wishes().taken());
    }

    /// An answer for every key: what was `found`, and "absent" for the others. For a loader of
    /// [`get_many_or_load_opt`](crate::Cache::get_many_or_load_opt) whose source has answered completely;
    /// after a partial failure it would make absences of keys that are there.
    pub fn or_absent<V>(&self, found: impl IntoIterator<Item = (K, V)>) -> Vec<(K, Option<V>)> {
        let mut open: HashSet<&K> = self.keys.iter().collect();
        let mut answers: Vec<_> = found
            .into_iter()
            .map(|(key, value)| {
                open.remove(&key);
                (key, Some(value))
            })
            .collect();
        let absent = self.keys.iter().filter(|key| open.contains(*key));
        answers.extend(absent.map(|key| (key.clone(), None)));
        answers
    }
}

/// What the loader asked for; shared with whoever stores.
#[derive(Debug)]
pub(super) struct Wishes<K> {
    by_key: Arc<Mutex<HashMap<K, Wished>>>,
}

impl<K: Hash + Eq> Wishes<K> {
    pub(super) fn taken(&self, key: &K) -> Wished {
        self.lock().remove(key).unwrap_or_default()
    }
}

impl<K> Wishes<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Wished>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Wishes<K> {
    fn clone(&self) -> Self {
        Self { by_key: self.by_key.clone() }
    }
}

/// What a loader of many may answer for one key: the value itself, or a `Result` with any error that becomes a
/// [`LoaderError`]. In [`get_many_or_load_opt`](crate::Cache::get_many_or_load_opt) the value is an `Option`.
pub trait IntoLoaded<V> {
    /// The value, or why there is none.
    ///
    /// # Errors
    /// The error of this key alone.
    fn into_loaded(self) -> Result<V, LoaderError>;
}

impl<V> IntoLoaded<V> for V {
    fn into_loaded(self) -> Result<V, LoaderError> {
        Ok(self)
    }
}

impl<V, E> IntoLoaded<V> for Result<V, E>
where
    LoaderError: From<E>,
{
    fn into_loaded(self) -> Result<V, LoaderError> {
        self.map_err(LoaderError::from)
    }
}

/// The loader of many did not answer this key, neither with a value nor with "absent". Nothing is cached: what
/// an incomplete answer lacks is not known to be absent. Found in the
/// [`LoadError`](cachalot_core::LoadError) of the key by its `downcast_ref`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unanswered;

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the loader did not answer this key")
    }
}

impl std::error::Error for Unanswered {}

/// What a loader gave, by key; the last answer for a key counts.
pub(super) type Answers<K, V> = HashMap<K, Result<Option<V>, LoaderError>>;
pub(super) type ManyFuture<K, V> = BoxFuture<'static, Result<Answers<K, V>, LoaderError>>;
/// A loader, whichever its types.
pub(super) type ManyLoader<K, V> = Arc<dyn Fn(LoadMany<K>) -> ManyFuture<K, V> + Send + Sync>;

/// A loader of values.
pub(super) fn values<K, V, F, T, A, R>(load: F) -> ManyLoader<K, V>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    F: Fn(LoadMany<K>) -> T + Send + Sync + 'static,
    T: Future<Output = Result<A, LoaderError>> + Send + 'static,
    A: IntoIterator<Item = (K, R)>,
    R: IntoLoaded<V>,
{
    Arc::new(move |handle| {
        let load = load(handle);
        Box::pin(async move {
            let answers = load.await?.into_iter();
            Ok(answers.map(|(key, answer)| (key, answer.into_loaded().map(Some))).collect())
        })
    })
}

/// A loader of values that may be absent.
pub(super) fn options<K, V, F, T, A, R>(load: F) -> ManyLoader<K, V>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    F: Fn(LoadMany<K>) -> T + Send + Sync + 'static,
    T: Future<Output = Result<A, LoaderError>> + Send + 'static,
    A: IntoIterator<Item = (K, R)>,
    R: IntoLoaded<Option<V>>,
{
    Arc::new(move |handle| {
        let load = load(handle);
        Box::pin(async move {
            let answers = load.await?.into_iter();
            Ok(answers.map(|(key, answer)| (key, answer.into_loaded())).collect())
        })
    })
}
