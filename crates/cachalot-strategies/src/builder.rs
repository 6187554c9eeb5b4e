//! Building a cache.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cachalot_core::codec::MsgPack;
use cachalot_core::units::{millis, minutes, seconds};
use cachalot_core::{
    Backend, Bus, CacheKey, Clock, Codec, Entropy, EntryOptions, Error, ErrorKind, Namespace, Observer,
    Pattern, Result, Spawn, Store, TagIndexBackend, Ttl,
};
use cachalot_invalidation::{Deferred, Seen};
use cachalot_stampede::{ErrorBackoff, Failures, Flights, RefreshBudget, XFetch};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::Bounds;
use crate::bounded::Bounded;
use crate::cache::Cache;
use crate::dependencies::{self, Dependencies};
use crate::early::{Early, Refresh, RefreshMode};
use crate::engine::{Engine, OnDeserted, Times};
use crate::failover::Memo;
use crate::fleet::{Fleet, Membership, Pending};
use crate::index::Index;
use crate::load::TagOf;
use crate::membership::Wish;
use crate::names::Names;
use crate::replay::Missed;
use crate::shared::Shared;
use crate::spawn::TokioSpawn;
use crate::sweep;
use crate::versions::Versions;

/// See [`CacheBuilder::backend_timeout`].
const BACKEND_TIMEOUT: Duration = seconds(2);

/// Builds a [`Cache`]. Only [`memory`](CacheBuilder::memory) must be set.
#[must_use = "a builder does nothing until `build`"]
pub struct CacheBuilder<K, V, S: Store<K, V>> {
    name: String,
    memory: Option<S::Config>,
    backend: Option<Below<K, V>>,
    bus: Option<Arc<dyn Bus>>,
    heartbeat: Duration,
    is_clearable: bool,
    is_versioned: bool,
    replay_window: Duration,
    deferred_limit: usize,
    tag_of: Option<TagOf<K>>,
    index: Option<Arc<dyn TagIndexBackend>>,
    names: Option<fn(Namespace) -> Names<K>>,
    codec: Option<Arc<dyn Codec<V>>>,
    schema: Option<u32>,
    memory_ttl: Option<Duration>,
    options: EntryOptions,
    hard_timeout: Duration,
    max_flight_age: Option<Duration>,
    on_deserted: OnDeserted,
    backend_timeout: Option<Duration>,
    early: Asked,
    refresh_mode: RefreshMode,
    refresh_budget: Option<(u32, u32)>,
    error_backoff: (Duration, Duration),
    lease_term: Option<Duration>,
    hold_term: Duration,
    batch: Bounds,
    clock: Clock,
    entropy: Entropy,
    spawn: Arc<dyn Spawn>,
    observer: Option<Arc<dyn Observer>>,
    pub(crate) membership: Wish,
}

/// When early refreshes are asked for; not checked yet.
#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Never,
    XFetch { beta: f64 },
    Ratio(f64),
}

