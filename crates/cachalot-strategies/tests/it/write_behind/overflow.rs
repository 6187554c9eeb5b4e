//! There is an end to what may wait.

use std::time::Duration;

use cachalot_core::ErrorKind;
use cachalot_strategies::{Overflow, WriteError};

use super::sink::Refused;
use super::{Notes, notes, read, text};
use crate::world::{secs, settle};

fn kind<E>(result: Result<(), WriteError<E>>) -> Option<ErrorKind> {
    match result {
        Ok(()) => None,
        Err(WriteError::Cache(error)) => Some(error.kind()),
        Err(_) => panic!("the source was not asked"),
    }
}

fn spawn_put(notes: &Notes, key: u64) -> tokio::task::JoinHandle<Option<ErrorKind>> {
    let notes = notes.clone();
    tokio::spawn(async move { kind(notes.put(key, text("late")).await) })
}

#[tokio::test(start_paused = true)]
async fn a_write_without_room_is_rejected_and_the_flush_begins() {
    let (notes, sink) = notes(|builder| builder.max_entries(2).overflow(Overflow::Reject));
    notes.put(1, text("a")).await.unwrap();
    notes.put(2, text("b")).await.unwrap();
    assert_eq!(kind(notes.put(3, text("c")).await), Some(ErrorKind::Unavailable));
    assert_eq!(read(&notes, 3).await, None);
    assert_eq!(kind(notes.put(1, text("one that coalesces")).await), None);
    settle().await;
    assert_eq!(sink.calls(), [[1, 2]], "no interval was waited for");
    assert_eq!(kind(notes.put(3, text("c")).await), None);
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_room_and_gets_it() {
    let (notes, sink) = notes(|builder| builder.max_entries(2));
    sink.before.close();
    notes.put(1, text("a")).await.unwrap();
    notes.put(2, text("b")).await.unwrap();
    let waiting = spawn_put(&notes, 3);
    sink.before.reached(1).await;
    assert!(!waiting.is_finished());
    sink.before.open();
    assert_eq!(waiting.await.unwrap(), None);
    assert_eq!(read(&notes, 3).await.as_deref(), Some("late"));
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_room_so_long_and_no_longer() {
    let patience = Duration::from_millis(700);
    let (notes, sink) = notes(|builder| builder.max_entries(1).overflow(Overflow::Block(patience)));
    sink.down(true);
    notes.put(1, text("a")).await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(kind(notes.put(2, text("b")).await), Some(ErrorKind::Unavailable));
    assert_eq!(began.elapsed(), patience);
    assert_eq!((notes.stats().depth, read(&notes, 2).await), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_write_through_an_overflow_returns_when_the_source_has_it() {
    let (notes, sink) = notes(|builder| builder.max_entries(1).overflow(Overflow::WriteThrough));
    notes.put(1, text("a")).await.unwrap();
    sink.before.close();
    let waiting = spawn_put(&notes, 2);
    sink.before.reached(1).await;
    assert!(!waiting.is_finished());
    assert_eq!(read(&notes, 2).await.as_deref(), Some("late"), "it is let in");
    sink.before.open();
    assert_eq!(waiting.await.unwrap(), None);
    assert_eq!(sink.row(2).as_deref(), Some("late"));
}

#[tokio::test(start_paused = true)]
async fn a_write_through_an_overflow_hears_that_the_source_refuses_it() {
    let (notes, sink) = notes(|builder| {
        let builder = builder.max_entries(1).overflow(Overflow::WriteThrough);
        builder.permanent(|error| *error == Refused::Poison)
    });
    sink.poison([2]);
    notes.put(1, text("a")).await.unwrap();
    assert_eq!(kind(notes.put(2, text("b")).await), Some(ErrorKind::Conflict));
    assert_eq!(notes.dead_letters().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_too() {
    let (notes, _sink) = notes(|builder| {
        let weigh = |_: &u64, value: Option<&String>| 10 + value.map_or(0, |value| value.len() as u64);
        builder.max_bytes(40, weigh).overflow(Overflow::Reject).flush_every(secs(1000))
    });
    assert_eq!(kind(notes.put(0, "x".repeat(31)).await), Some(ErrorKind::Config), "too heavy by itself");
    notes.put(1, text("0123456789")).await.unwrap();
    assert_eq!(notes.stats().bytes, 20);
    notes.put(1, text("01234")).await.unwrap();
    assert_eq!(notes.stats().bytes, 15);
    notes.delete(&2).await.unwrap();
    assert_eq!(notes.stats().bytes, 25);
    assert_eq!(kind(notes.put(3, text("0123456789")).await), Some(ErrorKind::Unavailable));
    notes.put(3, text("01234")).await.unwrap();
    assert_eq!(notes.stats().bytes, 40);
    notes.flush().await;
    assert_eq!((notes.stats().bytes, notes.stats().entries), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_count_against_the_bound_until_somebody_sees_to_them() {
    let (notes, sink) = notes(|builder| {
        builder.max_entries(2).overflow(Overflow::Reject).permanent(|error| *error == Refused::Poison)
    });
    sink.poison([1, 2]);
    notes.put(1, text("a")).await.unwrap();
    notes.put(2, text("b")).await.unwrap();
    notes.flush().await;
    assert_eq!((notes.stats().depth, notes.stats().entries), (0, 2));
    assert_eq!(kind(notes.put(3, text("c")).await), Some(ErrorKind::Unavailable));
    for letter in notes.dead_letters() {
        notes.discard(letter.id).unwrap();
    }
    assert_eq!(kind(notes.put(3, text("c")).await), None);
}

#[tokio::test(start_paused = true)]
async fn many_writes_wait_for_room_one_after_another() {
    let (notes, sink) = notes(|builder| builder.max_entries(10).batch(5));
    let results = notes.put_many((0..50).map(|key| (key, text("many")))).await;
    assert!(results.iter().all(Result::is_ok));
    notes.flush().await;
    assert!((0..50).all(|key| sink.row(key).is_some()));
}
