//! What a tier holds, and how long it is good for.

use std::sync::Arc;
use std::time::Duration;

use crate::Timestamp;

/// A value with what is known about it. `value: None` is a negative entry: known to be absent.
#[derive(Clone, Debug)]
pub struct Entry<V> {
    /// The value, or `None` for a negative entry.
    pub value: Option<V>,
    /// Its times.
    pub meta: Meta,
    /// What it may be invalidated by besides its key.
    pub stamp: Stamp,
}

impl<V> Entry<V> {
    /// An entry that only its key, its times and a clear end.
    pub fn new(value: Option<V>, meta: Meta) -> Self {
        Self { value, meta, stamp: Stamp::default() }
    }
}

/// When an entry began to come into being, by the count of invalidations that this process has seen, and
/// under which tags: an invalidation that was counted later may be about it. And which version of its key it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The count when its load, copy or insert began.
    pub at: u64,
    /// The fingerprints of its tags.
    pub tags: Option<Arc<[u64]>>,
    /// Which version of its key it is; 0 if it has none.
    pub version: u64,
}

/// The times of an entry: `created_at <= soft_expiry <= hard_expiry`, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    created_at: Timestamp,
    soft_expiry: Timestamp,
    hard_expiry: Timestamp,
    compute_secs: u64,
    // Two halves of one word: a `Duration` would leave four bytes of every entry unused. Below a billion, the upper two
    // bits are free: the uppermost says in which unit the other half counts.
    compute_nanos: u32,
    early: u32,
}

/// Whether the time before the soft expiry is counted in steps of 1,024 ms, not of one.
const COARSE: u32 = 1 << 31;
/// So many bits make such a step.
const COARSE_BITS: u32 = 10;

impl Meta {
    /// An entry created at `created_at`, fresh for `fresh_for`, kept for `kept_for` in all. A `kept_for`
    /// below `fresh_for` is raised to it; sums saturate to [`Timestamp::NEVER`].
    pub fn new(
        created_at: Timestamp,
        fresh_for: Duration,
        kept_for: Duration,
        compute_time: Duration,
    ) -> Self {
        let soft_expiry = created_at + fresh_for;
        let hard_expiry = created_at + kept_for.max(fresh_for);
        let (compute_secs, compute_nanos) = (compute_time.as_secs(), compute_time.subsec_nanos());
        Self { created_at, soft_expiry, hard_expiry, compute_secs, compute_nanos, early: 0 }
    }

    /// The same entry, to be considered for an early refresh from `at` on. Default: from its soft expiry,
    /// when it is no longer early. To the millisecond, and to a second if it is more than 49 days before that.
    #[must_use]
    pub fn with_early_from(mut self, at: Timestamp) -> Self {
        let never = self.soft_expiry == Timestamp::NEVER;
        let window = if never { 0 } else { self.soft_expiry.as_millis().saturating_sub(at.as_millis()) };
        let nanos = self.compute_nanos & !COARSE;
        (self.early, self.compute_nanos) = match u32::try_from(window) {
            Ok(millis) => (millis, nanos),
            // To the nearest step: what is taken from here and set again stays as it is.
            Err(_) => {
                let steps = window.saturating_add(1 << (COARSE_BITS - 1)) >> COARSE_BITS;
                (u32::try_from(steps).unwrap_or(u32::MAX), nanos | COARSE)
            }
        };
        self
    }

    /// When its load ended.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Fresh before, stale from here on.
    pub fn soft_expiry(&self) -> Timestamp {
        self.soft_expiry
    }

    /// Not served from here on; also the native TTL in a shared tier.
    pub fn hard_expiry(&self) -> Timestamp {
        self.hard_expiry
    }

    /// What the load cost: the δ of early refresh.
    pub fn compute_time(&self) -> Duration {
        Duration::new(self.compute_secs, self.compute_nanos & !COARSE)
    }

    /// From when on an early refresh is considered: its soft expiry, unless
    /// [set](Meta::with_early_from).
    pub fn early_from(&self) -> Timestamp {
        self.soft_expiry.back(Duration::from_millis(self.early_window()))
    }

    /// Whether an early refresh of this entry, fresh at `now`, is to be considered. One comparison.
    #[inline]
    pub fn is_early(&self, now: Timestamp) -> bool {
        now.as_millis().saturating_add(self.early_window()) >= self.soft_expiry.as_millis()
    }

