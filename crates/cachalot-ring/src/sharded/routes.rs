//! Who is asked, and all at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::vec::Vec;

use cachalot_core::{Backend, Error, ErrorKind, Key, Put, Result, mutant};
use futures_util::future::join_all;

use super::node::Node;
use super::topology::{Few, View};
use super::{Failover, Sharded};

/// Where a key is read and stored.
pub(super) struct Copies {
    /// The live ones, in order.
    pub(super) nodes: Few,
    /// Of them, how many are no owners but stand in for one.
    stand_ins: usize,
}

impl<B: Backend> Sharded<B> {
    /// How many owners in a row may hold a key.
    pub(super) fn width(&self) -> usize {
        self.copies + usize::from(matches!(self.failover, Failover::NextNode { .. }))
    }

    /// Where `key` is read now: as many copies as there are to be, of live nodes only.
    pub(super) fn copies(&self, view: &View<B>, key: &Key) -> Copies {
        let mut copies = Copies { nodes: Few::default(), stand_ins: 0 };
        for (rank, node) in view.owners(key.as_bytes(), self.width()).iter().enumerate() {
            if copies.nodes.len() < self.copies && view.node(node).is_live() {
                copies.nodes.push(node);
                copies.stand_ins += usize::from(rank >= self.copies);
            }
        }
        copies
    }

    /// All that have to hear of a removal of `key`.
    pub(super) fn takers(&self, view: &View<B>, key: &Key) -> Few {
        let width = if mutant!(RemovesFromOneOwner) { 1 } else { self.width() };
        view.takers(key.as_bytes(), width)
    }

    /// `put` as `node` gets it: who stands in keeps it for a short time, and nobody longer than a former owner is
    /// remembered.
    pub(super) fn put_for(&self, copies: &Copies, node: usize, put: &Put) -> Put {
        Put { ttl: self.life_at(copies, node, put.ttl), ..put.clone() }
    }

    pub(super) fn life_at(&self, copies: &Copies, node: usize, ttl: Duration) -> Duration {
        match self.failover {
            Failover::NextNode { ttl: short } if copies.is_stand_in(node) => self.life(ttl.min(short)),
            _ => self.life(ttl),
        }
    }

    pub(super) fn life(&self, ttl: Duration) -> Duration {
        ttl.min(self.longest_life)
    }

    /// `nodes`, begun at another one each time.
    pub(super) fn spread(&self, nodes: Few) -> Few {
        let count = nodes.len();
        if count < 2 {
            return nodes;
        }
        let first = self.next_copy.fetch_add(1, Ordering::Relaxed) % count;
        let from = nodes.iter().skip(first);
        from.chain(nodes.iter().take(first)).fold(Few::default(), Few::and)
    }

    /// Does something at each of `nodes` at once. Answers in their order.
    pub(super) async fn at_each<'a, T, F>(
        &self,
        view: &'a View<B>,
        nodes: &Few,
        work: impl Fn(usize, &'a Arc<Node<B>>) -> F,
    ) -> Vec<T>
    where
        F: Future<Output = T>,
    {
        join_all(nodes.iter().map(|number| work(number, view.node(number)))).await
    }
}

impl Copies {
    pub(super) fn is_stand_in(&self, node: usize) -> bool {
        let owners = self.nodes.len() - self.stand_ins;
        !self.nodes.iter().take(owners).any(|it| it == node)
    }
}

/// The answer that says most by `rank`, or the first failure: what only some have taken is not taken.
pub(super) fn all_of<T>(answers: impl IntoIterator<Item = Result<T>>, rank: fn(&T) -> u64) -> Result<T> {
    let both = |one: Result<T>, other: Result<T>| match (one, other) {
        (Ok(one), Ok(other)) => Ok(if rank(&other) > rank(&one) { other } else { one }),
        (Ok(answer), Err(_)) | (Err(_), Ok(answer)) if mutant!(TakesAPartForTheWhole) => Ok(answer),
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    answers.into_iter().reduce(both).unwrap_or_else(|| Err(nobody("removal")))
}

/// No node has the key: all that it belonged to have left. Not possible, as the ring that is read is whole.
pub(super) fn nobody(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, std::format!("sharded {operation}")).detail("it has no node")
}
