//! Which keys have a tag: a sorted set for each tag, beside the tokens that decide.

use std::fmt;
use std::time::Duration;

use cachalot_core::{Error, ErrorKind, Key, Namespace, Result, Tag, Tags};
use redis::{Cmd, Value};

use crate::RedisBackend;
use crate::backend::millis;
use crate::fault::Fault;
use crate::link::{Again, Request};
use crate::scan::{self, Place, Scanned};
use crate::script;
use crate::sweep::remove;

mod backend;
mod policy;
pub(crate) use policy::Policy;

/// An index of the keys that have a tag, in the server, for who wants to know them (`keys`), or to delete them at
/// once (`remove_tag`) instead of letting them end unread. A cache that is built with it does both by itself. Opt-in: it costs a write for each tag of each put, and
/// removing a tag by its tokens needs none of it.
///
/// Each tag has a sorted set `namespace!tag` of keys by the time at which they end, by the server's clock. What is
/// over is forgotten, a few with each [`add`](TagIndex::add).
///
/// # Order
/// [`add`](TagIndex::add) comes before the put, under the lease or hold of that put; if it fails, nothing is to be
/// stored. Then no value is ever stored that the index does not know of: a removal takes the value and the right
/// to store one first, and forgets the key last, unless it has been added again meanwhile. A removal that breaks
/// off leaves all that it has not removed in the index.
///
/// # Eviction
/// A server that evicts any key it likes (`maxmemory-policy allkeys-…`) loses indexes, and with them removals, in
/// silence: [`open`](TagIndex::open) refuses it. Under `volatile-…` it evicts what has a time to live: indexes
/// have none there, and an index that nobody adds to any more stays. Under `noeviction` an index ends with its
/// last key.
///
/// # Redis Cluster
/// There are no indexes on a [`RedisCluster`](crate::RedisCluster): tags work there by their tokens alone.
#[derive(Clone)]
pub struct TagIndex {
    backend: RedisBackend,
    namespace: Namespace,
    policy: Policy,
}

/// Every key is indexed for so much longer than it was said to live: its put may take a while to land.
const SLACK: Duration = Duration::from_secs(60);
/// How many keys of an index are asked for at a time.
const KEYS_PER_PAGE: usize = 500;
/// How many keys one run of a script forgets.
const KEYS_PER_SCRIPT: usize = 250;

impl TagIndex {
    /// The index of `namespace` in the server of `backend`, if that keeps what it is given.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the server evicts keys of all kinds, or does not say whether it does (then see
    /// [`open_unchecked`](TagIndex::open_unchecked)); else as any other operation.
    pub async fn open(backend: &RedisBackend, namespace: &Namespace) -> Result<Self> {
        let policy = Policy::read(backend).await?;
        Ok(Self { backend: backend.clone(), namespace: namespace.clone(), policy })
    }

    /// As [`open`](TagIndex::open) for a server that hides its settings, at the caller's word that its
    /// `maxmemory-policy` is not one of `allkeys-…`. Asks nothing.
    pub fn open_unchecked(backend: &RedisBackend, namespace: &Namespace) -> Self {
        Self { backend: backend.clone(), namespace: namespace.clone(), policy: Policy::EvictsVolatile }
    }

    /// Notes that `key` has `tags` for the next `ttl`, in one round trip. Before the put, under its lease or hold;
    /// again when the life of the value is prolonged. Adding it again never shortens its time.
    ///
    /// # Errors
    /// Unavailable or timeout. It may have been noted for some of the tags: harmless. Nothing is to be stored.
    pub async fn add(&self, tags: &Tags, key: &Key, ttl: Duration) -> Result<()> {
        let indexes: Vec<Vec<u8>> = tags.iter().map(|tag| self.name(tag)).collect();
        let time = millis(ttl.saturating_add(SLACK)).to_string();
        let ends = if self.policy == Policy::KeepsAll { "1" } else { "0" };
        let arguments: [&[u8]; 3] = [key.as_bytes(), time.as_bytes(), ends.as_bytes()];
        let command = |by, index: &Vec<u8>| script::INDEX_ADD.command(by, &[index], &arguments);
        let link = self.backend.link_aside();
        let added = link.within_deadline(scan::run_each(link, &indexes, command)).await;
        added.map(drop).map_err(|fault| self.backend.error(fault, "redis index add", key))
    }

    /// The keys that have `tag`, a page at a time.
    pub fn keys(&self, tag: &Tag) -> TagKeys {
        TagKeys { walk: Walk::new(self, tag) }
    }

    /// Removes every key that has `tag`, with its leases, a page at a time. A key that has the tag from the first
    /// step to the last is removed.
    pub fn remove_tag(&self, tag: &Tag) -> TagRemoval {
        TagRemoval { walk: Walk::new(self, tag) }
    }

    /// No namespace has a `!`, so no key and no token has such a name.
    fn name(&self, tag: &Tag) -> Vec<u8> {
        let namespace = self.namespace.as_str().as_bytes();
        [self.backend.key_prefix(), namespace, b"!", tag.as_bytes()].concat()
    }
}

impl fmt::Debug for TagIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TagIndex")
            .field("backend", &self.backend)
            .field("namespace", &self.namespace)
            .field("policy", &self.policy)
            .finish()
    }
}

