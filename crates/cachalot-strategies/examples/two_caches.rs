//! Two caches in one process, told by a bus what the other removes, and what they have missed.
//!
//! `cargo run -p cachalot-strategies --example two_caches`
//!
//! Each cache has a task that listens and one that speaks. A cache of yours is told by `Cache`; this shows what
//! happens below it, with a map for a cache.
// It speaks to people.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cachalot_core::{
    Bus, Clock, Entropy, Key, Namespace, PublisherId, Result, Subject, Subscription, Timestamp,
};
use cachalot_invalidation::{
    Announcer, AnnouncerSettings, Deed, Heard, Hearing, HearingSettings, LocalBus, Next,
};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

struct Side {
    name: &'static str,
    /// What a cache would hold in memory, and whether it may be trusted.
    held: Mutex<BTreeMap<Vec<u8>, bool>>,
    announcer: Mutex<Announcer>,
    announced: Notify,
    clock: Clock,
}

impl Side {
    fn start(
        name: &'static str,
        bus: Arc<dyn Bus>,
        users: &Namespace,
        settings: AnnouncerSettings,
    ) -> Arc<Self> {
        let (clock, entropy) = (Clock::system(), Entropy::thread());
        // Random for each cache and start.
        let own = PublisherId::draw(&entropy);
        let announcer = Announcer::new(own, users.clone(), settings, entropy, clock.now());
        let side = Arc::new(Self {
            name,
            held: Mutex::default(),
            announcer: Mutex::new(announcer),
            announced: Notify::new(),
            clock,
        });
        let hearing = Hearing::new(own, users.clone(), HearingSettings::default());
        tokio::spawn(listen(side.clone(), bus.clone(), hearing));
        tokio::spawn(speak(side.clone(), bus));
        side
    }

    /// Once the shared tier has acknowledged the removal, and not before: drop it here, tell the others.
    fn removed(&self, key: Key) {
        lock(&self.held).remove(key.as_bytes());
        lock(&self.announcer).announce(Subject::Key { key, pending: false }, false);
        self.announced.notify_one();
    }

    fn apply(&self, heard: Heard) {
        if let Some(cause) = heard.gap {
            println!("{}: something was missed ({cause:?}), all it holds is suspect", self.name);
            lock(&self.held).values_mut().for_each(|trusted| *trusted = false);
        }
        match heard.deed {
            Deed::Apply(subjects) => {
                for subject in subjects {
                    println!("{}: dropped {subject:?}", self.name);
                    lock(&self.held).remove(subject.name());
                }
            }
            Deed::Nothing | Deed::Wake(_) | Deed::Acked { .. } => {}
        }
        if let Some((publisher, up_to)) = heard.ack {
            lock(&self.announcer).acknowledge(publisher, up_to);
            self.announced.notify_one();
        }
    }
}

/// The task that listens. Ends when the bus does.
async fn listen(side: Arc<Side>, bus: Arc<dyn Bus>, mut hearing: Hearing) -> Result<()> {
    let mut subscription: Box<dyn Subscription> = bus.subscribe().await?;
    loop {
        // `next` may be given up and called again: nothing is lost.
        let heard = match timeout(until(&side.clock, hearing.next_look()), subscription.next()).await {
            Ok(event) => hearing.on_event(event?, side.clock.now()),
            Err(_) => hearing.on_time(side.clock.now()),
        };
        side.apply(heard);
        // Before the first event, and after one that says that the connection is gone, `is_listening` is
        // false: a cache then trusts nothing that others can invalidate.
    }
}

/// The task that speaks. Ends when goodbye is said.
async fn speak(side: Arc<Side>, bus: Arc<dyn Bus>) {
    loop {
        let next = lock(&side.announcer).next(side.clock.now());
        match next {
            Next::Send(message) => {
                let outcome = bus.publish(&message).await;
                let (mut announcer, now) = (lock(&side.announcer), side.clock.now());
                match outcome {
                    Ok(()) => announcer.sent(now),
                    Err(error) => announcer.failed(&error, now),
                }
            }
            // A permit that `notify_one` left behind is not lost.
            Next::Wait(at) => drop(timeout(until(&side.clock, Some(at)), side.announced.notified()).await),
            Next::Done => return,
        }
    }
}

fn until(clock: &Clock, at: Option<Timestamp>) -> Duration {
    at.map_or(Duration::from_secs(1), |at| at.since(clock.now()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (bus, users) = (Arc::new(LocalBus::new()), Namespace::new("users")?);
    let settings = AnnouncerSettings::default().heartbeat(Duration::from_millis(100));
    let here = Side::start("here", bus.clone(), &users, settings.clone());
    let there = Side::start("there", bus, &users, settings.max_subjects(1));
    sleep(Duration::from_millis(20)).await;

    for user in ["7", "8", "9"] {
        lock(&here.held).insert(users.key(user).as_bytes().to_vec(), true);
    }
    there.removed(users.key("7"));
    sleep(Duration::from_millis(20)).await;
    assert_eq!(lock(&here.held).len(), 2, "here was told of it");

    // More than may wait: what does not fit is not sent, and is missing for all others.
    there.removed(users.key("8"));
    there.removed(users.key("100"));
    sleep(Duration::from_millis(20)).await;
    assert!(lock(&here.held).values().all(|trusted| !trusted), "here knows that it missed something");
    println!("here: reads 8 and 9 from the shared tier before it trusts them again");
    Ok(())
}
