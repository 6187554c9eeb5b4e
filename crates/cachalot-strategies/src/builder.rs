//! Building a cache.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::codec::MsgPack;
use cachalot_core::units::seconds;
use cachalot_core::{
    Backend, CacheKey, Clock, Codec, Entropy, EntryOptions, Error, ErrorKind, Key, Namespace, Observer,
    Result, Spawn, Store, Ttl,
};
use cachalot_invalidation::Deferred;
use cachalot_stampede::Flights;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::engine::{Engine, Times};
use crate::shared::Shared;
use crate::spawn::TokioSpawn;

/// Builds a [`Cache`]. Only [`memory`](CacheBuilder::memory) must be set.
#[must_use = "a builder does nothing until `build`"]
pub struct CacheBuilder<K, V, S: Store<K, V>> {
    name: String,
    memory: Option<S::Config>,
    backend: Option<Below<K, V>>,
    codec: Option<Arc<dyn Codec<V>>>,
    schema: Option<u32>,
    memory_ttl: Option<Duration>,
    options: EntryOptions,
    hard_timeout: Duration,
    lease_term: Option<Duration>,
    hold_term: Duration,
    clock: Clock,
    entropy: Entropy,
    spawn: Arc<dyn Spawn>,
    observer: Option<Arc<dyn Observer>>,
}

/// A shared tier and what only it asks of keys and values.
struct Below<K, V> {
    backend: Arc<dyn Backend>,
    key_of: fn(&Namespace, &K) -> Key,
    codec: Arc<dyn Codec<V>>,
}

