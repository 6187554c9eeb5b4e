//! The engine as the bytes tier of a cache: an L2 without a server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::units::MIB;
use cachalot_core::{
    Backend, BackendInfo, Clock, Depth, Error, ErrorKind, Expired, Held, Key, KeyPattern, LeaseBackend,
    LeaseReply, MemberBackend, Nonce, Put, PutReply, Record, Removed, Result, SweepCursor, Swept, TagBackend,
    TagToken, Timestamp, Token, VersionBackend,
};

use crate::write::Change;
use crate::{Cursor, Memory, Stats};

mod members;
use members::Registries;
mod record;
use record::{Right, Stored};

/// A bounded in-process [`Backend`] with leases: for tests, and as the shared tier of several caches in one
/// process.
///
/// The floors of versions come on top of its limit, at about a hundred bytes each, and no more of them than there may
/// be records.
///
/// The record is that of a server (value, nonce, right, times), and each operation is one step under the
/// lock of a shard. An evicted record takes its right to store with it: a late put finds it absent and is
/// refused. Every future is ready at once. A clone shares the records.
///
/// ```
/// use std::time::Duration;
/// use cachalot_core::{Backend, Entropy, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Token};
/// use cachalot_memory_backend::MemoryBackend;
///
/// # cachalot_testkit::block_on(async {
/// let backend = MemoryBackend::new();
/// let (key, token, nonce) = (
///     Key::new("users:1"),
///     Token::draw(&Entropy::thread()),
///     Nonce::draw(&Entropy::thread()),
/// );
/// let lease = backend.get_or_lease(&key, token, Duration::from_secs(2), None).await?;
/// assert!(matches!(lease, LeaseReply::Lease { stale: None }));
/// let put = Put { payload: "Ada".into(), nonce, ttl: Duration::from_secs(60) };
/// assert_eq!(backend.put_leased(&key, token, put).await?, PutReply::Stored);
/// assert_eq!(backend.get(&key).await?.unwrap().payload, "Ada");
/// # Ok::<_, cachalot_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct MemoryBackend {
    memory: Arc<Memory<Key, Stored>>,
    /// The tags' tokens. One that is evicted ends the entries of its tag.
    tokens: Arc<Memory<Key, (TagToken, Timestamp)>>,
    registries: Arc<Registries>,
    /// The floors of versions. As many as there may be records, so that they seldom go before those do.
    floors: Arc<Memory<Key, (u64, Timestamp)>>,
    clock: Clock,
}

impl MemoryBackend {
    /// What a backend holds by default, in bytes: 64 MiB.
    pub const DEFAULT_LIMIT: u64 = 64 * MIB;

    /// A backend of the default limit over the system's clock.
    pub fn new() -> Self {
        Self::with_limit(Self::DEFAULT_LIMIT, Clock::system())
    }

    /// A backend whose keys, payloads and slots together take at most `limit` bytes, and that tells the
    /// time by `clock`. Under a limit of some hundred bytes it holds nothing and grants leases that never
    /// store.
    pub fn with_limit(limit: u64, clock: Clock) -> Self {
        let builder = Memory::weight_limit(limit.max(1))
            .weigher(|key, stored: &Stored| weight(key, stored.payload()))
            .clock(clock.clone());
        let tokens = Memory::entries((limit / BYTES_PER_TAG).max(LEAST_TAGS)).clock(clock.clone());
        let floors = Memory::entries((limit / RECORD_OVERHEAD as u64).max(LEAST_TAGS)).clock(clock.clone());
        Self {
            memory: Arc::new(Memory::open_with(builder)),
            tokens: Arc::new(Memory::open_with(tokens)),
            registries: Arc::default(),
            floors: Arc::new(Memory::open_with(floors)),
            clock,
        }
    }

    /// Figures for people and metrics. Leases count as entries.
    pub fn stats(&self) -> Stats {
        self.memory.stats()
    }

    /// Forgets everything, leases included, as a server that restarts empty.
    pub fn clear(&self) {
        self.memory.clear();
        self.tokens.clear();
        self.floors.clear();
    }

    /// One operation: `decide` gets the record and the time, and says what becomes of the record.
    fn update<R>(
        &self,
        key: &Key,
        mut decide: impl FnMut(Option<&Stored>, Timestamp) -> (Change<Stored>, R),
    ) -> R {
        self.memory.update(key, |stored| decide(stored, self.clock.now()))
    }

