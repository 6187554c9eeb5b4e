//! The backend: reading and invalidating.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Error, ErrorKind, Expired, Key, KeyPattern, LeaseBackend, MemberBackend, Nonce,
    Record, Removed, Result, SweepCursor, Swept, TagBackend, VersionBackend,
};
use redis::{Pipeline, Value};
use tokio::time::timeout;

use crate::blocking::Blocking;
use crate::config::Limits;
use crate::fault::Fault;
use crate::gather::Gather;
use crate::incarnation::Incarnation;
use crate::link::{Again, Link, Request, Setup};
use crate::mget::{self, mget};
use crate::name::name;
use crate::record;
use crate::reply::Reply;
use crate::script::{self, Argument, By};
use crate::sweep::sweep;

/// A Redis server as a shared tier. Made by [`Redis`](crate::Redis). Clones share its connections.
#[derive(Clone)]
pub struct RedisBackend {
    reads: Arc<[Arc<Gather>]>,
    next: Arc<AtomicUsize>,
    /// For scripts and for batches of more than [`KEYS_PER_MGET`], which would keep single reads waiting.
    aside: Arc<Link>,
    /// For what waits in the server.
    blocking: Arc<Blocking>,
    deadline: Duration,
    limits: Arc<Limits>,
    node: Arc<str>,
    incarnation: Arc<Incarnation>,
}

/// How many keys one MGET asks for.
const KEYS_PER_MGET: usize = 256;
/// How many scripts are sent in one go.
pub(crate) const SCRIPTS_PER_PIPELINE: usize = 512;

/// The longest life or term that is counted, ms: some 35,000 years, exact in Lua's numbers.
const LONGEST_MS: u64 = 1 << 50;

/// Whole milliseconds, as the scripts count.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).map_or(LONGEST_MS, |millis| millis.min(LONGEST_MS))
}

impl RedisBackend {
    pub(crate) fn new(setup: Setup, connections: usize, limits: Limits, node: String) -> Self {
        let key_prefix: Arc<[u8]> = limits.key_prefix.as_slice().into();
        let reads = || Gather::new(Link::new(setup.clone()), key_prefix.clone());
        Self {
            reads: (0..connections).map(|_| reads()).collect(),
            next: Arc::default(),
            deadline: setup.deadline,
            incarnation: setup.incarnation.clone(),
            blocking: Arc::new(Blocking::new(setup.clone())),
            aside: Arc::new(Link::new(setup)),
            limits: Arc::new(limits),
            node: node.into(),
        }
    }

    /// Makes the first connection.
    pub(crate) async fn reach(&self) -> Result<()> {
        let reached = self.reads[0].link().connect().await;
        reached.map_err(|fault| fault.into_error("redis connect", &self.node))
    }

    /// A connection for reads: the first with room, since readers on one connection share commands; if none
    /// has any, each in turn.
    fn reads(&self) -> &Arc<Gather> {
        let in_turn = || &self.reads[self.next.fetch_add(1, Ordering::Relaxed) % self.reads.len()];
        self.reads.iter().find(|reads| reads.has_room()).unwrap_or_else(in_turn)
    }

    pub(crate) fn link_for_reads(&self) -> &Link {
        self.reads().link()
    }

    pub(crate) fn link_aside(&self) -> &Link {
        &self.aside
    }

    pub(crate) fn blocking(&self) -> &Blocking {
        &self.blocking
    }

    pub(crate) fn max_payload(&self) -> usize {
        self.limits.max_payload
    }