/// A shared tier and what only it asks of keys and values.
struct Below<K, V> {
    backend: Arc<dyn Backend>,
    names: fn(Namespace) -> Names<K>,
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
            bus: None,
            heartbeat: seconds(2),
            is_clearable: false,
            is_versioned: false,
            replay_window: minutes(1),
            deferred_limit: 1 << 16,
            tag_of: None,
            index: None,
            names: None,
            codec: None,
            schema: None,
            memory_ttl: None,
            options: EntryOptions::default(),
            hard_timeout: seconds(30),
            max_flight_age: None,
            on_deserted: OnDeserted::default(),
            backend_timeout: None,
            early: Asked::Never,
            refresh_mode: RefreshMode::default(),
            refresh_budget: None,
            error_backoff: (Duration::ZERO, Duration::ZERO),
            lease_term: None,
            hold_term: seconds(5),
            batch: Bounds { size: 1000, concurrency: 4 },
            clock: Clock::system(),
            entropy: Entropy::thread(),
            spawn: Arc::new(TokioSpawn),
            observer: None,
            membership: Wish::default(),
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
        self.backend =
            Some(Below { backend: Arc::new(backend), names: Names::new, codec: Arc::new(MsgPack) });
        self.names = Some(Names::new);
        self
    }

    /// The bus on which processes tell each other what they have invalidated. Default: none; then a copy in
    /// memory lives for [`memory_ttl`](CacheBuilder::memory_ttl) at most, and nobody is told.
    ///
    /// With one, memory keeps copies for as long as values live, and gives up what others invalidate as soon as
    /// it hears of it. Whatever the bus loses is noticed, at the latest by the
    /// [`heartbeat`](CacheBuilder::heartbeat) after, and then nothing in memory is trusted: each key that is read
    /// is looked up in the shared tier once, or loaded. As long as the subscription does not stand, memory
    /// serves nothing.
    ///
    /// The cache must be built within its runtime: two tasks begin, and end when the cache is gone. A cache
    /// that others read from says goodbye in [`shutdown`](crate::Cache::shutdown), and when its last handle is
    /// dropped; one that falls silent without it is a gap for all others.
    pub fn bus(mut self, bus: impl Bus) -> Self
    where
        K: CacheKey,
    {
        self.bus = Some(Arc::new(bus));
        self.names = Some(Names::new);
        self
    }

    /// Makes [`clear`](crate::Cache::clear) one step of the shared tier, however much is there. Each entry carries
    /// one tag more, and each read of one key in the shared tier asks what it stands at, in the same round trip; a
    /// read of many keys asks afterwards, in one more. What was stored by a cache that is not built so is a miss. Default: `clear` walks the shared tier.
    pub fn clearable(mut self) -> Self {
        self.is_clearable = true;
        self
    }

    /// Gives entries versions: the source's own count of the changes of each row, say. What is known to be older than
    /// another version of its key is not stored, whoever brings it and however late: an
    /// [insert](crate::Cache::insert) ([`EntryOptions::version`]) or a load ([`Load::version`](crate::Load::version)).
    /// [`remove_older`](crate::Cache::remove_older) ends what is older than a version, also what is yet to come.
    ///
    /// t = 0 row 7 is at version 4, and cached · t = 1 s it is changed to 5, whose insert is delayed on its way · t = 2 s
    /// it is changed to 6: insert of 6, stored · t = 3 s the insert of 5 arrives: outdated, 6 stays · t = 4 s the row is
    /// changed to 7, and `remove_older(7)` ends 6 · t = 5 s a load from a lagging replica gives 6: its caller gets it,
    /// no tier keeps it · t = 6 s a load gives 7, which is kept.
    ///
    /// How new a version is known for as long as entries of the default options are kept, never less than a load
    /// may run, and as long as the entry that it came with. In a shared tier that is a small record beside each
    /// key: one round trip more for each load, two for each insert. Reads cost nothing. While the shared tier
    /// cannot be asked, what this process knows counts; so it does without one, of the last million keys.
    ///
    /// Versions never go down: give the cache another name if the source begins to count anew. What has no version
    /// is older than all that have one. All processes should be built so: others do not ask. Default: none.
    pub fn versioned(mut self) -> Self {
        self.is_versioned = true;
        self
    }

    /// How far back invalidations are done again when another server of the shared tier answers than before, or it
    /// has started anew: longer than its replicas lag and a fail-over takes to be noticed. At most 16,384 are kept;
    /// beyond, such a change clears the cache. As long as there is any, the shared tier is looked at once a second, and
    /// while a part of it does not answer the time stands still: however long an outage, what comes back is taken to know
    /// nothing of it.
    /// Default: 1 min. Zero: what a server forgets may come back, until its TTL.
    pub fn replay_window(mut self, window: Duration) -> Self {
        self.replay_window = window;
        self
    }

    /// How many invalidations are kept one by one while the shared tier cannot be reached, each key, tag and
    /// pattern once. One more, and a [`clear`](crate::Cache::clear) takes the place of all: until it has been
    /// replayed, nothing is read from the shared tier and nothing is kept, and then the whole cache is cleared, here
    /// and elsewhere. Of [versions](crate::Cache::remove_older) that waited, only this process knows then. At least 1. Default: 65,536, of some 200 bytes and the key.
    ///
    /// t = 0 the shared tier is cut off, limit 1,000 · t = 10 s the 1,000th key is removed: these keys are loaded
    /// each time they are asked for, all others are kept in memory · t = 11 s the 1,001st: so is every key that is
    /// not in memory yet · t = 60 s the tier is back and is cleared, and everybody is told.
    pub fn deferred_limit(mut self, invalidations: usize) -> Self {
        self.deferred_limit = invalidations;
        self
    }

    /// Lets entries depend on other keys of the cache, by [`View::depends_on`](crate::View::depends_on) and
    /// [`Load::depends_on`](crate::Load::depends_on): such an entry ends when that key is removed, expired or
    /// replaced by an insert, in every tier and process, with all that is promised of a tag; and by any
    /// [`remove_pattern`](crate::Cache::remove_pattern), since which keys that matches is not known. All
    /// processes of the cache must be built so. Default: off.
    ///
    /// t = 0 the page of user 7 is loaded, which depends on user 7, and the list of pages, which depends on the
    /// page · t = 10 s user 7 is removed: the page ends, the list does not · t = 20 s the page is asked for, loaded
    /// anew and kept · t = 30 s the page is removed, or inserted: the list ends.
    ///
    /// *Not further than one step*: name every key that an entry is made of, not only the nearest. Keys may depend
    /// on each other, or on themselves: nothing runs in circles. That a key's TTL is over, or that it is loaded
    /// anew, ends nothing: what depends on it has a TTL too. Keys of another cache have tags for that.
    ///
    /// *What the loader reads of the parent* must be as new as its removal: from the source. Through the cache it is
    /// so in the process that removes, and wherever its message has come; elsewhere a copy in memory may be read
    /// that is removed already, and what is made of it then lives until its TTL.
    ///
    /// *Costs*: one round trip more for each removal, expiry or insert of a key, one more in all for a
    /// [`remove_many`](crate::Cache::remove_many) of up to 1,000; one more for a hit in the shared tier of an entry
    /// that depends on something, as for tags. An invalidation that the shared tier cannot take waits
    /// as two. Refused over a shared tier without tags, and over one that keeps
    /// [bare values](cachalot_core::BackendInfo::bare).
    pub fn dependencies(mut self) -> Self
    where
        K: CacheKey,
    {
        self.tag_of = Some(dependencies::tag_of);
        self.names = Some(Names::new);
        self
    }

    /// Keeps an index of the keys that have a tag, over Redis a `TagIndex`: what has a removed tag is deleted from the
    /// shared tier in the background instead of being left to end unread, and
    /// [`keys_of_tag`](crate::Cache::keys_of_tag) lists the keys. Whether an entry is good is not asked there.
    /// Default: none.
    ///
    /// t = 0 a million entries have a tag, TTL 1 h · t = 1 min the tag is removed: none is served from now on, and
    /// the deletion begins, a page at a time · without an index: each stays until it is asked for, evicted, or an
    /// hour old.
    ///
    /// *Costs*: one round trip more for each value with tags that is stored; if the index does not take it, the value
    /// is not stored in the shared tier. What is stored anew under a removed tag while its keys are being deleted, may be deleted too: one
    /// load more. Of more than 1,024 tags that wait for it, the keys are not deleted. The index knows what is stored in
    /// the shared tier by caches that have it. An invalidation in memory alone needs none, and one that is
    /// [deferred](crate::Removal::Deferred) leaves what is there to its end.
    ///
    /// Refused without a shared tier, and if it is another cache's.
    pub fn tag_index(mut self, index: impl TagIndexBackend) -> Self {
        self.index = Some(Arc::new(index));
        self
    }

    /// How often this cache says on the bus that it is there, and how much it has sent. Default: 2 s. A message
    /// that is lost is noticed by then; a cache that was not heard for four and a half times as long counts as gone. All
    /// processes should use the same.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
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
    /// that another process has removed. Default: 10 s; with a [`bus`](CacheBuilder::bus), as long as the value
    /// lives, unless the tier keeps [bare values](cachalot_core::BackendInfo::bare). Zero: memory keeps no copy. `Duration::MAX`: as long
    /// as the value lives. Refused without a shared tier.
    pub fn memory_ttl(mut self, ttl: Duration) -> Self {
        self.memory_ttl = Some(ttl);
        self
    }

    /// Time from the end of a load to soft expiry. Default: 1 h ± 10 %. Zero: do not store.
    pub fn ttl(self, ttl: impl Into<Ttl>) -> Self {
        self.options(|options| options.ttl(ttl))
    }

    /// How old a value may get whose life reads prolong: for a [`Sliding`](crate::Sliding) over this cache. The
    /// [`ttl`](CacheBuilder::ttl) then counts from the last read that prolonged it; whatever is read, nothing is
    /// served that was loaded longer ago than this. Default: none, and no read prolongs anything.
    ///
    /// t = 0 loaded, TTL 30 min, maximum age 12 h · read every few minutes: served from the cache until t = 12 h, then
    /// loaded anew · read at t = 20 min and not again: gone at t = 50 min.
    ///
    /// Not together with stale windows or early refreshes; processes that share values should agree on it.
    pub fn max_age(self, age: Duration) -> Self {
        self.options(|options| options.max_age(age))
    }

    /// TTL of "known to be absent". Default: none, absence is not cached.
    ///
    /// t = 0 the loader says that there is none, negative TTL 10 s · t = 9 s known to be absent, no load ·
    /// t = 10 s a load; it gives a value, which is kept for the TTL of values.
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

    /// An upper bound on how stale a served value may be, whatever fails. Default: none but the windows. A call
    /// may have one of its own, through [`with`](crate::Cache::with).
    ///
    /// t = 0 loaded, TTL 60 s, windows 600 s and 1 h, bound 20 s · t = 80 s served stale while it is refreshed;
    /// that fails · t = 81 s a load, which fails: its error · without the bound: the old value.
    pub fn max_stale(self, bound: Duration) -> Self {
        self.options(|options| options.max_stale(bound))
    }

    /// How long a caller waits for a load while an old value is at hand that
    /// [`stale_if_error`](CacheBuilder::stale_if_error) would let it have; then it is served that value, and
    /// the load goes on and fills the cache. With nothing at hand it waits on. A value that was invalidated by
    /// [`expire`](crate::Cache::expire) is not served so. Default: none, callers wait for the load.
    ///
    /// t = 0 loaded, TTL 60 s, stale if error 1 h, soft timeout 100 ms · t = 70 s a load runs, which will take
    /// 5 s · t = 70.1 s its callers get the old value, as does who comes at 71 s, 100 ms later · t = 75 s the
    /// load has landed, fresh.
    pub fn soft_timeout(self, timeout: Duration) -> Self {
        self.options(|options| options.soft_timeout(timeout))
    }

    /// Refreshes a value before its TTL is over, by chance: the more likely, the longer its load takes and the
    /// nearer its end is (XFetch). A key that is read often is refreshed in time, once in this process and,
    /// over a shared tier with leases, once in the fleet; its readers never wait. `beta`: eagerness, usually
    /// 1.0; more is earlier, zero is never. Default: off. Takes the place of
    /// [`early_refresh`](CacheBuilder::early_refresh).
    ///
    /// t = 0 loaded in 1 s, TTL 60 s, beta 1 · t = 40 s no read refreshes · t = 57 s each read does with a
    /// chance of exp(−3) = 5 %; the one that does gets the old value as all others, and a load begins ·
    /// t = 58 s it has landed: the next end is 60 s away.
    ///
    /// Values that were inserted have no load time and are not refreshed early, nor are absences.
    /// Source: Vattani, Chierichetti, Lowenstein, PVLDB 8(8), 2015.
    pub fn xfetch(mut self, beta: f64) -> Self {
        self.early = Asked::XFetch { beta };
        self
    }

    /// Refreshes a value on the first read after this share of its TTL, above 0 and below 1. Default: off.
    /// Takes the place of [`xfetch`](CacheBuilder::xfetch).
    ///
    /// t = 0 loaded, TTL 60 s, ratio 0.9 · t = 53 s fresh · t = 55 s fresh, and one refresh begins · t = 56 s it
    /// has landed: fresh until 116 s · not read between 54 s and 60 s: a miss then.
    pub fn early_refresh(mut self, ratio: f64) -> Self {
        self.early = Asked::Ratio(ratio);
        self
    }

    /// Whether the caller whose read starts an early refresh waits for it. Default: it does not. What is found
    /// near its end in the shared tier is refreshed in the background either way.
    pub fn refresh_mode(mut self, mode: RefreshMode) -> Self {
        self.refresh_mode = mode;
        self
    }

    /// Bounds the early refreshes of this cache, all keys together: `per_second`, and up to `burst` at once
    /// after a rest. Without a token no refresh begins before its value is stale. Default: no bound.
    ///
    /// t = 0 a million values loaded, ratio 0.9, budget 100 a second, burst 10 · t = 54 s all are read: 10
    /// refreshes begin, 1 more each 10 ms · t = 60 s what is left is loaded as it is asked for.
    pub fn refresh_budget(mut self, per_second: u32, burst: u32) -> Self {
        self.refresh_budget = Some((per_second, burst));
        self
    }

    /// How long a key is not loaded after its load has failed: `first` after the first failure, twice as long
    /// after each further one in a row, at most `cap`, each pause shortened by up to a half at random. Meanwhile
    /// its callers get at once what another process may have stored, the old value if
    /// [`stale_if_error`](CacheBuilder::stale_if_error) or
    /// [`stale_while_revalidate`](CacheBuilder::stale_while_revalidate) lets them, or else the failure, which
    /// tells when the pause ends ([`LoadError::retry_at`](cachalot_core::LoadError::retry_at)). A removal, an
    /// insert or an expiry of the key ends it. Of at most 10,000 keys. Default: zero, a failure is not
    /// remembered.
    ///
    /// t = 0 a load fails, backoff 4 s to 30 s: its callers get the error · t = 1 s the same error, no load ·
    /// t = 2 to 4 s, as drawn, the next caller loads; it fails again: no load for 4 to 8 s · the next that
    /// succeeds ends it.
    pub fn error_backoff(mut self, first: Duration, cap: Duration) -> Self {
        self.error_backoff = (first, cap);
        self
    }

    /// How long callers wait for a load; then they get a timeout, or the old value where
    /// [`stale_if_error`](CacheBuilder::stale_if_error) lets them. Default: 30 s.
    ///
    /// The load ends then too, unless [`max_flight_age`](CacheBuilder::max_flight_age) lets it go on.
    ///
    /// t = 0 a load begins and hangs, hard timeout 1 s · t = 1 s its callers get a timeout and it is dropped; who
    /// comes next loads.
    ///
    /// A caller may wait longer: while another process has the lease, up to twice
    /// [`lease_term`](CacheBuilder::lease_term) before the load starts here.
    pub fn hard_timeout(mut self, timeout: Duration) -> Self {
        self.hard_timeout = timeout;
        self
    }

    /// How long a load may run; then its future is dropped, the next caller loads anew, and nothing of it is
    /// stored. Not below the hard timeout. Default: the hard timeout.
    ///
    /// t = 0 a load begins, hard timeout 1 s, flight age 10 s · t = 1 s its callers get a timeout, and who comes
    /// from then on at once, without a load of its own · t = 3 s it ends after all, and fills the cache · had it
    /// hung: t = 10 s it is dropped, the next caller loads.
    ///
    /// A load that blocks its thread cannot be dropped: it is overtaken by the first caller after this time
    /// (over a shared tier: and the time it may have waited for a lease), and what it gives is not stored.
    pub fn max_flight_age(mut self, age: Duration) -> Self {
        self.max_flight_age = Some(age);
        self
    }

    /// What becomes of a load when its last caller has gone. Default: it is finished.
    ///
    /// t = 0 a load of 5 s begins · t = 1 s its only caller leaves · `Finish`: t = 5 s the cache is filled ·
    /// `Cancel`: the loader's future is dropped at t = 1 s and the lease given back, the next caller loads.
    pub fn on_deserted(mut self, policy: OnDeserted) -> Self {
        self.on_deserted = policy;
        self
    }

    /// How long one operation of the shared tier may take; then it counts as failed, and a read goes on
    /// without the tier. A net below the deadline that a backend has of its own, and longer. Default: 2 s.
    /// Refused without a shared tier.
    pub fn backend_timeout(mut self, timeout: Duration) -> Self {
        self.backend_timeout = Some(timeout);
        self
    }

    /// How long this process may hold the right to load a key that others wait for. If it dies, they go on
    /// after this. Not below the flight age: a load that outlives its lease is done twice. Default: the
    /// [`max_flight_age`](CacheBuilder::max_flight_age).
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

    /// How many keys one loader call of [`get_many_or_load`](Cache::get_many_or_load) is given at most; what
    /// is missing beyond goes to further calls. At least 1. Default: 1,000.
    pub fn batch_size(mut self, keys: usize) -> Self {
        self.batch.size = keys;
        self
    }

    /// How many loader calls of one [`get_many_or_load`](Cache::get_many_or_load) run at once at most. The
    /// others wait for their turn before they ask for their leases; the hard timeout of each begins when it
    /// runs. At least 1. Default: 4.
    pub fn batch_concurrency(mut self, calls: usize) -> Self {
        self.batch.concurrency = calls;
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
        let (times, refresh) = (self.times(), self.refresh()?);
        let max_age = self.options.max_age;
        if max_age.is_some() {
            self.check_sliding(&refresh)?;
        }
        let failures = match self.error_backoff {
            (Duration::ZERO, _) => None,
            (first, cap) => Some(ErrorBackoff::new(first, cap)?),
        };
        let Some(memory) = self.memory else {
            return refuse("no memory tier: call `memory`");
        };
        let speaks_of_shared = self.codec.is_some()
            || self.schema.is_some()
            || self.memory_ttl.is_some()
            || self.backend_timeout.is_some();
        if self.backend.is_none() && speaks_of_shared {
            return refuse(
                "`codec`, `schema`, `memory_ttl` and `backend_timeout` speak of a shared tier: call `backend`",
            );
        }
        if times.max_flight_age < times.hard_timeout {
            return refuse("`max_flight_age` is below `hard_timeout`: nobody would wait for so long");
        }
        if times.lease_term < times.max_flight_age {
            return refuse("`lease_term` is below `max_flight_age`: a load would outlive its lease");
        }
        let backend_timeout = self.backend_timeout.unwrap_or(BACKEND_TIMEOUT);
        if times.hard_timeout.is_zero() || times.hold_term.is_zero() || backend_timeout.is_zero() {
            return refuse("a load, a hold or an operation of no time does nothing");
        }
        if self.batch.size == 0 || self.batch.concurrency == 0 {
            return refuse("a batch of no keys or of no calls loads nothing");
        }
        let bare = self.backend.as_ref().and_then(|below| below.backend.info().bare);
        // Whoever writes bare values need not tell anybody.
        let usual = if self.bus.is_some() && bare.is_none() { Duration::MAX } else { seconds(10) };
        let memory_ttl = self.memory_ttl.unwrap_or(usual);
        let names = self.names.map(|names| names(namespace.clone()));
        let fleet = self.bus.map(|bus| {
            let (clock, entropy) = (self.clock.clone(), self.entropy.clone());
            Membership(Arc::new(Fleet::new(bus, namespace.clone(), self.heartbeat, clock, entropy)))
        });
        let trusted = Arc::new(AtomicU64::new(0));
        let shared = match self.backend {
            None => None,
            Some(below) => {
                let codec = self.codec.unwrap_or(below.codec);
                if codec.needs_schema() && self.schema.is_none() {
                    return refuse("this codec decodes moved fields to garbage: declare a `schema`");
                }
                if bare.is_some_and(|id| id != codec.id()) {
                    return refuse("the shared tier keeps bare values of another `codec`");
                }
                if bare.is_some() && self.schema.is_some() {
                    return refuse("the shared tier keeps bare values, which cannot say their `schema`");
                }
                if bare.is_some() && self.tag_of.is_some() {
                    return refuse("the shared tier keeps bare values, which cannot say what they depend on");
                }
                if bare.is_some() && self.is_clearable {
                    return refuse("`clearable` needs a shared tier whose values say which tags they have");
                }
                let (schema, early) = (self.schema.unwrap_or(0), refresh.early);
                trusted.store(below.backend.incarnation(), Ordering::SeqCst);
                let backend = Arc::new(Bounded::new(below.backend, backend_timeout, trusted.clone()));
                let names = (below.names)(namespace.clone());
                Some(Shared {
                    backend,
                    codec,
                    names,
                    schema,
                    memory_ttl,
                    early,
                    max_age,
                    is_bare: bare.is_some(),
                })
            }
        };
        let has_tags = shared.as_ref().is_some_and(|shared| shared.backend.tags().is_some());
        if self.is_clearable && shared.is_some() && !has_tags {
            return refuse("`clearable` needs a shared tier with tags");
        }
        if self.index.is_some() && !has_tags {
            return refuse("`tag_index` needs a shared tier with tags");
        }
        if self.index.as_ref().is_some_and(|index| *index.namespace() != namespace) {
            return refuse("`tag_index` is given the index of another cache");
        }
        if self.tag_of.is_some() && shared.is_some() && !has_tags {
            return refuse("`dependencies` needs a shared tier with tags");
        }
        let is_clearable = self.is_clearable && has_tags;
        if self.deferred_limit == 0 {
            return refuse("`deferred_limit` is zero: each removal that has to wait would clear the cache");
        }
        let all = Pattern::any().within(&namespace);
        let deferred =
            Deferred::bounded(self.deferred_limit, sweep::name_of_pattern(&namespace, &all), Missed::All);
        let bound = shared.as_ref().map(|shared| shared.backend.clone());
        let own = fleet.as_ref().map(|fleet| fleet.0.own());
        let membership = self.membership.grant(bound, own, &namespace)?;
        let keeps_none = |shared: &Shared<K, V>| shared.backend.versions().is_none();
        if self.is_versioned && shared.as_ref().is_some_and(keeps_none) {
            return refuse("`versioned` needs a shared tier that keeps versions");
        }
        // Nothing refuses any more: who is not built waits for nothing.
        shared.iter().for_each(|shared| shared.backend.bound(backend_timeout));
        let turns = shared.as_ref().map_or(0, |shared| shared.backend.turns());
        let versions = self.is_versioned.then(|| Versions::new(&times, &self.options));
        Ok(Cache::over(Engine {
            name: self.name.into(),
            store: S::open(memory, self.clock.clone())?,
            flights: Flights::new(),
            inserts: Flights::new(),
            failures: failures.map(Failures::new),
            refresh,
            shared,
            deferred,
            pending: Default::default(),
            names,
            namespace,
            unswept: Pending::of_all_patterns(),
            fleet,
            membership,
            leases_ended: Default::default(),
            memo: Memo::new(trusted, turns, self.replay_window),
            me: Weak::new(),
            seen: Seen::new(),
            epoch: Default::default(),
            dependencies: self.tag_of.map(Dependencies::new),
            index: self.index.map(Index::new),
            is_clearable,
            versions,
            everything: Default::default(),
            options: self.options,
            times,
            batch: self.batch,
            clock: self.clock,
            entropy: self.entropy,
            spawn: self.spawn,
            counters: Default::default(),
            observer: self.observer,
            tasks: Default::default(),
        }))
    }

    fn times(&self) -> Times {
        let max_flight_age = self.max_flight_age.unwrap_or(self.hard_timeout);
        let lease_term = self.lease_term.unwrap_or(max_flight_age);
        let waits = match &self.backend {
            Some(_) => {
                lease_term.saturating_mul(2).saturating_add(self.backend_timeout.unwrap_or(BACKEND_TIMEOUT))
            }
            None => Duration::ZERO,
        };
        Times {
            hard_timeout: self.hard_timeout,
            max_flight_age,
            overtaken_after: max_flight_age.saturating_add(waits),
            on_deserted: self.on_deserted,
            lease_term,
            hold_term: self.hold_term,
        }
    }

    fn check_sliding(&self, refresh: &Refresh) -> Result<()> {
        let refuse =
            |detail: &'static str| Err(Error::new(ErrorKind::Config, "building a cache").detail(detail));
        let EntryOptions { max_age, stale_while_revalidate, stale_if_error, .. } = &self.options;
        if max_age.is_none_or(|age| age < millis(1) || age == Duration::MAX) {
            return refuse("`max_age` is to be an age that something can reach");
        }
        if !stale_while_revalidate.is_zero() || !stale_if_error.is_zero() {
            return refuse("with `max_age` nothing is served stale: what is not read ends");
        }
        if !matches!(refresh.early, Early::Never) {
            return refuse("with `max_age` nothing is refreshed early: a read prolongs what is there");
        }
        if self.backend.as_ref().is_some_and(|below| below.backend.info().bare.is_some()) {
            return refuse("the shared tier keeps bare values, which cannot say their `max_age`");
        }
        Ok(())
    }

    fn refresh(&self) -> Result<Refresh> {
        let early = match self.early {
            Asked::Never => Early::Never,
            Asked::XFetch { beta } => Early::XFetch(XFetch::new(beta)?),
            Asked::Ratio(ratio) if ratio > 0.0 && ratio < 1.0 => Early::Ratio(ratio),
            Asked::Ratio(ratio) => {
                let detail = format!("`early_refresh` takes a share above 0 and below 1, not {ratio}");
                return Err(Error::new(ErrorKind::Config, "building a cache").detail(detail));
            }
        };
        let budget = self.refresh_budget.map(|(per_second, burst)| RefreshBudget::new(per_second, burst));
        Ok(Refresh { early, mode: self.refresh_mode, budget: budget.transpose()? })
    }

    fn options(mut self, change: impl FnOnce(EntryOptions) -> EntryOptions) -> Self {
        self.options = change(self.options);
        self
    }
}