    fn read(&self, key: &Key) -> Option<Record> {
        let now = self.clock.now();
        self.memory.get_with(key, |stored| stored.record(now))?
    }

    /// The token that `change` makes of the one under `name`, in one step; it lives for `ttl` more at least.
    fn change_token(
        &self,
        name: &Key,
        ttl: Duration,
        mut change: impl FnMut(Option<TagToken>) -> TagToken,
    ) -> TagToken {
        self.tokens.update(name, |held| {
            let (before, ends) = held.copied().unzip();
            let (token, wanted) = (change(before), self.clock.now() + ttl);
            let ends = ends.map_or(wanted, |ends| wanted.max(ends));
            (Change::Put((token, ends), ends), token)
        })
    }

    fn drop_value(&self, key: &Key) -> Removed {
        self.update(key, |stored, now| match stored {
            None => (Change::Keep, Removed::Nothing),
            Some(stored) => match stored.poisoned(now) {
                Some(poisoned) => (poisoned.change(), Removed::Held),
                None => (Change::Remove, Removed::Existing),
            },
        })
    }

    /// Some keys that match, and where to go on. Removed one by one afterwards, as a hold must stay.
    fn matching(&self, pattern: &KeyPattern, from: Cursor) -> (Vec<Key>, Option<Cursor>) {
        let mut keys = Vec::new();
        let next = self.memory.see(from, SLOTS_PER_PART, |key, _, _| {
            if pattern.matches(key.as_bytes()) {
                keys.push(key.clone());
            }
        });
        (keys, next)
    }

    /// The payload, if it can be held at all.
    fn acceptable(&self, operation: &'static str, key: &Key, put: &Put) -> Result<()> {
        if weight(key, &put.payload) <= self.memory.capacity() {
            return Ok(());
        }
        let detail = "the payload is larger than the whole memory";
        Err(Error::new(ErrorKind::Config, operation).detail(detail).key(key.as_bytes()))
    }
}

/// How many slots one part of a sweep looks at.
const SLOTS_PER_PART: usize = 1 << 10;

/// A place in the memory as it travels: two numbers.
fn write_cursor(cursor: Cursor) -> SweepCursor {
    let (shard, hash) = cursor.parts();
    SweepCursor::new([shard.to_be_bytes(), hash.to_be_bytes()].concat())
}

fn read_cursor(cursor: &SweepCursor) -> Result<Cursor> {
    let foreign = || Error::new(ErrorKind::Config, "memory sweep").detail("a cursor of another backend");
    match cursor.as_bytes() {
        [] => Ok(Cursor::START),
        bytes => {
            let (shard, hash) = bytes.split_first_chunk().ok_or_else(foreign)?;
            let hash: &[u8; 8] = hash.try_into().map_err(|_| foreign())?;
            Ok(Cursor::from_parts(u64::from_be_bytes(*shard), u64::from_be_bytes(*hash)))
        }
    }
}

/// Bytes of a record besides key and payload: the slot with its bookkeeping.
const RECORD_OVERHEAD: usize = 300;

/// Of the limit, one tag for so many bytes; they come on top of it.
const BYTES_PER_TAG: u64 = 1024;
/// However small the limit.
const LEAST_TAGS: u64 = 64;

fn weight(key: &Key, payload: &[u8]) -> u64 {
    (key.as_bytes().len() + payload.len() + RECORD_OVERHEAD) as u64
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").field("memory", &self.memory).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("memory", "", true)
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.read(key))
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        keys.iter().map(|key| Ok(self.read(key))).collect()
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        Ok(self.drop_value(key))
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        keys.iter().map(|key| Ok(self.drop_value(key))).collect()
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        let (keys, next) = self.matching(pattern, read_cursor(from)?);
        let removed = keys.iter().filter(|key| self.drop_value(key) != Removed::Nothing).count() as u64;
        Ok(Swept { removed, next: next.map(write_cursor) })
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        Ok(self.update(key, |stored, now| {
            let Some(stored) = stored else {
                return (Change::Keep, Expired::Nothing);
            };
            if let Some(poisoned) = stored.poisoned(now) {
                return (poisoned.change(), Expired::Held);
            }
            match stored.invalidated(now + keep) {
                Some(marked) => (marked.change(), Expired::Marked),
                None => (Change::Remove, Expired::Nothing),
            }
        }))
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        Ok(self.update(key, |stored, now| {
            match stored.and_then(|stored| stored.prolonged(nonce, now + ttl)) {
                Some(prolonged) => (prolonged.change(), true),
                None => (Change::Keep, false),
            }
        }))
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        Some(self)
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        Some(self)
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        Some(self)
    }

    fn versions(&self) -> Option<&dyn VersionBackend> {
        Some(self)
    }

    fn incarnation(&self) -> u64 {
        0
    }
}

