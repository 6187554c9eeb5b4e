//! What all handles to one cache share, and the steps that reads and writes have in common.

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cachalot_core::{
    Clock, Commit, Depth, Entropy, EntryOptions, Error, ErrorKind, Event, Fence, Freshness, Key, LoadError,
    Meta, Namespace, Observer, Result, Spawn, Store, Subject, Tier, Timestamp, mutant,
};
use cachalot_invalidation::{Deferred, Seen};
use cachalot_stampede::{Failures, Flights, Joined, guard};
use equivalent::Equivalent;
use tokio::sync::{Notify, oneshot};

use crate::batch::Bounds;
use crate::cached::Found;
use crate::dependencies::Dependencies;
use crate::early::Refresh;
use crate::failover::Memo;
use crate::fleet::{Membership, Pending, Wakes};
use crate::flight::Outcome;
use crate::index::Index;
use crate::membership;
use crate::names::Names;
use crate::replay::Missed;
use crate::shared::Shared;
use crate::slide;
use crate::stats::{Counters, Stats};
use crate::tags::{Epoch, Everything};
use crate::versions::Versions;

pub(crate) struct Engine<K, V, S> {
    pub(crate) name: Arc<str>,
    pub(crate) store: S,
    pub(crate) flights: Flights<K, Outcome<V>>,
    /// The inserts that run, one for a key: two that overlap below would end each other.
    pub(crate) inserts: Flights<K, ()>,
    /// `None`: a failure is not remembered.
    pub(crate) failures: Option<Failures<K, LoadError>>,
    pub(crate) refresh: Refresh,
    pub(crate) shared: Option<Shared<K, V>>,
    pub(crate) deferred: Deferred<Missed<K>>,
    /// What other processes have deferred.
    pub(crate) pending: Pending,
    /// `None`: memory alone.
    pub(crate) names: Option<Names<K>>,
    pub(crate) namespace: Namespace,
    /// What patterns are about that the shared tier has not been swept for.
    pub(crate) unswept: Pending,
    pub(crate) fleet: Option<Membership>,
    /// `None`: nobody waits for this cache, and it cannot wait for others.
    pub(crate) membership: Option<membership::Membership>,
    pub(crate) leases_ended: Wakes,
    pub(crate) memo: Memo<K>,
    /// Itself, for tasks that it starts.
    pub(crate) me: Weak<Self>,
    pub(crate) seen: Seen,
    pub(crate) epoch: Epoch,
    /// `None`: no key depends on another.
    pub(crate) dependencies: Option<Dependencies<K>>,
    /// `None`: nobody knows which keys have a tag.
    pub(crate) index: Option<Index>,
    /// Whether all entries end by one tag, and what that stands at.
    pub(crate) is_clearable: bool,
    /// `None`: entries have no versions.
    pub(crate) versions: Option<Versions>,
    pub(crate) everything: Everything,
    pub(crate) options: EntryOptions,
    pub(crate) times: Times,
    pub(crate) batch: Bounds,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) spawn: Arc<dyn Spawn>,
    pub(crate) counters: Counters,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) tasks: Arc<Tasks>,
}

/// What becomes of a load when its last caller has gone. One that replaces a value which is still there is
/// always finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDeserted {
    /// It runs to its end, within its bounds, and fills the cache: the next caller finds it done.
    #[default]
    Finish,
    /// Its future is dropped at once, and other processes may load.
    Cancel,
}

