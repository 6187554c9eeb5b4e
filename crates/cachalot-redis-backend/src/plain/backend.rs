//! The backend of the layout: reading and invalidating.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Error, ErrorKind, Expired, Key, KeyPattern, LeaseBackend, MemberBackend, Nonce,
    Record, Removed, Result, SweepCursor, Swept, TagBackend,
};
use tokio::sync::OnceCell;

use super::{PlainForm, names, script, sweep, value};
use crate::backend::millis;
use crate::config::Limits;
use crate::fault::Fault;
use crate::incarnation::Incarnation;
use crate::link::{Again, Link, Request, Setup};
use crate::reply::Reply;
use crate::scan;
use crate::script::{By, Script};

/// A Redis server as a shared tier that services in other languages share: JSON under bare keys, locks by `SET NX`,
/// sets of keys by tag, as the common recipe has them. `docs/interop.md` says it key by key.
///
/// Made by [`RedisBuilder::plain`](crate::RedisBuilder::plain). Clones share its connections. The cache over it is
/// built with `codec(Json)`, and without `schema` and `clearable`. Key 1 of the cache `user` is `user:1`; a key
/// prefix is part of the bare key.
///
/// ```no_run
/// use cachalot_redis_backend::{PlainForm, Redis};
///
/// # async fn example() -> cachalot_core::Result<()> {
/// let layout = Redis::builder("redis://127.0.0.1:6379").plain().form(PlainForm::Stale);
/// let bus = layout.clone().bus()?;
/// let backend = layout.connect().await?;
/// # Ok(()) }
/// ```
///
/// # What holds, and what does not
///
/// Among processes of this crate an invalidation revokes what is in flight, by the lock of the key and by the tokens
/// of its tags, as in the layout of [`RedisBackend`](crate::RedisBackend). A foreigner knows neither: its `DEL`
/// and its `SETEX` revoke no lease, so a load that began before may store over them, and its own load may store over
/// ours. Then only the fence in each process, the messages that it sends, and the TTL hold.
///
/// - A lease is a lock: when its term is over it is nobody's, and stores no more.
/// - [`expire`](Backend::expire) is a removal: nothing could tell others that a value is not to be used.
/// - [`touch`](Backend::touch) prolongs the time to live, not what a wrapper says of it.
/// - [`Record::age`] is zero for what is fresh, since nothing says when it was stored.
/// - [`Record::nonce`] is made of the bytes: who stores the same again stores the same version.
/// - A key that begins with `lock:`, `tag:` or `#` is refused with [`ErrorKind::Config`], as is a value of another codec, of
///   a schema, or an absence.
/// - What cannot be read is a miss to the cache, and an event.
#[derive(Clone)]
pub struct PlainBackend {
    reads: Arc<[Link]>,
    next: Arc<AtomicUsize>,
    /// For what writes, and for batches.
    pub(super) aside: Arc<Link>,
    pub(super) limits: Arc<Limits>,
    pub(super) form: PlainForm,
    node: Arc<str>,
    incarnation: Arc<Incarnation>,
    /// Whether the server may evict the sets of tags.
    pub(super) loses_tags: Arc<OnceCell<bool>>,
}

/// How many keys one script is about.
pub(super) const KEYS_PER_SCRIPT: usize = 250;

impl PlainBackend {
    pub(super) fn new(
        setup: Setup,
        connections: usize,
        limits: Limits,
        form: PlainForm,
        node: String,
    ) -> Self {
        Self {
            reads: (0..connections).map(|_| Link::new(setup.clone())).collect(),
            next: Arc::default(),
            incarnation: setup.incarnation.clone(),
            aside: Arc::new(Link::new(setup)),
            limits: Arc::new(limits),
            form,
            node: node.into(),
            loses_tags: Arc::default(),
        }
    }

    /// Makes the first connection.
    pub(super) async fn reach(&self) -> Result<()> {
        let reached = self.reads[0].connect().await;
        reached.map_err(|fault| fault.into_error("redis connect", &self.node))
    }

    pub(super) fn link_for_reads(&self) -> &Link {
        &self.reads[self.next.fetch_add(1, Ordering::Relaxed) % self.reads.len()]
    }

