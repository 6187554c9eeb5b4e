//! A backend that fails, or is interrupted, when told.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::*;

/// A backend that can be unplugged, and into whose work something can be put.
pub(crate) struct Plug<B> {
    inner: B,
    pub(crate) out: Arc<AtomicBool>,
    /// Runs once, before the next lease is asked for.
    pub(crate) before_lease: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
}

impl<B: fmt::Debug> fmt::Debug for Plug<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<B> Plug<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self { inner, out: Arc::default(), before_lease: Arc::default() }
    }

    fn check(&self) -> Result<()> {
        if self.out.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "plug"));
        }
        Ok(())
    }
}

#[async_trait]
impl<B: Backend> Backend for Plug<B> {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.check()?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        match self.check() {
            Ok(()) => self.inner.get_many(keys).await,
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        self.check()?;
        self.inner.remove(key).await
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        match self.check() {
            Ok(()) => self.inner.remove_many(keys).await,
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        self.check()?;
        self.inner.expire(key, keep).await
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.check()?;
        self.inner.touch(key, nonce, ttl).await
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        Some(self)
    }
}

impl<B: Backend> Plug<B> {
    fn inner(&self) -> Result<&dyn LeaseBackend> {
        self.check()?;
        self.inner.leases().ok_or_else(|| Error::new(ErrorKind::Unsupported, "plug"))
    }
}

#[async_trait]
impl<B: Backend> LeaseBackend for Plug<B> {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let interlude = self.before_lease.lock().unwrap().take();
        if let Some(interlude) = interlude {
            interlude.await;
        }
        self.inner()?.get_or_lease(key, token, term, refuse).await
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        self.inner()?.put_leased(key, token, put).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        self.inner()?.release(key, token).await
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        self.inner()?.hold(key, token, term).await
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        self.inner()?.put_held(key, token, put).await
    }
}
