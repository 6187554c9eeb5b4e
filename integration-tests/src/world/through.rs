//! Who writes through the cache: the source takes a write between two steps of it, and decides who came last.

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cachalot_core::Source;
use cachalot_strategies::WriteThrough;
use cachalot_testkit::history::{How, InvalidationId};
use tokio::time::sleep;

use super::chronicle::name_of;
use super::life::Act;
use super::plan::{Action, Writing};
use super::writes::removal;
use super::{HOLD_TERM, Process, World, millis, unless_left};
use crate::L1;

/// The source of one write.
struct Taker<S> {
    world: Arc<World<S>>,
    process: Arc<Process<S>>,
    writing: Writing,
    /// Since the source has taken it.
    begun: Arc<Mutex<Option<InvalidationId>>>,
}

impl<S: L1> World<S> {
    /// Writes a key to the source through the cache. Others may do so meanwhile; who tells the cache of what he
    /// has written himself waits until all that is done for it has ended.
    pub(super) async fn write_through(
        self: Arc<Self>,
        process: Arc<Process<S>>,
        action: Action,
        writing: Writing,
    ) {
        let _turn = self.turns[action.key].read().await;
        let (key, begun) = (action.key as u64, Arc::new(Mutex::new(None)));
        let (world, cache) = (self.clone(), process.cache.clone());
        let taker = Taker { world, process, writing, begun: begun.clone() };
        let users = WriteThrough::new(cache, taker).with(|options| options.tags(self.tags_of_inserts()));
        let outcome = unless_left(action, async {
            if self.deletes(writing) {
                users.delete(&key).await
            } else {
                users.put(key, format!("{WRITTEN}{}", action.id)).await.map(removal)
            }
        });
        let outcome = outcome.await;
        self.note(format_args!("#{} written through: {outcome:?}", action.id));
        let begun = *begun.lock().unwrap();
        if let (Some(Ok(done)), Some(begun)) = (outcome, begun) {
            self.told(begun, Ok(done));
        }
        Act::current().alone().await;
    }

    fn deletes(&self, writing: Writing) -> bool {
        writing.deletes && self.habits.has_absences
    }

    /// The source takes `value`, or that there is none. What holds the key then has ended all that was there
    /// before, whatever becomes of the writer.
    fn take(&self, by: usize, key: usize, value: Option<&str>) -> InvalidationId {
        let (act, now) = (Act::current(), self.now());
        let mut history = self.history();
        let mut version = history.write(key);
        while self.is_absent(version) != value.is_none() {
            version = history.write(key);
        }
        self.note(format_args!("#{} key {key} becomes {version} in the source, as {value:?}", act.id));
        if let Some(value) = value {
            self.taken.lock().unwrap().insert(value.to_owned(), version);
        }
        let how = if value.is_some() { How::Insert } else { How::Remove };
        let begun = history.begin_invalidation(by, key, how, now);
        // What lands later, it lands with.
        act.is_about(begun, name_of(key));
        let lost = *self.lost.lock().unwrap();
        if act.held_at().is_some_and(|held| lost.is_none_or(|lost| lost < held) && now < held + HOLD_TERM) {
            history.land_invalidation(begun, now);
        }
        begun
    }

    /// Which version of its key `value` is. One that no source ever had, if it was never taken.
    pub(super) fn version_of(&self, value: &str) -> u64 {
        match value.starts_with(WRITTEN) {
            true => self.taken.lock().unwrap().get(value).copied().unwrap_or(u64::MAX),
            false => value.parse().unwrap(),
        }
    }
}

/// What values that are written through begin with: their version is not known before the source has taken them.
const WRITTEN: char = '#';

impl<S: L1> Taker<S> {
    async fn take(&self, key: u64, value: Option<&str>) -> io::Result<()> {
        let life = &self.process.life;
        life.step().await;
        sleep(millis(self.writing.before)).await;
        life.step().await;
        if self.writing.fails {
            return Err(io::Error::other("the source refuses"));
        }
        let begun = self.world.take(self.process.id, key as usize, value);
        *self.begun.lock().unwrap() = Some(begun);
        life.step().await;
        sleep(millis(self.writing.after)).await;
        life.step().await;
        Ok(())
    }
}

#[async_trait]
impl<S: L1> Source<u64, String> for Taker<S> {
    type Error = io::Error;

    async fn load(&self, key: &u64) -> io::Result<Option<String>> {
        Ok(self.world.row(self.world.history().version(&(*key as usize))))
    }

    async fn store(&self, key: &u64, value: &String) -> io::Result<()> {
        self.take(*key, Some(value)).await
    }

    async fn delete(&self, key: &u64) -> io::Result<()> {
        self.take(*key, None).await
    }
}
