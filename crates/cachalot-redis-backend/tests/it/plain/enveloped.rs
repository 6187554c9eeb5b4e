//! A backend of bare values, as the suite sees others: with bytes of any kind, and nonces that it gives itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cachalot_core::codec::Json;
use cachalot_core::envelope::{self, Header};
use cachalot_core::{
    Backend, BackendInfo, Codec, Entropy, Expired, Held, Key, KeyPattern, LeaseBackend, LeaseReply,
    MemberBackend, Nonce, Put, PutReply, Record, Removed, Result, SweepCursor, Swept, TagBackend, Token,
};
use cachalot_redis_backend::PlainBackend;

/// What is stored: the suite's own nonce and payload.
type Value = (Vec<u8>, Vec<u8>);

#[derive(Debug)]
pub(super) struct Enveloped {
    inner: PlainBackend,
    /// What those under its nonces are called by the backend.
    nonces: Mutex<HashMap<[u8; 16], Nonce>>,
}

impl Enveloped {
    pub(super) fn new(inner: PlainBackend) -> Self {
        Self { inner, nonces: Mutex::default() }
    }

    fn wrap(&self, key: &Key, put: Put) -> Put {
        let value: Value = (put.nonce.as_bytes().to_vec(), put.payload.to_vec());
        let header = Header {
            codec: Codec::<Value>::id(&Json),
            schema: 0,
            negative: false,
            fresh_for: put.ttl,
            kept_for: put.ttl,
            compute_time: Duration::ZERO,
            version: 0,
        };
        let payload = envelope::encode(key, header, &[], Some(&value), &Json).unwrap();
        Put { payload, ..put }
    }

    fn unwrap(&self, key: &Key, record: Record) -> Record {
        let opened = envelope::open(key, &record.payload).unwrap();
        let (nonce, payload): Value = Json.decode(opened.value).unwrap();
        let own: [u8; 16] = nonce.try_into().unwrap();
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner).insert(own, record.nonce);
        Record { payload: Bytes::from(payload), nonce: Nonce::from_bytes(own), ..record }
    }

    /// What the backend calls the value that was stored under `nonce`.
    async fn known(&self, key: &Key, nonce: Nonce) -> Nonce {
        // It may not have been read yet.
        let _ = self.get(key).await;
        let known = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(nonce.as_bytes()).copied().unwrap_or_else(|| Nonce::draw(&Entropy::thread()))
    }
}

#[async_trait]
impl Backend for Enveloped {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.inner.get(key).await?.map(|record| self.unwrap(key, record)))
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        let answers = self.inner.get_many(keys).await.into_iter().zip(keys);
        answers.map(|(answer, key)| Ok(answer?.map(|record| self.unwrap(key, record)))).collect()
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        self.inner.remove(key).await
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        self.inner.remove_many(keys).await
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        self.inner.sweep(pattern, from).await
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        self.inner.expire(key, keep).await
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.inner.touch(key, self.known(key, nonce).await, ttl).await
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
impl LeaseBackend for Enveloped {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let refuse = match refuse {
            Some(nonce) => Some(self.known(key, nonce).await),
            None => None,
        };
        let seen = |record: Option<Record>| record.map(|record| self.unwrap(key, record));
        Ok(match self.inner.get_or_lease(key, token, term, refuse).await? {
            LeaseReply::Hit(record) => LeaseReply::Hit(self.unwrap(key, record)),
            LeaseReply::Lease { stale } => LeaseReply::Lease { stale: seen(stale) },
            LeaseReply::Busy { remaining, holder, stale } => {
                LeaseReply::Busy { remaining, holder, stale: seen(stale) }
            }
        })
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        self.inner.put_leased(key, token, self.wrap(key, put)).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        self.inner.release(key, token).await
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        self.inner.hold(key, token, term).await
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        self.inner.put_held(key, token, self.wrap(key, put)).await
    }
}
