//! What this process has seen invalidated besides keys, by a count of its own.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use cachalot_core::{Depth, Stamp};

/// The count of the invalidations that this process has seen, and at which count which tag was last removed or
/// expired. An entry bears the count at which it began to come into being: what was counted later is about it.
///
/// Bounded: of the tags it keeps the newest [`TAGS`](Seen::TAGS); an entry that has one it does not know, and
/// is older than what was forgotten, counts as removed.
///
/// No clock and no other process's count plays a part, so nothing need be agreed upon.
#[derive(Default)]
pub struct Seen {
    count: AtomicU64,
    /// Entries that began before are not trusted; with all ones, none is.
    trusted_from: AtomicU64,
    /// What `trusted_from` is while something is trusted. Both change under the lock of `tags`.
    line: AtomicU64,
    /// For each group of tags, when one of them was last touched: tells most entries good without a lock.
    groups: OnceLock<Box<[AtomicU64]>>,
    tags: RwLock<Tags>,
}

/// What an entry is still worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was seen that is about it.
    Good,
    /// A tag of it was expired: to be served only if a load fails.
    Expired,
    /// A tag of it was removed, or it is not trusted: as if it were not there.
    Removed,
}

#[derive(Default)]
struct Tags {
    seen: HashMap<u64, Touched>,
    /// By age; one that was touched again stands here more than once.
    order: VecDeque<(u64, u64)>,
    /// What was forgotten is not younger.
    floor: u64,
}

/// When a tag was removed and expired last; 0 for never.
#[derive(Clone, Copy, Default)]
struct Touched {
    removed: u64,
    expired: u64,
}

impl Seen {
    /// How many tags are remembered one by one.
    pub const TAGS: usize = 1 << 16;

    /// Nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// The count now, for what begins now.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Sees a tag removed or expired, by its fingerprint.
    pub fn touch_tag(&self, tag: u64, depth: Depth) {
        let mut tags = self.tags.write().unwrap_or_else(PoisonError::into_inner);
        let at = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        tags.touch(tag, depth, at);
        let groups = self.groups.get_or_init(|| (0..GROUPS).map(|_| AtomicU64::new(0)).collect());
        groups[group(tag)].fetch_max(at, Ordering::SeqCst);
    }

    /// Sees that something was missed: no entry that began before is trusted any more.
    pub fn distrust(&self) {
        let _turn = self.tags.write().unwrap_or_else(PoisonError::into_inner);
        let at = self.draw_line();
        if !self.trusts_nothing() {
            self.trusted_from.store(at, Ordering::SeqCst);
        }
    }

    /// Trusts no entry, old or new, until [`trust_again`](Seen::trust_again).
    pub fn trust_nothing(&self) {
        let _turn = self.tags.write().unwrap_or_else(PoisonError::into_inner);
        self.trusted_from.store(u64::MAX, Ordering::SeqCst);
    }

    /// Trusts what begins from now on.
    pub fn trust_again(&self) {
        let _turn = self.tags.write().unwrap_or_else(PoisonError::into_inner);
        let at = self.draw_line();
        self.trusted_from.store(at, Ordering::SeqCst);
    }

    /// To be called under the lock.
    fn draw_line(&self) -> u64 {
        let at = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.line.store(at, Ordering::SeqCst);
        at
    }

    /// Whether no entry is trusted, old or new.
    pub fn trusts_nothing(&self) -> bool {
        self.trusted_from.load(Ordering::SeqCst) == u64::MAX
    }

    /// What an entry with this stamp is worth. One atomic load, and one for each tag, unless a tag of it was
    /// touched since.
    #[inline]
    pub fn standing(&self, stamp: &Stamp) -> Standing {
        if stamp.at < self.trusted_from.load(Ordering::Acquire) {
            return Standing::Removed;
        }
        match &stamp.tags {
            None => Standing::Good,
            Some(tags) => self.standing_of(stamp.at, tags),
        }
    }

