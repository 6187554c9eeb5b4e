//! Single flight as an async call: what most users of this crate want.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{BoxFuture, Error, ErrorKind, LoadError, LoaderError, Timestamp};
use equivalent::Equivalent;

use crate::{Failure, Failures, Flights, Follow, Joined, Lead, Remembered};

mod builder;
mod load;
mod run;
use builder::Settings;
pub use builder::{OnDeserted, SingleFlightBuilder};
use run::Run;

/// One load per key, whoever asks: concurrent calls of [`run`](SingleFlight::run) for a key share one load and
/// what it gives. Clones share one table. Nothing is cached: the next call after the load has ended loads again.
///
/// The load runs in a task of its own. Any caller may leave at any await, the one that began it included, and
/// nobody else notices. A loader that fails, panics or hangs is one failure, shared by all who wait for it; their
/// number changes nothing.
///
/// ```
/// use cachalot_stampede::SingleFlight;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cachalot_core::LoadError> {
/// let users: SingleFlight<u64, String> = SingleFlight::new();
/// let load = |id: u64| move || async move {
///     tokio::task::yield_now().await; // a query
///     Ok(format!("user {id}"))
/// };
/// let (one, two) = tokio::join!(users.run(&42, load(42)), users.run(&42, load(42)));
/// assert_eq!((one?, two?), ("user 42".to_owned(), "user 42".to_owned()));
/// assert!(users.is_empty());
/// # Ok(()) }
/// ```
///
/// `V` is cloned for each caller: wrap what is large into an `Arc`.
pub struct SingleFlight<K, V> {
    inner: Arc<Inner<K, V>>,
}

type Outcome<V> = Result<V, LoadError>;
type Share<V> = Follow<Outcome<V>>;

struct Inner<K, V> {
    flights: Flights<K, Outcome<V>>,
    failures: Option<Failures<K, LoadError>>,
    settings: Settings,
}

impl<K, V> SingleFlight<K, V> {
    /// With the defaults of [`SingleFlightBuilder`].
    pub fn new() -> Self {
        Self::over(None, Settings::default())
    }

    /// With other settings.
    pub fn builder() -> SingleFlightBuilder<K, V> {
        SingleFlightBuilder::new()
    }

    fn over(failures: Option<Failures<K, LoadError>>, settings: Settings) -> Self {
        Self { inner: Arc::new(Inner { flights: Flights::new(), failures, settings }) }
    }

    /// How many keys are being loaded.
    pub fn len(&self) -> usize {
        self.inner.flights.len()
    }

    /// Whether nothing is being loaded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`forget`](SingleFlight::forget), for all keys.
    pub fn forget_all(&self) {
        self.inner.flights.void_all();
        if let Some(failures) = &self.inner.failures {
            failures.forget_all();
        }
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the load of `key`, or begins it with `load`. `load` is not called if somebody else loads; its future
    /// runs in a task of its own.
    ///
    /// # Errors
    /// - [`LoadError::Loader`]: the loader's own error, for all who waited ([`LoadError::downcast_ref`]).
    /// - [`ErrorKind::Panicked`]: `load` or its future panicked.
    /// - [`ErrorKind::Timeout`]: the load took longer than the
    ///   [`hard_timeout`](SingleFlightBuilder::hard_timeout).
    /// - [`ErrorKind::Reentrant`]: called by a loader that would wait for itself, directly or through the loads of
    ///   other keys, in this or another table. At once.
    /// - [`ErrorKind::Cancelled`]: the runtime that ran the load ended. Callers who only joined it load instead.
    /// - Whatever the last load failed with, without a load, while an
    ///   [`error_backoff`](SingleFlightBuilder::error_backoff) lasts. [`LoadError::retry_at`] says until when.
    ///
    /// # Panics
    /// Outside of a tokio runtime, unless [`spawn`](SingleFlightBuilder::spawn) knows another one.
    ///
    /// # Dropping the future
    /// Only this caller leaves. If it was the last, the load goes on or ends, as
    /// [`on_deserted`](SingleFlightBuilder::on_deserted) says.
    pub fn run<'a, F, T>(
        &'a self,
        key: &'a K,
        load: F,
    ) -> impl Future<Output = Result<V, LoadError>> + use<'a, K, V, F, T>
    where
        F: FnOnce() -> T,
        T: Future<Output = Result<V, LoaderError>> + Send + 'static,
    {
        Run { inner: &self.inner, key, load: Some(load), follow: None }
    }