impl<K, V, S> CacheBuilder<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            memory: None,
            backend: None,
            codec: None,
            schema: None,
            memory_ttl: None,
            options: EntryOptions::default(),
            hard_timeout: seconds(30),
            lease_term: None,
            hold_term: seconds(5),
            clock: Clock::system(),
            entropy: Entropy::thread(),
            spawn: Arc::new(TokioSpawn),
            observer: None,
        }
    }

    /// The memory tier, L1. Required.
    pub fn memory(mut self, config: S::Config) -> Self {
        self.memory = Some(config);
        self
    }

    /// The shared tier, L2. Default: none. Values are stored as MessagePack with field names, unless
    /// [`codec`](CacheBuilder::codec) says otherwise.
    pub fn backend(mut self, backend: impl Backend) -> Self
    where
        K: CacheKey,
        V: Serialize + DeserializeOwned,
    {
        let key_of = |namespace: &Namespace, key: &K| namespace.key(key);
        self.backend = Some(Below { backend: Arc::new(backend), key_of, codec: Arc::new(MsgPack) });
        self
    }

    /// How values are stored in the shared tier. Default: MessagePack with field names, which survives
    /// added, removed and reordered fields.
    pub fn codec(mut self, codec: impl Codec<V>) -> Self {
        self.codec = Some(Arc::new(codec));
        self
    }

    /// The schema of the values in the shared tier; raise it when old bytes must not be read as the new
    /// type. Another schema's value is a miss; an older release does not overwrite a newer one's, so a
    /// rolling deployment does not thrash. Default: 0. Required by codecs without field names.
    pub fn schema(mut self, schema: u32) -> Self {
        self.schema = Some(schema);
        self
    }

    /// How long memory may keep a copy of what the shared tier has: how long this process may serve a value
    /// that another process has removed. Default: 10 s. Zero: memory keeps no copy. `Duration::MAX`: as long
    /// as the value lives. Refused without a shared tier.
    pub fn memory_ttl(mut self, ttl: Duration) -> Self {
        self.memory_ttl = Some(ttl);
        self
    }

    /// Time from the end of a load to soft expiry. Default: 1 h ± 10 %. Zero: do not store.
    pub fn ttl(self, ttl: impl Into<Ttl>) -> Self {
        self.options(|options| options.ttl(ttl))
    }

    /// TTL of "known to be absent". Default: none, absence is not cached.
    pub fn negative_ttl(self, ttl: impl Into<Ttl>) -> Self {
        self.options(|options| options.negative_ttl(ttl))
    }

    /// How long after soft expiry a stale value is served at once while one refresh runs. Default: zero.
    ///
    /// t = 0 loaded, TTL 60 s, window 30 s · t = 59 fresh · t = 70 served stale, one refresh starts ·
    /// t = 71 the refresh has landed, fresh · untouched until t = 95: a miss.
    pub fn stale_while_revalidate(self, window: Duration) -> Self {
        self.options(|options| options.stale_while_revalidate(window))
    }

    /// How long after soft expiry a stale value is served if the load fails. Default: zero.
    ///
    /// t = 0 loaded, TTL 60 s, window 1 h · t = 70 a load runs, callers wait; it fails: the old value ·
    /// t = 3,700 a load fails: its error.
    pub fn stale_if_error(self, window: Duration) -> Self {
        self.options(|options| options.stale_if_error(window))
    }

    /// An upper bound on how stale a served value may be, whatever fails. Default: none but the windows.
    pub fn max_stale(self, bound: Duration) -> Self {
        self.options(|options| options.max_stale(bound))
    }

    /// How long a load may run; then it is given up and its callers get a timeout. Default: 30 s.
    ///
    /// A caller may wait longer: while another process has the lease, up to twice
    /// [`lease_term`](CacheBuilder::lease_term) before the load starts here.
    pub fn hard_timeout(mut self, timeout: Duration) -> Self {
        self.hard_timeout = timeout;
        self
    }

    /// How long this process may hold the right to load a key that others wait for. If it dies, they go on
    /// after this. Not below the hard timeout: a load that outlives its lease is done twice. Default: the hard
    /// timeout.
    pub fn lease_term(mut self, term: Duration) -> Self {
        self.lease_term = Some(term);
        self
    }

    /// How long an insert may keep others from storing the key, should it die midway or meet another insert
    /// of the same key. Default: 5 s.
    pub fn hold_term(mut self, term: Duration) -> Self {
        self.hold_term = term;
        self
    }

    /// What tells the time. Default: the system's clock. Waiting uses tokio's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Where randomness comes from. Default: the thread's generator and the system.
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    /// What runs background tasks. Default: the tokio runtime of the caller.
    pub fn spawn(mut self, spawn: impl Spawn) -> Self {
        self.spawn = Arc::new(spawn);
        self
    }

    /// Sees every event. Default: none.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Builds the cache.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if no memory tier is set, the options contradict each other, the name is not
    /// acceptable, or the codec needs a [`schema`](CacheBuilder::schema).
    pub fn build(self) -> Result<Cache<K, V, S>> {
        let refuse =
            |detail: &'static str| Err(Error::new(ErrorKind::Config, "building a cache").detail(detail));
        let namespace = Namespace::new(&self.name)?;
        let Some(memory) = self.memory else {
            return refuse("no memory tier: call `memory`");
        };
        if self.backend.is_none()
            && (self.codec.is_some() || self.schema.is_some() || self.memory_ttl.is_some())
        {
            return refuse("`codec`, `schema` and `memory_ttl` speak of a shared tier: call `backend`");
        }
        let times = Times {
            hard_timeout: self.hard_timeout,
            lease_term: self.lease_term.unwrap_or(self.hard_timeout),
            hold_term: self.hold_term,
        };
        if times.lease_term < times.hard_timeout {
            return refuse("`lease_term` is below `hard_timeout`: a load would outlive its lease");
        }
        if times.hard_timeout.is_zero() || times.hold_term.is_zero() {
            return refuse("a load or a hold of no time does nothing");
        }
        let memory_ttl = self.memory_ttl.unwrap_or(seconds(10));
        let shared = match self.backend {
            None => None,
            Some(below) => {
                let codec = self.codec.unwrap_or(below.codec);
                if codec.needs_schema() && self.schema.is_none() {
                    return refuse("this codec decodes moved fields to garbage: declare a `schema`");
                }
                let (backend, key_of, schema) = (below.backend, below.key_of, self.schema.unwrap_or(0));
                Some(Shared { backend, codec, namespace, key_of, schema, memory_ttl })
            }
        };
        Ok(Cache::over(Engine {
            name: self.name.into(),
            store: S::open(memory, self.clock.clone())?,
            flights: Flights::new(),
            shared,
            deferred: Deferred::new(),
            options: self.options,
            times,
            clock: self.clock,
            entropy: self.entropy,
            spawn: self.spawn,
            counters: Default::default(),
            observer: self.observer,
            tasks: Default::default(),
        }))
    }

    fn options(mut self, change: impl FnOnce(EntryOptions) -> EntryOptions) -> Self {
        self.options = change(self.options);
        self
    }
}
