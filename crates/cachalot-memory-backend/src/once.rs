//! Single flight for threads: one run of a closure per key, whoever asks.

mod error;
mod flight;
mod sync;
mod waits;

use std::borrow::ToOwned;
use std::convert::Infallible;
use std::hash::Hash;
use std::time::Duration;

use cachalot_core::{Error, ErrorKind, Fence};
use equivalent::Equivalent;

use crate::Memory;
pub use error::TryInsertError;
pub(crate) use flight::Flights;
use flight::{Joined, Lead};
use waits::Reentrant;

/// Loads, for threads. Tasks of a runtime must not wait like this; they have the crate `cachalot-stampede`.
///
/// At most one closure runs per key at a time; other threads that ask for the key wait for it, parked, and get
/// a clone of its value. Closures of different keys run at the same time.
///
/// - **Fence.** The right to store is granted before the closure runs. A [`remove`](Memory::remove) or
///   [`insert`](Memory::insert) of the key revokes it: those who asked before may get the value, but it is not
///   stored, and who asks afterwards never gets it: a run of its own begins beside the old one. Fences are
///   kept for many keys together, so now and then another key's removal does the same.
/// - **Failure.** A closure that fails or panics concerns its caller alone; one of those who wait runs its own
///   closure next.
/// - **Re-entrancy.** A closure may ask for other keys. One that asks, directly or through the closures of
///   other threads and memories, for the key it is run for gets [`ErrorKind::Reentrant`] at once. Not seen:
///   a closure that waits by other means (joins a thread, receives from a channel) for such a thread.
/// - **Not storable.** A value that is too heavy, or whose time is zero, is returned all the same.
///
/// A hit costs what [`get`](Memory::get) costs. A miss makes an owned key twice, for the table of runs and for
/// the store: by `ToOwned` and `Into`, so that `&str` will do for a `String` or an `Arc<str>`.
impl<K: Hash + Eq, T: Clone> Memory<K, T> {
    /// The fresh value under `key`, or what `make` gives, stored without an end.
    ///
    /// ```
    /// use cachalot_memory_backend::Memory;
    ///
    /// let squares: Memory<String, u64> = Memory::entries(100).build()?;
    /// assert_eq!(squares.get_or_insert_with("12", || 144)?, 144);
    /// assert_eq!(squares.get_or_insert_with("12", || unreachable!())?, 144);
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Reentrant`]: `make` was not called, for it would have waited for itself.
    ///
    /// # Panics
    /// If `make` does.
    #[inline]
    pub fn get_or_insert_with<Q>(&self, key: &Q, make: impl FnOnce() -> T) -> Result<T, Error>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned: Into<K>> + ?Sized,
    {
        if let Some(hit) = self.get(key) {
            return Ok(hit);
        }
        never_fails(self.make(key, || Ok(Made { value: make(), ttl: None })))
    }

    /// As [`Memory::get_or_insert_with`]; `make` gives the value and for how long it is fresh, counted from
    /// the end of `make`.
    ///
    /// # Errors
    /// As [`Memory::get_or_insert_with`].
    #[inline]
    pub fn get_or_insert_with_ttl<Q>(&self, key: &Q, make: impl FnOnce() -> (T, Duration)) -> Result<T, Error>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned: Into<K>> + ?Sized,
    {
        if let Some(hit) = self.get(key) {
            return Ok(hit);
        }
        never_fails(self.make(key, || Ok(Made::until(make()))))
    }

    /// As [`Memory::get_or_insert_with`], for a `make` that may fail. A failure is not shared: each caller
    /// gets the error of its own `make`.
    ///
    /// ```
    /// use cachalot_memory_backend::{Memory, TryInsertError};
    ///
    /// let ports: Memory<String, u16> = Memory::entries(100).build()?;
    /// assert_eq!(ports.get_or_try_insert_with("443", || "443".parse())?, 443);
    /// let failed = ports.get_or_try_insert_with("x", || "x".parse());
    /// assert!(matches!(failed, Err(TryInsertError::Loader(_))));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`TryInsertError::Loader`]: `make` failed. [`TryInsertError::Cache`]: as
    /// [`Memory::get_or_insert_with`].
    #[inline]
    pub fn get_or_try_insert_with<Q, E>(
        &self,
        key: &Q,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, TryInsertError<E>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned: Into<K>> + ?Sized,
    {
        if let Some(hit) = self.get(key) {
            return Ok(hit);
        }
        self.make(key, || Ok(Made { value: make()?, ttl: None }))
    }

    /// As [`Memory::get_or_try_insert_with`]; `make` gives the value and for how long it is fresh, counted
    /// from the end of `make`.
    ///
    /// # Errors
    /// As [`Memory::get_or_try_insert_with`].
    #[inline]
    pub fn get_or_try_insert_with_ttl<Q, E>(
        &self,
        key: &Q,
        make: impl FnOnce() -> Result<(T, Duration), E>,
    ) -> Result<T, TryInsertError<E>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned: Into<K>> + ?Sized,
    {
        if let Some(hit) = self.get(key) {
            return Ok(hit);
        }
        self.make(key, || make().map(Made::until))
    }

    /// How many closures are running that another thread could wait for. Zero after any storm.
    pub fn runs_in_progress(&self) -> usize {
        self.flights.len()
    }

    /// A miss: waits for the run of another thread, or runs.
    #[cold]
    #[inline(never)]
    fn make<Q, E>(&self, key: &Q, make: impl FnOnce() -> Result<Made<T>, E>) -> Result<T, TryInsertError<E>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned: Into<K>> + ?Sized,
    {
        loop {
            match self.flights.join(key, || self.begin(key), || key.to_owned().into())? {
                Joined::Lead(lead, fence) => return self.lead(lead, fence, key, make),
                Joined::Follow(flight) => {
                    if let Some(value) = flight.wait()? {
                        return Ok(value);
                    }
                }
            }
        }
    }

    fn lead<Q, E>(
        &self,
        lead: Lead<'_, K, T>,
        fence: Fence,
        key: &Q,
        make: impl FnOnce() -> Result<Made<T>, E>,
    ) -> Result<T, TryInsertError<E>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned: Into<K>> + ?Sized,
    {
        // A run may have ended between the first look and this one's beginning.
        if let Some(value) = self.get(key) {
            lead.land(&value);
            return Ok(value);
        }
        let Made { value, ttl } = make().map_err(TryInsertError::Loader)?;
        let end = ttl.map(|ttl| self.clock.now() + ttl);
        // Stored or not, the value is there for those who asked in time.
        self.commit(fence, key.to_owned().into(), value.clone(), end.map(|end| (end, end)));
        lead.land(&value);
        Ok(value)
    }
}

/// What a closure gave.
struct Made<T> {
    value: T,
    ttl: Option<Duration>,
}

impl<T> Made<T> {
    fn until((value, ttl): (T, Duration)) -> Self {
        Self { value, ttl: Some(ttl) }
    }
}

fn never_fails<T>(made: Result<T, TryInsertError<Infallible>>) -> Result<T, Error> {
    made.map_err(|error| match error {
        TryInsertError::Loader(never) => match never {},
        TryInsertError::Cache(error) => error,
    })
}

impl<E> From<Reentrant> for TryInsertError<E> {
    fn from(_: Reentrant) -> Self {
        Self::Cache(Error::new(ErrorKind::Reentrant, "get_or_insert_with"))
    }
}
