//! Sources made of closures.

use std::error::Error;
use std::fmt;

use async_trait::async_trait;

use super::Source;

/// A [`Source`] made of three closures: one that loads, one that stores, one that deletes.
///
/// ```
/// use cachalot_core::{FnSource, Source};
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
///
/// # type Rows = Arc<Mutex<HashMap<u64, String>>>;
/// # fn shared(rows: &Rows) -> Rows { rows.clone() }
/// let rows = Arc::new(Mutex::new(HashMap::from([(1, "Ada".to_owned())])));
/// let (reads, writes, deletes) = (shared(&rows), shared(&rows), shared(&rows));
/// let users = FnSource::new(
///     move |id: u64| {
///         let name = reads.lock().unwrap().get(&id).cloned();
///         async move { Ok::<_, std::io::Error>(name) }
///     },
///     move |id, name| {
///         writes.lock().unwrap().insert(id, name);
///         async { Ok(()) }
///     },
///     move |id| {
///         deletes.lock().unwrap().remove(&id);
///         async { Ok(()) }
///     },
/// );
/// # fn is_source(_: impl Source<u64, String>) {}
/// # is_source(users);
/// ```
///
/// It stores what it is given: behind a write-behind that merges deltas it would store a delta as if it were the value.
/// That takes a source with an [`apply`](Source::apply) of its own.
#[derive(Clone)]
pub struct FnSource<L, S, D> {
    load: L,
    store: S,
    delete: D,
}

impl<L, S, D> FnSource<L, S, D> {
    /// Of `load(key) -> Result<Option<V>, E>`, `store(key, value) -> Result<(), E>` and `delete(key) -> Result<(), E>`,
    /// all of them async.
    pub const fn new(load: L, store: S, delete: D) -> Self {
        Self { load, store, delete }
    }
}

impl<L, S, D> fmt::Debug for FnSource<L, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnSource").finish_non_exhaustive()
    }
}

#[async_trait]
impl<K, V, E, L, S, D, Loading, Storing, Deleting> Source<K, V> for FnSource<L, S, D>
where
    K: Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
    L: Fn(K) -> Loading + Send + Sync + 'static,
    S: Fn(K, V) -> Storing + Send + Sync + 'static,
    D: Fn(K) -> Deleting + Send + Sync + 'static,
    Loading: Future<Output = Result<Option<V>, E>> + Send,
    Storing: Future<Output = Result<(), E>> + Send,
    Deleting: Future<Output = Result<(), E>> + Send,
{
    type Error = E;

    async fn load(&self, key: &K) -> Result<Option<V>, E> {
        (self.load)(key.clone()).await
    }

    async fn store(&self, key: &K, value: &V) -> Result<(), E> {
        (self.store)(key.clone(), value.clone()).await
    }

    async fn delete(&self, key: &K) -> Result<(), E> {
        (self.delete)(key.clone()).await
    }
}

/// A [`Source`] made of one closure, that loads; whatever writes is refused.
///
/// ```
/// use cachalot_core::{LoadFn, Source};
///
/// let squares = LoadFn::new(|n: u64| async move { Ok::<_, std::io::Error>(Some(n * n)) });
/// # fn is_source(_: impl Source<u64, u64>) {}
/// # is_source(squares);
/// ```
#[derive(Clone)]
pub struct LoadFn<L>(L);

impl<L> LoadFn<L> {
    /// Of an async `load(key) -> Result<Option<V>, E>`.
    pub const fn new(load: L) -> Self {
        Self(load)
    }
}

impl<L> fmt::Debug for LoadFn<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadFn").finish_non_exhaustive()
    }
}

/// What goes wrong in a source that only loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnly<E> {
    /// The closure failed.
    Load(E),
    /// It was to write.
    Refused,
}

impl<E: fmt::Display> fmt::Display for ReadOnly<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => error.fmt(f),
            Self::Refused => f.write_str("the source only loads"),
        }
    }
}

impl<E: Error + 'static> Error for ReadOnly<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Load(error) => Some(error),
            Self::Refused => None,
        }
    }
}

#[async_trait]
impl<K, V, E, L, Loading> Source<K, V> for LoadFn<L>
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
    L: Fn(K) -> Loading + Send + Sync + 'static,
    Loading: Future<Output = Result<Option<V>, E>> + Send,
{
    type Error = ReadOnly<E>;

    async fn load(&self, key: &K) -> Result<Option<V>, ReadOnly<E>> {
        (self.0)(key.clone()).await.map_err(ReadOnly::Load)
    }

    async fn store(&self, _: &K, _: &V) -> Result<(), ReadOnly<E>> {
        Err(ReadOnly::Refused)
    }

    async fn delete(&self, _: &K) -> Result<(), ReadOnly<E>> {
        Err(ReadOnly::Refused)
    }
}
