//! The backend of the layout: a lease is the lock of its key.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Held, Holder, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Result, Token};

use super::backend::{PlainBackend, hex};
use super::value::{self, Writing};
use super::{PlainForm, names, script};
use crate::backend::millis;
use crate::fault::Fault;
use crate::link::Again;
use crate::reply::Reply;
use crate::script::Script;

/// What a lock of ours says, `lua/prelude.lua` too: which right it is, and whose.
const LOAD: &str = "cachalot:load:";
const WRITE: &str = "cachalot:write:";

#[async_trait]
impl LeaseBackend for PlainBackend {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let pair = self.pair(key)?;
        let (own, term) = (own(LOAD, token), term_millis(term));
        let refuse = refuse.map_or_else(String::new, |nonce| hex(nonce.as_bytes()));
        let arguments = [own.as_bytes(), term.as_bytes(), refuse.as_bytes()];
        let reply = self.run(&script::GET_OR_LEASE, &pair, &arguments, Again::Never).await;
        reply
            .and_then(|reply| self.lease_reply(key, reply))
            .map_err(|fault| self.error(fault, "redis plain get_or_lease", key))
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        const OPERATION: &str = "redis plain put_leased";
        if millis(put.ttl) == 0 {
            self.release(key, token).await?;
            return Ok(PutReply::Lost);
        }
        let writing = self.writing(OPERATION, key, &put)?;
        self.put(OPERATION, &script::PUT_LEASED, key, &own(LOAD, token), &writing).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        let pair = self.pair(key)?;
        let released = self.run(&script::RELEASE, &pair, &[own(LOAD, token).as_bytes()], Again::Once).await;
        released
            .map(|reply| reply.status == b"RELEASED")
            .map_err(|fault| self.error(fault, "redis plain release", key))
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        let pair = self.pair(key)?;
        let (own, term) = (own(WRITE, token), term_millis(term));
        let held = |reply: Reply| match &*reply.status {
            b"HELD" => Ok(Held::Held),
            b"OVERLAP" => Ok(Held::Overlap),
            _ => reply.unknown(),
        };
        let arguments = [own.as_bytes(), term.as_bytes()];
        let reply = self.run(&script::HOLD, &pair, &arguments, Again::Never).await;
        reply.and_then(held).map_err(|fault| self.error(fault, "redis plain hold", key))
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        const OPERATION: &str = "redis plain put_held";
        let writing = match millis(put.ttl) {
            0 => Writing::nothing(),
            _ => self.writing(OPERATION, key, &put)?,
        };
        self.put(OPERATION, &script::PUT_HELD, key, &own(WRITE, token), &writing).await
    }
}

impl PlainBackend {
    fn writing(&self, operation: &'static str, key: &Key, put: &Put) -> Result<Writing> {
        let writing = value::writing(operation, key, put, self.form)?;
        self.check_payload(operation, key, writing.json.len())?;
        Ok(writing)
    }

    async fn put(
        &self,
        operation: &'static str,
        script: &Script,
        key: &Key,
        own: &str,
        writing: &Writing,
    ) -> Result<PutReply> {
        let mut keys = self.pair(key)?.to_vec();
        for tagged in &writing.tags {
            let tag = tagged.tag.as_bytes();
            keys.extend([names::set(tag), names::token(tag)]);
        }
        let form: &[u8] = match self.form {
            PlainForm::Bare => b"bare",
            PlainForm::Early => b"early",
            PlainForm::Stale => b"stale",
        };
        let (ttl, fresh) = (millis(writing.ttl).to_string(), millis(writing.fresh_for).to_string());
        let delta = format!("{:.6}", writing.compute_time.as_secs_f64());
        let tokens: Vec<_> = writing.tags.iter().map(|tagged| tagged.token.to_bytes()).collect();
        let mut arguments = vec![own.as_bytes(), ttl.as_bytes(), form, fresh.as_bytes(), delta.as_bytes()];
        arguments.push(&writing.json);
        arguments.extend(tokens.iter().map(|token| &token[..]));
        let put = |reply: Reply| match &*reply.status {
            b"STORED" => Ok(PutReply::Stored),
            b"LOST" => Ok(PutReply::Lost),
            b"ABSENT" => Ok(PutReply::Absent),
            _ => reply.unknown(),
        };
        let reply = self.run(script, &keys, &arguments, Again::Never).await;
        reply.and_then(put).map_err(|fault| self.error(fault, operation, key))
    }

    fn lease_reply(&self, key: &Key, mut reply: Reply) -> Result<LeaseReply, Fault> {
        match &*reply.status {
            b"HIT" => match self.record(key, &mut reply)? {
                Some(record) => Ok(LeaseReply::Hit(record)),
                None => Err(Fault::Garbled("a hit without a value")),
            },
            b"LEASE" => Ok(LeaseReply::Lease { stale: self.record(key, &mut reply)? }),
            b"BUSY" => {
                let remaining = Duration::from_millis(reply.number());
                let holder = match reply.bytes().as_deref() {
                    Some(b"W") => Holder::Writer,
                    _ => Holder::Reader,
                };
                Ok(LeaseReply::Busy { remaining, holder, stale: self.record(key, &mut reply)? })
            }
            _ => reply.unknown(),
        }
    }
}

impl Writing {
    /// What ends a hold.
    fn nothing() -> Self {
        let (tags, json, none) = (Vec::new(), bytes::Bytes::new(), Duration::ZERO);
        Self { tags, json, ttl: none, fresh_for: none, compute_time: none }
    }
}

fn own(kind: &str, token: Token) -> String {
    [kind, &hex(token.as_bytes())].concat()
}

/// A term of at least a millisecond: a lock that ends as it begins would serve nobody.
fn term_millis(term: Duration) -> String {
    millis(term).max(1).to_string()
}