    /// Whether an entry with this stamp is [`Good`](Standing::Good), as far as that can be said by two atomic loads: `false`
    /// also if it has tags and any tag was touched before.
    #[inline]
    pub fn is_good_at_a_glance(&self, stamp: &Stamp) -> bool {
        let is_trusted = stamp.at >= self.trusted_from.load(Ordering::Acquire);
        is_trusted && (stamp.tags.is_none() || self.groups.get().is_none())
    }

    /// Whether something that was seen has ended what bears this stamp. For who waits for it: as
    /// [`standing`](Seen::standing), but while nothing is trusted, what was just found may be handed out all the
    /// same. Only keeping it is then of no use.
    pub fn has_ended(&self, stamp: &Stamp) -> bool {
        let standing = match &stamp.tags {
            None => Standing::Good,
            Some(tags) => self.standing_of(stamp.at, tags),
        };
        stamp.at < self.line.load(Ordering::Acquire) || standing != Standing::Good
    }

    fn standing_of(&self, at: u64, tags: &[u64]) -> Standing {
        let Some(groups) = self.groups.get() else { return Standing::Good };
        if tags.iter().all(|tag| groups[group(*tag)].load(Ordering::Acquire) <= at) {
            return Standing::Good;
        }
        let seen = self.tags.read().unwrap_or_else(PoisonError::into_inner);
        let worst = tags.iter().map(|tag| seen.standing(*tag, at)).max_by_key(|standing| *standing as u8);
        worst.unwrap_or(Standing::Good)
    }
}

/// Of 8 bytes each, made when the first tag is touched. After a thousand removals one hit in sixteen takes the lock.
const GROUPS: usize = 1 << 14;

fn group(tag: u64) -> usize {
    (tag % GROUPS as u64) as usize
}

