//! What a caller may choose per entry.

use std::time::Duration;

use crate::{Entropy, Meta, Tags, Timestamp, Ttl};

/// How an entry is written and how stale it may be read. A cache holds a default; a call may derive its own.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EntryOptions {
    /// Time from the end of the load to soft expiry. Default: 1 h ± 10 %.
    pub ttl: Ttl,
    /// TTL of a negative entry ("known to be absent"). Default: none, absence is not cached.
    pub negative_ttl: Option<Ttl>,
    /// How long after soft expiry a stale value is served at once while one refresh runs. Default: zero.
    /// Source: RFC 5861 §3.
    pub stale_while_revalidate: Duration,
    /// How long after soft expiry a stale value is served when the load fails. Default: zero.
    /// Source: RFC 5861 §4.
    pub stale_if_error: Duration,
    /// An upper bound on how stale a served value may be, whatever fails. Default: none beyond the two
    /// windows above.
    pub max_stale: Duration,
    /// How long a caller waits for a load while a value is at hand that could be served if the load failed;
    /// then it is served that value, and the load goes on. Default: none, it waits for the load's end.
    pub soft_timeout: Duration,
    /// How old a value may get whose life reads prolong, from its load on. Then [`ttl`](EntryOptions::ttl) counts from
    /// the last read that prolonged it, and the stale windows do not count. It is a whole cache's: what a call says
    /// of it is not heard. Default: none, no read prolongs anything.
    pub max_age: Option<Duration>,
    /// The tags of what is stored. Default: none. A loader adds those that the value decides, and callers that join
    /// its load add theirs. What is found stored keeps the tags that it has.
    pub tags: Tags,
    /// Which version of its key an insert brings, by the source's own count; for a load, what its loader does not set.
    /// Default: 0, none. In caches built for it only.
    pub version: u64,
}

impl EntryOptions {
    /// Sets [`EntryOptions::ttl`].
    #[must_use]
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Sets [`EntryOptions::negative_ttl`].
    #[must_use]
    pub fn negative_ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.negative_ttl = Some(ttl.into());
        self
    }

    /// Sets [`EntryOptions::stale_while_revalidate`].
    #[must_use]
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = window;
        self
    }

    /// Sets [`EntryOptions::stale_if_error`].
    #[must_use]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = window;
        self
    }

    /// Sets [`EntryOptions::max_stale`].
    #[must_use]
    pub fn max_stale(mut self, bound: Duration) -> Self {
        self.max_stale = bound;
        self
    }

    /// Sets [`EntryOptions::soft_timeout`].
    #[must_use]
    pub fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.soft_timeout = timeout;
        self
    }

    /// Sets [`EntryOptions::max_age`].
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sets [`EntryOptions::tags`].
    #[must_use]
    pub fn tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }

    /// Sets [`EntryOptions::version`].
    #[must_use]
    pub fn version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// The times of a value whose load ended at `now` and took `compute_time`, jitter drawn from
    /// `entropy`. `None` if the TTL is below a millisecond: do not store. With a [maximum age](EntryOptions::max_age)
    /// the soft expiry is where its life ends that no read prolongs, the hard one where it ends in any case.
    pub fn stamp(&self, now: Timestamp, compute_time: Duration, entropy: &Entropy) -> Option<Meta> {
        let meta = self.stamp_with(self.ttl, now, compute_time, entropy)?;
        let Some(max_age) = self.max_age else { return Some(meta) };
        Some(Meta::new(now, meta.fresh_for().min(max_age), max_age, compute_time))
    }

    /// As [`EntryOptions::stamp`] for a negative entry. `None` unless a negative TTL is set.
    pub fn stamp_negative(&self, now: Timestamp, compute_time: Duration, entropy: &Entropy) -> Option<Meta> {
        self.stamp_with(self.negative_ttl?, now, compute_time, entropy)
    }

    /// How long what is stored by these options is kept at most.
    pub fn longest_life(&self) -> Duration {
        let fresh_for = self.ttl.longest().max(self.negative_ttl.map_or(Duration::ZERO, Ttl::longest));
        let kept_for = fresh_for.saturating_add(self.stale_while_revalidate.max(self.stale_if_error));
        kept_for.max(self.max_age.unwrap_or_default())
    }

    /// Whether a value that has been stale for `stale_for` may be served while it is refreshed.
    pub fn may_serve_while_revalidating(&self, stale_for: Duration) -> bool {
        stale_for < self.stale_while_revalidate && stale_for <= self.max_stale
    }

    /// Whether a value that has been stale for `stale_for` may be served after a failed load.
    pub fn may_serve_on_error(&self, stale_for: Duration) -> bool {
        stale_for < self.stale_if_error && stale_for <= self.max_stale
    }

    fn stamp_with(
        &self,
        ttl: Ttl,
        now: Timestamp,
        compute_time: Duration,
        entropy: &Entropy,
    ) -> Option<Meta> {
        let fresh_for = ttl.draw_for(compute_time, entropy);
        if fresh_for < Duration::from_millis(1) {
            return None;
        }
        let window = self.stale_while_revalidate.max(self.stale_if_error);
        Some(Meta::new(now, fresh_for, fresh_for.saturating_add(window), compute_time))
    }
}

