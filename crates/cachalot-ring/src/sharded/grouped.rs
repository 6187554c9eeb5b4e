//! Many keys at once: one call to each node, all at the same time, answers in the order of the keys.

use std::vec::Vec;

use cachalot_core::{Backend, Key, Record, Removed, Result};
use futures_util::future::join_all;

use super::Sharded;
use super::backend::rank;
use super::routes::{all_of, nobody};
use super::topology::{Few, View};

impl<B: Backend> Sharded<B> {
    /// Round by round: what the first copy of a key lacks, or does not say, is asked of the next.
    pub(super) async fn get_grouped(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        let view = &self.view();
        let copies: Vec<Few> = keys.iter().map(|key| self.spread(self.copies(view, key).nodes)).collect();
        // Where all are away: a miss.
        let mut answers: Vec<Result<Option<Record>>> = keys.iter().map(|_| Ok(None)).collect();
        for round in 0..copies.iter().map(Few::len).max().unwrap_or(0) {
            let mut groups = Groups::new(view);
            for (at, copies) in copies.iter().enumerate() {
                if let (Some(node), false) = (copies.get(round), matches!(answers[at], Ok(Some(_)))) {
                    groups.add(node, at);
                }
            }
            let asked = groups.filled().map(|(node, group)| async move {
                let wanted = group.iter().map(|at| keys[*at].clone()).collect();
                (group, view.node(node).get_many(wanted).await)
            });
            for (group, answered) in join_all(asked).await {
                for (at, answer) in group.iter().zip(answered) {
                    // Of several copies the miss of one counts for more than the silence of another.
                    if round == 0 || answers[*at].is_err() || matches!(answer, Ok(Some(_))) {
                        answers[*at] = answer;
                    }
                }
            }
        }
        answers
    }

    pub(super) async fn remove_grouped(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        let view = &self.view();
        let mut groups = Groups::new(view);
        for (at, key) in keys.iter().enumerate() {
            self.takers(view, key).iter().for_each(|node| groups.add(node, at));
        }
        let asked = groups.filled().map(|(node, group)| async move {
            let wanted = group.iter().map(|at| keys[*at].clone()).collect();
            (group, view.node(node).remove_many(wanted).await)
        });
        let mut answers: Vec<Option<Result<Removed>>> = keys.iter().map(|_| None).collect();
        for (group, answered) in join_all(asked).await {
            let mut answered = answered.into_iter();
            for at in group {
                // A node that answers too few has not taken the rest.
                let answer = answered.next().unwrap_or_else(|| Err(nobody("remove_many")));
                answers[*at] = Some(match answers[*at].take() {
                    Some(before) => all_of([before, answer], rank),
                    None => answer,
                });
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(nobody("remove_many")))).collect()
    }
}

/// Which of many go to which node, by their places.
pub(super) struct Groups(Vec<Vec<usize>>);

impl Groups {
    pub(super) fn new<B>(view: &View<B>) -> Self {
        Self(view.nodes.iter().map(|_| Vec::new()).collect())
    }

    pub(super) fn add(&mut self, node: usize, at: usize) {
        self.0[node].push(at);
    }

    /// The nodes that something goes to.
    pub(super) fn filled(&self) -> impl Iterator<Item = (usize, &[usize])> {
        let filled = self.0.iter().enumerate().filter(|(_, group)| !group.is_empty());
        filled.map(|(node, group)| (node, &**group))
    }
}
