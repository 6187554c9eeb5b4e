//! How long an entry stays fresh.

use std::time::Duration;

use crate::Entropy;
use crate::units;

mod cost;
mod presets;
pub use presets::DataClass;
mod tiers;
pub use tiers::Tiers;
mod recency;
pub use recency::Recency;

/// Time from the end of a load to soft expiry, with an optional jitter that keeps entries which were
/// loaded together from expiring together.
///
/// A `Duration` converts into a `Ttl` without jitter, a [`DataClass`] into its preset. Zero, and anything below a
/// millisecond, means "do not store". `Duration::MAX` means "never".
///
/// Its parts compose, and a part that is not named is not there:
///
/// ```
/// # use std::time::Duration;
/// # use cachalot_core::Ttl;
/// let fixed = Ttl::minutes(5);
/// let spread = Ttl::minutes(5).jitter(0.10);
/// let by_cost = Ttl::minutes(5).cost_aware(Duration::from_millis(100), Duration::from_secs(3600)).jitter(0.10);
/// # assert_eq!(fixed.longest(), Duration::from_secs(300));
/// # assert_eq!(spread.longest(), Duration::from_secs(330));
/// # assert_eq!(by_cost.longest(), Duration::from_secs(3960));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ttl {
    base: Duration,
    jitter: f64,
    /// `None`: whatever the load cost.
    cost: Option<cost::Cost>,
}

impl Ttl {
    /// What is to live shorter is not stored.
    const MIN: Duration = units::millis(1);
    const USUAL_JITTER: f64 = 0.10;

    /// Never turns stale by time.
    pub const NEVER: Self = Self::new(Duration::MAX);

    /// `base`, without jitter.
    pub const fn new(base: Duration) -> Self {
        Self { base, jitter: 0.0, cost: None }
    }

    /// `n` seconds, without jitter.
    pub const fn seconds(n: u64) -> Self {
        Self::new(units::seconds(n))
    }

    /// `n` minutes, without jitter.
    pub const fn minutes(n: u64) -> Self {
        Self::new(units::minutes(n))
    }

    /// `n` hours, without jitter.
    pub const fn hours(n: u64) -> Self {
        Self::new(units::hours(n))
    }

    /// Spreads the TTL evenly over `base · (1 ± ratio)`. `ratio` is clamped to 0..=1; not a number is 0.
    /// Whether to store at all is not left to chance: jitter leaves a TTL below a millisecond as it is and
    /// never takes another below one.
    #[must_use]
    pub const fn jitter(mut self, ratio: f64) -> Self {
        self.jitter = if ratio >= 0.0 { ratio.min(1.0) } else { 0.0 };
        self
    }

    /// The TTL before jitter, of what cost nothing to load.
    pub const fn base(self) -> Duration {
        self.base
    }

    /// The longest that a TTL drawn from it may be.
    pub fn longest(self) -> Duration {
        let base = self.longest_base();
        if base == Duration::MAX || self.jitter == 0.0 {
            return base;
        }
        Duration::try_from_secs_f64(base.as_secs_f64() * (1.0 + self.jitter)).unwrap_or(Duration::MAX)
    }

    /// The TTL of one entry that cost nothing to load, jitter drawn.
    pub fn draw(self, entropy: &Entropy) -> Duration {
        self.draw_for(Duration::ZERO, entropy)
    }

    /// The TTL of one entry whose load took `compute_time`, jitter drawn.
    pub fn draw_for(self, compute_time: Duration, entropy: &Entropy) -> Duration {
        let base = self.after_load(compute_time);
        if self.jitter == 0.0 || base == Duration::MAX || base < Self::MIN {
            return base;
        }
        let factor = 1.0 + self.jitter * entropy.draw_signed_unit();
        let drawn = Duration::try_from_secs_f64(base.as_secs_f64() * factor).unwrap_or(Duration::MAX);
        drawn.max(Self::MIN)
    }
}

impl Default for Ttl {
    /// One hour, ± 10 %.
    fn default() -> Self {
        Self::hours(1).jitter(Self::USUAL_JITTER)
    }
}

impl From<Duration> for Ttl {
    fn from(base: Duration) -> Self {
        Self::new(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_even_and_within_its_ratio() {
        let (entropy, ttl) = (Entropy::seeded(3), Ttl::seconds(100).jitter(0.1));
        let draws: Vec<f64> = (0..50_000).map(|_| ttl.draw(&entropy).as_secs_f64()).collect();
        assert!(draws.iter().all(|t| (90.0..=110.0).contains(t)));
        for tenth in 0..10 {
            let low = 90.0 + 2.0 * f64::from(tenth);
            let share = draws.iter().filter(|t| (low..low + 2.0).contains(*t)).count() as f64 / 50_000.0;
            assert!((share - 0.1).abs() < 0.01, "{low}: {share}");
        }
    }

    #[test]
    fn jitter_survives_extremes() {
        let entropy = Entropy::seeded(3);
        for base in [Duration::ZERO, Duration::from_nanos(1), units::hours(596), Duration::MAX] {
            for ratio in [0.0, 0.1, 1.0, f64::NAN, f64::INFINITY, -3.0] {
                let drawn = Ttl::new(base).jitter(ratio).draw(&entropy);
                assert!(drawn <= base.saturating_mul(2), "{base:?} {ratio} {drawn:?}");
            }
        }
        let almost = Duration::MAX - Duration::from_secs(1);
        assert!(Ttl::new(almost).jitter(1.0).draw(&entropy) <= Duration::MAX);
    }

    #[test]
    fn jitter_never_turns_a_ttl_into_do_not_store() {
        let entropy = Entropy::seeded(3);
        for base in [units::millis(1), Duration::from_micros(1500), units::seconds(1)] {
            let ttl = Ttl::new(base).jitter(1.0);
            assert!((0..10_000).all(|_| ttl.draw(&entropy) >= units::millis(1)), "{base:?}");
        }
        assert_eq!(Ttl::new(Duration::ZERO).jitter(1.0).draw(&entropy), Duration::ZERO);
        assert!(Ttl::new(Duration::from_nanos(1)).jitter(1.0).draw(&entropy) < units::millis(1));
    }

    #[test]
    fn units_saturate() {
        for ttl in [Ttl::minutes(u64::MAX), Ttl::hours(u64::MAX), Ttl::seconds(u64::MAX)] {
            assert_eq!(ttl.base(), Duration::from_secs(u64::MAX));
        }
        assert_eq!(Ttl::from(Duration::MAX), Ttl::NEVER);
    }
}
