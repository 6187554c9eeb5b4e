//! TTL policies as a cache applies them.

use std::time::Duration;

use cachalot_core::units::{hours, millis};
use cachalot_core::{DataClass, Tiers, Ttl};

use crate::world::{UsersBuilder, World, on_both, pass, secs};

#[tokio::test(start_paused = true)]
async fn what_took_longer_to_load_lives_longer_in_both_tiers() {
    let by_cost = Ttl::seconds(60).cost_aware(secs(1), secs(240));
    let build = |builder: UsersBuilder| builder.ttl(by_cost);
    on_both(build, async |world, cache| {
        for (key, cost) in [(1, 0), (2, 1), (3, 9)] {
            let load = |_| async move {
                tokio::time::sleep(secs(cost)).await;
                Ok(key.to_string())
            };
            cache.get_or_load(&key, load).await.unwrap();
        }
        let began = world.clock.now();
        // The loads came one after the other: the first is ten seconds old by now, the second nine.
        let there = async |at: u64| {
            pass(secs(at).saturating_sub(world.clock.now().since(began))).await;
            let mut found = Vec::new();
            for key in [1, 2, 3] {
                found.extend(cache.get(&key).await.map(|_| key));
            }
            found
        };
        assert_eq!(there(49).await, [1, 2, 3]);
        assert_eq!(there(51).await, [2, 3], "60 s");
        assert_eq!(there(110).await, [2, 3]);
        assert_eq!(there(112).await, [3], "120 s");
        assert_eq!(there(239).await, [3]);
        assert_eq!(there(241).await, [0; 0], "240 s at most");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_insert_costs_nothing_and_gets_the_base() {
    let world = World::new();
    let cache = world.builder().ttl(Ttl::seconds(60).cost_aware(Duration::ZERO, hours(1))).build().unwrap();
    cache.insert(1, "Ada".to_owned()).await.unwrap();
    pass(secs(60)).await;
    assert!(cache.get_local(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_and_a_loader_look_a_class_up() {
    let world = World::new();
    let cache = world.alone();
    let tiers = Tiers::presets().class("guest", secs(20)).base(secs(30));
    let search = cache.with(|options| options.ttl(tiers.of(DataClass::Search)));
    search.get_or_load(&1, |_| async { Ok("by the call".to_owned()) }).await.unwrap();
    for (key, class) in [(2, "guest"), (3, "nobody said"), (4, "real-time")] {
        let tiers = tiers.clone();
        let load = move |load: cachalot_strategies::Load<u64>| async move {
            load.ttl(tiers.of(class));
            Ok("by the loader".to_owned())
        };
        cache.get_or_load(&key, load).await.unwrap();
    }
    let there = || (1..=4).filter(|key| cache.get_local(key).is_some()).collect::<Vec<u64>>();
    pass(secs(9) - millis(1)).await;
    assert_eq!(there(), [1, 2, 3, 4]);
    pass(secs(2) + millis(2)).await;
    assert_eq!(there(), [1, 2, 3]);
    pass(secs(9)).await;
    assert_eq!(there(), [1, 3]);
    pass(secs(10)).await;
    assert_eq!(there(), [1]);
    pass(secs(36)).await;
    assert_eq!(there(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_absence_keeps_the_negative_ttl_whatever_the_loader_says_of_values() {
    let world = World::new();
    let cache = world.builder().ttl(secs(60)).negative_ttl(secs(10)).build().unwrap();
    let load = |load: cachalot_strategies::Load<u64>| async move {
        load.ttl(secs(3600));
        Ok(None::<String>)
    };
    cache.get_or_load_opt(&9, load).await.unwrap();
    pass(secs(10)).await;
    let load = |_| async { Ok(Some("there by now".to_owned())) };
    assert!(cache.get_or_load_opt(&9, load).await.unwrap().is_some());
}
