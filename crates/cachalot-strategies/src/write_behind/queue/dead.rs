//! Writes that the source refuses for good.

use std::hash::Hash;
use std::sync::Arc;

use cachalot_core::Entry;

use super::sending::Item;
use super::{Buried, End, Queue};

/// A write that is sent no more.
pub(in crate::write_behind) struct Dead<K, V> {
    pub(in crate::write_behind) key: K,
    /// Without a value: a deletion.
    pub(in crate::write_behind) entry: Arc<Entry<V>>,
    pub(in crate::write_behind) attempts: u32,
    pub(in crate::write_behind) reason: String,
    /// Whether a newer write of the key came.
    pub(in crate::write_behind) is_superseded: bool,
    /// What the journal knows it by.
    pub(in crate::write_behind) sequences: Vec<u64>,
    pub(in crate::write_behind) weight: u64,
}

impl<K, V> Queue<K, V>
where
    K: Hash + Eq + Clone,
{
    /// A write that stands alone becomes a dead letter; what is behind it may be sent.
    pub(super) fn bury(&mut self, item: &Item<K, V>, reason: &str) -> Option<K> {
        let lane = self.lanes.get_mut(&item.key)?;
        lane.flying += 1;
        lane.is_waiting = false;
        self.ready.remove(&item.oldest);
        let write = self.leave(item)?;
        let sequences: Vec<u64> = write.sequences().collect();
        let attempts = write.attempts;
        let is_superseded = self.last(&item.key).is_some();
        write.waiters.into_iter().for_each(|waiter| drop(waiter.send(End::Dead(reason.to_owned()))));
        let dead = Dead {
            key: item.key.clone(),
            entry: write.entry,
            attempts,
            reason: reason.to_owned(),
            is_superseded,
            sequences: sequences.clone(),
            weight: write.weight,
        };
        self.dead_of.entry(item.key.clone()).or_default().push(write.sequence);
        self.dead.insert(write.sequence, dead);
        self.notes.dead.push(Buried { sequences, attempts, reason: reason.to_owned(), is_superseded });
        Some(item.key.clone())
    }

    /// A dead letter that the journal has kept.
    pub(in crate::write_behind) fn restore_dead(&mut self, sequence: u64, dead: Dead<K, V>) {
        self.entries += 1;
        self.bytes += dead.weight;
        self.dead_of.entry(dead.key.clone()).or_default().push(sequence);
        self.dead.insert(sequence, dead);
    }

    /// A newer write of `key` has come.
    pub(super) fn supersede_dead(&mut self, key: &K) {
        for id in self.dead_of.get(key).into_iter().flatten() {
            let Some(dead) = self.dead.get_mut(id).filter(|dead| !dead.is_superseded) else { continue };
            dead.is_superseded = true;
            self.notes.dead.push(Buried {
                sequences: dead.sequences.clone(),
                attempts: dead.attempts,
                reason: dead.reason.clone(),
                is_superseded: true,
            });
        }
    }

    /// All of them, oldest first, by their ids.
    pub(in crate::write_behind) fn dead(&self) -> impl Iterator<Item = (u64, &Dead<K, V>)> {
        self.dead.iter().map(|(id, dead)| (*id, dead))
    }

    pub(in crate::write_behind) fn dead_count(&self) -> usize {
        self.dead.len()
    }

    pub(in crate::write_behind) fn dead_letter(&self, id: u64) -> Option<&Dead<K, V>> {
        self.dead.get(&id)
    }

    /// Takes one out, for good. Whether it was there.
    pub(in crate::write_behind) fn forget_dead(&mut self, id: u64) -> bool {
        let Some(dead) = self.dead.remove(&id) else { return false };
        self.notes.done.extend(dead.sequences);
        self.waste.push(dead.entry);
        self.entries -= 1;
        self.bytes = self.bytes.saturating_sub(dead.weight);
        if let Some(ids) = self.dead_of.get_mut(&dead.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.dead_of.remove(&dead.key);
            }
        }
        true
    }
}