/// The keys that have a tag, from [`TagIndex::keys`]: those that were added and whose time is not over. What they
/// were added for may be gone sooner, or not have come. A key that has the tag throughout is seen at least once.
#[derive(Debug)]
#[must_use = "nothing is asked before the first page"]
pub struct TagKeys {
    walk: Walk,
}

impl TagKeys {
    /// The next page, perhaps empty; `None` after the last.
    ///
    /// # Errors
    /// Unavailable or timeout. May be called again, and goes on where it was.
    pub async fn next(&mut self) -> Result<Option<Vec<Key>>> {
        let Some(from) = self.walk.next else { return Ok(None) };
        let link = self.walk.backend.link_aside();
        let outcome = link.within_deadline(self.walk.page(from)).await;
        let page = outcome.map_err(|fault| self.walk.error(fault, "redis index keys"))?;
        self.walk.next = page.next;
        let live = page.members.into_iter().filter(|member| member.ends > page.now_ms as f64);
        Ok(Some(live.map(|member| Key::new(member.key)).collect()))
    }
}

/// The removal of all keys that have a tag, from [`TagIndex::remove_tag`].
#[derive(Debug)]
#[must_use = "nothing is removed before the first step"]
pub struct TagRemoval {
    walk: Walk,
}

impl TagRemoval {
    /// Removes a page of keys, as [`remove`](cachalot_core::Backend::remove) each, and gives the number of those
    /// that were there; `None` when there are no more.
    ///
    /// # Errors
    /// Unavailable or timeout. May be called again, and goes on where it was.
    pub async fn next(&mut self) -> Result<Option<u64>> {
        let Some(from) = self.walk.next else { return Ok(None) };
        let link = self.walk.backend.link_aside();
        let outcome = link.within_deadline(self.walk.remove_page(from)).await;
        let (removed, next) = outcome.map_err(|fault| self.walk.error(fault, "redis index remove_tag"))?;
        self.walk.next = next;
        Ok(Some(removed))
    }

    /// All steps that are left, and how many keys they removed.
    ///
    /// # Errors
    /// As [`next`](TagRemoval::next). May be called again, and goes on where it was.
    pub async fn finish(&mut self) -> Result<u64> {
        let mut removed = 0;
        while let Some(more) = self.next().await? {
            removed += more;
        }
        Ok(removed)
    }
}

/// A way over the index of one tag.
#[derive(Debug)]
struct Walk {
    backend: RedisBackend,
    index: Vec<u8>,
    tag: Tag,
    next: Option<Place>,
}

struct Page {
    members: Vec<Member>,
    now_ms: u64,
    next: Option<Place>,
}

/// A key, and the end of its time as the server wrote and as we read it.
struct Member {
    key: Vec<u8>,
    score: Vec<u8>,
    ends: f64,
}

impl Walk {
    fn new(index: &TagIndex, tag: &Tag) -> Self {
        Self {
            backend: index.backend.clone(),
            index: index.name(tag),
            tag: tag.clone(),
            next: Some(Place::START),
        }
    }

    fn error(&self, fault: Fault, operation: &'static str) -> Error {
        fault.into_error(operation, self.backend.node()).key(self.tag.as_bytes())
    }

    async fn page(&self, from: Place) -> Result<Page, Fault> {
        let mut scan = Cmd::new();
        scan.arg("ZSCAN").arg(&self.index).arg(from.cursor()).arg("COUNT").arg(KEYS_PER_PAGE);
        match scan::page(self.backend.link_aside(), &scan, from).await? {
            Scanned::Anew => Ok(Page { members: Vec::new(), now_ms: 0, next: Some(Place::START) }),
            Scanned::Page { items, now_ms, next } => Ok(Page { members: members(items)?, now_ms, next }),
        }
    }

    /// First the values, then what the index knows of them: who breaks off in between has lost nothing.
    async fn remove_page(&self, from: Place) -> Result<(u64, Option<Place>), Fault> {
        let Page { members, next, .. } = self.page(from).await?;
        let names: Vec<Vec<u8>> = members
            .iter()
            .map(|member| self.backend.name(&Key::new(member.key.clone())).into_owned())
            .collect();
        let link = self.backend.link_aside();
        let removed = remove(link, &names).await?;
        let chunks: Vec<&[Member]> = members.chunks(KEYS_PER_SCRIPT).collect();
        let forget = |by, chunk: &&[Member]| {
            let pairs: Vec<&[u8]> = chunk.iter().flat_map(|member| [&*member.key, &*member.score]).collect();
            script::INDEX_FORGET.command(by, &[&self.index], &pairs)
        };
        scan::run_each(link, &chunks, forget).await?;
        Ok((removed, next))
    }
}

fn members(items: Vec<Value>) -> Result<Vec<Member>, Fault> {
    let mut items = items.into_iter();
    let mut members = Vec::with_capacity(items.len() / 2);
    while let (Some(key), Some(score)) = (items.next(), items.next()) {
        let (Value::BulkString(key), Value::BulkString(score)) = (key, score) else {
            return Err(Fault::Garbled("ZSCAN answered no member"));
        };
        let ends = std::str::from_utf8(&score).ok().and_then(|score| score.parse().ok());
        let ends = ends.ok_or(Fault::Garbled("ZSCAN answered no score"))?;
        members.push(Member { key, score, ends });
    }
    Ok(members)
}
