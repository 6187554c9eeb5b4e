//! Tags of callers who join the load of another.

use cachalot_core::Tags;
use cachalot_strategies::LoadMany;

use crate::world::{Users, UsersBuilder, World, on_both, secs, settle};

fn built(builder: UsersBuilder) -> UsersBuilder {
    builder.ttl(secs(60))
}

/// A load of user 1 under the tag `name`, if it is one, in a task of its own.
fn spawn(world: &World, cache: &Users, name: &'static str, many: bool) -> tokio::task::JoinHandle<()> {
    let (source, cache) = (world.source.clone(), cache.clone());
    tokio::spawn(async move {
        let tags = Tags::new([name].into_iter().filter(|name| !name.is_empty())).unwrap();
        let view = cache.with(|options| options.tags(tags));
        if many {
            let load = move |load: LoadMany<u64>| {
                let source = source.clone();
                async move { Ok([(1, source.fetch(&load.keys()[0]).await?)]) }
            };
            view.get_many_or_load(&[1], load).await.remove(0).unwrap();
        } else {
            view.get_or_load(&1, |load| async move { Ok(source.fetch(load.key()).await?) }).await.unwrap();
        }
    })
}

#[tokio::test(start_paused = true)]
async fn the_tags_of_who_joins_a_load_end_what_it_stores() {
    for (leads_many, joins_many) in [(false, false), (false, true), (true, false), (true, true)] {
        for ended_by in ["of one", "of two", "of the leader"] {
            on_both(built, async |world, cache| {
                let gate = world.source.stop_after_reading();
                let leader = spawn(&world, &cache, "of the leader", leads_many);
                gate.reached(1).await;
                let [none, one, two] =
                    ["", "of one", "of two"].map(|name| spawn(&world, &cache, name, joins_many));
                settle().await;
                gate.open();
                for caller in [leader, none, one, two] {
                    caller.await.unwrap();
                }
                assert_eq!(world.source.loads(), 1);
                assert!(cache.get(&1).await.is_some());
                cache.remove_tag("of nobody").await.unwrap();
                assert!(cache.get(&1).await.is_some());
                cache.remove_tag(ended_by).await.unwrap();
                assert!(cache.get(&1).await.is_none(), "{ended_by}");
            })
            .await;
        }
    }
}