    /// As [`run`](SingleFlight::run), but waits no longer than `limit`. Who loses patience leaves; the load and
    /// everybody else go on. Needs tokio's time.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after `limit`, and as [`run`](SingleFlight::run).
    ///
    /// # Dropping the future
    /// as [`run`](SingleFlight::run).
    pub async fn run_within<F, T>(&self, key: &K, limit: Duration, load: F) -> Result<V, LoadError>
    where
        F: FnOnce() -> T,
        T: Future<Output = Result<V, LoaderError>> + Send + 'static,
    {
        match tokio::time::timeout(limit, self.run(key, load)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(timeout(limit).into()),
        }
    }

    /// Detaches the load of `key` and forgets its failures: whoever calls from now on gets nothing of before.
    /// Those who wait already still get what their load gives. Whether there was anything.
    pub fn forget<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        let detached = self.inner.flights.void(key);
        // After the flight: it notes no failure once it is detached.
        let opened = self.inner.failures.as_ref().is_some_and(|failures| failures.forget(key));
        detached || opened
    }

    /// How many callers wait for the load of `key`.
    pub fn waiting<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> usize {
        self.inner.flights.waiting(key)
    }

    /// When `key` may be loaded again after a failure. `None`: now.
    pub fn retry_at<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Timestamp> {
        let failures = self.inner.failures.as_ref()?;
        Some(failures.get(key, self.inner.settings.clock.now())?.retry_at)
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn remembered(&self, key: &K) -> Option<LoadError> {
        let failures = self.failures.as_ref()?;
        let Remembered { error, retry_at, .. } = failures.get(key, self.settings.clock.now())?;
        Some(error.with_retry_at(retry_at))
    }

    /// Joins the load of `key`, or begins it with `load`, which is taken then.
    fn join<F, T>(self: &Arc<Self>, key: &K, load: &mut Option<F>) -> Result<Share<V>, LoadError>
    where
        F: FnOnce() -> T,
        T: Future<Output = Result<V, LoaderError>> + Send + 'static,
    {
        if let Some(error) = self.remembered(key) {
            return Err(error);
        }
        // A tick more or less says nothing about whether a load hangs.
        let now = self.settings.clock.coarse();
        match self.flights.join_at(key, now, self.settings.max_flight_age) {
            Joined::Lead(lead, follow) => {
                // Who has begun a load asks no more.
                if let Some(load) = load.take() {
                    self.take_off(lead, load);
                }
                Ok(follow)
            }
            Joined::Follow(follow) => Ok(follow),
        }
    }

    /// Calls the loader here, and runs what it gives in a task.
    fn take_off<F, T>(self: &Arc<Self>, lead: Lead<K, Outcome<V>>, load: F)
    where
        F: FnOnce() -> T,
        T: Future<Output = Result<V, LoaderError>> + Send + 'static,
    {
        // Another flight may have failed between this caller's look and its join.
        if let Some(error) = self.remembered(lead.key()) {
            return lead.land(Err(error));
        }
        match catch_unwind(AssertUnwindSafe(load)) {
            Ok(load) => {
                let load: BoxFuture<'static, _> = Box::pin(load);
                self.settings.spawn.spawn(Box::pin(self.clone().load(lead, load)));
            }
            Err(panic) => self.settle(lead, Err(panicked(Failure::from_panic(&*panic)).into())),
        }
    }
}

fn timeout(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, "load").detail(format!("timeout after {limit:?}"))
}

fn dropped() -> LoadError {
    let detail = "the task that loaded it was dropped";
    Error::new(ErrorKind::Cancelled, "load").detail(detail).into()
}

fn panicked(failure: Failure) -> Error {
    match failure {
        Failure::Panicked(text) => {
            Error::new(ErrorKind::Panicked, "load").detail(format!("the loader panicked: {text}"))
        }
        Failure::Timeout => Error::new(ErrorKind::Timeout, "load"),
    }
}

impl<K, V> Clone for SingleFlight<K, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
