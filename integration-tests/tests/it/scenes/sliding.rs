//! Scenes of reads that prolong a life, while something else happens to it.

use cachalot_core::{Backend, Key, LoadFn};
use cachalot_strategies::Sliding;

use super::*;

const IDLE: Duration = Duration::from_secs(100);

/// A cache that slides, over a tier that takes its time at this step of a touch, which a read has started.
async fn touching(step: Operation, how: Fault) -> (Node, ModelBackend, Clock) {
    let clock = tokio_clock();
    let shared = ModelBackend::new(clock.clone());
    let tier = Faulty::new(shared.clone());
    let sliding = builder(clock.clone(), 1).ttl(IDLE).max_age(HOUR).backend(tier.clone()).memory_ttl(HOUR);
    let cache = sliding.build().unwrap();
    let ada = LoadFn::new(|_: u64| async { Ok::<_, std::io::Error>(Some("Ada".to_owned())) });
    let sessions = Sliding::new(cache.clone(), ada).unwrap();
    sessions.get(&1).await.unwrap();
    tokio::time::advance(IDLE / 2).await;
    tier.next_of(step, how);
    sessions.get(&1).await.unwrap();
    settle().await;
    (cache, shared, clock)
}

pub(super) fn a_touch_and_a_successor() -> Scene {
    Box::pin(async {
        let (_cache, shared, clock) = touching(Operation::GetMany, Fault::AnswerLate(SOON)).await;
        let other = builder(clock, 2).ttl(IDLE / 10).backend(shared.clone()).build().unwrap();
        other.insert(1, "Grace".to_owned()).await.unwrap();
        sleep(2 * SOON).await;
        let was_there = other.get(&1).await.is_some();
        sleep(IDLE / 10).await;
        // The record itself: whoever reads it would not serve it.
        was_there && shared.get(&Key::new("users:1")).await.unwrap().is_none()
    })
}

pub(super) fn a_touch_and_a_removal() -> Scene {
    Box::pin(async {
        let (cache, ..) = touching(Operation::Touch, Fault::AnswerLate(SOON)).await;
        let was_there = cache.get_local(&1).is_some();
        cache.remove(&1).await.unwrap();
        sleep(2 * SOON).await;
        was_there && cache.get(&1).await.is_none()
    })
}
