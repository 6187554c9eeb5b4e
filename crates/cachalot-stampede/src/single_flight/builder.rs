//! The settings of a [`SingleFlight`].

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Clock, Entropy, Error, ErrorKind, Result, Spawn};

use super::SingleFlight;
use crate::{ErrorBackoff, Failures, TokioSpawn};

/// What becomes of a load when its last caller has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDeserted {
    /// It runs to its end, within its bounds. Who comes meanwhile joins it.
    #[default]
    Finish,
    /// Its future is dropped at once. Who comes later loads anew.
    Cancel,
}

/// Builds a [`SingleFlight`].
///
/// ```
/// use cachalot_core::units::{millis, seconds};
/// use cachalot_stampede::{OnDeserted, SingleFlight};
///
/// # fn main() -> cachalot_core::Result<()> {
/// let users: SingleFlight<u64, String> = SingleFlight::builder()
///     .hard_timeout(seconds(2))
///     .max_flight_age(seconds(10))
///     .on_deserted(OnDeserted::Cancel)
///     .error_backoff(millis(100), seconds(5))
///     .build()?;
/// # Ok(()) }
/// ```
pub struct SingleFlightBuilder<K, V> {
    settings: Settings,
    max_flight_age: Option<Duration>,
    error_backoff: Option<(Duration, Duration)>,
    made: PhantomData<fn() -> (K, V)>,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) hard_timeout: Duration,
    pub(super) max_flight_age: Duration,
    pub(super) on_deserted: OnDeserted,
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
    pub(super) spawn: Arc<dyn Spawn>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hard_timeout: HARD_TIMEOUT,
            max_flight_age: HARD_TIMEOUT,
            on_deserted: OnDeserted::default(),
            clock: Clock::default(),
            entropy: Entropy::default(),
            spawn: Arc::new(TokioSpawn),
        }
    }
}

const HARD_TIMEOUT: Duration = Duration::from_secs(30);

impl<K, V> SingleFlightBuilder<K, V> {
    pub(super) fn new() -> Self {
        Self { settings: Settings::default(), max_flight_age: None, error_backoff: None, made: PhantomData }
    }

    /// How long after its begin a load keeps its callers; then they get a timeout. Default: 30 s. `Duration::MAX`:
    /// without bound. A load that blocks its thread keeps them until a new one has overtaken it; in that case
    /// too [`run_within`](SingleFlight::run_within) is a bound.
    pub fn hard_timeout(mut self, timeout: Duration) -> Self {
        self.settings.hard_timeout = timeout;
        self
    }

    /// How long a load may run. Then its future is dropped and it has failed. One that blocks its thread cannot be
    /// dropped: the first caller after this time loads anew, and all who wait get what ends first. Not below the
    /// hard timeout. Default: the hard timeout.
    ///
    /// t = 0 a load begins, hard timeout 1 s, flight age 10 s · t = 1 s its callers get a timeout, and who comes
    /// from then on gets it at once, without a load of its own · t = 10 s it is dropped, the next caller loads.
    pub fn max_flight_age(mut self, age: Duration) -> Self {
        self.max_flight_age = Some(age);
        self
    }

    /// What becomes of a load when its last caller has left. Default: it is finished.
    pub fn on_deserted(mut self, policy: OnDeserted) -> Self {
        self.settings.on_deserted = policy;
        self
    }

    /// After a failed load, callers get its error at once, without a load, for a pause of `first`, twice as long
    /// after each further failure in a row, up to `cap`; each shortened by up to a half at random.
    /// [`SingleFlight::retry_at`] tells when. Default: no pause.
    ///
    /// t = 0 a load fails, first 1 s · t = 0.3 s a caller gets that error · t = 1 s at the latest a caller loads; it
    /// fails, so the next pause is up to 2 s · a load succeeds: the next failure waits 1 s again.
    pub fn error_backoff(mut self, first: Duration, cap: Duration) -> Self {
        self.error_backoff = Some((first, cap));
        self
    }

    /// Where loads run. Default: [`TokioSpawn`].
    pub fn spawn(mut self, spawn: impl Spawn) -> Self {
        self.settings.spawn = Arc::new(spawn);
        self
    }

    /// What tells the age of loads and of failures. Default: the system's. Timeouts are tokio's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// What pauses are drawn from. Default: the thread's.
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.settings.entropy = entropy;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a load has no time, the flight age is below the hard timeout, or the pauses make no
    /// sense.
    pub fn build(self) -> Result<SingleFlight<K, V>> {
        let mut settings = self.settings;
        settings.max_flight_age = self.max_flight_age.unwrap_or(settings.hard_timeout);
        if settings.hard_timeout.is_zero() {
            return refuse("a load of no time does nothing");
        }
        if settings.max_flight_age < settings.hard_timeout {
            return refuse("`max_flight_age` is below `hard_timeout`: nobody would wait for so long");
        }
        let failures = match self.error_backoff {
            Some((first, cap)) => Some(Failures::new(ErrorBackoff::new(first, cap)?)),
            None => None,
        };
        Ok(SingleFlight::over(failures, settings))
    }
}

fn refuse<T>(why: &'static str) -> Result<T> {
    Err(Error::new(ErrorKind::Config, "single flight").detail(why))
}

impl<K, V> fmt::Debug for SingleFlightBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlightBuilder")
            .field("hard_timeout", &self.settings.hard_timeout)
            .field("max_flight_age", &self.max_flight_age)
            .field("on_deserted", &self.settings.on_deserted)
            .field("error_backoff", &self.error_backoff)
            .finish_non_exhaustive()
    }
}
