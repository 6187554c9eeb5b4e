//! Write-behind: what is acknowledged reaches the source, in order, once it takes it.

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::Entry;
use cachalot_memory_backend::Memory;
use cachalot_strategies::{WriteBehind, WriteBehindBuilder};

use crate::world::{UsersBuilder, World};

mod basics;
mod deltas;
mod ends;
mod journal;
mod overflow;
mod sink;
mod trouble;
mod values;
use sink::Sink;

type Store = Memory<u64, Arc<Entry<String>>>;
type Notes = WriteBehind<u64, String, Store, Sink>;
type NotesBuilder = WriteBehindBuilder<u64, String, Store, Sink>;

/// A write-behind over memory alone, and its source.
fn notes(build: impl FnOnce(NotesBuilder) -> NotesBuilder) -> (Notes, Sink) {
    let world = World::new();
    over(world.builder().ttl(Duration::from_secs(3600)), build)
}

fn over(cache: UsersBuilder, build: impl FnOnce(NotesBuilder) -> NotesBuilder) -> (Notes, Sink) {
    let sink = Sink::default();
    (build(WriteBehind::builder(cache.build().unwrap(), sink.clone())).build().unwrap(), sink)
}

fn text(value: &str) -> String {
    value.to_owned()
}

/// What a read gives.
async fn read(notes: &Notes, key: u64) -> Option<String> {
    notes.get(&key).await.unwrap().map(|cached| (*cached).clone())
}