    /// The bare key of `key`, if it is acceptable.
    pub(super) fn bare<'a>(&self, key: &'a Key) -> Result<Cow<'a, [u8]>> {
        let bare = names::bare(&self.limits.key_prefix, key);
        names::check(&bare).map_err(|error| error.node(&*self.node))?;
        Ok(bare)
    }

    /// The bare key of `key` and its lock, if it is acceptable.
    pub(super) fn pair(&self, key: &Key) -> Result<[Vec<u8>; 2]> {
        let bare = self.bare(key)?.into_owned();
        let lock = names::lock(&bare);
        Ok([bare, lock])
    }

    /// Refuses what is too large, before anything is sent.
    pub(super) fn check_payload(&self, operation: &'static str, key: &Key, size: usize) -> Result<()> {
        let most = self.limits.max_payload;
        if size <= most {
            return Ok(());
        }
        let detail = format!("a value of {size} bytes exceeds the limit of {most}");
        Err(Error::new(ErrorKind::Config, operation).detail(detail).key(key.as_bytes()).node(&*self.node))
    }

    pub(super) fn error(&self, fault: Fault, operation: &'static str, key: &Key) -> Error {
        fault.about(operation, &self.node, key)
    }

    pub(super) fn error_of_all(&self, fault: Fault, operation: &'static str) -> Error {
        fault.into_error(operation, &self.node)
    }

    /// Runs `script` aside.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        arguments: &[&[u8]],
        again: Again,
    ) -> Result<Reply, Fault> {
        run(&self.aside, script, keys, arguments, again).await
    }

    /// The record that a script found, from its next two answers: the value, and how long it lives.
    pub(super) fn record(&self, key: &Key, reply: &mut Reply) -> Result<Option<Record>, Fault> {
        let (bytes, left_ms) = (reply.bytes(), reply.number());
        let Some(bytes) = bytes else { return Ok(None) };
        let record = value::record(key, bytes, left_ms, reply.now_ms, self.limits.max_payload);
        record.map(Some).map_err(|_| Fault::Garbled("a value that makes no envelope"))
    }

    async fn read(&self, bare: Vec<u8>, key: &Key) -> Result<Option<Record>, Fault> {
        let mut reply = run(self.link_for_reads(), &script::READ, &[bare], &[], Again::Once).await?;
        self.record(key, &mut reply)
    }

    /// Reads what is called `bare`, in order.
    async fn read_all(&self, bare: &[Vec<u8>], keys: &[&Key]) -> Result<Vec<Option<Record>>, Fault> {
        let chunks: Vec<_> = bare.chunks(KEYS_PER_SCRIPT).collect();
        let link = if chunks.len() > 1 { &*self.aside } else { self.link_for_reads() };
        let command = |by, chunk: &&[Vec<u8>]| script::READ.command(by, chunk, &[]);
        let replies = link.within_deadline(scan::run_each(link, &chunks, command)).await?;
        let mut records = Vec::with_capacity(keys.len());
        for (mut reply, chunk) in replies.into_iter().zip(keys.chunks(KEYS_PER_SCRIPT)) {
            for key in chunk {
                records.push(self.record(key, &mut reply)?);
            }
        }
        Ok(records)
    }
}

/// Runs `script` on `link`; makes the server learn it, if it does not know it.
async fn run(
    link: &Link,
    script: &Script,
    keys: &[Vec<u8>],
    arguments: &[&[u8]],
    again: Again,
) -> Result<Reply, Fault> {
    let run = async |by| {
        let command = script.command(by, keys, arguments);
        let answer = link.exchange(Request::One(&command), again).await?;
        let era = answer.era();
        Reply::read(answer.value, era)
    };
    let work = async {
        match run(By::Hash).await {
            Err(Fault::NoScript) => run(By::Text).await,
            outcome => outcome,
        }
    };
    link.within_deadline(work).await
}

/// Removes values with their locks, in order. No deadline but the caller's.
pub(super) async fn remove(link: &Link, pairs: &[[Vec<u8>; 2]]) -> Result<Vec<Removed>, Fault> {
    let chunks: Vec<_> = pairs.chunks(KEYS_PER_SCRIPT).collect();
    let command = |by, chunk: &&[[Vec<u8>; 2]]| script::REMOVE.command(by, chunk.as_flattened(), &[]);
    let replies = scan::run_each(link, &chunks, command).await?;
    let mut removed = Vec::with_capacity(pairs.len());
    for (mut reply, chunk) in replies.into_iter().zip(chunks) {
        for _ in chunk {
            removed.push(match reply.bytes().as_deref() {
                Some(b"EXISTING") => Removed::Existing,
                Some(b"NONE") => Removed::Nothing,
                Some(b"HELD") => Removed::Held,
                _ => return reply.unknown(),
            });
        }
    }
    Ok(removed)
}

