//! This cache among the others that are waited for: it registers, renews, and serves its memory only as long as
//! others know of it.

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cachalot_core::units::seconds;
use cachalot_core::{
    Backend, Clock, Error, ErrorKind, Event, Key, Member, MemberBackend, Namespace, PublisherId, Result,
    Roll, Store, mutant,
};
use cachalot_invalidation::{Acks, Hearing, Seen, SelfLease};
use cachalot_stampede::guard;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::builder::CacheBuilder;
use crate::engine::Engine;

/// What the builder was told.
#[derive(Default)]
pub(crate) struct Wish {
    term: Option<Duration>,
    name: Option<String>,
}

impl<K, V, S> CacheBuilder<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Makes this cache one of those that [`confirmed`](crate::Invalidation::confirmed) waits for, and lets it wait
    /// itself. **All processes of a fleet need it, with the same `term`**: one without it is not waited for. Default:
    /// off. Needs a [`bus`](CacheBuilder::bus), and a shared tier that lists members.
    ///
    /// The cache registers in the shared tier for `term` (at least 100 ms) and renews three times as often; whoever
    /// waits for a process that has died, hangs or is cut off waits until its term ends. So a term of 10 s means that
    /// a confirmation takes 10 s at worst.
    ///
    /// **What it costs.** A hit in memory looks at the clock once more. Each process sends a command every third of
    /// a term. And memory is served only while the registration holds: a shared tier that cannot be reached for a
    /// term costs all that is in memory, and each key is loaded anew. Loads are still shared then, but a caller does
    /// not join one that began before it came. A longer term bridges longer outages.
    ///
    /// t = 0 registered, term 10 s · t = 3.3 s renewed · the shared tier goes away · t = 13.2 s nothing in memory is
    /// served · it comes back, and the cache registers anew: memory is served again, for what is read from then on.
    ///
    /// After [`shutdown`](crate::Cache::shutdown) such a cache serves nothing from memory.
    ///
    /// Processes whose clocks run more than 1 % faster or slower than the server's, and machines that are suspended
    /// and go on later, may serve their memory for longer than others wait.
    pub fn membership(mut self, term: Duration) -> Self {
        self.membership.term = Some(term);
        self
    }

    /// The name by which this process is told to people when it has not
    /// [confirmed](crate::Confirmation::Unconfirmed): `web-7`, say. Up to 64 bytes. Default: `pid` and its process id.
    pub fn member_name(mut self, name: impl Into<String>) -> Self {
        self.membership.name = Some(name.into());
        self
    }
}

impl Wish {
    /// What becomes of it with this shared tier and bus.
    pub(crate) fn grant(
        self,
        backend: Option<Arc<dyn Backend>>,
        bus: Option<PublisherId>,
        namespace: &Namespace,
    ) -> Result<Option<Membership>> {
        let refuse =
            |detail: &'static str| Err(Error::new(ErrorKind::Config, "building a cache").detail(detail));
        let Some(term) = self.term else {
            return match self.name {
                Some(_) => refuse("`member_name` names a member: call `membership`"),
                None => Ok(None),
            };
        };
        let Some(own) = bus else {
            return refuse("`membership` needs a bus on which others answer: call `bus`");
        };
        let Some(backend) = backend.filter(|backend| backend.members().is_some()) else {
            return refuse(
                "`membership` needs a shared tier that lists members: call `backend` with such a one",
            );
        };
        if term < SHORTEST_TERM {
            return refuse("a `membership` of less than 100 ms ends with every hiccup of the network");
        }
        let name = self.name.unwrap_or_else(|| format!("pid {}", std::process::id()));
        Ok(Some(Membership(Arc::new(Enrolment {
            lease: SelfLease::new(term),
            member: Member::new(own, &name),
            registry: namespace.members(),
            backend,
            is_listening: Mutex::new(false),
            acks: Mutex::default(),
            acked: Notify::new(),
            wake: Notify::new(),
            is_leaving: AtomicBool::new(false),
            has_left: Mutex::new(false),
            left: Notify::new(),
        }))))
    }
}

const SHORTEST_TERM: Duration = Duration::from_millis(100);
/// How long nothing may happen before it is looked whether the cache is still there.
const LOOK: Duration = seconds(1);

