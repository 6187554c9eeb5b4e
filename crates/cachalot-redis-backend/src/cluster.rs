//! Redis Cluster: each key at home on the node that has its slot.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Depth, Enrolled, Error, ErrorKind, Expired, Held, Key, KeyPattern, LeaseBackend,
    LeaseReply, Member, MemberBackend, Nonce, Put, PutReply, Record, Removed, Result, Roll, SweepCursor,
    Swept, TagBackend, TagToken, Token, VersionBackend,
};
use futures_util::future::join_all;

use crate::RedisBackend;
use crate::backend::SCRIPTS_PER_PIPELINE;
use crate::config::RedisBuilder;
use crate::fault::Fault;

mod map;
mod nodes;
use nodes::Nodes;
mod many;
mod slot;
mod sweep;
mod way;

/// How many epochs stand at the end of the tags that a cache pins: that of callers' tags, and that of dependants.
const MOST_EPOCHS: usize = 2;

/// A Redis Cluster as a shared tier. Made by
/// [`connect_cluster`](crate::RedisBuilder::connect_cluster). Clones share its connections.
///
/// Records, leases and tokens are those of one server, and no command has keys of two slots. What is asked of many
/// keys goes to their nodes at once; a node that fails costs its own keys only. Only primaries are read. With
/// [`Recovery::Era`](crate::Recovery::Era) each node has an era of its own, and a slot that moves begins cold.
///
/// Of tags that are rotated the first, a cache's epoch, is replaced before all others, which go at once: two round
/// trips, each within the deadline. Of tags that are pinned the last two, where the epochs stand, are looked at one
/// after the other once all others are there: three.
///
/// `MOVED` leads to another look at who has which slots, `ASK` for one time to the node that is about to have one.
/// A primary whose slots another one has taken over counts as another
/// [`incarnation`](cachalot_core::Backend::incarnation).
///
/// # Patterns
/// A sweep goes over every primary. If slots were moved meanwhile, or are on their way at its end, it goes over all
/// of them again: what is there throughout is removed, wherever it went.
///
/// ```no_run
/// use cachalot_redis_backend::Redis;
///
/// # async fn example() -> cachalot_core::Result<()> {
/// let others = ["redis://10.0.0.2:6379", "redis://10.0.0.3:6379"];
/// let cluster = Redis::builder("redis://10.0.0.1:6379").connect_cluster(others).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisCluster {
    nodes: Arc<Nodes>,
    name: Arc<str>,
}

impl RedisCluster {
    pub(crate) fn new(settings: RedisBuilder, others: Vec<String>) -> Result<Self> {
        let nodes = Nodes::new(settings, &others)?;
        let name = nodes.seed().to_string().into();
        Ok(Self { nodes: Arc::new(nodes), name })
    }

    pub(crate) async fn reach(&self) -> Result<()> {
        let reached = self.nodes.within_deadline(self.nodes.look_around()).await;
        reached.map(drop).map_err(|fault| fault.into_error("redis connect", &self.name))
    }

    async fn one<T, F>(
        &self,
        operation: &'static str,
        key: &Key,
        command: impl Fn(RedisBackend, Key) -> F + Send + Sync,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        let outcome = self.nodes.route(key, |node| command(node, key.clone())).await;
        outcome.map_err(|fault| self.error(fault, operation, key))
    }

    async fn pin_tag(&self, name: Key, fresh: TagToken, ttl: Duration) -> Result<TagToken> {
        let pin = |node: RedisBackend, name: Key| async move {
            let mut pinned = node.try_pin_tags(&[name], &[fresh], ttl).await?;
            pinned.pop().ok_or(Fault::Garbled("a pipeline answered nothing"))
        };
        self.one("redis pin_tags", &name, pin).await
    }

    async fn rotate_tag(&self, name: Key, fresh: TagToken, depth: Depth, ttl: Duration) -> Result<()> {
        let rotate = |node: RedisBackend, name: Key| async move {
            node.try_rotate_tags(&[name], &[fresh], depth, ttl).await
        };
        self.one("redis rotate_tags", &name, rotate).await
    }

    fn error(&self, fault: Fault, operation: &'static str, key: &Key) -> Error {
        fault.about(operation, &self.name, key)
    }

    fn check_payload(&self, operation: &'static str, key: &Key, put: &Put) -> Result<()> {
        let (size, most) = (put.payload.len(), self.nodes.max_payload);
        if size <= most {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Config, operation)
            .detail(format!("a payload of {size} bytes exceeds the limit of {most}"))
            .key(key.as_bytes())
            .node(&*self.name))
    }
}

