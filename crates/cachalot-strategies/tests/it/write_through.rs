//! The source first, then the cache, and no moment at which others could keep the old value.

use std::sync::Arc;

use cachalot_core::{Entry, ErrorKind, FnSource, Tier};
use cachalot_memory_backend::{Memory, MemoryBackend};
use cachalot_strategies::{
    Cache, Cached, Inserted, ReadThrough, Removal, WriteAround, WriteError, WriteThrough,
};
use cachalot_testkit::{CountingSource, Fault, Faulty, Lacking, Operation, SourceError};

use crate::world::{Users, World, on_both, pass, secs, settle};

type Rows = CountingSource<u64, String>;

fn through(world: &World, cache: &Users) -> WriteThrough<u64, String, Memory<u64, Arc<Entry<String>>>, Rows> {
    WriteThrough::new(cache.clone(), world.source.clone())
}

fn text(cached: Option<Cached<String>>) -> Option<String> {
    cached.map(Cached::into_inner)
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_read_without_a_load() {
    on_both(
        |it| it,
        async |world, cache| {
            let users = through(&world, &cache);
            assert_eq!(users.put(1, "Grace".into()).await.unwrap(), Inserted::Stored);
            assert_eq!(world.source.row(&1).as_deref(), Some("Grace"));
            let read = users.get(&1).await.unwrap().unwrap();
            assert_eq!((read.as_str(), read.tier()), ("Grace", Tier::Memory));
            assert_eq!((world.source.stores(), world.source.loads()), (1, 0));
        },
    )
    .await;
    let world = World::new();
    through(&world, &world.node()).put(1, "Grace".into()).await.unwrap();
    assert_eq!(world.in_shared(1).await.as_deref(), Some("Grace"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_source_write_leaves_no_cached_trace() {
    on_both(
        |it| it,
        async |world, cache| {
            let users = through(&world, &cache);
            users.get(&1).await.unwrap();
            world.source.fail_next(1);
            let refused = users.put(1, "Grace".into()).await;
            assert!(matches!(refused, Err(WriteError::Source(SourceError::Told))));
            assert!(cache.get(&1).await.is_none(), "neither value is cached");
            assert_eq!(text(users.get(&1).await.unwrap()).as_deref(), Some("Ada"));
            assert!(
                users.get(&1).await.unwrap().unwrap().tier() == Tier::Memory,
                "and the key is not barred"
            );
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_encoded_does_not_reach_the_source() {
    let world = World::new();
    let cache: Cache<u64, Bad, Memory<u64, Arc<Entry<Bad>>>> = Cache::builder("bad")
        .memory(Memory::entries(10))
        .clock(world.clock.clone())
        .backend(world.shared.clone())
        .build()
        .unwrap();
    let source = CountingSource::with([(1, Bad)]);
    let refused = WriteThrough::new(cache, source.clone()).put(1, Bad).await;
    assert!(matches!(refused, Err(WriteError::Cache(error)) if error.kind() == ErrorKind::Encode));
    assert_eq!(source.stores(), 0);
}

/// What no codec can encode.
#[derive(Clone, Debug, serde::Deserialize)]
struct Bad;

impl serde::Serialize for Bad {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it has no bytes"))
    }
}

#[tokio::test(start_paused = true)]
async fn no_loader_stores_the_old_value_while_the_source_is_written() {
    on_both(
        |it| it,
        async |world, cache| {
            let users = through(&world, &cache);
            let reading = world.source.stop_after_reading();
            let reader = world.spawn_load(&cache, 1);
            reading.reached(1).await;
            let writing = world.source.stop_after_writing();
            let writer = tokio::spawn({
                let users = users.clone();
                async move { users.put(1, "Grace".into()).await }
            });
            writing.reached(1).await;
            // The one that has read the old value comes back with it while the writer has not come back yet.
            reading.open();
            assert_eq!(*reader.await.unwrap().unwrap(), "Ada");
            assert!(cache.get(&1).await.is_none());
            writing.open();
            assert_eq!(writer.await.unwrap().unwrap(), Inserted::Stored);
            assert_eq!(text(cache.get(&1).await).as_deref(), Some("Grace"));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_comes_while_the_source_is_written_stores_nothing_anywhere() {
    let world = World::new();
    let (here, there) = (world.node(), world.node());
    let users = through(&world, &here);
    let writing = world.source.stop_before_writing();
    let writer = tokio::spawn({
        let users = users.clone();
        async move { users.put(1, "Grace".into()).await }
    });
    writing.reached(1).await;
    assert_eq!(*world.load(&there, 1).await.unwrap(), "Ada");
    assert!(there.get_local(&1).is_none() && world.in_shared(1).await.is_none());
    writing.open();
    assert_eq!(writer.await.unwrap().unwrap(), Inserted::Stored);
    assert_eq!(text(there.get(&1).await).as_deref(), Some("Grace"));
}

#[tokio::test(start_paused = true)]
async fn a_removal_meanwhile_leaves_the_key_uncached() {
    on_both(
        |it| it,
        async |world, cache| {
            let users = through(&world, &cache);
            let writing = world.source.stop_after_writing();
            let writer = tokio::spawn({
                let users = users.clone();
                async move { users.put(1, "Grace".into()).await }
            });
            writing.reached(1).await;
            world.source.set(1, "Joan".into());
            assert_eq!(cache.remove(&1).await.unwrap(), Removal::Removed);
            writing.open();
            assert_eq!(writer.await.unwrap().unwrap(), Inserted::Dropped);
            assert!(cache.get(&1).await.is_none());
            assert_eq!(text(users.get(&1).await.unwrap()).as_deref(), Some("Joan"));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn writers_of_two_processes_that_overlap_leave_it_to_the_source_until_the_hold_is_over() {
    let world = World::new();
    let (here, there) = (through(&world, &world.node()), through(&world, &world.node()));
    let writing = world.source.stop_after_writing();
    let mut writers = Vec::new();
    for (users, name) in [(&here, "Grace"), (&there, "Joan")] {
        let (users, name) = (users.clone(), name.to_owned());
        writers.push(tokio::spawn(async move { users.put(1, name).await }));
        writing.reached(writers.len()).await;
    }
    writing.open();
    for writer in writers {
        assert_eq!(writer.await.unwrap().unwrap(), Inserted::Dropped);
    }
    for users in [&here, &there] {
        assert_eq!(text(users.get(&1).await.unwrap()).as_deref(), Some("Joan"));
        assert!(users.cache().get(&1).await.is_none(), "nobody stores while the hold lasts");
    }
    pass(secs(6)).await;
    here.get(&1).await.unwrap();
    assert_eq!(world.in_shared(1).await.as_deref(), Some("Joan"));
}

#[tokio::test(start_paused = true)]
async fn writes_of_one_key_take_turns_in_a_process() {
    on_both(
        |it| it,
        async |world, cache| {
            let users = through(&world, &cache);
            let writing = world.source.stop_after_writing();
            let writers: Vec<_> = (0..10)
                .map(|n| {
                    let users = users.clone();
                    tokio::spawn(async move { users.put(1, format!("user {n}")).await })
                })
                .collect();
            writing.reached(1).await;
            settle().await;
            assert_eq!(world.source.stores(), 1);
            writing.open();
            for writer in writers {
                assert_eq!(writer.await.unwrap().unwrap(), Inserted::Stored);
            }
            assert_eq!(text(cache.get(&1).await), world.source.row(&1));
            assert_eq!(cache.stats().flights, 0);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn batches_of_writers_with_common_keys_end() {
    let world = World::new();
    let users = through(&world, &world.node());
    let writers: Vec<_> = (0..20u64)
        .map(|n| {
            let users = users.clone();
            let keys = [n % 3, (n + 1) % 3, n % 2];
            let pairs: Vec<_> = keys.into_iter().map(|key| (key, format!("{n}"))).collect();
            tokio::spawn(async move { users.put_many(pairs).await })
        })
        .collect();
    for writer in writers {
        assert!(writer.await.unwrap().unwrap().iter().all(|it| *it == Inserted::Stored));
    }
    for key in 0..3 {
        assert_eq!(text(users.cache().get(&key).await), world.source.row(&key));
    }
    assert_eq!(world.source.statements(), 20);
}

#[tokio::test(start_paused = true)]
async fn of_several_values_for_one_key_the_last_is_written() {
    let world = World::new();
    let users = through(&world, &world.node());
    let pairs = [(1, "Grace"), (2, "Joan"), (1, "Mary")].map(|(key, name)| (key, name.to_owned()));
    assert_eq!(users.put_many(pairs).await.unwrap(), [Inserted::Stored; 2]);
    assert_eq!((world.source.stores(), world.source.row(&1).as_deref()), (2, Some("Mary")));
    assert_eq!(users.put_many([]).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_is_absent_and_that_is_cached_if_absence_is() {
    on_both(
        |it| it,
        async |world, cache| {
            let users = through(&world, &cache);
            users.get(&1).await.unwrap();
            assert_eq!(users.delete(&1).await.unwrap(), Removal::Removed);
            assert!(world.source.row(&1).is_none() && users.get(&1).await.unwrap().is_none());
            assert_eq!(world.source.loads(), 2);
            let remembering = users.with(|options| options.negative_ttl(secs(10)));
            assert_eq!(remembering.delete_many(&[1, 2]).await.unwrap(), [Removal::Removed; 2]);
            assert!(
                remembering.get(&1).await.unwrap().is_none() && remembering.get(&2).await.unwrap().is_none()
            );
            assert_eq!(world.source.loads(), 2);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_zero_is_written_and_not_kept() {
    on_both(
        |it| it,
        async |world, cache| {
            let users = through(&world, &cache);
            users.get(&1).await.unwrap();
            let unkept = users.with(|options| options.ttl(secs(0)));
            assert_eq!(unkept.put(1, "Grace".into()).await.unwrap(), Inserted::Dropped);
            assert!(cache.get(&1).await.is_none());
            assert_eq!(world.source.row(&1).as_deref(), Some("Grace"));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_does_not_stop_the_write() {
    on_both(
        |it| it,
        async |world, cache| {
            let users = through(&world, &cache);
            let writing = world.source.stop_before_writing();
            let writer = tokio::spawn(async move { users.put(1, "Grace".into()).await });
            writing.reached(1).await;
            writer.abort();
            settle().await;
            writing.open();
            settle().await;
            assert_eq!(text(cache.get(&1).await).as_deref(), Some("Grace"));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_leaves_nothing_cached_whenever_it_lands() {
    on_both(
        |it| it,
        async |world, cache| {
            let users = through(&world, &cache);
            let writing = world.source.stop_before_writing();
            let slow = tokio::spawn({
                let users = users.clone();
                async move { users.put(1, "Grace".into()).await }
            });
            writing.reached(1).await;
            pass(secs(3)).await;
            let unknown = slow.await.unwrap().unwrap_err();
            assert!(
                matches!(&unknown, WriteError::Cache(error) if error.kind() == ErrorKind::Timeout),
                "{unknown}"
            );
            pass(secs(6)).await;
            // The hold is over; the source still has not answered.
            assert_eq!(text(users.get(&1).await.unwrap()).as_deref(), Some("Ada"));
            writing.open();
            settle().await;
            assert_eq!(text(users.get(&1).await.unwrap()).as_deref(), Some("Grace"));
            cache.shutdown(secs(1)).await.unwrap();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_may_have_taken_the_write() {
    on_both(
        |it| it,
        async |world, cache| {
            let panics = FnSource::new(
                |_: u64| async { Ok::<_, SourceError>(Some("Ada".to_owned())) },
                |_, _| async { panic!("after the commit") },
                |_| async { Ok(()) },
            );
            let users = WriteThrough::new(cache.clone(), panics);
            users.get(&1).await.unwrap();
            let write = tokio::spawn({
                let users = users.clone();
                async move { users.put(1, "Grace".into()).await }
            });
            let unknown = write.await.unwrap().unwrap_err();
            assert!(matches!(unknown, WriteError::Cache(error) if error.kind() == ErrorKind::Panicked));
            assert!(cache.get(&1).await.is_none());
            drop(world);
            cache.shutdown(secs(6)).await.unwrap();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_shared_tier_that_is_away_costs_the_source_nothing_and_is_told_later() {
    let world = World::new();
    let faulty = Arc::new(Faulty::new(world.shared.clone()));
    let users = through(&world, &world.over(faulty.clone()));
    users.get(&1).await.unwrap();
    faulty.down();
    assert_eq!(users.put(1, "Grace".into()).await.unwrap(), Inserted::Deferred);
    assert_eq!(world.source.row(&1).as_deref(), Some("Grace"));
    assert_eq!(text(users.get(&1).await.unwrap()).as_deref(), Some("Grace"), "here it is bypassed");
    faulty.up();
    pass(secs(10)).await;
    assert_eq!(world.in_shared(1).await, None);
    assert_eq!(text(users.get(&1).await.unwrap()).as_deref(), Some("Grace"));
}

#[tokio::test(start_paused = true)]
async fn a_shared_tier_without_leases_is_refused_before_anything_is_written() {
    let world = World::new();
    let bare = Lacking::leases(MemoryBackend::with_limit(1 << 20, world.clock.clone()));
    let users = through(&world, &world.over(bare));
    let refused = users.put(1, "Grace".into()).await;
    assert!(matches!(refused, Err(WriteError::Cache(error)) if error.kind() == ErrorKind::Unsupported));
    assert_eq!(world.source.stores(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_shut_down_writes_nothing() {
    let world = World::new();
    let cache = world.alone();
    cache.shutdown(secs(1)).await.unwrap();
    let refused = through(&world, &cache).put(1, "Grace".into()).await;
    assert!(matches!(refused, Err(WriteError::Cache(error)) if error.kind() == ErrorKind::Closed));
    assert_eq!(world.source.stores(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_around_is_forgotten_and_loaded_when_asked_for() {
    on_both(
        |it| it,
        async |world, cache| {
            let users = WriteAround::from(ReadThrough::new(cache.clone(), world.source.clone()));
            users.get(&1).await.unwrap();
            assert_eq!(users.put(1, "Grace".into()).await.unwrap(), Removal::Removed);
            assert!(cache.get(&1).await.is_none());
            assert_eq!(text(users.get(&1).await.unwrap()).as_deref(), Some("Grace"));
            let pairs = [(1, "Joan".to_owned()), (2, "Mary".to_owned())];
            assert_eq!(users.put_many(pairs).await.unwrap(), [Removal::Removed; 2]);
            assert_eq!(text(users.get(&1).await.unwrap()).as_deref(), Some("Joan"));
            assert_eq!(users.delete(&1).await.unwrap(), Removal::Removed);
            assert!(users.get(&1).await.unwrap().is_none());
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_around_leaves_the_cache_as_it_is_and_one_nobody_knows_of_does_not() {
    on_both(
        |it| it,
        async |world, cache| {
            let users = WriteAround::new(cache.clone(), world.source.clone());
            users.get(&1).await.unwrap();
            world.source.fail_next(1);
            assert!(matches!(users.put(1, "Grace".into()).await, Err(WriteError::Source(SourceError::Told))));
            assert_eq!(text(cache.get(&1).await).as_deref(), Some("Ada"));
            // Of many it may have taken some.
            world.source.fail_next(1);
            assert!(users.put_many([(1, "Grace".into()), (2, "Joan".into())]).await.is_err());
            assert!(cache.get(&1).await.is_none());
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_made_of_the_old_value_meanwhile_ends_with_the_write() {
    on_both(
        |builder| builder.dependencies(),
        async |world, cache| {
            let users = through(&world, &cache);
            users.get(&1).await.unwrap();
            let writing = world.source.stop_before_writing();
            let writer = tokio::spawn({
                let users = users.clone();
                async move { users.put(1, "Grace".into()).await }
            });
            writing.reached(1).await;
            let page = cache.with(|options| options).depends_on(&1).unwrap();
            let made = page.get_or_load(&100, |_| async { Ok("page of Ada".to_owned()) }).await.unwrap();
            assert_eq!(*made, "page of Ada");
            writing.open();
            assert_eq!(writer.await.unwrap().unwrap(), Inserted::Stored);
            assert!(cache.get(&100).await.is_none(), "the page is older than its user");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_a_refused_batch_the_source_may_have_taken_some() {
    let world = World::new();
    let rows = world.source.clone();
    let takes_the_first = FnSource::new(
        |_: u64| async { Ok::<_, SourceError>(None) },
        move |key: u64, name: String| {
            let rows = rows.clone();
            async move {
                if key == 2 {
                    return Err(SourceError::Told);
                }
                rows.set(key, name);
                Ok(())
            }
        },
        |_| async { Ok(()) },
    );
    let (faulty, other) = (Arc::new(Faulty::new(world.shared.clone())), world.node());
    let cache = world.over(faulty.clone());
    let users = WriteThrough::new(cache.clone(), takes_the_first);
    world.load(&other, 1).await.unwrap();
    faulty.down();
    let refused = users.put_many([(1, "Grace".to_owned()), (2, "Joan".to_owned())]).await;
    assert!(matches!(refused, Err(WriteError::Source(SourceError::Told))));
    faulty.up();
    pass(secs(10)).await;
    assert_eq!(world.in_shared(1).await, None, "the old value is removed as soon as that can be done");
}

#[tokio::test(start_paused = true)]
async fn holds_that_come_too_late_leave_the_source_alone() {
    let world = World::new();
    let faulty = Arc::new(Faulty::new(world.shared.clone()));
    let cache = world.builder().backend(faulty.clone()).backend_timeout(secs(60)).build().unwrap();
    let users = through(&world, &cache);
    faulty.next_of(Operation::Hold, Fault::Delay(secs(3)));
    let late = users.put_many([(1, "Grace".to_owned()), (2, "Joan".to_owned())]).await;
    assert!(matches!(late, Err(WriteError::Cache(error)) if error.kind() == ErrorKind::Timeout));
    assert_eq!(world.source.stores(), 0);
    assert_eq!(text(users.get(&1).await.unwrap()).as_deref(), Some("Ada"));
    assert_eq!(world.in_shared(1).await.as_deref(), Some("Ada"), "the holds were given back");
}
