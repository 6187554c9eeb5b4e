//! A backend that cannot do all that the one inside can.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Error, ErrorKind, Expired, Key, KeyPattern, LeaseBackend, MemberBackend, Nonce,
    Record, Removed, Result, SweepCursor, Swept, TagBackend, VersionBackend,
};

/// A [`Backend`] around another that hides some of what that one can, and passes all else on: how a cache does
/// without, is tested with it.
///
/// ```
/// # cachalot_testkit::block_on(async {
/// use cachalot_core::{Backend, ManualClock};
/// use cachalot_testkit::{Lacking, ModelBackend};
///
/// let backend = Lacking::leases(ModelBackend::new(ManualClock::new().clock()));
/// assert!(backend.leases().is_none() && backend.tags().is_some());
/// # });
/// ```
#[derive(Debug)]
pub struct Lacking<B> {
    inner: B,
    hidden: Hidden,
}

#[derive(Clone, Copy, Debug, Default)]
struct Hidden {
    leases: bool,
    tags: bool,
    versions: bool,
    sweeps: bool,
    oneness: bool,
}

impl<B: Backend> Lacking<B> {
    /// Grants no right to store: it can be read and invalidated.
    pub fn leases(inner: B) -> Self {
        Self { inner, hidden: Hidden { leases: true, ..Hidden::default() } }
    }

    /// Knows no tags.
    pub fn tags(inner: B) -> Self {
        Self { inner, hidden: Hidden { tags: true, ..Hidden::default() } }
    }

    /// Neither.
    pub fn leases_and_tags(inner: B) -> Self {
        Self { inner, hidden: Hidden { leases: true, tags: true, ..Hidden::default() } }
    }

    /// Keeps no versions.
    pub fn versions(inner: B) -> Self {
        Self { inner, hidden: Hidden { versions: true, ..Hidden::default() } }
    }

    /// Says that a record may lie at several places: what a read finds, says nothing of the others.
    pub fn oneness(inner: B) -> Self {
        Self { inner, hidden: Hidden { oneness: true, ..Hidden::default() } }
    }

    /// Cannot list its keys: every sweep fails with [`ErrorKind::Unsupported`].
    pub fn sweeps(inner: B) -> Self {
        Self { inner, hidden: Hidden { sweeps: true, ..Hidden::default() } }
    }
}

#[async_trait]
impl<B: Backend> Backend for Lacking<B> {
    fn info(&self) -> BackendInfo {
        let mut info = self.inner.info();
        info.leases &= !self.hidden.leases;
        info.is_scattered |= self.hidden.oneness;
        info
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        self.inner.get_many(keys).await
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        self.inner.remove(key).await
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        self.inner.remove_many(keys).await
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        if self.hidden.sweeps {
            return Err(Error::new(ErrorKind::Unsupported, "lacking sweep"));
        }
        self.inner.sweep(pattern, from).await
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        self.inner.expire(key, keep).await
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.inner.touch(key, nonce, ttl).await
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        if self.hidden.leases { None } else { self.inner.leases() }
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        if self.hidden.tags { None } else { self.inner.tags() }
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        self.inner.members()
    }

    fn versions(&self) -> Option<&dyn VersionBackend> {
        if self.hidden.versions { None } else { self.inner.versions() }
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }

    async fn look(&self, key: &Key) -> Result<()> {
        self.inner.look(key).await
    }

    fn turns(&self) -> u64 {
        self.inner.turns()
    }

    fn bound(&self, limit: Duration) {
        self.inner.bound(limit);
    }
}