    pub(crate) fn key_prefix(&self) -> &[u8] {
        &self.limits.key_prefix
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    pub(crate) fn name<'a>(&self, key: &'a Key) -> std::borrow::Cow<'a, [u8]> {
        name(&self.limits.key_prefix, key)
    }

    /// The error of `operation` on `key`.
    pub(crate) fn error(&self, fault: Fault, operation: &'static str, key: &Key) -> Error {
        fault.about(operation, &self.node, key)
    }

    /// Refuses what is too large, before anything is sent.
    pub(crate) fn check_payload(&self, operation: &'static str, key: &Key, size: usize) -> Result<()> {
        let most = self.limits.max_payload;
        if size <= most {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Config, operation)
            .detail(format!("a payload of {size} bytes exceeds the limit of {most}"))
            .key(key.as_bytes())
            .node(&*self.node))
    }

    /// Runs `script` on `key`.
    pub(crate) async fn run(
        &self,
        script: &script::Script,
        key: &Key,
        arguments: &[Argument<'_>],
        again: Again,
    ) -> Result<Reply, Fault> {
        self.aside.run(script, &self.name(key), arguments, again).await
    }

    pub(crate) async fn try_remove(&self, key: &Key) -> Result<Removed, Fault> {
        self.run(&script::REMOVE, key, &[], Again::Once).await.and_then(|reply| removed(&reply))
    }

    pub(crate) async fn try_expire(&self, key: &Key, keep: Duration) -> Result<Expired, Fault> {
        let keep = millis(keep).to_string();
        let reply = self.run(&script::EXPIRE, key, &[Argument::Bytes(keep.as_bytes())], Again::Once).await?;
        match &*reply.status {
            b"MARKED" => Ok(Expired::Marked),
            b"NONE" => Ok(Expired::Nothing),
            b"HELD" => Ok(Expired::Held),
            _ => reply.unknown(),
        }
    }

    pub(crate) async fn try_touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool, Fault> {
        let ttl = millis(ttl).to_string();
        let arguments = [nonce.as_bytes(), ttl.as_bytes()].map(Argument::Bytes);
        let reply = self.run(&script::TOUCH, key, &arguments, Again::Once).await?;
        Ok(reply.status == b"TOUCHED")
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>, Fault> {
        let reads = self.reads();
        let found = reads.link().within_deadline(reads.read(key)).await?;
        Ok(found.bytes.and_then(|bytes| record::decode(bytes, found.now_ms, found.era)))
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Fault> {
        let mut records = Vec::with_capacity(keys.len());
        let mut take = |reply: Value, keys: usize, now_ms, era| {
            let values = mget::values(reply, keys)?.into_iter();
            records.extend(values.map(|value| record::decode(mget::bytes(value)?, now_ms, era)));
            Ok::<_, Fault>(())
        };
        let chunks = keys.chunks(KEYS_PER_MGET);
        if chunks.len() <= 1 {
            let command = mget(&self.limits.key_prefix, keys.iter());
            let answer = self.reads().link().send(Request::One(&command), Again::Once).await?;
            let era = answer.era();
            take(answer.value, keys.len(), answer.now_ms, era)?;
        } else {
            let mut pipeline = Pipeline::with_capacity(chunks.len());
            for chunk in chunks {
                pipeline.add_command(mget(&self.limits.key_prefix, chunk.iter()));
            }
            // Aside: so many would keep single reads waiting.
            let answer = self.aside.send(Request::Many(&pipeline), Again::Once).await?;
            let (now_ms, era) = (answer.now_ms, answer.era());
            for (chunk, reply) in keys.chunks(KEYS_PER_MGET).zip(answer.into_list()?) {
                take(reply, chunk.len(), now_ms, era)?;
            }
        }
        if records.len() == keys.len() {
            Ok(records)
        } else {
            Err(Fault::Garbled("a pipeline answered for other commands"))
        }
    }

    /// Removes `keys` in one go. The outer fault is all keys' fault.
    pub(crate) async fn remove_chunk(&self, keys: &[Key]) -> Result<Vec<Result<Removed, Fault>>, Fault> {
        let mut outcomes = self.pipeline_remove(keys, By::Hash).await?;
        let unknown = |outcome: &Result<Removed, Fault>| matches!(outcome, Err(Fault::NoScript));
        // One by text makes the server know the script; a script cannot be repeated within its pipeline.
        let Some(first) = outcomes.iter().position(unknown) else {
            return Ok(outcomes);
        };
        let missed: Vec<usize> = (first..keys.len()).filter(|at| unknown(&outcomes[*at])).collect();
        let again: Vec<Key> = missed.iter().map(|at| keys[*at].clone()).collect();
        let repeated = self.pipeline_remove(&again, By::Text).await?;
        for (at, outcome) in missed.into_iter().zip(repeated) {
            outcomes[at] = outcome;
        }
        Ok(outcomes)
    }

    async fn pipeline_remove(&self, keys: &[Key], by: By) -> Result<Vec<Result<Removed, Fault>>, Fault> {
        let mut pipeline = Pipeline::with_capacity(keys.len());
        for key in keys {
            pipeline.add_command(script::REMOVE.command(by, &[self.name(key)], &[]));
        }
        let answer = self.aside.send(Request::Many(&pipeline), Again::Once).await?;
        let era = answer.era();
        Ok(answer.into_list()?.into_iter().map(|value| removed(&Reply::read(value, era)?)).collect())
    }
}

fn removed(reply: &Reply) -> Result<Removed, Fault> {
    match &*reply.status {
        b"EXISTING" => Ok(Removed::Existing),
        b"NONE" => Ok(Removed::Nothing),
        b"HELD" => Ok(Removed::Held),
        _ => reply.unknown(),
    }
}

#[async_trait]
impl Backend for RedisBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("redis", &*self.node, true)
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.read(key).await.map_err(|fault| self.error(fault, "redis get", key))
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        if keys.is_empty() {
            return Vec::new();
        }
        match self.read_many(keys).await {
            Ok(records) => records.into_iter().map(Ok).collect(),
            Err(fault) => {
                let error = |key| Err(self.error(fault.clone(), "redis get", key));
                keys.iter().map(error).collect()
            }
        }
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        self.try_remove(key).await.map_err(|fault| self.error(fault, "redis remove", key))
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        let mut outcomes = Vec::with_capacity(keys.len());
        let remove_all = async {
            for chunk in keys.chunks(SCRIPTS_PER_PIPELINE) {
                match self.remove_chunk(chunk).await {
                    Ok(removed) => outcomes.extend(removed),
                    Err(fault) => outcomes.resize(outcomes.len() + chunk.len(), Err(fault)),
                }
            }
        };
        // One deadline for all; what it cuts off is left out of `outcomes`.
        let _ = timeout(self.deadline, remove_all).await;
        outcomes.resize(keys.len(), Err(Fault::Timeout(self.deadline)));
        let with_key = |(outcome, key): (Result<Removed, Fault>, &Key)| {
            outcome.map_err(|fault| self.error(fault, "redis remove", key))
        };
        outcomes.into_iter().zip(keys).map(with_key).collect()
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        let part = sweep(&self.aside, &self.limits.key_prefix, pattern, from);
        let error =
            |fault: Fault| fault.into_error("redis sweep", &self.node).key(pattern.as_pattern().as_bytes());
        self.aside.within_deadline(part).await.map_err(error)
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        self.try_expire(key, keep).await.map_err(|fault| self.error(fault, "redis expire", key))
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.try_touch(key, nonce, ttl).await.map_err(|fault| self.error(fault, "redis touch", key))
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
        self.incarnation.count()
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend")
            .field("node", &self.node)
            .field("connections", &self.reads.len())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
