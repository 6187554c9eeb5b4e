//! One word for what went wrong, and the loader's own word beside it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Timestamp;

/// Shorthand for results whose error is the cache's own.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong in the cache itself. A clone is an `Arc` clone, since many callers share one failure.
///
/// Programs ask [`Error::kind`] and [`Error::retry`]; people read `Display`:
/// `redis get failed: timeout after 50 ms (key user:42, node 10.0.0.3:6379)`.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Cow<'static, str>,
    detail: Option<Cow<'static, str>>,
    retry: Retry,
    retry_at: Option<Timestamp>,
    key: Option<String>,
    node: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Why an operation failed: what a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The other side cannot be reached, or answered that it cannot serve now.
    Unavailable,
    /// No answer within the deadline. What was asked may still happen.
    Timeout,
    /// The value could not be turned into bytes.
    Encode,
    /// The bytes could not be turned into a value.
    Decode,
    /// Somebody else's right came first.
    Conflict,
    /// This tier cannot do that.
    Unsupported,
    /// The configuration, a key or a size is not acceptable. Found before anything was sent.
    Config,
    /// The work was given up before it ended.
    Cancelled,
    /// The cache was shut down.
    Closed,
    /// A loader asked, directly or through other loads, for the key it is loading.
    Reentrant,
    /// A loader panicked.
    Panicked,
}

/// Advice on trying again, from the one who knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call would fail again.
    Never,
    /// Worth trying at once.
    Now,
    /// Worth trying after this pause.
    After(Duration),
}

impl Error {
    /// An error of `kind` in `operation`, which reads like `redis get`. Its advice follows from the kind:
    /// unavailable and timeout are worth a try after 100 ms, conflict and cancelled at once, the rest never.
    pub fn new(kind: ErrorKind, operation: impl Into<Cow<'static, str>>) -> Self {
        let retry = match kind {
            ErrorKind::Unavailable | ErrorKind::Timeout => Retry::After(Duration::from_millis(100)),
            ErrorKind::Conflict | ErrorKind::Cancelled => Retry::Now,
            _ => Retry::Never,
        };
        let operation = operation.into();
        Self(Arc::new(Inner {
            kind,
            operation,
            detail: None,
            retry,
            retry_at: None,
            key: None,
            node: None,
            source: None,
        }))
    }

    /// What a program branches on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again helps.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Adds a sentence about what happened: `timeout after 50 ms`. Must not hold values or credentials.
    pub fn detail(self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.with(|inner| inner.detail = Some(detail.into()))
    }

    /// Adds the key it happened to; shown shortened and escaped.
    pub fn key(self, key: &[u8]) -> Self {
        self.with(|inner| inner.key = Some(short_key(key)))
    }

    /// Adds the server it happened at, without credentials.
    pub fn node(self, node: impl Into<String>) -> Self {
        self.with(|inner| inner.node = Some(node.into()))
    }

    /// Overrides the advice.
    pub fn with_retry(self, retry: Retry) -> Self {
        self.with(|inner| inner.retry = retry)
    }

    /// From when on trying again has a chance, by the cache's clock: until then the same error is
    /// remembered. `None`: nothing is remembered.
    pub fn retry_at(&self) -> Option<Timestamp> {
        self.0.retry_at
    }

    /// Sets [`Error::retry_at`].
    pub fn with_retry_at(self, at: Timestamp) -> Self {
        self.with(|inner| inner.retry_at = Some(at))
    }

    /// Adds what caused it.
    pub fn caused_by(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.with(|inner| inner.source = Some(source.into()))
    }

    /// Builds on a fresh error in place; one that is shared already is wrapped as the cause of a new one.
    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::try_unwrap(self.0).unwrap_or_else(|shared| Inner {
            kind: shared.kind,
            operation: shared.operation.clone(),
            detail: shared.detail.clone(),
            retry: shared.retry,
            retry_at: shared.retry_at,
            key: shared.key.clone(),
            node: shared.node.clone(),
            source: Some(Box::new(Self(shared))),
        });
        change(&mut inner);
        Self(Arc::new(inner))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "{} failed: ", inner.operation)?;
        match &inner.detail {
            Some(detail) => f.write_str(detail)?,
            None => f.write_str(inner.kind.words())?,
        }
        match (&inner.key, &inner.node) {
            (Some(key), Some(node)) => write!(f, " (key {key}, node {node})"),
            (Some(key), None) => write!(f, " (key {key})"),
            (None, Some(node)) => write!(f, " (node {node})"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind())?;
        match &self.0.source {
            Some(source) => write!(f, ", caused by: {source}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl ErrorKind {
    fn words(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Encode => "the value cannot be encoded",
            Self::Decode => "the bytes cannot be decoded",
            Self::Conflict => "somebody else's right came first",
            Self::Unsupported => "not supported by this tier",
            Self::Config => "not acceptable",
            Self::Cancelled => "given up",
            Self::Closed => "closed",
            Self::Reentrant => "a loader asked for the key it is loading",
            Self::Panicked => "the loader panicked",
        }
    }
}

/// At most 32 bytes of a key, unprintable ones escaped.
pub(crate) fn short_key(key: &[u8]) -> String {
    const SHOWN: usize = 32;
    let mut text = key[..key.len().min(SHOWN)].escape_ascii().to_string();
    if key.len() > SHOWN {
        text.push('…');
    }
    text
}

/// A loader's own error, of any type, shared by all who waited for that load.
///
/// Made by `?` from every [`std::error::Error`], or by [`LoaderError::new`] from anything that boxes to one
/// (a `String`, an `anyhow::Error`); read back with [`LoaderError::downcast_ref`].
///
/// ```
/// use cachalot_core::LoaderError;
/// fn load() -> Result<u32, LoaderError> { Ok("no number".parse::<u32>()?) }
/// let error = load().unwrap_err();
/// assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
/// ```
#[derive(Clone)]
pub struct LoaderError(Arc<dyn StdError + Send + Sync>);

impl LoaderError {
    /// Wraps anything that converts into a boxed error.
    pub fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }

    /// The loader's error, if it is an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.get_ref().downcast_ref()
    }

    /// The loader's error, whatever it is.
    pub fn get_ref(&self) -> &(dyn StdError + Send + Sync + 'static) {
        match self.0.downcast_ref::<Remembered>() {
            Some(remembered) => remembered.error.get_ref(),
            None => &*self.0,
        }
    }

    /// From when on the loader is asked again, by the cache's clock: until then callers get this error
    /// without a load. `None`: the next call loads.
    pub fn retry_at(&self) -> Option<Timestamp> {
        self.0.downcast_ref::<Remembered>().map(|remembered| remembered.retry_at)
    }

    /// The same error with this [`retry_at`](LoaderError::retry_at).
    #[must_use]
    pub fn with_retry_at(self, at: Timestamp) -> Self {
        let error = match self.0.downcast_ref::<Remembered>() {
            Some(remembered) => remembered.error.clone(),
            None => self,
        };
        Self(Arc::new(Remembered { error, retry_at: at }))
    }
}

