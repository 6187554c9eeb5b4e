//! A backend under test, and what the cases do with it.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cachalot_core::{
    Backend, Depth, Enrolled, Entropy, Held, Key, KeyPattern, LeaseBackend, LeaseReply, ManualClock, Member,
    MemberBackend, Namespace, Nonce, PublisherId, Put, PutReply, Record, SweepCursor, TagBackend, TagToken,
    Token,
};

use futures_util::future::join_all;

use super::{LONG, MS};

/// A backend under test, a way to let time pass for it, and what must live as long as it does.
pub struct BackendSubject {
    pub(super) backend: Arc<dyn Backend>,
    time: Time,
    short: Duration,
    late: Duration,
    pub(super) sweeps: bool,
    keys: String,
    entropy: Entropy,
    keeps: Vec<Box<dyn Any + Send + Sync>>,
}

#[derive(Debug)]
enum Time {
    Manual(ManualClock),
    Real,
}

impl BackendSubject {
    /// A backend that lives in the time of `clock`, which the suite moves: lives and deadlines are tested
    /// to the millisecond.
    pub fn manual(backend: impl Backend, clock: ManualClock) -> Self {
        Self::new(Arc::new(backend), Time::Manual(clock), Duration::from_secs(10))
    }

    /// A backend that lives in real time, as one with a server does: the suite sleeps, some 30 times 150 ms
    /// in all its tests, and tests that things end, not that they end no earlier. Give it generous deadlines
    /// (30 s): one test has a thousand calls under way at once, and a busy machine may stall.
    pub fn real(backend: impl Backend) -> Self {
        Self::new(Arc::new(backend), Time::Real, Duration::from_millis(100))
    }

    /// Replaces the shortest life that the suite gives to what shall end, 100 ms in real time: for servers
    /// that count in seconds.
    #[must_use]
    pub fn lasting(mut self, short: Duration) -> Self {
        self.short = short;
        self
    }

    /// Has the suite wait so much longer, in real time, for what shall end: for servers whose terms may end late, never
    /// early.
    #[must_use]
    pub fn ending_late(mut self, late: Duration) -> Self {
        self.late = late;
        self
    }

    /// Says that the backend cannot list its keys: every sweep is held to fail with
    /// [`Unsupported`](cachalot_core::ErrorKind::Unsupported) and to remove nothing.
    #[must_use]
    pub fn without_sweeps(mut self) -> Self {
        self.sweeps = false;
        self
    }

