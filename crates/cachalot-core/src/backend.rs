//! The bytes tier: records under byte keys, shared by many processes.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Key, KeyPattern, LeaseBackend, MemberBackend, Nonce, Result, TagBackend, VersionBackend};

/// A shared tier as the cache sees it. Its writes are in [`LeaseBackend`]: nothing is ever stored without a
/// right that was granted before and can be revoked.
///
/// A miss is `Ok(None)`, not an error. Every call ends within a deadline of the backend's own. Dropping a
/// future gives up the answer, not the operation: it may still happen.
///
/// There are no default methods, so a wrapper cannot forget one and silently drop what is inside; but for
/// [`versions`](Backend::versions), whose absence no cache that needs them overlooks.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Its name for errors and metrics, and what it can do.
    fn info(&self) -> BackendInfo;

    /// The record under `key`. `None` if there is no value: absent, foreign bytes, or a lease alone.
    ///
    /// # Errors
    /// Unavailable, timeout, or a key that is not acceptable.
    async fn get(&self, key: &Key) -> Result<Option<Record>>;

    /// The records under `keys`, in their order, as if by [`get`](Backend::get), in few round trips. A
    /// fault costs only the keys it touches.
    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>>;

    /// Drops the value of `key` and revokes every outstanding right to store it, also if nothing is stored.
    /// A writer's live hold stays, poisoned, until its deadline: readers wait for it, nobody stores.
    ///
    /// # Errors
    /// As [`get`](Backend::get). The removal may have happened or may still happen.
    async fn remove(&self, key: &Key) -> Result<Removed>;

    /// [`remove`](Backend::remove) of each of `keys`, results in their order, in few round trips.
    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>>;

    /// A bounded part of removing every record whose key matches `pattern`, as [`remove`](Backend::remove)
    /// does: leases are revoked, also where nothing is stored, and holds are poisoned. Begin at
    /// [`SweepCursor::START`], and go on with the `next` of each answer until there is none, always with the
    /// same pattern. A record that is there throughout is removed then; one that comes meanwhile, perhaps.
    ///
    /// A part that finds nothing is not the last one. A part may be done again, for instance after it failed: it
    /// may have happened in whole, in part or not at all. Each part has the deadline of any other operation.
    ///
    /// # Errors
    /// As [`get`](Backend::get).
    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept>;

    /// Marks the value of `key` as invalidated, keeps it for at most `keep` more (only to be served if a
    /// load fails), and revokes every outstanding right to store. A writer's hold is treated as by
    /// [`remove`](Backend::remove).
    ///
    /// # Errors
    /// As [`remove`](Backend::remove).
    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired>;

    /// Prolongs the life of the value of `key` to `ttl` from now, if it still is the one stored under
    /// `nonce`, is not invalidated, and has less. Whether it did.
    ///
    /// # Errors
    /// As [`get`](Backend::get).
    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool>;

    /// The leases of this tier. `None`: it can be read and invalidated, but the cache never fills it.
    fn leases(&self) -> Option<&dyn LeaseBackend>;

    /// The tags of this tier. `None`: an entry with tags is kept in memory only.
    fn tags(&self) -> Option<&dyn TagBackend>;

    /// The lists of members of this tier. `None`: nobody can know of all processes that they have done something.
    fn members(&self) -> Option<&dyn MemberBackend>;

    /// The versions of this tier. Default: none, and then no cache over it can be
    /// built whose entries have versions.
    fn versions(&self) -> Option<&dyn VersionBackend> {
        None
    }

    /// A count that changes when what was acknowledged before may be forgotten: another server answers, after a
    /// fail-over, or the same one has started anew, perhaps from an old snapshot. It changes before the new one
    /// is asked anything. One atomic load. A backend that cannot tell gives the same number for ever.
    fn incarnation(&self) -> u64;

    /// Whether all of it answers, by a read of `key` that may make new connections: whoever has come back is met by it, and
    /// the [incarnation](Backend::incarnation) says so. A tier of many servers asks each. Default: [`get`](Backend::get).
    ///
    /// # Errors
    /// A part of it does not answer.
    async fn look(&self, key: &Key) -> Result<()> {
        self.get(key).await.map(drop)
    }

    /// A count that changes when others than before answer for some keys, none of which has forgotten what it
    /// acknowledged: a tier of many servers goes past one that is away, or back to it. What is in flight then began with
    /// others; nothing has to be done again. One atomic load. Default: it never changes.
    fn turns(&self) -> u64 {
        0
    }

    /// Tells how long the caller waits at most for an operation. A tier that takes those for signs of health that are
    /// given up counts what is given up after this time, and not only what took as long as it would wait itself. Of two
    /// callers the one that waits less counts. Default: nothing is done with it.
    fn bound(&self, limit: Duration) {
        let _ = limit;
    }
}

