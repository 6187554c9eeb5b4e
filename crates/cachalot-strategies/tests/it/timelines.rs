//! The timelines in the docs of the builder, walked over memory alone and over memory with a shared tier.

use cachalot_core::units::millis;
use cachalot_core::{ErrorKind, Freshness};
use cachalot_strategies::StaleReason;

use crate::world::{UsersBuilder, on_both, pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn stale_while_revalidate() {
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).stale_while_revalidate(secs(30));
    on_both(build, async |world, cache| {
        let _slow = world.source.clone().taking(secs(1));
        world.load(&cache, 1).await.unwrap(); // t = 0
        world.source.set(1, "Augusta".into());
        pass(secs(59)).await;
        assert_eq!(world.load(&cache, 1).await.unwrap().freshness(), Freshness::Fresh);
        pass(secs(11)).await; // t = 70
        let began = world.clock.now();
        for _ in 0..20 {
            let served = world.load(&cache, 1).await.unwrap();
            assert_eq!((&**served, served.freshness()), ("Ada", Freshness::Stale));
            assert!(matches!(served.stale_reason(), Some(StaleReason::Revalidating)));
            settle().await;
        }
        assert_eq!(world.clock.now(), began, "at once");
        pass(secs(1)).await; // t = 71
        let fresh = world.load(&cache, 1).await.unwrap();
        assert_eq!((&**fresh, fresh.freshness()), ("Augusta", Freshness::Fresh));
        assert_eq!(world.source.loads(), 2);
        pass(secs(95)).await;
        world.source.set(1, "Grace".into());
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Grace", "untouched until then: a miss");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn stale_if_error() {
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).stale_if_error(secs(3600));
    on_both(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap(); // t = 0
        pass(secs(70)).await;
        let _slow = world.source.clone().taking(secs(1));
        world.source.fail_next(2);
        let began = world.clock.now();
        let served = world.load(&cache, 1).await.unwrap();
        assert_eq!(world.clock.now().since(began), secs(1), "its callers wait");
        assert_eq!((&**served, served.freshness()), ("Ada", Freshness::Stale));
        assert!(matches!(served.stale_reason(), Some(StaleReason::LoadFailed(_))));
        pass(secs(3629)).await; // t = 3,700
        assert!(world.load(&cache, 1).await.is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn max_stale() {
    let build = |builder: UsersBuilder| {
        let builder = builder.ttl(secs(60)).stale_while_revalidate(secs(600)).stale_if_error(secs(3600));
        builder.max_stale(secs(20))
    };
    on_both(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap(); // t = 0
        pass(secs(80)).await;
        world.source.fail_next(2);
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada", "stale for 20 s");
        settle().await;
        pass(secs(1)).await; // t = 81
        assert!(world.load(&cache, 1).await.is_err(), "whatever fails");
        // A call with a bound of its own, here as good as none.
        world.source.fail_next(1);
        let source = world.source.clone();
        let lenient = cache.with(|options| options.max_stale(secs(3600)));
        let load = lenient.get_or_load(&1, |load| async move { Ok(source.fetch(load.key()).await?) });
        assert_eq!(*load.await.unwrap(), "Ada");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_its_own_for_absence() {
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).negative_ttl(secs(10));
    on_both(build, async |world, cache| {
        let source = world.source.clone();
        let ask = async || {
            let source = source.clone();
            let load = |load: cachalot_strategies::Load<u64>| async move {
                source.fetch(&1).await?; // counted
                Ok(source.row(load.key()))
            };
            cache.get_or_load_opt(&9, load).await.unwrap()
        };
        assert!(ask().await.is_none()); // t = 0
        pass(secs(9)).await;
        world.source.set(9, "Grace".into());
        assert!(ask().await.is_none(), "known to be absent");
        assert_eq!(world.source.loads(), 1);
        pass(secs(1)).await; // t = 10
        assert_eq!(*ask().await.unwrap(), "Grace");
        pass(secs(59)).await;
        assert_eq!(*ask().await.unwrap(), "Grace", "a value has the other TTL");
        assert_eq!(world.source.loads(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hard_timeout_alone() {
    on_both(
        |builder| builder.hard_timeout(secs(1)),
        async |world, cache| {
            let began = world.clock.now();
            let hang = cache.get_or_load(&1, |_| std::future::pending()).await.unwrap_err();
            assert_eq!(hang.cache_kind(), Some(ErrorKind::Timeout));
            assert_eq!(world.clock.now().since(began), secs(1));
            settle().await;
            assert_eq!(cache.stats().flights, 0);
            assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_refreshes() {
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).early_refresh(0.9).refresh_budget(100, 10);
    on_both(build, async |world, cache| {
        let keys = 0..300;
        for key in keys.clone() {
            world.source.set(key, "Ada".into());
            world.load(&cache, key).await.unwrap(); // t = 0
        }
        pass(secs(54)).await;
        let mut loaded = world.source.loads();
        for (refreshes, then) in [(10, 10), (1, 10), (1, 5980)] {
            for key in keys.clone() {
                assert_eq!(world.load(&cache, key).await.unwrap().freshness(), Freshness::Fresh);
            }
            settle().await;
            loaded += refreshes;
            assert_eq!(world.source.loads(), loaded);
            pass(millis(then)).await; // t = 54.01, t = 54.02, t = 60
        }
        for key in keys.clone() {
            world.load(&cache, key).await.unwrap();
        }
        assert_eq!(world.source.loads(), loaded + 300 - 12, "what is left is loaded as it is asked for");
    })
    .await;
}
