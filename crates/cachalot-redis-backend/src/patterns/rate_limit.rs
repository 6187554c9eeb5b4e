//! So many in any window.

use std::fmt;
use std::time::Duration;

use cachalot_core::{CacheKey, Error, ErrorKind, Namespace, Result};

use super::way::{Call, Way};
use super::{read, script};

const LARGEST_LIMIT: u32 = 100_000;
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A sliding window: lets through at most so many in any stretch of time of a length, for each key. From
/// [`RedisPatterns::rate_limit`](super::RedisPatterns::rate_limit).
///
/// Exact, by the server's clock, in one script that does the same work however high the limit: it keeps the times of the
/// last `limit` that were let through, 8 bytes each, and looks at the oldest. What is denied is not kept, so that who
/// goes on asking is let in as soon as who waits.
///
/// A key takes 16 bytes and 8 for each that was let through, up to the limit, and is gone a window after the last. With
/// another limit than before what was let through counts on. A server that evicts a key forgets it: that lets through
/// more, never less.
#[derive(Clone)]
pub struct RateLimit {
    way: Way,
    namespace: Namespace,
    limit: u32,
    window: Duration,
}

/// What a [`RateLimit`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is one of those let through.
    Allowed,
    /// There were too many.
    Denied {
        /// When the next one will be let through, if nobody else comes first. Above zero, at most the window.
        retry_after: Duration,
    },
}

impl Admission {
    /// Whether it was let through.
    pub fn is_allowed(self) -> bool {
        self == Self::Allowed
    }
}

impl RateLimit {
    pub(super) fn new(way: Way, namespace: Namespace, limit: u32, window: Duration) -> Result<Self> {
        let detail = if !(1..=LARGEST_LIMIT).contains(&limit) {
            "a limit is from 1 to 100,000"
        } else if !(SHORTEST..=LONGEST).contains(&window) {
            "a window is from a millisecond to 366 days"
        } else {
            return Ok(Self { way, namespace, limit, window });
        };
        Err(Error::new(ErrorKind::Config, "redis rate limit").detail(detail))
    }

    /// Lets one through under `key`, or says when.
    ///
    /// # Errors
    /// As [patterns](super#errors), [`ErrorKind::Unsupported`] also for what is no limit's. If the connection breaks, it
    /// may have been let through. Whether to let through when the server does not say is the caller's choice.
    pub async fn check(&self, key: &(impl CacheKey + ?Sized)) -> Result<Admission> {
        const OPERATION: &str = "redis rate limit";
        let place = self.way.place(self.namespace.key(key));
        let (limit, window) = (self.limit.to_string(), self.window.as_micros().to_string());
        let arguments = [limit.as_bytes(), window.as_bytes()];
        let reply = self.way.run(OPERATION, &place, Call::new(&script::RATE_LIMIT, &arguments)).await?;
        match read::count(reply).map_err(|fault| self.way.error(fault, OPERATION, &place))? {
            0 => Ok(Admission::Allowed),
            micros => Ok(Admission::Denied { retry_after: Duration::from_micros(micros) }),
        }
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("namespace", &self.namespace)
            .field("limit", &self.limit)
            .field("window", &self.window)
            .finish()
    }
}
