//! The writes of one key.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cachalot_core::Entry;
use tokio::sync::oneshot;

use super::{End, Waste};
use crate::write_behind::rules::{Order, Rules};

/// One write that waits, or several that have become one.
pub(in crate::write_behind) struct Pending<V> {
    /// Without a value: a deletion.
    pub(super) entry: Arc<Entry<V>>,
    /// The first write that it holds.
    pub(super) oldest: u64,
    /// The last one.
    pub(super) sequence: u64,
    /// What else of the journal it stands for: deltas that were merged into it.
    pub(super) covers: Vec<u64>,
    pub(super) weight: u64,
    pub(super) attempts: u32,
    /// How many calls the source had taken when it first failed.
    pub(super) first_failed: Option<u64>,
    pub(super) was_sent: bool,
    pub(super) waiters: Vec<oneshot::Sender<End>>,
}

/// Whether a write has taken in a newer one.
pub(super) enum Absorbed<V> {
    Yes {
        /// What the journal need not replay any more.
        superseded: Option<u64>,
    },
    No(Pending<V>),
}

impl<V> Pending<V> {
    pub(super) fn new(entry: Arc<Entry<V>>, sequence: u64, weight: u64) -> Self {
        Self {
            entry,
            oldest: sequence,
            sequence,
            covers: Vec::new(),
            weight,
            attempts: 0,
            first_failed: None,
            was_sent: false,
            waiters: Vec::new(),
        }
    }

    /// Becomes one with `newer`: the last one wins, or both are merged. A delta after a deletion stays by itself.
    pub(super) fn absorb<K>(
        &mut self,
        newer: Self,
        rules: &Rules<K, V>,
        key: &K,
        waste: &mut Waste<V>,
    ) -> Absorbed<V> {
        let superseded = match (&rules.merge, &self.entry.value, &newer.entry.value) {
            (None, _, _) => {
                waste.push(std::mem::replace(&mut self.entry, newer.entry));
                self.weight = newer.weight;
                Some(self.sequence)
            }
            (Some(_), _, None) => {
                waste.push(std::mem::replace(&mut self.entry, newer.entry));
                self.weight = newer.weight;
                self.covers.push(self.sequence);
                None
            }
            (Some(_), None, Some(_)) => return Absorbed::No(newer),
            (Some(merge), Some(old), Some(delta)) => {
                // They are the user's, and may panic; the delta then stays by itself.
                let merging = || {
                    let merged = merge(old, delta);
                    let weight = rules.weigh(key, Some(&merged));
                    (merged, weight)
                };
                let Ok((merged, weight)) = catch_unwind(AssertUnwindSafe(merging)) else {
                    return Absorbed::No(newer);
                };
                self.weight = weight.unwrap_or(self.weight + newer.weight);
                let merged = Arc::new(Entry::new(Some(merged), newer.entry.meta));
                waste.extend([std::mem::replace(&mut self.entry, merged), newer.entry]);
                self.covers.push(self.sequence);
                None
            }
        };
        self.sequence = newer.sequence;
        self.covers.extend(newer.covers);
        self.waiters.extend(newer.waiters);
        // It is another write now: what failed may not fail again.
        (self.attempts, self.first_failed) = (0, None);
        Absorbed::Yes { superseded }
    }

    /// All that the journal knows of it.
    pub(super) fn sequences(&self) -> impl Iterator<Item = u64> {
        self.covers.iter().copied().chain([self.sequence])
    }
}

pub(super) struct Lane<V> {
    pub(super) writes: VecDeque<Pending<V>>,
    /// How many of the first ones are at the source.
    pub(super) flying: usize,
    /// Whether the head waits for its next try.
    pub(super) is_waiting: bool,
    /// How often something has been sent.
    pub(super) takes: u64,
    /// Who reads the source's value and needs to know whether something was sent meanwhile.
    pub(super) readers: usize,
    /// How many of those are not to be disturbed.
    pub(super) wanted: usize,
    /// The head could be sent, and is put aside for them.
    pub(super) is_held: bool,
}

impl<V> Default for Lane<V> {
    fn default() -> Self {
        Self {
            writes: VecDeque::new(),
            flying: 0,
            is_waiting: false,
            takes: 0,
            readers: 0,
            wanted: 0,
            is_held: false,
        }
    }
}

impl<V> Lane<V> {
    /// Whether a newer write may become one with the last. A delta that was sent once stays what it was: the source
    /// may have it.
    pub(super) fn is_open<K>(&self, rules: &Rules<K, V>) -> bool {
        let Some(last) = self.writes.back() else { return false };
        let is_at_the_source = self.writes.len() <= self.flying;
        rules.order == Order::PerKey && !is_at_the_source && !(rules.merge.is_some() && last.was_sent)
    }

    pub(super) fn is_unused(&self) -> bool {
        self.writes.is_empty() && self.readers == 0
    }
}

/// What a reader of a key needs to know of its lane.
pub(in crate::write_behind) struct Readings<V> {
    /// The writes that wait, oldest first.
    pub(in crate::write_behind) entries: Vec<Arc<Entry<V>>>,
    /// Whether one of them is at the source: whether the source has it is not known.
    pub(in crate::write_behind) is_flying: bool,
    /// Changes when something is sent.
    pub(in crate::write_behind) takes: u64,
}
