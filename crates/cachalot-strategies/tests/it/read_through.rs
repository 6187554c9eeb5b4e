//! A cache that knows where its values come from.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use cachalot_core::{FnSource, LoadFn, Source, Tier};
use cachalot_strategies::{ReadThrough, Unanswered};
use cachalot_testkit::SourceError;

use crate::world::{World, pass, secs};

#[tokio::test(start_paused = true)]
async fn a_key_is_loaded_once_and_then_found() {
    let world = World::new();
    let users = ReadThrough::new(world.node(), world.source.clone());
    for tier in [Tier::Loader, Tier::Memory] {
        let user = users.get(&1).await.unwrap().unwrap();
        assert_eq!((user.as_str(), user.tier()), ("Ada", tier));
    }
    let elsewhere = ReadThrough::new(world.node(), world.source.clone());
    assert_eq!(elsewhere.get(&1).await.unwrap().unwrap().tier(), Tier::Backend);
    assert_eq!(world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_not_there_is_asked_for_again_unless_absence_is_cached() {
    let world = World::new();
    let users = ReadThrough::new(world.alone(), world.source.clone());
    for loads in 1..=2 {
        assert!(users.get(&7).await.unwrap().is_none());
        assert_eq!(world.source.loads(), loads);
    }
    let remembering = users.with(|options| options.negative_ttl(secs(10)));
    for _ in 0..3 {
        assert!(remembering.get(&7).await.unwrap().is_none());
        assert_eq!(world.source.loads(), 3);
    }
    pass(secs(11)).await;
    assert!(remembering.get(&7).await.unwrap().is_none());
    assert_eq!(world.source.loads(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_error_of_the_source_can_be_had_back() {
    let world = World::new();
    let users = ReadThrough::new(world.alone(), world.source.clone());
    world.source.fail_next(2);
    let error = users.get(&1).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&SourceError::Told));
    let errors = users.get_many(&[1, 2]).await;
    assert!(errors.iter().all(|it| it.as_ref().unwrap_err().downcast_ref() == Some(&SourceError::Told)));
}

#[tokio::test(start_paused = true)]
async fn many_keys_are_one_question_to_the_source() {
    let world = World::new();
    world.source.set(2, "Grace".to_owned());
    let users = ReadThrough::new(world.alone(), world.source.clone());
    users.get(&2).await.unwrap();
    let found = users.get_many(&[1, 2, 3]).await.into_iter().map(|it| it.unwrap().map(|it| it.to_string()));
    assert_eq!(found.collect::<Vec<_>>(), [Some("Ada".to_owned()), Some("Grace".to_owned()), None]);
    assert_eq!((world.source.calls(), world.source.loads()), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn what_a_value_decides_is_set_where_it_is_loaded() {
    let world = World::new();
    world.source.set(2, "Grace".to_owned());
    let users = ReadThrough::new(world.node(), world.source.clone()).marked_by(|load, name| {
        load.tag(format!("initial:{}", &name[..1]));
        load.ttl(secs(5));
    });
    for many in [false, true] {
        let read = async || match many {
            true => users.get_many(&[1, 2]).await.into_iter().for_each(|it| assert!(it.unwrap().is_some())),
            false => {
                users.get(&1).await.unwrap();
                users.get(&2).await.unwrap();
            }
        };
        read().await;
        users.cache().remove_tag("initial:A").await.unwrap();
        assert!(users.cache().get(&1).await.is_none() && users.cache().get(&2).await.is_some());
        pass(secs(6)).await;
        assert!(users.cache().get(&2).await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn closures_and_erased_sources_fit() {
    let world = World::new();
    let cache = world.alone();
    let only_loads = LoadFn::new(|id: u64| async move { Ok::<_, io::Error>(Some(format!("user {id}"))) });
    assert_eq!(
        ReadThrough::new(cache.clone(), only_loads).get(&5).await.unwrap().as_deref().unwrap(),
        "user 5"
    );

    let (reads, writes, deletes) = (world.source.clone(), world.source.clone(), world.source.clone());
    let of_closures = FnSource::new(
        move |id: u64| {
            let source = reads.clone();
            async move { source.load(&id).await }
        },
        move |id: u64, name: String| {
            let source = writes.clone();
            async move { source.store(&id, &name).await }
        },
        move |id: u64| {
            let source = deletes.clone();
            async move { source.delete(&id).await }
        },
    );
    let erased: Arc<dyn Source<u64, String, Error = SourceError>> = Arc::new(of_closures);
    erased.store_many(&[(&8, &"Mary".to_owned()), (&9, &"Joan".to_owned())]).await.unwrap();
    erased.delete(&9).await.unwrap();
    let users = ReadThrough::new(cache, erased);
    assert_eq!(users.get(&8).await.unwrap().as_deref().unwrap(), "Mary");
    assert!(users.get(&9).await.unwrap().is_none());
}

/// Answers one key, whatever it is asked for.
struct Forgetful;

#[async_trait]
impl Source<u64, String> for Forgetful {
    type Error = io::Error;

    async fn load(&self, _: &u64) -> io::Result<Option<String>> {
        Ok(None)
    }

    async fn load_many(&self, _: &[u64]) -> io::Result<Vec<Option<String>>> {
        Ok(vec![None])
    }

    async fn store(&self, _: &u64, _: &String) -> io::Result<()> {
        Ok(())
    }

    async fn delete(&self, _: &u64) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_source_leaves_out_is_not_taken_for_absent() {
    let world = World::new();
    let users = ReadThrough::new(world.alone(), Forgetful).with(|options| options.negative_ttl(secs(10)));
    let answers = users.get_many(&[1, 2]).await;
    assert!(answers[0].as_ref().unwrap().is_none());
    assert!(answers[1].as_ref().unwrap_err().downcast_ref::<Unanswered>().is_some());
}
