//! With a journal in files: what was acknowledged survives, deltas are counted once, dead letters come back.

use std::path::Path;
use std::time::Duration;

use cachalot_core::ErrorKind;
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, FileJournal, WriteBehind, WriteError};

use super::deltas::{self, Counters};
use super::sink::{Refused, Sink};
use super::{Notes, NotesBuilder, Store, read, text};
use crate::world::secs;

/// Opens the folder as soon as the one before has let go of it. In real time: the journal has a thread of its own,
/// which paused time would not wait for.
async fn open(folder: &Path, sink: &Sink, build: impl Fn(NotesBuilder) -> NotesBuilder) -> Notes {
    for _ in 0..2_000 {
        let cache: Cache<u64, String, Store> =
            Cache::builder("notes").memory(Memory::entries(100)).build().unwrap();
        let builder = WriteBehind::builder(cache, sink.clone()).flush_every(secs(3600));
        let builder = build(builder.backoff(Duration::from_millis(1), Duration::from_millis(2)));
        match builder.journal(FileJournal::at(folder)).open().await {
            Ok(notes) => return notes,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the folder is never freed");
}

/// Lives for a while, and dies with all its tasks: nothing more is sent.
fn life<T>(work: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work())
}

#[test]
fn what_was_acknowledged_comes_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::default();
    sink.set(2, "two");
    life(async || {
        let notes = open(folder.path(), &sink, |builder| builder).await;
        notes.put(1, text("first")).await.unwrap();
        notes.put(1, text("last")).await.unwrap();
        notes.delete(&2).await.unwrap();
        assert!(notes.put_many([(3, text("c")), (4, text("d"))]).await.iter().all(Result::is_ok));
        // Nothing is sent by a last handle that goes either: the source is down.
        sink.down(true);
    });
    assert_eq!((sink.row(1), sink.row(2)), (None, Some(text("two"))));
    life(async || {
        sink.down(false);
        let notes = open(folder.path(), &sink, |builder| builder).await;
        assert_eq!(notes.stats().recovered, 5 - 1, "one had taken the place of another");
        notes.flush().await;
        assert_eq!((sink.row(1), sink.row(2)), (Some(text("last")), None));
        assert_eq!((sink.row(3), sink.row(4)), (Some(text("c")), Some(text("d"))));
        assert_eq!(sink.history(1), [Some(text("last"))]);
        notes.shutdown(secs(60)).await.unwrap();
    });
    life(async || {
        let notes = open(folder.path(), &sink, |builder| builder).await;
        assert_eq!((notes.stats().recovered, notes.stats().depth), (0, 0));
    });
}

#[test]
fn a_read_gives_what_came_back_before_the_source_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::default();
    sink.set(1, "old");
    sink.down(true);
    life(async || {
        let notes = open(folder.path(), &sink, |builder| builder).await;
        notes.put(1, text("new")).await.unwrap();
    });
    life(async || {
        let notes = open(folder.path(), &sink, |builder| builder).await;
        assert_eq!(read(&notes, 1).await.as_deref(), Some("new"));
        let left = notes.shutdown(Duration::from_millis(20)).await.unwrap_err();
        assert!(left.is_kept && left.keys == [1] && left.to_string().contains("the journal keeps"), "{left}");
    });
}

#[test]
fn dead_letters_come_back_with_what_is_known_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::default();
    let permanent = |builder: NotesBuilder| builder.permanent(|error| *error == Refused::Poison);
    life(async || {
        let notes = open(folder.path(), &sink, permanent).await;
        sink.poison([1, 2]);
        notes.put(1, text("one")).await.unwrap();
        notes.put(2, text("two")).await.unwrap();
        notes.flush().await;
        assert_eq!(notes.dead_letters().len(), 2);
        sink.poison([]);
        notes.put(2, text("newer")).await.unwrap();
        notes.shutdown(secs(60)).await.unwrap();
    });
    life(async || {
        let notes = open(folder.path(), &sink, permanent).await;
        let dead = notes.dead_letters();
        assert_eq!(dead.iter().map(|letter| letter.key).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(dead[0].value.as_deref().map(String::as_str), Some("one"));
        assert!(dead[0].reason.contains("Poison") && dead[0].attempts > 0 && dead[0].attempts < 10);
        assert!(!dead[0].is_superseded && dead[1].is_superseded, "though the newer one is long done");
        let Err(WriteError::Cache(error)) = notes.replay(dead[1].id).await else { panic!("it would undo") };
        assert_eq!(error.kind(), ErrorKind::Conflict);
        notes.replay(dead[0].id).await.unwrap();
        notes.discard(dead[1].id).unwrap();
        notes.shutdown(secs(60)).await.unwrap();
        assert_eq!((sink.row(1), sink.row(2)), (Some(text("one")), Some(text("newer"))));
    });
    life(async || {
        let notes = open(folder.path(), &sink, permanent).await;
        assert_eq!((notes.dead_letters().len(), notes.stats().recovered), (0, 0));
    });
}

