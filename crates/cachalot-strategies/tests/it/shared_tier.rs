//! Memory over a shared tier: many processes, one load, and no old value.

use std::time::Duration;

use cachalot_core::codec::MsgPack;
use cachalot_core::envelope::{self, Header};
use cachalot_core::{Entropy, ErrorKind, LeaseBackend, LeaseReply, Namespace, Nonce, Put, Tier, Token};

use cachalot_memory_backend::MemoryBackend;

use crate::world::{World, pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn what_one_process_loads_the_next_reads() {
    let world = World::new();
    let (one, two) = (world.node(), world.node());
    assert_eq!(world.load(&one, 1).await.unwrap().tier(), Tier::Loader);
    assert_eq!(world.load(&two, 1).await.unwrap().tier(), Tier::Backend);
    assert_eq!(world.load(&two, 1).await.unwrap().tier(), Tier::Memory);
    assert_eq!(world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn forty_processes_share_one_load() {
    let world = World::new();
    let nodes: Vec<_> = (0..40).map(|_| world.node()).collect();
    let gate = world.source.stop_after_reading();
    let callers: Vec<_> =
        nodes.iter().flat_map(|node| [world.spawn_load(node, 1), world.spawn_load(node, 1)]).collect();
    gate.reached(1).await;
    tokio::time::sleep(secs(2)).await;
    gate.open();
    for caller in callers {
        assert_eq!(*caller.await.unwrap().unwrap(), "Ada");
    }
    assert_eq!(world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_while_loading_holds_others_up_for_its_term_only() {
    let world = World::new();
    let build = || world.builder().backend(world.shared.clone()).hard_timeout(secs(5)).build().unwrap();
    let key = Namespace::new("users").unwrap().key(&1u64);
    let token = Token::draw(&Entropy::seeded(9));
    let reply = world.shared.get_or_lease(&key, token, secs(5), None).await.unwrap();
    assert_eq!(reply, LeaseReply::Lease { stale: None });

    let began = world.clock.now();
    assert_eq!(*world.load(&build(), 1).await.unwrap(), "Ada");
    let waited = world.clock.now().since(began);
    assert!(waited >= secs(5) && waited < secs(6), "{waited:?}");
    // The dead one was only slow: its fill comes too late.
    let put = Put { payload: "old".into(), nonce: Nonce::draw(&Entropy::seeded(8)), ttl: secs(60) };
    world.shared.put_leased(&key, token, put).await.unwrap();
    assert_eq!(world.in_shared(1).await.unwrap(), "Ada");
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_lets_the_other_processes_go_on_at_once() {
    let world = World::new();
    let (one, two) = (world.node(), world.node());
    let gate = world.source.stop_after_reading();
    world.source.fail_next(1);
    let first = world.spawn_load(&one, 1);
    gate.reached(1).await;
    let second = world.spawn_load(&two, 1);
    settle().await;
    gate.open();
    let began = world.clock.now();
    assert!(first.await.unwrap().is_err());
    assert_eq!(*second.await.unwrap().unwrap(), "Ada");
    assert!(world.clock.now().since(began) < secs(1), "not the lease's term");
}

#[tokio::test(start_paused = true)]
async fn memory_keeps_a_copy_for_memory_ttl_only() {
    let world = World::new();
    let cache =
        world.builder().backend(world.shared.clone()).ttl(secs(60)).memory_ttl(secs(5)).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    pass(secs(5)).await;
    assert!(cache.get_local(&1).is_none());
    let again = cache.get(&1).await.unwrap();
    assert_eq!((again.tier(), again.age()), (Tier::Backend, secs(5)));
    assert_eq!(world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_dies_with_the_value_it_was_made_of() {
    let world = World::new();
    let build = || {
        let builder = world.builder().backend(world.shared.clone());
        builder.ttl(secs(60)).memory_ttl(Duration::MAX).build().unwrap()
    };
    let (one, two) = (build(), build());
    world.load(&one, 1).await.unwrap();
    pass(secs(50)).await;
    assert_eq!(two.get(&1).await.unwrap().age(), secs(50));
    pass(secs(10)).await;
    assert!(two.get(&1).await.is_none(), "it is 60 s old, whatever this process has seen of it");
}

#[tokio::test(start_paused = true)]
async fn rubbish_in_the_shared_tier_is_a_miss_and_is_replaced() {
    let world = World::new();
    let key = Namespace::new("users").unwrap().key(&1u64);
    let token = Token::draw(&Entropy::seeded(9));
    world.shared.get_or_lease(&key, token, secs(5), None).await.unwrap();
    let put = Put { payload: "no envelope".into(), nonce: Nonce::draw(&Entropy::seeded(8)), ttl: secs(60) };
    world.shared.put_leased(&key, token, put).await.unwrap();

    let cache = world.node();
    assert!(cache.get(&1).await.is_none());
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
    assert_eq!(world.in_shared(1).await.unwrap(), "Ada");
    assert_eq!(cache.stats().undecodable, 2, "once for each read");
}

#[tokio::test(start_paused = true)]
async fn two_schemas_live_together_without_thrashing() {
    let world = World::new();
    let build = |schema| {
        let builder = world.builder().backend(world.shared.clone()).schema(schema).memory_ttl(secs(1));
        builder.ttl(secs(600)).build().unwrap()
    };
    let (old, new) = (build(1), build(2));
    world.load(&old, 1).await.unwrap();
    assert_eq!(world.load(&new, 1).await.unwrap().tier(), Tier::Loader, "an older schema is a miss");
    pass(secs(2)).await;
    assert_eq!(world.load(&old, 1).await.unwrap().tier(), Tier::Loader, "a newer one too");
    pass(secs(2)).await;
    assert_eq!(world.load(&new, 1).await.unwrap().tier(), Tier::Backend, "and was not overwritten");
    assert_eq!(world.source.loads(), 3);
    assert_eq!(old.get_local(&1).map(|_| ()), None);

    // A removal by either reaches what both have written.
    old.remove(&1).await.unwrap();
    pass(secs(2)).await;
    assert!(new.get(&1).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn negative_entries_travel() {
    let world = World::new();
    let build = || world.builder().backend(world.shared.clone()).negative_ttl(secs(10)).build().unwrap();
    let (one, two) = (build(), build());
    assert!(one.get_or_load_opt(&9, |_| async { Ok(None) }).await.unwrap().is_none());
    let asked = two.get_or_load_opt(&9, |_| async { panic!("known to be absent") }).await.unwrap();
    assert!(asked.is_none());
    // A caller that brings a value is not answered by absence, and replaces it.
    assert_eq!(*two.get_or_load(&9, |_| async { Ok("born".to_owned()) }).await.unwrap(), "born");
    assert_eq!(world.in_shared(9).await.unwrap(), "born");
}

#[tokio::test(start_paused = true)]
async fn a_value_under_a_wrong_key_is_a_miss() {
    let world = World::new();
    let names = Namespace::new("users").unwrap();
    let header = Header {
        codec: 1,
        schema: 0,
        negative: false,
        fresh_for: secs(60),
        kept_for: secs(60),
        compute_time: Duration::ZERO,
        version: 0,
    };
    let payload =
        envelope::encode(&names.key(&2u64), header, &[], Some(&"Grace".to_owned()), &MsgPack).unwrap();
    let token = Token::draw(&Entropy::seeded(9));
    world.shared.get_or_lease(&names.key(&1u64), token, secs(5), None).await.unwrap();
    let put = Put { payload, nonce: Nonce::draw(&Entropy::seeded(8)), ttl: secs(60) };
    world.shared.put_leased(&names.key(&1u64), token, put).await.unwrap();
    assert!(world.node().get(&1).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn contradictory_builders_are_refused() {
    let world = World::new();
    let kind = |built: cachalot_core::Result<crate::world::Users>| built.unwrap_err().kind();
    assert_eq!(kind(cachalot_strategies::Cache::builder("users").build()), ErrorKind::Config);
    assert_eq!(kind(world.builder().schema(1).build()), ErrorKind::Config);
    assert_eq!(
        kind(world.builder().lease_term(secs(5)).build()),
        ErrorKind::Config,
        "below the hard timeout"
    );
    assert_eq!(kind(world.builder().hard_timeout(Duration::ZERO).build()), ErrorKind::Config);
    let memory = cachalot_memory_backend::Memory::entries(10);
    assert_eq!(kind(cachalot_strategies::Cache::builder("a:b").memory(memory).build()), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn what_the_shared_tier_cannot_hold_memory_keeps_only_under_the_lease() {
    let world = World::new();
    let narrow = MemoryBackend::with_limit(400, world.clock.clone());
    let (loader, remover) = (world.over(narrow.clone()), world.over(narrow));
    world.source.set(1, "x".repeat(1000));
    for removed in [false, true] {
        let gate = world.source.stop_after_reading();
        let load = world.spawn_load(&loader, 1);
        gate.reached(gate.arrivals() + 1).await;
        if removed {
            remover.remove(&1).await.unwrap();
        }
        gate.open();
        load.await.unwrap().unwrap();
        assert_eq!(loader.get_local(&1).is_none(), removed);
        loader.remove(&1).await.unwrap();
    }
    assert_eq!(loader.stats().unstorable, 2);
}
