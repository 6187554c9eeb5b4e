//! What may be seen once the invalidation is done, and what must not be left behind.

use std::sync::atomic::Ordering;

use cachalot::{Cached, Freshness, LoadError, LoaderError};
use cachalot_core::Namespace;
use tokio::time::{sleep, timeout};

use super::run::{Later, NEW, OLD, Run, other};
use super::{A_MOMENT, AT_ONCE, HOUR, Node, SCHEMA};
use crate::{Actor, L1, Place};

impl<S: L1> Run<'_, S> {
    /// Somebody comes while the victim stands, and must not be given what the victim brings from before. A
    /// load that waits for the victim all the same is handed back, to be judged when that has ended.
    pub(super) async fn check_meanwhile(&self) -> Result<Option<Later>, String> {
        // On a bus the victim's process has been told by now, and is bound like the other.
        let node = if self.cell.place == Place::OnABus { &self.here } else { &self.there };
        let (node, key, load) = (node.clone(), self.key, self.loader(false));
        let tags = self.cell.invalidator.declared();
        let mut later = self.script.spawn(Actor::Bystander, async move {
            node.with(|options| options.tags(tags)).get_or_load(&key, load).await.ok()
        });
        match timeout(10 * A_MOMENT, &mut later).await {
            Err(_) => {
                self.judge("a fresh process", "get", self.fresh().get(&self.key).await)?;
                Ok(Some(later))
            }
            Ok(seen) => {
                let seen = seen.map_err(|error| error.to_string())?;
                self.judge("who comes after the invalidation", "get_or_load", seen)?;
                self.check_the_promised().await?;
                Ok(None)
            }
        }
    }

    pub(super) async fn judge_later(&self, later: Option<Later>) -> Result<(), String> {
        let Some(later) = later else { return Ok(()) };
        let seen = later.await.map_err(|error| error.to_string())?;
        self.judge("who came after the invalidation", "get_or_load", seen)
    }

    /// Reads as those do who were promised that they see nothing old: the invalidator's process, and a
    /// fresh one, which sees what the shared tier has.
    pub(super) async fn check_the_promised(&self) -> Result<(), String> {
        if self.stage.is_shared() {
            self.check("a fresh process", &self.fresh()).await?;
        }
        self.check("the invalidator's process", &self.there).await?;
        if self.cell.place == Place::OnABus {
            self.check("the process that was told", &self.here).await?;
        }
        if self.stage.is_shared() {
            self.check("another fresh process", &self.fresh()).await?;
        }
        Ok(())
    }

    /// Reads as the others do once their own memory has forgotten, and looks for what was left behind.
    pub(super) async fn check_the_rest(&self) -> Result<(), String> {
        if self.cell.place == Place::Elsewhere {
            sleep(self.memory_ttl + A_MOMENT).await;
            self.check("the victim's process", &self.here).await?;
        }
        for node in [&self.here, &self.there] {
            node.shutdown(HOUR).await.map_err(|left| left.to_string())?;
            let stats = node.stats();
            if stats.flights > 0 || stats.pending_invalidations > 0 || stats.task_panics > 0 {
                return Err(format!("left behind: {stats:?}"));
            }
        }
        self.clean_up().await;
        Ok(())
    }

    /// Leaves the tier as it was: the next run's walk is not to grow with it.
    async fn clean_up(&self) {
        if let Some(backend) = self.stage.backend() {
            let namespace = Namespace::new(&self.name).unwrap();
            let keys = [self.key, other(self.key)].map(|key| namespace.key(&key));
            backend.remove_many(&keys).await;
        }
    }

    /// Waits until the victim's process has heard what the other has told it.
    pub(super) async fn told(&self) -> Result<(), String> {
        if self.cell.place != Place::OnABus {
            return Ok(());
        }
        for _ in 0..10_000 {
            if self.here.stats().heard > 0 {
                // What a walk in bounded steps is about is dropped a moment later.
                sleep(A_MOMENT).await;
                return Ok(());
            }
            sleep(AT_ONCE).await;
        }
        Err("the victim's process was never told".into())
    }

    pub(super) fn fresh(&self) -> Node<S> {
        self.node(HOUR, SCHEMA, |builder| builder.stale_while_revalidate(HOUR))
    }

    async fn check(&self, who: &str, cache: &Node<S>) -> Result<(), String> {
        self.script.note(format_args!("-- {who} reads"));
        self.judge(who, "get_local", cache.get_local(&self.key))?;
        self.judge(who, "get", cache.get(&self.key).await)?;
        let node = &cache.with(|options| options.tags(self.cell.invalidator.declared()));
        let failing = node.get_or_load(&self.key, |_| async { Err(LoaderError::new("down")) }).await;
        self.judge_stale(who, failing)?;
        match node.get_or_load(&self.key, self.loader(false)).await {
            Ok(value) => self.judge(who, "get_or_load", Some(value))?,
            // It is deleted.
            Err(_) if self.source.row().is_none() => {}
            Err(error) => return Err(format!("{who}: get_or_load fails: {error}")),
        }
        self.judge(who, "get_local after get_or_load", cache.get_local(&self.key))?;
        self.judge(who, "get after get_or_load", cache.get(&self.key).await)
    }

    pub(super) fn judge(&self, who: &str, how: &str, seen: Option<Cached<String>>) -> Result<(), String> {
        match seen {
            // Where there is no row a load fails.
            Some(value) if self.source.row().is_none() && self.is_fallback(&value) => Ok(()),
            Some(value) if !self.may_be_seen(&value) => Err(format!("{who} sees {value:?} by {how}")),
            _ => Ok(()),
        }
    }

    /// What the source holds, and what it held before the victim's write, until that has ended.
    fn may_be_seen(&self, value: &str) -> bool {
        let is_settled = self.is_settled.load(Ordering::SeqCst);
        if !is_settled && self.is_waiting.load(Ordering::SeqCst) {
            return value != OLD;
        }
        let may_be_new = !is_settled || self.insert_came_late.load(Ordering::SeqCst);
        self.source.row().is_some_and(|row| row == value) || (value == NEW && may_be_new)
    }

    fn is_fallback(&self, value: &Cached<String>) -> bool {
        self.cell.invalidator.leaves_a_fallback() && value.freshness() == Freshness::Invalidated
    }

    /// After a failed load an expired value may be served, and nothing else that is old.
    fn judge_stale(&self, who: &str, seen: Result<Cached<String>, LoadError>) -> Result<(), String> {
        match seen {
            Ok(value) if self.is_fallback(&value) => Ok(()),
            seen => self.judge(who, "get_or_load with a failing loader", seen.ok()),
        }
    }
}