#[async_trait]
impl TagBackend for MemoryBackend {
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        Ok(names.iter().map(|name| self.tokens.get(name).map(|(token, _)| token)).collect())
    }

    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        let pin =
            |(name, fresh): (&Key, &TagToken)| self.change_token(name, ttl, |token| token.unwrap_or(*fresh));
        Ok(names.iter().zip(fresh).map(pin).collect())
    }

    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        for (name, fresh) in names.iter().zip(fresh) {
            self.change_token(name, ttl, |token| match (token, depth) {
                (Some(token), Depth::Expire) => TagToken { expired: fresh.expired, ..token },
                _ => *fresh,
            });
        }
        Ok(())
    }
}

#[async_trait]
impl VersionBackend for MemoryBackend {
    async fn raise(&self, name: &Key, version: u64, ttl: Duration) -> Result<u64> {
        Ok(self.floors.update(name, |held| {
            let (before, ends) = held.copied().unzip();
            let before = before.unwrap_or(0);
            if version == 0 {
                return (Change::Keep, before);
            }
            let wanted = self.clock.now() + ttl;
            let ends = ends.map_or(wanted, |ends| wanted.max(ends));
            (Change::Put((before.max(version), ends), ends), before)
        }))
    }
}

#[async_trait]
impl LeaseBackend for MemoryBackend {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        Ok(self.update(key, |stored, now| {
            let deadline = now + at_least_a_tick(term);
            let record = stored.and_then(|stored| stored.record(now));
            let usable = |record: &Record| !record.invalidated && Some(record.nonce) != refuse;
            match (stored, record) {
                (_, Some(record)) if usable(&record) => (Change::Keep, LeaseReply::Hit(record)),
                (Some(stored), stale) if stored.right_is_live(now) => (Change::Keep, stored.busy(now, stale)),
                (stored, stale) => {
                    let leased = stored
                        .and_then(|stored| stored.leased(token, deadline))
                        .unwrap_or(Stored::bare(Right::reader(token, deadline)));
                    (leased.change(), LeaseReply::Lease { stale })
                }
            }
        }))
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        self.acceptable("memory put_leased", key, &put)?;
        Ok(self.update(key, |stored, now| match stored {
            None => (Change::Keep, PutReply::Absent),
            // The deadline is not asked: the token alone fences.
            Some(stored) if !stored.is_leased_to(token) => (Change::Keep, PutReply::Lost),
            Some(stored) if put.ttl < TICK => (stored.released(), PutReply::Lost),
            Some(_) => (Stored::put(&put, now).change(), PutReply::Stored),
        }))
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        Ok(self.update(key, |stored, _| match stored {
            Some(stored) if stored.is_leased_to(token) => (stored.released(), true),
            _ => (Change::Keep, false),
        }))
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        Ok(self.update(key, |stored, now| {
            let deadline = now + at_least_a_tick(term);
            match stored.and_then(|stored| stored.overlapped(now, deadline)) {
                Some(poisoned) => (poisoned.change(), Held::Overlap),
                None => (Stored::bare(Right::writer(token, deadline)).change(), Held::Held),
            }
        }))
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        self.acceptable("memory put_held", key, &put)?;
        Ok(self.update(key, |stored, now| {
            let Some(stored) = stored else {
                return (Change::Keep, PutReply::Absent);
            };
            if stored.is_held_by(token, now) {
                return match put.ttl < TICK {
                    true => (Change::Remove, PutReply::Lost),
                    false => (Stored::put(&put, now).change(), PutReply::Stored),
                };
            }
            // Two have written to the source, in an order that nobody knows.
            let left = stored.poisoned(now).map_or(Change::Remove, Stored::change);
            (left, PutReply::Lost)
        }))
    }
}

/// The finest life a record can have.
const TICK: Duration = Duration::from_millis(1);

fn at_least_a_tick(term: Duration) -> Duration {
    term.max(TICK)
}
