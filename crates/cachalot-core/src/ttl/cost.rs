//! Longer for what is dear to load.

use std::time::Duration;

use super::Ttl;

/// How a TTL grows with what the load cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    /// The cost at which the base is doubled.
    reference: Duration,
    max: Duration,
}

impl Cost {
    /// `base · (1 + δ / reference)`, at most `max`, and never below `base`.
    fn stretch(self, base: Duration, compute_time: Duration) -> Duration {
        if compute_time.is_zero() {
            return base;
        }
        // Infinite for a reference of zero: anything that costs at all then gets the longest.
        let factor = 1.0 + compute_time.as_secs_f64() / self.reference.as_secs_f64();
        let stretched = base.as_secs_f64() * factor;
        Duration::try_from_secs_f64(stretched).unwrap_or(Duration::MAX).min(self.max).max(base)
    }
}

impl Ttl {
    /// Longer for costly loads: `base · (1 + δ / reference)`, at most `max`, where δ is what the load cost
    /// ([`Meta::compute_time`](crate::Meta::compute_time)). So a load that costs `reference` doubles the TTL, one
    /// that costs nine times as much makes it ten times as long. It never falls when δ grows, and never below the
    /// base; a `max` below the base changes nothing, and neither does a TTL below a millisecond change: "do not
    /// store" stays that.
    ///
    /// A `reference` of zero gives `max` to whatever cost anything. `max` bounds the TTL before jitter. An insert
    /// costs nothing and gets the base; of a load of many keys δ is the whole call's.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cachalot_core::Ttl;
    /// let ttl = Ttl::minutes(1).cost_aware(Duration::from_millis(100), Duration::from_secs(3600));
    /// assert_eq!(ttl.after_load(Duration::ZERO), Duration::from_secs(60));
    /// assert_eq!(ttl.after_load(Duration::from_millis(100)), Duration::from_secs(120));
    /// assert_eq!(ttl.after_load(Duration::from_millis(900)), Duration::from_secs(600));
    /// assert_eq!(ttl.after_load(Duration::from_secs(30)), Duration::from_secs(3600));
    /// ```
    #[must_use]
    pub const fn cost_aware(mut self, reference: Duration, max: Duration) -> Self {
        self.cost = Some(Cost { reference, max });
        self
    }

    /// The TTL before jitter of what cost `compute_time` to load: the base, unless it is
    /// [cost-aware](Ttl::cost_aware).
    pub fn after_load(self, compute_time: Duration) -> Duration {
        match self.cost {
            Some(cost) if self.base >= Self::MIN => cost.stretch(self.base, compute_time),
            _ => self.base,
        }
    }

    /// The longest TTL before jitter.
    pub(super) fn longest_base(self) -> Duration {
        match self.cost {
            Some(cost) if self.base >= Self::MIN => self.base.max(cost.max),
            _ => self.base,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::{hours, millis, minutes, seconds};
    use crate::{Entropy, EntryOptions, Timestamp};

    #[test]
    fn the_formula_is_the_one_that_is_documented() {
        let ttl = Ttl::minutes(5).cost_aware(millis(200), hours(1));
        for (cost, expected) in [
            (millis(0), minutes(5)),
            (millis(50), seconds(375)),
            (millis(200), minutes(10)),
            (millis(1000), minutes(30)),
            (millis(2200), hours(1)),
            (seconds(60), hours(1)),
            (Duration::MAX, hours(1)),
        ] {
            let got = ttl.after_load(cost);
            assert!(got.abs_diff(expected) < Duration::from_micros(1), "{cost:?}: {got:?}");
        }
    }

    #[test]
    fn extremes_neither_panic_nor_shorten() {
        let extremes = [Duration::ZERO, Duration::from_nanos(1), millis(1), hours(24 * 365), Duration::MAX];
        for base in extremes {
            for reference in extremes {
                for max in extremes {
                    let ttl = Ttl::new(base).cost_aware(reference, max);
                    for cost in extremes {
                        let got = ttl.after_load(cost);
                        assert!(got >= base && got <= ttl.longest(), "{ttl:?} {cost:?}: {got:?}");
                        assert!(base >= millis(1) || got == base, "do not store stays that: {ttl:?}");
                    }
                }
            }
        }
        let free = Ttl::seconds(1).cost_aware(Duration::ZERO, seconds(9));
        assert_eq!(free.after_load(Duration::ZERO), seconds(1));
        assert_eq!(free.after_load(Duration::from_nanos(1)), seconds(9));
        assert_eq!(Ttl::NEVER.cost_aware(millis(1), seconds(1)).after_load(seconds(1)), Duration::MAX);
    }

    #[test]
    fn entries_are_stamped_by_what_they_cost_and_the_longest_life_knows_of_it() {
        let options = EntryOptions::default()
            .ttl(Ttl::minutes(1).jitter(0.1).cost_aware(millis(100), hours(1)))
            .stale_if_error(minutes(1));
        let now = Timestamp::from_millis(1000);
        let fresh_for = |cost| options.stamp(now, cost, &Entropy::seeded(1)).unwrap().fresh_for();
        assert!(fresh_for(Duration::ZERO) <= seconds(66));
        assert!(fresh_for(seconds(10)) >= minutes(54));
        assert_eq!(options.longest_life(), minutes(67));
    }

    proptest! {
        #[test]
        fn a_dearer_load_never_lives_shorter(
            base in 1u64..1 << 40, reference in 0u64..1 << 40, max in 0u64..1 << 45,
            one in 0u64..1 << 45, other in 0u64..1 << 45,
        ) {
            let ttl = Ttl::new(millis(base)).cost_aware(millis(reference), millis(max));
            let (less, more) = (one.min(other), one.max(other));
            prop_assert!(ttl.after_load(millis(less)) <= ttl.after_load(millis(more)));
            prop_assert!(ttl.after_load(millis(more)) <= ttl.longest());
        }

        #[test]
        fn what_is_drawn_is_never_beyond_the_longest(
            base in 0u64..1 << 40, max in 0u64..1 << 45, cost in 0u64..1 << 45, jitter in 0.0..=1.0, seed: u64,
        ) {
            let ttl = Ttl::new(millis(base)).cost_aware(millis(100), millis(max)).jitter(jitter);
            prop_assert!(ttl.draw_for(millis(cost), &Entropy::seeded(seed)) <= ttl.longest());
        }
    }
}
