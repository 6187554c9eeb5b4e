//! A bound on every step below.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Depth, Error, ErrorKind, Expired, Held, Key, KeyPattern, LeaseBackend, LeaseReply,
    MemberBackend, Nonce, Put, PutReply, Record, Removed, Result, SweepCursor, Swept, TagBackend, TagToken,
    Token, VersionBackend, mutant,
};
use tokio::time::timeout;

mod members;

/// A backend whose operations end in time, whether or not it keeps the deadline of its own that a backend
/// owes. Giving up an answer takes nothing back: what was asked may still happen, as after any timeout.
#[derive(Debug)]
pub(crate) struct Bounded {
    inner: Arc<dyn Backend>,
    limit: Duration,
    /// The incarnation that is trusted. What another one says is not.
    trusted: Arc<AtomicU64>,
}

impl Bounded {
    pub(crate) fn new(inner: Arc<dyn Backend>, limit: Duration, trusted: Arc<AtomicU64>) -> Self {
        Self { inner, limit, trusted }
    }

    /// What was read, unless it comes from a server that may have forgotten what was invalidated.
    fn believed<T>(&self, operation: &'static str, read: Result<T>) -> Result<T> {
        if self.inner.incarnation() == self.trusted.load(Ordering::SeqCst) || mutant!(TrustsAfterFailOver) {
            return read;
        }
        let detail = "another server answers, or it has started anew";
        Err(Error::new(ErrorKind::Unavailable, operation).detail(detail))
    }

    async fn within<T>(
        &self,
        operation: &'static str,
        key: &Key,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.bytes_within(operation, key.as_bytes(), work).await
    }

    async fn bytes_within<T>(
        &self,
        operation: &'static str,
        about: &[u8],
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match timeout(self.limit, work).await {
            Ok(result) => result,
            Err(_) => Err(self.late(operation, about)),
        }
    }

    /// One bound for all keys: they travel together.
    async fn all_within<T>(
        &self,
        operation: &'static str,
        keys: &[Key],
        work: impl Future<Output = Vec<Result<T>>>,
    ) -> Vec<Result<T>> {
        match timeout(self.limit, work).await {
            Ok(results) => results,
            Err(_) => keys.iter().map(|key| Err(self.late(operation, key.as_bytes()))).collect(),
        }
    }

    #[cold]
    fn late(&self, operation: &'static str, about: &[u8]) -> Error {
        let info = self.inner.info();
        let error = Error::new(ErrorKind::Timeout, format!("{} {operation}", info.name))
            .detail(format!("no answer within {:?}", self.limit))
            .key(about);
        if info.node.is_empty() { error } else { error.node(info.node) }
    }

    /// One bound for all tags, and one error.
    async fn tags_within<T>(
        &self,
        operation: &'static str,
        names: &[Key],
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match (timeout(self.limit, work).await, names.first()) {
            (Ok(result), _) => result,
            (Err(_), Some(name)) => Err(self.late(operation, name.as_bytes())),
            (Err(_), None) => Err(Error::new(ErrorKind::Timeout, operation)),
        }
    }

    /// The tags of the backend inside, which has some, or [`Backend::tags`] would have given none.
    fn inner_tags(&self) -> Result<&dyn TagBackend> {
        let none = || Error::new(ErrorKind::Unsupported, "tags").detail("the shared tier has no tags");
        self.inner.tags().ok_or_else(none)
    }

    /// The leases of the backend inside, which has some, or [`Backend::leases`] would have given none.
    fn inner_leases(&self) -> Result<&dyn LeaseBackend> {
        let none = || Error::new(ErrorKind::Unsupported, "lease").detail("the shared tier has no leases");
        self.inner.leases().ok_or_else(none)
    }
}

#[async_trait]
impl Backend for Bounded {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.believed("get", self.within("get", key, self.inner.get(key)).await)
    }

    /// Of whom the trust is about, so whoever answers is believed.
    async fn look(&self, key: &Key) -> Result<()> {
        self.within("look", key, self.inner.look(key)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        let read = self.all_within("get_many", keys, self.inner.get_many(keys)).await;
        read.into_iter().map(|read| self.believed("get_many", read)).collect()
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        self.within("remove", key, self.inner.remove(key)).await
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        self.all_within("remove_many", keys, self.inner.remove_many(keys)).await
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        let about = pattern.as_pattern().as_bytes();
        self.bytes_within("sweep", about, self.inner.sweep(pattern, from)).await
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        self.within("expire", key, self.inner.expire(key, keep)).await
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.within("touch", key, self.inner.touch(key, nonce, ttl)).await
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        self.inner.leases().map(|_| self as &dyn LeaseBackend)
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        self.inner.tags().map(|_| self as &dyn TagBackend)
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        self.inner.members().map(|_| self as &dyn MemberBackend)
    }

    fn versions(&self) -> Option<&dyn VersionBackend> {
        self.inner.versions().map(|_| self as &dyn VersionBackend)
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }

    fn bound(&self, limit: Duration) {
        self.inner.bound(limit.min(self.limit));
    }

    fn turns(&self) -> u64 {
        self.inner.turns()
    }
}

#[async_trait]
impl TagBackend for Bounded {
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        let read = self.tags_within("tag_tokens", names, self.inner_tags()?.tag_tokens(names)).await;
        self.believed("tag_tokens", read)
    }

    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        self.tags_within("pin_tags", names, self.inner_tags()?.pin_tags(names, fresh, ttl)).await
    }

    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let rotate = self.inner_tags()?.rotate_tags(names, fresh, depth, ttl);
        self.tags_within("rotate_tags", names, rotate).await
    }
}

#[async_trait]
impl VersionBackend for Bounded {
    async fn raise(&self, name: &Key, version: u64, ttl: Duration) -> Result<u64> {
        let none = || Error::new(ErrorKind::Unsupported, "raise").detail("the shared tier keeps no versions");
        let raise = self.inner.versions().ok_or_else(none)?.raise(name, version, ttl);
        self.believed("raise", self.within("raise", name, raise).await)
    }
}

#[async_trait]
impl LeaseBackend for Bounded {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let ask = self.inner_leases()?.get_or_lease(key, token, term, refuse);
        self.believed("get_or_lease", self.within("get_or_lease", key, ask).await)
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        self.within("put_leased", key, self.inner_leases()?.put_leased(key, token, put)).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        self.within("release", key, self.inner_leases()?.release(key, token)).await
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        self.within("hold", key, self.inner_leases()?.hold(key, token, term)).await
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        self.within("put_held", key, self.inner_leases()?.put_held(key, token, put)).await
    }
}
