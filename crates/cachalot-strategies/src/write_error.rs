//! Why a write was not done.

use std::error::Error as StdError;
use std::fmt;

use cachalot_core::Error;

/// Why a write was not done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WriteError<E> {
    /// The source refused it, with its own error.
    Source(E),
    /// The cache did: it is shut down, it cannot encode the value, or the source did not answer in time
    /// ([`Timeout`](cachalot_core::ErrorKind::Timeout): whether it took the write is not known).
    Cache(Error),
}

impl<E: fmt::Display> fmt::Display for WriteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => write!(f, "the source refused the write: {error}"),
            Self::Cache(error) => error.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for WriteError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Source(error) => Some(error),
            Self::Cache(error) => Some(error),
        }
    }
}

impl<E> From<Error> for WriteError<E> {
    fn from(error: Error) -> Self {
        Self::Cache(error)
    }
}