/// A loader's error and how long it is remembered. Inside, so that an error that is not stays one `Arc`.
struct Remembered {
    error: LoaderError,
    retry_at: Timestamp,
}

impl fmt::Display for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for Remembered {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.get_ref().source()
    }
}

// `LoaderError` itself is no `std::error::Error`: that would forbid this conversion.
impl<E: StdError + Send + Sync + 'static> From<E> for LoaderError {
    fn from(error: E) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Display for LoaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for LoaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a read that may load has no value to give.
#[derive(Clone, Debug)]
pub enum LoadError {
    /// The loader failed; this is its error.
    Loader(LoaderError),
    /// The load could not run or end: [`ErrorKind::Timeout`], [`ErrorKind::Panicked`],
    /// [`ErrorKind::Reentrant`], [`ErrorKind::Cancelled`] or [`ErrorKind::Closed`].
    Cache(Error),
}

impl LoadError {
    /// The loader's error, if it is an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        match self {
            Self::Loader(error) => error.downcast_ref(),
            Self::Cache(_) => None,
        }
    }

    /// The kind, if the cache and not the loader failed.
    pub fn cache_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Loader(_) => None,
            Self::Cache(error) => Some(error.kind()),
        }
    }

    /// From when on the key is loaded again, by the cache's clock, if this error is remembered until then.
    pub fn retry_at(&self) -> Option<Timestamp> {
        match self {
            Self::Loader(error) => error.retry_at(),
            Self::Cache(error) => error.retry_at(),
        }
    }

    /// The same error with this [`retry_at`](LoadError::retry_at).
    #[must_use]
    pub fn with_retry_at(self, at: Timestamp) -> Self {
        match self {
            Self::Loader(error) => Self::Loader(error.with_retry_at(at)),
            Self::Cache(error) => Self::Cache(error.with_retry_at(at)),
        }
    }
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        Self::Cache(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loader(error) => write!(f, "load failed: {error}"),
            Self::Cache(error) => error.fmt(f),
        }
    }
}

impl StdError for LoadError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Loader(error) => Some(error.get_ref()),
            Self::Cache(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_one_line() {
        let error = Error::new(ErrorKind::Timeout, "redis get")
            .detail("timeout after 50 ms")
            .key(b"user:42")
            .node("10.0.0.3:6379");
        let text = "redis get failed: timeout after 50 ms (key user:42, node 10.0.0.3:6379)";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.retry(), Retry::After(Duration::from_millis(100)));
    }

    #[test]
    fn long_and_binary_keys_are_shortened_and_escaped() {
        let error = Error::new(ErrorKind::Decode, "get").key(&[b'a', b'\n', 0xff]);
        assert!(error.to_string().ends_with(r"(key a\n\xff)"), "{error}");
        let error = Error::new(ErrorKind::Decode, "get").key(&[b'k'; 1000]);
        assert!(error.to_string().len() < 100, "{error}");
    }

    #[test]
    fn a_shared_error_can_still_be_built_upon() {
        let first = Error::new(ErrorKind::Unavailable, "redis get");
        let second = first.clone().node("here");
        assert_eq!(first.to_string(), "redis get failed: unavailable");
        assert_eq!(second.to_string(), "redis get failed: unavailable (node here)");
    }

    #[test]
    fn an_error_tells_when_to_try_again_and_stays_what_it_was() {
        let (early, late) = (Timestamp::from_millis(5), Timestamp::from_millis(7));
        let parse = "x".parse::<i32>().unwrap_err();
        let loader = LoadError::Loader(parse.clone().into());
        let cache = LoadError::Cache(Error::new(ErrorKind::Timeout, "load").detail("timeout after 3 s"));
        for error in [loader, cache] {
            assert_eq!(error.retry_at(), None);
            let remembered = error.clone().with_retry_at(early).with_retry_at(late);
            assert_eq!(remembered.retry_at(), Some(late));
            assert_eq!(remembered.to_string(), error.to_string());
            assert_eq!(remembered.cache_kind(), error.cache_kind());
            assert_eq!(
                remembered.downcast_ref::<std::num::ParseIntError>(),
                error.downcast_ref::<std::num::ParseIntError>()
            );
        }
    }

    #[test]
    fn a_loaders_own_error_can_be_had_back() {
        let error = LoadError::Loader("x".parse::<i32>().unwrap_err().into());
        assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
        assert!(LoadError::Loader(LoaderError::new("words")).to_string().contains("words"));
    }
}
