//! Lives that reads prolong: how they are written down.
//!
//! In the shared tier a record's own time to live is the bound on idleness, which a touch moves; its envelope says the
//! maximum age as `fresh_for`, and as `kept_for` the TTL that it began with. Only of what slides is the second below
//! the first. In memory an entry ends where its idleness does, and its mark of an early refresh says from when on a
//! touch is worth its while.

use std::borrow::Cow;
use std::time::Duration;

use cachalot_core::envelope::Header;
use cachalot_core::{EntryOptions, Meta, Store, Timestamp};

use crate::engine::Engine;

/// How often a key is touched within its TTL at most: a read prolongs what has lost a tenth of it. So an entry lives on
/// that is read at least every nine tenths of its TTL. Were it a half, one would have to be read twice as often.
pub(crate) const TOUCHES_PER_TTL: u32 = 10;

/// How long something is kept that slides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// From the last touch on.
    pub(crate) idle: Duration,
    /// From its load on.
    pub(crate) max_age: Duration,
}

impl Span {
    /// What an envelope says. `None`: no read prolongs it.
    pub(crate) fn of(header: &Header) -> Option<Self> {
        let slides = header.kept_for < header.fresh_for;
        slides.then_some(Self { idle: header.kept_for, max_age: header.fresh_for })
    }

    /// The same where nothing gets older than `max_age`.
    pub(crate) fn within(self, max_age: Option<Duration>) -> Self {
        Self { max_age: max_age.map_or(self.max_age, |here| here.min(self.max_age)), ..self }
    }

    /// As it is stamped: the soft expiry is where it ends if it is not read, the hard one where it ends anyway.
    pub(crate) fn meta(self, created_at: Timestamp, compute_time: Duration) -> Meta {
        Meta::new(created_at, self.idle.min(self.max_age), self.max_age, compute_time)
    }
}

/// The times in memory of what was stamped so and is read `now`. `is_marked`: with the moment of the next touch.
pub(crate) fn in_memory(meta: Meta, now: Timestamp, is_marked: bool) -> Meta {
    let (idle, end) = (meta.fresh_for(), meta.hard_expiry());
    if meta.soft_expiry() == end {
        return meta;
    }
    let life = (now + idle).min(end).since(meta.created_at());
    let kept = Meta::new(meta.created_at(), life, life, meta.compute_time());
    // A touch cannot take it beyond its maximum age.
    let is_last = now + idle >= end;
    if is_last || !is_marked { kept } else { kept.with_early_from(now + idle / TOUCHES_PER_TTL) }
}

/// The TTL that the times in memory were [made](in_memory) with: to a millisecond, and to a second if it is months.
pub(crate) fn idle_of(meta: &Meta) -> Duration {
    let window = meta.soft_expiry().since(meta.early_from());
    window.saturating_mul(TOUCHES_PER_TTL) / (TOUCHES_PER_TTL - 1)
}

impl<K, V, S: Store<K, V>> Engine<K, V, S> {
    /// Whether reads prolong the life of the values of this cache.
    pub(crate) fn slides(&self) -> bool {
        self.options.max_age.is_some()
    }

    /// What a call says of times, as far as it is its to say.
    pub(crate) fn own_times<'a>(&self, options: &'a EntryOptions) -> Cow<'a, EntryOptions> {
        if options.max_age.is_none() && !self.slides() {
            return Cow::Borrowed(options);
        }
        let mut own = options.clone();
        own.max_age = self.options.max_age;
        if self.slides() {
            (own.stale_while_revalidate, own.stale_if_error) = (Duration::ZERO, Duration::ZERO);
        }
        Cow::Owned(own)
    }

    /// How long what was written down is fresh and kept by this cache: with a maximum age no value gets older, and
    /// nothing is stale.
    pub(crate) fn restored_lives(&self, header: &Header) -> (Duration, Duration) {
        match self.options.max_age {
            None => (header.fresh_for, header.kept_for),
            Some(_) if header.negative => (header.fresh_for, header.fresh_for),
            Some(max_age) => (header.fresh_for.min(max_age), header.fresh_for.min(max_age)),
        }
    }

    /// How long what is stored for `ttl` may be there, however often it is read.
    pub(crate) fn longest(&self, ttl: Duration) -> Duration {
        ttl.max(self.options.max_age.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(100);
    const MAX_AGE: Duration = Duration::from_secs(1000);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + secs * 1000)
    }

    fn stamped() -> Meta {
        Span { idle: IDLE, max_age: MAX_AGE }.meta(at(0), Duration::from_millis(7))
    }

    #[test]
    fn a_read_gives_a_whole_ttl_and_no_read_goes_beyond_the_maximum_age() {
        for (now, ends) in [(0, 100), (60, 160), (899, 999), (900, 1000), (950, 1000), (1000, 1000)] {
            let kept = in_memory(stamped(), at(now), true);
            assert_eq!((kept.soft_expiry(), kept.hard_expiry()), (at(ends), at(ends)), "read at {now}");
            assert_eq!((kept.created_at(), kept.compute_time()), (at(0), Duration::from_millis(7)));
        }
    }

    #[test]
    fn a_touch_is_due_when_a_tenth_of_the_ttl_has_gone_and_never_at_the_end_of_its_life() {
        let kept = in_memory(stamped(), at(60), true);
        assert!(!kept.is_early(at(69)) && kept.is_early(at(70)));
        assert!(!in_memory(stamped(), at(900), true).is_early(at(999)), "it cannot be prolonged");
        assert!(!in_memory(stamped(), at(60), false).is_early(at(159)), "nobody here touches");
        let fixed = Meta::new(at(0), MAX_AGE, MAX_AGE, Duration::ZERO);
        assert_eq!(in_memory(fixed, at(60), true), fixed);
    }

    #[test]
    fn the_ttl_is_found_again_and_touches_do_not_make_it_drift() {
        const DAY: u64 = 86_400_000;
        let short = [1, 2, 9, 10, 11, 99, 101, 999, 1_001, DAY, 55 * DAY].map(|idle| (idle, 2));
        let long = [56 * DAY, 90 * DAY, 3_650 * DAY].map(|idle| (idle, 1_000));
        for (idle, off) in short.into_iter().chain(long) {
            let (idle, off) = (Duration::from_millis(idle), Duration::from_millis(off));
            let meta =
                |idle| Span { idle, max_age: Duration::from_secs(1 << 30) }.meta(at(0), Duration::ZERO);
            let once = idle_of(&in_memory(meta(idle), at(0), true));
            assert!(once.abs_diff(idle) <= off, "{idle:?}: {once:?}");
            let mut again = once;
            for touch in 0..1000 {
                again = idle_of(&in_memory(meta(again), at(touch), true));
            }
            assert!(again.abs_diff(idle) <= off, "{idle:?}: {again:?} in the end");
        }
    }
}
