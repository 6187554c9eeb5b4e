//! What is to be done once a change is over: what the journal is to be told, and what is to be dropped.

use std::hash::Hash;
use std::sync::Arc;

use cachalot_core::Entry;

use super::Queue;

/// Values that nobody needs any more.
pub(in crate::write_behind) type Waste<V> = Vec<Arc<Entry<V>>>;

/// What has changed for the journal.
#[derive(Debug, Default)]
pub(in crate::write_behind) struct Notes {
    /// What it need not replay any more: the source has it, a newer write took its place, or it was forgotten.
    pub(in crate::write_behind) done: Vec<u64>,
    pub(in crate::write_behind) dead: Vec<Buried>,
}

/// A write that has died, or a dead one that a newer write has come after.
#[derive(Debug)]
pub(in crate::write_behind) struct Buried {
    pub(in crate::write_behind) sequences: Vec<u64>,
    pub(in crate::write_behind) attempts: u32,
    pub(in crate::write_behind) reason: String,
    pub(in crate::write_behind) is_superseded: bool,
}

impl<K, V> Queue<K, V>
where
    K: Hash + Eq + Clone,
{
    /// Takes what the journal is to be told, before [`tell_flushes`](Queue::tell_flushes).
    pub(in crate::write_behind) fn take_notes(&mut self) -> Notes {
        std::mem::take(&mut self.notes)
    }

    /// Takes what is to be dropped, without the lock.
    pub(in crate::write_behind) fn take_waste(&mut self) -> Waste<V> {
        std::mem::take(&mut self.waste)
    }

    /// Has this dropped later.
    pub(in crate::write_behind) fn waste(&mut self, entry: Arc<Entry<V>>) {
        self.waste.push(entry);
    }
}
