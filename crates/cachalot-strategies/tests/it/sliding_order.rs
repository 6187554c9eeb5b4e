//! A touch never brings anything back, and prolongs nothing but what was read.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use cachalot_core::{Entry, LoadFn, Pattern, Tags, Tier};
use cachalot_invalidation::LocalBus;
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, Removal, Sliding};
use cachalot_testkit::{Fault, Faulty, Operation};

use crate::sliding::{over, read, slides};
use crate::world::{Users, World, pass, secs, settle};

/// The boundaries of a touch: before it reads, before it touches, before it goes back to memory.
const STEPS: [(Operation, Fault); 4] = [
    (Operation::GetMany, Fault::Delay(Duration::from_secs(1))),
    (Operation::GetMany, Fault::AnswerLate(Duration::from_millis(900))),
    (Operation::Touch, Fault::Delay(Duration::from_millis(900))),
    (Operation::Touch, Fault::AnswerLate(Duration::from_millis(900))),
];

const INVALIDATIONS: [&str; 7] = ["remove", "expire", "insert", "tag", "pattern", "clear", "many"];

async fn invalidate(how: &str, cache: &Users) {
    let removal = match how {
        "remove" => cache.remove(&1).await.unwrap(),
        "expire" => cache.expire(&1).await.unwrap(),
        "tag" => cache.remove_tag("people").await.unwrap(),
        "pattern" => cache.remove_pattern(&Pattern::new("1*")).await.unwrap(),
        "clear" => cache.clear().await.unwrap(),
        "many" => cache.remove_many(&[1, 2]).await.unwrap()[0],
        _ => {
            cache.insert(1, "Augusta".to_owned()).await.unwrap();
            Removal::Removed
        }
    };
    assert_eq!(removal, Removal::Removed);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_at_any_step_of_a_touch_is_not_undone() {
    for (operation, fault) in STEPS {
        for how in INVALIDATIONS {
            for by_another in [false, true] {
                let what = format!("{operation:?} {fault:?}, {how}, by another process: {by_another}");
                let world = World::new();
                let bus = LocalBus::new();
                let tier = Faulty::new(world.shared.clone());
                let build = |backend: Faulty| {
                    let builder = slides(world.builder()).backend(backend).bus(bus.clone());
                    builder.build().unwrap()
                };
                let (cache, other) = (build(tier.clone()), build(Faulty::new(world.shared.clone())));
                settle().await;
                let tagged =
                    |options: cachalot_core::EntryOptions| options.tags(Tags::new(["people"]).unwrap());
                let sessions = over(&world, &cache).with(tagged);
                read(&sessions, 1).await;
                for _ in 0..20 {
                    pass(secs(1)).await; // With its heartbeats.
                }
                tier.next_of(operation, fault);
                let before = tier.calls_of(operation);
                assert_eq!(read(&sessions, 1).await.tier(), Tier::Memory, "{what}");
                assert_eq!(tier.calls_of(operation) - before, 1, "it stands there: {what}");
                world.source.set(1, "Augusta".to_owned());
                invalidate(how, if by_another { &other } else { &cache }).await;
                settle().await;
                pass(secs(2)).await;
                assert_eq!(*read(&sessions, 1).await, "Augusta", "{what}");
                assert_eq!(*read(&over(&world, &other), 1).await, "Augusta", "{what}");
                assert_eq!(world.in_shared(1).await.unwrap(), "Augusta", "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_taken_the_place_of_what_was_read_is_not_prolonged() {
    for (operation, fault) in &STEPS[1..3] {
        let world = World::new();
        let tier = Faulty::new(world.shared.clone());
        let builder = slides(world.builder()).backend(tier.clone()).memory_ttl(Duration::MAX);
        let sessions = over(&world, &builder.build().unwrap());
        read(&sessions, 1).await;
        pass(secs(20)).await;
        tier.next_of(*operation, *fault);
        read(&sessions, 1).await;
        let elsewhere = world.node();
        elsewhere.with(|options| options.ttl(secs(5))).insert(1, "Augusta".to_owned()).await.unwrap();
        pass(secs(2)).await;
        assert_eq!(world.in_shared(1).await.unwrap(), "Augusta");
        pass(secs(3)).await;
        assert!(world.in_shared(1).await.is_none(), "5 s");
        assert_eq!(sessions.touched(), 0);
        // Nobody has told this process; its copy ends when it would have.
        pass(secs(74)).await;
        assert_eq!(*read(&sessions, 1).await, "Ada");
        pass(secs(1)).await;
        world.source.set(1, "Grace".to_owned());
        assert_eq!(*read(&sessions, 1).await, "Grace", "t = 100 s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_meanwhile_does_not_come_back() {
    for (operation, _) in STEPS {
        let world = World::new();
        let tier = Faulty::new(world.shared.clone());
        let builder = slides(world.builder()).backend(tier.clone()).memory_ttl(Duration::MAX);
        let sessions = over(&world, &builder.backend_timeout(secs(60)).build().unwrap());
        read(&sessions, 1).await;
        pass(secs(99)).await;
        tier.next_of(operation, Fault::Delay(secs(2)));
        read(&sessions, 1).await;
        pass(secs(3)).await;
        world.source.set(1, "Augusta".to_owned());
        assert_eq!(*read(&sessions, 1).await, "Augusta", "{operation:?}");
        assert_eq!(sessions.touched(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_prolonged_still_ends_with_its_tag() {
    for is_tiered in [false, true] {
        let world = World::new();
        let builder = slides(world.builder());
        let builder =
            if is_tiered { builder.backend(world.shared.clone()).memory_ttl(Duration::MAX) } else { builder };
        let cache = builder.build().unwrap();
        let sessions = over(&world, &cache).marked_by(|load, _| load.tag("people"));
        read(&sessions, 1).await;
        for _ in 0..3 {
            pass(secs(50)).await;
            read(&sessions, 1).await;
        }
        assert_eq!(sessions.touched(), 3);
        cache.remove_tag("people").await.unwrap();
        assert!(cache.get(&1).await.is_none(), "over a shared tier: {is_tiered}");
        world.source.set(1, "Augusta".to_owned());
        assert_eq!(*read(&sessions, 1).await, "Augusta");
    }
}

#[tokio::test(start_paused = true)]
async fn a_touch_is_a_task_of_the_cache_and_a_cache_that_is_shut_down_starts_none() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let builder = slides(world.builder()).backend(tier.clone()).memory_ttl(Duration::MAX);
    let cache = builder.build().unwrap();
    let sessions = over(&world, &cache);
    read(&sessions, 1).await;
    pass(secs(20)).await;
    tier.next_of(Operation::Touch, Fault::Delay(secs(1)));
    read(&sessions, 1).await;
    assert_eq!(cache.shutdown(secs(0)).await.unwrap_err().tasks, 1);
    cache.shutdown(secs(5)).await.unwrap();
    assert_eq!(sessions.touched(), 1);
    pass(secs(50)).await;
    for _ in 0..2 {
        assert_eq!(read(&sessions, 1).await.tier(), Tier::Memory);
    }
    assert_eq!(sessions.touched(), 1);
}

/// A value that stops in the middle of being cloned, once.
struct Slow {
    stops: Arc<AtomicBool>,
    /// Passed twice: when it has stopped, and when it may go on.
    barrier: Arc<Barrier>,
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        if self.stops.swap(false, Ordering::SeqCst) {
            self.barrier.wait();
            self.barrier.wait();
        }
        Self { stops: self.stops.clone(), barrier: self.barrier.clone() }
    }
}

impl fmt::Debug for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slow")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_while_memory_prolongs_is_not_undone() {
    let time = cachalot_core::ManualClock::new();
    let slow = Slow { stops: Arc::new(AtomicBool::new(false)), barrier: Arc::new(Barrier::new(2)) };
    let cache: Cache<u64, Slow, Memory<u64, Arc<Entry<Slow>>>> = Cache::builder("slow")
        .memory(Memory::entries(10))
        .clock(time.clock())
        .ttl(secs(100))
        .max_age(secs(1000))
        .build()
        .unwrap();
    let none = LoadFn::new(|_: u64| async { Ok::<Option<Slow>, std::io::Error>(None) });
    let sessions = Sliding::new(cache.clone(), none).unwrap();
    cache.insert(1, slow.clone()).await.unwrap();
    time.advance(secs(50));
    slow.stops.store(true, Ordering::SeqCst);
    let reading = tokio::spawn({
        let sessions = sessions.clone();
        async move { sessions.get(&1).await.unwrap().is_some() }
    });
    let (stopped, goes_on) = (slow.barrier.clone(), slow.barrier.clone());
    tokio::task::spawn_blocking(move || stopped.wait()).await.unwrap();
    cache.remove(&1).await.unwrap();
    tokio::task::spawn_blocking(move || goes_on.wait()).await.unwrap();
    assert!(reading.await.unwrap(), "it had been read before");
    assert!(cache.get_local(&1).is_none());
    assert_eq!(sessions.touched(), 0);
}