/// Keys that are acceptable, by their names, and the errors of those that are not.
struct Named<'a, N> {
    names: Vec<N>,
    keys: Vec<&'a Key>,
    refused: Vec<Option<Error>>,
}

impl<'a, N> Named<'a, N> {
    fn new(keys: &'a [Key], name: impl Fn(&'a Key) -> Result<N>) -> Self {
        let mut named = Self { names: Vec::with_capacity(keys.len()), keys: Vec::new(), refused: Vec::new() };
        for key in keys {
            match name(key) {
                Ok(name) => {
                    named.names.push(name);
                    named.keys.push(key);
                    named.refused.push(None);
                }
                Err(error) => named.refused.push(Some(error)),
            }
        }
        named
    }

    /// An answer for each key, in their order: those that came for what was acceptable, or the error of all.
    fn answer<T>(self, came: Result<Vec<T>, Fault>, error: impl Fn(Fault, &Key) -> Error) -> Vec<Result<T>> {
        let mut answers: std::vec::IntoIter<Result<T>> = match came {
            Ok(answers) => answers.into_iter().map(Ok).collect::<Vec<_>>().into_iter(),
            Err(fault) => {
                let errors = self.keys.iter().map(|key| Err(error(fault.clone(), key)));
                errors.collect::<Vec<_>>().into_iter()
            }
        };
        let answer = |refused: Option<Error>| match refused {
            Some(error) => Some(Err(error)),
            None => answers.next(),
        };
        self.refused.into_iter().map_while(answer).collect()
    }
}

#[async_trait]
impl Backend for PlainBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("redis plain", &*self.node, true).with_bare(value::JSON)
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        let bare = self.bare(key)?.into_owned();
        self.read(bare, key).await.map_err(|fault| self.error(fault, "redis plain get", key))
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        let named = Named::new(keys, |key| Ok(self.bare(key)?.into_owned()));
        let read = self.read_all(&named.names, &named.keys).await;
        named.answer(read, |fault, key| self.error(fault, "redis plain get", key))
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        let mut removed = self.remove_many(std::slice::from_ref(key)).await;
        removed
            .pop()
            .unwrap_or_else(|| Err(self.error(Fault::Garbled("no answer"), "redis plain remove", key)))
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        let named = Named::new(keys, |key| self.pair(key));
        let removed = self.aside.within_deadline(remove(&self.aside, &named.names)).await;
        named.answer(removed, |fault, key| self.error(fault, "redis plain remove", key))
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        let part = sweep::sweep(&self.aside, &self.limits.key_prefix, pattern, from);
        let error =
            |fault: Fault| self.error_of_all(fault, "redis plain sweep").key(pattern.as_pattern().as_bytes());
        self.aside.within_deadline(part).await.map_err(error)
    }

    /// A removal: a value that is there would be taken for good by others.
    async fn expire(&self, key: &Key, _keep: Duration) -> Result<Expired> {
        Ok(match self.remove(key).await? {
            Removed::Held => Expired::Held,
            Removed::Existing | Removed::Nothing => Expired::Nothing,
        })
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        let bare = [self.bare(key)?.into_owned()];
        let (nonce, ttl) = (hex(nonce.as_bytes()), millis(ttl).to_string());
        let arguments = [nonce.as_bytes(), ttl.as_bytes()];
        let touched = self.run(&script::TOUCH, &bare, &arguments, Again::Once).await;
        touched
            .map(|reply| reply.status == b"TOUCHED")
            .map_err(|fault| self.error(fault, "redis plain touch", key))
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        Some(self)
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        Some(self)
    }

    /// The layout knows none.
    fn members(&self) -> Option<&dyn MemberBackend> {
        None
    }

    fn incarnation(&self) -> u64 {
        self.incarnation.count()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl fmt::Debug for PlainBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainBackend")
            .field("node", &self.node)
            .field("form", &self.form)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