#[test]
fn a_dead_letter_of_merged_writes_comes_back_as_the_one_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::default();
    let adds = |builder: NotesBuilder| {
        let builder = builder.permanent(|error| *error == Refused::Poison);
        builder.merge(|older, newer| format!("{older}+{newer}"))
    };
    let dies = |builder: NotesBuilder| builder.permanent(|error| *error == Refused::Poison);
    let told = |notes: &Notes| {
        let letters = notes.dead_letters().into_iter();
        let told = letters.map(|it| (it.id, it.key, it.value.as_deref().cloned(), it.attempts));
        told.collect::<Vec<_>>()
    };
    let before = life(async || {
        let notes = open(folder.path(), &sink, adds).await;
        sink.poison([1, 2]);
        for value in ["a", "b", "c"] {
            notes.put(1, text(value)).await.unwrap();
        }
        notes.put(2, text("d")).await.unwrap();
        notes.delete(&2).await.unwrap();
        notes.flush().await;
        let before = told(&notes);
        let values: Vec<_> = before.iter().map(|(_, key, value, _)| (*key, value.as_deref())).collect();
        assert_eq!(values, [(1, Some("a+b+c")), (2, None)]);
        notes.shutdown(secs(60)).await.unwrap();
        before
    });
    life(async || {
        let notes = open(folder.path(), &sink, dies).await;
        assert_eq!(notes.dead_letters().len(), 5, "nobody says how they are merged");
        notes.shutdown(secs(60)).await.unwrap();
    });
    life(async || {
        let notes = open(folder.path(), &sink, adds).await;
        assert_eq!(told(&notes), before);
        assert_eq!((notes.stats().entries, notes.stats().recovered), (2, 5));
        sink.poison([]);
        notes.replay(before[0].0).await.unwrap();
        notes.discard(before[1].0).unwrap();
        notes.shutdown(secs(60)).await.unwrap();
        assert_eq!(sink.history(1), [Some(text("a+b+c"))]);
    });
    life(async || {
        let notes = open(folder.path(), &sink, adds).await;
        assert_eq!((notes.dead_letters().len(), notes.stats().recovered), (0, 0));
    });
}

#[test]
fn a_full_journal_refuses_and_is_free_again_once_the_source_has_taken_something() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::default();
    life(async || {
        let cache: Cache<u64, String, Store> =
            Cache::builder("notes").memory(Memory::entries(100)).build().unwrap();
        let builder = WriteBehind::builder(cache, sink.clone()).flush_every(secs(3600)).batch(1_000);
        let journal = FileJournal::at(folder.path()).max_bytes(64 * 1024);
        let notes = builder.journal(journal).open().await.unwrap();
        let mut taken = 0;
        let refused = loop {
            match notes.put(taken, "x".repeat(1_000)).await {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
        };
        assert!(
            matches!(&refused, WriteError::Cache(error) if error.kind() == ErrorKind::Unavailable),
            "{refused}"
        );
        assert!(taken > 10 && notes.stats().depth == taken as usize, "{taken}");
        assert_eq!(read(&notes, taken).await, None, "what was refused is not there");
        assert_eq!(notes.stats().entries, taken as usize);
        notes.flush().await;
        for _ in 0..1_000 {
            if notes.put(taken, text("room again")).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("there is never room again");
    });
}

#[test]
fn a_key_that_could_not_be_read_back_is_refused_before_it_is_acknowledged() {
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct OneWay(u64);
    impl cachalot_core::CacheKey for OneWay {
        fn write_key(&self, out: &mut Vec<u8>) {
            self.0.write_key(out);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    life(async || {
        let cache: Cache<OneWay, u64, Memory<OneWay, std::sync::Arc<cachalot_core::Entry<u64>>>> =
            Cache::builder("ways").memory(Memory::entries(100)).build().unwrap();
        let source = cachalot_core::LoadFn::new(|_: OneWay| async { Ok::<_, std::io::Error>(None) });
        let builder = WriteBehind::builder(cache, source).journal(FileJournal::at(folder.path()));
        let ways = builder.open().await.unwrap();
        let Err(WriteError::Cache(error)) = ways.put(OneWay(1), 1).await else { panic!("it is refused") };
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(ways.stats().entries, 0);
    });
}

#[test]
fn deltas_are_counted_once_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let counters = Counters::default();
    let mut due = 0;
    for round in 0..6 {
        life(async || {
            let views = deltas::journaled(folder.path(), &counters).await;
            for delta in 1..20 {
                views.put(1, delta).await.unwrap();
                due += delta;
                if delta % 7 == round {
                    // The source takes it, and the process dies before it hears so.
                    counters.after.close();
                    let seen = counters.after.arrivals();
                    let flush = tokio::spawn({
                        let views = views.clone();
                        async move { views.flush().await }
                    });
                    counters.after.reached(seen + 1).await;
                    drop(flush);
                    views.put(1, 100).await.unwrap();
                    due += 100;
                    return;
                }
            }
        });
        counters.after.open();
    }
    life(async || {
        let views = deltas::journaled(folder.path(), &counters).await;
        assert_eq!(views.get(&1).await.unwrap().map(|count| *count), Some(due));
        views.shutdown(secs(60)).await.unwrap();
    });
    assert_eq!(counters.row(1), Some(due));
}

#[test]
fn what_is_torn_at_the_end_of_the_journal_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::default();
    sink.down(true);
    life(async || {
        let notes = open(folder.path(), &sink, |builder| builder).await;
        assert_eq!(notes.stats().torn_bytes, 0);
        notes.put(1, text("whole")).await.unwrap();
        notes.put(2, text("damaged")).await.unwrap();
        let _ = notes.shutdown(Duration::from_millis(20)).await;
    });
    let segment = folder.path().join("00000000000000000001.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    life(async || {
        let notes = open(folder.path(), &sink, |builder| builder).await;
        assert_eq!(notes.stats().recovered, 1);
        assert!(notes.stats().torn_bytes > 8);
    });
}
