//! The backend: leases, holds and puts.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Held, Holder, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Record, Result, Token,
};

use crate::RedisBackend;
use crate::backend::millis;
use crate::fault::Fault;
use crate::link::Again;
use crate::record;
use crate::reply::Reply;
use crate::script::{self, Argument, Script};

#[async_trait]
impl LeaseBackend for RedisBackend {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let reply = self.try_get_or_lease(key, token, term, refuse).await;
        reply.map_err(|fault| self.error(fault, "redis get_or_lease", key))
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        const OPERATION: &str = "redis put_leased";
        self.check_payload(OPERATION, key, put.payload.len())?;
        self.try_put_leased(key, token, put).await.map_err(|fault| self.error(fault, OPERATION, key))
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        self.try_release(key, token).await.map_err(|fault| self.error(fault, "redis release", key))
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        self.try_hold(key, token, term).await.map_err(|fault| self.error(fault, "redis hold", key))
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        const OPERATION: &str = "redis put_held";
        self.check_payload(OPERATION, key, put.payload.len())?;
        self.try_put_held(key, token, put).await.map_err(|fault| self.error(fault, OPERATION, key))
    }
}

impl RedisBackend {
    pub(crate) async fn try_get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply, Fault> {
        let term = term_millis(term);
        let refuse = refuse.as_ref().map_or(&[][..], |nonce| nonce.as_bytes());
        let arguments = [Argument::Token(&token), Argument::Bytes(term.as_bytes()), Argument::Bytes(refuse)];
        self.run(&script::GET_OR_LEASE, key, &arguments, Again::Never).await.and_then(lease_reply)
    }

    pub(crate) async fn try_put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply, Fault> {
        if millis(put.ttl) == 0 {
            self.try_release(key, token).await?;
            return Ok(PutReply::Lost);
        }
        self.put(&script::PUT_LEASED, key, token, put).await
    }

    pub(crate) async fn try_release(&self, key: &Key, token: Token) -> Result<bool, Fault> {
        let reply = self.run(&script::RELEASE, key, &[Argument::Token(&token)], Again::Once).await?;
        Ok(reply.status == b"RELEASED")
    }

    pub(crate) async fn try_hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held, Fault> {
        let term = term_millis(term);
        let arguments = [Argument::Token(&token), Argument::Bytes(term.as_bytes())];
        let reply = self.run(&script::HOLD, key, &arguments, Again::Never).await?;
        match &*reply.status {
            b"HELD" => Ok(Held::Held),
            b"OVERLAP" => Ok(Held::Overlap),
            _ => reply.unknown(),
        }
    }

    pub(crate) async fn try_put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply, Fault> {
        self.put(&script::PUT_HELD, key, token, put).await
    }

    async fn put(&self, script: &Script, key: &Key, token: Token, put: Put) -> Result<PutReply, Fault> {
        let ttl = millis(put.ttl).to_string();
        let arguments = [
            Argument::Token(&token),
            Argument::Bytes(put.nonce.as_bytes()),
            Argument::Bytes(&put.payload),
            Argument::Bytes(ttl.as_bytes()),
        ];
        let reply = self.run(script, key, &arguments, Again::Never).await?;
        match &*reply.status {
            b"STORED" => Ok(PutReply::Stored),
            b"LOST" => Ok(PutReply::Lost),
            b"ABSENT" => Ok(PutReply::Absent),
            _ => reply.unknown(),
        }
    }
}

/// A term of at least a millisecond: a lease that ends as it begins would serve nobody.
fn term_millis(term: Duration) -> String {
    millis(term).max(1).to_string()
}

fn lease_reply(mut reply: Reply) -> Result<LeaseReply, Fault> {
    let (now_ms, era) = (reply.now_ms, reply.era);
    let record = |reply: &mut Reply| -> Option<Record> { record::decode(reply.bytes()?, now_ms, era) };
    match &*reply.status {
        b"HIT" => record(&mut reply).map(LeaseReply::Hit).ok_or(Fault::Garbled("a hit without a value")),
        b"LEASE" => Ok(LeaseReply::Lease { stale: record(&mut reply) }),
        b"BUSY" => {
            let remaining = Duration::from_millis(reply.number());
            let holder = match reply.bytes().as_deref() {
                Some(b"W") => Holder::Writer,
                _ => Holder::Reader,
            };
            Ok(LeaseReply::Busy { remaining, holder, stale: record(&mut reply) })
        }
        _ => reply.unknown(),
    }
}
