//! A backend with a boundary before and after every operation.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Depth, Expired, Held, Key, KeyPattern, LeaseBackend, LeaseReply, MemberBackend,
    Nonce, Put, PutReply, Record, Removed, Result, SweepCursor, Swept, TagBackend, TagToken, Token,
    VersionBackend,
};

/// What happens between the steps of a [`Stepped`].
#[async_trait]
pub trait Steps: fmt::Debug + Send + Sync + 'static {
    /// A boundary: returns when the operation may go on.
    async fn boundary(&self, label: &'static str);

    /// What an operation gave.
    fn note(&self, line: fmt::Arguments<'_>);
}

/// Passes everything on to `inner`, with a boundary of the script before and after.
#[derive(Debug)]
pub struct Stepped<B, P> {
    inner: B,
    script: P,
}

impl<B: Backend, P: Steps> Stepped<B, P> {
    /// Makes the steps of `inner` visible to `script`.
    pub fn new(inner: B, script: P) -> Self {
        Self { inner, script }
    }

    fn inner_leases(&self) -> &dyn LeaseBackend {
        self.inner.leases().expect("a backend with leases")
    }

    fn inner_tags(&self) -> &dyn TagBackend {
        self.inner.tags().expect("a backend with tags")
    }
}

/// One operation between its two boundaries.
macro_rules! step {
    ($self:ident, $before:literal, $after:literal, $work:expr) => {{
        $self.script.boundary($before).await;
        let result = $work.await;
        $self.script.note(format_args!("   {result:?}"));
        $self.script.boundary($after).await;
        result
    }};
}

#[async_trait]
impl<B: Backend, P: Steps> Backend for Stepped<B, P> {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        step!(self, "before get", "after get", self.inner.get(key))
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        step!(self, "before get_many", "after get_many", self.inner.get_many(keys))
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        step!(self, "before remove", "after remove", self.inner.remove(key))
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        step!(self, "before remove_many", "after remove_many", self.inner.remove_many(keys))
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        step!(self, "before sweep", "after sweep", self.inner.sweep(pattern, from))
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        step!(self, "before expire", "after expire", self.inner.expire(key, keep))
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        step!(self, "before touch", "after touch", self.inner.touch(key, nonce, ttl))
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        Some(self)
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        Some(self)
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        // No cache whose steps are gone through waits for others.
        None
    }

    fn versions(&self) -> Option<&dyn VersionBackend> {
        Some(self)
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }
}

#[async_trait]
impl<B: Backend, P: Steps> TagBackend for Stepped<B, P> {
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        step!(self, "before tag_tokens", "after tag_tokens", self.inner_tags().tag_tokens(names))
    }

    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        step!(self, "before pin_tags", "after pin_tags", self.inner_tags().pin_tags(names, fresh, ttl))
    }

    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let rotate = self.inner_tags().rotate_tags(names, fresh, depth, ttl);
        step!(self, "before rotate_tags", "after rotate_tags", rotate)
    }
}

#[async_trait]
impl<B: Backend, P: Steps> VersionBackend for Stepped<B, P> {
    async fn raise(&self, name: &Key, version: u64, ttl: Duration) -> Result<u64> {
        let versions = self.inner.versions().expect("a backend with versions");
        step!(self, "before raise", "after raise", versions.raise(name, version, ttl))
    }
}

#[async_trait]
impl<B: Backend, P: Steps> LeaseBackend for Stepped<B, P> {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let ask = self.inner_leases().get_or_lease(key, token, term, refuse);
        step!(self, "before get_or_lease", "after get_or_lease", ask)
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        let put = self.inner_leases().put_leased(key, token, put);
        step!(self, "before put_leased", "after put_leased", put)
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        step!(self, "before release", "after release", self.inner_leases().release(key, token))
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        step!(self, "before hold", "after hold", self.inner_leases().hold(key, token, term))
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        step!(self, "before put_held", "after put_held", self.inner_leases().put_held(key, token, put))
    }
}
