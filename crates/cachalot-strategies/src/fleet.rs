//! The other processes: what they are told, and what is done about what they tell.
//!
//! Two tasks live as long as the cache. One publishes: what was announced goes out in batches, under numbers that
//! are given only after the shared tier has taken the invalidation, with heartbeats between. The other listens:
//! it drops what messages name, and distrusts all that memory holds when something was missed.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cachalot_core::{
    Bus, BusEvent, Clock, Entropy, Error, ErrorKind, Key, Namespace, PublisherId, Store, Subject,
    Subscription,
};
use cachalot_invalidation::{Announcer, AnnouncerSettings, Backoff, Hearing, HearingSettings, Next};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::engine::Engine;

mod apply;
mod pending;
pub(crate) use pending::Pending;
mod wakes;
pub(crate) use wakes::Wakes;

/// A cache's place among the others on its bus.
pub(crate) struct Fleet {
    bus: Arc<dyn Bus>,
    own: PublisherId,
    namespace: Namespace,
    announcer: Mutex<Announcer>,
    /// Something was announced.
    announced: Notify,
    /// Goodbye was said.
    left: Notify,
    clock: Clock,
    entropy: Entropy,
    heartbeat: Duration,
}

/// How long one step of a bus is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long nothing may happen before it is looked whether the cache is still there.
const LOOK: Duration = Duration::from_secs(1);

impl Fleet {
    pub(crate) fn new(
        bus: Arc<dyn Bus>,
        namespace: Namespace,
        heartbeat: Duration,
        clock: Clock,
        entropy: Entropy,
    ) -> Self {
        let own = PublisherId::draw(&entropy);
        let settings = AnnouncerSettings::default().heartbeat(heartbeat);
        let announcer = Announcer::new(own, namespace.clone(), settings, entropy.clone(), clock.now());
        Self {
            bus,
            own,
            namespace,
            announcer: Mutex::new(announcer),
            announced: Notify::new(),
            left: Notify::new(),
            clock,
            entropy,
            heartbeat,
        }
    }

    /// Tells all others. Call it once the shared tier has taken it, or with `pending` if it has not.
    pub(crate) fn announce(&self, subjects: impl IntoIterator<Item = Subject>) {
        self.announcer().announce_all(subjects, false);
        self.announced.notify_one();
    }

    /// Tells who waits for the lease of `key` that it has ended.
    pub(crate) fn lease_ended(&self, key: Key) {
        self.announcer().lease_ended(key);
        self.announced.notify_one();
    }

    fn acknowledge(&self, of: PublisherId, up_to: u64) {
        self.announcer().acknowledge(of, up_to);
        self.announced.notify_one();
    }

    /// How many announcements are still to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.announcer().waiting()
    }

    /// Says goodbye, after what waits.
    pub(crate) fn leave(&self) {
        self.announcer().leave();
        self.announced.notify_one();
    }

    /// Waits until goodbye is said.
    pub(crate) async fn gone(&self) {
        loop {
            let left = self.left.notified();
            if self.announcer().has_left() {
                return;
            }
            left.await;
        }
    }

    /// Publishes until goodbye is said.
    pub(crate) async fn speak(self: Arc<Self>) {
        loop {
            let announced = self.announced.notified();
            let next = self.announcer().next(self.clock.now());
            match next {
                Next::Send(message) => {
                    let late = || Error::new(ErrorKind::Timeout, "bus publish");
                    let sent = timeout(PATIENCE, self.bus.publish(&message)).await;
                    match sent.unwrap_or_else(|_| Err(late())) {
                        Ok(()) => self.announcer().sent(self.clock.now()),
                        Err(error) => self.announcer().failed(&error, self.clock.now()),
                    }
                }
                Next::Wait(until) => {
                    // Whichever comes first.
                    let _ = timeout(until.since(self.clock.now()), announced).await;
                }
                Next::Done => break,
            }
        }
        self.left.notify_waiters();
    }

    fn announcer(&self) -> MutexGuard<'_, Announcer> {
        self.announcer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says goodbye when the cache goes.
pub(crate) struct Membership(pub(crate) Arc<Fleet>);

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Listens for as long as the cache is there.
pub(crate) async fn listen<K, V, S>(engine: Weak<Engine<K, V, S>>, fleet: Arc<Fleet>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    let settings = HearingSettings::default().heartbeat(fleet.heartbeat);
    let mut hearing = Hearing::new(fleet.own, fleet.namespace.clone(), settings);
    let mut backoff = Backoff::new(Duration::from_millis(25), LOOK);
    loop {
        match fleet.bus.subscribe().await {
            Ok(subscription) => {
                backoff.reset();
                if hear(&engine, &fleet, &mut hearing, subscription).await.is_none() {
                    return;
                }
            }
            Err(_) => sleep(backoff.next(&fleet.entropy)).await,
        }
        // The bus has ended, or the subscription has: nothing is heard until there is another one.
        let Some(engine) = engine.upgrade() else { return };
        let heard = hearing.on_event(BusEvent::Interrupted, fleet.clock.now());
        engine.apply(&fleet, &hearing, heard).await;
    }
}

/// `None`: the cache is gone.
async fn hear<K, V, S>(
    engine: &Weak<Engine<K, V, S>>,
    fleet: &Fleet,
    hearing: &mut Hearing,
    mut subscription: Box<dyn Subscription>,
) -> Option<()>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    loop {
        let look_in = hearing.next_look().map_or(LOOK, |at| at.since(fleet.clock.now()).min(LOOK));
        let event = timeout(look_in, subscription.next()).await;
        let engine = engine.upgrade()?;
        let now = fleet.clock.now();
        let heard = match event {
            Ok(Ok(event)) => hearing.on_event(event, now),
            Ok(Err(_)) => return Some(()),
            Err(_) => hearing.on_time(now),
        };
        engine.apply(fleet, hearing, heard).await;
    }
}
