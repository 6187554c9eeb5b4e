//! How a value is read: a visit, a set, an entry, and whether it is good for anything yet.

use std::hash::Hash;

use cachalot_core::Timestamp;
use equivalent::Equivalent;

use crate::life::{self, LIFE, Life, has_come};
use crate::memory::Memory;
use crate::readers::Visit;
use crate::shard::Shard;
use crate::table::{Seek, Table};

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
    /// What `read` makes of an entry before its hard expiry; `None` from it counts as a miss. It gets the time
    /// if the entry has an end.
    #[inline]
    pub(crate) fn read<Q, R>(
        &self,
        key: &Q,
        read: impl FnOnce(&T, &Life, Option<Timestamp>) -> Option<R>,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        let at = self.shard_index(hash);
        let shard = self.nth(at);
        let mut read = Some(read);
        let Some(visit) = self.readers.enter(at) else {
            return self.read_alone(hash, key, read);
        };
        match self.serve(shard, shard.visited(&visit), Some(&visit), hash, key, &mut read) {
            Seen::Hit(result) => {
                visit.hit();
                drop(visit);
                self.tuner.observe(hash);
                Some(result)
            }
            Seen::Miss => {
                visit.miss();
                None
            }
            Seen::Over => {
                visit.miss();
                drop(visit);
                self.collect(hash, key);
                None
            }
            Seen::Retired => {
                drop(visit);
                self.read_alone(hash, key, read)
            }
        }
    }

    /// As [`Memory::read`], with the shard's lock, which keeps the table where it is.
    #[cold]
    fn read_alone<Q, R>(
        &self,
        hash: u64,
        key: &Q,
        mut read: Option<impl FnOnce(&T, &Life, Option<Timestamp>) -> Option<R>>,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let at = self.shard_index(hash);
        let writing = self.write(at);
        let seen = self.serve(self.nth(at), writing.table(), None, hash, key, &mut read);
        drop(writing);
        self.readers.count_other(matches!(seen, Seen::Hit(_)));
        match seen {
            Seen::Hit(result) => Some(result),
            Seen::Over => {
                self.collect(hash, key);
                None
            }
            Seen::Miss | Seen::Retired => None,
        }
    }

    #[inline]
    fn serve<Q, R>(
        &self,
        shard: &Shard<K, T>,
        table: &Table<K, T>,
        visit: Option<&Visit<'_>>,
        hash: u64,
        key: &Q,
        read: &mut Option<impl FnOnce(&T, &Life, Option<Timestamp>) -> Option<R>>,
    ) -> Seen<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let mut judge = |value: &T, life: Option<Life>| match (read.take(), life) {
            (None, _) => Seen::Miss,
            (Some(read), None) => read(value, &Life::ENDLESS, None).map_or(Seen::Miss, Seen::Hit),
            (Some(read), Some(life)) => {
                let now = self.clock.coarse();
                if has_come(&self.clock, now, life.hard) {
                    return Seen::Over;
                }
                read(value, &life, Some(now)).map_or(Seen::Miss, Seen::Hit)
            }
        };
        match table.seek(visit, hash, |held| key.equivalent(held)) {
            Seek::Locked(mut guard, slot) => {
                let timed = guard.ways().mark(slot.way) & LIFE != 0;
                let life = if timed { Some(table.life(&guard, slot)) } else { None };
                let Some(value) = guard.value(slot.way) else {
                    return Seen::Miss;
                };
                let seen = judge(value, life);
                if let Seen::Hit(_) = &seen {
                    guard.ways_mut().touch(slot.way, shard.now());
                    guard.warm_up(slot.way);
                }
                seen
            }
            Seek::Hot(hot) => {
                let end = life::time(hot.base, hot.end);
                let timed = hot.end != 0;
                judge(hot.value, timed.then(|| Life::new(end, end)))
            }
            Seek::Absent => Seen::Miss,
            Seek::Retired => Seen::Retired,
        }
    }

    /// Takes an entry out that a reader found past its hard expiry.
    #[cold]
    fn collect<Q>(&self, hash: u64, key: &Q)
    where
        Q: Equivalent<K> + ?Sized,
    {
        // Declared before the guard, so dropped after it.
        let _gone;
        let mut shard = self.write(self.shard_index(hash));
        let Some(slot) = shard.find(hash, key) else { return };
        // Another one may lie there by now.
        if has_come(&self.clock, self.clock.coarse(), shard.life(slot).hard) {
            shard.counts_mut().expired += 1;
            _gone = self.take(&mut shard, slot, hash);
        }
    }
}
