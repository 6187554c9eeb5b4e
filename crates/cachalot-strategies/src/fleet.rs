//! The other processes: what they are told, and what is done about what they tell.
//!
//! Two tasks live as long as the cache. One publishes: what was announced goes out in batches, under numbers that
//! are given only after the shared tier has taken the invalidation, with heartbeats between. The other listens:
//! it drops what messages name, and distrusts all that memory holds when something was missed.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cachalot_core::{
    Bus, BusEvent, Clock, Entropy, Error, ErrorKind, Event, Key, Namespace, PublisherId, Store, Subject,
    Subscription,
};
use cachalot_invalidation::{Announcer, AnnouncerSettings, Backoff, Hearing, HearingSettings, Next};
use cachalot_stampede::{Failure, guard};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::engine::Engine;

mod apply;
mod pending;
pub(crate) use pending::Pending;
mod wakes;
pub(crate) use wakes::{Listening, Wakes};

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
    /// How many callers wait for answers.
    askers: AtomicUsize,
}

/// How long one step of a bus is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long nothing may happen before it is looked whether the cache is still there.
const LOOK: Duration = Duration::from_secs(1);
/// The longest interval between heartbeats that others are believed, unless this cache's own is longer.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(60);

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
            askers: AtomicUsize::new(0),
        }
    }

    pub(crate) fn own(&self) -> PublisherId {
        self.own
    }

    /// What is announced meanwhile is to be acknowledged.
    pub(crate) fn ask_for_answers(&self) -> Asking<'_> {
        self.askers.fetch_add(1, Ordering::SeqCst);
        Asking(self)
    }

    /// Asks those who have not acknowledged everything.
    pub(crate) fn ask_again(&self) {
        self.announcer().ask_again(self.clock.now());
        self.announced.notify_one();
    }

    /// The number under which all that was announced will have been sent.
    pub(crate) fn promised(&self) -> u64 {
        self.announcer().promised()
    }

    /// Tells all others. Call it once the shared tier has taken it, or with `pending` if it has not.
    pub(crate) fn announce(&self, subjects: impl IntoIterator<Item = Subject>) {
        let is_asked = self.askers.load(Ordering::SeqCst) > 0;
        self.announcer().announce_all(subjects, is_asked);
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

    /// How many messages were given up.
    pub(crate) fn dropped(&self) -> u64 {
        self.announcer().dropped()
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
                    // One that panics has failed: others must not take this cache for gone.
                    let sent = guard(self.bus.publish(&message), PATIENCE).await;
                    match sent.unwrap_or_else(|failure| Err(not_sent(failure))) {
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

/// Somebody waits for answers, until it is dropped.
pub(crate) struct Asking<'a>(&'a Fleet);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.askers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Says goodbye when the cache goes.
pub(crate) struct Membership(pub(crate) Arc<Fleet>);

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.leave();
    }
}

fn not_sent(failure: Failure) -> Error {
    match failure {
        Failure::Timeout => Error::new(ErrorKind::Timeout, "bus publish"),
        Failure::Panicked(message) => {
            Error::new(ErrorKind::Unavailable, "bus publish").detail(format!("it panicked: {message}"))
        }
    }
}

/// Listens for as long as the cache is there.
pub(crate) async fn listen<K, V, S>(engine: Weak<Engine<K, V, S>>, fleet: Arc<Fleet>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    let settings = HearingSettings::default();
    let settings =
        settings.longest_heartbeat(LONGEST_HEARTBEAT.max(fleet.heartbeat)).heartbeat(fleet.heartbeat);
    let mut hearing = Hearing::new(fleet.own, fleet.namespace.clone(), settings);
    let mut backoff = Backoff::new(Duration::from_millis(25), LOOK);
    loop {
        let heard = Box::pin(subscribe_and_hear(&engine, &fleet, &mut hearing, &mut backoff));
        let heard = guard(heard, Duration::MAX).await;
        let Some(engine) = engine.upgrade() else { return };
        // Nothing is heard until there is another subscription.
        engine.trust_nothing();
        if heard.is_err() {
            // Somebody's key or value. What was heard is done in part.
            engine.emit(&Event::TaskPanicked);
        }
        let _ = hearing.on_event(BusEvent::Interrupted, fleet.clock.now());
        drop(engine);
        sleep(backoff.next(&fleet.entropy)).await;
    }
}

/// Hears until the bus or the subscription has ended, or the cache is gone.
async fn subscribe_and_hear<K, V, S>(
    engine: &Weak<Engine<K, V, S>>,
    fleet: &Fleet,
    hearing: &mut Hearing,
    backoff: &mut Backoff,
) where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    let Ok(mut subscription) = fleet.bus.subscribe().await else { return };
    while hear(engine, fleet, hearing, &mut *subscription).await.is_some() {
        backoff.reset();
    }
}

/// What comes next, or that nothing did. `None`: the cache is gone, or the subscription has ended.
async fn hear<K, V, S>(
    engine: &Weak<Engine<K, V, S>>,
    fleet: &Fleet,
    hearing: &mut Hearing,
    subscription: &mut dyn Subscription,
) -> Option<()>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    let look_in = hearing.next_look().map_or(LOOK, |at| at.since(fleet.clock.now()).min(LOOK));
    let event = timeout(look_in, subscription.next()).await;
    let engine = engine.upgrade()?;
    let now = fleet.clock.now();
    let heard = match event {
        Ok(event) => hearing.on_event(event.ok()?, now),
        Err(_) => hearing.on_time(now),
    };
    engine.apply(fleet, hearing, heard).await;
    Some(())
}
