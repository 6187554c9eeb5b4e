//! Tiers that break the protocol as a whole, beside the testkit's backends that break a sentence each.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cachalot::Store;
use cachalot_core::{
    Backend, BackendInfo, Clock, Commit, Entry, Expired, Fence, Held, Hit, Key, KeyPattern, LeaseBackend,
    LeaseReply, MemberBackend, Nonce, Put, PutReply, Record, Removed, Result, StoreCursor, StoreStats,
    SweepCursor, Swept, TagBackend, Token,
};
use equivalent::Equivalent;

/// What is wrong with a [`Lapsed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lapse {
    /// Acknowledges removals and does nothing.
    LosesRemovals,
    /// Acknowledges expirations and does nothing.
    LosesExpirations,
    /// Acknowledges a hold and drops nothing, so that an insert is one unconditional write.
    HoldsNothing,
    /// Stores what comes under any token, granted or not.
    StoresAnything,
    /// Reads what it read first, as a replica that has lost its primary.
    ReadsFromAReplica,
}

impl Lapse {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::LosesRemovals,
        Self::LosesExpirations,
        Self::HoldsNothing,
        Self::StoresAnything,
        Self::ReadsFromAReplica,
    ];
}

/// A backend with one [`Lapse`].
#[derive(Debug)]
pub struct Lapsed<B> {
    inner: B,
    lapse: Lapse,
    replica: Mutex<HashMap<Key, Record>>,
}

impl<B: Backend> Lapsed<B> {
    /// Spoils `inner`.
    pub fn new(inner: B, lapse: Lapse) -> Self {
        Self { inner, lapse, replica: Mutex::default() }
    }

    fn inner_leases(&self) -> &dyn LeaseBackend {
        self.inner.leases().expect("a backend with leases")
    }

    /// Stores `put` whatever is there.
    async fn force(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        self.inner.remove(key).await?;
        self.inner_leases().get_or_lease(key, token, Duration::from_secs(1), None).await?;
        self.inner_leases().put_leased(key, token, put).await
    }
}

#[async_trait]
impl<B: Backend> Backend for Lapsed<B> {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        let found = self.inner.get(key).await?;
        if self.lapse != Lapse::ReadsFromAReplica {
            return Ok(found);
        }
        let mut replica = self.replica.lock().unwrap();
        if let Some(record) = &found {
            replica.entry(key.clone()).or_insert_with(|| record.clone());
        }
        Ok(replica.get(key).cloned())
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        self.inner.get_many(keys).await
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        match self.lapse {
            Lapse::LosesRemovals => Ok(Removed::Existing),
            _ => self.inner.remove(key).await,
        }
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        self.inner.remove_many(keys).await
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        match self.lapse {
            Lapse::LosesRemovals => Ok(Swept { removed: 0, next: None }),
            _ => self.inner.sweep(pattern, from).await,
        }
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        match self.lapse {
            Lapse::LosesExpirations => Ok(Expired::Marked),
            _ => self.inner.expire(key, keep).await,
        }
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.inner.touch(key, nonce, ttl).await
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        Some(self)
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        self.inner.tags()
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        self.inner.members()
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }
}

#[async_trait]
impl<B: Backend> LeaseBackend for Lapsed<B> {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        self.inner_leases().get_or_lease(key, token, term, refuse).await
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        match self.lapse {
            Lapse::StoresAnything => self.force(key, token, put).await,
            _ => self.inner_leases().put_leased(key, token, put).await,
        }
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        self.inner_leases().release(key, token).await
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        match self.lapse {
            Lapse::HoldsNothing => Ok(Held::Held),
            _ => self.inner_leases().hold(key, token, term).await,
        }
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        match self.lapse {
            Lapse::HoldsNothing => self.force(key, token, put).await,
            _ => self.inner_leases().put_held(key, token, put).await,
        }
    }
}

/// A store whose fences hold nobody back: what is committed is stored, whatever was invalidated meanwhile.
#[derive(Debug)]
pub struct Unfenced<S>(S);

impl<K, V, S: Store<K, V>> Store<K, V> for Unfenced<S> {
    type Config = S::Config;

    fn open(config: Self::Config, clock: Clock) -> Result<Self> {
        S::open(config, clock).map(Self)
    }

    fn get<Q>(&self, key: &Q) -> Option<Hit<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.0.get(key)
    }

    fn begin(&self, key: &K) -> Fence {
        self.0.begin(key)
    }

    fn commit(&self, _: Fence, key: K, entry: Arc<Entry<V>>) -> Commit {
        let now = self.0.begin(&key);
        self.0.commit(now, key, entry)
    }

    fn commit_write(&self, _: Fence, key: K, entry: Arc<Entry<V>>) -> Commit {
        let now = self.0.begin(&key);
        self.0.commit_write(now, key, entry)
    }

    fn invalidate<Q>(&self, key: &Q) -> Option<Arc<Entry<V>>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.0.invalidate(key)
    }

    fn expire<Q>(&self, key: &Q, keep: Duration) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.0.expire(key, keep)
    }

    fn invalidate_if(
        &self,
        from: StoreCursor,
        test: impl FnMut(&K, &Entry<V>) -> bool,
    ) -> Option<StoreCursor> {
        self.0.invalidate_if(from, test)
    }

    fn void_all(&self) {
        self.0.void_all();
    }

    fn clear(&self) {
        self.0.clear();
    }

    fn stats(&self) -> StoreStats {
        self.0.stats()
    }
}
