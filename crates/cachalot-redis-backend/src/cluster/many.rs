//! What is asked of many keys: of each node in one go, of all nodes at once.

use std::collections::BTreeMap;
use std::future::Future;

use cachalot_core::Key;
use futures_util::future::join_all;

use super::map::Map;
use super::nodes::Nodes;
use crate::RedisBackend;
use crate::config::Address;
use crate::fault::Fault;

impl Nodes {
    /// Asks `all` of each node about its own of `keys`, `most` at a time; what is not there any more is asked for
    /// by `one`. The outcomes in the order of `keys`.
    pub(super) async fn each<T, A, O>(
        &self,
        keys: &[Key],
        most: usize,
        all: impl Fn(RedisBackend, Vec<Key>) -> A + Send + Sync,
        one: impl Fn(RedisBackend, Key) -> O + Send + Sync,
    ) -> Vec<Result<T, Fault>>
    where
        T: Send,
        A: Future<Output = Result<Vec<Result<T, Fault>>, Fault>> + Send,
        O: Future<Output = Result<T, Fault>> + Send,
    {
        let mut outcomes: Vec<Option<Result<T, Fault>>> = keys.iter().map(|_| None).collect();
        match self.within_deadline(self.map()).await {
            Ok(map) => self.ask_nodes(&map, keys, most, &all, &mut outcomes).await,
            Err(fault) => outcomes.fill_with(|| Some(Err(fault.clone()))),
        }
        let is_elsewhere = |outcome: &Option<Result<T, Fault>>| {
            matches!(outcome, Some(Err(Fault::Moved | Fault::Ask { .. })))
        };
        let elsewhere: Vec<usize> = (0..keys.len()).filter(|at| is_elsewhere(&outcomes[*at])).collect();
        let again = elsewhere.iter().map(|at| self.route(&keys[*at], |node| one(node, keys[*at].clone())));
        for (at, outcome) in elsewhere.iter().zip(join_all(again).await) {
            outcomes[*at] = Some(outcome);
        }
        let unanswered = || Err(Fault::Garbled("a pipeline answered for other commands"));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unanswered)).collect()
    }

    /// Each node within a deadline of its own, so that one that hangs costs no other's answers.
    async fn ask_nodes<T, A>(
        &self,
        map: &Map,
        keys: &[Key],
        most: usize,
        all: &(impl Fn(RedisBackend, Vec<Key>) -> A + Send + Sync),
        outcomes: &mut [Option<Result<T, Fault>>],
    ) where
        T: Send,
        A: Future<Output = Result<Vec<Result<T, Fault>>, Fault>> + Send,
    {
        let mut by_node: BTreeMap<&Address, Vec<usize>> = BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            match map.owner(self.slot_of(key)) {
                Some(owner) => by_node.entry(owner).or_default().push(at),
                // By itself, after another look.
                None => outcomes[at] = Some(Err(Fault::Moved)),
            }
        }
        let parts: Vec<(&Address, &[usize])> = by_node
            .iter()
            .flat_map(|(owner, places)| places.chunks(most).map(move |part| (*owner, part)))
            .collect();
        let ask = |(owner, part): &(&Address, &[usize])| {
            let node = self.backend(owner);
            let asked = node.map(|node| all(node, part.iter().map(|at| keys[*at].clone()).collect()));
            self.within_deadline(async move { asked?.await })
        };
        let answers = join_all(parts.iter().map(ask)).await;
        for ((_, part), answer) in parts.iter().zip(answers) {
            self.note(&answer);
            match answer {
                Ok(found) => {
                    for (at, outcome) in part.iter().zip(found) {
                        outcomes[*at] = Some(outcome);
                    }
                }
                // A node that is away: perhaps another one has its slots by now.
                Err(Fault::Down { .. }) => part.iter().for_each(|at| outcomes[*at] = Some(Err(Fault::Moved))),
                Err(fault) => part.iter().for_each(|at| outcomes[*at] = Some(Err(fault.clone()))),
            }
        }
    }
}
