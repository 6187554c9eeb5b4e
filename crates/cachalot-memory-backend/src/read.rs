//! How a value is read: a visit, a set, an entry, and whether it is good for anything yet.

use std::hash::Hash;
use std::time::Duration;

use cachalot_core::{Freshness, Timestamp};
use equivalent::Equivalent;

use crate::life::{self, LIFE, Life, TIMED, has_come};
use crate::listener::Cause;
use crate::memory::Memory;
use crate::policy::Slot;
use crate::readers::Visit;
use crate::set::SetGuard;
use crate::shard::Shard;
use crate::table::{Seek, Table, tag};

/// What an entry is good for when it is read.
#[derive(Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) freshness: Freshness,
    pub(crate) stale_for: Duration,
    /// The time it was judged by; none if it has no end.
    pub(crate) at: Option<Timestamp>,
}

const ENDLESS: Standing = Standing { freshness: Freshness::Fresh, stale_for: Duration::ZERO, at: None };

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
    ///
    /// The usual case is here in one piece: a set that nobody fights for, and an entry at its home.
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
            curve.observe(hash);
        }
        let at = self.shard_index(hash);
        let shard = self.nth(at);
        let Some(visit) = self.readers.enter(at) else {
            return self.read_alone(hash, key, read);
        };
        let table = shard.visited(&visit);
        let Some((home, set)) = table.home_set(hash) else {
            visit.miss();
            return None;
        };
        let Some(mut guard) = set.lock_if_calm(tag(hash)) else {
            return self.read_fought_for(visit, hash, key, read);
        };
        let Some((way, value)) = guard.find_value(tag(hash), |held| key.equivalent(held)) else {
            if guard.set().past() > 0 {
                drop(guard);
                return self.read_unusual(visit, hash, key, read);
            }
            visit.miss();
            return None;
        };
        let Some(standing) = self.standing(table, &guard, Slot { set: home, way }) else {
            drop(guard);
            return self.read_unusual(visit, hash, key, read);
        };
        let result = read(value, standing);
        if result.is_some() {
            guard.ways_mut().touch(way, shard.now());
            visit.hit();
        } else {
            visit.miss();
        }
        drop(guard);
        drop(visit);
        if result.is_some() {
            self.tuner.observe(hash);
        }
        result
    }

    /// In a set that others are at: without its lock if the entry is hot.
    #[inline(never)]
    fn read_fought_for<Q, R>(
        &self,
        visit: Visit<'_>,
        hash: u64,
        key: &Q,
        read: impl FnOnce(&T, Standing) -> Option<R>,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let table = self.nth(self.shard_index(hash)).visited(&visit);
        if let Some((_, set)) = table.home_set(hash)
            && set.may_be_hot(tag(hash))
            && let Some(hot) = set.read_hot(&visit, tag(hash), |held| key.equivalent(held))
            && let Some(standing) = self.plain_or_endless(hot.base, hot.end)
        {
            let result = read(hot.value, standing);
            drop(hot);
            if result.is_some() {
                visit.hit();
            } else {
                visit.miss();
            }
            return result;
        }
        self.read_unusual(visit, hash, key, read)
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
        match table.seek(visit, hash, |held| key.equivalent(held)) {
            Seek::Locked(mut guard, slot) => {
                let standing = self.standing(table, &guard, slot);
                let Some(value) = guard.value(slot.way) else {
                    return Seen::Miss;
                };
                let seen = judge(value, standing);
                if let Seen::Hit(_) = &seen {
                    guard.ways_mut().touch(slot.way, shard.now());
                    guard.warm_up(slot.way);
                }
                seen
            }
            Seek::Hot(hot) => judge(hot.value, self.plain_or_endless(hot.base, hot.end)),
            Seek::Absent => Seen::Miss,
            Seek::Retired => Seen::Retired,
        }
    }

    /// What the entry in a locked set is good for. `None`: it is over.
    #[inline(always)]
    fn standing(&self, table: &Table<K, T>, guard: &SetGuard<'_, K, T>, slot: Slot) -> Option<Standing> {
        match guard.ways().mark(slot.way) & LIFE {
            0 => Some(ENDLESS),
            TIMED => self.plain_or_endless(guard.base(), guard.end(slot.way)),
            _ => self.graded(table.life(guard, slot)),
        }
    }

    /// Of an entry that is fresh until it ends, if it does.
    #[inline(always)]
    fn plain_or_endless(&self, base: u64, end: u32) -> Option<Standing> {
        if end == 0 {
            return Some(ENDLESS);
        }
        let end = life::time(base, end);
        let now = self.clock.coarse();
        let standing = Standing { at: Some(now), ..ENDLESS };
        (!has_come(&self.clock, now, end)).then_some(standing)
    }

    #[inline(never)]
    fn graded(&self, life: Life) -> Option<Standing> {
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