impl Default for EntryOptions {
    fn default() -> Self {
        Self {
            ttl: Ttl::default(),
            negative_ttl: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            max_stale: Duration::MAX,
            soft_timeout: Duration::MAX,
            max_age: None,
            tags: Tags::NONE,
            version: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::hours;

    fn stamp(options: &EntryOptions) -> Option<Meta> {
        options.stamp(Timestamp::from_millis(1000), Duration::ZERO, &Entropy::seeded(1))
    }

    #[test]
    fn a_ttl_of_zero_or_a_nanosecond_means_do_not_store() {
        assert_eq!(stamp(&EntryOptions::default().ttl(Duration::ZERO)), None);
        assert_eq!(stamp(&EntryOptions::default().ttl(Duration::from_nanos(1))), None);
        assert!(stamp(&EntryOptions::default().ttl(Duration::from_millis(1))).is_some());
    }

    #[test]
    fn a_ttl_over_24_8_days_does_not_overflow() {
        // 2^31 ms is 24.8 days.
        let ttl = hours(24 * 25);
        let meta = stamp(&EntryOptions::default().ttl(ttl)).unwrap();
        assert_eq!(meta.soft_expiry(), Timestamp::from_millis(1000) + ttl);
    }

    #[test]
    fn an_infinite_ttl_never_expires() {
        let meta = stamp(&EntryOptions::default().ttl(Duration::MAX).stale_if_error(Duration::MAX)).unwrap();
        assert_eq!(meta.soft_expiry(), Timestamp::NEVER);
        assert_eq!(meta.hard_expiry(), Timestamp::NEVER);
    }

    #[test]
    fn hard_expiry_covers_the_longer_stale_window() {
        let options = EntryOptions::default()
            .ttl(Ttl::seconds(10))
            .stale_while_revalidate(Duration::from_secs(5))
            .stale_if_error(Duration::from_secs(60));
        let meta = stamp(&options).unwrap();
        assert_eq!(meta.hard_expiry().since(meta.soft_expiry()), Duration::from_secs(60));
    }

    #[test]
    fn max_stale_bounds_both_windows() {
        let options = EntryOptions::default()
            .stale_while_revalidate(Duration::from_secs(10))
            .stale_if_error(Duration::from_secs(10))
            .max_stale(Duration::from_secs(3));
        assert!(options.may_serve_on_error(Duration::from_secs(3)));
        assert!(!options.may_serve_on_error(Duration::from_secs(4)));
        assert!(!options.may_serve_while_revalidating(Duration::from_secs(4)));
    }

    #[test]
    fn absence_is_stored_only_with_a_negative_ttl() {
        let now = Timestamp::from_millis(1);
        let entropy = Entropy::seeded(1);
        assert_eq!(EntryOptions::default().stamp_negative(now, Duration::ZERO, &entropy), None);
        let options = EntryOptions::default().negative_ttl(Ttl::seconds(1));
        let meta = options.stamp_negative(now, Duration::ZERO, &entropy).unwrap();
        assert_eq!(meta.soft_expiry(), now + Duration::from_secs(1));
    }

    #[test]
    fn a_maximum_age_takes_the_place_of_the_stale_windows_and_bounds_the_ttl() {
        let options = EntryOptions::default()
            .ttl(Ttl::minutes(30))
            .negative_ttl(Ttl::seconds(10))
            .stale_if_error(hours(48))
            .max_age(hours(12));
        let meta = stamp(&options).unwrap();
        assert_eq!((meta.fresh_for(), meta.kept_for()), (Duration::from_secs(1800), hours(12)));
        assert_eq!(options.longest_life(), hours(48) + Duration::from_secs(1800));
        let short = options.clone().stale_if_error(Duration::ZERO);
        assert_eq!(short.longest_life(), hours(12));
        let negative = short.stamp_negative(Timestamp::from_millis(1), Duration::ZERO, &Entropy::seeded(1));
        assert_eq!(negative.unwrap().kept_for(), Duration::from_secs(10));
        let meta = stamp(&options.ttl(Ttl::NEVER)).unwrap();
        assert_eq!((meta.fresh_for(), meta.kept_for()), (hours(12), hours(12)));
    }

    /// Zero, a nanosecond, either side of a millisecond, 24.8 days in milliseconds (2^31), for ever, and
    /// anything between.
    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::from_nanos(1)),
            Just(Duration::from_nanos(999_999)),
            Just(Duration::from_millis(1)),
            Just(Duration::from_millis((1 << 31) - 1)),
            Just(Duration::from_millis(1 << 31)),
            Just(Duration::from_millis(u64::MAX)),
            Just(Duration::MAX - Duration::from_nanos(1)),
            Just(Duration::MAX),
            any::<Duration>(),
            (0u64..1 << 40).prop_map(Duration::from_nanos),
        ]
    }

    proptest! {
        #[test]
        fn any_options_stamp_times_in_order(
            base in any_duration(), jitter in prop_oneof![Just(0.0), 0.0..=1.0, any::<f64>()],
            revalidate in any_duration(), on_error in any_duration(), cost in any_duration(),
            now in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], seed: u64,
        ) {
            let now = Timestamp::from_millis(now);
            let options = EntryOptions::default()
                .ttl(Ttl::new(base).jitter(jitter))
                .stale_while_revalidate(revalidate)
                .stale_if_error(on_error);
            let meta = options.stamp(now, cost, &Entropy::seeded(seed));
            prop_assert_eq!(meta.is_some(), base >= Duration::from_millis(1), "{:?}", base);
            let Some(meta) = meta else { return Ok(()) };
            prop_assert_eq!((meta.created_at(), meta.compute_time()), (now, cost));
            prop_assert!(meta.created_at() <= meta.soft_expiry());
            prop_assert!(meta.soft_expiry() <= meta.hard_expiry());
            // An expiry lies ahead, unless time itself is at its end.
            prop_assert!(meta.soft_expiry() > now || now == Timestamp::NEVER);
            if base == Duration::MAX {
                prop_assert_eq!(meta.soft_expiry(), Timestamp::NEVER);
            }
            prop_assert!(meta.kept_for() >= meta.fresh_for());
            // A clock that steps, back or ahead, finds it fresh or stale, and panics nowhere.
            for step in [Timestamp::from_millis(0), now.back(base), now + base, Timestamp::NEVER] {
                let stale_for = meta.stale_for(step);
                prop_assert!(stale_for == Duration::ZERO || step > meta.soft_expiry());
                let _ = options.may_serve_on_error(stale_for);
            }
        }
    }
}
