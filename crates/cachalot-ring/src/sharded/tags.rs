//! Tags: a token lies where a key of its name would.
//!
//! What one node says a tag stands at is never what another one says: a token that is sent to several nodes would reach
//! them in another order than its successor does, and revive on the last of them what was removed. So each gets a token
//! of its own, and what was stored under a token of the one node is a miss for who asks the other.

use std::boxed::Box;
use std::time::Duration;
use std::vec::Vec;

use async_trait::async_trait;
use cachalot_core::{Backend, Depth, Key, Result, TagBackend, TagToken, mutant};
use futures_util::future::join_all;

use super::Sharded;
use super::grouped::Groups;
use super::routes::nobody;
use super::topology::View;

#[async_trait]
impl<B: Backend> TagBackend for Sharded<B> {
    /// A tag whose node does not answer has no token, which fits nothing; an error only if none answers.
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        let view = &self.view();
        let mut groups = Groups::new(view);
        for (at, name) in names.iter().enumerate() {
            self.copies(view, name).nodes.iter().take(1).for_each(|node| groups.add(node, at));
        }
        let asked = groups.filled().map(|(node, group)| {
            let wanted = group.iter().map(|at| names[*at].clone()).collect();
            async move { (group, view.node(node).tag_tokens(wanted).await) }
        });
        let asked = join_all(asked).await;
        let mut tokens = std::vec![None; names.len()];
        let mut failure =
            if asked.is_empty() && !names.is_empty() { Some(nobody("tag_tokens")) } else { None };
        let mut has_answer = false;
        for (group, answer) in asked {
            match answer {
                Ok(answer) => {
                    has_answer = true;
                    group.iter().zip(answer).for_each(|(at, token)| tokens[*at] = token);
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.filter(|_| !has_answer).map_or(Ok(tokens), Err)
    }

    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        let (view, ttl) = (self.view(), self.life(ttl));
        // The last two by themselves, one after the other, behind all others.
        let last = names.len().saturating_sub(2);
        let homes = names.iter().map(|name| self.home_of_tag(&view, name)).collect::<Result<Vec<_>>>()?;
        let is_one_call = homes.windows(2).all(|pair| pair[0] == pair[1]);
        let parts = if is_one_call {
            std::vec![0..names.len()]
        } else {
            std::vec![0..last, last..last + 1, last + 1..names.len()]
        };
        let mut tokens = fresh.to_vec();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let mut groups = Groups::new(&view);
            part.for_each(|at| groups.add(homes[at], at));
            let asked = groups.filled().map(|(node, group)| {
                let (wanted, fresh) = group.iter().map(|at| (names[*at].clone(), fresh[*at])).unzip();
                let view = &view;
                async move { (group, view.node(node).pin_tags(wanted, fresh, ttl).await) }
            });
            for (group, answer) in join_all(asked).await {
                group.iter().zip(answer?).for_each(|(at, token)| tokens[*at] = token);
            }
        }
        Ok(tokens)
    }

    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let (view, ttl) = (self.view(), self.life(ttl));
        let is_one_call = view.nodes.len() == 1;
        // The first one everywhere, then all others.
        let first = if is_one_call { names.len() } else { names.len().min(1) };
        for part in [0..first, first..names.len()] {
            self.rotate_part(&view, part.map(|at| (&names[at], fresh[at])), depth, ttl).await?;
        }
        Ok(())
    }
}

impl<B: Backend> Sharded<B> {
    fn home_of_tag(&self, view: &View<B>, name: &Key) -> Result<usize> {
        let home = self.copies(view, name).nodes.iter().next();
        home.ok_or_else(|| nobody("pin_tags").key(name.as_bytes()))
    }

    async fn rotate_part<'a>(
        &self,
        view: &View<B>,
        part: impl Iterator<Item = (&'a Key, TagToken)>,
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let mut sent: Vec<(Vec<Key>, Vec<TagToken>)> =
            view.nodes.iter().map(|_| Default::default()).collect();
        for (name, fresh) in part {
            for (rank, node) in self.takers(view, name).iter().enumerate() {
                let is_same = rank == 0 || mutant!(SendsOneTokenToAll);
                let token = if is_same { fresh } else { TagToken::draw(&self.effects.entropy) };
                sent[node].0.push(name.clone());
                sent[node].1.push(token);
            }
        }
        let sent = sent.into_iter().enumerate().filter(|(_, (names, _))| !names.is_empty());
        let asked = sent.map(|(node, (names, fresh))| view.node(node).rotate_tags(names, fresh, depth, ttl));
        join_all(asked).await.into_iter().collect()
    }
}