#[async_trait]
impl Backend for RedisCluster {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("redis cluster", &*self.name, true)
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.one("redis get", key, |node, key| async move { node.try_get(&key).await }).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        let all = |node: RedisBackend, keys: Vec<Key>| async move { node.try_get_each(&keys).await };
        let one = |node: RedisBackend, key: Key| async move { node.try_get(&key).await };
        let found = self.nodes.each(keys, usize::MAX, all, one).await;
        let read = found.into_iter().zip(keys);
        read.map(|(record, key)| record.map_err(|fault| self.error(fault, "redis get", key))).collect()
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        self.one("redis remove", key, |node, key| async move { node.try_remove(&key).await }).await
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        let all = |node: RedisBackend, keys: Vec<Key>| async move { node.remove_chunk(&keys).await };
        let one = |node: RedisBackend, key: Key| async move { node.try_remove(&key).await };
        let removed = self.nodes.each(keys, SCRIPTS_PER_PIPELINE, all, one).await.into_iter().zip(keys);
        removed
            .map(|(removed, key)| removed.map_err(|fault| self.error(fault, "redis remove", key)))
            .collect()
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        let part = sweep::sweep(&self.nodes, pattern, from);
        let error =
            |fault: Fault| fault.into_error("redis sweep", &self.name).key(pattern.as_pattern().as_bytes());
        self.nodes.within_deadline(part).await.map_err(error)
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        self.one("redis expire", key, |node, key| async move { node.try_expire(&key, keep).await }).await
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.one("redis touch", key, |node, key| async move { node.try_touch(&key, nonce, ttl).await }).await
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
        self.nodes.incarnation()
    }
}

#[async_trait]
impl LeaseBackend for RedisCluster {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let ask = |node: RedisBackend, key: Key| async move {
            node.try_get_or_lease(&key, token, term, refuse).await
        };
        self.one("redis get_or_lease", key, ask).await
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        const OPERATION: &str = "redis put_leased";
        self.check_payload(OPERATION, key, &put)?;
        let store = |node: RedisBackend, key: Key| {
            let put = put.clone();
            async move { node.try_put_leased(&key, token, put).await }
        };
        self.one(OPERATION, key, store).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        self.one("redis release", key, |node, key| async move { node.try_release(&key, token).await }).await
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        self.one("redis hold", key, |node, key| async move { node.try_hold(&key, token, term).await }).await
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        const OPERATION: &str = "redis put_held";
        self.check_payload(OPERATION, key, &put)?;
        let store = |node: RedisBackend, key: Key| {
            let put = put.clone();
            async move { node.try_put_held(&key, token, put).await }
        };
        self.one(OPERATION, key, store).await
    }
}

#[async_trait]
impl TagBackend for RedisCluster {
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        let all = |node: RedisBackend, names: Vec<Key>| async move { node.try_tokens_each(&names).await };
        let one = |node: RedisBackend, name: Key| async move {
            let mut tokens = node.try_tokens_each(std::slice::from_ref(&name)).await?;
            tokens.pop().unwrap_or(Err(Fault::Garbled("a pipeline answered nothing")))
        };
        let found = self.nodes.each(names, usize::MAX, all, one).await.into_iter().zip(names);
        found
            .map(|(token, name)| token.map_err(|fault| self.error(fault, "redis tag_tokens", name)))
            .collect()
    }

    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        let pin = |(name, fresh): (&Key, TagToken)| self.pin_tag(name.clone(), fresh, ttl);
        let mut pairs = names.iter().zip(fresh.iter().copied());
        let before_epochs = names.len().saturating_sub(MOST_EPOCHS);
        let mut tokens = all_of(join_all(pairs.by_ref().take(before_epochs).map(pin)).await)?;
        for pair in pairs {
            tokens.push(pin(pair).await?);
        }
        Ok(tokens)
    }

    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let rotate = |(name, fresh): (&Key, TagToken)| self.rotate_tag(name.clone(), fresh, depth, ttl);
        let mut pairs = names.iter().zip(fresh.iter().copied());
        let Some(epoch) = pairs.next() else { return Ok(()) };
        rotate(epoch).await?;
        all_of(join_all(pairs.map(rotate)).await).map(drop)
    }
}

#[async_trait]
impl VersionBackend for RedisCluster {
    async fn raise(&self, name: &Key, version: u64, ttl: Duration) -> Result<u64> {
        let raise = |node: RedisBackend, name: Key| async move { node.try_raise(&name, version, ttl).await };
        self.one("redis raise", name, raise).await
    }
}

#[async_trait]
impl MemberBackend for RedisCluster {
    async fn enroll(&self, registry: &Key, member: &Member, term: Duration) -> Result<Enrolled> {
        let enroll =
            |node: RedisBackend, registry: Key| async move { node.try_enroll(&registry, member, term).await };
        self.one("redis enroll", registry, enroll).await
    }

    async fn leave(&self, registry: &Key, member: &Member) -> Result<bool> {
        let leave =
            |node: RedisBackend, registry: Key| async move { node.try_leave(&registry, member).await };
        self.one("redis leave", registry, leave).await
    }

    async fn roll(&self, registry: &Key) -> Result<Roll> {
        self.one("redis roll", registry, |node, registry| async move { node.try_roll(&registry).await }).await
    }
}

/// All that is there, or the first error.
fn all_of<T>(outcomes: Vec<Result<T>>) -> Result<Vec<T>> {
    outcomes.into_iter().collect()
}

impl fmt::Debug for RedisCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCluster").field("node", &self.name).finish_non_exhaustive()
    }
}
