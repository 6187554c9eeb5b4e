//! Inserts and removals, and what they do to loads in flight.

use cachalot_core::{Entropy, Held, LeaseBackend, Namespace, Tier, Token};
use cachalot_strategies::{Inserted, Removal};

use crate::world::{World, pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn an_insert_reaches_every_tier() {
    let world = World::new();
    let cache = world.node();
    assert_eq!(cache.insert(1, "Grace".into()).await.unwrap(), Inserted::Stored);
    assert_eq!(*cache.get_local(&1).unwrap(), "Grace");
    assert_eq!(world.in_shared(1).await.unwrap(), "Grace");
}

#[tokio::test(start_paused = true)]
async fn an_insert_is_not_overwritten_by_an_older_load() {
    let world = World::new();
    for cache in [world.alone(), world.node()] {
        world.source.set(1, "old".into());
        let gate = world.source.stop_after_reading();
        let load = world.spawn_load(&cache, 1);
        gate.reached(gate.arrivals().max(1)).await;
        assert_eq!(cache.insert(1, "new".into()).await.unwrap(), Inserted::Stored);
        gate.open();
        let _ = load.await.unwrap();
        settle().await;
        assert_eq!(*cache.get_local(&1).unwrap(), "new");
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "new");
    }
    assert_eq!(world.in_shared(1).await.unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_removal_during_a_load_is_not_undone() {
    let world = World::new();
    for cache in [world.alone(), world.node()] {
        world.source.set(1, "old".into());
        let gate = world.source.stop_after_reading();
        let load = world.spawn_load(&cache, 1);
        settle().await;
        world.source.set(1, "new".into());
        assert_eq!(cache.remove(&1).await.unwrap(), Removal::Removed);
        // Whoever comes now does not join the old flight.
        let later = world.spawn_load(&cache, 1);
        settle().await;
        gate.open();
        assert_eq!(*load.await.unwrap().unwrap(), "old", "it began before the removal");
        assert_eq!(*later.await.unwrap().unwrap(), "new");
        settle().await;
        assert_eq!(*cache.get_local(&1).unwrap(), "new");
    }
    assert_eq!(world.in_shared(1).await.unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_removal_by_another_process_during_a_load_is_not_undone_in_the_shared_tier() {
    let world = World::new();
    let (loader, remover) = (world.node(), world.node());
    let gate = world.source.stop_after_reading();
    let load = world.spawn_load(&loader, 1);
    gate.reached(1).await;
    world.source.set(1, "new".into());
    remover.remove(&1).await.unwrap();
    gate.open();
    load.await.unwrap().unwrap();
    settle().await;
    assert!(loader.get_local(&1).is_none(), "what the shared tier refused, memory does not keep");
    assert!(world.in_shared(1).await.is_none());
    assert!(loader.stats().fenced >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_does_not_stop_its_removal() {
    let world = World::new();
    let cache = world.node();
    world.load(&cache, 1).await.unwrap();
    {
        let mut removal = Box::pin(cache.remove(&1));
        let waker = std::task::Waker::noop();
        let polled = removal.as_mut().poll(&mut std::task::Context::from_waker(waker));
        assert!(polled.is_pending());
    }
    settle().await;
    assert!(cache.get(&1).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn of_two_writers_that_overlap_neither_leaves_an_old_value() {
    let world = World::new();
    let cache = world.builder().backend(world.shared.clone()).hold_term(secs(5)).build().unwrap();
    let key = Namespace::new("users").unwrap().key(&1u64);
    let stranger = Token::draw(&Entropy::seeded(3));
    assert_eq!(world.shared.hold(&key, stranger, secs(5)).await.unwrap(), Held::Held);
    assert_eq!(cache.insert(1, "Grace".into()).await.unwrap(), Inserted::Dropped);
    assert!(cache.get_local(&1).is_none());
    // Readers are not kept waiting for a poisoned hold: they load, and store nothing.
    let began = world.clock.now();
    assert_eq!(world.load(&cache, 1).await.unwrap().tier(), Tier::Loader);
    assert!(world.clock.now().since(began) < secs(1));
    assert!(cache.get_local(&1).is_none());
    pass(secs(6)).await;
    world.load(&cache, 1).await.unwrap();
    assert_eq!(world.in_shared(1).await.unwrap(), "Ada");
}

#[tokio::test(start_paused = true)]
async fn an_insert_too_heavy_for_memory_is_stored_below() {
    use cachalot_memory_backend::Memory;
    let world = World::new();
    let cache =
        world.builder().memory(Memory::weight_limit(1)).backend(world.shared.clone()).build().unwrap();
    assert_eq!(cache.insert(1, "Grace".into()).await.unwrap(), Inserted::Stored);
    assert!(cache.get_local(&1).is_none());
    assert_eq!(world.in_shared(1).await.unwrap(), "Grace");
}

#[tokio::test(start_paused = true)]
async fn an_insert_with_no_ttl_removes() {
    let world = World::new();
    let cache = world.node();
    world.load(&cache, 1).await.unwrap();
    let unstored = cache.with(|options| options.ttl(std::time::Duration::ZERO));
    assert_eq!(unstored.insert(1, "Grace".into()).await.unwrap(), Inserted::Dropped);
    assert!(cache.get(&1).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_by_borrowed_key_too() {
    use cachalot_memory_backend::Memory;
    use cachalot_strategies::Cache;
    type Names = Cache<String, u64, Memory<String, std::sync::Arc<cachalot_core::Entry<u64>>>>;
    let names: Names = Cache::builder("names").memory(Memory::entries(10)).build().unwrap();
    names.insert("ada".to_owned(), 1).await.unwrap();
    assert_eq!(names.get_local("ada").as_deref(), Some(&1));
    names.remove("ada").await.unwrap();
    assert!(names.get_local("ada").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_during_a_closure_that_reads_by_itself_is_not_undone() {
    let cache = World::new().alone();
    let (remover, runtime) = (cache.clone(), tokio::runtime::Handle::current());
    let load = |_| {
        let old = "Ada".to_owned();
        let removal = move || runtime.block_on(remover.remove(&1)).unwrap();
        std::thread::spawn(removal).join().unwrap();
        async move { Ok(old) }
    };
    assert_eq!(*cache.get_or_load(&1, load).await.unwrap(), "Ada", "it came before the removal");
    assert!(cache.get_local(&1).is_none());
}