/// A cache's registration.
pub(crate) struct Enrolment {
    pub(crate) lease: SelfLease,
    member: Member,
    registry: Key,
    backend: Arc<dyn Backend>,
    /// Whether the subscription stands. Whoever changes what is trusted has the lock.
    is_listening: Mutex<bool>,
    acks: Mutex<Acks>,
    acked: Notify,
    wake: Notify,
    is_leaving: AtomicBool,
    has_left: Mutex<bool>,
    left: Notify,
}

/// Leaves when the cache goes.
pub(crate) struct Membership(pub(crate) Arc<Enrolment>);

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.begin_to_leave();
    }
}

impl Enrolment {
    pub(crate) fn id(&self) -> PublisherId {
        self.member.id()
    }

    /// Somebody has acknowledged what this cache has announced.
    pub(crate) fn note_ack(&self, by: PublisherId, up_to: u64) {
        self.acks().note(by, up_to);
        self.acked.notify_waiters();
    }

    pub(crate) fn acks(&self) -> MutexGuard<'_, Acks> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends with the next acknowledgement after this call.
    pub(crate) fn acked(&self) -> tokio::sync::futures::Notified<'_> {
        self.acked.notified()
    }

    /// Who is a member.
    pub(crate) async fn roll(&self) -> Result<Roll> {
        self.members()?.roll(&self.registry).await
    }

    fn members(&self) -> Result<&dyn MemberBackend> {
        let none =
            || Error::new(ErrorKind::Unsupported, "members").detail("the shared tier lists no members");
        self.backend.members().ok_or_else(none)
    }

    fn begin_to_leave(&self) {
        self.is_leaving.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::SeqCst)
    }

    /// Tells the server that nobody need wait for this cache. If that fails, its term ends it.
    async fn leave(&self) {
        if let Ok(members) = self.members() {
            // Whatever becomes of it.
            let _ = guard(members.leave(&self.registry, &self.member), Duration::MAX).await;
        }
        *self.has_left.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.left.notify_waiters();
    }

    /// Waits until the server was told.
    async fn gone(&self) {
        loop {
            let left = self.left.notified();
            if *self.has_left.lock().unwrap_or_else(PoisonError::into_inner) {
                return;
            }
            left.await;
        }
    }

    /// Changes what is known under the lock, and trusts what begins from now on, or nothing.
    fn settle(&self, seen: &Seen, change: impl FnOnce(&mut bool)) {
        let mut is_listening = self.is_listening.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut is_listening);
        let is_known = self.lease.is_begun() || mutant!(TrustsBeforeEnrolled);
        if !(*is_listening && is_known) {
            seen.trust_nothing();
        } else if seen.trusts_nothing() {
            seen.trust_again();
        }
    }

    fn is_listening(&self) -> bool {
        *self.is_listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether memory may be served.
    #[inline]
    fn holds(&self, clock: &Clock) -> bool {
        self.lease.holds(clock) || mutant!(TrustsBeforeEnrolled) && !self.lease.is_begun()
    }
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Whether memory may be asked: no registration is needed, or it holds. A coarse reading of the clock.
    #[inline]
    pub(crate) fn may_look(&self) -> bool {
        match &self.membership {
            None => true,
            Some(Membership(enrolment)) => enrolment.holds(&self.clock) || self.lapse(enrolment),
        }
    }

    /// The registration may be over. What is from before is given up before anybody reads on: this caller may be
    /// the first to run in a process that was stopped. Gives `false`.
    #[cold]
    fn lapse(&self, enrolment: &Enrolment) -> bool {
        if !enrolment.lease.is_begun() {
            return false;
        }
        // Twice, if two come at once: before either goes on.
        self.give_up_all();
        let mut has_ended = false;
        enrolment.settle(&self.seen, |_| {
            has_ended = enrolment.lease.is_begun() && !enrolment.lease.holds(&self.clock);
            if has_ended {
                enrolment.lease.end();
            }
        });
        if has_ended {
            enrolment.wake.notify_one();
            self.emit(&Event::Lapsed);
        }
        false
    }

    /// A caller comes that memory does not serve. While nobody waits for this cache, what began before this caller
    /// may be too old for it: it is not given what a load brings that it joins.
    pub(crate) fn arrive(&self) {
        let is_unknown = |it: &Membership| !it.0.lease.is_begun() && !mutant!(KeepsFlightsInALapse);
        if self.membership.as_ref().is_some_and(is_unknown) {
            self.seen.distrust();
        }
    }

    /// Trusts nothing that memory holds, and nothing on its way there.
    fn give_up_all(&self) {
        if mutant!(KeepsFlightsInALapse) {
            self.seen.distrust();
            return self.store.void_all();
        }
        self.end_trust();
    }

    /// Memory is trusted as long as invalidations are heard, and others know of this cache.
    pub(crate) fn trust_while(&self, hearing: &Hearing) {
        let is_listening = hearing.is_listening() || mutant!(TrustsBeforeSubscribed);
        match &self.membership {
            Some(Membership(enrolment)) => {
                let mut begins = false;
                enrolment.settle(&self.seen, |known| {
                    begins = is_listening && !*known;
                    *known = is_listening;
                });
                if begins {
                    enrolment.wake.notify_one();
                }
            }
            None if !is_listening => self.seen.trust_nothing(),
            None if self.seen.trusts_nothing() => self.seen.trust_again(),
            None => {}
        }
    }

    /// Nothing is heard.
    pub(crate) fn trust_nothing(&self) {
        match &self.membership {
            Some(Membership(enrolment)) => enrolment.settle(&self.seen, |is_listening| *is_listening = false),
            None => self.seen.trust_nothing(),
        }
    }

    /// Serves nothing from memory any more, and has the server told.
    pub(crate) async fn leave_members(&self) {
        if let Some(Membership(enrolment)) = &self.membership {
            // Both in one step: an answer that comes now does not begin the lease again.
            enrolment.settle(&self.seen, |_| {
                enrolment.lease.end();
                enrolment.begin_to_leave();
            });
            enrolment.gone().await;
        }
    }

    /// The server has answered an enrolment that was sent at `sent`.
    fn enrolled(
        &self,
        enrolment: &Enrolment,
        sent: cachalot_core::Timestamp,
        enrolled: cachalot_core::Enrolled,
    ) {
        let Some(term) = enrolment.lease.on_enrolled(sent, enrolled, self.clock.now()) else { return };
        if !mutant!(TrustsBeforeEnrolled) {
            self.emit(&Event::Gap);
            self.give_up_all();
        }
        enrolment.settle(&self.seen, |_| {
            if !enrolment.is_leaving() {
                enrolment.lease.begin(term);
            }
        });
    }
}