    /// Keeps `guard` for as long as the backend is tested: a server, most likely. Guards are dropped after
    /// the backend, last come first.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any + Send + Sync) -> Self {
        self.keeps.insert(0, Box::new(guard));
        self
    }

    /// The same subject with `wrap` around its backend.
    #[must_use]
    pub fn wrapped<B: Backend>(mut self, wrap: impl FnOnce(Arc<dyn Backend>) -> B) -> Self {
        self.backend = Arc::new(wrap(self.backend));
        self
    }

    fn new(backend: Arc<dyn Backend>, time: Time, short: Duration) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            backend,
            time,
            short,
            late: Duration::ZERO,
            sweeps: true,
            keys: format!("suite:{}:{count}:", std::process::id()),
            entropy: Entropy::seeded(count),
            keeps: Vec::new(),
        }
    }

    pub(super) fn leases(&self) -> &dyn LeaseBackend {
        self.backend.leases().expect("leases, as info() says")
    }

    /// A time that the test lets pass.
    pub(super) fn short(&self) -> Duration {
        self.short
    }

    /// Whether nothing happens by time unless the test lets it pass.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.time, Time::Manual(_))
    }

    /// Lets `time` pass for the backend; in real time a little more.
    pub(super) async fn pass(&self, time: Duration) {
        match &self.time {
            Time::Manual(clock) => clock.advance(time),
            Time::Real => tokio::time::sleep(time + self.late + Duration::from_millis(30)).await,
        }
    }

    /// Lets `time` pass. Where that can be told to the millisecond, `still` is checked just before.
    pub(super) async fn pass_checking<F: Future<Output = ()>>(
        &self,
        time: Duration,
        still: impl FnOnce() -> F,
    ) {
        if self.is_exact() {
            self.pass(time - MS).await;
            still().await;
            self.pass(MS).await;
        } else {
            self.pass(time).await;
        }
    }

    /// A key of this subject alone.
    pub(super) fn key(&self, name: &str) -> Key {
        Key::new(format!("{}{name}", self.keys))
    }

    /// A namespace of this subject alone, which begins alike for names that do.
    pub(super) fn namespace(&self, name: &str) -> Namespace {
        let own = self.keys.trim_end_matches(':').replace(':', "-");
        Namespace::new(&format!("{own}-{name}")).expect("a short name")
    }

    /// Sweeps to the end, and gives the number of what was removed.
    pub(super) async fn sweep(&self, pattern: &KeyPattern) -> u64 {
        let (mut removed, mut next) = (0, Some(SweepCursor::START));
        for _ in 0..PARTS {
            let Some(from) = next else { return removed };
            let swept = self.backend.sweep(pattern, &from).await.expect("sweep");
            removed += swept.removed;
            next = swept.next;
        }
        panic!("no end after {PARTS} parts");
    }

    /// More keys than a server goes over in one part of a sweep; fewer where parts are smaller.
    pub(super) fn many(&self) -> u32 {
        if self.is_exact() { 200 } else { 2_500 }
    }

    /// Stores values under `count` numbers of `namespace`.
    pub(super) async fn store_many(&self, namespace: &Namespace, count: u32) -> Vec<Key> {
        let keys: Vec<Key> = (0..count).map(|n| namespace.key(&n)).collect();
        for some in keys.chunks(100) {
            join_all(some.iter().map(|key| self.store(key, "v"))).await;
        }
        keys
    }

    /// Stores `text` whatever is there.
    pub(super) async fn store_again(&self, key: &Key, text: &str) {
        self.backend.remove(key).await.expect("remove");
        self.store(key, text).await;
    }

    pub(super) fn tags(&self) -> &dyn TagBackend {
        self.backend.tags().expect("tags")
    }

    pub(super) fn tag_token(&self) -> TagToken {
        TagToken::draw(&self.entropy)
    }

    pub(super) async fn tag_tokens(&self, names: &[Key]) -> Vec<Option<TagToken>> {
        self.tags().tag_tokens(names).await.expect("tag_tokens")
    }

    /// Pins with tokens of its own.
    pub(super) async fn pin(&self, names: &[Key], ttl: Duration) -> Vec<TagToken> {
        let fresh: Vec<_> = names.iter().map(|_| self.tag_token()).collect();
        self.tags().pin_tags(names, &fresh, ttl).await.expect("pin_tags")
    }

    /// The tokens that it rotates to.
    pub(super) async fn rotate(&self, names: &[Key], depth: Depth) -> Vec<TagToken> {
        let fresh: Vec<_> = names.iter().map(|_| self.tag_token()).collect();
        self.tags().rotate_tags(names, &fresh, depth, LONG).await.expect("rotate_tags");
        fresh
    }

    pub(super) fn members(&self) -> &dyn MemberBackend {
        self.backend.members().expect("members")
    }

    pub(super) fn member(&self, name: &str) -> Member {
        Member::new(PublisherId::draw(&self.entropy), name)
    }

    pub(super) async fn enroll(&self, registry: &Key, member: &Member, term: Duration) -> Enrolled {
        self.members().enroll(registry, member, term).await.expect("enroll")
    }

    /// Raises the floor of this name for long.
    pub(super) async fn raise(&self, name: &str, version: u64) -> u64 {
        self.raise_for(name, version, LONG).await
    }

    pub(super) async fn raise_for(&self, name: &str, version: u64, ttl: Duration) -> u64 {
        let versions = self.backend.versions().expect("versions");
        versions.raise(&self.key(name), version, ttl).await.expect("raise")
    }

    pub(super) fn token(&self) -> Token {
        Token::draw(&self.entropy)
    }

    /// Something to store, under a nonce of its own.
    pub(super) fn put(&self, payload: impl Into<Bytes>, ttl: Duration) -> Put {
        Put { payload: payload.into(), nonce: Nonce::draw(&self.entropy), ttl }
    }

    pub(super) async fn get(&self, key: &Key) -> Option<Record> {
        self.backend.get(key).await.expect("get")
    }

    /// The payload under `key`, as text.
    pub(super) async fn text(&self, key: &Key) -> Option<String> {
        let record = self.get(key).await?;
        Some(String::from_utf8_lossy(&record.payload).into_owned())
    }

    /// Asks for a value or a lease with a token of its own.
    pub(super) async fn ask(&self, key: &Key, term: Duration, refuse: Option<Nonce>) -> (LeaseReply, Token) {
        let token = self.token();
        let reply = self.leases().get_or_lease(key, token, term, refuse).await;
        (reply.expect("get_or_lease"), token)
    }

    /// Asks for a lease, which must be granted.
    pub(super) async fn lease_for(
        &self,
        key: &Key,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> (Token, Option<Record>) {
        match self.ask(key, term, refuse).await {
            (LeaseReply::Lease { stale }, token) => (token, stale),
            (other, _) => panic!("a lease was to be granted: {other:?}"),
        }
    }

    /// A lease on a key without a usable value.
    pub(super) async fn lease(&self, key: &Key) -> Token {
        self.lease_for(key, LONG, None).await.0
    }

    pub(super) async fn put_leased(&self, key: &Key, token: Token, put: Put) -> PutReply {
        self.leases().put_leased(key, token, put).await.expect("put_leased")
    }

    pub(super) async fn put_held(&self, key: &Key, token: Token, put: Put) -> PutReply {
        self.leases().put_held(key, token, put).await.expect("put_held")
    }

    pub(super) async fn hold_for(&self, key: &Key, term: Duration) -> (Held, Token) {
        let token = self.token();
        (self.leases().hold(key, token, term).await.expect("hold"), token)
    }

    /// A hold, which must be granted.
    pub(super) async fn hold(&self, key: &Key) -> Token {
        let (held, token) = self.hold_for(key, LONG).await;
        assert_eq!(held, Held::Held);
        token
    }

    /// Stores `text`, the usual way of a reader, and gives its nonce.
    pub(super) async fn store_for(&self, key: &Key, text: &str, ttl: Duration) -> Nonce {
        let token = self.lease(key).await;
        let put = self.put(text.to_owned(), ttl);
        let nonce = put.nonce;
        assert_eq!(self.put_leased(key, token, put).await, PutReply::Stored);
        nonce
    }

    pub(super) async fn store(&self, key: &Key, text: &str) -> Nonce {
        self.store_for(key, text, LONG).await
    }

    pub(super) async fn release(&self, key: &Key, token: Token) -> bool {
        self.leases().release(key, token).await.expect("release")
    }

    /// Whether a caller gets the lease: nobody has it, and there is no usable value. It is given back.
    pub(super) async fn is_free(&self, key: &Key) -> bool {
        match self.ask(key, LONG, None).await {
            (LeaseReply::Lease { .. }, token) => self.release(key, token).await,
            _ => false,
        }
    }

    /// Whether a caller is told that another has the right.
    pub(super) async fn is_busy(&self, key: &Key) -> bool {
        matches!(self.ask(key, LONG, None).await.0, LeaseReply::Busy { .. })
    }
}

/// More parts than any sweep of a suite has.
const PARTS: usize = 1_000;

impl fmt::Debug for BackendSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendSubject")
            .field("backend", &self.backend)
            .field("time", &self.time)
            .field("short", &self.short)
            .field("late", &self.late)
            .finish_non_exhaustive()
    }
}
