//! A source that fails, hangs, or refuses.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use cachalot_core::{ErrorKind, Source, Write};
use cachalot_strategies::{WriteBehind, WriteError};

use super::sink::{Refused, Sink, Told};
use super::{Notes, Store, notes, read, text};
use crate::world::{World, pass, secs, settle};

/// Lets paused time run until `is_so`.
async fn until(is_so: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it never came to be so");
}

async fn put_all(notes: &Notes, keys: impl IntoIterator<Item = u64>) {
    for key in keys {
        notes.put(key, format!("value {key}")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_flush_keeps_its_writes() {
    for told in [Told::Fail, Told::Panic] {
        let (notes, sink) = notes(|builder| builder);
        put_all(&notes, 0..3).await;
        sink.told([told]);
        notes.flush().await;
        assert_eq!(sink.calls(), [[0, 1, 2], [0, 1, 2]], "{told:?}");
        assert_eq!(sink.history(1), [Some(text("value 1"))]);
        assert_eq!((notes.stats().retries, notes.dead_letters().len()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_failed_is_read_until_the_source_has_it() {
    let (notes, sink) = notes(|builder| builder);
    sink.set(1, "old");
    sink.down(true);
    put_all(&notes, [1]).await;
    pass(secs(60)).await;
    assert!(!sink.calls().is_empty());
    assert_eq!(read(&notes, 1).await.as_deref(), Some("value 1"));
    notes.cache().remove(&1).await.unwrap();
    assert_eq!(read(&notes, 1).await.as_deref(), Some("value 1"));
}

#[tokio::test(start_paused = true)]
async fn a_poison_item_is_found_in_logarithmic_calls_and_the_others_proceed() {
    let (notes, sink) = notes(|builder| builder);
    sink.poison([37]);
    put_all(&notes, 0..100).await;
    until(|| (0..100).filter(|key| *key != 37).all(|key| sink.row(key).is_some())).await;
    // Twice all, then two halves of each of seven sizes.
    assert!(sink.calls().len() <= 16, "{} calls", sink.calls().len());
    assert!(notes.dead_letters().is_empty(), "ten attempts are not over");
    notes.flush().await;
    let dead = notes.dead_letters();
    let [letter] = &dead[..] else { panic!("one, not {dead:?}") };
    assert_eq!((letter.key, letter.value.as_deref().map(String::as_str)), (37, Some("value 37")));
    assert!(letter.reason.contains("Poison") && letter.attempts >= 10 && !letter.is_superseded, "{letter:?}");
    assert_eq!((notes.stats().dead_letters, notes.stats().depth), (1, 0));
    assert_eq!(read(&notes, 37).await, None, "the source never had it");
}

#[tokio::test(start_paused = true)]
async fn several_poison_items_are_found_too() {
    let (notes, sink) = notes(|builder| builder.max_attempts(3));
    sink.poison([0, 1, 50, 99]);
    put_all(&notes, 0..100).await;
    notes.flush().await;
    let dead: Vec<u64> = notes.dead_letters().iter().map(|letter| letter.key).collect();
    assert_eq!(dead, [0, 1, 50, 99]);
    assert_eq!((0..100).filter(|key| sink.row(*key).is_some()).count(), 96);
}

#[tokio::test(start_paused = true)]
async fn an_outage_makes_no_dead_letters() {
    let (notes, sink) = notes(|builder| builder.max_attempts(2));
    sink.down(true);
    put_all(&notes, 0..250).await;
    pass(secs(1)).await;
    for _ in 0..600 {
        pass(secs(6)).await;
    }
    assert!(notes.dead_letters().is_empty());
    assert_eq!(notes.stats().depth, 250);
    let in_an_hour = sink.calls().len();
    assert!(in_an_hour < 1_500, "{in_an_hour} calls at a source that is down");
    sink.down(false);
    notes.flush().await;
    assert!((0..250).all(|key| sink.history(key).len() == 1));
    assert!(notes.dead_letters().is_empty());
    let after = sink.calls().len() - in_an_hour;
    assert!(after <= 250, "{after} calls");
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_permanent_is_a_dead_letter_as_soon_as_it_stands_alone() {
    let (notes, sink) = notes(|builder| builder.permanent(|error| *error == Refused::Poison));
    sink.poison([3]);
    put_all(&notes, 0..8).await;
    notes.flush().await;
    assert_eq!(sink.calls().len(), 7, "all, then two of each of three sizes: {:?}", sink.calls());
    let dead = notes.dead_letters();
    assert_eq!(dead.iter().map(|letter| letter.key).collect::<Vec<_>>(), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_replayed_or_discarded() {
    let (notes, sink) = notes(|builder| builder.permanent(|error| *error == Refused::Poison));
    sink.poison([1, 2]);
    put_all(&notes, 0..3).await;
    notes.flush().await;
    let dead = notes.dead_letters();
    assert_eq!(dead.len(), 2);
    sink.poison([]);
    notes.replay(dead[0].id).await.unwrap();
    assert_eq!(read(&notes, 1).await.as_deref(), Some("value 1"), "it waits again");
    notes.discard(dead[1].id).unwrap();
    notes.flush().await;
    assert_eq!((sink.row(1), sink.row(2)), (Some(text("value 1")), None));
    assert!(notes.dead_letters().is_empty());
    let again = notes.replay(dead[0].id).await.unwrap_err();
    assert!(matches!(again, WriteError::Cache(error) if error.kind() == ErrorKind::Config));
    assert_eq!(notes.stats().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_a_newer_write_supersedes_is_not_replayed() {
    let (notes, sink) = notes(|builder| builder.permanent(|error| *error == Refused::Poison));
    sink.poison([1]);
    put_all(&notes, [1]).await;
    notes.flush().await;
    sink.poison([]);
    notes.put(1, text("newer")).await.unwrap();
    notes.flush().await;
    let dead = notes.dead_letters();
    assert!(dead[0].is_superseded);
    let refused = notes.replay(dead[0].id).await.unwrap_err();
    assert!(matches!(refused, WriteError::Cache(error) if error.kind() == ErrorKind::Conflict));
    assert_eq!((sink.row(1), notes.dead_letters().len()), (Some(text("newer")), 1));
}

#[tokio::test(start_paused = true)]
async fn a_newer_write_takes_the_place_of_one_that_fails() {
    let (notes, sink) = notes(|builder| builder.max_attempts(1_000_000));
    put_all(&notes, [1]).await;
    sink.poison([1]);
    pass(secs(6)).await;
    until(|| sink.calls().len() > 3).await;
    sink.poison([]);
    notes.put(1, text("mended")).await.unwrap();
    notes.flush().await;
    assert_eq!(sink.history(1), [Some(text("mended"))]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_holds_up_no_other() {
    let (notes, sink) = notes(|builder| builder);
    sink.poison([1]);
    put_all(&notes, [1]).await;
    pass(secs(6)).await;
    put_all(&notes, [2]).await;
    pass(secs(5)).await;
    assert!(sink.row(2).is_some());
    assert_eq!(notes.stats().depth, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_lets_others_go_and_is_not_overtaken() {
    let (notes, sink) = notes(|builder| builder.source_timeout(secs(2)));
    put_all(&notes, [1]).await;
    sink.before.close();
    pass(secs(5)).await;
    sink.before.reached(1).await;
    notes.put(1, text("newer")).await.unwrap();
    put_all(&notes, [2]).await;
    pass(secs(2)).await;
    pass(secs(3)).await;
    assert_eq!(sink.calls(), [[1], [2]], "its place is given to another");
    pass(secs(60)).await;
    assert_eq!(sink.calls().len(), 2, "and there are no more of them");
    sink.before.open();
    notes.flush().await;
    assert_eq!(sink.history(1), [Some(text("value 1")), Some(text("newer"))]);
    assert!(!sink.has_overlapped());
}

#[tokio::test(start_paused = true)]
async fn calls_about_different_keys_may_run_at_the_same_time() {
    let (notes, sink) = notes(|builder| builder.batch(2).concurrency(3));
    sink.before.close();
    put_all(&notes, 0..8).await;
    settle().await;
    assert_eq!(sink.calls(), [[0, 1], [2, 3], [4, 5]]);
    put_all(&notes, 0..8).await;
    settle().await;
    assert_eq!(sink.calls().len(), 3, "no key twice, and no fourth call");
    sink.before.open();
    notes.flush().await;
    assert!(!sink.has_overlapped());
    assert_eq!(sink.history(0).len(), 2);
    assert_eq!(sink.history(7).len(), 1);
}

/// Writes behind itself in the midst of a call.
#[derive(Clone, Default)]
struct Echo {
    sink: Sink,
    notes: Arc<OnceLock<WriteBehind<u64, String, Store, Echo>>>,
}

#[async_trait]
impl Source<u64, String> for Echo {
    type Error = Refused;

    async fn load(&self, key: &u64) -> Result<Option<String>, Refused> {
        self.sink.load(key).await
    }

    async fn store(&self, key: &u64, value: &String) -> Result<(), Refused> {
        self.sink.store(key, value).await
    }

    async fn delete(&self, key: &u64) -> Result<(), Refused> {
        self.sink.delete(key).await
    }

    async fn apply(&self, writes: &[Write<'_, u64, String>]) -> Result<(), Refused> {
        let notes = self.notes.get().expect("set at first").clone();
        if writes[0].key < &100 {
            let echoes = tokio::spawn(async move {
                notes.put(1, text("a newer one")).await.unwrap();
                notes.put(100, text("echo")).await.unwrap();
                assert_eq!(notes.get_local(&1).as_deref().map(String::as_str), Some("a newer one"));
                assert_eq!(notes.stats().depth, 3);
            });
            echoes.await.unwrap();
        }
        self.sink.apply(writes).await
    }
}

#[tokio::test(start_paused = true)]
async fn no_lock_is_held_across_the_call_of_the_source() {
    let source = Echo::default();
    let cache = World::new().alone();
    let notes = WriteBehind::builder(cache, source.clone()).build().unwrap();
    source.notes.set(notes.clone()).unwrap();
    notes.put(1, text("a")).await.unwrap();
    tokio::time::timeout(secs(60), notes.flush()).await.expect("no deadlock");
    assert_eq!(source.sink.row(1).as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_test_for_permanent_errors_that_panics_is_a_failure_like_another() {
    let (notes, sink) = notes(|builder| builder.permanent(|_| panic!("a question that panics")));
    sink.told([Told::Fail]);
    put_all(&notes, [1]).await;
    tokio::time::timeout(secs(60), notes.flush()).await.expect("it is tried again");
    assert_eq!(sink.row(1).as_deref(), Some("value 1"));
}
