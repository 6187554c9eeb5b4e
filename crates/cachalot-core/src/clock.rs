//! Time as an injected effect.

use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A moment: milliseconds since the Unix epoch. All arithmetic saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Later than every other moment: an entry that expires here never does.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this moment; zero if `earlier` is the later one.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved back by `by`, not before the epoch. [`Timestamp::NEVER`] stays what it is.
    pub fn back(self, by: Duration) -> Self {
        if self == Self::NEVER { self } else { Self(self.0.saturating_sub(whole_millis(by))) }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Parts of a millisecond are dropped; beyond the range lies [`Timestamp::NEVER`].
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(by)))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER { f.write_str("never") } else { write!(f, "{} ms", self.0) }
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Tells the time. Cheap to clone; monotonic, and anchored to the wall clock once.
///
/// The system clock does not follow later steps of the wall clock, so an administrator who sets the time
/// expires nothing and revives nothing.
#[derive(Clone, Default)]
pub struct Clock {
    kind: Kind,
}

#[derive(Clone, Default)]
enum Kind {
    #[default]
    System,
    Manual(Arc<AtomicU64>),
    Custom(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

impl Clock {
    /// The machine's monotonic clock, anchored to wall time when first used in the process. On Linux it
    /// stands still while the machine is suspended, and falls behind the wall clock by as much.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that asks `now`, which must never go backwards. For tests over another kind of time.
    pub fn custom(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { kind: Kind::Custom(Arc::new(now)) }
    }

    /// The time, exact to a millisecond. About 25 ns.
    pub fn now(&self) -> Timestamp {
        match &self.kind {
            Kind::System => system::now(),
            Kind::Manual(millis) => Timestamp(millis.load(Ordering::Acquire)),
            Kind::Custom(now) => now(),
        }
    }

    /// The time since some moment in the past, exact to a nanosecond where the clock is: for measuring how
    /// long something takes.
    pub fn monotonic(&self) -> Duration {
        match &self.kind {
            Kind::System => system::monotonic(),
            _ => Duration::from_millis(self.now().as_millis()),
        }
    }

    /// The time, late by at most a kernel tick (4 to 10 ms), never early. Below 10 ns on Linux; elsewhere
    /// the same as [`Clock::now`].
    #[inline]
    pub fn coarse(&self) -> Timestamp {
        match &self.kind {
            Kind::System => system::coarse(),
            _ => self.now(),
        }
    }

    /// Whether `deadline` has come, exact to a millisecond at the price of a coarse reading: the exact
    /// clock is asked only when the deadline lies within a few ticks. [`Timestamp::NEVER`] never comes.
    #[inline]
    pub fn has_reached(&self, deadline: Timestamp) -> bool {
        self.coarse_has_reached(self.coarse(), deadline)
    }

    /// As [`Clock::has_reached`], for a caller that has just read [`Clock::coarse`].
    #[inline]
    pub fn coarse_has_reached(&self, coarse: Timestamp, deadline: Timestamp) -> bool {
        if deadline <= coarse {
            return deadline != Timestamp::NEVER;
        }
        if deadline.0 - coarse.0 > SLACK_MS {
            return false;
        }
        deadline <= self.now()
    }
}

/// How far a coarse reading may lag: four ticks of the slowest usual kernel (250 Hz) and more.
const SLACK_MS: u64 = 16;

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::System => "Clock::system",
            Kind::Manual(_) => "Clock::manual",
            Kind::Custom(_) => "Clock::custom",
        })
    }
}

