//! The backend: reading and invalidating.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Error, ErrorKind, Expired, Key, KeyPattern, LeaseBackend, MemberBackend, Nonce,
    Record, Removed, Result, SweepCursor, Swept, TagBackend, Timestamp, VersionBackend,
};
use tokio::time::timeout;

use crate::codec::{Name, Verb, seconds};
use crate::fault::Fault;
use crate::grants::Grants;
use crate::link::{Link, Setup};
use crate::record::{self, Found, Kind};
use crate::settle::{Step, settle, settle_one};
use crate::watch::Watch;
use crate::wire::{Hit, Wire};

/// A Memcached server as a shared tier. Made by [`Memcached`](crate::Memcached). Clones share its connections.
#[derive(Clone)]
pub struct MemcachedBackend {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    setup: Arc<Setup>,
    links: Box<[Link]>,
    next: AtomicUsize,
    key_prefix: Vec<u8>,
    node: String,
    pub(crate) grants: Grants,
    pub(crate) watch: Watch,
}

/// How many reads or removals of one call are sent in one go, and succeed or fail together.
const AT_ONCE: usize = 512;

/// Whether work is done once more if the connection breaks under it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Doing it twice is the same as doing it once.
    Once,
    /// It may have happened, and must not happen twice.
    Never,
}

impl MemcachedBackend {
    pub(crate) fn new(setup: Arc<Setup>, connections: usize, key_prefix: Vec<u8>, node: String) -> Self {
        let links = (0..connections).map(|_| Link::new(setup.clone())).collect();
        let next = AtomicUsize::new(0);
        let (grants, watch) = (Grants::default(), Watch::default());
        Self { inner: Arc::new(Inner { setup, links, next, key_prefix, node, grants, watch }) }
    }

