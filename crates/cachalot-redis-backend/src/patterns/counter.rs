//! Counters that end at a cap.

use std::time::Duration;

use cachalot_core::{CacheKey, Error, ErrorKind, Namespace, Result};

use super::hash::about;
use super::way::{Call, Place, Way};
use super::{read, script};
use crate::backend::millis;
use crate::link::Again;

/// What Lua counts exactly.
const LARGEST_CAP: u64 = 1 << 53;

/// Counters up to a cap, one for each key: trials, seats, vouchers. From
/// [`RedisPatterns::capped_counter`](super::RedisPatterns::capped_counter).
///
/// However many count at once, exactly `cap` increments of a counter's life succeed. Its life begins with the first of
/// them, and no later one prolongs it.
#[derive(Clone)]
pub struct CappedCounter {
    way: Way,
    namespace: Namespace,
    cap: u64,
    ttl: Duration,
}

impl CappedCounter {
    pub(super) fn new(way: Way, namespace: Namespace, cap: u64, ttl: Duration) -> Result<Self> {
        let detail = if cap > LARGEST_CAP {
            "the cap must not exceed 2^53"
        } else if millis(ttl) == 0 {
            "a counter lives for a millisecond at least"
        } else {
            return Ok(Self { way, namespace, cap, ttl });
        };
        Err(Error::new(ErrorKind::Config, "redis counter").detail(detail))
    }

    /// Counts one more under `key`, and gives the number; `None` at the cap, and nothing is counted (the script says
    /// -1).
    ///
    /// # Errors
    /// As [patterns](super#errors), [`ErrorKind::Unsupported`] also for what is no number. If the connection breaks, it
    /// may have been counted.
    pub async fn increment(&self, key: &(impl CacheKey + ?Sized)) -> Result<Option<u64>> {
        const OPERATION: &str = "redis counter increment";
        let place = self.place(key);
        let (cap, life) = (self.cap.to_string(), millis(self.ttl).to_string());
        let arguments = [cap.as_bytes(), life.as_bytes()];
        let reply =
            self.way.run(OPERATION, &place, Call::new(&script::COUNTER_INCREMENT, &arguments)).await?;
        let number = read::number(reply).map_err(|fault| self.way.error(fault, OPERATION, &place))?;
        Ok(u64::try_from(number).ok())
    }

    /// How far was counted under `key`; 0 if not at all, or its life is over.
    ///
    /// # Errors
    /// As [`increment`](CappedCounter::increment).
    pub async fn get(&self, key: &(impl CacheKey + ?Sized)) -> Result<u64> {
        const OPERATION: &str = "redis counter get";
        let place = self.place(key);
        let value = self.way.ask(OPERATION, &place, &about("GET", &place), Again::Once).await?;
        let bytes = read::bytes(value).map_err(|fault| self.way.error(fault, OPERATION, &place))?;
        let Some(bytes) = bytes else { return Ok(0) };
        let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.way.error(crate::fault::Fault::OtherType, OPERATION, &place))
    }

    /// Begins anew under `key`; `false` if nothing was counted.
    ///
    /// # Errors
    /// As [`increment`](CappedCounter::increment).
    pub async fn reset(&self, key: &(impl CacheKey + ?Sized)) -> Result<bool> {
        const OPERATION: &str = "redis counter reset";
        let place = self.place(key);
        let reply = self.way.run(OPERATION, &place, Call::new(&script::COUNTER_RESET, &[]).again()).await?;
        let removed = read::number(reply).map_err(|fault| self.way.error(fault, OPERATION, &place))?;
        Ok(removed == 1)
    }

    fn place(&self, key: &(impl CacheKey + ?Sized)) -> Place {
        self.way.place(self.namespace.key(key))
    }
}

impl std::fmt::Debug for CappedCounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CappedCounter")
            .field("namespace", &self.namespace)
            .field("cap", &self.cap)
            .field("ttl", &self.ttl)
            .finish()
    }
}