/// Registers as soon as the subscription stands, and renews for as long as it does and the cache is there.
pub(crate) async fn stay_enrolled<K, V, S>(engine: Weak<Engine<K, V, S>>, enrolment: Arc<Enrolment>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    let every = enrolment.lease.renew_after();
    let soon = (enrolment.lease.term() / 20).max(Duration::from_millis(10));
    while !enrolment.is_leaving() && engine.strong_count() > 0 {
        let mut pause = LOOK;
        if enrolment.is_listening() {
            let is_enrolled = enroll(&engine, &enrolment).await;
            pause = if is_enrolled { every } else { soon };
        }
        // Whichever comes first.
        let _ = timeout(pause, enrolment.wake.notified()).await;
    }
    enrolment.leave().await;
}

/// Enrolls once. Whether that was answered.
async fn enroll<K, V, S>(engine: &Weak<Engine<K, V, S>>, enrolment: &Enrolment) -> bool
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    let Ok(members) = enrolment.members() else { return false };
    let Some(sent) = engine.upgrade().map(|engine| engine.clock.now()) else { return false };
    let ask = members.enroll(&enrolment.registry, &enrolment.member, enrolment.lease.term());
    let answer = guard(ask, Duration::MAX).await;
    let Some(engine) = engine.upgrade() else { return false };
    match answer {
        Ok(Ok(answer)) => {
            engine.enrolled(enrolment, sent, answer);
            true
        }
        Ok(Err(error)) => {
            engine.backend_failed(&error);
            false
        }
        Err(_) => {
            engine.emit(&Event::TaskPanicked);
            false
        }
    }
}
