//! Who read what when, and which read broke the promise.
//!
//! A [`History`] is filled while a fleet of caches runs, in any weather, and judged afterwards. Each key of the
//! source has versions, 1 at first, and every value read is a version. An invalidation covers the version the
//! source had when it began. Once it binds a reader, nothing older may be read: see [`History::check`].

use std::fmt;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// A process from its start to its end. One that starts again is another.
pub type ProcessId = usize;

/// What happened to the keys of a fleet.
///
/// ```
/// use std::time::Duration;
/// use cachalot_testkit::history::{Done, History, How, Reader, Seen};
///
/// let mut history = History::new(Duration::from_secs(10));
/// let now = Duration::ZERO;
/// let new = history.write("user:7");
/// let removal = history.begin_invalidation(1, "user:7", How::Remove, now);
/// history.end_invalidation(removal, Done::Everywhere, now);
/// let read = history.begin_read(Reader::Process(1), "user:7", now);
/// history.end_read(read, Some(Seen { version: new - 1, is_fallback: false }), now);
/// assert!(history.check().is_err());
/// ```
#[derive(Clone, Debug)]
pub struct History<K> {
    /// How long another process may still show what it had before an invalidation was done.
    elsewhere: Duration,
    /// Numbers everything that happens, since much happens at the same time.
    last: u64,
    writes: Vec<Write<K>>,
    invalidations: Vec<Invalidation<K>>,
    reads: Vec<Read<K>>,
}

/// A point in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    number: u64,
    time: Duration,
}

#[derive(Clone, Debug)]
struct Write<K> {
    key: K,
    version: u64,
    number: u64,
}

#[derive(Clone, Debug)]
struct Invalidation<K> {
    by: ProcessId,
    key: K,
    how: How,
    covers: u64,
    begin: Moment,
    /// From when on it binds its own process.
    own: Option<Moment>,
    /// From when on it binds who reads the shared tier.
    shared: Option<Moment>,
    /// By a tag: a message about a tag is about it too.
    is_by_tag: bool,
    /// From when on it binds other processes, because they were told or noticed that they were not.
    told: Vec<(ProcessId, Moment)>,
}

#[derive(Clone, Debug)]
struct Read<K> {
    by: Reader,
    key: K,
    begin: Moment,
    end: Option<Moment>,
    seen: Option<Seen>,
}

impl<K> Invalidation<K> {
    /// It binds `process` too, if the shared tier has taken it.
    fn bind(&mut self, process: ProcessId, now: Moment) {
        let is_new = self.by != process && self.told.iter().all(|(told, _)| *told != process);
        if is_new && self.shared.is_some() {
            self.told.push((process, now));
        }
    }
}

/// Names an invalidation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidationId(usize);

/// Names a read of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadId(usize);

/// How a cache is told that its source has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `remove`
    Remove,
    /// `expire`: the old value may still be served when a load fails.
    Expire,
    /// `insert` of the version the source has.
    Insert,
}

/// What an invalidation said when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done in its process and in the shared tier.
    Everywhere,
    /// It is done in its process; the shared tier follows.
    Deferred,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A process that may have something in its memory.
    Process(ProcessId),
    /// One with nothing in its memory: it sees what the shared tier has.
    Fresh,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The version of the source that the value is.
    pub version: u64,
    /// Whether it was served as expired, because the load failed.
    pub is_fallback: bool,
}

impl<K: Clone + PartialEq + fmt::Debug> History<K> {
    /// Nothing has happened. `elsewhere`: how long after an invalidation another process may show what it
    /// had before if nobody tells it; without a bus, the time to live of its memory and the longest that an answer is under way.
    pub fn new(elsewhere: Duration) -> Self {
        Self { elsewhere, last: 0, writes: Vec::new(), invalidations: Vec::new(), reads: Vec::new() }
    }

    /// The source takes the next version of `key`, and here it is. Before the first one it has version 1.
    pub fn write(&mut self, key: K) -> u64 {
        let version = self.version(&key) + 1;
        let number = self.next();
        self.writes.push(Write { key, version, number });
        version
    }

    /// The version of `key` in the source.
    pub fn version(&self, key: &K) -> u64 {
        self.version_at(key, u64::MAX)
    }

    /// `by` begins to invalidate `key`.
    pub fn begin_invalidation(&mut self, by: ProcessId, key: K, how: How, now: Duration) -> InvalidationId {
        let begin = self.moment(now);
        let covers = self.version(&key);
        let (own, shared, is_by_tag, told) = (None, None, false, Vec::new());
        self.invalidations.push(Invalidation { by, key, how, covers, begin, own, shared, is_by_tag, told });
        InvalidationId(self.invalidations.len() - 1)
    }

    /// An invalidation is one of a tag that the key has.
    pub fn by_tag(&mut self, id: InvalidationId) {
        self.invalidations[id.0].is_by_tag = true;
    }

    /// The shared tier has taken an invalidation, whatever has become of who asked for it.
    pub fn land_invalidation(&mut self, id: InvalidationId, now: Duration) {
        let now = self.moment(now);
        self.invalidations[id.0].shared.get_or_insert(now);
    }

    /// `process` has applied a message about `key`, one about a tag if `is_tag`; without a key, one about
    /// everything, or it has noticed that it missed one. What the shared tier has taken by now binds it.
    pub fn tell(&mut self, process: ProcessId, key: Option<&K>, is_tag: bool, now: Duration) {
        let now = self.moment(now);
        let is_about = |begun: &&mut Invalidation<K>| {
            key.is_none_or(|key| begun.key == *key) && (begun.is_by_tag || !is_tag)
        };
        for begun in self.invalidations.iter_mut().filter(is_about) {
            begun.bind(process, now);
        }
    }

