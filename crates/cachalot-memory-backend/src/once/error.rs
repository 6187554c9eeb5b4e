//! The closure's own error, or ours.

use std::error::Error as StdError;
use std::fmt;

use cachalot_core::{Error, ErrorKind};

/// Why [`Memory::get_or_try_insert_with`](crate::Memory::get_or_try_insert_with) has no value to give.
#[derive(Clone, Debug)]
pub enum TryInsertError<E> {
    /// The closure failed; this is its error, given to the caller whose closure it was.
    Loader(E),
    /// The closure could not run: [`ErrorKind::Reentrant`].
    Cache(Error),
}

impl<E> TryInsertError<E> {
    /// The closure's error, or that of the cache.
    ///
    /// # Errors
    /// The closure did not run.
    pub fn into_loader(self) -> Result<E, Error> {
        match self {
            Self::Loader(error) => Ok(error),
            Self::Cache(error) => Err(error),
        }
    }

    /// The kind, if the cache and not the closure failed.
    pub fn cache_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Loader(_) => None,
            Self::Cache(error) => Some(error.kind()),
        }
    }
}

impl<E> From<Error> for TryInsertError<E> {
    fn from(error: Error) -> Self {
        Self::Cache(error)
    }
}

impl<E: fmt::Display> fmt::Display for TryInsertError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loader(error) => write!(f, "load failed: {error}"),
            Self::Cache(error) => error.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for TryInsertError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Loader(error) => Some(error),
            Self::Cache(error) => error.source(),
        }
    }
}
