//! A server that has forgotten what it acknowledged: another one that took over, or the same one from an old
//! snapshot.
//!
//! What this process has invalidated of late is done again before that server is trusted with any of it: until then
//! these keys bypass both tiers here, as after an outage. Other processes do the same with theirs. In between, values
//! from before may be read; afterwards they are gone.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cachalot_core::units::seconds;
use cachalot_core::{Backend, ErrorKind, Event, Key, Pattern, Store, mutant};
use cachalot_invalidation::Recent;
use tokio::time::sleep;

use crate::engine::Engine;
use crate::replay::Missed;
use crate::shared::Shared;

/// What is kept in case a server forgets it.
pub(crate) struct Memo<K> {
    recent: Recent<Missed<K>>,
    is_kept: bool,
    /// The incarnation of the shared tier for which all is done again that needs to be.
    trusted: Arc<AtomicU64>,
    /// The turn of the shared tier with which all began that is in flight.
    turns: AtomicU64,
    recalling: Mutex<()>,
}

/// Looks at the shared tier once a second as long as it may forget something: a process that is served from its
/// memory would not notice, and others would read what comes back.
async fn watch<K, V, S>(engine: Weak<Engine<K, V, S>>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    loop {
        sleep(seconds(1)).await;
        let Some(engine) = engine.upgrade() else { return };
        if engine.memo.recent.is_over(engine.clock.coarse()) {
            return;
        }
        engine.look_at_shared().await;
    }
}

/// How many invalidations are kept; beyond, a fail-over clears the namespace.
const MOST: usize = 1 << 14;

impl<K> Memo<K> {
    /// Of the last `window`; none if that is zero. `turns`: those of the shared tier so far.
    pub(crate) fn new(trusted: Arc<AtomicU64>, turns: u64, window: Duration) -> Self {
        let (is_kept, turns) = (!window.is_zero(), AtomicU64::new(turns));
        Self { recent: Recent::new(window, MOST), is_kept, trusted, turns, recalling: Mutex::new(()) }
    }
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Notes what the shared tier has just acknowledged.
    pub(crate) fn remember_done(&self, name: Key, missed: Missed<K>) {
        let is_kept = self.shared.is_some() && self.memo.is_kept;
        if is_kept && self.memo.recent.note(name, missed, self.clock.coarse()) {
            self.spawn.spawn(Box::pin(watch(self.me.clone())));
        }
    }

    /// Looks whether the shared tier is still the one that it was. While a part of it is away what that may have forgotten
    /// does not age: nobody knows what it comes back with.
    async fn look_at_shared(&self) {
        let Some(shared) = &self.shared else { return };
        let looked = shared.backend.look(&self.namespace.epoch()).await;
        self.notice_failover();
        let now = self.clock.coarse();
        match looked.map_err(|error| error.kind()) {
            Err(ErrorKind::Unavailable | ErrorKind::Timeout) => self.memo.recent.stands(now),
            _ => self.memo.recent.goes_on(now),
        }
    }

    /// Looks whether another server answers than before. A few atomic loads.
    pub(crate) fn notice_failover(&self) {
        let Some(shared) = &self.shared else { return };
        if shared.backend.turns() != self.memo.turns.load(Ordering::SeqCst) {
            self.others_answer(shared);
        }
        if shared.backend.incarnation() != self.memo.trusted.load(Ordering::SeqCst) {
            // Told outside of the lock: who hears of it may read.
            if let Some(deferred) = self.recall(|| shared.backend.incarnation()) {
                self.emit(&Event::FailedOver);
                (0..deferred).for_each(|_| self.emit(&Event::Deferred));
                self.emit_overflows();
            }
        }
    }

    /// Voids what began while others answered. They have taken all that was acknowledged, and so have those that answer
    /// now: nothing is deferred.
    #[cold]
    fn others_answer(&self, shared: &Shared<K, V>) {
        let _recalling = self.memo.recalling.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = shared.backend.turns();
        if self.memo.turns.load(Ordering::SeqCst) != turns {
            self.void_what_was_read();
            self.memo.turns.store(turns, Ordering::SeqCst);
        }
    }

    /// What is being made of what the shared tier said so far.
    fn void_what_was_read(&self) {
        self.flights.void_all();
        self.store.void_all();
        self.forget_epochs();
        self.everything.forget();
    }

    /// Defers what the new server may have forgotten, and how much that was; nothing if it was done meanwhile.
    #[cold]
    fn recall(&self, incarnation: impl Fn() -> u64) -> Option<usize> {
        // One at a time: nobody trusts the new server before all is deferred.
        let _recalling = self.memo.recalling.lock().unwrap_or_else(PoisonError::into_inner);
        let (met, this) = (incarnation(), self.me.upgrade()?);
        if met == self.memo.trusted.load(Ordering::SeqCst) {
            return None;
        }
        let mut deferred = 0;
        if !mutant!(TrustsAfterFailOver) {
            let recalled = self.memo.recent.recall(self.clock.now());
            deferred = recalled.items.len() + usize::from(!recalled.is_complete);
            for (name, missed) in recalled.items {
                this.keep_for_replay(name, missed);
            }
            if !recalled.is_complete {
                let all = Pattern::any().within(&self.namespace);
                this.keep_for_replay(self.name_of_pattern(&all), Missed::All);
            }
            // What they have read of the new server may be old.
            self.void_what_was_read();
        }
        self.memo.trusted.store(met, Ordering::SeqCst);
        Some(deferred)
    }
}
