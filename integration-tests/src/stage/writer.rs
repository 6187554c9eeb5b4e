//! A victim that changes the source, and when who came last is known.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cachalot::Tags;
use cachalot_strategies::{WriteBehind, WriteThrough};
use tokio::time::{sleep, timeout};

use super::cell::TAG;
use super::run::{Run, other};
use super::{A_MOMENT, AT_ONCE, HOUR};
use crate::{Actor, L1, Place, Step, Victim};

const WRITTEN: &str = "written";
/// Longer than an actor takes to its stop.
const A_WHILE: Duration = Duration::from_millis(60);

impl<S: L1> Run<'_, S> {
    pub(super) fn start_the_writer(&self) {
        if !self.cell.victim.writes_through() {
            return self.start_the_flush();
        }
        let (cell, key) = (self.cell, self.key);
        let tags = match cell.invalidator.decides() {
            true => Tags::new([TAG]).unwrap(),
            false => cell.invalidator.declared(),
        };
        let rows = WriteThrough::new(self.here.clone(), self.source.clone())
            .with(|options| options.tags(tags).version(cell.version_of_write()));
        drop(self.script.spawn(Actor::First, async move {
            let value = WRITTEN.to_owned();
            match cell.victim {
                Victim::Delete => drop(rows.delete(&key).await.unwrap()),
                Victim::WriteMany => {
                    drop(rows.put_many([(other(key), value.clone()), (key, value)]).await.unwrap());
                }
                _ => drop(rows.put(key, value).await.unwrap()),
            }
        }));
    }

    fn start_the_flush(&self) {
        let (victim, key) = (self.cell.victim, self.key);
        let (cache, source) = (self.here.clone(), self.source.clone());
        drop(self.script.spawn(Actor::First, async move {
            let rows = WriteBehind::builder(cache, source).flush_every(HOUR).source_timeout(HOUR);
            let rows = rows.build().unwrap();
            let is_pending = if victim == Victim::FlushDelete {
                rows.delete(&key).await.unwrap();
                rows.get(&key).await.unwrap().is_none()
            } else {
                rows.put(key, WRITTEN.to_owned()).await.unwrap();
                rows.get(&key).await.unwrap().is_some_and(|read| *read == WRITTEN)
            };
            assert!(is_pending, "who has written reads it before the source has it");
            rows.shutdown(HOUR).await.unwrap();
        }));
    }

    /// As [`Script::stopped`](crate::Script::stopped). `None`: it waits for the other to end.
    pub(super) async fn stopped_in_turn(&self, actor: Actor) -> Option<bool> {
        let stopped = self.script.stopped(actor);
        if self.cell.takes_turns() { timeout(A_WHILE, stopped).await.ok() } else { Some(stopped.await) }
    }

    /// Who inserts has changed the source before. From then on until the shared tier hears of it others must not
    /// write: nobody could know which of the two came last.
    pub(super) fn note_late_insert(&self, step: Step, is_waiting: bool) {
        let until = self.cell.invalidator.comes_unknown_until();
        let is_late = is_waiting || step.invalidator.is_some_and(|at| at < until);
        self.is_waiting.store(is_waiting, Ordering::SeqCst);
        self.insert_came_late.store(is_late && until > 0 && self.cell.victim.writes(), Ordering::SeqCst);
    }

    /// Both have ended: from when on whoever is promised it sees what the source has, and nothing else.
    pub(super) async fn settle(&self) -> Result<(), String> {
        if !self.cell.victim.writes() {
            return Ok(());
        }
        match self.cell.place {
            Place::Here => {}
            Place::Elsewhere => sleep(self.memory_ttl + A_MOMENT).await,
            Place::OnABus => {
                let mut looks = 0;
                while self.there.stats().heard == 0 {
                    looks += 1;
                    if looks > 10_000 {
                        return Err("the invalidator's process was never told of the write".into());
                    }
                    sleep(AT_ONCE).await;
                }
                sleep(A_MOMENT).await;
            }
        }
        self.is_settled.store(true, Ordering::SeqCst);
        Ok(())
    }
}