/// What a backend says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendInfo {
    /// The kind of tier, for errors and metrics: `redis`.
    pub name: &'static str,
    /// Where it is, without credentials: `10.0.0.3:6379`. Empty if it is nowhere.
    pub node: String,
    /// Whether [`Backend::leases`] gives something.
    pub leases: bool,
    /// `Some`: values lie there as the codec of this [id](crate::Codec::id) writes them, for others to read, and
    /// nothing beside them. So there is no absence, no schema, and no telling which tags a value that was read has:
    /// the removal of any tag ends all that memory holds. Others write there too, and need not tell anybody.
    /// Default: `None`.
    pub bare: Option<u8>,
    /// Whether a record may lie at several places, of which a read asks one: what it finds says nothing of the others.
    /// So whatever is to end is removed without looking whether it is worth it. Default: `false`.
    pub is_scattered: bool,
}

impl BackendInfo {
    /// A backend called `name` at `node`.
    pub fn new(name: &'static str, node: impl Into<String>, leases: bool) -> Self {
        Self { name, node: node.into(), leases, bare: None, is_scattered: false }
    }

    /// Sets [`bare`](BackendInfo::bare).
    #[must_use]
    pub fn with_bare(mut self, codec: u8) -> Self {
        self.bare = Some(codec);
        self
    }

    /// Sets [`is_scattered`](BackendInfo::is_scattered).
    #[must_use]
    pub fn scattered(mut self) -> Self {
        self.is_scattered = true;
        self
    }
}

/// A value in a shared tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was stored: an [envelope](crate::envelope).
    pub payload: Bytes,
    /// Which put stored it.
    pub nonce: Nonce,
    /// How long ago it was stored, by the server's clock.
    pub age: Duration,
    /// Whether [`Backend::expire`] marked it: to be served only if a load fails.
    pub invalidated: bool,
}

/// What [`Backend::remove`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// Something was there and is gone: a value, a lease, or both.
    Existing,
    /// Nothing was there.
    Nothing,
    /// A writer's live hold was there and is now poisoned.
    Held,
}

/// Where a [sweep](Backend::sweep) goes on. Only the backend that gave it can read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SweepCursor(Bytes);

impl SweepCursor {
    /// Before the first record.
    pub const START: Self = Self(Bytes::new());

    /// For backends: a place other than the start, which is no bytes.
    pub fn new(place: impl Into<Bytes>) -> Self {
        Self(place.into())
    }

    /// For backends: what they wrote down.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What one part of a [sweep](Backend::sweep) did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// How many records were there and are gone, or are poisoned holds now. Leases alone count too.
    pub removed: u64,
    /// Where to go on; `None` at the end.
    pub next: Option<SweepCursor>,
}

/// What [`Backend::expire`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// The value is marked and kept.
    Marked,
    /// There was no value; a lease, if any, is gone.
    Nothing,
    /// A writer's live hold was there and is now poisoned.
    Held,
}

/// A shared backend is the backend itself.
#[async_trait]
impl<B: Backend + ?Sized> Backend for std::sync::Arc<B> {
    fn info(&self) -> BackendInfo {
        (**self).info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        (**self).get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        (**self).get_many(keys).await
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        (**self).remove(key).await
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        (**self).remove_many(keys).await
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        (**self).sweep(pattern, from).await
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        (**self).expire(key, keep).await
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        (**self).touch(key, nonce, ttl).await
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        (**self).leases()
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        (**self).tags()
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        (**self).members()
    }

    fn versions(&self) -> Option<&dyn VersionBackend> {
        (**self).versions()
    }

    fn incarnation(&self) -> u64 {
        (**self).incarnation()
    }

    async fn look(&self, key: &Key) -> Result<()> {
        (**self).look(key).await
    }

    fn turns(&self) -> u64 {
        (**self).turns()
    }

    fn bound(&self, limit: Duration) {
        (**self).bound(limit);
    }
}
