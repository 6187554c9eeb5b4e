//! Longer for what was asked for a short while ago.

use std::time::Duration;

use crate::units;

/// The life that an access gives to an entry, by how long ago the one before was: the longest to what is in use,
/// half of it to what cools, the shortest to what was hardly asked for.
///
/// | last access | life |
/// |---|---|
/// | less than 60 s ago | 3,600 s |
/// | less than 300 s ago | half of that |
/// | longer ago | 60 s |
///
/// These are the defaults; all four numbers can be [set](Recency::new). The shortest bounds the half from below,
/// and a longest below the shortest counts as the shortest. A pure function of the time since the last access, and
/// it never grows with it.
///
/// ```
/// # use std::time::Duration;
/// # use cachalot_core::Recency;
/// let seconds = Duration::from_secs;
/// let recency = Recency::new(seconds(10), seconds(600)).hot_within(seconds(5)).warm_within(seconds(30));
/// assert_eq!(recency.life(seconds(4)), seconds(600));
/// assert_eq!(recency.life(seconds(5)), seconds(300));
/// assert_eq!(recency.life(seconds(30)), seconds(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recency {
    min: Duration,
    max: Duration,
    hot_within: Duration,
    warm_within: Duration,
}

impl Recency {
    /// Lives from `min` to `max`; hot within 60 s, warm within 300 s.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, hot_within: units::seconds(60), warm_within: units::seconds(300) }
    }

    /// Sets how long ago the last access may be of what gets the longest life. Default: 60 s.
    #[must_use]
    pub const fn hot_within(mut self, time: Duration) -> Self {
        self.hot_within = time;
        self
    }

    /// Sets how long ago the last access may be of what gets half of the longest life. Default: 300 s.
    #[must_use]
    pub const fn warm_within(mut self, time: Duration) -> Self {
        self.warm_within = time;
        self
    }

    /// The life of what is accessed now and was accessed `since_last_access` ago.
    pub fn life(&self, since_last_access: Duration) -> Duration {
        if since_last_access < self.hot_within {
            self.longest()
        } else if since_last_access < self.warm_within {
            (self.max / 2).max(self.min)
        } else {
            self.min
        }
    }

    /// The longest life it gives.
    pub fn longest(&self) -> Duration {
        self.max.max(self.min)
    }
}

impl Default for Recency {
    /// From 60 s to 3,600 s; hot within 60 s, warm within 300 s.
    fn default() -> Self {
        Self::new(units::seconds(60), units::seconds(3_600))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::{millis, seconds};

    #[test]
    fn each_bound_belongs_to_the_colder_side() {
        let recency = Recency::default();
        let lives = [0, 59_999, 60_000, 299_999, 300_000, u64::MAX].map(|ago| recency.life(millis(ago)));
        assert_eq!(lives, [3_600, 3_600, 1_800, 1_800, 60, 60].map(seconds));
        assert_eq!(recency.life(Duration::MAX), seconds(60));
    }

    #[test]
    fn bounds_that_contradict_each_other_never_shorten_below_the_shortest() {
        let odd = Recency::new(seconds(100), seconds(10));
        assert!([0, 100, 1_000].iter().all(|ago| odd.life(seconds(*ago)) == seconds(100)));
        let half = Recency::new(seconds(60), seconds(100));
        assert_eq!(half.life(seconds(100)), seconds(60), "half of the longest is below the shortest");
        let never_warm = Recency::default().warm_within(Duration::ZERO);
        assert_eq!(never_warm.life(seconds(60)), seconds(60));
        assert_eq!(Recency::new(Duration::ZERO, Duration::MAX).life(Duration::ZERO), Duration::MAX);
    }

    proptest! {
        #[test]
        fn a_life_never_grows_with_the_time_since_the_last_access(
            min: u32, max: u32, hot: u32, warm: u32, one: u32, other: u32,
        ) {
            let ms = |n: u32| millis(n.into());
            let recency = Recency::new(ms(min), ms(max)).hot_within(ms(hot)).warm_within(ms(warm));
            let (less, more) = (ms(one.min(other)), ms(one.max(other)));
            prop_assert!(recency.life(less) >= recency.life(more));
            prop_assert!(recency.life(less) <= recency.longest() && recency.life(more) >= ms(min));
        }
    }
}