    /// Makes the first connection.
    pub(crate) async fn reach(&self) -> Result<()> {
        let inner = &self.inner;
        let reached = inner.over(&inner.links[0], Again::Never, |_| async { Ok(()) }).await;
        reached.map_err(|fault| fault.into_error("memcached connect", &inner.node))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn name(&self, key: &Key) -> Name {
        Name::new(&self.inner.key_prefix, key.as_bytes())
    }

    /// The error of `operation` on `key`.
    pub(crate) fn error(&self, fault: Fault, operation: &'static str, key: &Key) -> Error {
        fault.about(operation, &self.inner.node, key)
    }

    pub(crate) fn node(&self) -> &str {
        &self.inner.node
    }

    /// Does `work` in a task of its own: who leaves in between leaves nothing half done.
    pub(crate) async fn detached<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let ended = tokio::spawn(work(self.inner.clone())).await;
        ended.unwrap_or(Err(Fault::Garbled("the runtime has ended")))
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>, Fault> {
        let inner = &self.inner;
        let link = inner.link_for_reads();
        let name = &self.name(key);
        let hit = inner.over(link, Again::Once, |wire| async move { wire.read(name.clone()).await });
        Ok(hit.await?.and_then(record))
    }

    async fn read_chunk(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, Fault> {
        let names: &Vec<Name> = &keys.iter().map(|key| self.name(key)).collect();
        let inner = &self.inner;
        let read = |wire: Arc<Wire>| async move { wire.read_all(names.clone()).await };
        let hits = inner.over(inner.link_in_turn(), Again::Once, read).await?;
        Ok(hits.into_iter().map(|hit| hit.and_then(record)).collect())
    }

    /// The outcome for each of `keys`, of which the deadline may have cut off the last.
    fn outcomes<T: Clone>(
        &self,
        operation: &'static str,
        keys: &[Key],
        mut outcomes: Vec<Result<T, Fault>>,
    ) -> Vec<Result<T>> {
        outcomes.resize(keys.len(), Err(Fault::Timeout(self.inner.setup.deadline)));
        let with_key = |(outcome, key): (Result<T, Fault>, &Key)| {
            outcome.map_err(|fault| self.error(fault, operation, key))
        };
        outcomes.into_iter().zip(keys).map(with_key).collect()
    }

    async fn remove_chunk(&self, keys: &[Key]) -> Result<Vec<Removed>, Fault> {
        let names: Arc<[Name]> = keys.iter().map(|key| self.name(key)).collect();
        let work = |inner: Arc<Inner>| async move {
            let remove = |wire: Arc<Wire>| {
                let names = names.clone();
                async move { settle(&wire, &names, Verb::Look, |_, hit| removal(hit)).await }
            };
            inner.over(inner.link_in_turn(), Again::Once, remove).await
        };
        self.detached(work).await
    }

    async fn try_expire(&self, key: &Key, keep: Duration) -> Result<Expired, Fault> {
        let name = self.name(key);
        let work = |inner: Arc<Inner>| async move {
            let expire = |wire: Arc<Wire>| {
                let name = name.clone();
                async move {
                    let keep = (keep >= SHORTEST).then(|| seconds(keep, wire.unix_now()));
                    let decide = |hit| expiry(hit, keep);
                    Ok(settle_one(&wire, &name, Verb::Look, decide).await?.outcome)
                }
            };
            inner.over(inner.link_in_turn(), Again::Once, expire).await
        };
        self.detached(work).await
    }

    async fn try_touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool, Fault> {
        if ttl < SHORTEST {
            return Ok(false);
        }
        let name = self.name(key);
        let work = |inner: Arc<Inner>| async move {
            let touch = |wire: Arc<Wire>| {
                let name = name.clone();
                async move {
                    let ttl = seconds(ttl, wire.unix_now());
                    let decide = |hit| prolongation(hit, nonce, ttl);
                    Ok(settle_one(&wire, &name, Verb::Read, decide).await?.outcome)
                }
            };
            inner.over(inner.link_in_turn(), Again::Once, touch).await
        };
        self.detached(work).await
    }
}

impl Inner {
    /// A connection for reads: the first with room, since readers on one connection share batches; if none has any, each
    /// in turn.
    fn link_for_reads(&self) -> &Link {
        self.links.iter().find(|link| link.has_room()).unwrap_or_else(|| self.link_in_turn())
    }

    pub(crate) fn link_in_turn(&self) -> &Link {
        &self.links[self.next.fetch_add(1, Ordering::Relaxed) % self.links.len()]
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.setup.clock.now()
    }

    /// Does `work` over a connection of `link`, within the deadline.
    pub(crate) async fn over<T, F>(
        &self,
        link: &Link,
        again: Again,
        work: impl Fn(Arc<Wire>) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let run = async {
            match work(self.wire(link).await?).await {
                Err(Fault::Broken(_)) if again == Again::Once => work(self.wire(link).await?).await,
                outcome => outcome,
            }
        };
        let deadline = self.setup.deadline;
        timeout(deadline, run).await.unwrap_or(Err(Fault::Timeout(deadline)))
    }

    /// The connection of `link`; if there is none to be had, any that stands.
    async fn wire(&self, link: &Link) -> Result<Arc<Wire>, Fault> {
        match link.wire().await {
            Ok(wire) => Ok(wire),
            Err(fault) => self.links.iter().find_map(Link::standing).ok_or(fault),
        }
    }
}

/// Adds the outcome of a chunk of so many keys.
fn add<T: Clone>(outcomes: &mut Vec<Result<T, Fault>>, keys: usize, chunk: Result<Vec<T>, Fault>) {
    match chunk {
        Ok(answers) => outcomes.extend(answers.into_iter().map(Ok)),
        Err(fault) => outcomes.resize(outcomes.len() + keys, Err(fault)),
    }
}

/// A shorter life is none.
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);

fn record((meta, bytes): Hit) -> Option<Record> {
    match Found::read(&meta, bytes) {
        Found::Value(value) => Some(value.record()),
        _ => None,
    }
}

fn removal(hit: Option<Hit>) -> Step<Removed> {
    let Some((meta, _)) = hit else { return Step::Done(Removed::Nothing) };
    match Kind::of(&meta) {
        Kind::Hold => {
            let poison = record::poison(record::left(&meta).max(1));
            Step::Try(Verb::Swap(meta.cas, poison), Removed::Held)
        }
        Kind::Poison => Step::Done(Removed::Held),
        Kind::Value | Kind::Lease | Kind::Other => Step::Try(Verb::Delete(meta.cas), Removed::Existing),
    }
}

/// `keep` in seconds; `None`: not at all.
fn expiry(hit: Option<Hit>, keep: Option<u32>) -> Step<Expired> {
    let Some((meta, _)) = hit else { return Step::Done(Expired::Nothing) };
    let left = record::left(&meta);
    match (Kind::of(&meta), keep) {
        (Kind::Hold, _) => Step::Try(Verb::Swap(meta.cas, record::poison(left.max(1))), Expired::Held),
        (Kind::Poison, _) => Step::Done(Expired::Held),
        (Kind::Value, Some(keep)) => {
            Step::Try(Verb::Stale(meta.cas, Some(keep.min(left).max(1))), Expired::Marked)
        }
        (Kind::Value, None) => Step::Try(Verb::Delete(meta.cas), Expired::Marked),
        (Kind::Lease | Kind::Other, _) => Step::Try(Verb::Delete(meta.cas), Expired::Nothing),
    }
}

fn prolongation(hit: Option<Hit>, nonce: Nonce, seconds: u32) -> Step<bool> {
    let Some((meta, bytes)) = hit else { return Step::Done(false) };
    match Found::read(&meta, bytes) {
        Found::Value(value) if !value.invalidated && value.nonce == nonce && value.left < seconds => {
            Step::Try(Verb::Swap(meta.cas, value.prolonged(seconds)), true)
        }
        _ => Step::Done(false),
    }
}

#[async_trait]
impl Backend for MemcachedBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("memcached", self.node(), true)
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.read(key).await.map_err(|fault| self.error(fault, "memcached get", key))
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        let mut outcomes = Vec::with_capacity(keys.len());
        let all = async {
            for chunk in keys.chunks(AT_ONCE) {
                add(&mut outcomes, chunk.len(), self.read_chunk(chunk).await);
            }
        };
        // One deadline for all; what it cuts off is left out of `outcomes`.
        let _ = timeout(self.inner.setup.deadline, all).await;
        self.outcomes("memcached get", keys, outcomes)
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        let removed = self.remove_chunk(std::slice::from_ref(key)).await;
        let removed =
            removed.and_then(|all| all.first().copied().ok_or(Fault::Garbled("a reply is missing")));
        removed.map_err(|fault| self.error(fault, "memcached remove", key))
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        let mut outcomes = Vec::with_capacity(keys.len());
        let all = async {
            for chunk in keys.chunks(AT_ONCE) {
                add(&mut outcomes, chunk.len(), self.remove_chunk(chunk).await);
            }
        };
        // One deadline for all; what it cuts off is left out of `outcomes`.
        let _ = timeout(self.inner.setup.deadline, all).await;
        self.outcomes("memcached remove", keys, outcomes)
    }

    async fn sweep(&self, pattern: &KeyPattern, _: &SweepCursor) -> Result<Swept> {
        let detail = "memcached does not list its keys: give entries a tag, or make the cache clearable";
        let error = Error::new(ErrorKind::Unsupported, "memcached sweep").detail(detail);
        Err(error.node(self.node()).key(pattern.as_pattern().as_bytes()))
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        self.try_expire(key, keep).await.map_err(|fault| self.error(fault, "memcached expire", key))
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.try_touch(key, nonce, ttl).await.map_err(|fault| self.error(fault, "memcached touch", key))
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        Some(self)
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        Some(self)
    }

    /// `None`: no term of a registration can be told by the server's clock.
    fn members(&self) -> Option<&dyn MemberBackend> {
        None
    }

    /// `None`: floors could be evicted, and an evicted floor lets what is outdated in.
    fn versions(&self) -> Option<&dyn VersionBackend> {
        None
    }

    fn incarnation(&self) -> u64 {
        self.inner.setup.incarnation.count()
    }
}

impl fmt::Debug for MemcachedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedBackend")
            .field("node", &self.inner.node)
            .field("connections", &self.inner.links.len())
            .finish_non_exhaustive()
    }
}