impl Tags {
    fn touch(&mut self, tag: u64, depth: Depth, at: u64) {
        let touched = self.seen.entry(tag).or_default();
        match depth {
            Depth::Remove => touched.removed = at,
            Depth::Expire => touched.expired = at,
        }
        self.order.push_back((tag, at));
        while self.seen.len() > Seen::TAGS || self.order.len() > 2 * Seen::TAGS {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((tag, at)) = self.order.pop_front() else { return };
        let is_newest = |touched: &Touched| touched.removed.max(touched.expired) == at;
        if self.seen.get(&tag).is_some_and(is_newest) {
            self.seen.remove(&tag);
            self.floor = at;
        }
    }

    fn standing(&self, tag: u64, at: u64) -> Standing {
        match self.seen.get(&tag) {
            Some(touched) if touched.removed > at => Standing::Removed,
            Some(touched) if touched.expired > at => Standing::Expired,
            Some(_) => Standing::Good,
            None if self.floor > at => Standing::Removed,
            None => Standing::Good,
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("count", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(seen: &Seen, tags: &[u64]) -> Stamp {
        Stamp { at: seen.count(), tags: (!tags.is_empty()).then(|| tags.into()), version: 0 }
    }

    #[test]
    fn what_began_before_a_tag_was_removed_is_removed_with_it() {
        let seen = Seen::new();
        let (before, other) = (stamp(&seen, &[7, 8]), stamp(&seen, &[9]));
        assert_eq!(seen.standing(&before), Standing::Good);
        seen.touch_tag(8, Depth::Remove);
        assert_eq!(seen.standing(&before), Standing::Removed);
        assert_eq!(seen.standing(&other), Standing::Good);
        assert_eq!(seen.standing(&stamp(&seen, &[8])), Standing::Good, "it began after");
    }

    #[test]
    fn a_removal_is_stronger_than_an_expiry_in_any_order() {
        for depths in [[Depth::Remove, Depth::Expire], [Depth::Expire, Depth::Remove]] {
            for tags in [[1, 1], [1, 2]] {
                let seen = Seen::new();
                let before = stamp(&seen, &[1, 2]);
                seen.touch_tag(tags[0], Depth::Expire);
                assert_eq!(seen.standing(&before), Standing::Expired);
                for (tag, depth) in tags.into_iter().zip(depths) {
                    seen.touch_tag(tag, depth);
                }
                assert_eq!(seen.standing(&before), Standing::Removed);
            }
        }
    }

    #[test]
    fn tags_of_one_group_are_told_apart() {
        let seen = Seen::new();
        let before = stamp(&seen, &[1]);
        seen.touch_tag(1 + GROUPS as u64, Depth::Remove);
        assert_eq!(seen.standing(&before), Standing::Good);
    }

    #[test]
    fn after_something_was_missed_only_what_begins_then_is_trusted() {
        let seen = Seen::new();
        let before = stamp(&seen, &[]);
        seen.distrust();
        assert_eq!(seen.standing(&before), Standing::Removed);
        assert_eq!(seen.standing(&stamp(&seen, &[])), Standing::Good);
        seen.trust_nothing();
        let off = stamp(&seen, &[]);
        assert_eq!(seen.standing(&off), Standing::Removed);
        seen.trust_again();
        assert_eq!(seen.standing(&off), Standing::Removed);
        assert_eq!(seen.standing(&stamp(&seen, &[])), Standing::Good);
    }

    #[test]
    fn what_was_missed_makes_nothing_trusted_again() {
        let seen = Seen::new();
        seen.trust_nothing();
        seen.distrust();
        let after = stamp(&seen, &[]);
        assert!(seen.trusts_nothing());
        assert_eq!(seen.standing(&after), Standing::Removed);
    }

    #[test]
    fn while_nothing_is_trusted_only_what_was_seen_ends_what_is_handed_out() {
        let seen = Seen::new();
        seen.trust_nothing();
        let (plain, tagged) = (stamp(&seen, &[]), stamp(&seen, &[7]));
        assert!(!seen.has_ended(&plain) && !seen.has_ended(&tagged));
        seen.touch_tag(7, Depth::Expire);
        assert!(!seen.has_ended(&plain) && seen.has_ended(&tagged));
        seen.distrust();
        assert!(seen.has_ended(&plain));
        assert!(!seen.has_ended(&stamp(&seen, &[7])));
    }

    #[test]
    fn a_glance_calls_nothing_good_that_is_not() {
        // What has no tag, and what has one that is not touched: before what is seen, and after it.
        let expects = |see: fn(&Seen), told: [bool; 4]| {
            let seen = Seen::new();
            let before = [stamp(&seen, &[]), stamp(&seen, &[7])];
            assert!(before.iter().all(|stamp| seen.is_good_at_a_glance(stamp)));
            see(&seen);
            let all = before.into_iter().chain([stamp(&seen, &[]), stamp(&seen, &[7])]);
            let glances = all.map(|stamp| {
                let is_good = seen.is_good_at_a_glance(&stamp);
                assert!(!is_good || seen.standing(&stamp) == Standing::Good);
                is_good
            });
            assert_eq!(glances.collect::<Vec<_>>(), told);
        };
        expects(|seen| seen.touch_tag(8, Depth::Expire), [true, false, true, false]);
        expects(|seen| seen.touch_tag(7, Depth::Remove), [true, false, true, false]);
        expects(Seen::distrust, [false, false, true, true]);
        expects(Seen::trust_nothing, [false; 4]);
        expects(|seen| (seen.trust_nothing(), seen.trust_again()).1, [false, false, true, true]);
    }

    #[test]
    fn it_stays_within_its_bound_and_forgets_to_the_safe_side() {
        let seen = Seen::new();
        let before = stamp(&seen, &[0]);
        seen.touch_tag(0, Depth::Expire);
        let after = stamp(&seen, &[0]);
        for round in 0..3 {
            for tag in 1..=Seen::TAGS as u64 {
                seen.touch_tag(tag + (round << 32), Depth::Remove);
                seen.touch_tag(1, Depth::Remove);
            }
        }
        let tags = seen.tags.read().unwrap();
        assert!(tags.seen.len() <= Seen::TAGS && tags.order.len() <= 2 * Seen::TAGS);
        drop(tags);
        assert_eq!(seen.standing(&before), Standing::Removed);
        assert_eq!(seen.standing(&after), Standing::Removed, "it may have been removed since");
        assert_eq!(seen.standing(&stamp(&seen, &[0])), Standing::Good);
    }
}
