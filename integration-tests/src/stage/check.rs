//! What may be seen once the invalidation is done, and what must not be left behind.

use cachalot::{Cached, Freshness, LoadError, LoaderError};
use tokio::time::{sleep, timeout};

use super::run::{Later, NEW, Run};
use super::{A_MOMENT, HOUR, Node, SCHEMA};
use crate::{Actor, Invalidator, L1, Place};

impl<S: L1> Run<'_, S> {
    /// Somebody comes while the victim stands, and must not be given what the victim brings from before. A
    /// load that waits for the victim all the same is handed back, to be judged when that has ended.
    pub(super) async fn check_meanwhile(&self) -> Result<Option<Later>, String> {
        let (node, key, load) = (self.there.clone(), self.key, self.loader(false));
        let mut later =
            self.script.spawn(Actor::Bystander, async move { node.get_or_load(&key, load).await.ok() });
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
        Ok(())
    }

    pub(super) fn fresh(&self) -> Node<S> {
        self.stage.node(&self.script, HOUR, HOUR, SCHEMA)
    }

    async fn check(&self, who: &str, node: &Node<S>) -> Result<(), String> {
        self.script.note(format_args!("-- {who} reads"));
        self.judge(who, "get_local", node.get_local(&self.key))?;
        self.judge(who, "get", node.get(&self.key).await)?;
        let failing = node.get_or_load(&self.key, |_| async { Err(LoaderError::new("down")) }).await;
        self.judge_stale(who, failing)?;
        match node.get_or_load(&self.key, self.loader(false)).await {
            Ok(value) => self.judge(who, "get_or_load", Some(value))?,
            Err(error) => return Err(format!("{who}: get_or_load fails: {error}")),
        }
        self.judge(who, "get_local after get_or_load", node.get_local(&self.key))?;
        self.judge(who, "get after get_or_load", node.get(&self.key).await)
    }

    pub(super) fn judge(&self, who: &str, how: &str, seen: Option<Cached<String>>) -> Result<(), String> {
        match seen {
            Some(value) if *value != NEW => Err(format!("{who} sees {value:?} by {how}")),
            _ => Ok(()),
        }
    }

    /// After a failed load an expired value may be served, and nothing else that is old.
    fn judge_stale(&self, who: &str, seen: Result<Cached<String>, LoadError>) -> Result<(), String> {
        match seen {
            Ok(value)
                if self.cell.invalidator == Invalidator::Expire
                    && value.freshness() == Freshness::Invalidated =>
            {
                Ok(())
            }
            seen => self.judge(who, "get_or_load with a failing loader", seen.ok()),
        }
    }
}