/// A clock that moves only when told. Clones, and the [`Clock`]s made from it, share one time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    millis: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that stands at 1,000,000 ms.
    pub fn new() -> Self {
        Self { millis: Arc::new(AtomicU64::new(1_000_000)) }
    }

    /// The [`Clock`] to inject.
    pub fn clock(&self) -> Clock {
        Clock { kind: Kind::Manual(self.millis.clone()) }
    }

    /// The time it stands at.
    pub fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// Moves the time on; saturates.
    pub fn advance(&self, by: Duration) {
        let step = |now: u64| Some(now.saturating_add(whole_millis(by)));
        // The closure never refuses, so there is no error to look at.
        let _ = self.millis.fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

/// The machine's clock. A reading is one multiplication away from a timestamp, since every hit takes one.
mod system {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, SystemTime};

    use super::Timestamp;

    /// Wall time in nanoseconds when the monotonic clock stood at zero; itself zero as long as nobody asked.
    static ANCHOR: AtomicU64 = AtomicU64::new(0);

    #[inline]
    fn at(monotonic: u64) -> Timestamp {
        let anchor = match ANCHOR.load(Ordering::Relaxed) {
            0 => drop_anchor(),
            anchor => anchor,
        };
        Timestamp(anchor.wrapping_add(monotonic) / 1_000_000)
    }

    #[cold]
    fn drop_anchor() -> u64 {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let anchor = (wall.as_nanos() as u64).wrapping_sub(precise()).max(1);
        // The first one counts.
        match ANCHOR.compare_exchange(0, anchor, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => anchor,
            Err(first) => first,
        }
    }

    pub(super) fn now() -> Timestamp {
        at(precise())
    }

    pub(super) fn monotonic() -> Duration {
        Duration::from_nanos(precise())
    }

    #[inline]
    pub(super) fn coarse() -> Timestamp {
        at(lagging())
    }

    /// Nanoseconds since some moment in the past.
    #[cfg(all(target_os = "linux", not(cachalot_portable)))]
    mod reading {
        use rustix::time::{ClockId, clock_gettime};

        #[inline]
        fn read(id: ClockId) -> u64 {
            let time = clock_gettime(id);
            time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
        }

        pub(super) fn precise() -> u64 {
            read(ClockId::Monotonic)
        }

        #[inline]
        pub(super) fn lagging() -> u64 {
            read(ClockId::MonotonicCoarse)
        }
    }

    #[cfg(not(all(target_os = "linux", not(cachalot_portable))))]
    mod reading {
        use std::sync::OnceLock;
        use std::time::Instant;

        pub(super) fn precise() -> u64 {
            static START: OnceLock<Instant> = OnceLock::new();
            START.get_or_init(Instant::now).elapsed().as_nanos() as u64
        }

        pub(super) fn lagging() -> u64 {
            precise()
        }
    }

    use reading::{lagging, precise};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_saturate_at_both_ends() {
        let early = Timestamp::from_millis(5);
        assert_eq!(early + Duration::MAX, Timestamp::NEVER);
        assert_eq!(early.back(Duration::MAX), Timestamp::from_millis(0));
        assert_eq!(Timestamp::NEVER.back(Duration::from_secs(1)), Timestamp::NEVER);
        assert_eq!(early.since(Timestamp::NEVER), Duration::ZERO);
        assert_eq!(early + Duration::from_nanos(999_999), early);
    }

    #[test]
    fn never_is_never_reached() {
        let time = ManualClock::new();
        time.advance(Duration::MAX);
        assert!(!time.clock().has_reached(Timestamp::NEVER));
        assert!(time.clock().has_reached(Timestamp::from_millis(u64::MAX - 1)));
    }

    #[test]
    fn a_deadline_is_reached_to_the_millisecond() {
        let time = ManualClock::new();
        let deadline = time.now() + Duration::from_millis(10);
        time.advance(Duration::from_millis(9));
        assert!(!time.clock().has_reached(deadline));
        time.advance(Duration::from_millis(1));
        assert!(time.clock().has_reached(deadline));
    }

    #[test]
    fn the_coarse_clock_lags_and_never_leads() {
        let clock = Clock::system();
        for _ in 0..1000 {
            let coarse = clock.coarse();
            let now = clock.now();
            assert!(coarse <= now, "{coarse:?} {now:?}");
        }
    }

    #[test]
    fn the_exact_clock_decides_near_a_deadline() {
        // The coarse reading is ten milliseconds behind the exact one.
        let time = ManualClock::new();
        let coarse = time.now();
        time.advance(Duration::from_millis(10));
        let clock = time.clock();
        assert!(clock.coarse_has_reached(coarse, coarse + Duration::from_millis(10)));
        assert!(!clock.coarse_has_reached(coarse, coarse + Duration::from_millis(11)));
    }

    #[test]
    fn system_time_is_wall_time() {
        let wall = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let apart = Clock::system().now().as_millis().abs_diff(wall.as_millis() as u64);
        assert!(apart < 60_000, "{apart} ms apart");
    }

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = Clock::system();
        let mut last = (clock.now(), clock.coarse(), clock.monotonic());
        for _ in 0..10_000 {
            let next = (clock.now(), clock.coarse(), clock.monotonic());
            assert!(next.0 >= last.0 && next.1 >= last.1 && next.2 >= last.2, "{last:?} {next:?}");
            last = next;
        }
    }

    #[test]
    fn a_custom_clock_that_steps_is_followed_and_breaks_nothing() {
        let millis = Arc::new(AtomicU64::new(10_000));
        let clock = Clock::custom({
            let millis = millis.clone();
            move || Timestamp::from_millis(millis.load(Ordering::Relaxed))
        });
        let (start, deadline) = (clock.now(), clock.now() + Duration::from_secs(1));
        for (now, reached) in
            [(9_000, false), (0, false), (10_999, false), (11_000, true), (u64::MAX, true), (10_000, false)]
        {
            millis.store(now, Ordering::Relaxed);
            assert_eq!(clock.has_reached(deadline), reached, "at {now}");
            assert_eq!(clock.now().since(start), Duration::from_millis(now.saturating_sub(10_000)));
        }
    }

    #[test]
    fn clones_of_a_manual_clock_share_one_time() {
        let time = ManualClock::new();
        let (clock, other) = (time.clock(), time.clone());
        other.advance(Duration::from_millis(1 << 31));
        assert_eq!(clock.now(), Timestamp::from_millis(1_000_000 + (1 << 31)));
        other.advance(Duration::from_nanos(999_999));
        assert_eq!(time.now(), clock.now());
        assert_eq!(clock.monotonic(), Duration::from_millis(clock.now().as_millis()));
    }
}