    /// `process` was in reach of all those that `has_met` names, for long enough since anything went wrong:
    /// what they have brought to the shared tier binds it.
    pub fn converge(&mut self, process: ProcessId, has_met: impl Fn(ProcessId) -> bool, now: Duration) {
        let now = self.moment(now);
        for begun in self.invalidations.iter_mut().filter(|begun| has_met(begun.by)) {
            begun.bind(process, now);
        }
    }

    /// An invalidation is reported as done. One that never is, because its caller has left or its process has
    /// died, promises nothing.
    pub fn end_invalidation(&mut self, id: InvalidationId, done: Done, now: Duration) {
        let now = self.moment(now);
        let ended = &mut self.invalidations[id.0];
        ended.own = Some(now);
        if done == Done::Everywhere {
            ended.shared.get_or_insert(now);
        }
    }

    /// What `process` has begun is done now, deferred or with nobody waiting for it: it was alive and the
    /// shared tier in reach for long enough.
    pub fn settle(&mut self, process: ProcessId, now: Duration) {
        let now = self.moment(now);
        for begun in self.invalidations.iter_mut().filter(|begun| begun.by == process) {
            begun.own.get_or_insert(now);
            begun.shared.get_or_insert(now);
        }
    }

    /// A read begins.
    pub fn begin_read(&mut self, by: Reader, key: K, now: Duration) -> ReadId {
        let begin = self.moment(now);
        self.reads.push(Read { by, key, begin, end: None, seen: None });
        ReadId(self.reads.len() - 1)
    }

    /// A read gives `seen`. One that never does is not judged.
    pub fn end_read(&mut self, id: ReadId, seen: Option<Seen>, now: Duration) {
        let now = self.moment(now);
        let read = &mut self.reads[id.0];
        read.end = Some(now);
        read.seen = seen;
    }

    /// How many reads have been answered, with a value or without.
    pub fn reads(&self) -> usize {
        self.reads.iter().filter(|read| read.end.is_some()).count()
    }

    /// How many invalidations bind anybody.
    pub fn promises(&self) -> usize {
        self.invalidations.iter().filter(|begun| begun.own.is_some()).count()
    }

    /// Holds every read against every invalidation of its key that bound it when it began:
    ///
    /// - in the process that invalidated, from the end of the invalidation, deferred or not;
    /// - a reader without memory, from when the shared tier has taken it;
    /// - in any other process, from when it was told after that, or noticed that it missed something
    ///   ([`History::tell`], [`History::converge`]), and at the latest after the time granted to
    ///   [`History::new`].
    ///
    /// Such a read may not give an older version than was covered; but after an expiration it may, if it says
    /// that the load has failed. And no read may give a version that the source did not have when it ended.
    ///
    /// # Errors
    /// The first read that broke the promise.
    pub fn check(&self) -> Result<(), Broken> {
        self.reads.iter().enumerate().try_for_each(|(at, read)| self.check_read(at, read))
    }

    fn check_read(&self, at: usize, read: &Read<K>) -> Result<(), Broken> {
        let (Some(end), Some(seen)) = (read.end, read.seen) else { return Ok(()) };
        let what = || {
            let (begin, end) = (read.begin.time.as_millis(), end.time.as_millis());
            format!("read {at}, of {:?} by {:?} from {begin} to {end} ms: saw {seen:?}", read.key, read.by)
        };
        let newest = self.version_at(&read.key, end.number);
        if seen.version == 0 || seen.version > newest {
            return Err(Broken(format!("{}, when the source had only {newest}", what())));
        }
        let broken = self.invalidations.iter().find(|begun| {
            begun.key == read.key
                && seen.version < begun.covers
                && !(begun.how == How::Expire && seen.is_fallback)
                && self.binds(begun, read)
        });
        match broken {
            None => Ok(()),
            Some(begun) => Err(Broken(format!("{}, against {}", what(), describe(begun)))),
        }
    }

    /// Whether `begun` was done for the reader when `read` began.
    fn binds(&self, begun: &Invalidation<K>, read: &Read<K>) -> bool {
        let is_past = |done: Option<Moment>| done.is_some_and(|done| done.number < read.begin.number);
        match read.by {
            Reader::Process(process) if process == begun.by => is_past(begun.own),
            Reader::Fresh => is_past(begun.shared),
            Reader::Process(process) => {
                let is_told = |(told, at): &(ProcessId, Moment)| *told == process && is_past(Some(*at));
                let is_late = |done: Moment| done.time.saturating_add(self.elsewhere) < read.begin.time;
                begun.told.iter().any(is_told) || begun.shared.is_some_and(is_late)
            }
        }
    }

    fn version_at(&self, key: &K, number: u64) -> u64 {
        let mut before = self.writes.iter().rev().filter(|write| write.number < number);
        before.find(|write| write.key == *key).map_or(1, |write| write.version)
    }

    fn moment(&mut self, time: Duration) -> Moment {
        Moment { number: self.next(), time }
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

fn describe<K: fmt::Debug>(begun: &Invalidation<K>) -> String {
    let at = |moment: Option<Moment>| {
        moment.map_or("never".to_owned(), |moment| format!("{} ms", moment.time.as_millis()))
    };
    format!(
        "the {:?} that process {} began at {} ms over version {}, done there at {}, in the shared tier at {}",
        begun.how,
        begun.by,
        begun.begin.time.as_millis(),
        begun.covers,
        at(begun.own),
        at(begun.shared),
    )
}

/// A read that broke the promise, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}
