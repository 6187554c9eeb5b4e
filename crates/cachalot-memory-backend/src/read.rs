//! How a value is read: a visit, a set, an entry, and whether it is good for anything yet.

use std::hash::Hash;
use std::time::Duration;

use cachalot_core::{Freshness, Timestamp};
use equivalent::Equivalent;

use crate::curve::CurveSampler;
use crate::life::{self, LIFE, Life, TIMED, has_come, is_readable_by_end};
use crate::listener::Cause;
use crate::memory::Memory;
use crate::policy::Slot;
use crate::readers::Visit;
use crate::set::SetGuard;
use crate::shard::Shard;
use crate::sync::atomic::Ordering;
use crate::table::{Seek, Table, tag};

/// What an entry is good for when it is read.
#[derive(Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) freshness: Freshness,
    pub(crate) stale_for: Duration,
    /// The time it was judged by; none if it has no end.
    pub(crate) at: Option<Timestamp>,
}

pub(crate) const ENDLESS: Standing =
    Standing { freshness: Freshness::Fresh, stale_for: Duration::ZERO, at: None };

/// What became of a read.
enum Seen<R> {
    Hit(R),
    Miss,
    /// The entry is past its hard expiry.
    Over,
    /// The table was being replaced.
    Retired,
}

impl<K: Hash + Eq, T> Memory<K, T> {
    /// What `read` makes of an entry before its hard expiry; `None` from it counts as a miss.
    #[inline]
    pub(crate) fn read<Q, R>(&self, key: &Q, read: impl FnOnce(&T, Standing) -> Option<R>) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        // A hit or a miss, it is the same to the curve.
        if let Some(curve) = &self.curve
            && curve.is_sampled(hash)
        {
            return self.read_sampled(curve, hash, key, read);
        }
        // Where nothing ever had an end there is no clock to ask, which is worth a way of its own.
        if self.any_timed.load(Ordering::Relaxed) {
            return self.read_timed(hash, key, read);
        }
        self.read_usual::<Q, R, false>(hash, key, read)
    }

    #[inline(never)]
    fn read_timed<Q, R>(&self, hash: u64, key: &Q, read: impl FnOnce(&T, Standing) -> Option<R>) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.read_usual::<Q, R, true>(hash, key, read)
    }

    /// The usual cases in one piece: an entry at its home, in a set that is hot or that nobody else is at.
    #[inline(always)]
    fn read_usual<Q, R, const TIMED: bool>(
        &self,
        hash: u64,
        key: &Q,
        read: impl FnOnce(&T, Standing) -> Option<R>,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let at = self.shard_index(hash);
        let shard = self.nth(at);
        let Some(visit) = self.readers.enter_at_once(at) else {
            return self.read_otherwise(hash, key, read);
        };
        let table = shard.visited(&visit);
        let Some((home, set)) = table.home_set(hash) else {
            visit.miss();
            return None;
        };
        let ways = set.hot(tag(hash));
        if ways != 0 {
            let result = match set.read_hot(&visit, ways, |held| key.equivalent(held)) {
                Some(hot) if !hot.is_timed() => Ok(read(hot.value, ENDLESS)),
                Some(hot) if TIMED => match self.plain(hot.soonest(), || hot.end()) {
                    Some(standing) => Ok(read(hot.value, standing)),
                    None => Err(read),
                },
                _ => Err(read),
            };
            return match result {
                Ok(result) => self.count(visit, hash, result),
                Err(read) => self.read_unusual(visit, hash, key, read),
            };
        }
        set.warm_ways();
        let Some(mut guard) = set.try_lock() else {
            return self.read_unusual(visit, hash, key, read);
        };
        let Some((way, value)) = guard.find_value(tag(hash), |held| key.equivalent(held)) else {
            if guard.set().past() > 0 {
                drop(guard);
                return self.read_unusual(visit, hash, key, read);
            }
            drop(guard);
            visit.miss();
            // As a rule it comes in next.
            set.warm();
            shard.warm();
            return None;
        };
        let standing = if TIMED {
            self.standing(table, &guard, Slot { set: home, way })
        } else {
            (guard.ways().mark(way) & LIFE == 0).then_some(ENDLESS)
        };
        let Some(standing) = standing else {
            drop(guard);
            return self.read_unusual(visit, hash, key, read);
        };
        let result = read(value, standing);
        let mut often = false;
        if result.is_some() {
            guard.ways_mut().touch(way, shard.now());
            often = guard.warm_up();
        }
        drop(guard);
        if often { self.open_home(visit, hash, result) } else { self.count(visit, hash, result) }
    }

    /// Opens the home of a hash to reads without its lock, if it is time, and counts the read.
    #[cold]
    #[inline(never)]
    fn open_home<R>(&self, visit: Visit<'_>, hash: u64, result: Option<R>) -> Option<R> {
        let table = self.nth(self.shard_index(hash)).visited(&visit);
        if let Some(guard) = table.home_set(hash).and_then(|(_, set)| set.lock()) {
            guard.open_if_hot();
        }
        self.count(visit, hash, result)
    }

    /// Counts a read and ends its visit.
    #[inline(always)]
    fn count<R>(&self, visit: Visit<'_>, hash: u64, result: Option<R>) -> Option<R> {
        if result.is_none() {
            visit.miss();
            return None;
        }
        visit.hit();
        drop(visit);
        if self.tuner.is_sampled(hash) { self.shown(hash, result) } else { result }
    }

    #[cold]
    #[inline(never)]
    fn shown<R>(&self, hash: u64, result: R) -> R {
        self.tuner.show(hash);
        result
    }

    #[cold]
    #[inline(never)]
    fn read_sampled<Q, R>(
        &self,
        curve: &CurveSampler,
        hash: u64,
        key: &Q,
        read: impl FnOnce(&T, Standing) -> Option<R>,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        curve.observe(hash);
        self.read_otherwise(hash, key, read)
    }

    /// For threads that are new here, or have to run their fences.
    #[inline(never)]
    fn read_otherwise<Q, R>(
        &self,
        hash: u64,
        key: &Q,
        read: impl FnOnce(&T, Standing) -> Option<R>,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        match self.readers.enter(self.shard_index(hash)) {
            Some(visit) => self.read_unusual(visit, hash, key, read),
            None => self.read_alone(hash, key, read),
        }
    }

    /// The whole of a read, from the beginning.
    #[cold]
    #[inline(never)]
    fn read_unusual<Q, R>(
        &self,
        visit: Visit<'_>,
        hash: u64,
        key: &Q,
        read: impl FnOnce(&T, Standing) -> Option<R>,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let shard = self.nth(self.shard_index(hash));
        let mut read = Some(read);
        let seen = self.serve(shard, shard.visited(&visit), Some(&visit), hash, key, &mut read);
        if matches!(seen, Seen::Retired)
            && let Some(read) = read
        {
            drop(visit);
            return self.read_alone(hash, key, read);
        }
        if matches!(seen, Seen::Hit(_)) {
            visit.hit();
        } else {
            visit.miss();
        }
        drop(visit);
        self.finish(seen, hash, key)
    }

    /// As [`Memory::read`], with the shard's lock, which keeps the table where it is.
    #[cold]
    #[inline(never)]
    fn read_alone<Q, R>(&self, hash: u64, key: &Q, read: impl FnOnce(&T, Standing) -> Option<R>) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (at, mut read) = (self.shard_index(hash), Some(read));
        let writing = self.write(at);
        let seen = self.serve(self.nth(at), writing.table(), None, hash, key, &mut read);
        drop(writing);
        self.readers.count_other(matches!(seen, Seen::Hit(_)));
        self.finish(seen, hash, key)
    }

    fn finish<Q, R>(&self, seen: Seen<R>, hash: u64, key: &Q) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        match seen {
            Seen::Hit(result) => {
                self.tuner.observe(hash);
                Some(result)
            }
            Seen::Over => {
                self.collect(hash, key);
                None
            }
            Seen::Miss | Seen::Retired => None,
        }
    }

    fn serve<Q, R>(
        &self,
        shard: &Shard<K, T>,
        table: &Table<K, T>,
        visit: Option<&Visit<'_>>,
        hash: u64,
        key: &Q,
        read: &mut Option<impl FnOnce(&T, Standing) -> Option<R>>,
    ) -> Seen<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        // One that is not called is the caller's to drop, without the lock.
        let mut judge = |value: &T, standing: Option<Standing>| match standing {
            Some(standing) => {
                read.take().and_then(|read| read(value, standing)).map_or(Seen::Miss, Seen::Hit)
            }
            None => Seen::Over,
        };
        let mut found = table.seek(visit, hash, |held| key.equivalent(held));
        // Past the first of its ends; whether it has another one, the lock tells.
        if let Seek::Hot(hot) = &found
            && hot.is_timed()
            && self.plain(hot.soonest(), || hot.end()).is_none()
        {
            drop(found);
            found = table.seek(None, hash, |held| key.equivalent(held));
        }
        match found {
            Seek::Locked(mut guard, slot) => {
                let standing = self.standing(table, &guard, slot);
                let Some(value) = guard.value(slot.way) else {
                    return Seen::Miss;
                };
                let seen = judge(value, standing);
                if let Seen::Hit(_) = &seen {
                    guard.ways_mut().touch(slot.way, shard.now());
                    if guard.warm_up() {
                        guard.open_if_hot();
                    }
                }
                seen
            }
            Seek::Hot(hot) if !hot.is_timed() => judge(hot.value, Some(ENDLESS)),
            Seek::Hot(hot) => judge(hot.value, self.plain(hot.soonest(), || hot.end())),
            Seek::Absent => Seen::Miss,
            Seek::Retired => Seen::Retired,
        }
    }

    /// What the entry in a locked set is good for. `None`: it is over.
    #[inline(always)]
    fn standing(&self, table: &Table<K, T>, guard: &SetGuard<'_, K, T>, slot: Slot) -> Option<Standing> {
        match guard.ways().mark(slot.way) & LIFE {
            0 => Some(ENDLESS),
            TIMED => self.plain(guard.soonest(), || life::time(guard.base(), guard.end(slot.way))),
            life if is_readable_by_end(life) => {
                let now = self.clock.coarse();
                match has_come(&self.clock, now, guard.soonest()) {
                    false => Some(Standing { at: Some(now), ..ENDLESS }),
                    true => self.graded(table.life(guard, slot)),
                }
            }
            _ => self.graded(table.life(guard, slot)),
        }
    }

    /// Of an entry that is fresh until it ends, which is not before `soonest`.
    #[inline(always)]
    fn plain(&self, soonest: Timestamp, end: impl FnOnce() -> Timestamp) -> Option<Standing> {
        let now = self.clock.coarse();
        let standing = Standing { at: Some(now), ..ENDLESS };
        // The end itself lies in another line.
        let lives = !has_come(&self.clock, now, soonest) || !has_come(&self.clock, now, end());
        lives.then_some(standing)
    }

    #[inline(never)]
    pub(crate) fn graded(&self, life: Life) -> Option<Standing> {
        let now = self.clock.coarse();
        if has_come(&self.clock, now, life.hard) {
            return None;
        }
        let freshness = match life.invalidated {
            true => Freshness::Invalidated,
            false if has_come(&self.clock, now, life.soft) => Freshness::Stale,
            false => Freshness::Fresh,
        };
        Some(Standing { freshness, stale_for: now.since(life.soft), at: Some(now) })
    }

    /// Takes an entry out that a reader found past its hard expiry.
    #[cold]
    fn collect<Q>(&self, hash: u64, key: &Q)
    where
        Q: Equivalent<K> + ?Sized,
    {
        // Declared before the guard, so dropped after it.
        let mut garbage = self.garbage();
        let mut shard = self.write(self.shard_index(hash));
        let Some(slot) = shard.find(hash, key) else { return };
        // Another one may lie there by now.
        if has_come(&self.clock, self.clock.coarse(), shard.life(slot).hard) {
            self.discard(&mut shard, slot, hash, Cause::Expired, &mut garbage);
        }
    }
}