    /// In milliseconds.
    #[inline]
    fn early_window(&self) -> u64 {
        // Without a branch: zero, or so many bits.
        u64::from(self.early) << ((self.compute_nanos >> 31) * COARSE_BITS)
    }

    /// From creation to soft expiry; `Duration::MAX` if that never comes.
    pub fn fresh_for(&self) -> Duration {
        self.until(self.soft_expiry)
    }

    /// From creation to hard expiry; `Duration::MAX` if that never comes.
    pub fn kept_for(&self) -> Duration {
        self.until(self.hard_expiry)
    }

    /// How long it has been stale at `now`; zero while fresh.
    pub fn stale_for(&self, now: Timestamp) -> Duration {
        now.since(self.soft_expiry)
    }

    fn until(&self, moment: Timestamp) -> Duration {
        if moment == Timestamp::NEVER { Duration::MAX } else { moment.since(self.created_at) }
    }

    /// The same entry with its life in this tier cut to end at `at` at the latest.
    #[must_use]
    pub fn capped(mut self, at: Timestamp) -> Self {
        let early_from = self.early_from();
        self.soft_expiry = self.soft_expiry.min(at).max(self.created_at);
        self.hard_expiry = self.hard_expiry.min(at).max(self.created_at);
        self.with_early_from(early_from)
    }
}

/// What an entry is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// Before its soft expiry.
    Fresh,
    /// Between soft and hard expiry: served only as stale-while-revalidate or stale-if-error.
    Stale,
    /// Expired by a call of `expire`, not by time: served only as stale-if-error.
    Invalidated,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_early_refresh_is_considered_from_its_moment_on_also_in_a_tier_that_keeps_it_shorter() {
        let at = |millis: u64| Timestamp::from_millis(1000 + millis);
        let meta =
            Meta::new(at(0), Duration::from_secs(60), Duration::from_secs(90), Duration::from_micros(7));
        assert!(!meta.is_early(at(59_999)), "not considered unless set");
        let meta = meta.with_early_from(at(50_000));
        assert_eq!((meta.early_from(), meta.compute_time()), (at(50_000), Duration::from_micros(7)));
        for (cap, from) in [(70_000, 50_000), (55_000, 50_000), (20_000, 20_000)] {
            let capped = meta.capped(at(cap));
            assert_eq!(capped.early_from(), at(from));
            assert!(!capped.is_early(at(from - 1)) && capped.is_early(at(from)));
        }
        let never = Meta::new(at(0), Duration::MAX, Duration::MAX, Duration::ZERO).with_early_from(at(1));
        assert!(!never.is_early(at(1 << 40)));
        assert_eq!(size_of::<Meta>(), 40);
    }

    #[test]
    fn an_early_refresh_may_be_considered_months_before_the_end() {
        let day = Duration::from_secs(86_400);
        let created_at = Timestamp::from_millis(1000);
        let cost = Duration::new(7, 999_999_999);
        let plain = Meta::new(created_at, 365 * day, 365 * day, cost);
        for days in [1, 49, 50, 60, 364, 365] {
            let from = created_at + days * day;
            let meta = plain.with_early_from(from);
            let is_to = if days < 316 { Duration::from_secs(1) } else { Duration::ZERO };
            assert!(
                meta.early_from().since(from) <= is_to && from.since(meta.early_from()) <= is_to,
                "{days}"
            );
            assert!(
                meta.is_early(meta.early_from()) && !meta.is_early(meta.early_from().back(is_to * 2 + MS))
            );
            assert_eq!(meta.compute_time(), cost);
            assert_eq!(meta.with_early_from(meta.early_from()), meta, "set again it is the same");
            assert_eq!(meta.with_early_from(plain.soft_expiry()), plain, "and nothing is left of it");
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_order_of_times_always_holds() {
        let (zero, ms, max) = (Duration::ZERO, Duration::from_millis(1), Duration::MAX);
        for created in [0, 1, u64::MAX - 1].map(Timestamp::from_millis) {
            for fresh in [zero, ms, max] {
                for kept in [zero, ms, max] {
                    let meta = Meta::new(created, fresh, kept, zero);
                    assert!(meta.created_at() <= meta.soft_expiry());
                    assert!(meta.soft_expiry() <= meta.hard_expiry());
                    let capped = meta.capped(Timestamp::from_millis(0));
                    assert!(capped.created_at() <= capped.soft_expiry());
                    assert!(capped.soft_expiry() <= capped.hard_expiry());
                }
            }
        }
    }
}