/// The bounds of one cache.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    /// How long the callers of a load wait for it.
    pub(crate) hard_timeout: Duration,
    /// How long it may run.
    pub(crate) max_flight_age: Duration,
    /// From which age on a flight is taken for one that hangs: it may have waited below before it ran.
    pub(crate) overtaken_after: Duration,
    pub(crate) on_deserted: OnDeserted,
    pub(crate) lease_term: Duration,
    pub(crate) hold_term: Duration,
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    #[inline]
    pub(crate) fn fresh_in_memory<Q>(&self, key: &Q) -> Option<Found<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hit = self.look(key)?;
        (hit.freshness == Freshness::Fresh).then(|| Found::in_memory(hit))
    }

    /// Ends what this process holds and has in flight for `key`: the local step of every invalidation.
    /// The store first: a flight that is opened after it finds nothing old there, and one that was opened
    /// before is detached after it.
    pub(crate) fn forget(&self, key: &K) {
        let old = self.store.invalidate(key);
        if !mutant!(LeavesFlightsOpen) {
            self.flights.void(key);
        }
        self.forget_dependants(key, Depth::Remove);
        // After the flights: one that fails from now on sees that it is void.
        if !mutant!(RemembersFailuresOfTheRemoved) {
            self.forget_failure(key);
        }
        // It may run its own `Drop`, which may panic; no lock is held, and nothing is left to do.
        drop(old);
    }

    /// Joins the flight of `key`, or leads it; takes it over from one that hangs.
    pub(crate) fn join(&self, key: &K) -> Joined<K, Outcome<V>> {
        // A tick more or less says nothing about whether a flight hangs.
        self.flights.join_at(key, self.clock.coarse(), self.times.overtaken_after)
    }

    /// The times of an entry as memory keeps it.
    pub(crate) fn in_memory(&self, meta: Meta, now: Timestamp) -> Meta {
        match &self.shared {
            Some(shared) => shared.in_memory(meta, now),
            None if self.slides() => slide::in_memory(meta, now, true),
            None => self.refresh.early.mark(meta),
        }
    }

    /// Stores what was found below or loaded, if nothing was invalidated meanwhile. Whether it did.
    pub(crate) fn fill_memory(&self, fence: Fence, key: K, found: &Found<V>) -> bool {
        let fence = if mutant!(FillsMemoryUnfenced) { self.store.begin(&key) } else { fence };
        let commit = self.store.commit(fence, key, found.entry.clone());
        if commit == Commit::Revoked {
            self.emit(&Event::Fenced { tier: Tier::Memory });
        }
        commit == Commit::Stored
    }

    /// Whether the shared tier may still hold what an invalidation of this name was about, here or elsewhere.
    pub(crate) fn is_pending(&self, name: &Key) -> bool {
        self.notice_failover();
        let now = self.clock.coarse();
        let is_own = self.deferred.contains(name) || self.unswept.contains(name, now);
        if is_own && !mutant!(TrustsWhatIsPending) {
            return true;
        }
        self.pending.contains(name, now) && !mutant!(TrustsWhatOthersHavePending)
    }

    /// Tells other processes that `subject` is no longer good.
    pub(crate) fn tell(&self, subject: Subject) {
        if let Some(fleet) = &self.fleet {
            fleet.0.announce([subject]);
        }
    }

    /// Tells them of a key; `pending` if the shared tier has not taken its invalidation.
    pub(crate) fn tell_key(&self, key: &K, pending: bool) {
        // Memory alone has nobody to tell, and no server that could forget.
        let Some(names) = &self.names else { return };
        let name = names.key(key);
        if !pending {
            self.remember_done(name.clone(), Missed::Key(key.clone(), self.floor_here(key)));
        }
        self.tell(Subject::Key { key: name, pending });
    }

    /// The key in the shared tier, if there is one.
    pub(crate) fn shared_key(&self, key: &K) -> Option<(&Shared<K, V>, Key)> {
        let shared = self.shared.as_ref()?;
        Some((shared, shared.key(key)))
    }

    #[inline]
    pub(crate) fn emit_memory_hit(&self) {
        self.counters.memory_hit();
        if let Some(observer) = &self.observer {
            self.show(&**observer, &Event::Hit { tier: Tier::Memory });
        }
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        self.counters.count(event);
        if let Some(observer) = &self.observer {
            self.show(&**observer, event);
        }
    }

    /// An observer that panics must not end what it only watches: an invalidation, say, half done.
    fn show(&self, observer: &dyn Observer, event: &Event<'_>) {
        if catch_unwind(AssertUnwindSafe(|| observer.on_event(event))).is_err() {
            self.counters.count(&Event::TaskPanicked);
        }
    }

    pub(crate) fn backend_failed(&self, error: &Error) {
        self.emit(&Event::BackendFailed { error });
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            pending_invalidations: self.deferred.len() as u64,
            pending_messages: self.fleet.as_ref().map_or(0, |fleet| fleet.0.waiting() as u64),
            dropped_messages: self.fleet.as_ref().map_or(0, |fleet| fleet.0.dropped()),
            flights: self.flights.len() as u64,
            memory: self.store.stats(),
            ..self.counters.stats()
        }
    }

    /// Counts a task in, unless the cache is shut down. Counted first, so that a shutdown that does not
    /// refuse it waits for it.
    pub(crate) fn admit(&self, operation: &'static str) -> Result<Task> {
        let task = self.tasks.begin();
        self.check_open(operation)?;
        Ok(task)
    }

    /// For who begins nothing.
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.tasks.closed.load(Ordering::SeqCst) {
            let detail = format!("cache {} is shut down", self.name);
            return Err(Error::new(ErrorKind::Closed, operation).detail(detail));
        }
        Ok(())
    }

    /// Runs `work` in a task that its caller cannot stop by leaving. Counted until it ends.
    pub(crate) fn detach(self: &Arc<Self>, task: Task, work: impl Future<Output = ()> + Send + 'static) {
        let engine = self.clone();
        self.spawn.spawn(Box::pin(async move {
            // No bound on time, so panics are all that is caught.
            if guard(Box::pin(work), Duration::MAX).await.is_err() {
                engine.emit(&Event::TaskPanicked);
            }
            drop(task);
        }));
    }

    /// Runs `work` detached and waits for what it gives.
    pub(crate) async fn detached<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let task = self.admit(operation)?;
        if mutant!(DropsInsteadOfDetaching) {
            return Ok(work.await);
        }
        let (give, take) = oneshot::channel();
        self.detach(task, async move {
            // Nobody waits any more: the work was done all the same.
            let _ = give.send(work.await);
        });
        take.await.map_err(|_| {
            Error::new(ErrorKind::Panicked, operation).detail("the task that did it panicked or was dropped")
        })
    }
}

/// The background tasks of a cache.
#[derive(Default)]
pub(crate) struct Tasks {
    running: AtomicUsize,
    closed: AtomicBool,
    idle: Notify,
}

impl Tasks {
    pub(crate) fn begin(self: &Arc<Self>) -> Task {
        self.running.fetch_add(1, Ordering::SeqCst);
        Task(self.clone())
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Waits until no task is left.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.running() == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// Counts one task until it is dropped, whether it ended, panicked or died with its runtime.
pub(crate) struct Task(Arc<Tasks>);

impl Drop for Task {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
