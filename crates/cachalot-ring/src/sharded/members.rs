//! Members: one list, where a key of its name would lie. There is no copy of it, and none that stands in.

use std::boxed::Box;
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Backend, Enrolled, Key, Member, MemberBackend, Result, Roll};

use super::Sharded;
use super::routes::nobody;

#[async_trait]
impl<B: Backend> MemberBackend for Sharded<B> {
    /// During a move in both lists: others may look into either.
    async fn enroll(&self, registry: &Key, member: &Member, term: Duration) -> Result<Enrolled> {
        let view = self.view();
        let homes = view.homes(registry.as_bytes());
        let enrolled = self.at_each(&view, &homes, |_, node| node.enroll(registry, member, term)).await;
        let enrolled: Result<std::vec::Vec<Enrolled>> = enrolled.into_iter().collect();
        enrolled?.into_iter().next().ok_or_else(|| nobody("enroll"))
    }

    async fn leave(&self, registry: &Key, member: &Member) -> Result<bool> {
        let view = self.view();
        let homes = view.homes(registry.as_bytes());
        let left = self.at_each(&view, &homes, |_, node| node.leave(registry, member)).await;
        left.into_iter().try_fold(false, |was_listed, left| Ok(was_listed | left?))
    }

    /// The list that is read is young after a move: who has not renewed since is not in it.
    async fn roll(&self, registry: &Key) -> Result<Roll> {
        let view = self.view();
        let home = view.homes(registry.as_bytes()).iter().next().ok_or_else(|| nobody("roll"))?;
        let mut roll = view.node(home).roll(registry).await?;
        if let Some(since) = view.read_since {
            roll.age = roll.age.min(self.effects.clock.now().since(since));
        }
        Ok(roll)
    }
}
